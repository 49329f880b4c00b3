"""A share over WebDAV: made by an administrator, looked at, and asked about by two people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.errors import SourceMisconfigured, SourceUnreachable
from appliance.ingest import schedule
from appliance.ingest.sync import Report, sync
from appliance.store import sources
from appliance.system import Appliance
from appliance.types import Document, RawFile, Site
from tests.api.conftest import Person
from tests.connectors.test_webdav import Share

Found = Callable[[Person, str], set[str]]


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Share]:
    root = tmp_path / "root"
    (root / "営業").mkdir(parents=True)
    (root / "営業/青山商事.txt").write_text("青山商事への値引きは八分まで。", "utf-8")
    one = Share(root)
    yield one
    one.close()


@pytest.fixture
def look(machine: Appliance, share: Share) -> Callable[[], Report]:
    """What `kura work` does when the source is due."""

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    def now() -> Report:
        source = sources.by_name(machine.engine, "営業の棚")
        assert source is not None
        near = frozenset({f"127.0.0.1:{share.port}"})
        site = Site(near=near, unseal=machine.keyring.open)
        connector = schedule.connector(machine.connectors, source, site)
        report = sync(machine.engine, source, connector, machine.embedder, parse, machine.settings)
        machine.follower.catch_up()
        return report

    return now


def seen(who: Person, question: str) -> set[str]:
    response = who.http.post("/api/v1/search", json={"question": question})
    return {p["uri"] for p in response.json()["passages"] if p["source"] == "営業の棚"}


def test_created_changed_renamed_deleted_revoked(
    machine: Appliance,
    share: Share,
    look: Callable[[], Report],
    admin: Person,
    ito: Person,
    sato: Person,
) -> None:
    settings = {
        "url": f"http://127.0.0.1:{share.port}/共有/",
        "user": "ito",
        "password": "himitsu",
        "allow": ["group:総務部"],  # of which ito is, and sato is not
    }
    body = {"name": "営業の棚", "kind": "webdav", "settings": settings}
    made = admin.http.post("/api/v1/admin/sources", json=body)
    assert made.status_code == 201, made.text
    assert "himitsu" not in made.text
    url = f"/api/v1/admin/sources/{made.json()['id']}"

    stored = sources.by_name(machine.engine, "営業の棚")
    assert stored and "himitsu" not in str(stored.settings)
    assert dict(look().counts) == {"added": 1}
    with_cursor = sources.get(machine.engine, stored.id)
    assert admin.http.patch(url, json={"settings": made.json()["settings"]}).status_code == 200
    same = sources.get(machine.engine, stored.id)
    assert (same.settings, same.cursor) == (with_cursor.settings, with_cursor.cursor)
    assert seen(ito, "青山商事の値引き") == {"営業/青山商事.txt"}
    assert seen(sato, "青山商事の値引き") == set()
    answer = ito.ask("青山商事への値引きはどこまで").json()
    assert answer["passages"][0]["uri"] == "営業/青山商事.txt"
    assert "八分" not in sato.ask("青山商事への値引きはどこまで").text

    (share.root / "営業/青山商事.txt").write_text(
        "青山商事への値引きは一割五分までに改めた。", "utf-8"
    )
    assert dict(look().counts) == {"updated": 1}
    assert "一割五分" in ito.http.post("/api/v1/search", json={"question": "青山商事の値引き"}).text

    (share.root / "営業/青山商事.txt").rename(share.root / "青山商事(改).txt")
    look()
    assert seen(ito, "青山商事の値引き") == {"青山商事(改).txt"}

    settings = admin.http.get(url).json()["settings"] | {"allow": ["user:sato"]}
    assert admin.http.patch(url, json={"settings": settings}).status_code == 200
    assert dict(look().counts) == {"renewed": 1}, "the password stayed, and nothing was read again"
    assert seen(ito, "青山商事の値引き") == set()
    assert seen(sato, "青山商事の値引き") == {"青山商事(改).txt"}

    (share.root / "青山商事(改).txt").unlink()
    assert look().counts["removed"] == 1
    assert seen(sato, "青山商事の値引き") == set()


def test_a_server_that_is_away_loses_nothing_and_says_so(
    share: Share, look: Callable[[], Report], admin: Person, ito: Person
) -> None:
    settings = {"url": f"http://127.0.0.1:{share.port}/共有/", "user": "ito", "allow": ["everyone"]}
    body = {"name": "営業の棚", "kind": "webdav", "settings": settings | {"password": "himitsu"}}
    admin.http.post("/api/v1/admin/sources", json=body)
    look()
    share.root.rename(share.root.parent / "away")
    with pytest.raises(SourceMisconfigured, match="/共有/ がありません"):
        look()
    share.close()
    with pytest.raises(SourceUnreachable, match="つながりません"):
        look()
    assert seen(ito, "青山商事の値引き") == {"営業/青山商事.txt"}
