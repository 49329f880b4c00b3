"""Wrong passwords as they are counted, for every process that has this database.

A row is named by a keyed digest of whom and what it counts, so that neither an address nor what
somebody typed into the wrong field lies here. Rows end by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, func, or_
from sqlmodel import Session, col, select

from appliance.store.database import TRIES_LOCK, lock, reading, writing
from appliance.store.tables import TryRow

REMEMBERED = 20_000  # rows; beyond, those that end first go first
KEPT = timedelta(days=1)  # after the last failure, or the end of a lock
_SLACK = timedelta(minutes=5)  # by which the clocks of two machines may differ


@dataclass(slots=True)
class Count:
    failures: int
    locks: int
    since: datetime
    locked_until: datetime | None = None

    def wait_s(self, now: datetime) -> float:
        return max(0.0, (self.locked_until - now).total_seconds()) if self.locked_until else 0.0


def counts(engine: Engine, keys: Collection[str], now: datetime) -> dict[str, Count]:
    """Those that there are."""
    with reading(engine) as s:
        return {row.key: _count(row) for row in _rows(s, keys, now)}


@contextmanager
def counting(engine: Engine, now: datetime, account: str) -> Iterator[Callable[[str, bool], Count]]:
    """In one transaction: the count of a key, to be changed; True for one of `account`'s own."""
    with writing(engine) as s:
        lock(s, TRIES_LOCK)
        s.connection().execute(delete(TryRow).where(_over(now)))
        _make_room(s)
        open_: dict[str, tuple[TryRow, Count]] = {}

        def count(key: str, own: bool) -> Count:
            row = s.get(TryRow, key) or TryRow(
                key=key, account=account if own else "", since=now, expires_at=now
            )
            open_[key] = row, _count(row)
            return open_[key][1]

        yield count
        for row, made in open_.values():
            row.failures, row.locks = made.failures, made.locks
            row.since, row.locked_until = made.since, made.locked_until
            row.expires_at = max(made.locked_until or now, now) + KEPT
            s.add(row)


def remember(engine: Engine, key: str, account: str, now: datetime, kept: timedelta) -> None:
    """That a key is there, for so long."""
    with writing(engine) as s:
        row = s.get(TryRow, key) or TryRow(key=key, account=account, since=now, expires_at=now)
        row.since, row.expires_at = now, now + kept
        s.add(row)


def forget(engine: Engine, *, key: str = "", account: str = "") -> None:
    """A key, or whatever is an account's own and was counted."""
    mine = col(TryRow.key) == key
    if account:
        counted = or_(
            col(TryRow.failures) > 0, col(TryRow.locks) > 0, col(TryRow.locked_until).is_not(None)
        )
        mine = (col(TryRow.account) == account) & counted
    with writing(engine) as s:
        s.connection().execute(delete(TryRow).where(mine))


def _rows(s: Session, keys: Collection[str], now: datetime) -> list[TryRow]:
    return list(s.exec(select(TryRow).where(col(TryRow.key).in_(keys), ~_over(now))).all())


def _over(now: datetime):  # type: ignore[no-untyped-def]
    """A clock that was put back leaves rows of the future, which would hold for too long."""
    return or_(col(TryRow.expires_at) <= now, col(TryRow.since) > now + _SLACK)


def _make_room(s: Session) -> None:
    many = s.exec(select(func.count()).select_from(TryRow)).one()
    if many > REMEMBERED:
        oldest = select(TryRow.key).order_by(col(TryRow.expires_at)).limit(many - REMEMBERED)
        s.connection().execute(delete(TryRow).where(col(TryRow.key).in_(oldest)))


def _count(row: TryRow) -> Count:
    return Count(row.failures, row.locks, row.since, row.locked_until)
