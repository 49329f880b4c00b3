"""Sessions, keys and the setup code: random, hashed, each good for one purpose."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from appliance.errors import BadRequest, Conflict, NotSignedIn, NotVisible, TooManyAttempts
from appliance.identity import accounts, callers, keys, sessions, setup
from appliance.identity.passwords import Door
from appliance.settings import Settings
from appliance.store import database, people
from appliance.store import keys as key_rows
from appliance.store.tables import SessionRow, now

PASSWORD = "正しいパスワード99"


@pytest.fixture
def engine(sqlite_engine: Engine) -> Engine:
    for user_id in ("ito", "sato"):
        accounts.create(sqlite_engine, user_id, user_id, "member", PASSWORD)
    return sqlite_engine


@pytest.fixture
def settings() -> Settings:
    return Settings()


def begin(engine: Engine, settings: Settings, user_id: str = "ito") -> str:
    return sessions.begin(engine, settings, people.get(engine, user_id))[1]


def everything(engine: Engine) -> str:
    with engine.connect() as connection:
        tables = ("session", "api_key", "site", '"user"', "audit")
        return repr([connection.execute(text(f"SELECT * FROM {t}")).all() for t in tables])


def test_tokens_are_random_hashed_and_of_one_purpose(engine: Engine, settings: Settings) -> None:
    tokens = {begin(engine, settings) for _ in range(50)}
    secrets = {keys.issue(engine, "k", "ito", ["query"], created_by="admin")[1] for _ in range(50)}
    assert len(tokens) == len(secrets) == 50
    assert all(len(t) == 43 for t in tokens)  # 256 bits in base64
    assert all(s.startswith("kura_") and len(s) == 48 for s in secrets)
    kept = everything(engine)
    assert not any(t in kept for t in tokens | secrets)
    for token in tokens:
        with pytest.raises(NotSignedIn):
            keys.find(engine, f"kura_{token}")
    for secret in secrets:
        for disguised in (secret, secret.removeprefix("kura_")):
            with pytest.raises(NotSignedIn):
                sessions.find(engine, settings, disguised)


def test_a_session_ends_unused_and_it_ends_old(engine: Engine, settings: Settings) -> None:
    token = begin(engine, settings)
    assert sessions.find(engine, settings, token).user.id == "ito"
    with database.writing(engine) as s:
        row = s.get(SessionRow, sessions._hash(token))
        assert row is not None
        row.seen_at = now() - timedelta(minutes=settings.session_idle_minutes + 1)
        s.add(row)
    with pytest.raises(NotSignedIn):
        sessions.find(engine, settings, token)

    short = begin(engine, replace(settings, session_hours=0))
    with pytest.raises(NotSignedIn):
        sessions.find(engine, settings, short)


@pytest.mark.parametrize("how", ["disable", "password", "role"])
def test_sessions_end_with_what_they_stood_on(engine: Engine, settings: Settings, how: str) -> None:
    tokens = [begin(engine, settings) for _ in range(2)]
    other = begin(engine, settings, "sato")
    accounts.create(engine, "admin", "管理者", "administrator", PASSWORD)
    change = {"disable": {"disabled": True}, "password": {"password": PASSWORD + "!"}}
    given = change.get(how, {"role": "administrator"})
    accounts.change(engine, Door(engine, b"key"), "ito", **given)
    for token in tokens:
        with pytest.raises(NotSignedIn):
            sessions.find(engine, settings, token)
    assert sessions.find(engine, settings, other).user.id == "sato"


def test_a_sign_in_that_ends_after_its_account_was_disabled(
    engine: Engine, settings: Settings
) -> None:
    accounts.create(engine, "admin", "管理者", "administrator", PASSWORD)
    people.update(engine, "ito", disabled=True)
    token = begin(engine, settings)
    with pytest.raises(NotSignedIn):
        sessions.find(engine, settings, token)


def test_a_key_dies_at_once(engine: Engine, settings: Settings) -> None:
    def caller(**more: float) -> tuple[int, str, callers.Caller]:
        key, secret = keys.issue(engine, "k", "ito", ["query"], created_by="admin", **more)
        return key.id, secret, callers.by_key(engine, secret)

    def dead(secret: str, by: callers.Caller) -> bool:
        with pytest.raises(NotSignedIn):
            keys.find(engine, secret)
        return not callers.alive(engine, settings, by)

    key_id, revoked, by_revoked = caller()
    _, expiring, by_expiring = caller(lives_s=0.2)
    _, orphaned, by_orphaned = caller()
    key_rows.revoke(engine, key_id)
    time.sleep(0.25)
    assert dead(revoked, by_revoked) and dead(expiring, by_expiring), "though its user is not"
    assert callers.alive(engine, settings, by_orphaned)
    accounts.create(engine, "admin", "管理者", "administrator", PASSWORD)
    people.update(engine, "ito", disabled=True)
    assert dead(orphaned, by_orphaned)


def test_leaving_a_group_ends_what_was_begun_as_its_member(
    engine: Engine, settings: Settings
) -> None:
    accounts.set_group(engine, "総務部", ["user:ito"])
    caller = callers.by_session(engine, settings, begin(engine, settings))
    assert callers.alive(engine, settings, caller)
    accounts.set_group(engine, "総務部", [])
    assert not callers.alive(engine, settings, caller)


def test_a_key_says_what_it_is_for(engine: Engine) -> None:
    key, secret = keys.issue(engine, "社内 ポータル", "ito", ["query"], created_by="admin")
    assert keys.name(key) == "社内 ポータル"
    assert secret.startswith(keys.prefix(key)) and len(keys.prefix(key)) == 9
    for scopes in ([], ["everything"]):
        with pytest.raises(BadRequest):
            keys.issue(engine, "k", "ito", scopes, created_by="admin")
    with pytest.raises(NotVisible):
        keys.issue(engine, "k", "nobody", ["query"], created_by="admin")


# --- the first administrator ------------------------------------------------------


def finish(engine: Engine, code: str, user_id: str = "admin", address: str = "192.0.2.1") -> None:
    setup.finish(engine, DOORS[id(engine)], code, user_id, "管理者", PASSWORD, address)


DOORS: dict[int, Door] = {}


@pytest.fixture
def empty(sqlite_engine: Engine) -> Engine:
    DOORS[id(sqlite_engine)] = Door(sqlite_engine, b"key", attempts=3, lock_s=60)
    return sqlite_engine


def test_the_code_makes_one_administrator(empty: Engine) -> None:
    code = setup.code(empty)
    assert code is not None and setup.needed(empty)
    assert code not in everything(empty)
    with pytest.raises(BadRequest):  # a weak password does not use the code up
        setup.finish(empty, DOORS[id(empty)], code, "admin", "管理者", "短い", "192.0.2.1")
    finish(empty, f" {code.lower().replace('-', '')} ")
    assert [(u.id, u.role) for u in people.users(empty)] == [("admin", "administrator")]
    assert not setup.needed(empty) and setup.code(empty) is None
    with pytest.raises(Conflict):
        finish(empty, code, "second")


def test_the_code_cannot_be_guessed(empty: Engine) -> None:
    code = setup.code(empty)
    assert code is not None
    for _ in range(3):
        with pytest.raises(NotSignedIn):
            finish(empty, "AAAA-AAAA-AAAA-AAAA")
    with pytest.raises(TooManyAttempts):
        finish(empty, code)
    finish(empty, code, address="192.0.2.2")


def test_a_newer_code_takes_the_place_of_the_older(empty: Engine) -> None:
    older, newer = setup.code(empty), setup.code(empty)
    assert older and newer and older != newer
    with pytest.raises(NotSignedIn):
        finish(empty, older)
    finish(empty, newer)


def test_without_a_code_nobody_is_let_in(empty: Engine) -> None:
    for given in ("", "-", "\0"):
        with pytest.raises(NotSignedIn):
            setup.finish(empty, DOORS[id(empty)], given, "admin", "管理者", PASSWORD, "192.0.2.1")
    assert setup.needed(empty)
