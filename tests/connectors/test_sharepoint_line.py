"""Microsoft 365 on a bad line: tokens that are gone, pages that do not end, halves of answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from appliance.errors import (
    ApplianceError,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import NOBODY, AccessChanged, Change, Cursor, Failed, Moved, Remove
from tests.connectors.test_sharepoint import (
    ITO,
    KATO,
    SATO,
    complete,
    cursor,
    filled,
    look,
    may,
    over,
    told,
    upserts,
)
from tests.fakes.graph import Microsoft, Node, send
from tests.fakes.graph_permissions import user


@pytest.fixture
def cloud() -> Iterator[Microsoft]:
    one = filled()
    yield one
    one.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.http._backoff", lambda attempt: 0.0)


def at_delta(cloud: Microsoft, *answers: Any) -> None:
    cloud.faults = [("/root/delta", answer) for answer in answers]


def page(**said: Any) -> Any:
    return lambda handler: send(handler, 200, said)


def test_every_page_is_read(cloud: Microsoft) -> None:
    cloud.most = 2
    first = look(cloud)
    assert len(upserts(first)) == 4 and complete(first)
    cloud.move("営業", "営業部")
    cloud.delete("人事")
    for number in range(5):
        cloud.put(f"{number}.txt", "x")
    second = look(cloud, first)
    assert len(upserts(second)) == 8 and complete(second)


@pytest.mark.parametrize("resync", [True, False])
def test_a_token_that_is_gone_lists_anew_and_reads_nothing_again(
    cloud: Microsoft, resync: bool
) -> None:
    first = look(cloud)
    cloud.oldest["b!L1"], cloud.resync = 10**9, resync
    cloud.delete("青山商事.txt")
    cloud.move("営業", "営業部")
    cloud.share("人事", user(SATO))

    def now_and_no_more(handler: BaseHTTPRequestHandler) -> None:
        cloud.oldest.clear()
        body = {"error": {"code": "resyncChangesApplyDifferences", "message": "x"}}
        where = f"{cloud.url}/v1.0/drives/b!L1/root/delta?token=0.0.0"
        send(handler, 410, body, **({"Location": where} if resync else {}))

    at_delta(cloud, now_and_no_more)
    second = look(cloud, first)
    assert set(upserts(second)) == {"四月", "規程 50%#1", "評価"} and complete(second)
    assert len([c for c in second if isinstance(c, Moved)]) == 2
    assert may(told(second)["評価.txt"], SATO) and not may(told(second)["評価.txt"], KATO)
    assert upserts(second)["四月"].version == upserts(first)["四月"].version


def test_tokens_that_are_always_gone_lose_nothing(cloud: Microsoft) -> None:
    first = look(cloud)
    body = {"error": {"code": "resyncChangesApplyDifferences", "message": "x"}}
    at_delta(cloud, *[lambda h: send(h, 410, body)] * 5)
    with pytest.raises(SourceUnreachable, match="終わりません"):
        look(cloud, first)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("where", ["nextLink", "deltaLink"])
@pytest.mark.parametrize(
    "link",
    [
        "http://evil.example/v1.0/drives/b!L1/root/delta?token=1",
        "http://{near}@evil.example/v1.0/x",
        "http://{near}/elsewhere",
        "//evil.example/v1.0/x",
    ],
)
def test_no_link_leads_out_of_the_api(cloud: Microsoft, link: str, where: str, after: bool) -> None:
    first = look(cloud) if after else None
    said = {"value": [], f"@odata.{where}": link.format(near=cloud.near)}
    at_delta(cloud, page(**said))
    changes = look(cloud, first)
    assert not upserts(changes) and not complete(changes)
    assert not [c for c in changes if isinstance(c, Remove)]
    assert [c for c in changes if isinstance(c, Failed) and "別の場所" in c.reason]


def again(cloud: Microsoft) -> Any:
    link = f"{cloud.url}/v1.0/drives/b!L1/root/delta?token=0.9.2"

    def answer(handler: BaseHTTPRequestHandler) -> None:
        at_delta(cloud, answer)
        send(handler, 200, {"value": [], "@odata.nextLink": link})

    return answer


def half(cloud: Microsoft) -> Any:
    return lambda handler: send(handler, 200, b'{"value": [{"id": "01')


def endless(cloud: Microsoft) -> Any:
    return page(value=[])


@pytest.mark.parametrize("fault", [again, half, endless])
@pytest.mark.parametrize("after", [False, True])
def test_a_listing_that_does_not_end_deletes_nothing(
    cloud: Microsoft, fault: Any, after: bool
) -> None:
    first = look(cloud) if after else None
    cloud.most = 2
    at_delta(cloud, fault(cloud))
    with pytest.raises(SourceUnreachable):
        look(cloud, first)


def test_an_error_in_the_middle_is_taken_up_where_it_was(cloud: Microsoft, quick: None) -> None:
    first = look(cloud)
    cloud.most = 2
    cloud.put("一.txt", "x")
    cloud.put("二.txt", "x")
    cloud.delete("青山商事.txt")
    cloud.faults = [(".2", lambda h: send(h, 500, {}))] * 5
    with pytest.raises(SourceBusy):
        look(cloud, first)
    second = look(cloud, first)
    assert {"一", "二"} < set(upserts(second)) and "青山商事" not in upserts(second)


def broken(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


@pytest.mark.parametrize("words", ["/delta", "/permissions", "/token", "/content", "/download"])
def test_busy_and_broken_answers_are_asked_again(cloud: Microsoft, quick: None, words: str) -> None:
    cloud.faults = [
        (words, lambda h: send(h, 429, {}, Retry_After="0")),
        (words, lambda h: send(h, 503, {}, Retry_After="0")),
        (words, broken),
    ]
    found = upserts(look(cloud))
    with found["四月"].open() as stream:
        assert stream.read().decode() == "見積です。"
    assert not cloud.faults


def test_who_asks_for_a_long_wait_is_left_for_the_next_run(cloud: Microsoft) -> None:
    at_delta(cloud, lambda h: send(h, 429, {}, Retry_After="300"))
    with pytest.raises(SourceBusy) as busy:
        look(cloud)
    assert busy.value.retry_after_s == 300


@pytest.mark.parametrize("words", ["/root/delta", "/sites/127"])
@pytest.mark.parametrize("status", [403, 404])
def test_what_does_not_open_hides_no_other_and_is_shown_to_nobody(
    cloud: Microsoft, status: int, words: str
) -> None:
    first = look(cloud, people=[ITO])
    cloud.faults = [(words, lambda h: send(h, status, {"error": {"code": "x"}}))]
    second = look(cloud, first, people=[ITO])
    assert set(upserts(second)) == {"個人メモ"} and not complete(second)
    closed = [c for c in second if isinstance(c, AccessChanged)]
    assert len(closed) == 4 and {c.access for c in closed} == {NOBODY}
    assert not [c for c in second if isinstance(c, (Remove, Moved))]
    third = look(cloud, second, people=[ITO])
    assert len(upserts(third)) == 5 and complete(third)
    assert may(upserts(third)["四月"].access, ITO)


def test_what_was_deleted_elsewhere_goes_though_one_drive_is_closed(cloud: Microsoft) -> None:
    first = look(cloud, people=[ITO])
    cloud.put("二.txt", "x", library="L2")
    cloud.delete("個人メモ.txt", library="L2")
    cloud.faults = [("L1/root/delta", lambda h: send(h, 403, {}))]
    second = look(cloud, first, people=[ITO])
    gone = [c.uri for c in second if isinstance(c, Remove)]
    assert len(gone) == 1 and gone[0].endswith("個人メモ.txt")


def test_permissions_that_are_not_told_close_the_drive(cloud: Microsoft) -> None:
    first = look(cloud)
    cloud.faults = [("/permissions", lambda h: send(h, 403, {}))]
    second = look(cloud, first)
    assert not upserts(second) and not complete(second)
    assert {c.access for c in second if isinstance(c, AccessChanged)} == {NOBODY}
    cloud.faults = [("/permissions", lambda h: send(h, 200, b'{"value": [{"ro'))]
    with pytest.raises(SourceUnreachable):
        look(cloud, second)


def test_one_file_whose_permissions_are_refused_hides_no_other(cloud: Microsoft) -> None:
    cloud.share("青山商事.txt", user(ITO))
    where = f"{cloud.find('青山商事.txt').id}/permissions"
    cloud.faults = [(where, lambda h: send(h, 403, {}))]
    changes = look(cloud)
    assert upserts(changes)["青山商事"].access == NOBODY and complete(changes)
    assert may(upserts(changes)["四月"].access, ITO)
    assert [c for c in changes if isinstance(c, Failed) and "権限を読めない" in c.reason]


def test_a_whole_listing_that_is_empty_deletes_nothing(cloud: Microsoft) -> None:
    first = look(cloud)
    cloud.oldest["b!L1"], cloud.resync = 10**9, False
    link = f"{cloud.url}/v1.0/drives/b!L1/root/delta?token=9.0.0"
    gone = {"error": {"code": "resyncChangesApplyDifferences", "message": "x"}}
    empty = page(value=[], **{"@odata.deltaLink": link})
    at_delta(cloud, lambda h: send(h, 410, gone), empty)
    with pytest.raises(SourceUnreachable, match="いちばん上"):
        look(cloud, first)


@pytest.mark.parametrize(
    "bad",
    [
        {"id": "01BAD"},
        {"id": "../x", "name": "x", "file": {}, "parentReference": {"id": "01ROOT"}},
        {"id": "01BAD", "name": "a/b", "file": {}, "parentReference": {"id": "01ROOT"}},
        {"id": "01BAD", "name": "x", "file": {}, "parentReference": {"id": "01NOWHERE"}},
        {"id": "01BAD", "name": "x", "folder": {}, "parentReference": {"id": "01BAD"}},
        {"id": 7, "name": ["x"], "file": 3},
    ],
)
def test_one_bad_entry_hides_no_other_and_deletes_nothing(
    cloud: Microsoft, bad: dict[str, Any]
) -> None:
    first = look(cloud)
    drive = cloud.libraries["L1"]
    cloud.delete("青山商事.txt")
    entries = [cloud._item(drive, node, delta=True) for node in drive.nodes.values()]
    link = f"{cloud.url}/v1.0/drives/b!L1/root/delta?token={len(drive.log)}.0.0"
    whole = page(value=[*entries, bad, "x"], **{"@odata.deltaLink": link})
    at_delta(cloud, page(value=[bad], **{"@odata.deltaLink": link}), whole)
    second = look(cloud, first)
    assert set(upserts(second)) == {"四月", "規程 50%#1", "評価"} and not complete(second)
    assert [c for c in second if isinstance(c, Failed)]
    assert not [c for c in second if isinstance(c, Remove)]
    third = look(cloud, second)
    assert complete(third) and len(upserts(third)) == 3


def test_what_lies_in_a_folder_that_is_not_told_of_is_hidden_until_it_is(cloud: Microsoft) -> None:
    first = look(cloud)
    drive, lost = cloud.libraries["L1"], cloud.find("営業/見積").id
    some = [cloud._item(drive, n, delta=True) for n in drive.nodes.values() if n.id != lost]
    link = f"{cloud.url}/v1.0/drives/b!L1/root/delta?token={len(drive.log)}.0.0"
    cloud.oldest["b!L1"], cloud.resync = 10**9, False
    gone = {"error": {"code": "resyncChangesApplyDifferences", "message": "x"}}
    whole = page(value=some, **{"@odata.deltaLink": link})
    at_delta(cloud, lambda h: send(h, 410, gone), whole)
    second = look(cloud, first)
    assert told(second)["四月.txt"] == NOBODY and "四月" not in upserts(second)
    assert not complete(second) and len(upserts(second)) == 3
    cloud.oldest.clear()
    third = look(cloud, second)
    assert may(upserts(third)["四月"].access, ITO) and complete(third)


def test_the_last_of_two_entries_holds(cloud: Microsoft) -> None:
    first = look(cloud)
    drive, node = cloud.libraries["L1"], cloud.find("青山商事.txt")
    new = cloud._item(drive, node, delta=True) | {"name": "新.txt"}
    gone = {"id": node.id, "deleted": {}}
    link = f"{cloud.url}/v1.0/drives/b!L1/root/delta?token={len(drive.log)}.0.0"
    at_delta(cloud, page(value=[gone, new], **{"@odata.deltaLink": link}))
    assert "新" in upserts(look(cloud, first))
    at_delta(cloud, page(value=[new, gone], **{"@odata.deltaLink": link}))
    assert len(upserts(look(cloud, first))) == 3


def test_once_a_day_all_is_listed_anew(cloud: Microsoft, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a delta did not tell of."""
    first = look(cloud)
    cloud.share("営業", user(KATO), silent=True)
    assert may(upserts(look(cloud, first))["四月"].access, ITO), "nobody was told"
    monkeypatch.setattr("connectors.sharepoint_drive.ANYWAY_S", -1.0)
    second = look(cloud, first)
    assert may(told(second)["四月.txt"], KATO) and not may(told(second)["四月.txt"], ITO)


def test_ten_thousand_files_cost_a_request_a_page() -> None:
    cloud = filled()
    cloud.most = 1000
    drive = cloud.libraries["L1"]
    for number in range(10_000):
        node = Node(f"01MANY{number}", f"文書 {number}.txt", "01ROOT", b"x")
        drive.nodes[node.id] = node
        drive.log.append((node.id, False))
    first = look(cloud)
    assert len(upserts(first)) == 10_004 and len(cloud.asked) < 20
    assert len(cursor(first)) < 2_000_000
    second = look(cloud, first)
    assert len(upserts(second)) == 10_004 and len(cloud.asked) < 10
    assert cursor(second) == cursor(first)
    cloud.close()


@pytest.mark.parametrize("odd", ["x", "[]", '{"drives": 3}', '{"drives": {"a": {"owns": 1}}}'])
def test_a_cursor_of_another_version_lists_everything(cloud: Microsoft, odd: str) -> None:
    changes = list(over(cloud).changes(Cursor(odd)))
    assert len(upserts(changes)) == 4 and complete(changes)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>", SourceMisconfigured),
        (b'{"val', SourceUnreachable),
        (b"[]", SourceMisconfigured),
        (b"{}", SourceMisconfigured),
    ],
)
def test_what_is_not_microsoft_is_told(
    cloud: Microsoft, body: bytes, error: type[ApplianceError]
) -> None:
    cloud.faults = [("/oauth2/", lambda h: send(h, 200, body))]
    with pytest.raises(error):
        over(cloud).check()
    cloud.faults = [("/drives?", lambda h: send(h, 200, body))]
    with pytest.raises(error):
        over(cloud).check()


def test_a_token_goes_to_no_other_host(cloud: Microsoft) -> None:
    seen = list[tuple[str, str | None]]()
    answer = cloud._answer

    def noted(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        seen.append((handler.headers["host"], handler.headers.get("authorization")))
        answer(handler, body)

    cloud._answer = noted  # type: ignore[method-assign]
    upserts(look(cloud))["四月"].open().close()
    away = [token for host, token in seen if host.startswith("localhost")]
    assert away == [None]


def test_all_of_it_is_json(cloud: Microsoft) -> None:
    changes: list[Change] = look(cloud)
    assert set(json.loads(cursor(changes))["drives"]) == {"b!L1"}
    with pytest.raises(SourceDenied):
        cloud.faults = [("/oauth2/", lambda h: send(h, 401, {"error_codes": ["<b>"]}))]
        over(cloud).check()
