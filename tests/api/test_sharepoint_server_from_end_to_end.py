"""SharePoint Server: made by an administrator, looked at, and asked about by two people."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from appliance.errors import SourceUnreachable
from appliance.ingest import schedule
from appliance.ingest.sync import Report, sync
from appliance.store import sources
from appliance.system import Appliance
from appliance.types import Document, RawFile, Site
from tests.api.conftest import Person
from tests.fakes.sharepoint_server import SharePoint, may, site_group, user
from tests.fakes.windows import PASSWORD

PLACE = "Shared%20Documents"


@pytest.fixture
def server() -> Iterator[SharePoint]:
    one = SharePoint()
    one.sites["/sites/eigyo"].own = [may(site_group(7, "営業 メンバー"))]
    one.groups[7] = [user("ito", 1001)]
    one.put("営業/青山商事.txt", "青山商事への値引きは八分まで。")
    yield one
    one.close()


@pytest.fixture
def look(machine: Appliance, server: SharePoint) -> Callable[[], Report]:
    """What `kura work` does when the source is due."""

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    def now() -> Report:
        source = sources.by_name(machine.engine, "営業の棚")
        assert source is not None
        site = Site(near=frozenset({server.near}), unseal=machine.keyring.open)
        connector = schedule.connector(machine.connectors, source, site)
        report = sync(machine.engine, source, connector, machine.embedder, parse, machine.settings)
        machine.follower.catch_up()
        return report

    return now


def test_created_changed_moved_revoked_deleted(
    machine: Appliance,
    server: SharePoint,
    look: Callable[[], Report],
    admin: Person,
    ito: Person,
    sato: Person,
) -> None:
    names = ["EXAMPLE\\ito = user:ito", "EXAMPLE\\sato = user:sato"]
    settings = server.settings | {"names": names}
    body = {"name": "営業の棚", "kind": "sharepoint_server", "settings": settings}
    made = admin.http.post("/api/v1/admin/sources", json=body)
    assert made.status_code == 201 and PASSWORD not in made.text
    stored = sources.by_name(machine.engine, "営業の棚")
    assert stored and PASSWORD not in str(stored.settings)

    def seen(who: Person) -> dict[str, str]:
        response = who.http.post("/api/v1/search", json={"question": "青山商事の値引き"})
        hits = [p for p in response.json()["passages"] if p["source"] == "営業の棚"]
        return {p["uri"].partition(f"{PLACE}/")[2]: p["document_id"] for p in hits}

    assert dict(look().counts) == {"added": 1}
    first = seen(ito)
    assert set(first) == {"営業/青山商事.txt"} and seen(sato) == {}

    server.put("営業/青山商事.txt", "青山商事への値引きは一割五分までに改めた。")
    assert dict(look().counts) == {"updated": 1}
    assert "一割五分" in ito.http.post("/api/v1/search", json={"question": "青山商事の値引き"}).text

    server.move("営業/青山商事.txt", "本社/青山商事(改).txt")
    look()
    assert seen(ito) == {"本社/青山商事(改).txt": first["営業/青山商事.txt"]}, "the same document"

    server.groups[7] = [user("sato", 1002)]
    asked = len(server.asked)
    look()
    assert not [one for one in server.asked[asked:] if "$value" in one], "nothing was read again"
    assert seen(ito) == {} and set(seen(sato)) == {"本社/青山商事(改).txt"}

    server.delete("本社/青山商事(改).txt")
    assert look().counts["removed"] == 1
    assert seen(sato) == {}

    server.put("最後.txt", "青山商事への値引きはもうない。")
    look()
    server.close()
    with pytest.raises(SourceUnreachable, match="つながりません"):
        look()
    assert set(seen(sato)) == {"最後.txt"}
