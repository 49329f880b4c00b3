"""Users, groups, sessions and keys."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from appliance.errors import Conflict, NotSignedIn, NotVisible
from appliance.store import keys, people, sessions
from appliance.store.tables import now
from appliance.types import EVERYONE, Principal

HOUR = timedelta(hours=1)


def principals(engine: Engine, user_id: str) -> set[str]:
    return set(people.viewer(engine, user_id).principals)


def test_a_viewer_counts_as_every_group_above(engine: Engine) -> None:
    people.create(engine, "ito", "伊藤")
    people.set_group(engine, "経理課", [Principal("user:ito")])
    people.set_group(engine, "管理部", [Principal("group:経理課")])
    people.set_group(engine, "全社", [Principal("group:管理部"), Principal("group:営業部")])
    people.set_group(engine, "営業部", [Principal("user:sato")])
    assert principals(engine, "ito") == {
        EVERYONE,
        "user:ito",
        "group:経理課",
        "group:管理部",
        "group:全社",
    }


def test_groups_in_a_circle_end(engine: Engine) -> None:
    people.create(engine, "ito", "伊藤")
    people.set_group(engine, "a", [Principal("user:ito"), Principal("group:b")])
    people.set_group(engine, "b", [Principal("group:a"), Principal("group:b")])
    assert principals(engine, "ito") == {EVERYONE, "user:ito", "group:a", "group:b"}


def test_a_deleted_group_is_out_of_the_groups_it_was_in(engine: Engine) -> None:
    people.create(engine, "ito", "伊藤")
    people.set_group(engine, "a", [Principal("user:ito")])
    people.set_group(engine, "b", [Principal("group:a")])
    people.delete_group(engine, "a")
    people.set_group(engine, "a", [Principal("user:ito")])
    assert principals(engine, "ito") == {EVERYONE, "user:ito", "group:a"}
    with pytest.raises(NotVisible):
        people.delete_group(engine, "ない")
    assert [g.name for g in people.groups(engine)] == ["a", "b"]
    assert people.group(engine, "b").members == frozenset()


def test_unknown_and_disabled_users_are_nobody(engine: Engine) -> None:
    people.create(engine, "boss", "管理者", "administrator")
    people.create(engine, "ito", "伊藤")
    people.update(engine, "ito", disabled=True)
    for user_id in ("ito", "nobody"):
        with pytest.raises(NotSignedIn):
            people.viewer(engine, user_id)


def test_the_last_administrator_stays(engine: Engine) -> None:
    people.create(engine, "a", "甲", "administrator")
    for change in ({"role": "member"}, {"disabled": True}):
        with pytest.raises(Conflict):
            people.update(engine, "a", **change)
    people.create(engine, "b", "乙", "administrator")
    assert people.update(engine, "a", role="member").role == "member"
    assert people.get(engine, "b").role == "administrator"


def test_there_is_one_first_administrator_however_many_try(engine: Engine) -> None:
    won: list[str] = []

    def attempt(user_id: str) -> None:
        try:
            people.create_first(engine, user_id, user_id, "hash")
            won.append(user_id)
        except Conflict:
            pass

    threads = [threading.Thread(target=attempt, args=(f"u{n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert [u.id for u in people.users(engine)] == won


def test_wrong_passwords_lock_and_the_count_starts_again(engine: Engine) -> None:
    people.create(engine, "ito", "伊藤", password_hash="h")
    assert people.failed_sign_in(engine, "ito", 3, HOUR) is None
    people.signed_in(engine, "ito")
    results = [people.failed_sign_in(engine, "ito", 3, HOUR) for _ in range(3)]
    assert results[:2] == [None, None]
    assert results[2] is not None
    assert people.get(engine, "ito").locked_until is not None
    people.set_password_hash(engine, "ito", "new")
    assert people.get(engine, "ito").locked_until is None
    assert people.failed_sign_in(engine, "nobody", 3, HOUR) is None
    assert people.password_hash(engine, "nobody") is None


def test_wrong_passwords_are_counted_even_at_once(engine: Engine) -> None:
    people.create(engine, "ito", "伊藤")
    threads = [
        threading.Thread(target=people.failed_sign_in, args=(engine, "ito", 10, HOUR))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert people.get(engine, "ito").locked_until is not None


def test_a_session_ends_when_it_should(engine: Engine) -> None:
    people.create(engine, "boss", "管理者", "administrator")
    people.create(engine, "ito", "伊藤")
    sessions.create(engine, "t1", "ito", "csrf", now() + HOUR)
    found = sessions.get(engine, "t1", HOUR)
    assert found is not None
    assert (found.user.id, found.csrf_token) == ("ito", "csrf")
    assert sessions.get(engine, "t1", timedelta(0)) is None  # unused for too long
    assert sessions.get(engine, "unknown", HOUR) is None
    sessions.create(engine, "t2", "ito", "csrf", now() - HOUR)
    assert sessions.get(engine, "t2", HOUR) is None
    people.set_password_hash(engine, "ito", "new", keep_session="t1")
    assert sessions.get(engine, "t1", HOUR) is not None
    people.set_password_hash(engine, "ito", "newer")
    assert sessions.get(engine, "t1", HOUR) is None
    sessions.create(engine, "t3", "ito", "csrf", now() + HOUR)
    people.update(engine, "ito", disabled=True)
    people.update(engine, "ito", disabled=False)
    assert sessions.get(engine, "t3", HOUR) is None  # ended, not only hidden
    sessions.create(engine, "t4", "ito", "csrf", now() + HOUR)
    sessions.end(engine, "t4")
    assert sessions.get(engine, "t4", HOUR) is None
    with pytest.raises(Conflict):
        sessions.create(engine, "t5", "nobody", "csrf", now() + HOUR)


def test_a_key_ends_with_its_time_its_user_or_by_hand(engine: Engine) -> None:
    people.create(engine, "boss", "管理者", "administrator")
    people.create(engine, "tool", "社内ツール")
    key = keys.create(engine, "検索", "tool", "h1", ["query"], "boss")
    found = keys.by_hash(engine, "h1")
    assert found is not None
    assert (found.user_id, found.scopes) == ("tool", frozenset({"query"}))
    assert keys.keys(engine)[0].last_used_at is not None
    keys.create(engine, "古い", "tool", "h2", ["query"], "boss", now() - HOUR)
    assert keys.by_hash(engine, "h2") is None
    people.update(engine, "tool", disabled=True)
    assert keys.by_hash(engine, "h1") is None
    people.update(engine, "tool", disabled=False)
    assert keys.by_hash(engine, "h1") is not None
    keys.revoke(engine, key.id)
    assert keys.by_hash(engine, "h1") is None
    with pytest.raises(NotVisible):
        keys.revoke(engine, 999)
    with pytest.raises(NotVisible):
        keys.create(engine, "x", "nobody", "h3", [], "boss")
