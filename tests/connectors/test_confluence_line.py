"""Confluence on a bad line: pages that do not end, halves of answers, entries that are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from appliance.errors import (
    ApplianceError,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import NOBODY, AccessChanged, Checkpoint, Failed, Moved
from tests.connectors.test_confluence import cursor, filled, may, over, upserts
from tests.fakes.confluence import Confluence, send


@pytest.fixture(params=["datacenter", "cloud"])
def wiki(request: pytest.FixtureRequest) -> Iterator[Confluence]:
    one = filled(request.param)
    yield one
    one.close()


@pytest.mark.parametrize("links", [True, False])
def test_every_page_of_a_listing_is_read(wiki: Confluence, links: bool) -> None:
    if wiki.cloud and not links:
        pytest.skip("Cloud always links")
    wiki.most, wiki.links = 2, links
    assert len(upserts(list(over(wiki).changes(None)))) == 5


def test_many_attachments_are_all_found(wiki: Confluence) -> None:
    for number in range(60):
        name = f"att{600 + number}" if wiki.cloud else str(600 + number)
        wiki.attach(name, "101", f"{number}.pdf", b"x")
    found = list(over(wiki).changes(None))
    assert len(upserts(found)) == 65
    one = upserts(found)["59.pdf"]
    assert over(wiki).file(one.uri).version == one.version


@pytest.mark.parametrize(
    ("next_", "error"),
    [
        ("http://evil.example{path}?start=1", SourceDenied),
        ("/rest/api/user/current", SourceDenied),
        ("//evil.example{path}", SourceDenied),
    ],
)
def test_the_next_page_is_of_the_same_listing(
    wiki: Confluence, next_: str, error: type[ApplianceError]
) -> None:
    path = "/api/v2/spaces" if wiki.cloud else "/rest/api/space"

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        link = next_.format(path=f"{wiki.context}{path}").replace('"', "")
        send(handler, 200, f'{{"results": [], "_links": {{"next": "{link}"}}}}'.encode())

    wiki.faults = [(path, elsewhere)]
    with pytest.raises(error, match="続き"):
        list(over(wiki).changes(None))


def test_a_listing_that_repeats_itself_deletes_nothing(wiki: Confluence) -> None:
    first = list(over(wiki).changes(None))
    path = "/api/v2/spaces" if wiki.cloud else "/rest/api/space"

    def again(handler: BaseHTTPRequestHandler) -> None:
        wiki.faults.append((path, again))
        link = f"{path}?cursor={len(wiki.asked)}"
        body = f'{{"results": [{{"id": 1, "key": "EIGYO"}}], "_links": {{"next": "{link}"}}}}'
        send(handler, 200, body.encode())

    wiki.faults = [(path, again)]
    with pytest.raises(SourceUnreachable, match="繰り返し"):
        list(over(wiki).changes(cursor(first)))


def half(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b'{"results": [{"id": "1')


def broken(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


@pytest.mark.parametrize("fault", [half])
def test_half_an_answer_in_the_middle_deletes_nothing(wiki: Confluence, fault: Any) -> None:
    first = list(over(wiki).changes(None))
    wiki.most = 2
    wiki.faults = [("cursor=2" if wiki.cloud else "start=2", fault)]
    with pytest.raises(SourceUnreachable):
        list(over(wiki).changes(cursor(first)))


def test_busy_and_broken_answers_are_asked_again(
    wiki: Confluence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.http._backoff", lambda attempt: 0.0)
    waits = [(429, {"Retry_After": "0"}), (500, {}), (503, {"Retry_After": "0"})]
    for status, headers in waits:
        wiki.faults.append(
            ("/content", lambda h, s=status, more=headers: send(h, s, b"{}", **more))  # type: ignore[misc]
        )
    wiki.faults.append(("/content", broken))
    assert len(upserts(list(over(wiki).changes(None)))) == 5


def test_who_is_shut_out_of_a_space_leaves_its_documents_to_nobody(wiki: Confluence) -> None:
    wiki.spaces["KIKAKU"], wiki.readers["KIKAKU"] = "global", [("group", "企画部")]
    wiki.put("700", "企画", space="KIKAKU")
    first = list(over(wiki).changes(None))
    where = "search?cql=space+%3D+%22EIGYO" if wiki.cloud else "content?type=page&spaceKey=EIGYO"
    wiki.faults = [(where, lambda h: send(h, 403, b"{}"))]
    second = list(over(wiki).changes(cursor(first)))
    assert set(upserts(second)) == {"企画"}
    told = [c for c in second if isinstance(c, AccessChanged)]
    assert len(told) == 5 and all(c.access == NOBODY for c in told)
    last = second[-1]
    assert isinstance(last, Checkpoint) and not last.complete
    third = list(over(wiki).changes(last.cursor))
    assert len([c for c in third if isinstance(c, AccessChanged) and c.access]) == 5


@pytest.mark.long
def test_ten_thousand_pages_cost_a_request_a_hundred() -> None:
    wiki = Confluence()
    wiki.put("1", "ホーム", users=["ito"])
    for number in range(2, 10_002):
        wiki.put(str(number), f"文書 {number}", above="1")
    found = list(over(wiki, blogs=False).changes(None))
    assert len(upserts(found)) == 10_001 and len(wiki.asked) < 110
    assert len({f.access for f in upserts(found).values()}) == 1
    wiki.close()


def test_attachments_that_begin_again_are_told_of_once() -> None:
    """CONFSERVER-95396: after the last attachment some versions tell of them again, for ever."""
    wiki = Confluence()
    wiki.put("1", "ホーム")
    for number in range(130):
        wiki.attach(str(1000 + number), "1", f"{number}.pdf", b"x")
    link = "/rest/api/content/1/child/attachment?limit=100&expand=version&start=0"
    answer: dict[str, Any] = {}

    def again(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, json.dumps(answer).encode())

    files = [wiki._attachment(one) for one in wiki._hung("1")]
    answer |= {"results": files[30:], "start": 100, "limit": 100, "_links": {"next": link}}
    wiki.faults = [("child/attachment?limit=100&expand=version&start=100", again)]
    assert len(upserts(list(over(wiki).changes(None)))) == 131
    wiki.close()


def test_one_bad_entry_hides_no_other(wiki: Confluence) -> None:
    path = "content/search" if wiki.cloud else "content?type=page"
    page = wiki._content(
        wiki.contents["100"],
        {
            "expand": "version,space,ancestors,metadata.labels,"
            "restrictions.read.restrictions.user,restrictions.read.restrictions.group"
        },
    )
    lost = {k: v for k, v in page.items() if k != "ancestors"} | {"id": "150", "title": "枝"}
    bare = {k: v for k, v in page.items() if k != "restrictions"} | {"id": "999", "title": "葉"}
    body = {
        "results": [page, {"id": "9"}, {}, "x", page | {"id": "160", "ancestors": [7]}, lost, bare]
    }
    wiki.faults = [(path, lambda h: send(h, 200, json.dumps(body).encode()))]
    changes = list(over(wiki, blogs=False, attachments=False).changes(None))
    found = upserts(changes)
    assert set(found) == {"営業のホーム", "枝", "葉"}
    assert may(found["営業のホーム"].access, "user:ito")
    assert found["枝"].access == found["葉"].access == NOBODY
    assert len([c for c in changes if isinstance(c, Failed)]) == 3


def test_an_attachment_that_hangs_elsewhere_is_the_same_document(wiki: Confluence) -> None:
    first = list(over(wiki).changes(None))
    wiki.contents["att500" if wiki.cloud else "500"].page = "100"
    second = list(over(wiki).changes(cursor(first)))
    (moved,) = [c for c in second if isinstance(c, Moved)]
    assert moved.old_uri == upserts(first)["見積.pdf"].uri
    assert moved.uri == upserts(second)["見積.pdf"].uri != moved.old_uri


def test_an_attachment_that_lies_elsewhere_is_not_fetched() -> None:
    wiki = Confluence()
    wiki.put("1", "ホーム")
    wiki.attach("500", "1", "見積.pdf", b"x")
    for link in ("http://evil.example/x", "//evil.example/x", "/admin/backup", "@evil.example/"):
        wiki._attachment = lambda one, to=link: {  # type: ignore[method-assign,misc]
            "id": one.id, "title": one.title, "version": {"number": 1}, "_links": {"download": to},
        }  # fmt: skip
        with pytest.raises(SourceMisconfigured, match="外を指して"):
            upserts(list(over(wiki).changes(None)))["見積.pdf"].open()
    wiki.close()


def test_clouds_downloads_go_only_where_the_setting_says(wiki: Confluence) -> None:
    one = upserts(list(over(wiki, media="https://api.media.atlassian.com").changes(None)))
    if wiki.cloud:
        with pytest.raises(SourceDenied, match="つなぎません"):
            one["見積.pdf"].open()
    else:
        one["見積.pdf"].open().close()
