"""From a credential to who asks. The same decisions for a cookie and for a key."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from appliance.errors import NotAllowed, NotSignedIn
from appliance.identity import keys, sessions
from appliance.identity.sessions import Session
from appliance.settings import Settings
from appliance.store import people
from appliance.store.keys import Key
from appliance.types import Viewer


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, by which credential: exactly one of `session` and `key`."""

    user: people.User
    viewer: Viewer
    session: Session | None = None
    key: Key | None = None
    key_hash: str = ""

    @property
    def actor(self) -> str:
        """As the audit record names them."""
        return f"user:{self.user.id}" + (f" key:{self.key.id}" if self.key else "")


def by_session(engine: Engine, settings: Settings, token: str) -> Caller:
    """Raises NotSignedIn."""
    session = sessions.find(engine, settings, token)
    return Caller(session.user, people.viewer(engine, session.user.id), session=session)


def by_key(engine: Engine, secret: str) -> Caller:
    """Raises NotSignedIn."""
    key = keys.find(engine, secret)
    viewer = people.viewer(engine, key.user_id)
    return Caller(people.get(engine, key.user_id), viewer, key=key, key_hash=keys.hashed(secret))


def check_csrf(caller: Caller, given: str) -> None:
    """Raises NotAllowed unless the request carries its session's token."""
    if caller.session is not None and not sessions.check_csrf(caller.session, given):
        raise NotAllowed("the CSRF token is missing or wrong")


def alive(engine: Engine, settings: Settings, caller: Caller) -> bool:
    """Whether the credential still holds, with the same principals as at the start."""
    try:
        if caller.session is not None:
            sessions.known(engine, settings, caller.session.token_hash)
        else:
            keys.known(engine, caller.key_hash)
        return people.viewer(engine, caller.user.id).principals >= caller.viewer.principals
    except NotSignedIn:
        return False
