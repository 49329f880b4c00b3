"""A source on a real server: made by an administrator, looked at, and asked about by two people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from appliance.errors import ApplianceError, SourceUnreachable
from appliance.formats.sandbox import Sandbox
from appliance.ingest import schedule
from appliance.ingest.sync import Report, sync
from appliance.settings import Settings
from appliance.store import sources
from appliance.store.secrets import SECRET
from appliance.system import Appliance
from connectors import http
from tests.api.conftest import Person
from tests.api.shelves import SHELVES, Shelf, Tracker, Windows
from tests.connectors import redmines
from tests.connectors.redmines import server
from tests.connectors.samba import Samba, missing

__all__ = ["server"]  # a fixture

QUESTION = "青山商事への値引きはどこまで"


# A Redmine takes half a minute to start.
ROWS = [pytest.param(name, marks=pytest.mark.slow if name == "redmine" else ()) for name in SHELVES]


@pytest.fixture(params=ROWS)
def shelf(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shelf]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    name: str = request.param
    if name == "smb" and (why := missing()):
        pytest.skip(why)
    if (made := SHELVES[name]) is not None:
        one = made(tmp_path)
    elif name == "smb":
        samba = Samba().start()
        request.addfinalizer(samba.close)
        one = Windows(samba)
    else:
        redmine: redmines.Redmine = request.getfixturevalue("server")
        redmine.empty()
        one = Tracker(redmine)
    try:
        one.create("青山商事への値引きは八分まで。")
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(Settings(data=tmp_path_factory.mktemp("sandbox"))) as one:
        yield one


@pytest.fixture
def look(machine: Appliance, shelf: Shelf, sandbox: Sandbox) -> Callable[[], Report]:
    """What `kura work` does when the source is due."""

    def now() -> Report:
        source = sources.by_name(machine.engine, "営業の棚")
        assert source is not None
        site = replace(shelf.site, unseal=machine.keyring.open)
        connector = schedule.connector(machine.connectors, source, site)
        report = sync(
            machine.engine, source, connector, machine.embedder, sandbox.parse, machine.settings
        )
        machine.follower.catch_up()
        return report

    return now


class Seen(NamedTuple):
    uri: str
    title: str
    document_id: str
    text: str


def seen(who: Person) -> Seen | None:
    """What somebody finds of the one document; it is never there twice."""
    response = who.http.post("/api/v1/search", json={"question": QUESTION})
    passages = [p for p in response.json()["passages"] if p["source"] == "営業の棚"]
    found = {
        Seen(p["uri"], p["title"], p["document_id"], p["text"])
        for p in passages
        if "値引き" in p["text"]
    }
    assert len(found) <= 1, found
    return found.pop() if found else None


def made(admin: Person, shelf: Shelf, settings: dict[str, object]) -> str:
    """The source's address. No secret is in what is said."""
    body = {"name": "営業の棚", "kind": shelf.kind, "settings": shelf.settings | settings}
    response = admin.http.post("/api/v1/admin/sources", json=body)
    assert response.status_code == 201, response.text
    assert not [one for one in secrets(shelf) if one in response.text]
    return f"/api/v1/admin/sources/{response.json()['id']}"


def secrets(shelf: Shelf) -> list[str]:
    return [str(v) for name, v in shelf.settings.items() if SECRET.search(name) and v]


def test_created_changed_renamed_moved_revoked_deleted(
    machine: Appliance,
    shelf: Shelf,
    look: Callable[[], Report],
    admin: Person,
    ito: Person,
    sato: Person,
) -> None:
    settings = shelf.admit("ito")
    if "allow" in settings:
        settings["allow"] = ["group:総務部"]  # of which ito is, and sato is not
    url = made(admin, shelf, settings)
    stored = sources.by_name(machine.engine, "営業の棚")
    assert stored and not [one for one in secrets(shelf) if one in str(stored.settings)]

    assert look().counts["added"] >= 1
    with_cursor = sources.get(machine.engine, stored.id)
    told = admin.http.get(url).json()["settings"]
    assert admin.http.patch(url, json={"settings": told}).status_code == 200
    same = sources.get(machine.engine, stored.id)
    assert (same.settings, same.cursor) == (with_cursor.settings, with_cursor.cursor)
    first = seen(ito)
    assert first and "八分" in first.text
    assert seen(sato) is None
    assert ito.ask(QUESTION).json()["passages"][0]["uri"] == first.uri
    assert "八分" in ito.ask(QUESTION).text
    assert "八分" not in sato.ask(QUESTION).text
    assert set(look().counts) <= {"unchanged"}

    now, words = first, "八分"
    if "change" not in shelf.lacks:
        shelf.change("青山商事への値引きは一割五分までに改めた。")
        counts = look().counts
        assert counts["updated"] == 1, counts
        changed = seen(ito)
        assert changed and "一割五分" in changed.text and "八分" not in changed.text
        assert changed.document_id == first.document_id
        now, words = changed, "一割五分"

    for step in ("rename", "move"):
        if step not in shelf.lacks:
            getattr(shelf, step)(now.uri)
            look()
            after = seen(ito)
            assert after and words in after.text, step
            assert (after.document_id != now.document_id) == (step in shelf.anew), step
            if step == "rename":
                assert (after.uri, after.title) != (now.uri, now.title)
            assert seen(sato) is None
            now = after

    settings = shelf.admit("sato")
    body = {"settings": admin.http.get(url).json()["settings"] | settings}
    assert admin.http.patch(url, json=body).status_code == 200
    report = look()
    assert report.counts["renewed"] >= 1
    assert not report.counts.get("updated"), "the password stayed, and nothing was read again"
    assert seen(ito) is None and words not in ito.ask(QUESTION).text
    assert seen(sato) == now
    assert sato.http.get(f"/api/v1/documents/{now.document_id}").status_code == 200
    assert ito.http.get(f"/api/v1/documents/{now.document_id}").status_code == 404

    if "delete" not in shelf.lacks:
        shelf.delete(now.uri)
        assert look().counts["removed"] == 1
        assert seen(sato) is None
    audit = admin.http.get("/api/v1/admin/audit").text
    assert not [one for one in secrets(shelf) if one in audit]


@pytest.mark.long  # each connector's own tests have it away, too
def test_a_server_that_is_away_loses_nothing_and_says_so(
    shelf: Shelf, look: Callable[[], Report], admin: Person, ito: Person, sato: Person
) -> None:
    made(admin, shelf, shelf.admit("ito"))
    look()
    if "take_away" not in shelf.lacks:
        shelf.take_away()
        with pytest.raises(ApplianceError, match=shelf.missing):
            look()
    if "close" not in shelf.lacks:
        shelf.close()
        with pytest.raises(SourceUnreachable, match="つながりません"):
            look()
    assert seen(ito) and seen(sato) is None
