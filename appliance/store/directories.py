"""Directories: when each is due, who is in them, and what was lost since the last look.

Who an entry is in Kura is decided in `store/identities.py`, of all directories together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine, func, insert, or_
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlmodel import Session, col, select

from appliance.errors import NotVisible
from appliance.store.database import reading, writing
from appliance.store.rows import clean
from appliance.store.secrets import Keyring
from appliance.store.tables import DirectoryRow, EntryRow, LinkRow, now
from appliance.types import Listed

_BLOCK = 400  # names in one question
STALE = "時間内に確かめられなかったため、このディレクトリのグループと対応はだれにも効いていません。"


@dataclass(frozen=True, slots=True)
class Directory:
    id: int
    name: str
    settings: Mapping[str, Any]
    enabled: bool
    due_at: datetime
    failures: int
    problem: str | None
    held: Mapping[str, int] | None  # what a look would remove, until somebody confirms it
    accepted: bool
    last: Mapping[str, Any] | None  # of the last look: at, seconds, done, changed, removed
    fresh_at: datetime | None
    valid_until: datetime | None  # None: it has never answered
    looking: bool  # a worker is at it now

    @property
    def stale(self) -> bool:
        """It says nothing any more: nobody counts as anything by it."""
        return self.valid_until is not None and self.valid_until <= now()

    @property
    def trouble(self) -> str | None:
        return " ".join(filter(None, [self.problem, STALE if self.stale else None])) or None


@dataclass(frozen=True, slots=True)
class Counts:
    people: int = 0
    groups: int = 0
    joined: int = 0  # people who are an account's, or would be
    problems: int = 0


def create(engine: Engine, name: str, settings: Mapping[str, Any]) -> Directory:
    """Due at once. Raises Conflict if the name is taken."""
    with writing(engine) as s:
        row = DirectoryRow(name=name, settings=dict(settings))
        s.add(row)
        s.flush()
        return _directory(row)


def get(engine: Engine, directory_id: int) -> Directory:
    """Raises NotVisible."""
    with reading(engine) as s:
        return _directory(_row(s, directory_id))


def by_name(engine: Engine, name: str) -> Directory:
    """Raises NotVisible."""
    with reading(engine) as s:
        row = s.exec(select(DirectoryRow).where(DirectoryRow.name == name)).first()
        if row is None:
            raise NotVisible(f"ディレクトリ {name} はありません。")
        return _directory(row)


def all(engine: Engine) -> list[Directory]:
    with reading(engine) as s:
        return [
            _directory(r) for r in s.exec(select(DirectoryRow).order_by(col(DirectoryRow.name)))
        ]


def update(
    engine: Engine,
    directory_id: int,
    *,
    settings: Mapping[str, Any] | None = None,
    enabled: bool | None = None,
) -> Directory:
    """Change what is given; all of it is read again with new settings. Paused, it gives nothing."""
    with writing(engine) as s:
        row = _row(s, directory_id, lock=True)
        if settings is not None and dict(settings) != row.settings:
            row.settings, row.held, row.accepted = dict(settings), None, False
            mine = col(EntryRow.directory_id) == directory_id
            s.connection().execute(sql_update(EntryRow).where(mine).values(version=""))
        row.enabled = row.enabled if enabled is None else enabled
        row.wanted, row.failures = True, 0
        s.add(row)
        s.flush()
        return _directory(row)


def delete(engine: Engine, directory_id: int) -> None:
    """With all it said of people and groups. Raises NotVisible."""
    with writing(engine) as s:
        s.delete(_row(s, directory_id, lock=True))


def seal(engine: Engine, keyring: Keyring) -> None:
    """Whatever was stored as it was given is sealed from now on."""
    with writing(engine) as s:
        for row in s.exec(select(DirectoryRow).with_for_update()).all():
            if (sealed := keyring.seal(row.settings)) != row.settings:
                row.settings = sealed
                s.add(row)


def run_now(engine: Engine, directory_id: int, *, accept: bool = False) -> None:
    """Due at once. `accept`: what is held may be applied by that look."""
    with writing(engine) as s:
        row = _row(s, directory_id, lock=True)
        row.wanted, row.accepted = True, row.accepted or (accept and row.held is not None)
        s.add(row)


def counts(engine: Engine) -> dict[int, Counts]:
    """Of each directory that has an entry."""
    query = sa.select(
        col(EntryRow.directory_id),
        col(EntryRow.kind),
        func.count(),
        func.count(col(EntryRow.principal)),
        func.count(col(EntryRow.problem)),
    ).group_by(col(EntryRow.directory_id), col(EntryRow.kind))
    with reading(engine) as s:
        found = s.connection().execute(query).all()
    made: dict[int, Counts] = {}
    for directory_id, kind, number, joined, problems in found:
        one = made.get(directory_id, Counts())
        if kind == "person":
            one = Counts(number, one.groups, joined, one.problems + problems)
        else:
            one = Counts(one.people, number, one.joined, one.problems + problems)
        made[directory_id] = one
    return made


# --- leases -----------------------------------------------------------------------


def lease(engine: Engine, owner: str, ttl_s: float) -> Directory | None:
    """A due one that nobody looks at, now ours for `ttl_s`; None if none is."""
    moment = now()
    query = (
        select(DirectoryRow)
        .where(
            col(DirectoryRow.enabled),
            or_(col(DirectoryRow.wanted), col(DirectoryRow.due_at) <= moment),
            or_(col(DirectoryRow.lease_until).is_(None), col(DirectoryRow.lease_until) < moment),
        )
        .order_by(col(DirectoryRow.due_at))
    )
    with reading(engine) as s:  # asking costs no writer its turn
        if s.exec(query.limit(1)).first() is None:
            return None
    with writing(engine) as s:
        row = s.exec(query.limit(1).with_for_update(skip_locked=True)).first()
        if row is None:
            return None
        row.lease_owner, row.lease_until = owner, moment + timedelta(seconds=ttl_s)
        row.wanted = False
        s.add(row)
        s.flush()
        return _directory(row)


def renew(engine: Engine, directory_id: int, owner: str, ttl_s: float) -> bool:
    """False if it is somebody else's by now, paused, or deleted."""
    with writing(engine) as s:
        result = s.connection().execute(
            sql_update(DirectoryRow)
            .where(
                col(DirectoryRow.id) == directory_id,
                col(DirectoryRow.lease_owner) == owner,
                col(DirectoryRow.enabled),
            )
            .values(lease_until=now() + timedelta(seconds=ttl_s))
        )
        return bool(result.rowcount)


def release(engine: Engine, directory_id: int, owner: str, **after: Any) -> None:
    """Done for now, with what is told of it. Changes nothing if the lease is no longer ours."""
    if after.get("problem"):
        after["problem"] = clean(after["problem"])
    with writing(engine) as s:
        s.connection().execute(
            sql_update(DirectoryRow)
            .where(col(DirectoryRow.id) == directory_id, col(DirectoryRow.lease_owner) == owner)
            .values(lease_owner=None, lease_until=None, **after)
        )


# --- entries ----------------------------------------------------------------------


def versions(engine: Engine, directory_id: int) -> dict[str, str]:
    """Of every entry that is known, by its id there."""
    with reading(engine) as s:
        found = select(EntryRow.guid, EntryRow.version)
        return dict(s.exec(found.where(EntryRow.directory_id == directory_id)).all())


def loss(
    engine: Engine, directory_id: int, gone: Collection[str], changed: Iterable[Listed]
) -> tuple[int, int]:
    """How many memberships are known, and how many of them would go."""
    mine = (LinkRow.directory_id == directory_id, ~col(LinkRow.own))
    with reading(engine) as s:
        total = s.exec(select(func.count()).select_from(LinkRow).where(*mine)).one()
        lost = 0
        for some in _blocks(gone):
            lost += s.exec(
                select(func.count())
                .select_from(LinkRow)
                .join(EntryRow, col(EntryRow.id) == col(LinkRow.entry_id))
                .where(*mine, col(EntryRow.guid).in_(some))
            ).one()
        for entry in changed:
            before = s.exec(
                select(LinkRow.principal, LinkRow.counts_as)
                .join(EntryRow, col(EntryRow.id) == col(LinkRow.entry_id))
                .where(*mine, EntryRow.guid == entry.id)
            ).all()
            if before:
                after = _links(directory_id, entry)
                lost += sum(tuple(one) not in after for one in before)
    return total, lost


def drop(engine: Engine, directory_id: int, gone: Collection[str]) -> list[str]:
    """They are no more. Who they were: the accounts of people."""
    were: list[str] = []
    for some in _blocks(gone):
        mine = (col(EntryRow.directory_id) == directory_id, col(EntryRow.guid).in_(some))
        with writing(engine) as s:
            query = select(EntryRow.principal).where(*mine, EntryRow.kind == "person")
            were += [one for one in s.exec(query) if one]
            s.connection().execute(sql_delete(EntryRow).where(*mine))
    return were


def write(engine: Engine, directory_id: int, entries: Sequence[Listed]) -> None:
    """As they are now, with who is in them. Who they are here is decided afterwards."""
    with writing(engine) as s:
        for entry in entries:
            values: dict[str, Any] = {
                "version": entry.version, "kind": entry.kind, "dn": entry.dn,
                "node": scoped(directory_id, entry.node), "sid": entry.sid,
                "name": entry.name, "upn": entry.upn, "mail": entry.mail,
                "title": entry.title, "disabled": entry.disabled,
                "expires_at": entry.expires_at,
            }  # fmt: skip
            query = select(EntryRow).where(
                EntryRow.directory_id == directory_id, EntryRow.guid == entry.id
            )
            row = s.exec(query).first() or EntryRow(
                directory_id=directory_id, guid=entry.id, **values
            )
            if row.node != values["node"]:  # renamed: what says who it is names the old node
                row.principal = None if row.kind == "person" else row.principal
            for column, value in values.items():
                setattr(row, column, clean(value) if isinstance(value, str) else value)
            s.add(row)
            s.flush()
            _relink(s, row, _links(directory_id, entry), own=False)


def scoped(directory_id: int, node: str) -> str:
    """A SID is one's own in the world, a DN in its directory."""
    kind, _, rest = node.partition(":")
    return node if kind in ("sid", "list") else f"{kind}{directory_id}:{rest}"


def relink(s: Session, row: EntryRow, links: Collection[tuple[str, str]]) -> None:
    """Who the entry is here."""
    _relink(s, row, links, own=True)


def known_sids(engine: Engine, sids: Collection[str]) -> frozenset[str]:
    """Those that a directory, which is looked at, knows."""
    found: list[str] = []
    with reading(engine) as s:
        for some in _blocks(sids):
            query = (
                select(EntryRow.sid)
                .join(DirectoryRow, col(DirectoryRow.id) == col(EntryRow.directory_id))
                .where(col(DirectoryRow.enabled), col(EntryRow.sid).in_(some))
            )
            found += s.exec(query).all()
    return frozenset(found)


# --- below: helpers within one transaction ----------------------------------------


def _links(directory_id: int, entry: Listed) -> set[tuple[str, str]]:
    def of(node: str) -> str:
        return clean(scoped(directory_id, node))

    found = {(of(member), of(entry.node)) for member in entry.members}
    return found | {(of(entry.node), of(one)) for one in entry.into}


def _relink(s: Session, row: EntryRow, links: Collection[tuple[str, str]], *, own: bool) -> None:
    mine = (col(LinkRow.entry_id) == row.id, col(LinkRow.own) == own)
    known = {
        (one, after)
        for one, after in s.exec(select(LinkRow.principal, LinkRow.counts_as).where(*mine))
    }
    wanted = set(links)
    if len(known - wanted) > _BLOCK:
        s.connection().execute(sql_delete(LinkRow).where(*mine))
        known = set()
    for one, after in known - wanted:
        s.connection().execute(
            sql_delete(LinkRow).where(
                *mine, col(LinkRow.principal) == one, col(LinkRow.counts_as) == after
            )
        )
    rows = [
        {
            "entry_id": row.id,
            "principal": one,
            "counts_as": after,
            "directory_id": row.directory_id,
            "own": own,
        }
        for one, after in sorted(wanted - known)
    ]
    if rows:
        s.connection().execute(insert(LinkRow), rows)


def _blocks(names: Collection[str]) -> Iterable[list[str]]:
    left = sorted(names)
    return (left[start : start + _BLOCK] for start in range(0, len(left), _BLOCK))


def _row(s: Session, directory_id: int, lock: bool = False) -> DirectoryRow:
    query = select(DirectoryRow).where(DirectoryRow.id == directory_id)
    row = s.exec(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotVisible("ディレクトリが見つかりません。")
    return row


def _directory(row: DirectoryRow) -> Directory:
    assert row.id is not None
    return Directory(
        id=row.id,
        name=row.name,
        settings=row.settings,
        enabled=row.enabled,
        due_at=row.due_at,
        failures=row.failures,
        problem=row.problem,
        held=row.held,
        accepted=row.accepted,
        last=row.last,
        fresh_at=row.fresh_at,
        valid_until=row.valid_until,
        looking=row.lease_until is not None and row.lease_until > now(),
    )
