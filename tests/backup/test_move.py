"""`kura migrate-db`: the same site in the other kind of database."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from appliance.store import audit, catalog, database, tables
from tests.backup import site
from tests.backup.site import Home

pytestmark = pytest.mark.postgres


def test_there_and_back(home: Home, postgres: Callable[[], str]) -> None:
    before, url = home.settings.database_url, postgres()
    was, expected = site.seen(home), site.facts(before)
    given = last_number(before)
    moved = home.told("migrate-db", before, url)
    assert moved["rows"]["document"] == expected["document"].rows and moved["rows"]["session"] > 0
    assert site.facts(url) == site.facts(before) and whole(url)
    other = Home(home.folder, url=url)
    assert site.seen(other)["ito"]["chats"] == was["ito"]["chats"]
    assert last_number(url) >= given
    assert next_change(url) > given  # a number that was given is not given again

    back = home.folder / "戻り.db"
    home.kura("migrate-db", url, f"sqlite:///{back}")
    assert site.facts(f"sqlite:///{back}") == site.facts(url) and whole(f"sqlite:///{back}")
    assert next_change(f"sqlite:///{back}") > next_change(url) - 1
    assert not list(home.folder.glob("*.unfinished*"))


def last_number(url: str) -> int:
    """Gives a number and takes its row away."""
    number = next_change(url)
    engine = database.connect(url)
    with database.writing(engine) as s:
        s.connection().execute(text("DELETE FROM change WHERE sequence >= :n"), {"n": number})
    engine.dispose()
    return number


def next_change(url: str) -> int:
    engine = database.connect(url)
    with database.writing(engine) as s:
        row = tables.ChangeRow(document_id="x")
        s.add(row)
        s.flush()
        number = row.sequence
    assert number is not None
    engine.dispose()
    return number


def whole(url: str) -> bool:
    engine = database.connect(url)
    try:
        assert "database.move" in [entry.action for entry in audit.entries(engine)]
        return audit.verify(engine) is None and catalog.counts(engine).documents > 0
    finally:
        engine.dispose()


def test_what_it_refuses(home: Home, postgres: Callable[[], str], tmp_path: Path) -> None:
    from appliance import up

    before, url = home.settings.database_url, postgres()
    words = ("migrate-db", before, url)
    missing = tmp_path / "ない.db"
    assert "がありません" in home.kura("migrate-db", f"sqlite:///{missing}", url, status=1)
    assert not missing.exists()
    assert "もうあります" in home.kura("migrate-db", before, before, status=1)
    with up.held(home.data, "work", alone=False):
        assert "すでに動いています" in home.kura(*words, status=1)
    home.kura(*words)
    assert "もうあります" in home.kura(*words, status=1)


def test_a_target_that_fails_is_left_empty(home: Home, postgres: Callable[[], str]) -> None:
    before, url = home.settings.database_url, postgres()
    copy = home.folder / "壊れた.db"
    shutil.copy(before.removeprefix("sqlite:///"), copy)
    with closing(sqlite3.connect(copy)) as connection, connection:  # no foreign keys
        connection.execute("DELETE FROM document WHERE id IN (SELECT document_id FROM chunk)")
    refused = home.kura("migrate-db", f"sqlite:///{copy}", url, status=1)
    assert "書き込めませんでした" in refused
    home.kura("migrate-db", before, url)  # for nothing was left there
    home.kura("migrate-db", f"sqlite:///{copy}", f"sqlite:///{home.folder}/新.db", status=78)
    assert not (home.folder / "新.db").exists()
