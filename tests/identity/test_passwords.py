"""Passwords and the door: guessing is slow, and nobody can lock the administrators out."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import argon2
import pytest
from sqlalchemy import Engine
from sqlmodel import select

from appliance.errors import BadRequest, Conflict, NotSignedIn, TooManyAttempts
from appliance.identity import accounts, passwords
from appliance.identity.passwords import ADDRESS_ATTEMPTS, Door
from appliance.store import audit, people
from appliance.store.database import reading
from appliance.store.tables import TryRow

RIGHT, WRONG = "正しいパスワード99", "まちがったパスワード"
DESK, ATTACKER = "192.0.2.10", "203.0.113.66"


class Clock:
    now = 1000.0

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(sqlite_engine: Engine, clock: Clock) -> Door:
    return Door(sqlite_engine, b"key", attempts=3, lock_s=60.0, clock=clock)


@pytest.fixture
def engine(sqlite_engine: Engine) -> Engine:
    accounts.create(sqlite_engine, "admin", "管理者", "administrator", RIGHT)
    return sqlite_engine


def fail(engine: Engine, door: Door, address: str, user_id: str = "admin") -> None:
    with pytest.raises(NotSignedIn):
        passwords.sign_in(engine, door, user_id, WRONG, address)


def test_the_right_password_signs_in_whatever_the_keyboard(engine: Engine, door: Door) -> None:
    for typed, password in (("admin", RIGHT), (" ＡＤＭＩＮ ", "正しいパスワード９９")):
        assert passwords.sign_in(engine, door, typed, password, DESK).id == "admin"


@pytest.mark.parametrize("password", ["", WRONG, RIGHT + "x", RIGHT[:-1]])
def test_a_wrong_password_does_not(engine: Engine, door: Door, password: str) -> None:
    with pytest.raises(NotSignedIn):
        passwords.sign_in(engine, door, "admin", password, DESK)


@pytest.mark.parametrize("user_id", ["admin", "nobody", "", "\0setup"])
def test_lockout_says_nothing_of_which_accounts_exist(
    engine: Engine, door: Door, user_id: str
) -> None:
    for _ in range(3):
        fail(engine, door, ATTACKER, user_id)
    with pytest.raises(TooManyAttempts) as refused:
        passwords.sign_in(engine, door, user_id, RIGHT, ATTACKER)
    assert 0 < refused.value.retry_after_s <= 60


def test_a_lock_ends_and_the_next_is_longer(engine: Engine, door: Door, clock: Clock) -> None:
    for expected in (60, 120, 240):
        for _ in range(3):
            fail(engine, door, ATTACKER)
        with pytest.raises(TooManyAttempts) as refused:
            passwords.sign_in(engine, door, "admin", RIGHT, ATTACKER)
        assert refused.value.retry_after_s == expected
        clock.now += expected
    assert passwords.sign_in(engine, door, "admin", RIGHT, ATTACKER).id == "admin"


def test_an_attacker_elsewhere_locks_neither_the_desk_nor_the_console(
    engine: Engine, door: Door
) -> None:
    passwords.sign_in(engine, door, "admin", RIGHT, DESK)
    for n in range(30):  # from everywhere, so that no single address is locked
        fail(engine, door, f"198.51.100.{n}")
    with pytest.raises(TooManyAttempts):
        passwords.sign_in(engine, door, "admin", RIGHT, "198.51.100.200")
    for address in (DESK, "127.0.0.1", "::1"):
        assert passwords.sign_in(engine, door, "admin", RIGHT, address).id == "admin"


def test_one_address_may_not_try_many_accounts(engine: Engine, door: Door) -> None:
    for n in range(ADDRESS_ATTEMPTS):
        door.failed(f"user{n}", ATTACKER)
    with pytest.raises(TooManyAttempts):
        passwords.sign_in(engine, door, "admin", RIGHT, ATTACKER)
    assert passwords.sign_in(engine, door, "admin", RIGHT, DESK).id == "admin"


def test_an_ipv6_network_is_one_address(door: Door) -> None:
    for n in range(3):
        door.failed("admin", f"2001:db8::{n + 1}")
    with pytest.raises(TooManyAttempts):
        door.admit("admin", "2001:db8::ffff")
    door.admit("admin", "2001:db8:0:1::1")


def test_a_disabled_account_is_as_good_as_none(engine: Engine, door: Door) -> None:
    accounts.create(engine, "ito", "伊藤", "member", RIGHT)
    people.update(engine, "ito", disabled=True)
    with pytest.raises(NotSignedIn):
        passwords.sign_in(engine, door, "ito", RIGHT, DESK)


def test_an_unknown_account_takes_the_same_work(
    engine: Engine, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str | None] = []
    real = passwords.matches
    monkeypatch.setattr(
        passwords, "matches", lambda stored, p: (compared.append(stored), real(stored, p))[1]
    )
    fail(engine, door, DESK, "admin")
    fail(engine, door, DESK, "nobody")
    assert [stored is None for stored in compared] == [False, True]


def test_what_was_typed_as_an_unknown_name_is_not_written_down(engine: Engine, door: Door) -> None:
    fail(engine, door, DESK, RIGHT)  # people type their password into the wrong field
    (record,) = audit.entries(engine, action="sign-in.NotSignedIn")
    assert record.detail == {"account": "unknown", "address": DESK}


@pytest.mark.parametrize("weak", ["", "短い", "123456789", "aaaaaaaaaaaa", "x" * 1025])
def test_a_weak_password_is_not_kept(engine: Engine, weak: str) -> None:
    with pytest.raises(BadRequest):
        accounts.create(engine, "ito", "伊藤", "member", weak)
    assert [u.id for u in people.users(engine)] == ["admin"]


@pytest.mark.parametrize("user_id", ["", "伊藤", "a b", "../x", "x" * 65, "аdmin", "-x", "a\0"])
def test_ids_cannot_look_alike(engine: Engine, user_id: str) -> None:
    with pytest.raises(BadRequest):
        accounts.create(engine, user_id, "伊藤", "member", RIGHT)


def test_a_full_width_id_is_the_same_account(engine: Engine) -> None:
    with pytest.raises(Conflict):
        accounts.create(engine, "Ａｄｍｉｎ", "別人", "member", RIGHT)


def test_a_hash_made_by_older_rules_is_made_anew_at_sign_in(engine: Engine, door: Door) -> None:
    before = people.password_hash(engine, "admin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", argon2.PasswordHasher(2, 16, 1))
        passwords.sign_in(engine, door, "admin", RIGHT, DESK)
    after = people.password_hash(engine, "admin")
    assert after != before and after is not None and "m=16,t=2" in after


def test_argon2id_with_the_recommended_cost() -> None:
    kept = argon2.PasswordHasher()
    assert kept.type is argon2.Type.ID and kept.memory_cost >= 19_456 and kept.time_cost >= 2


def test_a_new_start_gives_no_more_tries(engine: Engine, door: Door, clock: Clock) -> None:
    passwords.sign_in(engine, door, "admin", RIGHT, DESK)
    for _ in range(3):
        fail(engine, door, ATTACKER)
    again = Door(engine, b"key", attempts=3, lock_s=60.0, clock=clock)
    with pytest.raises(TooManyAttempts):
        passwords.sign_in(engine, again, "admin", RIGHT, ATTACKER)
    for n in range(27):  # three were counted by the other
        fail(engine, again, f"198.51.100.{n}")
    with pytest.raises(TooManyAttempts):
        passwords.sign_in(engine, again, "admin", RIGHT, "198.51.100.200")
    passwords.sign_in(engine, again, "admin", RIGHT, DESK)  # it is still known from there
    again.forgive("admin")
    passwords.sign_in(engine, door, "admin", RIGHT, ATTACKER)


def test_many_tries_at_once_are_no_more_than_one_after_another(
    engine: Engine, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are let in before the first is found wrong; the one that is right comes last."""
    real, together = passwords.matches, threading.Barrier(8)

    def slowly(stored: str | None, password: str) -> bool:
        together.wait(30)
        if password == RIGHT:
            time.sleep(0.5)
        return real(stored, password)

    monkeypatch.setattr(passwords, "matches", slowly)

    def attempt(password: str) -> type[Exception] | None:
        try:
            passwords.sign_in(engine, door, "admin", password, ATTACKER)
        except (NotSignedIn, TooManyAttempts) as error:
            return type(error)
        return None

    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(attempt, [WRONG] * 7 + [RIGHT]))
    assert ended[-1] is TooManyAttempts
    assert ended.count(NotSignedIn) >= 3


def test_what_is_counted_names_nobody_and_ends(engine: Engine, door: Door, clock: Clock) -> None:
    fail(engine, door, ATTACKER, RIGHT)  # somebody typed a password into the wrong field
    with reading(engine) as s:
        kept = s.exec(select(TryRow)).all()
    assert len(kept) == 3
    assert not any(word in repr(kept) for word in (ATTACKER, RIGHT, "ｐ"))
    clock.now += 3 * 86_400
    fail(engine, door, DESK, "nobody")
    with reading(engine) as s:
        assert not {row.key for row in s.exec(select(TryRow)).all()} & {row.key for row in kept}
    clock.now -= 10 * 86_400  # somebody put the clock back: nobody is shut out for so long
    door.admit("nobody", DESK)
