"""A feed of news: made by an administrator, followed, and asked about by two people."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from appliance.errors import SourceUnreachable
from appliance.formats.sandbox import Sandbox
from appliance.ingest import schedule
from appliance.ingest.sync import Report, sync
from appliance.store import sources
from appliance.system import Appliance
from appliance.types import Site
from connectors import http
from tests.api.conftest import Person
from tests.connectors.intranet import Intranet
from tests.connectors.test_feed import item, rss


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Intranet]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    one = Intranet()
    one.put("/news.xml", rss(item(1, "停電は三日の夜です。")))
    yield one
    one.close()


@pytest.fixture
def look(machine: Appliance, site: Intranet) -> Iterator[Callable[[], Report]]:
    """What `kura work` does when the source is due."""
    with Sandbox(machine.settings) as sandbox:

        def now() -> Report:
            source = sources.by_name(machine.engine, "社内報")
            assert source is not None
            told = Site(near=frozenset({site.near}), unseal=machine.keyring.open)
            connector = schedule.connector(machine.connectors, source, told)
            report = sync(
                machine.engine, source, connector, machine.embedder, sandbox.parse, machine.settings
            )
            machine.follower.catch_up()
            return report

        yield now


def seen(who: Person) -> str:
    response = who.http.post("/api/v1/search", json={"question": "停電はいつ"})
    return "".join(p["text"] for p in response.json()["passages"] if p["source"] == "社内報")


def test_come_fallen_out_changed_revoked(
    site: Intranet, look: Callable[[], Report], admin: Person, ito: Person, sato: Person
) -> None:
    settings = {"urls": [f"{site.url}/news.xml"], "allow": ["group:総務部"], "per_second": 0}
    body = {"name": "社内報", "kind": "feed", "settings": settings}
    made = admin.http.post("/api/v1/admin/sources", json=body)
    assert made.status_code == 201, made.text
    url = f"/api/v1/admin/sources/{made.json()['id']}"
    assert dict(look().counts) == {"added": 1}
    assert "三日の夜" in seen(ito)
    assert not seen(sato)

    site.put("/news.xml", rss(item(1, "停電は四日の夜に変わりました。"), item(2, "健診の案内。")))
    assert dict(look().counts) == {"updated": 1, "added": 1}
    site.put("/news.xml", rss(item(2, "健診の案内。")))
    assert dict(look().counts) == {"unchanged": 2}
    assert "四日の夜" in seen(ito)

    settings["allow"] = ["user:sato"]
    assert admin.http.patch(url, json={"settings": settings}).status_code == 200
    assert dict(look().counts) == {"renewed": 1, "removed": 1}, "nobody keeps what fell out"
    assert not seen(ito)
    assert "健診" in seen(sato)

    site.close()
    with pytest.raises(SourceUnreachable, match="つながりません"):
        look()
    assert "健診" in seen(sato)
