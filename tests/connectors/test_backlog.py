"""Backlog, against a server that was written by Nulab's documentation (tests/fakes/backlog.py)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.store.secrets import SECRET
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    Access,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Moved,
    Principal,
    RawFile,
    Remove,
    Upsert,
    admits,
)
from connectors import http
from connectors.backlog import BacklogConnector, BacklogSettings
from connectors.listing import held
from tests.fakes.backlog import KEY, Backlog, user


@pytest.fixture
def backlog(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backlog]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    one = Backlog()
    one.issue(
        1,
        "値引きの相談",
        description="八分まで。",
        assignee={"id": 1, "name": "伊藤"},
        category=[{"id": 1, "name": "契約"}, {"id": 2, "name": "見積"}],
        customFields=[{"id": 1, "name": "金額", "value": 30000}],
        dueDate="2026-04-30T00:00:00Z",
        attachments=[one.attach("見積.txt", "三万円".encode())],
    )
    one.issue(2, "納期")
    one.comments[1] = [comment(n) for n in range(1, 151)]
    one.wikis[7] = {"id": 7, "projectId": 1, "name": "手順/受注", "content": "FAX で受ける。"} | {
        "created": "2026-04-01T00:00:00Z",
        "updated": "2026-04-02T00:00:00Z",
        "attachments": [one.attach("図.txt", b"zu")],
    }
    one.share("", "規程", None)
    one.share("規程", "旅費 #1 100%.txt", "日当は二千円".encode())
    one.share("", "案内.txt", b"annai")
    yield one
    one.close()


def comment(number: int) -> dict[str, Any]:
    content = None if number == 3 else f"返事 {number}"
    who = {"id": 1, "name": "佐藤"}
    return {"id": number, "content": content, "created": "2026-04-01T23:00:00Z", "createdUser": who}


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, backlog: Backlog) -> BacklogConnector:
        return backlog.connector(rights="backlog", same_names=True)


def told(changes: list[Change]) -> dict[str, RawFile]:
    return {c.file.uri: c.file for c in changes if isinstance(c, Upsert)}


def read(file: RawFile) -> str:
    with file.open() as stream:
        return stream.read().decode()


def run(
    one: BacklogConnector, since: Cursor | None = None, *, whole: bool = True
) -> tuple[list[Change], Cursor]:
    changes = list(one.changes(since))
    assert isinstance(changes[-1], Checkpoint)
    assert changes[-1].complete is whole
    return changes, changes[-1].cursor


def may(access: Access, *names: str) -> bool:
    return admits(access, frozenset(Principal(name) for name in (*names, "everyone")))


def test_issues_wiki_pages_and_files(backlog: Backlog) -> None:
    files = told(run(backlog.connector())[0])
    assert {uri: file.title for uri, file in files.items()} == {
        "SALES/SALES-1": "SALES-1 値引きの相談",
        "SALES/SALES-1/1/見積.txt": "見積.txt",
        "SALES/SALES-2": "SALES-2 納期",
        "SALES/wiki/7": "手順/受注",
        "SALES/wiki/7/2/図.txt": "図.txt",
        "SALES/files/規程/旅費 #1 100%.txt": "旅費 #1 100%.txt",
        "SALES/files/案内.txt": "案内.txt",
    }
    page = read(files["SALES/SALES-1"])
    order = [
        "# SALES-1 値引きの相談",
        "- 担当者: 伊藤",
        "- カテゴリー: 契約、見積",
        "- 期限日: 2026-04-30",
    ]
    order += [
        "- 金額: 30000",
        "八分まで。",
        "## コメント 2026-04-02 08:00 佐藤\n\n返事 1\n",
        "返事 2\n",
    ]
    order += ["返事 150\n", f"{backlog.url}/view/SALES-1"]
    assert [page.find(one) for one in order] == sorted(page.find(one) for one in order)
    assert page.startswith(order[0])
    assert "None" not in page
    assert page.count("## コメント") == 149, "a change without words is none"
    assert read(files["SALES/SALES-1/1/見積.txt"]) == "三万円"
    assert read(files["SALES/wiki/7"]) == "# 手順/受注\n\nFAX で受ける。\n"
    assert read(files["SALES/files/規程/旅費 #1 100%.txt"]) == "日当は二千円"
    assert files["SALES/SALES-1"].modified_at == datetime(2026, 4, 1, 0, 1, tzinfo=UTC)
    assert not backlog.refused


def test_only_what_is_wanted(backlog: Backlog) -> None:
    only = {"wiki": False, "files": False, "attachments": False}
    assert set(told(run(backlog.connector(**only))[0])) == {"SALES/SALES-1", "SALES/SALES-2"}


def test_created_changed_moved_and_deleted(backlog: Backlog) -> None:
    backlog.projects["DEV"] = 2
    first, cursor = run(backlog.connector(wiki=False, files=False))
    backlog.asked.clear()
    same, _ = run(backlog.connector(wiki=False, files=False), cursor)
    assert {u: f.version for u, f in told(same).items()} == {
        u: f.version for u, f in told(first).items()
    }
    assert not [one for one in backlog.asked if "comments" in one or "attachments" in one]

    backlog.issue(2, "納期の変更")
    backlog.issue(3, "新しい")
    backlog.issues[1] |= {"projectId": 2, "issueKey": "DEV-9"}
    changes, cursor = run(backlog.connector(wiki=False, files=False), cursor)
    files = told(changes)
    assert set(files) == {"DEV/DEV-9", "DEV/DEV-9/1/見積.txt", "SALES/SALES-2", "SALES/SALES-3"}
    assert [(c.old_uri, c.uri) for c in changes if isinstance(c, Moved)] == [
        ("SALES/SALES-1", "DEV/DEV-9")
    ]
    assert files["SALES/SALES-2"].version != told(first)["SALES/SALES-2"].version
    del backlog.issues[3]
    assert "SALES/SALES-3" not in told(run(backlog.connector(), cursor)[0])


def test_what_is_read_is_what_was_listed(backlog: Backlog) -> None:
    file = told(run(backlog.connector())[0])["SALES/SALES-2"]
    backlog.issue(2, "変わった")
    with pytest.raises(SourceBusy, match="編集中"):
        read(file)


def test_many_issues_without_a_request_each(backlog: Backlog) -> None:
    for n in range(10, 3010):
        backlog.issue(n, f"課題 {n}")
    files = told(run(backlog.connector(wiki=False, files=False))[0])
    assert len(files) == 3003
    assert backlog.asked.count("issues") == 32
    assert len(backlog.asked) < 40


# --- faults -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["half", "drop", 500, 429, "repeat"])
def test_an_error_in_the_middle_takes_nothing_away(backlog: Backlog, fault: str | int) -> None:
    for n in range(10, 310):
        backlog.issue(n, f"課題 {n}")
    _, cursor = run(backlog.connector())
    backlog.asked.clear()
    backlog.cut = lambda path, count: fault if (path, count) == ("issues", 3) else None
    changes: list[Change] = []
    try:
        changes += backlog.connector().changes(cursor)
    except SourceUnreachable:
        assert fault not in (500, 429)
    assert not [c for c in changes if isinstance(c, Remove)]
    assert not [c for c in changes if isinstance(c, Checkpoint) and c.complete]
    backlog.cut = lambda path, count: None
    assert len(told(run(backlog.connector(), cursor)[0])) == 307


def test_short_pages_lose_nothing_and_an_issue_that_goes_meanwhile_is_noticed(
    backlog: Backlog,
) -> None:
    for n in range(10, 310):
        backlog.issue(n, f"課題 {n}")
    backlog.cut = lambda path, count: "short" if path == "issues" and count < 4 else None
    _, cursor = run(backlog.connector())

    def meanwhile(path: str, count: int) -> None:
        if (path, count) == ("issues", 2):
            del backlog.issues[1], backlog.issues[2]

    backlog.asked.clear()
    backlog.cut = meanwhile
    changes, _ = run(backlog.connector(), cursor, whole=False)
    assert [c.transient for c in changes if isinstance(c, Failed)] == [True]
    assert not [c for c in changes if isinstance(c, Remove)]


def test_one_project_that_is_closed_hides_no_other(backlog: Backlog) -> None:
    backlog.projects["DEV"] = 2
    backlog.issue(5, "開発", project="DEV")
    one = backlog.connector(projects=["dev", "SALES"])
    _, cursor = run(one)
    backlog.cut = lambda path, count: 403 if path.startswith("projects/SALES") else None
    del backlog.issues[5]
    changes, cursor = run(one, cursor, whole=False)
    assert [c.uri for c in changes if isinstance(c, Failed)] == ["SALES/"]
    assert [c for c in changes if isinstance(c, Remove)] == [Remove("DEV/DEV-5")]
    backlog.cut = lambda path, count: None
    assert len(told(run(one, cursor)[0])) == 7


def test_a_wiki_whose_listing_says_nothing_of_files_and_one_that_is_switched_off(
    backlog: Backlog,
) -> None:
    backlog.silent = True
    _, cursor = run(backlog.connector())
    assert "SALES/wiki/7/2/図.txt" in held(cursor)
    backlog.flags = {"useWiki": False, "useFileSharing": False}
    assert not [
        uri for uri in told(run(backlog.connector())[0]) if "/wiki/" in uri or "/files/" in uri
    ]


def test_it_waits_for_the_next_minute_when_none_is_left(
    backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    one = backlog.connector()
    one._http.sleep = slept.append
    backlog.left, backlog.reset = "0", int(time.time()) + 40
    one.check()
    assert len(slept) == 1
    assert 30 < slept[0] <= 40


# --- who may read -----------------------------------------------------------------


def test_of_whom_the_administrator_admits_those_that_take_part(backlog: Backlog) -> None:
    backlog.users["SALES"] += [user("viewer", 4), user("guest", 6), user("mori")]
    people = ["sato@example.co.jp = user:satou", "mori = nobody", "viewer = user:viewer"]
    one = backlog.connector(rights="backlog", people=people, same_names=True, allow=["group:社員"])
    for file in told(run(one)[0]).values():
        assert may(file.access, "user:ito", "group:社員")
        assert may(file.access, "user:satou", "group:社員")
        assert not may(file.access, "user:ito"), "whom the administrator leaves out"
        for name in ("user:sato", "user:viewer", "user:guest", "user:mori"):
            assert not may(file.access, name, "group:社員")
    _, cursor = run(one)
    backlog.users["SALES"] = [user("sato", 1, "sato@example.co.jp")]
    file = told(run(one, cursor)[0])["SALES/SALES-1"]
    assert not may(file.access, "user:ito", "group:社員")
    assert not may(told(run(backlog.connector(rights="backlog"))[0])["SALES/SALES-1"].access)


# --- settings and signing in ------------------------------------------------------


def test_what_is_wrong_is_said(backlog: Backlog) -> None:
    def why(**more: Any) -> str:
        with pytest.raises((SourceDenied, SourceMisconfigured, SourceUnreachable)) as caught:
            backlog.connector(**more).check()
        assert KEY not in str(caught.value)
        return str(caught.value)

    assert "API キーが違うか" in why(api_key="wrong")
    assert "DEV というプロジェクトがないか" in why(projects=["DEV"])
    assert "の形ではありません" in why(people=["sato"])
    backlog.close()
    assert "つながりません" in why()


def test_settings() -> None:
    said: dict[str, Any] = {"url": "https://example.backlog.com/", "api_key": "abc"}
    settings = BacklogSettings.model_validate(said)
    assert settings.url == "https://example.backlog.com"
    assert "abc" not in repr(settings)
    assert SECRET.search("api_key")
    wrong: list[dict[str, Any]] = [{"url": "example"}, {"projects": ["../x"]}]
    for more in wrong:
        with pytest.raises(ValidationError):
            BacklogSettings.model_validate(said | more)


@pytest.mark.parametrize(
    "uri",
    [
        "SALES",
        "DEV/DEV-1",
        "SALES/SALES-99",
        "SALES/wiki/9",
        "SALES/files/../x",
        "SALES/files/ない/x",
    ],
)
def test_what_is_not_there(backlog: Backlog, uri: str) -> None:
    with pytest.raises(NotVisible):
        backlog.connector().file(uri)
