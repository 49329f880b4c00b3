"""Garoon, against a server that was written by Cybozu's documentation (tests/fakes/garoon.py)."""

from __future__ import annotations

import io
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
from connectors import garoon_api, http
from connectors.garoon import GaroonConnector, GaroonSettings
from tests.fakes.garoon import PASSWORD, Garoon


@pytest.fixture
def garoon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Garoon]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    one = Garoon()
    one.categories |= {4: ("規程/細則", 3)}
    one.notice(
        1,
        "夏季休業のお知らせ",
        "八月十二日から\n十六日まで。",
        files=[one.attach("日程.txt", "十二日".encode())],
        start_datetime="2026-04-01T00:00:00Z",
    )
    one.notice(2, "旅費の改定", category=4, html_body="<p>日当は<b>二千円</b><script>x</script>")
    for n in range(1, 151):
        one.comment(1, f"返事 {n}")
    one.folders |= {5: ("規程", 1), 6: ("旅費", 5)}
    one.file("案内.txt", b"annai")
    one.file("旅費規程 #1.txt", "日当は二千円".encode() * 100, 6)
    one.space(12, "新製品")
    one.discuss(12, 7, "名前の案", "くら\nそれとも蔵")
    one.discuss(12, 8, "発売日", "<p>五月", isHtmlBody=True)
    data = "図面".encode()
    file = {"id": str(one.keep(data)), "name": "図.txt", "size": str(len(data))}
    one.space_files[12] = [file | {"createdAt": "2026-04-01T09:00:00+09:00"}]
    yield one
    one.close()


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, garoon: Garoon) -> GaroonConnector:
        return garoon.connector()


def told(changes: list[Change]) -> dict[str, RawFile]:
    return {c.file.uri: c.file for c in changes if isinstance(c, Upsert)}


def read(file: RawFile) -> str:
    with file.open() as stream:
        return stream.read().decode()


def run(
    one: GaroonConnector, since: Cursor | None = None, *, whole: bool = True
) -> tuple[list[Change], Cursor]:
    changes = list(one.changes(since))
    assert isinstance(changes[-1], Checkpoint)
    assert changes[-1].complete is whole
    return changes, changes[-1].cursor


def may(access: Access, *names: str) -> bool:
    return admits(access, frozenset(Principal(name) for name in (*names, "everyone")))


@pytest.mark.parametrize("door", ["/g", "/cgi-bin/cbgrn/grn.cgi", "/scripts/cbgrn/grn.exe"])
def test_every_edition(door: str) -> None:
    one = Garoon(door)
    one.notice(1, "お知らせ")
    one.connector().check()
    assert set(told(run(one.connector())[0])) == {"掲示板/総務部/1"}
    assert not one.refused
    one.close()


def test_notices_files_and_discussions(garoon: Garoon) -> None:
    files = told(run(garoon.connector())[0])
    assert {uri: file.title for uri, file in files.items()} == {
        "掲示板/総務部/1": "夏季休業のお知らせ",
        "掲示板/総務部/1/1/日程.txt": "日程.txt",
        "掲示板/総務部/規程／細則/2": "旅費の改定",
        "ファイル管理/2/案内.txt": "案内.txt",
        "ファイル管理/規程/旅費/3/旅費規程 #1.txt": "旅費規程 #1.txt",
        "スペース/新製品 (12)/7": "名前の案",
        "スペース/新製品 (12)/8": "発売日",
        "スペース/新製品 (12)/ファイル/4/図.txt": "図.txt",
    }
    page = read(files["掲示板/総務部/1"])
    order = [
        "<h1>夏季休業のお知らせ</h1>",
        "<li>カテゴリー: 総務部</li>",
        "<li>差出人: 佐藤</li>",
        "<li>更新: 2026-04-02 10:02</li>",
        "<li>掲示期間: 2026-04-01 〜 </li>",
        "八月十二日から<br>十六日まで。",
        "<h2>コメント 1 2026-04-03 08:00 伊藤</h2>\n<p>返事 1</p>",
        "返事 2<",
        "返事 150<",
    ]
    assert [page.find(one) for one in order] == sorted(page.find(one) for one in order)
    assert page.find(order[0]) > 0
    assert page.count("<h2>") == 150
    assert "<b>二千円</b>" in read(files["掲示板/総務部/規程／細則/2"])
    assert read(files["掲示板/総務部/1/1/日程.txt"]) == "十二日"
    assert read(files["ファイル管理/規程/旅費/3/旅費規程 #1.txt"]) == "日当は二千円" * 100
    assert "くら<br>それとも蔵" in read(files["スペース/新製品 (12)/7"])
    assert "<div><p>五月</p></div>" in read(files["スペース/新製品 (12)/8"])
    assert read(files["スペース/新製品 (12)/ファイル/4/図.txt"]) == "図面"
    at = datetime(2026, 4, 1, 1, 57, 10, tzinfo=UTC)
    assert files["ファイル管理/2/案内.txt"].modified_at == at
    assert not garoon.refused


def test_only_what_is_wanted(garoon: Garoon) -> None:
    only = {"spaces": False, "space_files": False, "attachments": False, "exclude": ["*/規程"]}
    files = told(run(garoon.connector(**only))[0])
    assert {*files} == {"掲示板/総務部/1", "掲示板/総務部/規程／細則/2", "ファイル管理/2/案内.txt"}
    with pytest.raises(NotVisible):
        garoon.connector(**only).file("ファイル管理/規程/旅費/3/旅費規程 #1.txt")


def test_created_changed_renamed_moved_and_deleted(garoon: Garoon) -> None:
    first, cursor = run(garoon.connector())
    garoon.asked.clear()
    same, cursor = run(garoon.connector(), cursor)
    assert {u: f.version for u, f in told(same).items()} == {
        u: f.version for u, f in told(first).items()
    }
    assert not [one for one in garoon.asked if "Download" in one or "Follows" in one]

    garoon.notice(2, "旅費の再改定", category=3)
    garoon.comment(1, "もう一つ")
    garoon.folders[5] = ("社内規程", 1)
    garoon.files[2] |= {"modify_time": "2026-04-02T10:00:00+0900", "version": 2}
    del garoon.discussions[12][0]
    garoon.space(12, "新製品 2")
    changes, cursor = run(garoon.connector(), cursor)
    files, before = told(changes), told(first)
    moved = {c.old_uri: c.uri for c in changes if isinstance(c, Moved)}
    assert moved == {
        "掲示板/総務部/規程／細則/2": "掲示板/総務部/2",
        "ファイル管理/規程/旅費/3/旅費規程 #1.txt": "ファイル管理/社内規程/旅費/3/旅費規程 #1.txt",
        "スペース/新製品 (12)/8": "スペース/新製品 2 (12)/8",
        "スペース/新製品 (12)/ファイル/4/図.txt": "スペース/新製品 2 (12)/ファイル/4/図.txt",
    }
    assert "スペース/新製品 2 (12)/7" not in files
    again = ("掲示板/総務部/1", "ファイル管理/2/案内.txt")
    assert all(files[uri].version != before[uri].version for uri in again)
    assert "もう一つ" in read(files["掲示板/総務部/1"])
    garoon.topics[1]["expired"] = "true"
    garoon.topics[2]["published"] = "false"
    files = told(run(garoon.connector(), cursor)[0])
    assert not [uri for uri in files if uri.startswith("掲示板/")], "their term is over"


def test_two_files_of_one_name_in_a_folder(garoon: Garoon) -> None:
    garoon.file("案内.txt", b"zwei")
    files = told(run(garoon.connector())[0])
    assert read(files["ファイル管理/5/案内.txt"]) == "zwei"
    assert read(files["ファイル管理/2/案内.txt"]) == "annai"


def test_what_is_read_is_what_was_listed(garoon: Garoon) -> None:
    files = told(run(garoon.connector())[0])
    garoon.notice(1, "変わった", category=4)
    garoon.discuss(12, 7, "変わった", updatedAt="2026-04-03T09:00:00+09:00")
    for uri in ("掲示板/総務部/1", "スペース/新製品 (12)/7"):
        with pytest.raises(SourceBusy, match="編集中"):
            read(files[uri])
    del garoon.topics[1], garoon.discussions[12][:]
    for uri in ("掲示板/総務部/1", "スペース/新製品 (12)/7"):
        with pytest.raises(SourceBusy, match="消えました"):
            read(files[uri])


def test_a_discussion_is_found_where_it_went(garoon: Garoon) -> None:
    files = told(run(garoon.connector())[0])
    garoon.discussions[12].reverse()
    assert "くら" in read(files["スペース/新製品 (12)/7"])


def test_many_notices_without_a_request_each(garoon: Garoon) -> None:
    for n in range(10, 3010):
        garoon.notice(n, f"掲示 {n}")
    files = told(run(garoon.connector(spaces=False, space_files=False, cabinet=False))[0])
    assert len(files) == 3003
    assert len(garoon.asked) == 1 + 3 + 61 + 1


def test_a_notice_that_goes_while_it_is_listed_takes_no_other(garoon: Garoon) -> None:
    for n in range(10, 60):
        garoon.notice(n, f"掲示 {n}")
    _, cursor = run(garoon.connector())

    def meanwhile(what: str, count: int) -> None:
        if what == "BulletinGetTopicByIds":
            garoon.topics.pop(33, None)

    garoon.cut = meanwhile
    changes, _ = run(garoon.connector(), cursor)
    assert len([uri for uri in told(changes) if uri.startswith("掲示板/")]) == 52


def test_a_notice_that_is_not_told_is_asked_for_alone(garoon: Garoon) -> None:
    for n in range(10, 20):
        garoon.notice(n, f"掲示 {n}")

    def once(what: str, count: int) -> None:
        garoon.untold = {13, 14} if count == 1 else {14}

    garoon.cut = lambda what, count: once(what, count) if what.endswith("TopicByIds") else None
    files = told(run(garoon.connector())[0])
    assert "掲示板/総務部/13" in files
    assert "掲示板/総務部/14" not in files
    assert "掲示板/総務部/19" in files


# --- faults -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["half", "drop", 500, 429])
@pytest.mark.parametrize(
    "where", ["BulletinGetTopicByIds", "CabinetGetFileInfo", "space/12/discussions"]
)
def test_an_error_in_the_middle_takes_nothing_away(
    garoon: Garoon, where: str, fault: str | int
) -> None:
    for n in range(10, 310):
        garoon.discuss(12, n, f"話 {n}")
        garoon.notice(n, f"掲示 {n}")
    _, cursor = run(garoon.connector())
    garoon.asked.clear()
    garoon.cut = lambda what, count: fault if (what, count) == (where, 2) else None
    changes: list[Change] = []
    try:
        changes += garoon.connector().changes(cursor)
    except SourceUnreachable:
        assert fault not in (500, 429)
    else:
        assert [c.transient for c in changes if isinstance(c, Failed)] == [True]
    assert not [c for c in changes if isinstance(c, Remove)]
    assert not [c for c in changes if isinstance(c, Checkpoint) and c.complete]
    garoon.cut = lambda what, count: None
    assert len(told(run(garoon.connector(), cursor)[0])) == 608


def test_a_page_that_repeats_and_one_that_shrinks(garoon: Garoon) -> None:
    for n in range(10, 310):
        garoon.discuss(12, n, f"話 {n}")
    _, cursor = run(garoon.connector())

    def meanwhile(what: str, count: int) -> None:
        if what == "space/12/discussions" and count == 2:
            del garoon.discussions[12][0]

    for fault in (lambda what, count: "repeat" if "discussions" in what else None, meanwhile):
        garoon.asked.clear()
        garoon.cut = fault
        changes, _ = run(garoon.connector(), cursor, whole=False)
        assert [c.uri for c in changes if isinstance(c, Failed)] == ["スペース/新製品 (12)/"]
        assert not [c for c in changes if isinstance(c, Remove)]


def test_comments_that_never_end(garoon: Garoon, monkeypatch: pytest.MonkeyPatch) -> None:
    file = told(run(garoon.connector())[0])["掲示板/総務部/1"]

    page = garoon._BulletinGetFollows

    def stuck(returns: Any, asked: Any) -> None:
        asked.set("offset", "0")
        page(returns, asked)

    monkeypatch.setattr(garoon, "_BulletinGetFollows", stuck)
    with pytest.raises(SourceUnreachable, match="繰り返します"):
        read(file)


@pytest.mark.parametrize("fault", ["half", "drop"])
def test_a_file_that_is_cut_short(garoon: Garoon, fault: str) -> None:
    files = told(run(garoon.connector())[0])
    garoon.cut = lambda what, count: fault if "ownload" in what or "admin/files" in what else None
    for uri in (
        "ファイル管理/規程/旅費/3/旅費規程 #1.txt",
        "スペース/新製品 (12)/ファイル/4/図.txt",
    ):
        with pytest.raises(SourceUnreachable):
            read(files[uri])


@pytest.mark.parametrize("size", [0, 1, 2, 3, 700, 5000])
def test_a_file_in_blocks_of_any_size(
    garoon: Garoon, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(garoon_api, "_BLOCK", 97)
    data = bytes(n % 251 for n in range(size))
    id_ = garoon.file("a.bin", data)
    with told(run(garoon.connector())[0])[f"ファイル管理/{id_}/a.bin"].open() as stream:
        assert stream.read() == data
    for said in (b'{"x":"1","content":"AAE\\/', b"<r><content>AAE=", b"<content>A*E=</content>"):
        with pytest.raises(SourceUnreachable):
            garoon_api.decoded(io.BytesIO(said), "http://x/")
    said = b'{"name":"\\"content\\":\\"","content":"AP\\/\\/"}'
    with garoon_api.decoded(io.BytesIO(said), "http://x/") as stream:
        assert stream.read() == b"\x00\xff\xff"


def test_a_folder_a_category_and_an_area_that_are_closed_hide_no_other(garoon: Garoon) -> None:
    _, cursor = run(garoon.connector())
    garoon.closed = {"hid/6", "category/4"}
    garoon.topics.pop(1)
    changes, cursor = run(garoon.connector(), cursor, whole=False)
    assert {c.uri for c in changes if isinstance(c, Failed)} == {
        "掲示板/総務部/規程／細則/",
        "ファイル管理/規程/旅費/",
    }
    gone = {c.uri for c in changes if isinstance(c, Remove)}
    assert gone == {"掲示板/総務部/1", "掲示板/総務部/1/1/日程.txt"}
    garoon.closed = {"Cabinet"}
    garoon.manages = False
    changes, cursor = run(garoon.connector(), cursor, whole=False)
    assert {c.uri for c in changes if isinstance(c, Failed)} == {
        "ファイル管理/",
        "スペース/新製品 (12)/",
    }
    assert "掲示板/総務部/規程／細則/2" in told(changes)
    assert not [c for c in changes if isinstance(c, Remove)]
    garoon.closed, garoon.manages = set(), True
    assert len(told(run(garoon.connector(), cursor)[0])) == 6


def test_characters_that_no_xml_has(garoon: Garoon, monkeypatch: pytest.MonkeyPatch) -> None:
    garoon.notice(2, "旅費 TAB の改定")
    send = garoon._send
    monkeypatch.setattr(
        garoon,
        "_send",
        lambda h, s, body, more: send(h, s, body.replace(b"TAB", b"\x08\x0b\x01"), more),
    )
    assert told(run(garoon.connector())[0])["掲示板/総務部/2"].title == "旅費  の改定"


# --- who may read -----------------------------------------------------------------


def test_readers_by_place(garoon: Garoon) -> None:
    garoon.space(13, "新製品", public=False)
    garoon.discuss(13, 20, "秘密")
    readers = ["掲示板/総務部/規程／細則 = group:役員", "ファイル管理/規程/* = user:ito"]
    one = garoon.connector(allow=["group:社員"], readers=[*readers, "スペース/* = group:社員"])
    files = told(run(one)[0])
    assert may(files["掲示板/総務部/規程／細則/2"].access, "group:役員")
    assert not may(files["掲示板/総務部/規程／細則/2"].access, "group:社員")
    assert may(files["掲示板/総務部/1/1/日程.txt"].access, "group:社員")
    assert may(files["ファイル管理/規程/旅費/3/旅費規程 #1.txt"].access, "user:ito")
    assert not may(files["ファイル管理/規程/旅費/3/旅費規程 #1.txt"].access, "group:社員")
    assert may(files["スペース/新製品 (12)/7"].access, "group:社員")
    secret = "スペース/新製品 (13)/20"
    assert not may(files[secret].access, "group:社員"), "a pattern does not mean it"
    one = garoon.connector(readers=["スペース/* = everyone", "スペース/新製品 (13) = group:開発部"])
    files = told(run(one)[0])
    assert may(files[secret].access, "group:開発部")
    assert not admits(files[secret].access, frozenset({Principal("everyone")}))
    assert not may(told(run(garoon.connector(allow=[]))[0])["掲示板/総務部/1"].access, "user:ito")


# --- settings and signing in ------------------------------------------------------


def test_what_is_wrong_is_said(garoon: Garoon) -> None:
    def why(**more: Any) -> str:
        with pytest.raises((SourceDenied, SourceMisconfigured, SourceUnreachable)) as caught:
            garoon.connector(**more).check()
        assert PASSWORD not in str(caught.value)
        return str(caught.value)

    assert "サインインできません" in why(password="wrong")
    assert "サインインできません" in why(password="wrong", bulletin=False, cabinet=False)
    assert "の形ではありません" in why(readers=["総務部"])
    assert "Garoon の URL" in why(url=f"http://{garoon.near}/x")
    garoon.closed = {"Bulletin"}
    assert "掲示板とその API の利用を許してください" in why()
    garoon.closed = {"space"}
    assert "6.17 から" in why()
    garoon.closed, garoon.manages = set(), False
    assert "スペースを読む権限" in why()
    with pytest.raises(SourceDenied):
        list(garoon.connector(password="wrong").changes(None))
    garoon.close()
    assert "つながりません" in why()


def test_it_waits_as_long_as_it_is_told(garoon: Garoon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ATTEMPTS", 2)
    slept: list[float] = []
    one = garoon.connector(cabinet=False)
    one._api._http.sleep = slept.append
    garoon.retry_after = "7"
    garoon.cut = lambda what, count: 429 if count == 1 else None
    one.check()
    assert slept == [7.0, 7.0, 7.0]


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("example", "https://example.cybozu.com/g"),
        ("https://example.cybozu.com/", "https://example.cybozu.com/g"),
        ("https://example.cybozu.com/g/index.csp?", "https://example.cybozu.com/g"),
        ("http://g.local/cgi-bin/cbgrn/grn.cgi/index?", "http://g.local/cgi-bin/cbgrn/grn.cgi"),
    ],
)
def test_urls(url: str, meant: str) -> None:
    said = {"url": url, "user": "kura", "password": "abc"}
    settings = GaroonSettings.model_validate(said)
    assert settings.url == meant
    assert "abc" not in repr(settings)
    assert SECRET.search("password")


@pytest.mark.parametrize(
    "more", [{"url": "http://g.local"}, {"user": ""}, {"bulletin": False, "cabinet": False}]
)
def test_settings_that_cannot_be(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GaroonSettings.model_validate({"url": "example", "user": "a", "password": "b"} | more)


@pytest.mark.parametrize(
    "uri",
    [
        "掲示板",
        "掲示板/1",
        "掲示板/総務部/99",
        "掲示板/総務部/1/1/別名.txt",
        "ファイル管理/3/旅費規程 #1.txt",
        "スペース/新製品 (99)/7",
        "ほか/1",
    ],
)
def test_what_is_not_there(garoon: Garoon, uri: str) -> None:
    with pytest.raises(NotVisible):
        garoon.connector().file(uri)
