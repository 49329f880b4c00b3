"""Which embedder's vectors are searched, and vectors of another one, while it takes the other's place.

A document has vectors of the embedder that took it in (`document.embedder`). Those of a second one
are rows of `vector`, made in the background. Nothing of what is searched changes until every chunk
has both; then one row of `site` says which serves, and what was the second becomes the first, a
document at a time. Vectors of two embedders are never compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Engine, and_, delete, exists, func, or_, update
from sqlmodel import Session, col, select

from appliance.store import rows, site
from appliance.store.database import reading, writing
from appliance.store.tables import ChunkRow, DocumentRow, SiteRow, VectorRow, now
from appliance.types import Entry, Vectors

_SERVES, _MOVE = "embedder", "embedder.move"


@dataclass(frozen=True, slots=True)
class Move:
    """From one embedder to another; `done` of `total` chunks have vectors of `target`.

    Where `origin` is empty, no embedder there is made the others: words find what they belong to.
    """

    origin: str
    target: str
    done: int
    total: int
    at: str  # when `done` last grew, ISO 8601 in UTC
    complete: bool = False  # all that was there has them: `target` may serve

    @property
    def moved_at(self) -> datetime:
        return datetime.fromisoformat(self.at)


def serving(engine: Engine, wanted: str, known: Callable[[str], bool]) -> str:
    """The embedder whose vectors are searched: `wanted`, unless documents have those of another
    that this release knows, and everything was not embedded anew yet."""
    kept = site.get(engine, _SERVES)
    found = searched(engine) or wanted
    if found != wanted and not known(found):
        found = wanted
    if found != (kept or wanted):
        site.put(engine, _SERVES, found)
    return found


def searched(engine: Engine) -> str:
    """The embedder whose vectors were searched last, "" where there are none."""
    return site.get(engine, _SERVES) or _of_most(engine) or ""


def serve(engine: Engine, target: str) -> None:
    """From here on it is `target`; what is left of the other goes."""
    with writing(engine) as s:
        s.merge(SiteRow(key=_SERVES, value=target))
        if move := s.get(SiteRow, _MOVE):
            s.delete(move)


def move(engine: Engine) -> Move | None:
    """What is under way; None where one embedder has made all there is, or nothing was begun."""
    told = site.get(engine, _MOVE)
    return Move(**json.loads(told)) if told else None


def note(engine: Engine, origin: str, target: str, *, complete: bool = False) -> Move:
    """How far it is now."""
    before = move(engine)
    with reading(engine) as s:
        total = s.exec(select(func.count()).select_from(ChunkRow)).one()
        done = total - s.exec(_without(select(func.count()), target)).one()
    same = before and (before.target, before.done) == (target, done)
    at = before.at if before and same else now().isoformat()
    found = Move(origin, target, done, total, at, complete)
    site.put(engine, _MOVE, json.dumps(asdict(found)))
    return found


def forget_move(engine: Engine) -> None:
    if site.get(engine, _MOVE):
        site.put(engine, _MOVE, None)


def lacking(engine: Engine, space: str, after: str, limit: int = 20) -> list[str]:
    """Documents, by id, with chunks that have no vector of `space`."""
    with reading(engine) as s:
        query = _without(select(DocumentRow.id), space).where(col(DocumentRow.id) > after)
        return list(s.exec(query.distinct().order_by(col(DocumentRow.id)).limit(limit)).all())


def put(
    engine: Engine, document_id: str, space: str, made: Mapping[int, Vectors], *, log: bool
) -> bool:
    """Vectors of that space beside the document's own. False where its chunks are not these any more.

    `log`: an index of that space is followed, and is to take them in.
    """
    with writing(engine) as s:
        mine = select(ChunkRow.id).where(ChunkRow.document_id == document_id)
        if set(s.exec(mine).all()) != set(made):
            return False
        for chunk_id, vector in made.items():
            s.merge(
                VectorRow(chunk_id=chunk_id, space=space, vector=vector.astype("<f4").tobytes())
            )
        s.flush()
        if log:
            rows.log(s, {document_id: b""})
        return True


def fold(engine: Engine, target: str, limit: int = 20) -> int:
    """Of documents whose chunks all have vectors of `target`: these become their own. Returns how many."""
    with writing(engine) as s:
        ready = (
            select(DocumentRow.id)
            .where(col(DocumentRow.embedder) != target, ~exists(_missing(target)))
            .limit(limit)
        )
        found = list(s.exec(ready).all())
        of = col(ChunkRow.document_id).in_(found)
        other = and_(col(VectorRow.chunk_id) == ChunkRow.id, col(VectorRow.space) == target)
        beside = select(ChunkRow, VectorRow.vector).join(VectorRow, other).where(of)
        rows.change_vectors(
            s, [(chunk, np.frombuffer(made, "<f4")) for chunk, made in s.exec(beside)]
        )
        documents = update(DocumentRow).where(col(DocumentRow.id).in_(found))
        s.connection().execute(documents.values(embedder=target))
        _drop(s, col(VectorRow.chunk_id).in_(select(ChunkRow.id).where(of)))
        rows.log(s, {})  # nothing else is found than was
        return len(found)


def sweep(engine: Engine, keep: Collection[str], limit: int = 2000) -> int:
    """Rows of other spaces than these go. Returns how many."""
    with writing(engine) as s:
        gone = col(VectorRow.space).not_in(list(keep))
        some = s.exec(select(VectorRow.chunk_id).where(gone).limit(limit)).all()
        return _drop(s, and_(gone, col(VectorRow.chunk_id).in_(some))) if some else 0


def texts_same(before: list[Entry], after: list[Entry]) -> bool:
    return [(e.chunk_id, e.text) for e in before] == [(e.chunk_id, e.text) for e in after]


def _of_most(engine: Engine) -> str | None:
    with reading(engine) as s:
        of = col(DocumentRow.embedder)
        query = select(DocumentRow.embedder).where(of.is_not(None)).group_by(of)
        return s.exec(query.order_by(func.count().desc()).limit(1)).first()


def _missing(space: str):  # type: ignore[no-untyped-def]
    """A chunk of the document at hand without a vector of that space beside its own."""
    beside = exists().where(col(VectorRow.chunk_id) == ChunkRow.id, col(VectorRow.space) == space)
    return (
        select(ChunkRow.id)
        .where(col(ChunkRow.document_id) == DocumentRow.id, ~beside)
        .correlate(DocumentRow)
    )


def _without(query, space: str):  # type: ignore[no-untyped-def]
    """Of chunks without a vector of that space, with their documents."""
    beside = exists().where(col(VectorRow.chunk_id) == ChunkRow.id, col(VectorRow.space) == space)
    other = or_(col(DocumentRow.embedder) != space, col(DocumentRow.embedder).is_(None))
    return (
        query.select_from(ChunkRow)
        .join(DocumentRow, col(DocumentRow.id) == col(ChunkRow.document_id))
        .where(other, ~beside)
    )


def _drop(s: Session, which) -> int:  # type: ignore[no-untyped-def]
    return int(s.connection().execute(delete(VectorRow).where(which)).rowcount)
