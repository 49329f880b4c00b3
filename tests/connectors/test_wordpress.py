"""A real WordPress as a source: Debian's, on MariaDB."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.testing.contracts import ConnectorContract
from appliance.types import Access, Change, Checkpoint, Cursor, Remove, Site, Upsert
from connectors.wordpress import WordPressConnector, WordPressSettings
from tests.connectors.mariadbs import MariaDb
from tests.connectors.test_sql import anybody
from tests.connectors.wordpresses import WordPress


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WordPress]:
    database = MariaDb()
    try:
        one = WordPress(tmp_path_factory.mktemp("wp") / "site", database)
        yield one
        one.close()
    finally:
        database.close()


@pytest.fixture
def wordpress(served: WordPress) -> WordPress:
    served.clear()
    return served


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, wordpress: WordPress) -> WordPressConnector:
        wordpress.post("年末年始の休業", "<p>12月29日から1月3日まで。</p>")
        wordpress.post("就業規則", "<p>始業は9時。</p>", "pages")
        wordpress.upload("shinsei.txt", "申請書の書き方".encode())
        return wordpress.connector()


def told(connector: WordPressConnector, since: Cursor | None = None) -> list[Change]:
    return list(connector.changes(since))


def cursor(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint) and changes[-1].complete
    return changes[-1].cursor


def readers(changes: list[Change]) -> dict[str, Access]:
    return {c.file.uri: c.file.access for c in changes if isinstance(c, Upsert)}


def versions(changes: list[Change]) -> dict[str, str]:
    return {c.file.uri: c.file.version for c in changes if isinstance(c, Upsert)}


def text(connector: WordPressConnector, uri: str) -> str:
    with connector.file(uri).open() as stream:
        return stream.read().decode()


STAFF = anybody("group:社員")


def test_posts_pages_and_files_with_their_bytes(wordpress: WordPress) -> None:
    post = wordpress.post("年末年始 <b>休業</b> &amp; 当番", "<p>12月29日から。</p>")
    page = wordpress.post("就業規則", "<p>始業は9時。</p>", "pages")
    wordpress.post("下書き", "まだ", status="draft")
    file = wordpress.upload("shinsei.txt", "申請書の書き方".encode(), post)
    connector = wordpress.connector()
    connector.check()
    changes = told(connector)
    assert readers(changes) == {post: STAFF, page: STAFF, file: STAFF}
    said = text(connector, post)
    assert "<h1>年末年始 休業 &amp; 当番</h1>" in said and "12月29日" in said
    assert f'href="{wordpress.url}' in said
    assert text(connector, file) == "申請書の書き方"
    assert connector.file(page).title == "就業規則"
    with pytest.raises(NotVisible):
        connector.file("posts/999999")


def test_created_changed_and_deleted(wordpress: WordPress) -> None:
    one, other = wordpress.post("一", "<p>八分まで。</p>"), wordpress.post("二", "x")
    connector = wordpress.connector()
    first = told(connector)
    time.sleep(1.1)  # WordPress counts seconds
    wordpress.change(one, content="<p>一割五分まで。</p>")
    wordpress.delete(other)
    new = wordpress.post("三", "y")
    second = told(wordpress.connector(), cursor(first))
    assert [c.uri for c in second if isinstance(c, Remove)] == []
    now = versions(second)
    assert now.keys() == {one, new}, "a complete listing without it"
    assert now[one] != versions(first)[one]
    assert "一割五分" in text(connector, one)


def test_what_is_private_or_closed_has_readers_of_its_own(wordpress: WordPress) -> None:
    private = wordpress.post("役員会", "<p>極秘。</p>", status="private")
    closed = wordpress.post("暗証番号付き", "<p>金庫は三階。</p>", password="aikotoba")
    open_ = wordpress.post("公開", "x")
    hidden = wordpress.upload("yakuin.txt", "役員の名簿です。".encode(), private)
    loose = wordpress.upload("loose.txt", "受付の案内です。".encode())
    assert readers(told(wordpress.connector())) == {open_: STAFF, loose: STAFF}
    both = wordpress.connector(private_allow=["group:役員"], protected_allow=["user:ito"])
    both.check()
    found = readers(told(both))
    assert found == {
        open_: STAFF,
        loose: STAFF,
        private: anybody("group:役員"),
        hidden: anybody("group:役員"),
        closed: anybody("user:ito"),
    }
    assert both.file(private).title == "役員会"
    assert "金庫は三階" in text(both, closed)
    wordpress.change(open_, status="private")
    assert open_ not in readers(told(wordpress.connector()))
    with pytest.raises(NotVisible):
        wordpress.connector().file(private)


def test_without_an_account_it_sees_what_everybody_sees(wordpress: WordPress) -> None:
    post = wordpress.post("公開", "<p>x</p>")
    wordpress.post("役員会", "x", status="private")
    anyone = wordpress.connector(user="", allow=["everyone"])
    anyone.check()
    assert readers(told(anyone)) == {post: anybody("everyone")}
    with pytest.raises(SourceMisconfigured, match="利用者名"):
        wordpress.connector(user="", private_allow=["group:役員"]).check()


def test_many_posts_come_page_by_page(wordpress: WordPress) -> None:
    script = wordpress.program.parent / "fill.php"
    script.write_text(
        f"<?php $_SERVER['HTTP_HOST']='x'; require '{wordpress.program}/wp-load.php';"
        "for ($n = 0; $n < 230; $n++) wp_insert_post(['post_title' => \"記事$n\","
        " 'post_content' => 'x', 'post_status' => 'publish', 'post_author' => 1]);"
    )
    subprocess.run(["php", script], check=True, capture_output=True)
    assert len(readers(told(wordpress.connector()))) == 230


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"password": "chigau"}, SourceDenied, "サインインできません"),
        ({"user": "inai"}, SourceDenied, "サインインできません"),
        ({"types": ["news"]}, SourceMisconfigured, "種類「news」"),
        ({"allow": ["社員"]}, SourceMisconfigured, "閲覧できる人「社員」"),
        ({"user": "daremo", "private_allow": ["group:役員"]}, SourceDenied, "編集者の権限"),
    ],
)
def test_what_is_wrong_is_told(
    wordpress: WordPress, wrong: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        wordpress.connector(**wrong).check()
    assert "chigau" not in str(caught.value)


def test_an_address_without_wordpress_is_told(wordpress: WordPress) -> None:
    with pytest.raises(SourceMisconfigured, match="REST API がありません"):
        wordpress.connector(url=f"http://{wordpress.near}/nai/").check()
    for wrong in (
        {"url": "x"},
        {"url": "http://x", "types": ["a/b"]},
        {"url": "http://x", "types": []},
    ):
        try:
            made = WordPressSettings.model_validate(wrong)
        except ValidationError:
            continue
        with pytest.raises(ApplianceError):
            WordPressConnector(made, Site()).check()


class _Torn(http.server.BaseHTTPRequestHandler):
    """Says what the test wants, page by page."""

    pages: ClassVar[list[Any]] = []
    total: ClassVar[int] = 1
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        route = query["rest_route"][0]
        self.asked.append(route)
        page = int(query.get("page", ["1"])[0])
        if route != "/wp/v2/posts":
            said: Any = []
        else:
            said = self.pages.pop(0) if self.pages else [_row(page)]
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("X-WP-TotalPages", str(self.total if route == "/wp/v2/posts" else 1))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def _row(number: int) -> dict[str, Any]:
    return {
        "id": number, "modified_gmt": "2026-04-01T00:00:00", "status": "publish",
        "title": {"rendered": f"記事{number}"}, "link": "http://x/", "content": {"protected": False},
    }  # fmt: skip


@pytest.fixture
def torn() -> Iterator[WordPressConnector]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Torn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    near = f"127.0.0.1:{server.server_port}"
    _Torn.pages, _Torn.total, _Torn.asked = [], 1, []
    settings = WordPressSettings(url=f"http://{near}/", types=["posts"], allow=["everyone"])
    yield WordPressConnector(settings, Site(near=frozenset({near})))
    server.shutdown()
    server.server_close()


def test_what_slipped_over_the_edge_of_a_page_is_not_gone(torn: WordPressConnector) -> None:
    _Torn.pages = [[_row(1), _row(2), _row(3)]]
    first = told(torn)
    _Torn.pages = [[_row(1), _row(3)], [_row(1), _row(2), _row(3)]]
    assert readers(told(torn, cursor(first))).keys() == {"posts/1", "posts/2", "posts/3"}
    _Torn.pages, before = [[_row(1)], [_row(1)]], len(_Torn.asked)
    assert readers(told(torn, cursor(first))).keys() == {"posts/1"}
    assert len(_Torn.asked) - before == 4, "twice the listing, and no request for a document"


@pytest.mark.parametrize("half", [b"[{", b"{}", b'"x"', b"[1]", b'[{"id": 1}]', b"[]]"])
def test_half_an_answer_is_never_a_listing(torn: WordPressConnector, half: bytes) -> None:
    _Torn.total, _Torn.pages = 2, [[_row(1)], half]
    with pytest.raises(SourceUnreachable, match="読めません"):
        told(torn)


def test_ten_thousand_cost_a_hundred_requests(torn: WordPressConnector) -> None:
    _Torn.total = 100
    _Torn.pages = [[_row(page * 100 + n + 1) for n in range(100)] for page in range(100)]
    assert len(readers(told(torn))) == 10_000
    assert len(_Torn.asked) == 101
