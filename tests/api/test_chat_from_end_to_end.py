"""Slack and Notion as an administrator adds them: looked at, asked about, changed and shut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from appliance.ingest import schedule
from appliance.ingest.sync import Report, sync
from appliance.store import sources
from appliance.system import Appliance
from appliance.types import Document, RawFile, Site
from connectors import slack_api
from connectors.slack_talk import JAPAN
from tests.api.conftest import Person
from tests.fakes import notion as notion_fake
from tests.fakes import slack as slack_fake
from tests.fakes.notion import Notion
from tests.fakes.slack import Slack


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slack]:
    monkeypatch.setattr(slack_api, "A_MINUTE", dict.fromkeys(slack_api.A_MINUTE, 0))
    one = Slack()
    yield one
    one.close()


@pytest.fixture
def notion() -> Iterator[Notion]:
    one = Notion()
    yield one
    one.close()


def look(machine: Appliance, near: frozenset[str]) -> Report:
    """What `kura work` does when the source is due."""

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    source = sources.by_name(machine.engine, "会話")
    assert source is not None
    site = Site(near=near, unseal=machine.keyring.open)
    connector = schedule.connector(machine.connectors, source, site)
    report = sync(machine.engine, source, connector, machine.embedder, parse, machine.settings)
    machine.follower.catch_up()
    return report


def made(admin: Person, kind: str, settings: dict[str, Any]) -> None:
    body = {"name": "会話", "kind": kind, "settings": settings}
    answer = admin.http.post("/api/v1/admin/sources", json=body)
    assert answer.status_code == 201, answer.text
    assert settings["token"] not in answer.text


def seen(who: Person, question: str) -> set[str]:
    response = who.http.post("/api/v1/search", json={"question": question})
    return {p["uri"] for p in response.json()["passages"] if p["source"] == "会話"}


def test_what_is_said_in_slack(
    machine: Appliance, slack: Slack, admin: Person, ito: Person, sato: Person
) -> None:
    now = datetime.now(JAPAN).replace(hour=0, minute=0, second=1, microsecond=0).timestamp() - 86400
    asked, answered = f"{now:.6f}", f"{now + 60:.6f}"
    slack.channel("C1", "営業", "U1", "U2")
    slack.channel("G1", "役員会", "U1", private=True)
    slack.say("C1", asked, "青山商事の値引きはどこまで?")
    slack.reply("C1", asked, answered, "八分までです。")
    slack.say("G1", asked, "青山商事を買収する。")
    people = ["ito@example.co.jp = user:ito", "sato@example.co.jp = user:sato"]
    settings = {"url": slack.url, "files_url": slack.files_url, "token": slack_fake.TOKEN}
    made(admin, "slack", settings | {"allow": ["everyone"], "people": people})
    near = frozenset({slack.near, slack.files_near})
    check: Callable[[], Report] = lambda: look(machine, near)  # noqa: E731

    assert dict(check().counts) == {"added": 2}
    assert dict(check().counts) == {"unchanged": 2}
    thread = f"C1/{asked}"
    assert thread in seen(sato, "青山商事の値引き")
    assert not [uri for uri in seen(sato, "青山商事の買収") if uri.startswith("G1/")]
    assert [uri for uri in seen(ito, "青山商事の買収") if uri.startswith("G1/")]

    slack.members["G1"] = ["UBOT", "U2"]
    slack.messages["C1"][answered]["text"] = "一割五分までに改めました。"
    slack.channels["C1"]["name"] = "営業本部"
    assert dict(check().counts) == {"renewed": 2, "updated": 1}
    assert not [uri for uri in seen(ito, "青山商事の買収") if uri.startswith("G1/")]
    assert [uri for uri in seen(sato, "青山商事の買収") if uri.startswith("G1/")]
    said = ito.http.post("/api/v1/search", json={"question": "青山商事の値引き"}).text
    assert "一割五分" in said and "八分" not in said and "営業本部" in said

    slack.messages["C1"].clear()
    slack.channels["G1"]["is_member"] = False
    assert check().counts["removed"] == 2
    assert not seen(sato, "青山商事の値引きと買収")


def test_what_is_written_in_notion(
    machine: Appliance, notion: Notion, admin: Person, ito: Person, sato: Person
) -> None:
    page, _ = notion.put(1, "値引きの手順"), notion.put(2, "目次")
    notion.add(page, "paragraph", "青山商事への値引きは八分まで。")
    notion.add(page, "file", notion.upload("見積.txt", "青山商事の見積は三万円。".encode()))
    settings = {"url": notion.url, "files": [notion.files_url], "token": notion_fake.TOKEN}
    made(admin, "notion", settings | {"allow": ["group:総務部"], "per_second": 0})
    near = frozenset({notion.near, notion.files_near})

    assert dict(look(machine, near).counts) == {"added": 3}
    assert dict(look(machine, near).counts) == {"unchanged": 3}
    assert len([uri for uri in seen(ito, "青山商事の値引きと見積") if page in uri]) == 2
    assert not seen(sato, "青山商事の値引きと見積")

    block = notion.inside[page][0]
    notion.blocks[block]["paragraph"]["rich_text"] = notion_fake.text("青山商事は一割五分まで。")
    notion.put(1, "値引きの手順")
    assert dict(look(machine, near).counts) == {"updated": 1, "renewed": 1, "unchanged": 1}
    assert "一割五分" in ito.http.post("/api/v1/search", json={"question": "青山商事"}).text

    notion.pages[page]["in_trash"] = True
    assert look(machine, near).counts["removed"] == 2
    assert not [uri for uri in seen(ito, "青山商事の値引きと見積") if page in uri]
