"""Versions that an older release took in, and names that many documents have."""

from __future__ import annotations

from datetime import date

from sqlalchemy import Engine, text

from appliance.store import editions
from appliance.testing.fakes import PUBLIC
from appliance.types import EVERYONE, Viewer

ANYBODY = Viewer("ito", frozenset({EVERYONE}))
TODAY = date(2026, 4, 1)
RULE = "旅費規程 {}年4月1日改定。出張の宿泊費は一泊一万円を上限とする。申請は三日以内に行う。"


def test_what_an_older_release_took_in_is_looked_at_once(engine: Engine, put) -> None:
    old = put("旅費規程_2019.txt", RULE.format(2019))
    new = put("旅費規程_2024.txt", RULE.format(2024))
    found = editions.outdated(engine, ANYBODY, {old, new}, TODAY)
    assert {i: v.document_id for i, v in found.items()} == {old: new}
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM edition"))
    assert editions.outdated(engine, ANYBODY, {old, new}, TODAY) == {}
    assert list(editions.fill(engine, block=1)) == [1, 1]
    assert editions.outdated(engine, ANYBODY, {old, new}, TODAY) == found
    assert list(editions.fill(engine)) == []


def test_a_name_that_very_many_documents_have_is_a_series(engine: Engine, put) -> None:
    ids = {
        put(
            f"{n}/台帳_{2000 + n % 20}.txt",
            RULE.format(2000 + n % 20),
            PUBLIC,
            title=f"台帳_{2000 + n % 20}.txt",
        )
        for n in range(editions.SERIES + 1)
    }
    assert editions.outdated(engine, ANYBODY, ids, TODAY) == {}


def test_versions_go_with_their_documents(engine: Engine, put, source) -> None:
    from appliance.store import catalog

    old, new = put("旅費規程_旧.txt", RULE.format(2019)), put("旅費規程.txt", RULE.format(2024))
    assert editions.outdated(engine, ANYBODY, {old}, TODAY)[old].document_id == new
    catalog.forget(engine, source, "旅費規程.txt")
    assert editions.outdated(engine, ANYBODY, {old}, TODAY) == {}
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM edition")).scalar() == 1
