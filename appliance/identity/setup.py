"""The first administrator: whoever reads the console of the machine, and nobody else.

`kura up` prints a code while there is no account. Only its hash is kept; it
works once, for a limited number of tries.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading

from sqlalchemy import Engine

from appliance.errors import Conflict, NotSignedIn, TooManyAttempts
from appliance.identity import accounts, passwords
from appliance.identity.passwords import Door
from appliance.store import audit, people, site

ATTEMPTS = 100  # of all addresses together; each address has the door's own limit
_LETTERS = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
_KEY = "setup.code"
_ACCOUNT = "\0setup"  # the door's name for it: no account can be called that
_one_at_a_time = threading.Lock()


def needed(engine: Engine) -> bool:
    return not people.any_user(engine)


def code(engine: Engine) -> str | None:
    """A new code for the console, in place of any earlier one; None once there is an account."""
    if not needed(engine):
        return None
    letters = [secrets.choice(_LETTERS) for _ in range(16)]
    made = "-".join("".join(letters[i : i + 4]) for i in range(0, 16, 4))
    site.put(engine, _KEY, json.dumps({"hash": _hash(made), "attempts": 0}))
    return made


def finish(
    engine: Engine,
    door: Door,
    given: str,
    user_id: str,
    display_name: str,
    password: str,
    address: str,
) -> people.User:
    """The first administrator. Raises Conflict, NotSignedIn, TooManyAttempts, BadRequest."""
    with _one_at_a_time:
        if not needed(engine):
            raise Conflict("最初の管理者はすでに登録されています。")
        door.admit(_ACCOUNT, address)
        kept = json.loads(site.get(engine, _KEY) or "{}")
        if kept.get("attempts", 0) >= ATTEMPTS:
            raise TooManyAttempts("the code is used up: restart `kura up` for a new one", 3600.0)
        if not hmac.compare_digest(kept.get("hash", ""), _hash(given)):
            door.failed(_ACCOUNT, address)
            kept["attempts"] = kept.get("attempts", 0) + 1
            site.put(engine, _KEY, json.dumps(kept))
            audit.record(engine, "nobody", "setup.refused", {"address": address})
            raise NotSignedIn("wrong code")
        user = people.create_first(
            engine, accounts.valid_id(user_id), display_name, passwords.digest(password)
        )
        site.put(engine, _KEY, None)
        audit.record(engine, f"user:{user.id}", "setup.finish", {"address": address})
        return user


def _hash(code: str) -> str:
    plain = "".join(c for c in passwords.account_id(code).upper() if c.isalnum())
    return hashlib.sha256(b"kura setup v1:" + plain.encode("utf-8", "replace")).hexdigest()
