"""What in the database does not hold together, and how it is mended: a transaction each.

Nothing is made up. What cannot be true any more goes, and its document is read again from its
source; where it is not known who may read a document, nobody may until its source has said so.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from sqlalchemy import Engine, Table, and_, delete, exists, func, or_, update
from sqlalchemy import select as choose
from sqlalchemy.orm import aliased
from sqlmodel import Session, SQLModel, col, select

from appliance.store import access as accesses
from appliance.store import alike, catalog, rows
from appliance.store.database import reading, writing
from appliance.store.tables import (
    AccessRow,
    BodyRow,
    ChunkRow,
    DocumentRow,
    PointRow,
    SourceRow,
    WordingRow,
    now,
)
from appliance.types import NOBODY

_BLOCK = 5_000


# --- rows that point nowhere ----------------------------------------------------------


def orphans(engine: Engine) -> dict[str, int]:
    """How many rows of each table belong to nothing that is there."""
    with reading(engine) as s:
        found = {
            table.name: s.connection()
            .execute(choose(func.count()).select_from(table).where(lost))
            .scalar_one()
            for table, lost in _pointers()
        }
        found |= {"document": len(_strays(s))} | alike.unheld(s)
    return {name: n for name, n in found.items() if n}


def drop_orphans(engine: Engine) -> None:
    """They go. An index hears of chunks that went."""
    with writing(engine) as s:
        rows.forget(s, _strays(s))
        for table, lost in _pointers():
            if table.name == "chunk":
                gone = s.exec(select(ChunkRow.document_id).where(lost).distinct()).all()
                rows.log(s, rows.drop_chunks(s, gone))
            else:
                s.connection().execute(delete(table).where(lost))
        alike.drop_unheld(s)


def _pointers() -> Iterator[tuple[Table, Any]]:
    """Each table with a row above it, and what a row of it is that has lost that; documents aside."""
    for table in SQLModel.metadata.sorted_tables:
        lost = []
        for key in table.foreign_keys:
            if table.name == "document":
                continue
            above = key.column.table.alias()
            there = exists().where(above.c[key.column.name] == key.parent)
            lost.append(and_(key.parent.is_not(None), ~there))
        if lost:
            yield table, or_(*lost)


def _strays(s: Session) -> list[str]:
    """Documents of no source, and files inside documents that are gone."""
    above = aliased(DocumentRow)
    no_source = ~exists().where(col(SourceRow.id) == col(DocumentRow.source_id))
    no_parent = and_(
        col(DocumentRow.parent_id).is_not(None),
        ~exists().where(col(above.id) == col(DocumentRow.parent_id)),
    )
    return list(
        s.exec(
            select(DocumentRow.id)
            .where(or_(no_source, no_parent))
            .order_by(col(DocumentRow.parent_id).is_(None))
        ).all()
    )


# --- who may read ---------------------------------------------------------------------


def wrong_access(engine: Engine) -> tuple[list[str], list[str]]:
    """Documents of which it is not known who may read them, and files that differ from what they
    are inside of.
    """
    with reading(engine) as s:
        return _unknown(s, _altered(s)), _apart(s)


def mend_access(engine: Engine) -> None:
    """Nobody reads what nobody is known for, until its source has been asked again."""
    with writing(engine) as s:
        altered = _altered(s)
        unknown = _unknown(s, altered)
        if unknown:
            nobody = catalog._access_id(s, NOBODY)
            for block in accesses.blocks(unknown):
                mine = col(DocumentRow.id).in_(block)
                of = choose(col(DocumentRow.source_id)).where(mine)
                s.connection().execute(
                    update(SourceRow)
                    .where(col(SourceRow.id).in_(of))
                    .values(wanted=True, anew=True, due_at=now())
                )
                s.connection().execute(update(DocumentRow).where(mine).values(access_id=nobody))
        for one in altered:  # the source may say the same again, and must not meet this row
            s.connection().execute(delete(AccessRow).where(col(AccessRow.id) == one))
        apart = _apart(s)
        above = aliased(DocumentRow)
        for block in accesses.blocks(apart):
            theirs = choose(col(above.access_id)).where(col(above.id) == col(DocumentRow.parent_id))
            s.connection().execute(
                update(DocumentRow)
                .where(col(DocumentRow.id).in_(block))
                .values(access_id=theirs.scalar_subquery())
            )
        rows.log(s, dict.fromkeys([*unknown, *apart], b""))


def _altered(s: Session) -> list[int]:
    """Rows of access that are not what was written: they never change."""
    found = s.exec(select(AccessRow.id, AccessRow.layers, AccessRow.digest))
    return [i or 0 for i, layers, digest in found if accesses.digest(layers) != digest]


def _unknown(s: Session, altered: Iterable[int]) -> list[str]:
    there = exists().where(col(AccessRow.id) == col(DocumentRow.access_id))
    bad = or_(~there, col(DocumentRow.access_id).in_(list(altered)))
    return list(s.exec(select(DocumentRow.id).where(bad)).all())


def _apart(s: Session) -> list[str]:
    above = aliased(DocumentRow)
    return list(
        s.exec(
            select(col(DocumentRow.id))
            .join(above, col(above.id) == col(DocumentRow.parent_id))
            .where(col(above.access_id) != col(DocumentRow.access_id))
        ).all()
    )


# --- text, chunks, vectors --------------------------------------------------------------


def broken_texts(
    engine: Engine, dim: int, most: int | None = None, space: str = ""
) -> Mapping[str, str]:
    """Documents whose text cannot be found as it should be, and why. One that is to be read again
    already is none. `most`: look at the place and vector of about so many chunks, others each time.
    With `space`, vectors of other embedders are not judged.
    """
    found: dict[str, str] = {}
    spans = _spans(engine, most)
    with reading(engine) as s:
        above = aliased(DocumentRow)
        waits = exists().where(
            col(above.id) == func.coalesce(DocumentRow.parent_id, DocumentRow.id),
            col(above.again) == "file",
        )
        chunks = exists().where(col(ChunkRow.document_id) == col(DocumentRow.id))
        inner = exists().where(col(above.parent_id) == col(DocumentRow.id))
        empty = and_(col(DocumentRow.status) == "ready", ~chunks, ~inner, ~waits)
        found |= dict.fromkeys(s.exec(select(DocumentRow.id).where(empty)).all(), "empty")
        body = exists().where(
            col(BodyRow.document_id) == col(DocumentRow.id),
            col(WordingRow.id) == col(BodyRow.wording_id),
        )
        found |= dict.fromkeys(s.exec(select(DocumentRow.id).where(chunks, ~body)).all(), "text")
        beyond = (
            select(ChunkRow.document_id)
            .join(BodyRow, col(BodyRow.document_id) == col(ChunkRow.document_id))
            .join(WordingRow, col(WordingRow.id) == col(BodyRow.wording_id))
            .where(
                or_(
                    col(ChunkRow.end) > func.length(WordingRow.text),
                    col(ChunkRow.start) < 0,
                    col(ChunkRow.end) <= col(ChunkRow.start),
                )
            )
        )
        for first, last in spans:
            here = beyond.where(col(ChunkRow.id) >= first, col(ChunkRow.id) <= last)
            found |= dict.fromkeys(s.exec(here).all(), "place")
    for span in spans:
        found |= dict.fromkeys(_bad_vectors(engine, dim, space, *span), "vector")
    return found


def _spans(engine: Engine, most: int | None) -> list[tuple[int, int]]:
    """Which chunks are looked at, as first and last ids: all, or a block in each of equal parts."""
    with reading(engine) as s:
        least, greatest, many = s.exec(
            select(func.min(ChunkRow.id), func.max(ChunkRow.id), func.count())
        ).one()
    if not many or least is None or greatest is None:
        return []
    if most is None or many <= most:
        return [(least, greatest)]
    parts = max(1, most // _BLOCK)
    width = (greatest - least + 1) / parts
    spans = []
    for n in range(parts):
        first = least + int(n * width) + random.randrange(max(1, int(width) - _BLOCK))  # noqa: S311
        spans.append((first, min(first + _BLOCK - 1, greatest)))
    return spans


def read_again(engine: Engine, documents: Iterable[str]) -> None:
    """What is broken of them is not found any more; they are taken in again."""
    ids = list(documents)
    for block in accesses.blocks(ids):
        with writing(engine) as s:
            own = choose(func.coalesce(DocumentRow.parent_id, DocumentRow.id))
            outer = own.where(col(DocumentRow.id).in_(block))
            s.connection().execute(
                update(DocumentRow)
                .where(col(DocumentRow.id).in_(outer))
                .values(again="file", again_at=now())
            )
            rows.log(s, rows.drop_chunks(s, block))


def _bad_vectors(engine: Engine, dim: int, space: str, first: int, last: int) -> set[str]:
    bad: set[str] = set()
    ours = [col(DocumentRow.embedder) == space] if space else []
    after = first - 1
    while True:
        with reading(engine) as s:
            block = s.exec(
                select(ChunkRow.id, ChunkRow.document_id, PointRow.vector)
                .join(DocumentRow, col(DocumentRow.id) == col(ChunkRow.document_id))
                .outerjoin(PointRow, col(PointRow.id) == col(ChunkRow.point_id))
                .where(col(ChunkRow.id) > after, col(ChunkRow.id) <= last, *ours)
                .order_by(col(ChunkRow.id))
                .limit(_BLOCK)
            ).all()
        if not block:
            return bad
        after = block[-1][0] or 0
        right = [(of, vector) for _, of, vector in block if len(vector or b"") == 4 * dim]
        bad |= {of for _, of, vector in block if len(vector or b"") != 4 * dim}
        if right:
            values = np.frombuffer(b"".join(v for _, v in right), "<f4").reshape(-1, dim)
            with np.errstate(all="ignore"):
                lengths = np.linalg.norm(values.astype(np.float64), axis=1)
            off = ~(np.abs(lengths - 1.0) < 1e-2)  # NaN is not close to anything either
            bad |= {right[n][0] for n in np.flatnonzero(off)}


def is_wanted(engine: Engine, source_id: int) -> bool:
    """Whether a source is to be listed from the beginning already."""
    with reading(engine) as s:
        row = s.get(SourceRow, source_id)
        return row is not None and row.wanted and row.anew
