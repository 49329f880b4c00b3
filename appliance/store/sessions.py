"""Who is signed in. Only hashes of tokens are kept: a stolen database opens no door."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, update
from sqlmodel import col, select

from appliance.store.database import reading, writing
from appliance.store.people import User, _user
from appliance.store.tables import SessionRow, UserRow, now

SEEN_EVERY = timedelta(minutes=1)  # a session's last use is written no more often


@dataclass(frozen=True, slots=True)
class SignedIn:
    user: User
    csrf_token: str
    created_at: datetime
    expires_at: datetime


def create(
    engine: Engine, token_hash: str, user_id: str, csrf_token: str, expires_at: datetime
) -> None:
    """Raises Conflict if there is no such user. Drops sessions that have run out."""
    with writing(engine) as s:
        s.connection().execute(delete(SessionRow).where(col(SessionRow.expires_at) < now()))
        s.add(
            SessionRow(
                token_hash=token_hash,
                user_id=user_id,
                csrf_token=csrf_token,
                expires_at=expires_at,
            )
        )


def get(engine: Engine, token_hash: str, idle: timedelta) -> SignedIn | None:
    """None if unknown, ended, run out, unused for `idle`, or the user is disabled."""
    moment = now()
    with reading(engine) as s:
        found = s.exec(
            select(SessionRow, UserRow)
            .join(UserRow, col(UserRow.id) == col(SessionRow.user_id))
            .where(SessionRow.token_hash == token_hash)
        ).first()
        if found is None:
            return None
        row, user = found
        if user.disabled or row.expires_at <= moment or row.seen_at + idle <= moment:
            return None
        signed_in = SignedIn(_user(user), row.csrf_token, row.created_at, row.expires_at)
        seen_at = row.seen_at
    if moment - seen_at > SEEN_EVERY:
        with writing(engine) as s:
            mine = col(SessionRow.token_hash) == token_hash
            s.connection().execute(update(SessionRow).where(mine).values(seen_at=moment))
    return signed_in


def end(engine: Engine, token_hash: str) -> None:
    with writing(engine) as s:
        s.connection().execute(delete(SessionRow).where(col(SessionRow.token_hash) == token_hash))


def end_all(engine: Engine, user_id: str | None = None) -> None:
    """Signs out one user everywhere, or everybody."""
    query = delete(SessionRow)
    with writing(engine) as s:
        mine = col(SessionRow.user_id) == user_id
        s.connection().execute(query.where(mine) if user_id is not None else query)
