"""A source on a real server: made by an administrator, looked at, and asked about by two people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from appliance.errors import SourceMisconfigured, SourceUnreachable
from appliance.ingest import schedule
from appliance.ingest.sync import Report, sync
from appliance.store import sources
from appliance.store.secrets import SECRET
from appliance.system import Appliance
from appliance.types import Document, RawFile, Site
from tests.api.conftest import Person
from tests.connectors.mariadbs import MariaDb
from tests.connectors.repositories import Repository
from tests.connectors.rows import Rows
from tests.connectors.shells import Shell
from tests.connectors.stores import Store
from tests.connectors.test_webdav import Share
from tests.connectors.wikis import MediaWiki

FIRST, SECOND = "営業/青山商事.txt", "青山商事(改).txt"


class Shared(Protocol):
    """A real server with documents on it, which the test changes as its users would."""

    kind: str
    missing: str  # what is said where its documents were

    @property
    def near(self) -> str: ...
    @property
    def settings(self) -> dict[str, object]: ...
    def put(self, uri: str, text: str) -> None: ...
    def move(self, uri: str, to: str) -> None: ...
    def delete(self, uri: str) -> None: ...
    def take_away(self) -> None: ...
    def close(self) -> None: ...


def webdav(tmp_path: Path) -> Shared:
    root = tmp_path / "root"
    root.mkdir()
    return Share(root)


SERVERS: dict[str, Callable[[Path], Shared]] = {
    "webdav": webdav,
    "s3": lambda tmp_path: Store(),
    "sftp": lambda tmp_path: Shell(tmp_path / "sshd"),
    "sql": Rows,
    "mariadb": MariaDb,
    "git": Repository,
    "mediawiki": MediaWiki,
}


@pytest.fixture(params=SERVERS)
def share(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shared]:
    one = SERVERS[request.param](tmp_path)
    one.put(FIRST, "青山商事への値引きは八分まで。")
    yield one
    one.close()


@pytest.fixture
def look(machine: Appliance, share: Shared) -> Callable[[], Report]:
    """What `kura work` does when the source is due."""

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    def now() -> Report:
        source = sources.by_name(machine.engine, "営業の棚")
        assert source is not None
        site = Site(near=frozenset({share.near}), unseal=machine.keyring.open)
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
    share: Shared,
    look: Callable[[], Report],
    admin: Person,
    ito: Person,
    sato: Person,
) -> None:
    secrets = [str(v) for name, v in share.settings.items() if SECRET.search(name)]
    settings = share.settings | {"allow": ["group:総務部"]}  # of which ito is, and sato is not
    body = {"name": "営業の棚", "kind": share.kind, "settings": settings}
    made = admin.http.post("/api/v1/admin/sources", json=body)
    assert made.status_code == 201, made.text
    assert secrets and not [one for one in secrets if one in made.text]
    url = f"/api/v1/admin/sources/{made.json()['id']}"

    stored = sources.by_name(machine.engine, "営業の棚")
    assert stored and not [one for one in secrets if one in str(stored.settings)]
    assert dict(look().counts) == {"added": 1}
    with_cursor = sources.get(machine.engine, stored.id)
    assert admin.http.patch(url, json={"settings": made.json()["settings"]}).status_code == 200
    same = sources.get(machine.engine, stored.id)
    assert (same.settings, same.cursor) == (with_cursor.settings, with_cursor.cursor)
    assert seen(ito, "青山商事の値引き") == {FIRST}
    assert seen(sato, "青山商事の値引き") == set()
    answer = ito.ask("青山商事への値引きはどこまで").json()
    assert answer["passages"][0]["uri"] == FIRST
    assert "八分" not in sato.ask("青山商事への値引きはどこまで").text

    share.put(FIRST, "青山商事への値引きは一割五分までに改めた。")
    assert dict(look().counts) == {"updated": 1}
    assert "一割五分" in ito.http.post("/api/v1/search", json={"question": "青山商事の値引き"}).text

    share.move(FIRST, SECOND)
    look()
    assert seen(ito, "青山商事の値引き") == {SECOND}

    settings = admin.http.get(url).json()["settings"] | {"allow": ["user:sato"]}
    assert admin.http.patch(url, json={"settings": settings}).status_code == 200
    assert dict(look().counts) == {"renewed": 1}, "the password stayed, and nothing was read again"
    assert seen(ito, "青山商事の値引き") == set()
    assert seen(sato, "青山商事の値引き") == {SECOND}

    share.delete(SECOND)
    assert look().counts["removed"] == 1
    assert seen(sato, "青山商事の値引き") == set()


def test_a_server_that_is_away_loses_nothing_and_says_so(
    share: Shared, look: Callable[[], Report], admin: Person, ito: Person
) -> None:
    settings = share.settings | {"allow": ["everyone"]}
    body = {"name": "営業の棚", "kind": share.kind, "settings": settings}
    admin.http.post("/api/v1/admin/sources", json=body)
    look()
    share.take_away()
    with pytest.raises(SourceMisconfigured, match=share.missing):
        look()
    share.close()
    with pytest.raises(SourceUnreachable, match="つながりません"):
        look()
    assert seen(ito, "青山商事の値引き") == {FIRST}
