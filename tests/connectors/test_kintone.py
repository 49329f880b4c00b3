"""kintone, against a server that was written by Cybozu's documentation (tests/fakes/kintone.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
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
    NOBODY,
    Access,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Principal,
    RawFile,
    Remove,
    Upsert,
    admits,
)
from connectors import cybozu, http
from connectors.cybozu import Entity, layer, people
from connectors.kintone import KintoneConnector, KintoneSettings
from tests.fakes.kintone import EVERYONE, PASSWORD, USER, App, Kintone, customers, minute

TAKEN: dict[str, str] = {}  # versions, by uri, as the appliance holds them


@pytest.fixture
def kintone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kintone]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    TAKEN.clear()
    one = Kintone()
    one.put(
        会社名="青山商事",
        区分="既存",
        原価="1200",
        担当=[{"code": "ito", "name": "伊藤 幸子"}],
        部署=[{"code": "eigyo", "name": "営業部"}],
        訪問="2026-03-31T23:30:00Z",
        経緯="<div>値引きは<b>八分</b>まで。",
        明細=[
            {
                "id": "1",
                "value": {"品名": _is("SINGLE_LINE_TEXT", "釘 <大>"), "数量": _is("NUMBER", "3")},
            },
            {
                "id": "2",
                "value": {"品名": _is("SINGLE_LINE_TEXT", "板"), "数量": _is("NUMBER", "")},
            },
        ],
        添付=[one.attach("見積.txt", "合計は三万円。".encode()), one.attach("見積.txt", b"second")],
    )
    one.put(会社名="", 区分="新規")
    yield one
    one.close()


def _is(kind: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "value": value}


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, kintone: Kintone) -> KintoneConnector:
        return kintone.connector()


class TestContractWithRights(ConnectorContract):
    @pytest.fixture
    def connector(self, kintone: Kintone) -> KintoneConnector:
        kintone.apps[12].record_acl = [rule('区分 in ("既存")', ("GROUP", "everyone", True))]
        kintone.apps[12].comments[1] = [comment(1)]
        return kintone.connector(rights="kintone", comments=True)


def rule(cond: str, *rows: tuple[str, str, bool]) -> dict[str, Any]:
    entities = [
        {"entity": {"type": t, "code": c}, "viewable": v, "editable": v, "deletable": False}
        | {"includeSubs": False}
        for t, c, v in rows
    ]
    return {"filterCond": cond, "entities": entities}


def comment(number: int) -> dict[str, Any]:
    creator = {"code": "ito", "name": "伊藤"}
    at = "2026-04-01T01:02:03Z"
    return {"id": str(number), "text": f"電話した {number}", "createdAt": at, "creator": creator}


def told(changes: list[Change]) -> dict[str, RawFile]:
    return {c.file.uri: c.file for c in changes if isinstance(c, Upsert)}


def failed(changes: list[Change]) -> list[str]:
    return [c.reason for c in changes if isinstance(c, Failed)]


def read(file: RawFile) -> str:
    with file.open() as stream:
        return stream.read().decode()


def run(
    one: KintoneConnector, since: Cursor | None = None, *, whole: bool = True
) -> tuple[list[Change], Cursor]:
    """A run as the appliance makes it: a file is read as soon as it is told of."""
    changes = []
    for change in one.changes(since):
        changes.append(change)
        if isinstance(change, Upsert) and TAKEN.get(change.file.uri) != change.file.version:
            read(change.file)
            TAKEN[change.file.uri] = change.file.version
    assert isinstance(changes[-1], Checkpoint)
    assert changes[-1].complete is whole
    return changes, changes[-1].cursor


def may(access: Access, *names: str) -> bool:
    return admits(access, frozenset(Principal(name) for name in (*names, "everyone")))


# --- what is read -----------------------------------------------------------------


def test_a_record_is_a_page_in_the_order_of_its_form(kintone: Kintone) -> None:
    files = told(run(kintone.connector())[0])
    assert set(files) == {"12/1", "12/1/見積.txt", "12/1/見積 (2).txt", "12/2"}
    page = read(files["12/1"])
    assert files["12/1"].title == "青山商事"
    assert files["12/1"].modified_at == datetime(2026, 4, 1, tzinfo=UTC)
    assert files["12/2"].title == "顧客 #2", "what has no title has its app's name and its number"
    told_of = [
        "会社名: 青山商事",
        "区分: 既存",
        "原価: 1200 円",
        "担当者: 伊藤 幸子",
        "<th>品名</th><th>数量</th>",
    ]
    told_of += [
        "釘 &lt;大&gt;</td><td>3 個",
        "訪問日時: 2026-04-01 08:30",
        "<b>八分</b>まで。</div>",
    ]
    told_of += [
        "見積書: 見積.txt",
        "部署: 営業部",
        "作成者: 佐藤 昇",
        f"{kintone.url}/k/12/show#record=1",
    ]
    assert [page.find(one) for one in told_of] == sorted(page.find(one) for one in told_of)
    assert page.find(told_of[0]) > 0
    assert "ステータス" not in page
    assert read(files["12/1/見積.txt"]) == "合計は三万円。"
    assert (files["12/1/見積 (2).txt"].title, files["12/1/見積 (2).txt"].size_bytes) == (
        "見積.txt",
        6,
    )
    assert not kintone.refused


def test_only_the_fields_that_are_wanted_and_a_title_of_them(kintone: Kintone) -> None:
    one = kintone.connector(
        fields=["区分", "会社名"], title="{会社名} ({区分}) {ない}", attachments=False
    )
    files = told(run(one)[0])
    assert set(files) == {"12/1", "12/2"}
    assert files["12/1"].title == "青山商事 (既存)"
    assert "原価" not in read(files["12/1"])
    version = files["12/1"].version
    again = told(run(kintone.connector(fields=["区分"], attachments=False))[0])["12/1"]
    assert again.version != version, "another form makes another page"


def test_files_in_tables_and_comments(kintone: Kintone) -> None:
    drawing = _is("FILE", [kintone.attach("図/面.txt", b"x")])
    record = kintone.put(会社名="港", 明細=[{"id": "1", "value": {"図面": drawing}}])
    kintone.apps[12].comments[record] = [comment(n) for n in range(1, 13)]
    files = told(run(kintone.connector(comments=True))[0])
    assert read(files["12/3/図／面.txt"]) == "x"
    assert "2026-04-01 10:02 伊藤: 電話した 12" in read(files["12/3"])


def test_in_a_space_of_guests(kintone: Kintone) -> None:
    other = Kintone(guest=7)
    other.put(会社名="客")
    files = told(run(other.connector())[0])
    assert f"{other.url}/k/guest/7/12/show#record=1" in read(files["12/1"])
    other.close()


# --- what changed -----------------------------------------------------------------


def test_what_did_not_change_costs_no_request_of_its_own(kintone: Kintone) -> None:
    first, cursor = run(kintone.connector())
    kintone.asked.clear()
    second, _ = run(kintone.connector(), cursor)
    assert kintone.asked.count("records") == 1
    assert "file" not in kintone.asked
    versions = [{u: f.version for u, f in told(some).items()} for some in (first, second)]
    assert versions[0] == versions[1]
    for file in told(second).values():
        assert read(file) == read(told(first)[file.uri]), "it can still be read"


def test_created_changed_and_deleted(kintone: Kintone) -> None:
    first, cursor = run(kintone.connector())
    kintone.put(1, 会社名="青山商事 (改)", 添付=[kintone.attach("新見積.txt", b"new")])
    del kintone.apps[12].records[2]
    kintone.put(会社名="赤坂")
    kintone.asked.clear()
    second, cursor = run(kintone.connector(), cursor)
    files = told(second)
    assert set(files) == {"12/1", "12/1/新見積.txt", "12/3"}
    assert files["12/1"].title == "青山商事 (改)"
    assert files["12/1"].version != told(first)["12/1"].version
    assert (kintone.asked.count("records"), kintone.asked.count("file")) == (2, 1)
    assert read(files["12/1/新見積.txt"]) == "new"


def test_a_record_that_changes_while_it_is_read_is_nobodys_until_the_next_run(
    kintone: Kintone,
) -> None:
    def meanwhile(resource: str, count: int) -> None:
        if resource == "records" and count == 2:
            kintone.put(1, 会社名="変わった")

    kintone.cut = meanwhile
    first, cursor = run(kintone.connector())
    assert told(first)["12/1"].access == NOBODY
    assert told(first)["12/2"].access != NOBODY
    kintone.cut = lambda resource, count: None
    second, _ = run(kintone.connector(), cursor)
    assert may(told(second)["12/1"].access)


def test_what_is_read_later_is_what_was_listed_or_nothing(kintone: Kintone) -> None:
    _, cursor = run(kintone.connector())
    files = told(run(kintone.connector(), cursor)[0])
    kintone.put(1, 会社名="変わった")
    with pytest.raises(SourceBusy, match="編集中"):
        read(files["12/1"])
    del kintone.apps[12].records[2]
    with pytest.raises(NotVisible):
        read(files["12/2"])


def test_ten_thousand_records_by_their_ids(kintone: Kintone) -> None:
    kintone.apps[12].records.clear()
    for n in range(10_600):
        kintone.put(会社名=f"会社 {n}")
    del kintone.apps[12].records[700]
    one = kintone.connector(daily_requests=100)
    changes = list(one.changes(None))
    assert len(told(changes)) == 10_599
    assert isinstance(changes[-1], Checkpoint) and changes[-1].complete
    assert kintone.asked.count("records") == 44
    kintone.asked.clear()
    kintone.put(9000, 会社名="変わった")
    again = list(kintone.connector().changes(changes[-1].cursor))
    assert len(told(again)) == 10_599
    assert kintone.asked.count("records") == 23, "a page of the changed one alone"
    assert len(changes[-1].cursor) < 60 * 10_600


# --- faults -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["half", "drop", 500, "repeat"])
def test_an_error_in_the_middle_ends_the_run_and_takes_nothing_away(
    kintone: Kintone, fault: str | int
) -> None:
    for n in range(1200):
        kintone.put(会社名=f"会社 {n}")
    _, cursor = run(kintone.connector())
    kintone.asked.clear()
    kintone.cut = lambda resource, count: fault if (resource, count) == ("records", 2) else None
    changes: list[Change] = []
    with pytest.raises((SourceUnreachable, SourceBusy)):
        changes += kintone.connector().changes(cursor)
    assert not [c for c in changes if isinstance(c, (Checkpoint, Remove))]
    kintone.cut = lambda resource, count: None
    assert len(told(run(kintone.connector(), cursor)[0])) == 1204


def test_a_short_page_loses_nothing(kintone: Kintone) -> None:
    for n in range(1200):
        kintone.put(会社名=f"会社 {n}")
    kintone.cut = lambda resource, count: "short" if resource == "records" and count < 6 else None
    assert len(told(run(kintone.connector())[0])) == 1204


def test_a_busy_server_is_asked_again_when_it_says(
    kintone: Kintone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ATTEMPTS", 3)
    slept: list[float] = []
    kintone.retry_after = "7"
    kintone.cut = lambda resource, count: 429 if (resource, count) == ("records", 1) else None
    one = kintone.connector()
    one._apps["12"]._http.sleep = slept.append
    assert told(run(one)[0])
    assert 7.0 in slept
    assert one._apps["12"].budget.spent == len(kintone.asked), "what is asked again counts"


def test_a_record_of_another_shape_hides_no_other(kintone: Kintone) -> None:
    _, cursor = run(kintone.connector())
    kintone.put(2, 添付=[{"name": "鍵がない.txt"}])
    changes, _ = run(kintone.connector(), cursor)
    assert [c.uri for c in changes if isinstance(c, Failed)] == ["12/2"]
    assert "12/1" in told(changes)


def test_an_app_that_is_away_stops_no_other_and_keeps_its_records(kintone: Kintone) -> None:
    second = customers()
    second.token, second.name = "token-15", "案件"
    kintone.apps[15] = second
    kintone.put(app=15, 会社名="渋谷")
    both: dict[str, Any] = {"apps": ["12", "15"], "api_tokens": "12=token-12, 15=token-15"}
    _, cursor = run(kintone.connector(**both))
    kintone.apps[15].token = "another"
    del kintone.apps[12].records[2]
    one = kintone.connector(**both)
    one.check()
    changes, cursor = run(one, cursor, whole=False)
    assert [c for c in changes if isinstance(c, Remove)] == [Remove("12/2")]
    assert "トークンが違います" in failed(changes)[0]
    second.token = "token-15"
    kintone.asked.clear()
    changes, _ = run(kintone.connector(**both), cursor)
    assert set(told(changes)) == {"12/1", "12/1/見積.txt", "12/1/見積 (2).txt", "15/1"}
    assert kintone.asked.count("records") == 2, "nothing is read again"


# --- the day's requests -----------------------------------------------------------


def test_files_go_on_the_next_day_where_they_were(
    kintone: Kintone, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(30):
        kintone.put(会社名=f"会社 {n}", 添付=[kintone.attach(f"{n}.txt", b"x")])
    changes, cursor = run(kintone.connector(daily_requests=20), whole=False)
    assert len([u for u in told(changes) if u.count("/") == 1]) == 32, "all records are there"
    assert "今日の要求数 (20 回) を使い切りました" in failed(changes)[0]
    assert "9 時" in failed(changes)[0]
    assert kintone.asked.count("file") == 11
    assert json.loads(cursor)["12"]["spent"] == 16, "four fifths: the rest tells of rights"

    kintone.asked.clear()
    changes, cursor = run(kintone.connector(daily_requests=20), cursor, whole=False)
    assert "file" not in kintone.asked
    with pytest.raises(SourceBusy, match="使い切りました") as caught:
        list(kintone.connector(daily_requests=20).changes(cursor))
    assert 0 < caught.value.retry_after_s <= 86_460

    class Tomorrow(datetime):
        days = 1

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=cls.days)

    monkeypatch.setattr(cybozu, "datetime", Tomorrow)
    kintone.asked.clear()
    changes, cursor = run(kintone.connector(daily_requests=20), cursor, whole=False)
    assert kintone.asked.count("file") == 12
    Tomorrow.days = 2
    changes, _ = run(kintone.connector(daily_requests=20), cursor)
    assert len(told(changes)) == 64


# --- who may read -----------------------------------------------------------------


def test_of_whom_the_administrator_admits_those_that_the_app_admits(kintone: Kintone) -> None:
    app = kintone.apps[12]
    app.acl = [
        {"entity": {"type": "CREATOR", "code": None}, "recordViewable": True},
        {"entity": {"type": "USER", "code": "sato"}, "recordViewable": False},
        {"entity": {"type": "ORGANIZATION", "code": "eigyo"}, "recordViewable": True},
        {"entity": {"type": "USER", "code": "nobody"}, "recordViewable": True},
    ]
    people = ["org:eigyo = group:営業部", "user:sato = user:satou", "user:tanaka = user:tanaka"]
    one = kintone.connector(rights="kintone", allow=["group:社員"], people=people)
    access = told(run(one)[0])["12/1/見積.txt"].access
    assert may(access, "user:ito", "group:営業部", "group:社員")
    assert may(access, "user:tanaka", "group:社員")
    assert not may(access, "user:ito", "group:営業部"), "whom the administrator leaves out"
    assert not may(access, "user:satou", "group:営業部", "group:社員"), "refused by name"
    assert not may(access, "user:nobody", "group:社員"), "of one name, and nobody said the same"
    app.acl = [{**EVERYONE, "recordViewable": False}]
    assert not may(told(run(one)[0])["12/1"].access, "group:営業部", "group:社員")


def test_records_by_the_rules_that_are_about_them(kintone: Kintone) -> None:
    kintone.put(会社名="港", 担当=[{"code": "mori", "name": "森"}])
    kintone.apps[12].record_acl = [
        rule('区分 in ("既存")', ("GROUP", "kaihatsu", True), ("GROUP", "everyone", False)),
        rule('会社名 in ("港")', ("FIELD_ENTITY", "消えた", True), ("FIELD_ENTITY", "担当", True)),
    ]
    one = kintone.connector(rights="kintone", same_names=True)
    _, cursor = run(one)
    files = told(run(one)[0])
    assert may(files["12/1"].access, "group:kaihatsu")
    assert not may(files["12/1"].access, "user:ito")
    assert may(files["12/2"].access, "user:ito")
    assert may(files["12/3"].access, "user:mori")
    assert not may(files["12/3"].access, "user:ito", "group:kaihatsu")

    kintone.apps[12].record_acl[0]["entities"][0]["entity"]["code"] = "jinji"
    kintone.asked.clear()
    files = told(run(kintone.connector(rights="kintone", same_names=True), cursor)[0])
    assert not may(files["12/1"].access, "group:kaihatsu"), "though the record did not change"
    assert may(files["12/1"].access, "group:jinji")
    assert "file" not in kintone.asked


@pytest.mark.parametrize(
    "cond", ["作成者 in (LOGINUSER())", '消えた in ("x")', '会社名 like "青山"', ""]
)
def test_a_rule_whose_condition_cannot_be_told_is_held_against_all(
    kintone: Kintone, cond: str
) -> None:
    kintone.apps[12].record_acl = [rule(cond, ("GROUP", "jinji", True))]
    files = told(run(kintone.connector(rights="kintone", same_names=True))[0])
    for file in files.values():
        assert may(file.access, "group:jinji")
        assert not may(file.access, "user:ito")


def test_what_changed_just_now_is_nobodys_while_rules_have_conditions(kintone: Kintone) -> None:
    kintone.updated = minute()
    kintone.put(1, 会社名="変わった")
    kintone.apps[12].record_acl = [rule('区分 in ("新規")', ("GROUP", "everyone", True))]
    files = told(run(kintone.connector(rights="kintone"))[0])
    assert files["12/1"].access == NOBODY
    assert may(files["12/2"].access)


def test_a_field_that_not_everybody_sees_is_left_out(kintone: Kintone) -> None:
    def field(code: str, *rows: tuple[str, str, str]) -> dict[str, Any]:
        entities = [{"entity": {"type": t, "code": c}, "accessibility": a} for t, c, a in rows]
        return {"code": code, "entities": entities}

    kintone.apps[12].field_acl = [
        field("原価", ("GROUP", "jinji", "READ")),
        field("添付", ("USER", "ito", "NONE"), ("GROUP", "everyone", "READ")),
        field("数量", ("GROUP", "jinji", "WRITE"), ("GROUP", "everyone", "NONE")),
        field("区分", ("USER", "ito", "WRITE"), ("GROUP", "everyone", "READ")),
    ]
    files = told(run(kintone.connector(rights="kintone", title="{会社名}{原価}"))[0])
    assert set(files) == {"12/1", "12/2"}
    page = read(files["12/1"])
    assert not [one for one in ("1200", "原価", "見積", "数量") if one in page]
    assert "区分: 既存" in page
    assert files["12/1"].title == "青山商事"


def test_a_layer_never_admits_too_many() -> None:
    who = people(["group:a = group:A", "user:u = user:U", "org:x = group:X"], same_names=False)
    sees = Entity("GROUP", "everyone", False, True)

    def admitted(*entities: Entity, names: tuple[str, ...] = ()) -> bool:
        return may((layer(entities, who),), *names)

    assert admitted(sees)
    assert not admitted()
    assert not admitted(
        Entity("GROUP", "everyone", False, False), Entity("GROUP", "b", False, True)
    )
    refused = Entity("GROUP", "a", False, False)
    assert admitted(refused, sees, names=("user:v",))
    assert not admitted(sees, refused, names=("group:A",)), "everyone's line is the last"
    assert not admitted(Entity("USER", "unknown", False, False), sees)
    assert not admitted(Entity("ORGANIZATION", "x", True, False), sees), "who is below is unknown"
    assert not admitted(Entity("FIELD_ENTITY", "担当", False, False), sees)
    with pytest.raises(SourceMisconfigured, match="の形ではありません"):
        people(["a = group:A"], same_names=False)


def test_rights_that_cannot_be_read_are_said_and_admit_nobody(kintone: Kintone) -> None:
    _, cursor = run(kintone.connector(rights="kintone"))
    kintone.apps[12].manages = False
    one = kintone.connector(rights="kintone")
    with pytest.raises(SourceDenied, match="「アプリ管理」を許すか"):
        one.check()
    with pytest.raises(SourceDenied):
        list(one.changes(cursor))
    kintone.connector(rights="allow").check()


# --- settings and signing in ------------------------------------------------------


def test_what_is_wrong_is_said(kintone: Kintone) -> None:
    def why(**more: Any) -> str:
        with pytest.raises((SourceDenied, SourceMisconfigured, SourceUnreachable)) as caught:
            kintone.connector(**more).check()
        assert "token-" not in str(caught.value)
        return str(caught.value)

    assert "API トークンが違います" in why(api_tokens="12=token-99")
    assert "サインインできません" in why(api_tokens="", user=USER, password="wrong")
    assert "アプリ 13 がありません" in why(apps=["13"], api_tokens="", user=USER, password=PASSWORD)
    assert "ゲストスペースの番号を確かめて" in why(guest_space=3)
    kintone.connector(api_tokens="", user=USER, password=PASSWORD).check()
    kintone.close()
    assert "つながりません" in why()


def test_settings() -> None:
    said: dict[str, object] = {
        "url": "example",
        "apps": ["12"],
        "api_tokens": "12=abc",
        "allow": [],
    }
    settings = KintoneSettings.model_validate(said)
    assert settings.url == "https://example.cybozu.com"
    assert "abc" not in repr(settings)
    assert SECRET.search("api_tokens") and SECRET.search("password")
    wrong: list[dict[str, Any]] = [{"apps": ["13"]}, {"apps": ["a"]}, {"apps": []}]
    for more in [*wrong, {"url": "https://x/y"}]:
        with pytest.raises(ValidationError):
            KintoneSettings.model_validate(said | more)


@pytest.mark.parametrize("uri", ["12", "12/99", "13/1", "12/1/ない.txt", "012/1", "12/1/../2"])
def test_what_is_not_there(kintone: Kintone, uri: str) -> None:
    with pytest.raises(NotVisible):
        kintone.connector().file(uri)


def test_a_long_condition_is_posted(kintone: Kintone) -> None:
    companies = ", ".join(f'"会社の長い名前その{n}"' for n in range(200))
    kintone.apps[12].record_acl = [rule(f"会社名 in ({companies})", ("GROUP", "jinji", True))]
    files = told(run(kintone.connector(rights="kintone", same_names=True))[0])
    assert may(files["12/1"].access), "the rule is about others"
    assert not kintone.refused


def test_the_fake_refuses_what_kintone_would(kintone: Kintone) -> None:
    app: App = kintone.apps[12]
    one = kintone.connector()._apps["12"]
    asked: list[tuple[str, dict[str, Any]]] = [
        ("records", {"app": 12, "query": "order by $id asc limit 501"}),
        ("records", {"app": 12, "query": "order by $id asc limit 5 offset 10001"}),
        ("records", {"app": 12, "query": "order by $id asc limit 5", "fields": ["ない"]}),
        ("records", {"app": 12, "page": 2}),
        ("records", {"query": ""}),
    ]
    for resource, params in asked:
        with pytest.raises(SourceMisconfigured):
            one.ask(resource, **params)
    assert kintone.refused == ["GAIA_QU01", "GAIA_QU02", "GAIA_IQ11", "CB_VA01", "CB_VA01"]
    assert app.name == "顧客"
