"""API keys: `kura_` and 256 random bits, only their hash in the database.

A key acts as one named user, within its scopes, until it runs out or is
revoked; it is dead the moment its user is disabled. Its first characters stand
before its name, to tell keys apart in a list.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import Engine

from appliance.errors import BadRequest, NotSignedIn
from appliance.store import keys as rows
from appliance.store.keys import Key

KeyScope = Literal["query", "search", "documents", "admin"]
SCOPES: frozenset[str] = frozenset({"query", "search", "documents", "admin"})

_PREFIX = "kura_"
_SHOWN = 4  # characters of the secret that lists show; the rest stays far above 128 bits
_FORM = re.compile(r"kura_[A-Za-z0-9_-]{43}")
_PURPOSE = b"kura key v1:"


def issue(
    engine: Engine,
    name: str,
    user_id: str,
    scopes: Sequence[str],
    *,
    created_by: str,
    lives_s: float | None = None,
) -> tuple[Key, str]:
    """A new key and its secret, which is shown once. Raises NotVisible, BadRequest."""
    if not scopes or set(scopes) - SCOPES:
        raise BadRequest(f"スコープは {', '.join(sorted(SCOPES))} から選んでください。")
    secret = _PREFIX + secrets.token_urlsafe(32)
    expires_at = None if lives_s is None else datetime.now(UTC) + timedelta(seconds=lives_s)
    label = f"{secret[: len(_PREFIX) + _SHOWN]} {name}"
    return rows.create(
        engine, label, user_id, hashed(secret), scopes, created_by, expires_at
    ), secret


def find(engine: Engine, secret: str) -> Key:
    """Raises NotSignedIn for a key that is unknown, revoked, run out, or of a disabled user."""
    if not _FORM.fullmatch(secret):
        raise NotSignedIn("not a key")
    return known(engine, hashed(secret))


def known(engine: Engine, token_hash: str) -> Key:
    """`find`, by the hash."""
    found = rows.by_hash(engine, token_hash)
    if found is None:
        raise NotSignedIn("no such key")
    return found


def prefix(key: Key) -> str:
    """How the secret begins, to tell keys apart in a list."""
    return key.name.partition(" ")[0]


def name(key: Key) -> str:
    return key.name.partition(" ")[2]


def hashed(secret: str) -> str:
    return hashlib.sha256(_PURPOSE + secret.encode()).hexdigest()
