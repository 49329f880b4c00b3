"""DokuWiki against a real one (Debian's), and against one that answers as it likes."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import (
    ApplianceError,
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
    Site,
    Upsert,
)
from connectors import http
from connectors.dokuwiki import DokuWikiConnector, DokuWikiSettings
from tests.connectors.test_http import Server, says
from tests.connectors.wikis import DokuWiki


def fill(wiki: DokuWiki) -> None:
    wiki.put("start", "====== ようこそ ======\n受付は1階。")
    wiki.put("規程/旅費", "====== 旅費規程 ======\n宿泊費は**12,000円**。")
    wiki.put("規程/旧/就業規則", "始業は9時 <&>。")
    wiki.put("人事/評価", "秘密。")
    wiki.put("_media/規程/単価表.txt", "単価は百円。")
    wiki.put("_media/人事/給与.txt", "秘密。")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DokuWiki]:
    """For tests that change nothing."""
    one = DokuWiki(tmp_path_factory.mktemp("wiki"))
    fill(one)
    yield one
    one.close()


@pytest.fixture
def wiki(tmp_path: Path) -> Iterator[DokuWiki]:
    one = DokuWiki(tmp_path)
    fill(one)
    yield one
    one.close()


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, served: DokuWiki) -> DokuWikiConnector:
        return served.connector()


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


def test_what_the_account_may_read_is_read_for_whom_the_administrator_admits(
    served: DokuWiki,
) -> None:
    changes = list(served.connector().changes(None))
    found = files(changes)
    assert set(found) == {"start", "規程/旅費", "規程/旧/就業規則", "_media/規程/単価表.txt"}
    assert "<strong>12,000円</strong>" in found["規程/旅費"]
    assert (
        "<title>規程/旅費</title>" in found["規程/旅費"]
        and "&lt;&amp;&gt;" in found["規程/旧/就業規則"]
    )
    assert found["_media/規程/単価表.txt"] == "単価は百円。"
    one = next(c.file for c in changes if isinstance(c, Upsert))
    assert one.access == (Layer(frozenset({Principal("group:営業部")})),)
    assert one.modified_at.year == 2026
    closed = served.connector(allow=[]).changes(None)
    assert all(c.file.access == NOBODY for c in closed if isinstance(c, Upsert))
    for uri in ("人事/評価", "_media/人事/給与.txt", "規程:旅費"):
        with pytest.raises(NotVisible):
            served.connector().file(uri)


def test_a_namespace_and_without_media(served: DokuWiki) -> None:
    assert set(uris(list(served.connector(namespace="規程/旧").changes(None)))) == {
        "規程/旧/就業規則"
    }
    one = served.connector(namespace="規程", media=False, exclude=["規程/旧"])
    assert uris(list(one.changes(None))) == ["規程/旅費"]
    for uri in ("start", "規程/旧/就業規則", "_media/規程/単価表.txt"):
        with pytest.raises(NotVisible):
            one.file(uri)


def test_what_changed_moved_and_went_is_told(wiki: DokuWiki) -> None:
    first = list(wiki.connector().changes(None))
    wiki.put("start", "受付は2階。")
    wiki.move("規程/旅費", "規程/出張")
    wiki.move("_media/規程/単価表.txt", "_media/規程/単価.txt")
    wiki.delete("規程/旧/就業規則")
    second = list(wiki.connector().changes(cursor(first)))
    assert {(c.old_uri, c.uri) for c in second if isinstance(c, Moved)} == {
        ("規程/旅費", "規程/出張"),
        ("_media/規程/単価表.txt", "_media/規程/単価.txt"),
    }
    assert set(uris(second)) == {"start", "規程/出張", "_media/規程/単価.txt"}
    assert "2階" in files(second)["start"]
    before, after = (
        {c.file.uri: c.file.version for c in some if isinstance(c, Upsert)}
        for some in (first, second)
    )
    assert before["start"] != after["start"] and before["規程/旅費"] == after["規程/出張"]
    last = second[-1]
    assert isinstance(last, Checkpoint) and last.complete


def test_rights_that_are_taken_away_take_the_pages_away(wiki: DokuWiki) -> None:
    first = list(wiki.connector().changes(None))
    (wiki.folder / "conf/acl.auth.php").write_text("*\t@ALL\t0\n規程:*\t@user\t1\n")
    second = list(wiki.connector().changes(cursor(first)))
    assert set(uris(second)) == {"規程/旅費", "規程/旧/就業規則", "_media/規程/単価表.txt"}
    assert isinstance(second[-1], Checkpoint) and second[-1].complete


def test_what_changed_after_it_was_listed_is_busy_not_mixed(wiki: DokuWiki) -> None:
    listed = [c.file for c in wiki.connector().changes(None) if isinstance(c, Upsert)]
    found = {one.uri: one for one in listed}
    for uri in ("start", "_media/規程/単価表.txt"):
        wiki.put(uri, "別の文章。")
        with pytest.raises(SourceBusy, match="書き込み中"):
            found[uri].open()
        wiki.delete(uri)
        with pytest.raises(SourceUnreachable):
            found[uri].open()


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"password": "x"}, SourceDenied, "サインインできません"),
        ({"user": "", "password": ""}, SourceDenied, "remoteuser"),
        ({"url": "http://{near}/w/ない/"}, SourceMisconfigured, "URL を確かめて"),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
        ({"url": "ftp://127.0.0.1/"}, SourceMisconfigured, "URL"),
    ],
)
def test_a_wrong_setting_is_told_and_deletes_nothing(
    served: DokuWiki, wrong: dict[str, Any], error: type[Exception], words: str
) -> None:
    given = {k: v.format(near=served.near) if isinstance(v, str) else v for k, v in wrong.items()}
    one = served.connector(**given)
    with pytest.raises(error, match=words) as said:
        one.check()
        list(one.changes(None))
    assert "himitsu" not in str(said.value)


def test_an_api_that_is_switched_off_is_told(tmp_path: Path) -> None:
    one = DokuWiki(tmp_path, remote=0)
    try:
        with pytest.raises(SourceMisconfigured, match="remote"):
            one.connector(user="", password="").check()
    finally:
        one.close()


# --- a wiki that answers as it likes ----------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(http, "_backoff", lambda attempt: 0.0)
    one = Server()
    kind = one.server.RequestHandlerClass
    kind.do_POST = kind.do_GET  # type: ignore[attr-defined]
    yield one
    one.close()


def over(server: Server) -> DokuWikiConnector:
    settings = DokuWikiSettings(url=server.url, allow=["everyone"], media=False)
    return DokuWikiConnector(settings, Site(near=frozenset({server.near})))


def xml(value: Any) -> bytes:
    return xmlrpc.client.dumps((value,), methodresponse=True, encoding="utf-8").encode()


def rows(count: int) -> list[dict[str, Any]]:
    told = {"mtime": 1_770_000_000, "size": 9}
    return [{"id": f"頁:{n}", "hash": f"{n:032}", **told} for n in range(count)]


def test_ten_thousand_pages_cost_one_request(server: Server) -> None:
    server.answers = {"/lib/exe/xmlrpc.php": says(xml(rows(10_000)), content_type="text/xml")}
    assert len(set(uris(list(over(server).changes(None))))) == 10_000
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says(xml(rows(9))[:-200], content_type="text/xml"), SourceUnreachable),
        (says(xml({}), content_type="text/xml"), SourceUnreachable),  # an error, in that version
        (says(xml(["x"]), content_type="text/xml"), SourceUnreachable),
        (says(b"<html><p>sign in</html>", content_type="text/html"), SourceMisconfigured),
        (says(status=403), SourceDenied),
        (says(status=500), SourceBusy),
        (says(status=429, Retry_After="600"), SourceBusy),
        (lambda handler: handler.connection.shutdown(2), SourceUnreachable),
        (
            says(
                xmlrpc.client.dumps(xmlrpc.client.Fault(-32605, "off")).encode(),
                content_type="text/xml",
            ),
            SourceMisconfigured,
        ),
    ],
)
def test_a_listing_that_breaks_off_tells_of_nothing(
    server: Server, answer: Any, error: type[ApplianceError]
) -> None:
    server.answers = {"/lib/exe/xmlrpc.php": answer}
    with pytest.raises(error):
        list(over(server).changes(None))


def test_a_page_that_cannot_be_understood_hides_no_other(server: Server) -> None:
    bad = {"id": "頁:悪い", "mtime": "x", "size": 1}
    body = xml([bad, {"id": "a/../b"}, *rows(2)])
    server.answers = {"/lib/exe/xmlrpc.php": says(body, content_type="text/xml")}
    changes = list(over(server).changes(None))
    assert [c.uri for c in changes if isinstance(c, Failed)] == ["頁/悪い"]
    assert uris(changes) == ["頁/0", "頁/1"]


def test_xml_that_calls_for_more_is_not_obeyed(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("himitsu")
    head = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]>'.encode()
    body = head + xml(rows(1)).split(b"?>")[-1].replace("頁:0".encode(), b"&e;")
    server.answers = {"/lib/exe/xmlrpc.php": says(body, content_type="text/xml")}
    assert "himitsu" not in repr(list(over(server).changes(None)))
