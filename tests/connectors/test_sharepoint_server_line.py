"""SharePoint Server on a bad line: throttling, halves of answers, what does not open or does not end."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from appliance.types import NOBODY, Change, Failed, Remove
from tests.connectors.test_sharepoint_server import (
    complete,
    cursor,
    filled,
    look,
    over,
    reads,
    told,
    upserts,
)
from tests.fakes.sharepoint_server import Answer, SharePoint, Site, drop, half, may, send, user


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SharePoint]:
    monkeypatch.setattr("connectors.http._backoff", lambda attempt: 0.0)
    one = filled()
    yield one
    one.close()


def test_every_page_of_a_list_is_read(server: SharePoint) -> None:
    server.most = 2
    for number in range(7):
        server.put(f"{number}.txt", "x")
    assert len(upserts(look(server))) == 13
    assert len([one for one in server.asked if "$skiptoken" in one]) >= 4


def test_the_older_form_of_answers_is_understood(server: SharePoint) -> None:
    server.most = 2
    plain = upserts(look(server))
    server.verbose = True
    first = look(server)
    assert {t: (f.uri, f.version, f.access) for t, f in upserts(first).items()} == {
        t: (f.uri, f.version, f.access) for t, f in plain.items()
    }
    server.put("新しい.txt", "x")
    assert "新しい" in upserts(look(server, first))


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_is_asked_again_when_it_says(
    server: SharePoint, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    connector = over(server)
    monkeypatch.setattr(connector._rest.http, "sleep", waited.append)
    server.faults = [("/items?", send(status, wait="7")), ("/lists?", send(status))]
    assert len(upserts(list(connector.changes(None)))) == 6
    assert 7.0 in waited
    server.faults = [("/items?", send(status, wait="600"))]
    with pytest.raises(SourceBusy):
        look(server)


@pytest.mark.parametrize(
    "where",
    ["/lists?", "/items?"]
    + [pytest.param(p, marks=pytest.mark.long) for p in ("/_api/web?", "/webs", "roleassignments")],
)
@pytest.mark.parametrize("fault", [half, drop, send(500, b"<html>"), send(500, b"")])
def test_a_fault_in_the_middle_loses_nothing(server: SharePoint, where: str, fault: Answer) -> None:
    first = look(server)
    for number in range(3):
        server.put(f"{number}.txt", "x")
    server.sites["/sites/eigyo"].oldest = 10_000  # so that all is read
    server.faults = [(where, fault)]
    seen: list[Change] = []
    try:
        seen += over(server).changes(cursor(first))
    except (SourceUnreachable, SourceBusy):
        assert not [c for c in seen if isinstance(c, Remove)]
    else:
        assert fault in (half, drop) and complete(seen), "asked again"
    server.faults = []
    after = look(server, first)
    assert len(upserts(after)) == 9 and complete(after)


def test_a_log_that_breaks_off_is_read_again_from_where_it_was(server: SharePoint) -> None:
    server.most_changes = 1
    first = look(server)
    for number in range(3):
        server.put(f"{number}.txt", "x")
    server.faults = [("getchanges", send(500, b"<html>"))]
    with pytest.raises(SourceBusy):
        look(server, first)
    assert len(upserts(look(server, first))) == 9


@pytest.mark.parametrize("page", [{"value": "x"}, {"value": [{"ChangeType": 1}]}, {}, []])
def test_a_log_that_makes_no_sense_is_no_log(server: SharePoint, page: Any) -> None:
    first = look(server)
    server.put("新しい.txt", "x")
    server.faults = [("getchanges", send(200, json.dumps(page).encode()))]
    changes: list[Change] = []
    try:
        changes += over(server).changes(cursor(first))
    except SourceUnreachable:
        return
    assert not complete(changes) or "新しい" in upserts(changes)
    assert not [c for c in changes if isinstance(c, Remove)]


@pytest.mark.parametrize(
    ("link", "error"),
    [
        ("http://evil.example/_api/web/lists", SourceDenied),
        ("//evil.example/_api/web", SourceDenied),
        ("{url}/sites/eigyo/Shared%20Documents", SourceDenied),
        ("{same}", SourceUnreachable),
    ],
)
def test_a_listing_stays_where_it_is_and_ends(
    server: SharePoint, link: str, error: type[ApplianceError]
) -> None:
    same = f"{server.url}/sites/eigyo/_api/web/webs?$select=Id,ServerRelativeUrl"
    said = json.dumps({"value": [], "odata.nextLink": link.format(url=server.url, same=same)})
    server.faults = [("/webs", send(200, said.encode()))] * 2
    seen: list[Change] = []
    try:
        seen += over(server).changes(None)
    except SourceUnreachable:
        assert error is SourceUnreachable
        return
    assert error is SourceDenied and not complete(seen)
    assert [c for c in seen if isinstance(c, Failed) and "別の場所" in c.reason]


def test_a_list_that_does_not_open_hides_no_other_and_loses_nothing(server: SharePoint) -> None:
    first = look(server)
    shelf = server.shelf("お知らせ")[1]
    shelf.denied, shelf.own = True, [may(user("ito", 1001))]
    server.delete("青山商事.txt")
    second = look(server, first)
    assert not complete(second) and set(upserts(second)) == {"四月", "評価", "営業部へようこそ"}
    assert [c.uri.rpartition("/")[2] for c in second if isinstance(c, Remove)] == ["青山商事.txt"]
    assert set(told(second).values()) == {NOBODY} and len(told(second)) == 2
    server.asked.clear()
    third = look(server, second)
    assert not [one for one in server.asked if "/items?" in one and "File" in one], (
        "others: their log"
    )
    shelf.denied = False
    fourth = look(server, third)
    assert complete(fourth) and {"棚卸し", "手順"} <= set(upserts(fourth))
    assert upserts(fourth)["棚卸し"].version == upserts(first)["棚卸し"].version


def test_a_site_that_does_not_open_hides_no_other(server: SharePoint) -> None:
    server.sites["/sites/jinji"] = Site("/sites/jinji", [may(user("sato", 1002))])
    server.add("人事の資料", "Docs", "/sites/jinji")
    server.put("等級.txt", "x", "人事の資料")
    both: dict[str, Any] = {"sites": ["/sites/jinji", "/sites/eigyo"]}
    first = look(server, **both)
    assert len(upserts(first)) == 7 and complete(first)
    server.sites["/sites/jinji"].denied = True
    second = look(server, first, **both)
    assert len(upserts(second)) == 6 and not complete(second)
    assert told(second) == {"等級.txt": NOBODY}
    assert not [c for c in second if isinstance(c, Remove)]
    with pytest.raises(SourceDenied, match="管理者"):
        over(server, **both).check()
    server.sites["/sites/jinji"].denied = False
    third = look(server, second, **both)
    assert complete(third) and reads(upserts(third)["等級"].access, 1002)
    with pytest.raises(SourceMisconfigured, match="/sites/nai がありません"):
        over(server, sites=["/sites/nai"]).check()


def test_a_site_below_that_does_not_open_hides_no_other(server: SharePoint) -> None:
    for name in ("toukyou", "osaka", "nagoya"):
        at = f"/sites/eigyo/{name}"
        server.sites[at] = Site(at, [may(user("sato", 1002))], above="/sites/eigyo")
        server.add(f"資料 {name}", "Docs", at)
        server.put(f"{name}.txt", "x", f"資料 {name}")
    first = look(server)
    assert len(upserts(first)) == 9 and complete(first)
    server.sites["/sites/eigyo/osaka"].denied = True
    second = look(server, first)
    assert set(upserts(first)) - set(upserts(second)) == {"osaka"}
    assert told(second) == {"osaka.txt": NOBODY} and not complete(second)
    del server.sites["/sites/eigyo/osaka"]
    third = look(server, second)
    assert complete(third) and "osaka" not in upserts(third)


def test_assignments_that_are_not_told_are_nobodys(server: SharePoint) -> None:
    refused = b'{"odata.error":{"code":"-2147024891, System.UnauthorizedAccessException"}}'
    id = server.find("人事").id
    server.faults = [(f"items({id})/roleassignments", send(403, refused))]
    changes = look(server)
    assert upserts(changes)["評価"].access == NOBODY
    assert [c for c in changes if isinstance(c, Failed) and "誰にも見えません" in c.reason]
    member = {"LoginName": "i:0#.w|example\\ito", "PrincipalType": 1}
    for odd in (
        {},
        {"Member": None},
        {"Member": member},
        {"Member": member, "RoleDefinitionBindings": [{}]},
    ):
        server.find("人事").own = [odd]
        assert upserts(look(server))["評価"].access == NOBODY


@pytest.mark.parametrize(
    "more", [{"FileRef": None}, {"FileRef": "x"}, {"FileSystemObjectType": "0"}]
)
def test_an_item_that_is_none_is_told_and_nothing_is_taken_away(
    server: SharePoint, more: dict[str, Any]
) -> None:
    first = look(server)
    server.find("青山商事.txt").more = more
    server.touch(server.find("青山商事.txt"))
    second = look(server, first)
    assert not complete(second) and told(second) == {"青山商事.txt": NOBODY}
    assert [c for c in second if isinstance(c, Failed) and "読めません" in c.reason]
    assert not [c for c in second if isinstance(c, Remove)]
    server.find("青山商事.txt").more = {}
    assert complete(third := look(server, second)) and "青山商事" in upserts(third)


def test_an_item_that_says_nothing_of_its_assignments_is_nobodys(server: SharePoint) -> None:
    server.find("青山商事.txt").more = {"HasUniqueRoleAssignments": None}
    assert reads(upserts(look(server))["青山商事"].access, 1001), "SharePoint was asked, and told"
    server.find("青山商事.txt").more["File"] = {"UniqueId": "x", "Length": "1"}
    assert "青山商事" in upserts(look(server))


def test_bytes_that_are_others_by_now_wait(server: SharePoint) -> None:
    found = upserts(look(server))
    server.put("青山商事.txt", "もう違う")
    server.touch(next(iter(server.shelf("お知らせ")[1].entries.values())))
    for title in ("青山商事", "棚卸し", "手順"):
        with pytest.raises(SourceBusy, match="書き換えられました"):
            found[title].open()
    server.delete("人事/評価.txt")
    with pytest.raises(ApplianceError):
        found["評価"].open()


@pytest.mark.parametrize(
    "cursor_", ["", "x", "{}", '{"webs": 3}', '{"webs": {"": {}}}', "[]", "null"]
)
def test_a_cursor_of_another_version_means_all_is_read(server: SharePoint, cursor_: Any) -> None:
    assert len(upserts(list(over(server).changes(cursor_)))) == 6


def test_what_is_no_sharepoint_is_told(server: SharePoint) -> None:
    server.faults = [("/_api/", send(404, b"<html>"))]
    with pytest.raises(SourceMisconfigured):
        over(server).check()
    with pytest.raises(NotVisible):
        over(server).file("http://elsewhere.example/x.txt")


def test_thousands_of_files_cost_a_few_requests(server: SharePoint) -> None:
    shelf = server.shelf()[1]
    for number in range(3000):
        path = f"{shelf.path}/文書 {number:05}.txt"
        server._new(server.sites["/sites/eigyo"], shelf, path, data=b"x")
    first = look(server)
    assert len(upserts(first)) == 3006 and len(server.asked) < 24
    server.put("新しい.txt", "x")
    second = look(server, first)
    assert len(upserts(second)) == 3007 and len(server.asked) < 16
    for one in list(shelf.entries.values())[:400]:
        server.touch(one)
    assert len(upserts(look(server, second))) == 3007
    assert len(server.asked) < 24, "where much changed, the list is read, not each of its items"
