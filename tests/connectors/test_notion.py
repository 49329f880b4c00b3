"""Notion, against a server that was written by Notion's documentation (tests/fakes/notion.py)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.store.secrets import SECRET
from appliance.testing.contracts import ConnectorContract
from appliance.types import NOBODY, Change, Checkpoint, Cursor, Failed, RawFile, Remove, Upsert
from connectors import http, notion, notion_text
from connectors.notion import NotionConnector, NotionSettings
from tests.fakes.notion import TOKEN, Notion, id_, text

A, B, ROW, OTHER = id_(1), id_(2), id_(3), id_(4)


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notion]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    one = Notion()
    one.put(1, "値引きの手順")
    one.add(A, "paragraph", "値引きは八分まで。")
    one.add(A, "file", one.upload("見積 #1 100%.txt", "三万円".encode()))
    one.put(2, "旅費規程")
    one.add(
        B, "paragraph", {"rich_text": [*text("日当は"), *text("二千円", "https://a.example/x")]}
    )
    one.table(1, "案件一覧")
    one.put(
        3,
        "青山商事",
        table=1,
        状態={"type": "status", "status": {"name": "進行中"}},
        金額={"type": "number", "number": 30000},
        期限={"type": "date", "date": {"start": "2026-04-01", "end": "2026-04-30"}},
        担当={"type": "people", "people": [{"name": "伊藤"}, {"name": "佐藤"}]},
        区分={"type": "multi_select", "multi_select": [{"name": "新規"}, {"name": "大口"}]},
        済={"type": "checkbox", "checkbox": False},
        税込={"type": "formula", "formula": {"type": "number", "number": 33000}},
        番号={"type": "unique_id", "unique_id": {"prefix": "ANK", "number": 7}},
        資料={"type": "files", "files": [one.upload("契約.txt", b"keiyaku")]},
        関連={"type": "relation", "relation": [{"id": B}]},
        空={"type": "select", "select": None},
    )
    one.put(4, "日本橋工業", table=1)
    yield one
    one.close()


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, workspace: Notion) -> NotionConnector:
        return workspace.connector()


def told(changes: list[Change]) -> dict[str, RawFile]:
    return {c.file.uri: c.file for c in changes if isinstance(c, Upsert)}


def read(file: RawFile) -> str:
    with file.open() as stream:
        return stream.read().decode()


def run(
    one: NotionConnector, since: Cursor | None = None, *, whole: bool = True
) -> tuple[list[Change], Cursor]:
    changes = list(one.changes(since))
    assert isinstance(changes[-1], Checkpoint)
    assert changes[-1].complete is whole
    return changes, changes[-1].cursor


# --- what is read -----------------------------------------------------------------


def test_pages_rows_and_files(workspace: Notion) -> None:
    files = told(run(workspace.connector())[0])
    assert {file.title for file in files.values()} == {
        "値引きの手順",
        "見積 #1 100%.txt",
        "旅費規程",
        "青山商事",
        "契約.txt",
        "日本橋工業",
    }
    assert files[A].modified_at == datetime(2026, 4, 1, 0, 1, tzinfo=UTC)
    assert read(files[A]) == (
        "# 値引きの手順\n\n値引きは八分まで。\n\n添付: 見積 #1 100%.txt\n\n\n"
        f"https://www.notion.so/{A.replace('-', '')}\n"
    )
    assert "日当は[二千円](https://a.example/x)" in read(files[B])
    row = read(files[ROW])
    assert row.startswith("# 青山商事\n\n- データベース: 案件一覧\n")
    for fact in (
        "状態: 進行中",
        "金額: 30000",
        "期限: 2026-04-01 〜 2026-04-30",
        "担当: 伊藤、佐藤",
        "区分: 新規、大口",
        "済: いいえ",
        "税込: 33000",
        "番号: ANK-7",
        "資料: 契約.txt",
    ):
        assert f"\n- {fact}\n" in row
    assert "空:" not in row and B not in row
    assert sorted(read(f) for f in files.values() if f.title.endswith(".txt")) == [
        "keiyaku",
        "三万円",
    ]
    assert not workspace.refused
    assert not workspace.leaked, "the token is shown to no host of files"


def test_blocks_as_markdown(workspace: Notion) -> None:
    page = workspace.put(9, "見本")
    workspace.add(page, "heading_2", "見出し")
    first = workspace.add(page, "bulleted_list_item", "一")
    workspace.add(first, "to_do", {"rich_text": text("二"), "checked": True})
    workspace.add(page, "numbered_list_item", "甲")
    workspace.add(page, "numbered_list_item", "乙\n続き")
    toggle = workspace.add(page, "toggle", "開く")
    workspace.add(toggle, "paragraph", "中身")
    workspace.add(page, "code", {"rich_text": text("a = '```'\nb"), "language": "python"})
    table = workspace.add(page, "table", {"table_width": 2, "has_column_header": True})
    workspace.add(table, "table_row", {"cells": [text("品名"), text("数|量")]})
    workspace.add(table, "table_row", {"cells": [text("釘"), []]})
    columns = workspace.add(page, "column_list", {})
    workspace.add(workspace.add(columns, "column", {}), "callout", "注意")
    synced = workspace.add(page, "synced_block", {"synced_from": {"block_id": id_(1, 7)}})
    workspace.add(synced, "quote", "引用")
    workspace.add(page, "equation", {"expression": "x^2"})
    workspace.add(page, "bookmark", {"url": "https://a.example/b", "caption": text("参考")})
    workspace.add(
        page, "image", {"type": "external", "external": {"url": "https://a.example/c.png"}}
    )
    workspace.add(page, "child_page", {"title": "子のページ"})
    workspace.add(page, "unsupported", {})
    workspace.add(page, "divider", {})
    trashed = workspace.add(page, "paragraph", "捨てた")
    workspace.blocks[trashed]["in_trash"] = True
    said = read(told(run(workspace.connector())[0])[page])
    order = [
        "## 見出し\n",
        "- 一\n  - [x] 二\n1. 甲\n2. 乙\n   続き\n",
        "開く\n\n中身\n",
        "````python\na = '```'\nb\n````\n",
        "| 品名 | 数\\|量 |\n| --- | --- |\n| 釘 |  |\n",
        "> 注意\n",
        "> 引用\n",
        "$$x^2$$\n",
        "参考 https://a.example/b\n",
        "添付: https://a.example/c.png\n",
        "子のページ\n",
        "読めない部分",
    ]
    assert [said.find(one) for one in order] == sorted(said.find(one) for one in order)
    assert said.startswith("# 見本\n\n## 見出し")
    assert all(one in said for one in order)
    assert "捨てた" not in said


def test_a_list_that_is_cut_into_pages(workspace: Notion) -> None:
    for n in range(7):
        workspace.add(A, "paragraph", f"段落 {n}")
    workspace.page = 2
    files = told(run(workspace.connector())[0])
    assert len(files) == 6
    assert all(f"段落 {n}" in read(files[A]) for n in range(7))


def test_no_files(workspace: Notion) -> None:
    assert set(told(run(workspace.connector(attachments=False))[0])) == {A, B, ROW, OTHER}


def test_who_may_read_is_for_the_administrator_to_say(workspace: Notion) -> None:
    assert told(run(workspace.connector(allow=[]))[0])[A].access == NOBODY


# --- what changes -----------------------------------------------------------------


def test_what_did_not_change_costs_no_request(workspace: Notion) -> None:
    first, cursor = run(workspace.connector())
    workspace.asked.clear()
    again, second = run(workspace.connector(), cursor)
    assert {u: f.version for u, f in told(again).items()} == {
        u: f.version for u, f in told(first).items()
    }
    assert second == cursor
    assert sorted(workspace.asked) == [f"data_sources/{id_(1, 9)}/query", "search", "search"]
    for uri, file in told(again).items():
        assert read(file) == read(told(first)[uri])


def test_created_changed_renamed_trashed_and_unshared(workspace: Notion) -> None:
    first, cursor = run(workspace.connector())
    workspace.put(1, "値引きの手順 (改)")
    workspace.put(5, "新しい")
    workspace.pages[ROW]["in_trash"] = True
    workspace.closed.add(OTHER)
    changes, _ = run(workspace.connector(), cursor)
    files = told(changes)
    assert {u for u in files if "/" not in u} == {A, B, id_(5)}
    assert files[A].title == "値引きの手順 (改)"
    assert files[A].version != told(first)[A].version
    assert files[B].version == told(first)[B].version
    assert not [uri for uri in files if uri.startswith(ROW)]
    for uri in (ROW, OTHER):
        with pytest.raises(NotVisible):
            workspace.connector().file(uri)


def test_a_file_that_was_replaced_has_another_version(workspace: Notion) -> None:
    first, cursor = run(workspace.connector())
    block = workspace.inside[A][1]
    workspace.blocks[block]["file"] = workspace.upload("見積 #1 100%.txt", "四万円".encode())
    workspace.put(1, "値引きの手順")
    files = told(run(workspace.connector(), cursor)[0])
    uri = f"{A}/{block}/見積 #1 100%.txt"
    assert files[uri].version != told(first)[uri].version
    assert read(files[uri]) == "四万円"
    workspace.blocks[block]["in_trash"] = True
    with pytest.raises(SourceBusy, match="もうありません"):
        files[uri].open()


def test_what_a_search_leaves_out_is_not_gone(workspace: Notion) -> None:
    first, cursor = run(workspace.connector())
    workspace.unfound |= {A, ROW}
    workspace.asked.clear()
    assert told(run(workspace.connector(), cursor)[0]).keys() == told(first).keys()
    assert [one for one in workspace.asked if one.startswith("pages/")] == [f"pages/{A}"]
    assert told(run(workspace.connector())[0]).keys() >= {B, ROW, OTHER}, (
        "a row is told by its table"
    )


def test_a_change_within_the_minute_is_not_missed(
    workspace: Notion, monkeypatch: pytest.MonkeyPatch
) -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0).isoformat()
    workspace.put(1, "値引きの手順", at=minute)
    first, cursor = run(workspace.connector())
    workspace.add(A, "paragraph", "同じ分の追記")
    monkeypatch.setattr(notion, "SETTLED", notion.SETTLED * 0)
    again = told(run(workspace.connector(), cursor)[0])
    assert again[A].version != told(first)[A].version
    assert "同じ分の追記" in read(again[A])


def test_a_table_of_more_rows_than_a_query_tells_of(workspace: Notion) -> None:
    for n in range(20, 30):
        workspace.unfound.add(workspace.put(n, f"行 {n}", table=1))
    workspace.most = 4
    changes, _ = run(workspace.connector())
    assert {id_(n) for n in range(20, 30)} <= told(changes).keys()
    for n in range(20, 30):
        workspace.pages[id_(n)]["created_time"] = "2026-03-02T00:00:00.000Z"
    changes, _ = run(workspace.connector())
    assert [c.uri for c in changes if isinstance(c, Failed)] == [f"{id_(1, 9)}/"], "it is said"
    assert {A, B, ROW, OTHER} <= told(changes).keys()


def test_what_notion_reckons_is_no_change(workspace: Notion) -> None:
    first, cursor = run(workspace.connector())
    properties = workspace.pages[ROW]["properties"]
    properties["税込"]["formula"]["number"] = 34000
    assert told(run(workspace.connector(), cursor)[0])[ROW].version == told(first)[ROW].version
    properties["金額"]["number"] = 31000
    files = told(run(workspace.connector(), cursor)[0])
    assert files[ROW].version != told(first)[ROW].version
    assert "金額: 31000" in read(files[ROW])


def test_three_thousand_rows_without_a_request_each(workspace: Notion) -> None:
    for n in range(100, 3100):
        workspace.put(n, f"行 {n}", table=1)
    known = {
        page: notion.Known(f"{p['last_edited_time']}:{notion_text.digest(p)}", "", "")
        for page, p in workspace.pages.items()
    }
    changes, _ = run(workspace.connector(), notion.save(known))
    assert len(told(changes)) == 3004
    assert len(workspace.asked) < 70


# --- faults -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["half", "drop", 500, 429, 409, 529, "repeat", "short", "cursor"])
@pytest.mark.parametrize("where", ["search", f"data_sources/{id_(1, 9)}/query"])
def test_an_error_in_the_middle_takes_nothing_away(
    workspace: Notion, where: str, fault: str | int
) -> None:
    workspace.page = 1
    first, cursor = run(workspace.connector())
    workspace.asked.clear()
    workspace.cut = lambda path, count: fault if path == where and count >= 2 else None
    changes: list[Change] = []
    with pytest.raises((SourceUnreachable, SourceBusy)):
        for change in workspace.connector().changes(cursor):
            changes.append(change)
    assert not [c for c in changes if isinstance(c, Remove)]
    last = changes[-1]
    assert isinstance(last, Checkpoint) and not last.complete
    workspace.cut = lambda path, count: None
    assert told(run(workspace.connector(), last.cursor)[0]).keys() == told(first).keys()


def test_a_conflict_passes(workspace: Notion) -> None:
    workspace.cut = lambda path, count: 409 if count == 1 else None
    assert len(told(run(workspace.connector())[0])) == 6


@pytest.mark.parametrize("fault", [400, 403, 500, "half", "drop"])
def test_one_page_that_does_not_open_hides_no_other(workspace: Notion, fault: str | int) -> None:
    first, cursor = run(workspace.connector())
    workspace.put(1, "値引きの手順")
    workspace.cut = lambda path, _: fault if path == f"blocks/{A}/children" else None
    if fault in ("half", "drop"):
        with pytest.raises(SourceUnreachable):
            run(workspace.connector(), cursor)
        return
    changes, cursor = run(workspace.connector(), cursor)
    assert [(c.uri, c.transient) for c in changes if isinstance(c, Failed)] == [(A, fault == 500)]
    assert told(changes).keys() | {A} == told(first).keys(), "its files are still there"
    workspace.cut = lambda path, _: None
    assert told(run(workspace.connector(), cursor)[0]).keys() == told(first).keys()


def test_what_was_read_before_an_error_is_not_read_again(workspace: Notion) -> None:
    for n in range(20, 40):
        workspace.put(n, f"頁 {n}", at=f"2026-03-01T00:{n}:00.000Z")
    workspace.cut = lambda path, _: (
        429 if path.startswith("blocks/") and len(workspace.asked) > 15 else None
    )
    changes: list[Change] = []
    with pytest.raises(SourceBusy):
        for change in workspace.connector().changes(None):
            changes.append(change)
    assert len([c for c in changes if isinstance(c, Failed)]) == notion.BUSY - 1
    done = [uri for uri in told(changes) if "/" not in uri]
    assert len(done) > 5
    last = changes[-1]
    assert isinstance(last, Checkpoint) and not last.complete
    workspace.cut = lambda path, _: None
    workspace.asked.clear()
    assert len(told(run(workspace.connector(), last.cursor)[0])) == 26
    assert not [uri for uri in done if f"blocks/{uri}/children" in workspace.asked]


def test_odd_pages_and_a_link_elsewhere(workspace: Notion) -> None:
    workspace.pages[B]["properties"]["名前"] = {"type": "title", "title": ["not a thing"]}
    trap = workspace.upload("罠.txt", b"")
    workspace.add(A, "pdf", trap | {"file": {"url": "http://127.0.0.2:9/x", "expiry_time": None}})
    changes, _ = run(workspace.connector())
    assert [c.uri for c in changes if isinstance(c, Failed)] == [B]
    trapped = next(f for f in told(changes).values() if f.title == "罠.txt")
    with pytest.raises(SourceDenied, match="接続先ではない"):
        trapped.open()


def test_a_page_without_end(workspace: Notion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notion_text, "MOST_BLOCKS", 1)
    changes, _ = run(workspace.connector())
    assert [(c.uri, c.transient) for c in changes if isinstance(c, Failed)] == [(A, False)]
    assert {B, ROW, OTHER} <= told(changes).keys()


def test_a_link_that_is_no_longer_good(workspace: Notion) -> None:
    file = next(f for f in told(run(workspace.connector())[0]).values() if "見積" in f.title)
    workspace.links = 1000
    assert read(file) == "三万円", "each time by a new one"
    workspace.bytes.clear()
    with pytest.raises(SourceUnreachable):
        file.open()


# --- what is wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"token": "ntn_wrong"}, SourceDenied, "シークレット"),
        ({"allow": ["sato"]}, SourceMisconfigured, "閲覧できる人"),
    ],
)
def test_what_is_wrong_is_said(
    workspace: Notion, settings: dict[str, Any], error: type[ApplianceError], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        workspace.connector(**settings).check()
    assert "wrong" not in str(raised.value)


def test_nothing_shared_and_no_right(workspace: Notion) -> None:
    workspace.readable = False
    with pytest.raises(SourceDenied, match="コンテンツを読み取る"):
        workspace.connector().check()
    workspace.readable = True
    workspace.closed |= {*workspace.pages, *workspace.tables}
    with pytest.raises(SourceMisconfigured, match="コネクト"):
        workspace.connector().check()


def test_another_server_is_not_notion(workspace: Notion) -> None:
    with pytest.raises(SourceMisconfigured, match="Notion の API ではありません"):
        workspace.connector(url=workspace.files_url, files=[]).check()
    workspace.close()
    with pytest.raises(SourceUnreachable, match="つながりません"):
        workspace.connector().check()


def test_a_wait_of_notion_is_kept(workspace: Notion) -> None:
    workspace.cut = lambda path, _: 429
    with pytest.raises(SourceBusy) as raised:
        workspace.connector().check()
    assert raised.value.retry_after_s == 40


def test_settings() -> None:
    settings = NotionSettings(token=TOKEN)
    assert TOKEN not in repr(settings)
    assert SECRET.search("token")
    with pytest.raises(ValidationError):
        NotionSettings(token=TOKEN, files=["files.notion.com"])
