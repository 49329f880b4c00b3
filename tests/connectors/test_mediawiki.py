"""MediaWiki against a real one (Debian's, on SQLite), and against one that answers as it likes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Change,
    Checkpoint,
    Failed,
    Layer,
    Moved,
    Principal,
    Remove,
    Site,
    Upsert,
)
from connectors import http, mediawiki
from connectors.mediawiki import MediaWikiConnector, MediaWikiSettings
from tests.connectors.test_http import Server, says
from tests.connectors.wikis import ADMIN, MediaWiki

PRIVATE = "$wgGroupPermissions['*']['read'] = false;"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaWiki]:
    """With a few pages, for tests that change nothing."""
    one = MediaWiki(tmp_path_factory.mktemp("wiki"), PRIVATE)
    one.put("規程/旅費 & 日当", "宿泊費は'''12,000円'''。\n== 日当 ==\n二千円。")
    one.put("Project:案内", "受付は1階。")
    one.put("旅費", "#転送 [[規程/旅費 & 日当]]")
    one.put("下書き/規程", "まだ。")
    one.upload("単価表.txt", "単価は百円。".encode())
    yield one
    one.close()


@pytest.fixture
def wiki(tmp_path: Path) -> Iterator[MediaWiki]:
    one = MediaWiki(tmp_path)
    yield one
    one.close()


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, served: MediaWiki) -> MediaWikiConnector:
        return served.connector(user="Kanri", password=ADMIN)


def files(changes: list[Change]) -> dict[str, str]:
    found = {}
    for change in changes:
        if isinstance(change, Upsert):
            with change.file.open() as stream:
                found[change.file.uri] = stream.read().decode()
    return found


def uris(changes: list[Change]) -> list[str]:
    return [c.file.uri for c in changes if isinstance(c, Upsert)]


def cursor(changes: list[Change]) -> Any:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def told(changes: list[Change]) -> set[tuple[str, ...]]:
    """What moved and what went."""
    moved = {(c.old_uri, c.uri) for c in changes if isinstance(c, Moved)}
    return moved | {(c.uri,) for c in changes if isinstance(c, Remove)}


def test_pages_and_files_are_read_for_whom_the_administrator_admits(served: MediaWiki) -> None:
    changes = list(served.connector(exclude=["下書き"], user="Kanri", password=ADMIN).changes(None))
    found = files(changes)
    assert set(found) == {"規程/旅費 & 日当", "ファイル:単価表.txt"}
    page = found["規程/旅費 & 日当"]
    assert "<h1>規程/旅費 &amp; 日当</h1>" in page and "<b>12,000円</b>" in page
    assert "編集" not in page and "/w/index.php?curid=" in page
    assert found["ファイル:単価表.txt"] == "単価は百円。"
    one = next(c.file for c in changes if isinstance(c, Upsert))
    assert one.access == (Layer(frozenset({Principal("group:営業部")})),)
    assert one.modified_at.year >= 2026
    closed = served.connector(allow=[]).changes(None)
    assert all(c.file.access == NOBODY for c in closed if isinstance(c, Upsert))


def test_a_file_that_no_bot_may_read_is_told_of(served: MediaWiki) -> None:
    with pytest.raises(SourceDenied, match="通常の利用者名を使ってください"):
        served.connector().file("ファイル:単価表.txt").open()


def test_namespaces_are_chosen_by_name_or_number(served: MediaWiki) -> None:
    one = served.connector(namespaces=["社内", "0"], files=False, exclude=["下書き/*"])
    assert set(uris(list(one.changes(None)))) == {"規程/旅費 & 日当", "社内:案内"}
    assert one.file("社内:案内").title == "社内:案内"
    for uri in ("ファイル:単価表.txt", "旅費", "下書き/規程", "規程/旅費_&_日当", "Project:案内"):
        with pytest.raises(NotVisible):
            one.file(uri)


def test_what_happened_since_is_told_and_nothing_else(wiki: MediaWiki) -> None:
    for title in ("甲", "乙", "丙", "丁"):
        wiki.put(title, f"{title}の文章。")
    wiki.upload("表.txt", b"1")
    since = cursor(list(wiki.connector().changes(None)))
    wiki.sql("UPDATE recentchanges SET rc_timestamp = '20250101000000'")  # long ago
    assert uris(list(wiki.connector().changes(since))) == []

    wiki.put("甲", "改めた。")
    wiki.move("乙", "規程/乙")  # leaves a redirect
    wiki.delete("丙")
    wiki.upload("表.txt", b"22")
    wiki.put("戊", "新しい。")
    changes = list(wiki.connector().changes(since))
    assert told(changes) == {("乙", "規程/乙"), ("丙",)}
    found = files(changes)
    assert set(found) == {"甲", "規程/乙", "戊", "ファイル:表.txt"}
    assert "改めた" in found["甲"] and found["ファイル:表.txt"] == "22"
    last = changes[-1]
    assert isinstance(last, Checkpoint) and not last.complete

    wiki.write("undelete", title="丙")
    wiki.move("ファイル:表.txt", "ファイル:単価.txt", noredirect="1")
    wiki.put("丁", "#転送 [[甲]]")
    changes = list(wiki.connector().changes(since := cursor(changes)))
    assert told(changes) == {("ファイル:表.txt", "ファイル:単価.txt"), ("丁",)}
    assert "丙" in uris(changes)
    again = list(wiki.connector().changes(since))
    assert (told(again), uris(again)) == (told(changes), uris(changes)), "a run that broke off"


def test_pages_that_take_each_others_names_are_read_anew(wiki: MediaWiki) -> None:
    wiki.put("甲", "一番。")
    wiki.put("乙", "二番。")
    first = list(wiki.connector().changes(None))
    wiki.move("乙", "丙", noredirect="1")
    wiki.move("甲", "乙", noredirect="1")
    changes = list(wiki.connector().changes(cursor(first)))
    assert told(changes) == {("乙", "丙"), ("甲",)} or told(changes) == {("甲",)}
    found = files(changes)
    assert "一番" in found["乙"] and "二番" in found["丙"]


def test_a_rename_is_known_in_a_whole_listing_too(wiki: MediaWiki) -> None:
    wiki.put("甲", "一番。")
    wiki.put("乙", "二番。")
    since = cursor(list(wiki.connector().changes(None)))
    wiki.move("甲", "規程/甲", noredirect="1")
    wiki.delete("乙")
    wiki.sql("DELETE FROM recentchanges")  # as $wgRCMaxAge does
    changes = list(wiki.connector().changes(since))
    assert told(changes) == {("甲", "規程/甲")} and uris(changes) == ["規程/甲"]
    last = changes[-1]
    assert isinstance(last, Checkpoint) and last.complete


def test_everything_is_listed_anew_each_day_and_after_a_setting_changed(wiki: MediaWiki) -> None:
    wiki.put("甲", "一番。")
    since = json.loads(cursor(list(wiki.connector().changes(None))))
    old = json.loads(json.dumps(since))
    old["seen"][2] = "2020-01-01T00:00:00Z"
    for one, given in ((wiki.connector(), old), (wiki.connector(allow=["everyone"]), since)):
        last = list(one.changes(json.dumps(given)))[-1]  # type: ignore[arg-type]
        assert isinstance(last, Checkpoint) and last.complete
    last = list(wiki.connector().changes(json.dumps(since)))[-1]  # type: ignore[arg-type]
    assert isinstance(last, Checkpoint) and not last.complete


def test_a_changed_template_reaches_the_pages_that_show_it(wiki: MediaWiki) -> None:
    wiki.put("Template:上限", "一万円")
    wiki.put("旅費", "上限は{{上限}}。")
    first = [c.file for c in wiki.connector().changes(None) if isinstance(c, Upsert)]
    wiki.put("Template:上限", "二万円")
    wiki.sql("UPDATE page SET page_touched = '20300101000000' WHERE page_namespace = 0")
    second = [c.file for c in wiki.connector().changes(None) if isinstance(c, Upsert)]
    assert [one.uri for one in second] == ["旅費"] and first[0].version != second[0].version
    with second[0].open() as stream:
        assert "二万円" in stream.read().decode()


def test_more_pages_than_an_answer_holds_are_all_listed(
    wiki: MediaWiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiki.fill(55)
    names = [f"多い/{n:04}" for n in range(55)]
    anonymous = wiki.connector(user="", password="")
    changes = list(anonymous.changes(None))
    assert uris(changes) == names
    monkeypatch.setattr(mediawiki, "_PAGE", "20")
    again = list(anonymous.changes(None))
    assert sorted(uris(again)) == names and not [c for c in again if isinstance(c, Failed)]
    assert {c.file.modified_at.year for c in again if isinstance(c, Upsert)} >= {2026}


def test_a_page_that_changed_after_it_was_listed_is_busy_not_mixed(wiki: MediaWiki) -> None:
    wiki.put("甲", "一番。")
    wiki.upload("表.txt", b"1")
    page, table = (c.file for c in wiki.connector().changes(None) if isinstance(c, Upsert))
    wiki.put("甲", "二番。")
    wiki.upload("表.txt", b"2")
    for one in (page, table):
        with pytest.raises(SourceBusy, match="書き込み中"):
            one.open()
    wiki.delete("甲")
    with pytest.raises(SourceUnreachable, match="もうありません"):
        page.open()


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"password": "x" * 32}, SourceDenied, "サインインできません"),
        ({"user": "", "password": ""}, SourceDenied, "読む権限がありません"),
        ({"url": "http://{near}/w/ない/api.php"}, SourceMisconfigured, "URL を確かめて"),
        ({"url": "http://{near}/w/load.php"}, SourceMisconfigured, "MediaWiki の API では"),
        ({"namespaces": ["規程集"]}, SourceMisconfigured, "名前空間「規程集」はありません"),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
        ({"url": "ftp://127.0.0.1/"}, SourceMisconfigured, "URL"),
    ],
)
def test_a_wrong_setting_is_told(
    served: MediaWiki, wrong: dict[str, Any], error: type[Exception], words: str
) -> None:
    given = {k: v.format(near=served.near) if isinstance(v, str) else v for k, v in wrong.items()}
    with pytest.raises(error, match=words) as said:
        served.connector(**given).check()
    assert "himitsu" not in str(said.value)


def test_a_session_that_ended_is_begun_again(served: MediaWiki) -> None:
    one = served.connector()
    one.check()
    one._http._client.cookies.clear()
    assert "規程/旅費 & 日当" in uris(list(one.changes(None)))


# --- a wiki that answers as it likes ----------------------------------------------


class Fake:
    """An open wiki with so many pages, in answers of 500, each with its own trouble."""

    def __init__(self, pages: int) -> None:
        self.server, self.pages = Server(), pages
        self.asked: list[dict[str, str]] = []
        self.trouble: dict[str, Any] = {}  # by the gapcontinue where it comes
        kind = self.server.server.RequestHandlerClass
        kind.do_POST = lambda handler: self.answer(handler)  # type: ignore[attr-defined]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
        query = {k: v[0] for k, v in parse_qs(body).items()}
        self.asked.append(query)
        at = query.get("gapcontinue", "0" if "generator" in query else "")
        reply = self.trouble.get(at) or self.said(query)
        if callable(reply):
            reply(handler)
        else:
            says(json.dumps(reply).encode(), content_type="application/json")(handler)

    def said(self, query: dict[str, str]) -> dict[str, Any]:
        if query.get("meta") == "siteinfo":
            names = {"0": {"id": 0, "name": "", "content": True}}
            return {"batchcomplete": True, "query": {"namespaces": names}}
        if query.get("list") == "recentchanges":
            return {"curtimestamp": "2026-04-01T00:00:00Z", "query": {"recentchanges": []}}
        start = int(query.get("gapcontinue", "0"))
        end = min(start + 500, self.pages)
        found = [
            {
                "pageid": n + 1, "ns": 0, "title": f"頁{n}", "lastrevid": n,
                "touched": "2026-01-01T00:00:00Z", "revisions": [{"timestamp": "2026-01-01T00:00:00Z"}],
            }
            for n in range(start, end)
        ]  # fmt: skip
        more = {"continue": {"gapcontinue": str(end), "continue": "gapcontinue||"}}
        return {
            "batchcomplete": True,
            "query": {"pages": found},
            **(more if end < self.pages else {}),
        }

    def connector(self) -> MediaWikiConnector:
        settings = MediaWikiSettings(url=f"{self.server.url}/w", allow=["everyone"], files=False)
        return MediaWikiConnector(settings, Site(near=frozenset({self.server.near})))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setattr(http, "_backoff", lambda attempt: 0.0)
    one = Fake(1200)
    yield one
    one.server.close()


def test_ten_thousand_pages_cost_a_request_for_five_hundred(fake: Fake) -> None:
    fake.pages = 10_000
    assert len(set(uris(list(fake.connector().changes(None))))) == 10_000
    assert len(fake.asked) == 20 + 3


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        ({"continue": {"gapcontinue": "500"}, "batchcomplete": True}, SourceUnreachable),
        ({"query": {"pages": [{"pageid": 1, "title": "半"}]}}, SourceUnreachable),
        ({"error": {"code": "maxlag"}}, SourceBusy),
        ({"error": {"code": "internal_api_error_DBQueryError"}}, SourceBusy),
        ({"error": {"code": "readapidenied"}}, SourceDenied),
        (says(b'{"query": {"pa', content_type="application/json"), SourceUnreachable),
        (says(b"<html>", content_type="text/html"), SourceMisconfigured),
        (says(b"[]", content_type="application/json"), SourceMisconfigured),
        (says(status=500), SourceBusy),
        (says(status=429, Retry_After="600"), SourceBusy),
        (lambda handler: handler.connection.shutdown(2), SourceUnreachable),
    ],
)
def test_a_listing_that_breaks_off_tells_of_nothing(
    fake: Fake, trouble: Any, error: type[Exception]
) -> None:
    fake.trouble = {"500": trouble}
    seen: list[Change] = []
    with pytest.raises(error):
        seen.extend(fake.connector().changes(None))
    assert not [c for c in seen if isinstance(c, Checkpoint)]


def test_a_wiki_that_is_busy_for_a_moment_is_asked_again(fake: Fake) -> None:
    def once(handler: BaseHTTPRequestHandler) -> None:
        fake.trouble.clear()
        says(status=429, Retry_After="0")(handler)

    fake.trouble = {"500": once}
    assert len(uris(list(fake.connector().changes(None)))) == 1200


def test_a_page_that_cannot_be_understood_hides_no_other(fake: Fake) -> None:
    bad = {"pageid": "x", "ns": 0, "title": "悪い頁"}
    fake.trouble = {"0": {"batchcomplete": True, "query": {"pages": [bad, *good(3)]}}}
    changes = list(fake.connector().changes(None))
    assert [c.uri for c in changes if isinstance(c, Failed)] == ["悪い頁"]
    assert len(uris(changes)) == 3


def good(count: int) -> list[dict[str, Any]]:
    told = {"ns": 0, "touched": "2026-01-01T00:00:00Z"}
    return [
        {"pageid": n, "lastrevid": n, "title": f"良い頁{n}", **told} for n in range(1, count + 1)
    ]
