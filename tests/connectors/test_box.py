"""Box, against a fake that follows its public API reference."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
)
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Principal,
    Remove,
    Site,
    Upsert,
    admits,
)
from connectors.box import BoxConnector, BoxSettings
from tests.fakes.box import Box, Node, send

ITO, SATO, KATO = (f"{name}@example.co.jp" for name in ("ito", "sato", "kato"))
OPEN = {
    "effective_access": "company", "effective_permission": "can_preview",
    "is_password_enabled": False, "unshared_at": None,
}  # fmt: skip


def filled() -> Box:
    one = Box()
    one.groups["70"] = ("営業部", [ITO, KATO])
    one.folder("5", "全社", "0")
    one.folder("10", "営業", "5")
    one.folder("11", "見積", "10")
    one.folder("12", "空", "10")
    one.folder("90", "人事", "0")
    one.put("100", "値引きの手順.txt", "八分まで。")
    one.put("101", "大口の例外.txt", "一割五分まで。", "11")
    one.put("102", "古い.txt", "捨てた。", "11", status="trashed")
    one.put("900", "評価.txt", "外の資料。", "90")
    one.nodes["300"] = Node("300", "社外", "10", "web_link")
    one.share("10", "group:70", "editor")
    return one


@pytest.fixture
def box() -> Iterator[Box]:
    one = filled()
    yield one
    one.close()


def over(box: Box, **more: object) -> BoxConnector:
    site = Site(near=frozenset({box.near, f"localhost:{box.port}"}))
    return BoxConnector(
        BoxSettings.model_validate(box.settings | {"same_names": True} | more), site
    )


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, box: Box) -> BoxConnector:
        return over(box)


def upserts(changes: list[Change]) -> dict[str, Any]:
    return {c.file.title: c.file for c in changes if isinstance(c, Upsert)}


def accesses(box: Box, **more: object) -> dict[str, Access]:
    return {t: f.access for t, f in upserts(list(over(box, **more).changes(None))).items()}


def may(access: Access, *names: str) -> bool:
    return admits(access, frozenset({Principal("everyone"), *map(Principal, names)}))


def cursor(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def text(file: Any) -> str:
    with file.open() as stream:
        return str(stream.read().decode())


def test_the_files_below_the_folders_that_are_named(box: Box) -> None:
    found = upserts(list(over(box).changes(None)))
    assert set(found) == {"値引きの手順.txt", "大口の例外.txt"}, "neither trash, links nor others"
    one = found["大口の例外.txt"]
    assert text(one) == "一割五分まで。"
    assert one.uri == "https://app.box.com/file/101"
    assert one.version == box.nodes["101"].sha1 and one.media_type == "text/plain"
    assert str(one.modified_at.utcoffset()) == "9:00:00"
    assert set(upserts(list(over(box, folders=["0"]).changes(None)))) == {*found, "評価.txt"}
    twice = over(box, folders=["https://app.box.com/folder/10", "11"])
    assert set(upserts(list(twice.changes(None)))) == set(found)
    assert text(twice.file(one.uri)) == "一割五分まで。"
    assert set(upserts(list(over(box, exclude=["見積/*"]).changes(None)))) == {"値引きの手順.txt"}
    named = over(box, folders=["10", "11"], exclude=["見積/*"])
    assert set(upserts(list(named.changes(None)))) == set(found)
    assert named.file(one.uri).version == one.version
    for where in ("900", "102"):
        with pytest.raises(NotVisible):
            over(box).file(f"https://app.box.com/file/{where}")
    with pytest.raises(NotVisible):
        over(box, exclude=["見積/*"]).file(one.uri)


def test_signs_in_for_the_company_or_for_a_user(box: Box) -> None:
    box.subject = ("user", "123")
    over(box).check()
    for more, words in (
        ({"client_secret": "x"}, "クライアントシークレット"),
        ({"subject_id": "9"}, "主体の種類と ID"),
        ({"subject": "enterprise"}, "主体でのサインイン"),
    ):
        with pytest.raises(SourceDenied, match=words) as caught:
            over(box, **more).check()
        assert "himitsu" not in str(caught.value)
    with pytest.raises(ValueError, match="数字"):
        over(box, subject_id="kura")


def test_a_token_that_is_no_longer_taken_is_asked_for_anew(box: Box) -> None:
    one = over(box)
    first = list(one.changes(None))
    box.tokens = []
    assert text(upserts(first)["値引きの手順.txt"]) == "八分まで。"
    box.asked.clear()
    list(one.changes(None))
    assert not [path for path in box.asked if "oauth2" in path], "a token is used until its end"


def test_check_says_what_is_wrong(box: Box) -> None:
    with pytest.raises(SourceMisconfigured, match="フォルダー 99 がありません"):
        over(box, folders=["99"]).check()
    over(box, folders=["99", "10"]).check()
    box.hidden.add("10")
    with pytest.raises(SourceDenied, match="権限"):
        over(box).check()
    why = 'Bearer realm="Service", error="insufficient_scope"'
    box.faults = [("folders/10", lambda h: send(h, 403, b"{}", WWW_Authenticate=why))]
    with pytest.raises(SourceDenied, match="スコープ"):
        over(box).check()
    box.faults = [("oauth2", lambda h: send(h, 200, b"<html>", "text/html"))]
    with pytest.raises(SourceMisconfigured, match="Box の API ではありません"):
        over(box).check()


@pytest.mark.parametrize("inherits", [True, False])
def test_rights_flow_down_and_are_never_taken_for_more(box: Box, inherits: bool) -> None:
    box.inherits = inherits
    box.share("5", f"user:{SATO}")
    box.share("11", f"user:{KATO}", "previewer")
    box.share("101", "user:fuji@example.co.jp", "viewer uploader")
    box.share("11", "user:a@example.co.jp", "uploader")
    box.share("11", "user:b@example.co.jp", status="pending")
    box.share("11", "user:c@example.co.jp", status="rejected")
    box.share("11", "user:d@example.co.jp", active=False)
    box.share("11", "user:e@example.co.jp", expires_at="2020-01-01T00:00:00+09:00")
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    box.share("11", "user:f@example.co.jp", expires_at=soon)
    found = accesses(box)
    top, below = found["値引きの手順.txt"], found["大口の例外.txt"]
    for who in ("group:営業部", f"user:{SATO}", "user:shacho@example.co.jp"):
        assert may(top, who) and may(below, who)
    for who in (f"user:{KATO}", "user:fuji@example.co.jp"):
        assert may(below, who) and not may(top, who)
    assert may(below, "user:f@example.co.jp")
    for name in "abcde":
        assert not may(below, f"user:{name}@example.co.jp"), name
    assert not may(below, "user:ito") and not may(below, "user:x@example.co.jp")
    assert not may(accesses(box, file_shares=False)["大口の例外.txt"], "user:fuji@example.co.jp")
    for told in upserts(list(over(box).changes(None))).values():
        assert over(box).file(told.uri).access == told.access


def test_names_are_nobody_until_a_table_says_who(box: Box) -> None:
    assert set(accesses(box, same_names=False).values()) == {NOBODY}
    box.share("10", "user:Ito@Example.co.jp")
    box.share("10", "user:sato@evil.example")
    people = ["group:営業部 = group:sales", "user:ITO@example.co.jp = user:ito"]
    one = accesses(box, same_names=False, people=people)["値引きの手順.txt"]
    assert one[0].allow == {"group:sales", "user:ito"}
    one = accesses(box, same_names=False, domain="example.co.jp")["値引きの手順.txt"]
    assert one[0].allow == {"user:ito", "user:shacho"}
    one = accesses(box, allow=["group:社員"])["値引きの手順.txt"]
    assert may(one, "group:社員", "group:営業部")
    assert not may(one, "group:営業部") and not may(one, "group:社員")


def test_a_group_is_its_members_where_that_is_wanted(box: Box) -> None:
    box.most = 1
    one = accesses(box, group_members=True)["値引きの手順.txt"]
    assert may(one, f"user:{ITO}") and may(one, f"user:{KATO}") and not may(one, "group:営業部")
    people = ["group:営業部 = group:sales"]
    one = accesses(box, group_members=True, people=people)["値引きの手順.txt"]
    assert may(one, "group:sales") and not may(one, f"user:{ITO}")
    box.hidden.add("70")
    told = list(over(box, group_members=True).changes(None))
    assert not may(upserts(told)["値引きの手順.txt"].access, f"user:{ITO}")
    assert [c.title for c in told if isinstance(c, Failed)] == ["営業部"]


def test_shared_links_open_only_to_whom_the_setting_says(box: Box) -> None:
    box.nodes["11"].link = dict(OPEN)
    assert not may(accesses(box)["大口の例外.txt"], "group:社員")
    found = accesses(box, links=["group:社員"])
    assert may(found["大口の例外.txt"], "group:社員") and may(
        found["大口の例外.txt"], "group:営業部"
    )
    assert not may(found["値引きの手順.txt"], "group:社員"), "above the link"
    for more in (
        {"effective_access": "collaborators"},
        {"effective_permission": "no_access"},
        {"is_password_enabled": True},
        {"unshared_at": "2020-01-01T00:00:00+09:00"},
    ):
        box.nodes["11"].link = OPEN | more
        assert not may(accesses(box, links=["group:社員"])["大口の例外.txt"], "group:社員"), more


def test_what_cannot_be_known_admits_nobody_and_is_told(box: Box) -> None:
    box.share("11", f"user:{SATO}")
    box.hidden.add("11")
    told = list(over(box).changes(None))
    access = upserts(told)["大口の例外.txt"].access
    assert may(access, "group:営業部") and not may(access, f"user:{SATO}")
    assert [c.title for c in told if isinstance(c, Failed)] == ["見積"]


def test_changed_renamed_moved_deleted_revoked(box: Box) -> None:
    first = list(over(box).changes(None))
    uri = upserts(first)["値引きの手順.txt"].uri
    box.put("100", "値引きの手順.txt", "一割まで。", etag=1)
    second = list(over(box).changes(cursor(first)))
    assert upserts(second)["値引きの手順.txt"].version != upserts(first)["値引きの手順.txt"].version

    box.nodes["100"].name, box.nodes["100"].parent = "値引き.txt", "11"
    box.share("11", f"user:{SATO}")
    third = list(over(box).changes(cursor(second)))
    one = upserts(third)["値引き.txt"]
    assert one.uri == uri and one.version == upserts(second)["値引きの手順.txt"].version
    assert may(one.access, f"user:{SATO}"), "the rights of where it lies now"
    assert {c.uri for c in third if isinstance(c, AccessChanged)} == {
        uri, "https://app.box.com/file/101",
    }  # fmt: skip

    box.nodes["10"].shared.clear()
    fourth = list(over(box).changes(cursor(third)))
    assert isinstance(fourth[0], AccessChanged) and isinstance(fourth[1], AccessChanged)
    assert not any(may(f.access, "group:営業部") for f in upserts(fourth).values())

    box.nodes["11"].status = "trashed"
    fifth = list(over(box).changes(cursor(fourth)))
    assert not upserts(fifth) and isinstance(fifth[-1], Checkpoint) and fifth[-1].complete
    box.nodes["11"].status = "active"
    assert set(upserts(list(over(box).changes(cursor(fifth))))) == {"値引き.txt", "大口の例外.txt"}


def test_nobody_new_sees_what_was_read_before_it_changed(box: Box) -> None:
    first = list(over(box).changes(None))
    box.put("100", "値引きの手順.txt", "一割まで。")
    box.share("100", f"user:{SATO}")
    second = list(over(box).changes(cursor(first)))
    (told,) = [c for c in second if isinstance(c, AccessChanged)]
    assert told.access == NOBODY
    assert may(upserts(second)["値引きの手順.txt"].access, f"user:{SATO}")


def test_rights_are_looked_after_while_reading_takes_long(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.box.AGAIN_S", -1.0)
    changes = over(box).changes(None)
    first = next(changes)
    assert isinstance(first, Upsert)
    box.nodes["10"].shared.clear()
    second = next(changes)
    assert isinstance(second, AccessChanged) and second.uri == first.file.uri
    assert not may(second.access, "group:営業部")
    third = next(changes)
    assert isinstance(third, Upsert) and not may(third.file.access, "group:営業部")


def test_files_are_fetched_from_another_host_without_the_token(box: Box) -> None:
    found = upserts(list(over(box).changes(None)))["値引きの手順.txt"]
    assert text(found) == "八分まで。"
    box.asked.clear()
    box.faults = [("/d/1/100", lambda h: send(h, 401, b""))]
    with pytest.raises(SourceDenied, match="/d/1/100"):
        found.open()
    assert not [path for path in box.asked if "oauth2" in path], "the token is not to blame"
    elsewhere = upserts(list(over(box, downloads=["https://dl.boxcloud.com"]).changes(None)))
    with pytest.raises(SourceDenied, match="つなぎません"):
        elsewhere["値引きの手順.txt"].open()


def test_other_bytes_than_were_listed_are_not_taken(box: Box) -> None:
    found = upserts(list(over(box).changes(None)))["値引きの手順.txt"]
    box.faults = [("/content", lambda h: send(h, 202, b"", Retry_After="7"))]
    with pytest.raises(SourceBusy, match="用意") as caught:
        found.open()
    assert caught.value.retry_after_s == 7.0
    box.nodes["100"].watermarked = True
    assert text(found) == "WATERMARK 八分まで。"
    box.nodes["100"].data = b"x"
    with pytest.raises(SourceBusy, match="書き換え"):
        found.open()
    box.nodes["100"].status = "trashed"
    with pytest.raises(ApplianceError):
        found.open()


def test_removals_are_told_of_where_another_folder_does_not_open(box: Box) -> None:
    first = list(over(box).changes(None))
    del box.nodes["100"]
    box.faults = [(path, lambda h: send(h, 404, b"{}")) for path in ("11/items", "files/101")]
    second = list(over(box).changes(cursor(first)))
    assert [c.uri for c in second if isinstance(c, Remove)] == ["https://app.box.com/file/100"]
    (told,) = [c for c in second if isinstance(c, AccessChanged)]
    assert told == AccessChanged("https://app.box.com/file/101", NOBODY)
    assert isinstance(second[-1], Checkpoint) and not second[-1].complete
    third = list(over(box).changes(cursor(second)))
    (back,) = [c for c in third if isinstance(c, AccessChanged)]
    assert may(back.access, "group:営業部") and set(upserts(third)) == {"大口の例外.txt"}


def test_what_moves_while_it_is_listed_stays(box: Box) -> None:
    first = list(over(box).changes(None))

    def moved(handler: BaseHTTPRequestHandler) -> None:
        box.nodes["101"].parent = "10"  # which has been listed
        box._answer(handler)

    box.faults = [("11/items", moved)]
    second = list(over(box).changes(cursor(first)))
    assert set(upserts(second)) == set(upserts(first))
    assert isinstance(second[-1], Checkpoint) and second[-1].complete


def test_much_that_moves_while_it_is_listed_deletes_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.box.ASKED", 2)
    for number in range(1000, 1005):
        box.put(str(number), f"{number}.txt", "x", "11")
    first = list(over(box).changes(None))

    def moved(handler: BaseHTTPRequestHandler) -> None:
        for number in range(1000, 1005):
            box.nodes[str(number)].parent = "10"
        box._answer(handler)

    box.faults = [("11/items", moved)]
    second = list(over(box).changes(cursor(first)))
    last = second[-1]
    assert isinstance(last, Checkpoint) and not last.complete
    assert not [c for c in second if isinstance(c, Remove)]
    assert len(upserts(second)) == 4
    assert len(upserts(list(over(box).changes(last.cursor)))) == 7


def test_who_is_signed_out_while_listing_is_told_so_and_nothing_is_lost(box: Box) -> None:
    first = list(over(box).changes(None))

    def out(handler: BaseHTTPRequestHandler) -> None:
        box.tokens, box.subject = [], ("enterprise", "0")
        box._get(handler)

    box.faults = [("11/items", out)]
    with pytest.raises(SourceDenied, match="サインイン"):
        list(over(box, subject_id="440011").changes(cursor(first)))


def test_no_secret_is_shown(box: Box) -> None:
    one = over(box)
    one.check()
    assert "himitsu" not in repr(one._settings) + repr(one._api)
    assert box.tokens[0] not in repr(one._api)
