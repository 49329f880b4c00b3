"""A site of the intranet: made by an administrator, crawled, and asked about by two people."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from appliance.errors import SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.formats.sandbox import Sandbox
from appliance.ingest import schedule
from appliance.ingest.sync import Report, sync
from appliance.store import sources
from appliance.system import Appliance
from appliance.types import Site
from connectors import http
from tests.api.conftest import Person
from tests.connectors.intranet import PASSWORD, Intranet, html

QUESTION = "青山商事への値引きはどこまで"
PAGE = "/営業/値引き.html"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Intranet]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    one = Intranet()
    one.guarded = "/"
    one.put("/", html(f'<a href="{PAGE}">値引き</a>', title="入口"))
    page = html("<p>青山商事への値引きは八分まで。</p>", '<meta charset="Shift_JIS">', "値引きの表")
    one.put(PAGE, page.encode("cp932"))
    yield one
    one.close()


@pytest.fixture
def look(machine: Appliance, site: Intranet) -> Iterator[Callable[[], Report]]:
    """What `kura work` does when the source is due."""
    with Sandbox(machine.settings) as sandbox:

        def now() -> Report:
            source = sources.by_name(machine.engine, "社内サイト")
            assert source is not None
            told = Site(near=frozenset({site.near}), unseal=machine.keyring.open)
            connector = schedule.connector(machine.connectors, source, told)
            report = sync(
                machine.engine, source, connector, machine.embedder, sandbox.parse, machine.settings
            )
            machine.follower.catch_up()
            return report

        yield now


def seen(who: Person) -> dict[str, str]:
    response = who.http.post("/api/v1/search", json={"question": QUESTION})
    passages = response.json()["passages"]
    return {p["title"]: p["text"] for p in passages if p["source"] == "社内サイト"}


def test_come_changed_deleted_revoked(
    machine: Appliance,
    site: Intranet,
    look: Callable[[], Report],
    admin: Person,
    ito: Person,
    sato: Person,
) -> None:
    form = {"sign_in": "form", "user": "ito", "password": PASSWORD, "form_url": f"{site.url}/login"}
    settings = site.settings | form | {"allow": [], "readers": [f"{site.url}/営業/ = group:総務部"]}
    body = {"name": "社内サイト", "kind": "web", "settings": settings}
    made = admin.http.post("/api/v1/admin/sources", json=body)
    assert made.status_code == 201, made.text
    assert PASSWORD not in made.text
    stored = sources.by_name(machine.engine, "社内サイト")
    assert stored and PASSWORD not in str(stored.settings)
    url = f"/api/v1/admin/sources/{made.json()['id']}"

    assert dict(look().counts) == {"added": 2}
    assert "八分" in seen(ito)["値引きの表"]
    assert not seen(sato)
    assert "八分" in ito.ask(QUESTION).text
    assert "八分" not in sato.ask(QUESTION).text
    assert dict(look().counts) == {"unchanged": 2}

    page = html("<p>青山商事への値引きは一割五分までに改めた。</p>", title="値引きの表")
    site.put(PAGE, page)
    site.sessions.clear()
    assert dict(look().counts) == {"updated": 1, "unchanged": 1}
    assert "一割五分" in seen(ito)["値引きの表"]

    settings = admin.http.get(url).json()["settings"] | {"readers": [f"{site.url}/ = user:sato"]}
    assert admin.http.patch(url, json={"settings": settings}).status_code == 200
    assert dict(look().counts) == {"renewed": 2}, "the password stayed, and nothing was read again"
    assert not seen(ito)
    assert "一割五分" in seen(sato)["値引きの表"]

    site.delete(PAGE)
    assert look().counts["removed"] == 1
    assert set(seen(sato)) <= {"入口"}


def test_a_site_that_is_away_or_closed_loses_nothing_and_says_so(
    site: Intranet, look: Callable[[], Report], admin: Person, ito: Person
) -> None:
    site.guarded = ""
    settings = site.settings | {"allow": ["everyone"]}
    body = {"name": "社内サイト", "kind": "web", "settings": settings}
    admin.http.post("/api/v1/admin/sources", json=body)
    look()
    kept = site.pages.pop("/")
    with pytest.raises(SourceMisconfigured, match="がありません"):
        look()
    site.pages["/"] = kept
    site.basic = "Basic nobody"
    with pytest.raises(SourceDenied, match="サインインできません"):
        look()
    site.close()
    with pytest.raises(SourceUnreachable, match="つながりません"):
        look()
    assert "値引きの表" in seen(ito)
