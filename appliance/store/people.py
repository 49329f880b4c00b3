"""Users, groups, and what somebody counts as when asking."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Engine, delete, func, insert
from sqlmodel import Session, col, select

from appliance.errors import Conflict, NotSignedIn, NotVisible
from appliance.store.counting import Counting
from appliance.store.database import lock, reading, writing
from appliance.store.tables import GroupRow, MemberRow, SessionRow, UserRow, now
from appliance.types import Principal, Viewer

Standing = Literal["member", "administrator"]

PEOPLE_LOCK = 0x4B555204


@dataclass(frozen=True, slots=True)
class User:
    id: str
    display_name: str
    role: Standing
    disabled: bool
    has_password: bool
    locked_until: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Group:
    """Members are "user:…" or "group:…"; they need not exist (yet)."""

    name: str
    members: frozenset[Principal]


def viewer(engine: Engine, user_id: str) -> Viewer:
    """Who `user_id` is now, nested groups and directories included. Raises NotSignedIn if unknown or disabled."""
    with reading(engine) as s:
        row = s.get(UserRow, user_id)
        if row is None or row.disabled:
            raise NotSignedIn("この利用者では利用できません。")
        return Viewer(user_id, frozenset(Counting(s).of(user_id)))


# --- users ------------------------------------------------------------------------


def create(
    engine: Engine,
    user_id: str,
    display_name: str,
    role: Standing = "member",
    password_hash: str | None = None,
) -> User:
    """Raises Conflict if the id is taken."""
    with writing(engine) as s:
        return _create(s, user_id, display_name, role, password_hash)


def create_first(engine: Engine, user_id: str, display_name: str, password_hash: str) -> User:
    """The first administrator. Raises Conflict once there is any user."""
    with writing(engine) as s:
        lock(s, PEOPLE_LOCK)
        if s.exec(select(UserRow.id).limit(1)).first() is not None:
            raise Conflict("最初の管理者はすでに登録されています。")
        return _create(s, user_id, display_name, "administrator", password_hash)


def any_user(engine: Engine) -> bool:
    with reading(engine) as s:
        return s.exec(select(UserRow.id).limit(1)).first() is not None


def get(engine: Engine, user_id: str) -> User:
    """Raises NotVisible."""
    with reading(engine) as s:
        return _user(_row(s, user_id))


def users(engine: Engine) -> list[User]:
    """Every user, by id."""
    with reading(engine) as s:
        return [_user(row) for row in s.exec(select(UserRow).order_by(col(UserRow.id)))]


def update(
    engine: Engine,
    user_id: str,
    *,
    display_name: str | None = None,
    role: Standing | None = None,
    disabled: bool | None = None,
) -> User:
    """Change what is given; whoever is disabled is signed out in the same moment.

    Raises NotVisible, and Conflict if no administrator would be left.
    """
    with writing(engine) as s:
        lock(s, PEOPLE_LOCK)
        row = _row(s, user_id)
        row.display_name = row.display_name if display_name is None else display_name
        row.role = row.role if role is None else role
        row.disabled = row.disabled if disabled is None else disabled
        s.add(row)
        s.flush()
        if row.disabled:
            s.connection().execute(delete(SessionRow).where(col(SessionRow.user_id) == user_id))
        left = select(func.count()).where(UserRow.role == "administrator", ~col(UserRow.disabled))
        if not s.exec(left).one():
            raise Conflict("管理者が一人もいなくなるため、変更できません。")
        return _user(row)


# --- passwords --------------------------------------------------------------------


def remove(engine: Engine, user_id: str) -> None:
    """The account and all that was only its own: sessions, keys, conversations."""
    with writing(engine) as s:
        s.delete(_row(s, user_id))


def password_hash(engine: Engine, user_id: str) -> str | None:
    """None if there is no such user, or no password."""
    with reading(engine) as s:
        row = s.get(UserRow, user_id)
        return row.password_hash if row else None


def set_password_hash(
    engine: Engine, user_id: str, value: str | None, *, keep_session: str | None = None
) -> None:
    """A new password: unlocks, and ends every session but `keep_session` (a token's hash)."""
    with writing(engine) as s:
        row = _row(s, user_id)
        row.password_hash, row.failures, row.locked_until = value, 0, None
        s.add(row)
        s.connection().execute(
            delete(SessionRow).where(
                col(SessionRow.user_id) == user_id,
                col(SessionRow.token_hash) != (keep_session or ""),
            )
        )


def rehash(engine: Engine, user_id: str, value: str) -> None:
    """The same password, hashed by newer rules. Sessions stay."""
    with writing(engine) as s:
        row = _row(s, user_id)
        row.password_hash = value
        s.add(row)


def failed_sign_in(
    engine: Engine, user_id: str, attempts: int, lock_for: timedelta
) -> datetime | None:
    """Count a wrong password; until when the account is now locked, if it is."""
    with writing(engine) as s:
        row = s.exec(select(UserRow).where(UserRow.id == user_id).with_for_update()).first()
        if row is None:
            return None
        row.failures += 1
        if row.failures >= attempts:
            row.failures, row.locked_until = 0, now() + lock_for
        s.add(row)
        return row.locked_until


def signed_in(engine: Engine, user_id: str) -> None:
    """A right password: earlier wrong ones no longer count."""
    with reading(engine) as s:
        row = s.get(UserRow, user_id)
        if row is None or (row.failures == 0 and row.locked_until is None):
            return
    with writing(engine) as s:
        row = _row(s, user_id)
        row.failures, row.locked_until = 0, None
        s.add(row)


# --- groups -----------------------------------------------------------------------


def groups(engine: Engine) -> list[Group]:
    """Every group, by name."""
    with reading(engine) as s:
        members: dict[str, set[Principal]] = {
            name: set() for name in s.exec(select(GroupRow.name).order_by(col(GroupRow.name)))
        }
        for name, principal in s.exec(select(MemberRow.group_name, MemberRow.principal)):
            members[name].add(Principal(principal))
        return [Group(name, frozenset(them)) for name, them in members.items()]


def group(engine: Engine, name: str) -> Group:
    """Raises NotVisible."""
    with reading(engine) as s:
        if s.get(GroupRow, name) is None:
            raise NotVisible("グループが見つかりません。")
        rows = s.exec(select(MemberRow.principal).where(MemberRow.group_name == name))
        return Group(name, frozenset(map(Principal, rows)))


def set_group(engine: Engine, name: str, members: Collection[Principal]) -> Group:
    """The group with exactly these members, made if it was not there."""
    with writing(engine) as s:
        lock(s, PEOPLE_LOCK)
        if s.get(GroupRow, name) is None:
            s.add(GroupRow(name=name))
            s.flush()
        s.connection().execute(delete(MemberRow).where(col(MemberRow.group_name) == name))
        rows = [{"group_name": name, "principal": p} for p in sorted(set(members))]
        if rows:
            s.connection().execute(insert(MemberRow), rows)
        return Group(name, frozenset(members))


def delete_group(engine: Engine, name: str) -> None:
    """Gone, and out of every group it was in. Raises NotVisible."""
    with writing(engine) as s:
        row = s.get(GroupRow, name)
        if row is None:
            raise NotVisible("グループが見つかりません。")
        s.connection().execute(
            delete(MemberRow).where(
                (col(MemberRow.group_name) == name) | (col(MemberRow.principal) == f"group:{name}")
            )
        )
        s.delete(row)


# --- below: helpers within one transaction ----------------------------------------


def _create(
    s: Session, user_id: str, display_name: str, role: Standing, password_hash: str | None
) -> User:
    if s.get(UserRow, user_id) is not None:
        raise Conflict("この利用者IDはすでに使われています。")
    row = UserRow(id=user_id, display_name=display_name, role=role, password_hash=password_hash)
    s.add(row)
    s.flush()
    return _user(row)


def _row(s: Session, user_id: str) -> UserRow:
    row = s.exec(select(UserRow).where(UserRow.id == user_id).with_for_update()).first()
    if row is None:
        raise NotVisible("利用者が見つかりません。")
    return row


def _user(row: UserRow) -> User:
    return User(
        row.id,
        row.display_name,
        "administrator" if row.role == "administrator" else "member",
        row.disabled,
        row.password_hash is not None,
        row.locked_until if row.locked_until and row.locked_until > now() else None,
        row.created_at,
    )
