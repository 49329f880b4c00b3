"""Documents that must be taken in again because a person said so, or embedded under another title.

What is asked for stays asked for until it is done, whoever dies meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Engine, func, update
from sqlmodel import col, select

from appliance.store import history
from appliance.store.database import reading, writing
from appliance.store.tables import DocumentRow, now

What = Literal["file", "title"]


@dataclass(frozen=True, slots=True)
class Wanted:
    document_id: str
    source_id: int
    uri: str
    what: What  # "file": read anew; "title": its vectors are made anew


def ask(engine: Engine, document_id: str) -> bool:
    """Take the file in again as soon as a worker is free, or the one it is inside. False if it is
    not there.
    """
    own = select(func.coalesce(DocumentRow.parent_id, DocumentRow.id))
    file = own.where(DocumentRow.id == document_id).scalar_subquery()
    with writing(engine) as s:
        result = s.connection().execute(
            update(DocumentRow)
            .where(col(DocumentRow.id) == file)
            .values(again="file", again_at=now())
        )
        return bool(result.rowcount)


def lease(engine: Engine, ttl_s: float) -> Wanted | None:
    """What is wanted longest, ours for `ttl_s`; None if nothing is. Then it is anybody's again."""
    moment = now()
    query = (
        select(DocumentRow)
        .where(col(DocumentRow.again_at) <= moment)
        .order_by(col(DocumentRow.again_at))
        .limit(1)
    )
    with reading(engine) as s:  # asking costs no writer its turn
        if s.exec(query).first() is None:
            return None
    with writing(engine) as s:
        row = s.exec(query.with_for_update(skip_locked=True)).first()
        if row is None:
            return None
        row.again_at = moment + timedelta(seconds=ttl_s)
        s.add(row)
        s.flush()
        what: What = "title" if row.again == "title" else "file"
        return Wanted(row.id, row.source_id, row.uri, what)


def oldest(engine: Engine) -> datetime | None:
    """Since when the longest has waited that a worker could take; None if nothing waits."""
    with reading(engine) as s:
        return s.exec(select(func.min(DocumentRow.again_at))).one()


def put_off(engine: Engine, wanted: Wanted, seconds: float) -> None:
    """Not now, but soon."""
    _settle(engine, wanted, {"again_at": now() + timedelta(seconds=seconds)})


def failed(engine: Engine, wanted: Wanted, reason: str) -> None:
    """It could not even be tried: the document stays as it is, its history says why."""
    with writing(engine) as s:
        if s.get(DocumentRow, wanted.document_id):
            history.note(s, wanted.document_id, "failed", reason)
    done(engine, wanted)


def done(engine: Engine, wanted: Wanted) -> None:
    """Not wanted any more, unless something more was asked for meanwhile."""
    _settle(engine, wanted, {"again": None, "again_at": None})


def _settle(engine: Engine, wanted: Wanted, values: dict[str, Any]) -> None:
    with writing(engine) as s:
        s.connection().execute(
            update(DocumentRow)
            .where(col(DocumentRow.id) == wanted.document_id, col(DocumentRow.again) == wanted.what)
            .values(**values)
        )
