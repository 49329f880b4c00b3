"""Confluence, both editions, against a fake that follows Atlassian's documentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.errors import (
    ApplianceError,
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
from connectors.confluence import ConfluenceConnector, ConfluenceSettings
from tests.fakes.confluence import Confluence, send


def filled(edition: str) -> Confluence:
    one = Confluence(edition)
    one.put("100", "営業のホーム", "<p>ようこそ</p>", labels=["案内"])
    one.put("101", "値引きの手順", "<p>八分まで。</p>", above="100")
    one.put("102", "大口の例外", "<p>一割五分まで。</p>", above="101")
    one.put("200", "四月のお知らせ", "<p>期首です。</p>", kind="blogpost")
    one.put("300", "下書き", "<p>x</p>", status="draft")
    one.put("301", "捨てた", "<p>x</p>", status="trashed")
    one.put("400", "個人のメモ", "<p>x</p>", space="~ito")
    one.attach("att500" if one.cloud else "500", "102", "見積.pdf", "見積書".encode())
    return one


@pytest.fixture(params=["datacenter", "cloud"])
def wiki(request: pytest.FixtureRequest) -> Iterator[Confluence]:
    one = filled(request.param)
    yield one
    one.close()


def over(wiki: Confluence, **more: object) -> ConfluenceConnector:
    site = Site(near=frozenset({wiki.near, f"localhost:{wiki.port}"}))
    return ConfluenceConnector(
        ConfluenceSettings.model_validate(wiki.settings | {"same_names": True} | more), site
    )


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, wiki: Confluence) -> ConfluenceConnector:
        return over(wiki)


def upserts(changes: list[Change]) -> dict[str, Any]:
    return {c.file.title: c.file for c in changes if isinstance(c, Upsert)}


def accesses(wiki: Confluence, **more: object) -> dict[str, Access]:
    return {t: f.access for t, f in upserts(list(over(wiki, **more).changes(None))).items()}


def may(access: Access, *names: str) -> bool:
    return admits(access, frozenset({Principal("everyone"), *map(Principal, names)}))


def cursor(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def test_pages_blogs_and_attachments_are_documents(wiki: Confluence) -> None:
    found = upserts(list(over(wiki).changes(None)))
    assert set(found) == {
        "営業のホーム",
        "値引きの手順",
        "大口の例外",
        "四月のお知らせ",
        "見積.pdf",
    }
    with found["営業のホーム"].open() as stream:
        text = stream.read().decode()
    assert "<h1>営業のホーム</h1>" in text and "ようこそ" in text and "案内" in text
    with found["見積.pdf"].open() as stream:
        assert stream.read().decode() == "見積書"
    assert found["見積.pdf"].media_type == "application/pdf"
    assert str(found["営業のホーム"].modified_at.utcoffset()) == "9:00:00"
    assert "個人のメモ" in upserts(list(over(wiki, personal=True).changes(None)))
    assert set(upserts(list(over(wiki, blogs=False, attachments=False).changes(None)))) == {
        "営業のホーム", "値引きの手順", "大口の例外",
    }  # fmt: skip


def test_nothing_is_read_where_nothing_changed(wiki: Confluence) -> None:
    for number in range(1000, 1300):
        wiki.put(str(number), f"文書 {number}", above="100")
    first = list(over(wiki).changes(None))
    wiki.asked.clear()
    list(over(wiki).changes(cursor(first)))
    assert len(wiki.asked) < 12, "no request for each document"
    assert len(upserts(first)) == 305


def test_a_reader_passes_the_space_and_every_restriction_above(wiki: Confluence) -> None:
    wiki.contents["100"].groups = ["営業部", "社員"]
    wiki.contents["102"].users = ["ito", "kato"]
    found = accesses(wiki)
    assert may(found["値引きの手順"], "group:営業部")
    assert not may(found["値引きの手順"], "user:ito"), "not named at the top"
    for title in ("大口の例外", "見積.pdf"):
        assert may(found[title], "user:ito", "group:社員")
        assert not may(found[title], "group:営業部")
        assert not may(found[title], "user:kato", "group:社員"), "not in the space"
        assert not may(found[title], "user:ito")
    assert may(found["四月のお知らせ"], "user:ito")
    assert not may(found["四月のお知らせ"], "user:sato")


def test_a_restriction_above_changes_all_below_and_nothing_is_read(wiki: Confluence) -> None:
    first = list(over(wiki).changes(None))
    wiki.contents["101"].users = ["ito"]
    wiki.asked.clear()
    second = list(over(wiki).changes(cursor(first)))
    told = [c for c in second if isinstance(c, AccessChanged)]
    assert len(told) == 3 and all(not may(c.access, "group:営業部") for c in told)
    assert all(may(c.access, "user:ito") for c in told)
    assert second[: len(told)] == told, "before any content"
    assert {u: f.version for u, f in upserts(first).items()} == {
        u: f.version for u, f in upserts(second).items()
    }
    assert not [url for url in wiki.asked if "body" in url or "download" in url]
    wiki.contents["101"].users = []
    third = list(over(wiki).changes(cursor(second)))
    assert len([c for c in third if isinstance(c, AccessChanged)]) == 3


def test_a_page_moved_below_a_restricted_one_is_restricted(wiki: Confluence) -> None:
    wiki.put("110", "役員だけ", above="100", users=["ito"])
    first = list(over(wiki).changes(None))
    wiki.contents["101"].above = "110"
    second = list(over(wiki).changes(cursor(first)))
    told = {c.uri: c.access for c in second if isinstance(c, AccessChanged)}
    assert len(told) == 3 and not any(may(one, "group:営業部") for one in told.values())
    assert not [c for c in second if isinstance(c, Remove)]


def test_who_is_let_in_to_a_changed_page_waits_until_it_is_read(wiki: Confluence) -> None:
    wiki.contents["101"].users = ["ito"]
    first = list(over(wiki).changes(None))
    wiki.put("101", "値引きの手順", "<p>新しい</p>", above="100")
    second = list(over(wiki).changes(cursor(first)))
    by = {c.uri[-3:]: c.access for c in second if isinstance(c, AccessChanged)}
    assert by["101"] == NOBODY
    assert may(by["102"], "group:営業部")
    assert may(upserts(second)["値引きの手順"].access, "group:営業部")


def test_rights_are_looked_after_while_reading_takes_long(
    wiki: Confluence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.confluence.AGAIN_S", -1.0)
    run = over(wiki).changes(None)
    seen: list[Change] = []
    for change in run:
        seen.append(change)
        if isinstance(change, Upsert) and change.file.title == "値引きの手順":
            wiki.contents["100"].users = ["ito"]
        if isinstance(change, Upsert) and change.file.title == "大口の例外":
            break
    later = list(run)
    told = {c.uri[-3:]: c.access for c in seen if isinstance(c, AccessChanged)}
    assert set(told) == {"100", "101"}, "what was told of before"
    assert all(may(one, "user:ito") and not may(one, "group:営業部") for one in told.values())
    files = upserts([*seen, *later])
    assert not may(files["大口の例外"].access, "group:営業部")
    assert may(files["四月のお知らせ"].access, "group:営業部")
    monkeypatch.undo()
    after = list(over(wiki).changes(cursor(later)))
    assert not [c for c in after if isinstance(c, AccessChanged)], "the cursor knows"


def test_unknown_is_nobody(wiki: Confluence) -> None:
    wiki.contents["101"].above = "999"
    wiki.folders["999"] = wiki.contents["100"].__class__("999", "消えた親", status="trashed")
    found = accesses(wiki)
    assert found["値引きの手順"] == found["大口の例外"] == found["見積.pdf"] == NOBODY
    assert found["営業のホーム"] != NOBODY
    wiki.folders["999"].status = "current"
    wiki.folders["999"].users = ["ito"]
    found = accesses(wiki)
    assert may(found["大口の例外"], "user:ito") and not may(found["大口の例外"], "group:営業部")


def test_a_restriction_to_whom_nobody_knows_admits_nobody(wiki: Confluence) -> None:
    wiki.contents["100"].groups = [""]
    assert not may(accesses(wiki)["値引きの手順"], "group:営業部", "user:ito")


def test_restrictions_longer_than_an_answer_are_read_whole(wiki: Confluence) -> None:
    wiki.inner = 2
    wiki.contents["100"].users = [f"u{n}" for n in range(5)]
    wiki.contents["100"].groups = ["営業部"]
    top = accesses(wiki)["営業のホーム"]
    assert may(top, "user:u4", "group:営業部") and may(top, "user:ito", "user:u2")
    assert not may(top, "user:ito")


def test_a_space_whose_permissions_are_not_told_is_for_whom_the_administrator_says(
    wiki: Confluence,
) -> None:
    wiki.readers["EIGYO"] = None
    with pytest.raises(SourceDenied):
        over(wiki).check()
    changes = list(over(wiki).changes(None))
    assert all(f.access == NOBODY for f in upserts(changes).values())
    assert [c for c in changes if isinstance(c, Failed)]
    told = {"space_allow": ["EIGYO = group:企画部"]}
    over(wiki, **told).check()
    wiki.contents["101"].users = ["ito"]
    found = accesses(wiki, **told)
    assert may(found["営業のホーム"], "group:企画部")
    assert not may(found["値引きの手順"], "group:企画部")
    assert may(found["値引きの手順"], "group:企画部", "user:ito")


def test_the_administrator_may_narrow_and_rename_but_not_widen(wiki: Confluence) -> None:
    more = {"allow": ["group:本社"], "people": ["group:営業部 = group:sales"]}
    top = accesses(wiki, **more)["営業のホーム"]
    assert may(top, "group:sales", "group:本社")
    assert not may(top, "group:sales") and not may(top, "group:営業部", "group:本社")
    assert not may(top, "group:本社")


def test_the_same_name_is_somebody_elses_unless_said(wiki: Confluence) -> None:
    assert not may(accesses(wiki, same_names=False)["営業のホーム"], "group:営業部")
    table = {"same_names": False, "people": ["group:営業部 = group:sales"]}
    assert may(accesses(wiki, **table)["営業のホーム"], "group:sales")


def test_anonymous_is_everyone_only_if_the_setting_says_so(wiki: Confluence) -> None:
    if wiki.cloud:
        wiki.readers["EIGYO"] = [("role", "anonymous-users")]
        assert not may(accesses(wiki, anonymous=True)["営業のホーム"], "user:ito")
        return
    wiki.readers["EIGYO"] = [("anonymous", "")]
    assert not may(accesses(wiki)["営業のホーム"], "user:ito")
    assert may(accesses(wiki, anonymous=True)["営業のホーム"])


def test_cloud_knows_people_by_account_and_by_mail() -> None:
    wiki = Confluence("cloud")
    wiki.mails = {"5b10-a": "ito@example.co.jp"}
    wiki.readers["EIGYO"] = [("user", "5b10-a"), ("user", "5b10-b")]
    wiki.put("100", "ホーム")
    top = accesses(wiki)["ホーム"]
    assert may(top, "user:ito@example.co.jp") and may(top, "user:5b10-b")
    assert not may(top, "user:sato@example.co.jp")
    wiki.close()


def test_changed_renamed_and_deleted(wiki: Confluence) -> None:
    first = list(over(wiki).changes(None))
    wiki.put("101", "値引きの新しい手順", "<p>九分まで。</p>", above="100")
    del wiki.contents["200"]
    second = list(over(wiki).changes(cursor(first)))
    old, new = upserts(first)["値引きの手順"], upserts(second)["値引きの新しい手順"]
    assert old.uri == new.uri and old.version != new.version
    with pytest.raises(SourceBusy):
        old.open()
    assert "四月のお知らせ" not in upserts(second)
    last = second[-1]
    assert isinstance(last, Checkpoint) and last.complete
    assert upserts(second)["大口の例外"].version == upserts(first)["大口の例外"].version
    wiki.contents["101"].labels.append("重要")
    third = upserts(list(over(wiki).changes(None)))["値引きの新しい手順"]
    assert third.version != new.version, "labels are in the text"


def test_what_clouds_search_does_not_know_yet_is_kept_and_shown_to_nobody() -> None:
    wiki = Confluence("cloud")
    wiki.put("100", "ホーム")
    wiki.put("101", "手順")
    first = list(over(wiki).changes(None))
    wiki.unfound.add("101")
    second = list(over(wiki).changes(cursor(first)))
    kept = AccessChanged(upserts(first)["手順"].uri, NOBODY)
    assert kept in second
    wiki.unfound.clear()
    third = list(over(wiki).changes(cursor(second)))
    assert [c for c in third if isinstance(c, AccessChanged) and c.access != NOBODY]
    wiki.contents["101"].status = "trashed"
    last = list(over(wiki).changes(cursor(second)))
    assert len(last) == 2 and isinstance(last[-1], Checkpoint) and last[-1].complete
    wiki.close()


# --- settings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"token": "x"}, SourceDenied, "サインイン"),
        ({"spaces": ["NAI"]}, SourceMisconfigured, "スペース NAI がありません"),
        ({"people": ["営業部"]}, SourceMisconfigured, "対応表"),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
        ({"url": "http://127.0.0.1:{port}/nai"}, SourceMisconfigured, "Confluence"),
    ],
)
def test_a_wrong_setting_is_told(
    wiki: Confluence, wrong: dict[str, Any], error: type[ApplianceError], words: str
) -> None:
    given = {k: v.format(port=wiki.port) if isinstance(v, str) else v for k, v in wrong.items()}
    with pytest.raises(error, match=words) as told:
        over(wiki, **given).check()
    assert "himitsu" not in str(told.value) and "himitsu" not in repr(over(wiki)._settings)


def test_a_page_to_sign_in_and_a_captcha_are_told(wiki: Confluence) -> None:
    path = "/spaces" if wiki.cloud else "/space"
    wiki.faults = [(path, lambda h: send(h, 200, b"<html>", "text/html"))]
    with pytest.raises(SourceMisconfigured, match="REST API ではありません"):
        over(wiki).check()
    denied = {"X_Authentication_Denied_Reason": "CAPTCHA_CHALLENGE; login-url=x"}
    wiki.faults = [(path, lambda h: send(h, 403, b"", **denied))]
    with pytest.raises(SourceDenied, match="CAPTCHA"):
        over(wiki).check()
