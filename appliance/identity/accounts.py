"""Local accounts and groups: what an administrator may make of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Literal

from sqlalchemy import Engine

from appliance.errors import BadRequest
from appliance.identity import passwords
from appliance.identity.passwords import Door
from appliance.store import people
from appliance.store import sessions as rows
from appliance.types import Principal

_ID = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_GROUP = re.compile(r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff,]{1,100}")


def create(
    engine: Engine,
    user_id: str,
    display_name: str,
    role: Literal["member", "administrator"],
    password: str,
    groups: Sequence[str] = (),
) -> people.User:
    """Raises BadRequest, Conflict, and NotVisible for a group that is not there."""
    user_id = valid_id(user_id)
    joined = [people.group(engine, valid_group(name)) for name in groups]
    made = people.create(engine, user_id, display_name.strip(), role, passwords.digest(password))
    for group in joined:
        members = group.members | {Principal(f"user:{user_id}")}
        people.set_group(engine, group.name, members)
    return made


def change(
    engine: Engine,
    door: Door,
    user_id: str,
    *,
    display_name: str | None = None,
    role: Literal["member", "administrator"] | None = None,
    disabled: bool | None = None,
    password: str | None = None,
) -> people.User:
    """Change what is given. A new password or role, and disabling, end the account's sessions.

    Raises NotVisible, BadRequest, and Conflict if no administrator would be left.
    """
    hashed = None if password is None else passwords.digest(password)
    before = people.get(engine, user_id)
    after = people.update(engine, user_id, display_name=display_name, role=role, disabled=disabled)
    if hashed is not None:
        people.set_password_hash(engine, user_id, hashed)
        door.forgive(user_id)
    if after.role != before.role or after.disabled:
        rows.end_all(engine, user_id)
    return after


def set_group(engine: Engine, name: str, members: Collection[str]) -> people.Group:
    """Raises BadRequest for a name that could be mistaken for another."""
    return people.set_group(engine, valid_group(name), [Principal(m) for m in members])


def valid_id(user_id: str) -> str:
    """Ids are plain ASCII, so that no two can look alike. Raises BadRequest."""
    user_id = passwords.account_id(user_id)
    if not _ID.fullmatch(user_id):
        raise BadRequest(
            "ユーザー ID は半角の英小文字・数字と . _ @ - で、64 文字以内にしてください。"
        )
    return user_id


def valid_group(name: str) -> str:
    name = unicodedata.normalize("NFC", name).strip()
    if not _GROUP.fullmatch(name):
        raise BadRequest("グループ名に使えない文字があるか、100 文字を超えています。")
    return name
