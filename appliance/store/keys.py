"""API keys of internal tools. A key acts as one user, within its scopes; only its hash is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, update
from sqlmodel import col, select

from appliance.errors import NotVisible
from appliance.store.database import reading, writing
from appliance.store.tables import KeyRow, UserRow, now

USED_EVERY = timedelta(minutes=1)  # a key's last use is written no more often


@dataclass(frozen=True, slots=True)
class Key:
    id: int
    name: str
    user_id: str
    scopes: frozenset[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


def create(
    engine: Engine,
    name: str,
    user_id: str,
    token_hash: str,
    scopes: Sequence[str],
    created_by: str,
    expires_at: datetime | None = None,
) -> Key:
    """Raises NotVisible if there is no such user."""
    with writing(engine) as s:
        if s.get(UserRow, user_id) is None:
            raise NotVisible("利用者が見つかりません。")
        row = KeyRow(
            name=name,
            user_id=user_id,
            token_hash=token_hash,
            scopes=sorted(set(scopes)),
            created_by=created_by,
            expires_at=expires_at,
        )
        s.add(row)
        s.flush()
        return _key(row)


def by_hash(engine: Engine, token_hash: str) -> Key | None:
    """None if unknown, revoked, run out, or its user is disabled."""
    moment = now()
    with reading(engine) as s:
        row = s.exec(
            select(KeyRow)
            .join(UserRow, col(UserRow.id) == col(KeyRow.user_id))
            .where(KeyRow.token_hash == token_hash, ~col(UserRow.disabled))
        ).first()
        if row is None or row.revoked_at or (row.expires_at and row.expires_at <= moment):
            return None
        key = _key(row)
    if key.last_used_at is None or moment - key.last_used_at > USED_EVERY:
        with writing(engine) as s:
            s.connection().execute(
                update(KeyRow).where(col(KeyRow.id) == key.id).values(last_used_at=moment)
            )
    return key


def keys(engine: Engine) -> list[Key]:
    """Every key ever made, newest first."""
    with reading(engine) as s:
        return [_key(row) for row in s.exec(select(KeyRow).order_by(col(KeyRow.id).desc()))]


def revoke(engine: Engine, key_id: int) -> None:
    """Raises NotVisible."""
    with writing(engine) as s:
        row = s.get(KeyRow, key_id)
        if row is None:
            raise NotVisible("APIキーが見つかりません。")
        row.revoked_at = row.revoked_at or now()
        s.add(row)


def _key(row: KeyRow) -> Key:
    assert row.id is not None
    return Key(
        row.id,
        row.name,
        row.user_id,
        frozenset(row.scopes),
        row.created_by,
        row.created_at,
        row.expires_at,
        row.last_used_at,
        row.revoked_at,
    )
