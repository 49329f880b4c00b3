"""Passwords, and the door that slows down whoever guesses them.

Three counts, all of wrong passwords only, kept in the database, so that a second
`kura web` or a new start gives nobody more tries, and judged before any password
is looked at, so that they say nothing about which accounts exist:

* account and address together: locked after `lockout_attempts`, twice as long
  each further time, a day at most;
* account, from everywhere: after ten times as many, locked for
  `lockout_minutes`, but not for the machine itself nor for an address the
  account has signed in from before. So nobody can lock the administrators out:
  their own desks, and the console, stay open;
* address: `ADDRESS_ATTEMPTS` in `ADDRESS_WINDOW_S`, whatever the accounts.

A reverse proxy on this machine must pass on the client's address
(X-Forwarded-For); one that does not makes everybody one address, which is
stricter, not laxer.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import argon2
from sqlalchemy import Engine

from appliance.errors import BadRequest, NotSignedIn, TooManyAttempts
from appliance.settings import Settings
from appliance.store import audit, people, secrets, tries
from appliance.store.tables import now

log = logging.getLogger("kura.identity")

SHORTEST = 10  # characters
LONGEST = 1024
ADDRESS_ATTEMPTS = 100
ADDRESS_WINDOW = timedelta(minutes=15)
LONGEST_LOCK_S = 86_400.0
KNOWN = timedelta(days=180)  # how long an account is known from where it signed in
KNOWN_AGAIN = timedelta(days=1)

_hasher = argon2.PasswordHasher()
# What an unknown account's password is compared with: the same work as for a known one.
_NOBODYS = _hasher.hash("nobody has this password")
_hashing = threading.BoundedSemaphore(2)  # each takes 64 MiB


def digest(password: str) -> str:
    """Argon2id. Raises BadRequest for a password that is too weak to keep."""
    plain = _plain(password)
    if len(plain) < SHORTEST:
        raise BadRequest(f"パスワードは {SHORTEST} 文字以上にしてください。")
    if len(plain) > LONGEST:
        raise BadRequest(f"パスワードは {LONGEST} 文字以内にしてください。")
    if len(set(plain)) < 4:
        raise BadRequest("同じ文字の繰り返しだけのパスワードは使えません。")
    with _hashing:
        return _hasher.hash(plain)


def matches(stored: str | None, password: str) -> bool:
    """The same work whether or not there is anything to compare with."""
    with _hashing:
        try:
            _hasher.verify(stored or _NOBODYS, _plain(password)[: LONGEST + 1])
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHash):
            return False
    return stored is not None


def sign_in(engine: Engine, door: Door, user_id: str, password: str, address: str) -> people.User:
    """The account whose password this is. Raises NotSignedIn, TooManyAttempts."""
    user_id = account_id(user_id)
    try:
        door.admit(user_id, address)
        stored = people.password_hash(engine, user_id)
        right = bool(password) and matches(stored, password)
        door.admit(user_id, address)  # again: of many tries at once only so many count
        user = people.get(engine, user_id) if right else None
        if user is None or user.disabled:
            door.failed(user_id, address)
            raise NotSignedIn("wrong account or password")
    except (NotSignedIn, TooManyAttempts) as error:
        # An unknown name is not written down: people type passwords into that field.
        known = stored_account(engine, user_id)
        detail = {"account": known or "unknown", "address": address}
        audit.record(engine, "nobody", f"sign-in.{type(error).__name__}", detail)
        raise
    door.succeeded(user_id, address)
    if stored and _hasher.check_needs_rehash(stored):
        people.rehash(engine, user_id, digest(password))
    return user


def change(engine: Engine, door: Door, user_id: str, current: str, new: str, address: str) -> None:
    """A new password in place of the current one; every session of the account ends."""
    sign_in(engine, door, user_id, current, address)
    people.set_password_hash(engine, user_id, digest(new))
    audit.record(engine, f"user:{user_id}", "password.change", {"user": user_id})


def account_id(typed: str) -> str:
    """The account somebody means: ids are ASCII and lower case, keyboards and IMEs are not."""
    return unicodedata.normalize("NFKC", typed).strip().lower()


def stored_account(engine: Engine, user_id: str) -> str | None:
    return user_id if any(u.id == user_id for u in people.users(engine)) else None


def _plain(password: str) -> str:
    # The same password typed on another keyboard: NFKC, as RFC 8265's cousin for secrets does.
    return unicodedata.normalize("NFKC", password)


@dataclass(frozen=True)
class Door:
    """Counts wrong passwords, in the database that all processes share."""

    engine: Engine
    naming: bytes = field(repr=False)  # the counted are named by digests under this key
    attempts: int = 10
    lock_s: float = 900.0
    clock: Callable[[], datetime] = now

    @staticmethod
    def of(settings: Settings, engine: Engine) -> Door:
        naming = secrets.keyring(settings.secrets_key).derived("wrong passwords")
        return Door(engine, naming, settings.lockout_attempts, settings.lockout_minutes * 60.0)

    def admit(self, user_id: str, address: str) -> None:
        """Raises TooManyAttempts while this account may not be tried from this address."""
        address, moment = _place(address), self.clock()
        pair, place, account, known = (
            self._key(*named)
            for named in (
                ("pair", user_id, address),
                ("address", address),
                ("account", user_id),
                ("known", user_id, address),
            )
        )
        found = tries.counts(self.engine, (pair, place, account, known), moment)
        judged = {pair, place}
        if not _is_local(address) and known not in found:
            judged.add(account)
        wait = max((found[key].wait_s(moment) for key in judged & found.keys()), default=0.0)
        if wait > 0:
            raise TooManyAttempts("too many wrong passwords", wait)

    def failed(self, user_id: str, address: str) -> None:
        address, moment = _place(address), self.clock()
        own = self._key("account", user_id)
        with tries.counting(self.engine, moment, own) as count:
            pair = count(self._key("pair", user_id, address), True)
            pair.failures += 1
            if pair.failures >= self.attempts:
                pair.failures = 0
                wait_s = min(self.lock_s * 2**pair.locks, LONGEST_LOCK_S)
                pair.locked_until = moment + timedelta(seconds=wait_s)
                pair.locks = min(pair.locks + 1, 16)
            account = count(own, True)
            account.failures += 1
            if account.failures >= self.attempts * 10:
                account.failures = 0
                account.locked_until = moment + timedelta(seconds=self.lock_s)
            place = count(self._key("address", address), False)
            if moment - place.since > ADDRESS_WINDOW:
                place.since, place.failures = moment, 0
            place.failures += 1
            if place.failures >= ADDRESS_ATTEMPTS:
                place.failures, place.locked_until = 0, moment + ADDRESS_WINDOW

    def succeeded(self, user_id: str, address: str) -> None:
        address, moment = _place(address), self.clock()
        pair, known = self._key("pair", user_id, address), self._key("known", user_id, address)
        found = tries.counts(self.engine, (pair, known), moment)
        if pair in found:
            tries.forget(self.engine, key=pair)
        if known not in found or moment - found[known].since > KNOWN_AGAIN:
            own = self._key("account", user_id)
            tries.remember(self.engine, known, own, moment, KNOWN)

    def forgive(self, user_id: str) -> None:
        """An administrator gave the account a new password: earlier failures no longer count."""
        tries.forget(self.engine, account=self._key("account", user_id))

    def _key(self, *named: str) -> str:
        said = "\0".join(named).encode("utf-8", "surrogatepass")
        return hmac.digest(self.naming, said, "sha256").hex()


def _place(address: str) -> str:
    """An address as one place: an IPv6 customer has a whole /64."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        if not ip.is_loopback:
            return str(ipaddress.ip_network((int(ip), 64), strict=False).network_address)
    return str(ip)


def _is_local(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
