"""Sessions: 256 random bits in a cookie, only their hash in the database.

A session ends when it is old, when it is unused, at sign-out, and with every
change of password or disabling of its account. Each sign-in is a new one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from appliance.errors import NotSignedIn
from appliance.settings import Settings
from appliance.store import people
from appliance.store import sessions as rows

_PURPOSE = b"kura session v1:"  # a token of one kind is never worth anything as another


@dataclass(frozen=True, slots=True)
class Session:
    token_hash: str
    user: people.User
    csrf_token: str
    expires_at: datetime


def begin(engine: Engine, settings: Settings, user: people.User) -> tuple[Session, str]:
    """A new session, and the token for the cookie, which is nowhere else."""
    token = secrets.token_urlsafe(32)
    expires_at = datetime.now(UTC) + timedelta(hours=settings.session_hours)
    session = Session(_hash(token), user, secrets.token_urlsafe(32), expires_at)
    rows.create(engine, session.token_hash, user.id, session.csrf_token, expires_at)
    return session, token


def find(engine: Engine, settings: Settings, token: str) -> Session:
    """Raises NotSignedIn for a token that is unknown, ended or run out."""
    return known(engine, settings, _hash(token) if token else "")


def known(engine: Engine, settings: Settings, token_hash: str) -> Session:
    """`find`, by the hash."""
    idle = timedelta(minutes=settings.session_idle_minutes)
    found = rows.get(engine, token_hash, idle) if token_hash else None
    if found is None:
        raise NotSignedIn("no such session")
    return Session(token_hash, found.user, found.csrf_token, found.expires_at)


def end(engine: Engine, token: str) -> None:
    """Sign out; a token that is nobody's changes nothing."""
    if token:
        rows.end(engine, _hash(token))


def check_csrf(session: Session, given: str) -> bool:
    return hmac.compare_digest(session.csrf_token.encode(), given.encode("utf-8", "replace"))


def _hash(token: str) -> str:
    return hashlib.sha256(_PURPOSE + token.encode("utf-8", "replace")).hexdigest()
