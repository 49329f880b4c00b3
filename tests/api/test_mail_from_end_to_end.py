"""A shared mailbox on a real server: made by an administrator, looked at, and asked about by two people."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from appliance.errors import SourceDenied, SourceUnreachable
from appliance.formats.sandbox import Sandbox
from appliance.ingest import schedule
from appliance.ingest.sync import Report, sync
from appliance.store import sources
from appliance.system import Appliance
from appliance.types import Site
from tests.api.conftest import Person
from tests.connectors.posts import PASSWORD, Post, letter

QUESTION = "青山商事への値引きはどこまで"


@pytest.fixture
def post() -> Iterator[Post]:
    one = Post()
    one.put("INBOX", letter("値引きの件", "青山商事への値引きは八分まで。", "単価は九百円。"))
    yield one
    one.close()


@pytest.fixture
def look(machine: Appliance, post: Post) -> Iterator[Callable[[], Report]]:
    """What `kura work` does when the source is due."""
    with Sandbox(machine.settings) as sandbox:

        def now() -> Report:
            source = sources.by_name(machine.engine, "代表メール")
            assert source is not None
            site = Site(post.site.ca_file, post.site.near, unseal=machine.keyring.open)
            connector = schedule.connector(machine.connectors, source, site)
            report = sync(
                machine.engine, source, connector, machine.embedder, sandbox.parse, machine.settings
            )
            machine.follower.catch_up()
            return report

        yield now


def seen(who: Person) -> dict[str, dict[str, str]]:
    """What is found of the mailbox, by title: the mail, and the file in it, which is one of its own."""
    response = who.http.post("/api/v1/search", json={"question": QUESTION})
    return {p["title"]: p for p in response.json()["passages"] if p["source"] == "代表メール"}


def test_come_moved_deleted_revoked(
    machine: Appliance,
    post: Post,
    look: Callable[[], Report],
    admin: Person,
    ito: Person,
    sato: Person,
) -> None:
    settings = post.settings | {"allow": ["group:総務部"]}  # of which ito is, and sato is not
    body = {"name": "代表メール", "kind": "imap", "settings": settings}
    made = admin.http.post("/api/v1/admin/sources", json=body)
    assert made.status_code == 201, made.text
    url = f"/api/v1/admin/sources/{made.json()['id']}"
    stored = sources.by_name(machine.engine, "代表メール")
    assert stored and PASSWORD not in made.text + str(stored.settings)

    assert dict(look().counts) == {"added": 1}
    mail = seen(ito)["値引きの件"]
    assert mail["uri"].startswith("INBOX/")
    assert seen(ito)["見積.txt"]["uri"] == mail["uri"] + " › 見積.txt"
    assert seen(sato) == {}
    assert "八分" in ito.ask(QUESTION).text
    assert "八分" not in sato.ask(QUESTION).text

    post.move(mail["uri"], "処理済み")
    assert look().counts["renewed"] == 2, "moved, and read again to be sure"
    moved = seen(ito)["値引きの件"]
    assert moved["uri"].startswith("処理済み/")
    assert moved["document_id"] == mail["document_id"]
    assert seen(ito)["見積.txt"]["uri"] == moved["uri"] + " › 見積.txt"

    settings = admin.http.get(url).json()["settings"] | {"folders": ["処理済み = user:sato"]}
    assert admin.http.patch(url, json={"settings": settings}).status_code == 200
    assert dict(look().counts) == {"renewed": 1}, "nothing was read again"
    assert seen(ito) == {} and set(seen(sato)) == {"値引きの件", "見積.txt"}

    settings |= {"password": "himitsu-x"}
    assert admin.http.patch(url, json={"settings": settings}).status_code == 200
    with pytest.raises(SourceDenied, match="サインインできません"):
        look()
    settings |= {"password": PASSWORD}
    assert admin.http.patch(url, json={"settings": settings}).status_code == 200
    assert dict(look().counts) == {"unchanged": 1}

    post.delete(moved["uri"])
    assert look().counts["removed"] == 1
    assert seen(sato) == {}
    post.stop()
    with pytest.raises(SourceUnreachable, match="つながりません"):
        look()
    audit = admin.http.get("/api/v1/admin/audit")
    assert audit.status_code == 200 and "himitsu" not in audit.text
