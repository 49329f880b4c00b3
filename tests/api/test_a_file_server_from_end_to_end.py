"""A Windows share: made by an administrator, looked at, and asked about by two people."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from appliance.errors import SourceUnreachable
from appliance.ingest import directory, schedule
from appliance.ingest.sync import Report, sync
from appliance.store import directories, sources
from appliance.system import Appliance
from appliance.types import Document, RawFile, Site
from tests.api.conftest import Person
from tests.connectors.descriptors import allow, deny
from tests.connectors.samba import DOMAIN, ITO, KURA, PASSWORD, SATO, Samba, Share, samba, share
from tests.fakes.active_directory import USER, ActiveDirectory

__all__ = ["samba", "share"]  # fixtures

QUESTION = "青山商事への値引きはどこまで"
STAFF = f"{DOMAIN}-2000"


@pytest.fixture
def look(machine: Appliance, share: Share) -> Callable[[], Report]:
    """What `kura work` does when the source is due."""

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    def now() -> Report:
        source = sources.by_name(machine.engine, "営業の棚")
        assert source is not None
        known = partial(directories.known_sids, machine.engine)
        site = Site(near=share.near, unseal=machine.keyring.open, sids=known)
        connector = schedule.connector(machine.connectors, source, site)
        report = sync(machine.engine, source, connector, machine.embedder, parse, machine.settings)
        machine.follower.catch_up()
        return report

    return now


def made(admin: Person, share: Share, **more: object) -> str:
    """The source's address."""
    settings = share.settings | {"access_minutes": 0} | more
    body = {"name": "営業の棚", "kind": "smb", "settings": settings}
    response = admin.http.post("/api/v1/admin/sources", json=body)
    assert response.status_code == 201, response.text
    assert PASSWORD not in response.text
    return f"/api/v1/admin/sources/{response.json()['id']}"


def found(who: Person) -> dict[str, str]:
    """Places and ids of the documents that answer, on the shelf."""
    response = who.http.post("/api/v1/search", json={"question": QUESTION})
    hits = response.json()["passages"]
    return {p["uri"]: p["document_id"] for p in hits if p["source"] == "営業の棚"}


def problems(admin: Person) -> dict[str, str]:
    response = admin.http.get("/api/v1/admin/documents", params={"status": "problem"})
    listed: list[dict[str, Any]] = response.json()["documents"]
    return {d["uri"]: d["problem"] for d in listed if d["source"] == "営業の棚"}


def test_created_changed_renamed_revoked_deleted(
    machine: Appliance,
    share: Share,
    look: Callable[[], Report],
    admin: Person,
    ito: Person,
    sato: Person,
) -> None:
    share.write("営業/青山商事.txt", "青山商事への値引きは八分まで。", allow(ITO))
    made(admin, share)
    stored = sources.by_name(machine.engine, "営業の棚")
    assert stored and PASSWORD not in str(stored.settings)
    assert dict(look().counts) == {"added": 1}
    (first,) = found(ito).items()
    assert first[0] == "営業/青山商事.txt" and found(sato) == {}
    assert "八分" in ito.ask(QUESTION).text and "八分" not in sato.ask(QUESTION).text
    assert dict(look().counts) == {"unchanged": 1}

    share.write("営業/青山商事.txt", "青山商事への値引きは一割五分までに改めた。", allow(ITO))
    assert look().counts["updated"] == 1
    assert "一割五分" in ito.ask(QUESTION).text

    (share.root / "営業").rename(share.root / "第一営業部")
    look()
    assert found(ito) == {"第一営業部/青山商事.txt": first[1]}, "the same document elsewhere"

    share.permit("第一営業部/青山商事.txt", deny(ITO), allow("S-1-5-11"))
    assert dict(look().counts) == {"renewed": 1, "unchanged": 1}, "and nothing was read again"
    assert found(ito) == {} and "一割五分" not in ito.ask(QUESTION).text
    assert found(sato) == {"第一営業部/青山商事.txt": first[1]}
    history = sato.http.get(f"/api/v1/documents/{first[1]}")
    assert history.status_code == 200
    assert ito.http.get(f"/api/v1/documents/{first[1]}").status_code == 404

    (share.root / "第一営業部/青山商事.txt").unlink()
    assert look().counts["removed"] == 1
    assert found(sato) == {}


def test_a_sid_that_is_not_in_the_table_grants_nobody_and_is_told_until_it_is(
    share: Share, look: Callable[[], Report], admin: Person, ito: Person, sato: Person
) -> None:
    share.write("青山商事.txt", "青山商事への値引きは八分まで。", allow(STAFF))
    url = made(admin, share)
    look()
    assert found(ito) == found(sato) == {}
    assert STAFF in problems(admin)["対応表にない人とグループ"]
    look()
    assert STAFF in problems(admin)["対応表にない人とグループ"]
    settings = admin.http.get(url).json()["settings"]
    settings["sids"].append(f"{STAFF} = group:総務部")
    assert admin.http.patch(url, json={"settings": settings}).status_code == 200
    look()
    assert set(found(ito)) == {"青山商事.txt"} and found(sato) == {}
    assert problems(admin) == {}
    assert KURA not in str(settings["password"])


def test_a_file_that_is_open_elsewhere_holds_no_other_up(
    share: Share, look: Callable[[], Report], admin: Person, ito: Person
) -> None:
    share.write("青山商事.txt", "青山商事への値引きは八分まで。", allow(ITO))
    share.write("開いている.txt", "青山商事への値引きの下書き。", allow(ITO))
    made(admin, share)
    with share.opened("開いている.txt", access=0x3, sharing=0):
        assert dict(look().counts) == {"added": 1, "failed": 1}
    assert "ほかの人が開いています" in problems(admin)["開いている.txt"]
    assert set(found(ito)) == {"青山商事.txt"}


def test_a_server_that_is_away_loses_nothing_and_says_so(
    share: Share,
    samba: Samba,
    look: Callable[[], Report],
    admin: Person,
    ito: Person,
    sato: Person,
) -> None:
    share.write("青山商事.txt", "青山商事への値引きは八分まで。", allow(SATO))
    made(admin, share)
    look()
    samba.stop()
    try:
        with pytest.raises(SourceUnreachable, match="つながりません"):
            look()
    finally:
        samba.start()
    assert set(found(sato)) == {"青山商事.txt"} and found(ito) == {}
    assert dict(look().counts) == {"unchanged": 1}


def test_groups_of_a_directory_decide_and_nobody_looks_at_the_share_again(
    machine: Appliance,
    share: Share,
    look: Callable[[], Report],
    admin: Person,
    ito: Person,
    sato: Person,
) -> None:
    """Active Directory is a fake here, the file server is real."""
    domain = ActiveDirectory()
    try:
        people = [domain.add("user", name, rid) for name, rid in (("ito", 5001), ("sato", 5002))]
        section, sales = domain.add("group", "営業一課", 1999), domain.add("group", "営業部", 2000)
        kept_out = domain.add("group", "派遣", 2001)
        domain.put(section, *people)
        domain.put(sales, section)
        own = {"server": "127.0.0.1", "port": domain.port, "security": "none", "user": USER}
        body = {"name": "本社AD", "settings": {**own, "password": PASSWORD}}
        assert admin.http.post("/api/v1/admin/directories", json=body).status_code == 201

        def follow() -> None:
            (one,) = directories.all(machine.engine)
            directories.run_now(machine.engine, one.id)
            near = frozenset({f"127.0.0.1:{domain.port}"})
            site = Site(near=near, unseal=machine.keyring.open)
            stop = threading.Event()
            assert directory.look(machine.engine, "test", machine.settings, site, stop)
            assert directories.get(machine.engine, one.id).problem is None

        share.write(
            "青山商事.txt", "青山商事への値引きは八分まで。", deny(f"{DOMAIN}-2001"), allow(STAFF)
        )
        made(admin, share, sids=[f"{KURA} = nobody"])
        look()
        assert found(ito) == found(sato) == {}, "nobody knows the SIDs yet"
        assert STAFF in problems(admin)["対応表にない人とグループ"]
        follow()
        look()
        assert set(found(ito)) == set(found(sato)) == {"青山商事.txt"} and problems(admin) == {}
        domain.put(kept_out, people[1])
        follow()
        assert set(found(ito)) == {"青山商事.txt"} and found(sato) == {}, "a denial beats it"
        domain.leave(section, people[0])
        follow()
        assert found(ito) == {}
    finally:
        domain.close()
