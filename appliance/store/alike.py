"""What documents have alike, texts and vectors, is kept once and goes with the last that has it.

Whoever may read a document is asked of the document alone: nothing here knows of access, and
nothing is read by what it is like. Two workers that store the same at the same moment may keep it
twice; that costs room and nothing else, for rows are found by what they hold, not by a name.

A row is let go of within the transaction that changes a document, and looked at again at its end
(`rows.log`), where such transactions come one after another. Whoever has taken a row meanwhile has
locked it, and so it stays; nobody waits for a row of another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Engine, delete, exists, func, insert
from sqlalchemy import select as columns_of
from sqlmodel import Session, col, select

from appliance.store.access import blocks
from appliance.store.database import reading
from appliance.store.tables import BodyRow, ChunkRow, PointRow, WordingRow
from appliance.types import Vectors

Kept = type[WordingRow] | type[PointRow]
Row = Mapping[str, Any]

_HOLDERS: tuple[tuple[Kept, Any], ...] = (
    (WordingRow, col(BodyRow.wording_id)),
    (PointRow, col(ChunkRow.point_id)),
)

T = TypeVar("T")


# --- names of what is alike -------------------------------------------------------


def of_text(text: str, marks: object, pages: object, runs: bytes | None, own: object) -> bytes:
    """The digest of a wording."""
    said = json.dumps([text, marks, pages, own], separators=(",", ":"))
    return hashlib.sha256(said.encode() + b"\0" + (runs or b"")).digest()


def of_entry(embedder: str, text: str) -> bytes:
    """The digest of a vector by what was embedded."""
    return hashlib.sha256(f"{embedder}\0{text}".encode("utf-8", "surrogatepass")).digest()


def of_vector(vector: bytes) -> bytes:
    """And where nobody knows what that was."""
    return hashlib.sha256(b"\0" + vector).digest()


# --- within one transaction -------------------------------------------------------


def wordings(s: Session, rows: Sequence[dict[str, Any]]) -> list[int]:
    """The ids of rows of `wording` like these, made where there are none."""
    named = [row | {"digest": of_text(**row)} for row in rows]
    return _keep(s, WordingRow, named, ("digest",))


def points(s: Session, rows: Sequence[tuple[bytes, bytes]]) -> list[int]:
    """Likewise of `point`: a digest and a vector each. A row with another vector is none like it."""
    named = [{"digest": digest, "vector": vector} for digest, vector in rows]
    return _keep(s, PointRow, named, ("digest", "vector"))


def _keep(
    s: Session, table: Kept, rows: Sequence[dict[str, Any]], by: tuple[str, ...]
) -> list[int]:
    keys = [tuple(row[name] for name in by) for row in rows]
    found: dict[tuple[Any, ...], int] = {}
    wanted = dict(zip(keys, rows, strict=True))
    columns = [getattr(table, name) for name in ("id", *by)]
    for block in blocks({row["digest"] for row in rows}):
        known = (
            columns_of(*columns)
            .where(col(table.digest).in_(block))
            .order_by(col(table.id).desc())
            .with_for_update(read=True, key_share=True, skip_locked=True)
        )
        found |= {tuple(rest): i for i, *rest in s.connection().execute(known)}
    for some in blocks(key for key in wanted if key not in found):
        made = insert(table).returning(*columns)
        rest = s.connection().execute(made, [wanted[one] for one in some])
        found |= {tuple(values): i for i, *values in rest}
    return [found[key] for key in keys]


def let_go(s: Session, table: Kept, ids: Iterable[int | None]) -> None:
    """These have one that has them less, when the transaction ends: see `sweep`."""
    s.info.setdefault(table.__tablename__, set()).update(i for i in ids if i is not None)


def loose(s: Session) -> bool:
    """Whether anything was let go of."""
    return any(s.info.get(table.__tablename__) for table, _ in _HOLDERS)


def sweep(s: Session) -> None:
    """What was let go of, and nobody has, is gone. Comes last, under the lock of the change log."""
    for table, holder in _HOLDERS:
        for block in blocks(s.info.pop(table.__tablename__, ())):
            mine = select(table.id).where(col(table.id).in_(block))
            still = s.exec(mine.with_for_update(skip_locked=True)).all()
            held = exists().where(holder == table.id)
            s.connection().execute(delete(table).where(col(table.id).in_(still), ~held))


# --- what is there ----------------------------------------------------------------


def vectors(engine: Engine, digests: Iterable[bytes], dim: int) -> dict[bytes, Vectors]:
    """Those of these vectors that were made before, by the digest of what was embedded."""
    found: dict[bytes, Vectors] = {}
    with reading(engine) as s:
        for block in blocks(set(digests)):
            query = select(PointRow.digest, PointRow.vector).where(col(PointRow.digest).in_(block))
            for digest, stored in s.exec(query):
                if len(stored) != 4 * dim:
                    continue
                vector = np.frombuffer(stored, "<f4").astype(np.float32)
                if abs(float(np.linalg.norm(vector)) - 1.0) < 1e-2:  # a broken one is made anew
                    found[digest] = vector
    return found


def places(engine: Engine, chunk_ids: Iterable[int]) -> dict[int, tuple[int | None, int, int]]:
    """Of which text each chunk is, and from where to where: copies have that alike."""
    columns: list[Any] = [ChunkRow.id, BodyRow.wording_id, ChunkRow.start, ChunkRow.end]
    found: dict[int, tuple[int | None, int, int]] = {}
    with reading(engine) as s:
        for block in blocks(set(chunk_ids)):
            query = (
                columns_of(*columns)
                .join(BodyRow, col(BodyRow.document_id) == col(ChunkRow.document_id))
                .where(col(ChunkRow.id).in_(block))
            )
            found |= {i: (text, *at) for i, text, *at in s.connection().execute(query)}
    return found


def same(engine: Engine, chunk_ids: Iterable[int]) -> list[int]:
    """All chunks with the vectors of these, whoever may read them: for taking away, never for showing."""
    found: set[int] = set()
    with reading(engine) as s:
        for block in blocks(set(chunk_ids)):
            points = s.exec(
                select(col(ChunkRow.point_id)).where(col(ChunkRow.id).in_(block)).distinct()
            ).all()
            query = columns_of(col(ChunkRow.id)).where(col(ChunkRow.point_id).in_(points))
            found.update(i for (i,) in s.connection().execute(query) if i)
    return list(found)


def unheld(s: Session) -> dict[str, int]:
    """How many rows of each table nobody has: a transaction that had taken one was undone."""
    return {
        table.__tablename__: s.connection()
        .execute(
            columns_of(func.count()).select_from(table).where(~exists().where(holder == table.id))
        )
        .scalar_one()
        for table, holder in _HOLDERS
    }


def drop_unheld(s: Session) -> None:
    """They go: whatever is being stored now has locked what it takes."""
    for table, holder in _HOLDERS:
        lonely = select(table.id).where(~exists().where(holder == table.id))
        let_go(s, table, s.exec(lonely).all())
    sweep(s)
