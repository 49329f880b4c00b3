"""What happened to a document: taken in, changed, moved, failed, corrected. The latest of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import delete
from sqlmodel import Session, col, select

from appliance.store.tables import HistoryRow

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
    s.add(HistoryRow(document_id=document_id, kind=kind, detail=detail[:2000], actor=actor))
    s.flush()
    mine = col(HistoryRow.document_id) == document_id
    newest = select(HistoryRow.id).where(mine).order_by(col(HistoryRow.id).desc())
    if (last := s.exec(newest.offset(KEPT).limit(1)).first()) is not None:
        s.connection().execute(delete(HistoryRow).where(mine, col(HistoryRow.id) <= last))


def of(s: Session, document_id: str) -> tuple[Event, ...]:
    """Newest first."""
    mine = select(HistoryRow).where(HistoryRow.document_id == document_id)
    return tuple(
        Event(row.at, row.kind, row.detail, row.actor)  # type: ignore[arg-type]
        for row in s.exec(mine.order_by(col(HistoryRow.id).desc()))
    )
