"""The audit chain: each row's digest covers the row before it.

A row that is edited, deleted or moved breaks the chain at its number. Rows cut
off the end do not: compare `head` with one noted elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from appliance.store.database import AUDIT_LOCK, lock, reading, writing
from appliance.store.rows import clean
from appliance.store.tables import AuditRow, now

BEGINNING = "0" * 64
LONGEST_VALUE = 2000  # characters of one text in a detail


@dataclass(frozen=True, slots=True)
class Record:
    sequence: int
    at: datetime
    actor: str
    action: str
    detail: Mapping[str, Any]
    digest: str


def record(engine: Engine, actor: str, action: str, detail: Mapping[str, Any]) -> int:
    """Write down who did what. Returns its number. Raises NotReady if it cannot be written."""
    with writing(engine) as s:
        return append(s, actor, action, detail)


def append(s: Session, actor: str, action: str, detail: Mapping[str, Any]) -> int:
    """`record`, within the transaction of what is recorded. Comes last in it."""
    lock(s, AUDIT_LOCK)
    last = s.exec(select(AuditRow).order_by(col(AuditRow.sequence).desc()).limit(1)).first()
    sequence, previous = (last.sequence + 1, last.digest) if last else (1, BEGINNING)
    at = now().isoformat(timespec="microseconds")
    actor, action, kept = clean(actor), clean(action), _canonical(_short(detail))
    digest = _digest(sequence, at, actor, action, kept, previous)
    s.add(
        AuditRow(
            sequence=sequence,
            at=at,
            actor=actor,
            action=action,
            detail=kept,
            previous=previous,
            digest=digest,
        )
    )
    s.flush()
    return sequence


def verify(engine: Engine, known: tuple[int, str] | None = None) -> int | None:
    """The first number whose row is not as it was written; None if the chain holds.

    `known`: a number and its digest noted elsewhere; a chain that does not
    contain it was cut off or replaced.
    """
    expected, previous = 1, BEGINNING
    found = known is None
    while True:
        with reading(engine) as s:
            rows = s.exec(
                select(AuditRow)
                .where(col(AuditRow.sequence) >= expected)
                .order_by(col(AuditRow.sequence))
                .limit(1000)
            ).all()
        for row in rows:
            digest = _digest(row.sequence, row.at, row.actor, row.action, row.detail, previous)
            if (row.sequence, row.previous, row.digest) != (expected, previous, digest):
                return expected
            if known and row.sequence == known[0]:
                if row.digest != known[1]:
                    return row.sequence
                found = True
            expected, previous = expected + 1, digest
        if not rows:
            return None if found else expected


def head(engine: Engine) -> tuple[int, str]:
    """The last number and its digest: to be noted where this machine cannot change it."""
    with reading(engine) as s:
        row = s.exec(select(AuditRow).order_by(col(AuditRow.sequence).desc()).limit(1)).first()
        return (row.sequence, row.digest) if row else (0, BEGINNING)


def entries(
    engine: Engine,
    *,
    before: int | None = None,
    limit: int = 100,
    actor: str | None = None,
    action: str | None = None,
) -> list[Record]:
    """Newest first, from before a number."""
    query = select(AuditRow).order_by(col(AuditRow.sequence).desc()).limit(limit)
    if before is not None:
        query = query.where(col(AuditRow.sequence) < before)
    if actor is not None:
        query = query.where(AuditRow.actor == actor)
    if action is not None:
        query = query.where(AuditRow.action == action)
    with reading(engine) as s:
        return [
            Record(
                row.sequence,
                datetime.fromisoformat(row.at),
                row.actor,
                row.action,
                json.loads(row.detail),
                row.digest,
            )
            for row in s.exec(query)
        ]


def _digest(*parts: object) -> str:
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _short(value: Any) -> Any:
    if isinstance(value, str):
        value = clean(value)
        return value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + "…"
    if isinstance(value, Mapping):
        return {clean(str(k)): _short(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [
            _short(v) for v in (sorted(value) if isinstance(value, (set, frozenset)) else value)
        ]
    return value if value is None or isinstance(value, (bool, int, float)) else clean(str(value))
