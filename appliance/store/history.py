"""What happened to a document: taken in, changed, moved, failed, corrected. The latest of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import delete, func, insert
from sqlmodel import Session, col, select

from appliance.store.access import blocks
from appliance.store.tables import HistoryRow, now

Kind = Literal["added", "changed", "reread", "moved", "access", "failed", "corrected", "restored"]

KEPT = 50  # of each document


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    kind: Kind
    detail: str  # the old place, the reason, the new title
    actor: str  # "user:ito" where a person did it, else ""


def note(s: Session, document_id: str, kind: Kind, detail: str = "", actor: str = "") -> None:
    """Write it down, within the transaction of what happened."""
    note_each(s, [(document_id, kind, detail)], actor)


def note_each(s: Session, told: Sequence[tuple[str, Kind, str]], actor: str = "") -> None:
    """Likewise of many documents: which, what and the detail."""
    if not told:
        return
    at = now()
    s.flush()
    s.connection().execute(
        insert(HistoryRow),
        [
            {"document_id": i, "kind": kind, "detail": detail[:2000], "actor": actor, "at": at}
            for i, kind, detail in told
        ],
    )
    for block in blocks({i for i, *_ in told}):
        counted = select(HistoryRow.document_id).where(col(HistoryRow.document_id).in_(block))
        full = counted.group_by(col(HistoryRow.document_id)).having(func.count() > KEPT)
        for document_id in s.exec(full).all():
            _trim(s, document_id)


def of(s: Session, document_id: str) -> tuple[Event, ...]:
    """Newest first."""
    mine = select(HistoryRow).where(HistoryRow.document_id == document_id)
    return tuple(
        Event(row.at, row.kind, row.detail, row.actor)  # type: ignore[arg-type]
        for row in s.exec(mine.order_by(col(HistoryRow.id).desc()))
    )


def _trim(s: Session, document_id: str) -> None:
    mine = col(HistoryRow.document_id) == document_id
    newest = select(HistoryRow.id).where(mine).order_by(col(HistoryRow.id).desc())
    if (last := s.exec(newest.offset(KEPT).limit(1)).first()) is not None:
        s.connection().execute(delete(HistoryRow).where(mine, col(HistoryRow.id) <= last))
