"""Box on a bad line: pages that do not end, halves of answers, entries that are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from appliance.errors import SourceBusy, SourceUnreachable
from appliance.types import NOBODY, AccessChanged, Checkpoint, Failed, Remove, Upsert
from tests.connectors.test_box import cursor, filled, may, over, upserts
from tests.fakes.box import Box, send


@pytest.fixture
def box() -> Iterator[Box]:
    one = filled()
    yield one
    one.close()


def fill(box: Box, many: int) -> None:
    for number in range(many):
        box.put(str(10_000 + number), f"文書 {number}.txt", str(number), "11")


def half(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b'{"entries": [{"type": "file", "id": "1')


def broken(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


def test_every_page_of_a_listing_is_read(box: Box) -> None:
    fill(box, 7)
    for number in range(5):
        box.share("11", f"user:u{number}@example.co.jp")
    box.most = 2
    found = upserts(list(over(box).changes(None)))
    assert len(found) == 9
    access = found["文書 6.txt"].access
    assert all(may(access, f"user:u{number}@example.co.jp") for number in range(5))


def test_ten_thousand_files_cost_a_request_a_thousand(box: Box) -> None:
    fill(box, 10_000)
    first = list(over(box).changes(None))
    box.asked.clear()
    second = list(over(box).changes(cursor(first)))
    assert len(upserts(second)) == 10_002 and len(box.asked) < 25
    assert len({id(file.access) for file in upserts(second).values()}) <= 2, "kept once"


@pytest.mark.parametrize("fault", [half, broken])
def test_half_an_answer_in_the_middle_deletes_nothing(
    box: Box,
    fault: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.http._backoff", lambda attempt: 0.0)
    fill(box, 7)
    first = list(over(box).changes(None))
    box.most = 2
    box.faults = [("marker=JV9", fault)] * 5
    with pytest.raises(SourceUnreachable):
        list(over(box).changes(cursor(first)))


def test_a_listing_that_repeats_itself_deletes_nothing(box: Box) -> None:
    first = list(over(box).changes(None))

    def again(handler: BaseHTTPRequestHandler) -> None:
        box.faults.append(("11/items", again))
        send(handler, 200, b'{"entries": [], "next_marker": "JV9same"}')

    box.faults = [("11/items", again)]
    with pytest.raises(SourceUnreachable, match="繰り返し"):
        list(over(box).changes(cursor(first)))


def test_an_answer_without_a_list_deletes_nothing(box: Box) -> None:
    first = list(over(box).changes(None))
    box.faults = [("11/items", lambda h: send(h, 200, b"{}"))]
    with pytest.raises(SourceUnreachable):
        list(over(box).changes(cursor(first)))


def test_busy_and_broken_answers_are_asked_again(
    box: Box,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.http._backoff", lambda attempt: 0.0)
    busy: list[tuple[int, dict[str, str]]] = [
        (429, {"Retry_After": "0"}), (500, {}), (503, {"Retry_After": "0"}),
    ]  # fmt: skip
    for status, more in busy:
        box.faults.append(("/items", lambda h, s=status, m=more: send(h, s, b"{}", **m)))  # type: ignore[misc]
    box.faults.append(("/items", broken))
    assert len(upserts(list(over(box).changes(None)))) == 2


def test_who_asks_too_often_is_left_alone_for_as_long_as_box_says(box: Box) -> None:
    box.faults = [("/items", lambda h: send(h, 429, b"{}", Retry_After="90"))]
    with pytest.raises(SourceBusy) as caught:
        list(over(box).changes(None))
    assert caught.value.retry_after_s == 90.0


def test_a_folder_that_goes_in_the_middle_of_its_listing(box: Box) -> None:
    fill(box, 5)
    first = list(over(box).changes(None))
    box.most = 2
    # the second page of folder 10, and what it would have shown
    missing = ("marker=JV9", "files/100")
    box.faults = [(path, lambda h: send(h, 404, b'{"type": "error"}')) for path in missing]
    second = list(over(box).changes(cursor(first)))
    last = second[-1]
    assert isinstance(last, Checkpoint) and not last.complete
    assert not [c for c in second if isinstance(c, Remove)]
    uri = "https://app.box.com/file/100"
    assert AccessChanged(uri, NOBODY) in second and len(upserts(second)) == 6
    third = list(over(box).changes(last.cursor))
    assert len(upserts(third)) == 7
    assert [c.uri for c in third if isinstance(c, AccessChanged) and c.access] == [uri]


def test_a_folder_shut_beside_much_that_went_deletes_nothing(box: Box) -> None:
    fill(box, 60)
    first = list(over(box).changes(None))
    box.folder("13", "閉", "10")
    box.nodes = {id: one for id, one in box.nodes.items() if not id.startswith("100")}
    box.faults = [("13/items", lambda h: send(h, 403, b"{}"))]
    second = list(over(box).changes(cursor(first)))
    last = second[-1]
    assert isinstance(last, Checkpoint) and not last.complete
    assert not [c for c in second if isinstance(c, Remove)]
    third = list(over(box).changes(last.cursor))
    assert isinstance(third[-1], Checkpoint) and third[-1].complete


def test_one_bad_entry_hides_no_other(box: Box) -> None:
    first = list(over(box).changes(None))
    good = box._shape(box.nodes["101"], {"fields": "name,sha1,size,has_collaborations,modified_at"})
    entries = [
        {"type": "file", "id": "100"}, "x", {}, None, 7, good | {"id": "../../users/me"},
        good | {"id": "150", "name": 3}, good | {"type": "folder", "id": "x"}, good,
        good | {"id": "151", "sha1": None, "file_version": {"id": "v7"}, "modified_at": "昨日"},
    ]  # fmt: skip
    body = json.dumps({"entries": entries, "next_marker": None}).encode()
    box.faults = [("11/items", lambda h: send(h, 200, body))]
    del box.nodes["100"]
    second = list(over(box).changes(cursor(first)))
    versions = {c.file.uri[-3:]: c.file.version for c in second if isinstance(c, Upsert)}
    assert versions == {"101": box.nodes["101"].sha1, "151": "v7"}
    failed = [c for c in second if isinstance(c, Failed)]
    assert len(failed) == 8 and not [c for c in second if isinstance(c, Remove)]
    assert "https://app.box.com/file/100" in {c.uri for c in failed}
    assert not [path for path in box.asked if "users/me" in path]


def test_a_tree_that_has_no_end_is_cut(box: Box) -> None:
    for number in range(1000, 1100):
        box.folder(str(number), "中", str(number - 1) if number > 1000 else "10")
    told = list(over(box).changes(None))
    assert [c.reason for c in told if isinstance(c, Failed)] == [
        "フォルダーが深すぎるため、ここから下は読みません"
    ]
    assert len(upserts(told)) == 2


def test_another_versions_cursor_is_forgotten(box: Box) -> None:
    first = list(over(box).changes(None))
    for odd in ("", "x", "[]", '{"files": {"1": [2]}, "folders": {}}', '{"files": 3}'):
        assert len(upserts(list(over(box).changes(type(cursor(first))(odd))))) == 2
