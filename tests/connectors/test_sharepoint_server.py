"""SharePoint Server against a fake that follows Microsoft's documentation and signs in by real NTLM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.errors import NotVisible, SourceDenied, SourceMisconfigured
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Moved,
    Principal,
    RawFile,
    Remove,
    Site,
    Upsert,
    admits,
)
from connectors.sharepoint_server import SharePointServerConnector
from connectors.sharepoint_server_settings import SharePointServerSettings
from tests.fakes.sharepoint_server import (
    LIMITED,
    ROLE,
    SCOPE,
    SCOPE_GONE,
    VIEW_ONLY,
    SharePoint,
    claim,
    group,
    may,
    sid,
    site_group,
    user,
)
from tests.fakes.sharepoint_server import Site as Web

KNOWN = frozenset(sid(n) for n in (1001, 1002, 1003, 2001))  # to the directory


def filled(edition: int = 2019) -> SharePoint:
    one = SharePoint(edition)
    one.put("青山商事.txt", "値引きは八分まで。")
    one.put("営業/見積/四月.txt", "見積です。")
    one.put("人事/評価.txt", "評価です。")
    one.share("人事", may(user("kato", 1003)))
    one.add("お知らせ", "Lists/Oshirase", base=0, template=104, fields=[
        ("Title", "タイトル", "Text", False), ("Body", "本文", "Note", False),
        ("Kigen_x0020_", "期限", "DateTime", False), ("Editor", "更新者", "User", True),
    ])  # fmt: skip
    note = one.write("棚卸し", "お知らせ", Body="<p>三月末に行う。</p>", Kigen_x0020_="2026/03/31")
    note.attachments["手順.pdf"] = "手順書".encode()
    one.add("サイトのページ", "SitePages", template=119, fields=[
        ("Title", "タイトル", "Text", False), ("WikiField", "内容", "Note", False),
    ])  # fmt: skip
    page = one.put("Home.aspx", "<%@ Page %>", "サイトのページ")
    page.title, page.columns["WikiField"] = "営業部へようこそ", "<p>合言葉は安全第一。</p>"
    return one


@pytest.fixture(params=[2019, pytest.param(2016, marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest) -> Iterator[SharePoint]:
    one = filled(request.param)
    yield one
    one.close()


def over(server: SharePoint, **more: object) -> SharePointServerConnector:
    site = Site(near=frozenset({server.near}), sids=lambda sids: KNOWN & frozenset(sids))
    settings = SharePointServerSettings.model_validate(server.settings | more)
    return SharePointServerConnector(settings, site)


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, server: SharePoint) -> SharePointServerConnector:
        return over(server)


def upserts(changes: list[Change]) -> dict[str, RawFile]:
    return {c.file.title: c.file for c in changes if isinstance(c, Upsert)}


def told(changes: list[Change]) -> dict[str, Access]:
    """By the last part of the uri, whose access was said to be another."""
    return {c.uri.rpartition("/")[2]: c.access for c in changes if isinstance(c, AccessChanged)}


def look(server: SharePoint, after: list[Change] | None = None, **more: Any) -> list[Change]:
    server.asked.clear()
    return list(over(server, **more).changes(cursor(after) if after else None))


def accesses(server: SharePoint, **more: Any) -> dict[str, Access]:
    return {title: file.access for title, file in upserts(look(server, **more)).items()}


def reads(access: Access, *names: str | int) -> bool:
    who = (f"sid:{sid(n)}" if isinstance(n, int) else n for n in names)
    return admits(access, frozenset({Principal("everyone"), *map(Principal, who)}))


def cursor(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def complete(changes: list[Change]) -> bool:
    return isinstance(changes[-1], Checkpoint) and changes[-1].complete


def text(file: RawFile) -> str:
    with file.open() as stream:
        return stream.read().decode()


# --- documents --------------------------------------------------------------------


def test_files_pages_items_and_attachments_are_documents(server: SharePoint) -> None:
    found = upserts(look(server))
    assert set(found) == {"青山商事", "四月", "評価", "棚卸し", "手順", "営業部へようこそ"}
    assert text(found["四月"]) == "見積です。" and text(found["手順"]) == "手順書"
    at = f"{server.url}/sites/eigyo/Shared%20Documents/営業/見積/四月.txt"
    assert found["四月"].uri == at
    assert found["四月"].modified_at.isoformat() == "2026-04-01T00:00:01+00:00"
    page = text(found["営業部へようこそ"])
    assert "<h1>営業部へようこそ</h1>" in page and "安全第一" in page and "<%@" not in page
    note = text(found["棚卸し"])
    assert "三月末に行う" in note and "<h2>期限</h2>" in note and "更新者" not in note
    assert "/Lists/Oshirase/DispForm.aspx?ID=" in found["棚卸し"].uri
    assert found["棚卸し"].access == found["手順"].access


def test_what_is_read_can_be_chosen(server: SharePoint) -> None:
    assert set(upserts(look(server, libraries=["お知らせ"]))) == {"棚卸し", "手順"}
    some = upserts(look(server, lists=False, pages=False, exclude=["営業/*", "*評価*"]))
    assert set(some) == {"青山商事"}
    assert "手順" not in upserts(look(server, exclude=["*.pdf"]))


def test_what_sharepoint_does_not_search_is_not_read(server: SharePoint) -> None:
    for number, about in enumerate(("Hidden", "NoCrawl", "IsCatalog", "HasExternalDataSource")):
        server.add(about, f"L{number}", about={about: True})
        server.put("x.txt", "x", about)
    server.add("アンケート", "Lists/Anketo", base=4)
    server.put("古い画面.aspx", "<%@ Page %>")
    assert len(upserts(look(server))) == 6


def test_sites_below_are_read_where_that_is_wanted(server: SharePoint) -> None:
    server.sites["/sites/eigyo/toukyou"] = Web(
        "/sites/eigyo/toukyou", [may(user("sato", 1002))], above="/sites/eigyo"
    )
    server.add("東京の資料", "Docs", "/sites/eigyo/toukyou")
    server.put("支店.txt", "支店です。", "東京の資料")
    found = upserts(look(server))
    assert text(found["支店"]) == "支店です。"
    assert reads(found["支店"].access, 1002) and not reads(found["支店"].access, 1001)
    one = over(server).file(found["支店"].uri)
    assert (one.version, one.access) == (found["支店"].version, found["支店"].access)
    assert "支店" not in upserts(look(server, subsites=False))


def test_odd_names_are_read(server: SharePoint) -> None:
    names = ["It's 見積 (50&60).txt", "ガイド.txt"] + ["規程 50%#1.txt"] * (server.edition > 2016)
    for name in names:
        server.put(name, name)
    found = upserts(look(server))
    for name in names:
        one = found[name.removesuffix(".txt")]
        assert text(one) == name and text(over(server).file(one.uri)) == name
        assert one.uri.isprintable() and "#" not in one.uri and " " not in one.uri
    note = next(iter(server.shelf("お知らせ")[1].entries.values()))
    note.attachments = {"It's 手順 (2).pdf": b"x"}
    server.touch(note)
    assert text(upserts(look(server))["It's 手順 (2)"]) == "x"


def test_a_discussion_has_its_topics_and_replies(server: SharePoint) -> None:
    server.add("掲示板", "Lists/Keijiban", base=0, template=108, fields=[
        ("Body", "本文", "Note", False),
    ])  # fmt: skip
    topic = server.write("空調の不具合", "掲示板", Body="<p>三階が暑い。</p>")
    topic.folder, topic.own = True, [may(user("sato", 1002))]
    reply = server.write("", "掲示板", Body="<p>修理を頼んだ。</p>")
    reply.path = f"{topic.path}/{reply.id}_.000"
    found = upserts(look(server))
    assert "三階が暑い" in text(found["空調の不具合"])
    answer = found[f"掲示板 {reply.id}"]
    assert "修理を頼んだ" in text(answer)
    assert reads(answer.access, 1002) and not reads(answer.access, 1001)


def test_drafts_are_not_shown_to_readers(server: SharePoint) -> None:
    """SharePoint shows readers the last published version; what an editor sees is not theirs."""
    server.shelf()[1].about["DraftVersionVisibility"] = 1
    first = look(server)
    draft = server.put("青山商事.txt", "値引きは三割まで。")
    draft.level = 2
    server.put("下書き.txt", "まだ").level, server.find("下書き.txt").major = 2, 0
    second = look(server, first)
    failed = [c for c in second if isinstance(c, Failed)]
    assert len(failed) == 1 and "発行" in failed[0].reason and reads(failed[0].access, 1001)
    assert not {"青山商事", "下書き"} & set(upserts(second)) and complete(second)
    assert not told(second), "who reads the published one still does"
    draft.level = 1
    server.touch(draft)
    assert text(upserts(look(server, second))["青山商事"]) == "値引きは三割まで。"
    with pytest.raises(NotVisible):
        over(server).file(f"{server.url}/sites/eigyo/Shared%20Documents/下書き.txt")


def test_items_that_wait_for_approval_are_left(server: SharePoint) -> None:
    shelf = server.shelf("お知らせ")[1]
    shelf.about |= {"EnableModeration": True, "DraftVersionVisibility": 2}
    server.write("承認待ち", "お知らせ").moderation = 2
    found = upserts(look(server))
    assert "棚卸し" in found and "承認待ち" not in found


def test_of_a_list_where_all_read_their_own_nothing_is_shown(server: SharePoint) -> None:
    shelf = server.shelf("お知らせ")[1]
    first = look(server)
    shelf.security = 2
    second = look(server, first)
    assert not {"棚卸し", "手順"} & set(upserts(second)) and not complete(second)
    assert [c for c in second if isinstance(c, Failed) and "書いた人だけ" in c.reason]
    assert set(told(second).values()) == {NOBODY} and len(told(second)) == 2


# --- what changes -----------------------------------------------------------------


def test_nothing_is_listed_where_nothing_changed(server: SharePoint) -> None:
    for number in range(300):
        server.put(f"大量/文書 {number}.txt", "x")
    first = look(server)
    assert len(upserts(first)) == 306
    second = look(server, first)
    assert upserts(second).keys() == upserts(first).keys() and cursor(first) == cursor(second)
    assert len(server.asked) < 16, server.asked
    assert not [
        one for one in server.asked if "/items?" in one or ("/items(" in one and "role" not in one)
    ]


def test_created_changed_renamed_moved_deleted(server: SharePoint) -> None:
    server.most_changes = 2
    changes = look(server)
    server.put("新しい.txt", "新しい")
    server.put("青山商事.txt", "値引きは一割まで。")
    before, changes = upserts(changes), look(server, changes)
    assert len([one for one in server.asked if "/items(" in one and "role" not in one]) == 2
    found = upserts(changes)
    assert text(found["新しい"]) == "新しい" and text(found["青山商事"]) == "値引きは一割まで。"
    assert found["青山商事"].version != before["青山商事"].version
    assert found["四月"].version == before["四月"].version

    server.move("青山商事.txt", "青山商事(改).txt")
    server.move("新しい.txt", "人事/新しい.txt")
    changes = look(server, changes)
    moved = {c.title: c for c in changes if isinstance(c, Moved)}
    assert set(moved) == {"青山商事(改)", "新しい"}
    assert reads(moved["新しい"].access, 1003) and not reads(moved["新しい"].access, 1001)
    assert upserts(changes)["青山商事(改)"].version == found["青山商事"].version, "not read again"

    server.move("営業", "営業本部")
    changes = look(server, changes)
    assert [c.uri for c in changes if isinstance(c, Moved)] == [
        f"{server.url}/sites/eigyo/Shared%20Documents/営業本部/見積/四月.txt"
    ]
    server.delete("営業本部")
    server.delete("青山商事(改).txt")
    changes = look(server, changes)
    assert {"四月", "青山商事(改)"}.isdisjoint(upserts(changes)) and complete(changes)
    assert not [c for c in changes if isinstance(c, (Remove, Failed))]


def test_a_file_that_goes_to_another_library_stays_itself(server: SharePoint) -> None:
    server.add("倉庫", "Souko")
    first = look(server)
    server.carry("青山商事.txt", "倉庫")
    second = look(server, first)
    moved = [c for c in second if isinstance(c, Moved)]
    assert [c.uri for c in moved] == [f"{server.url}/sites/eigyo/Souko/青山商事.txt"]
    assert upserts(second)["青山商事"].version == upserts(first)["青山商事"].version


def test_a_file_that_takes_the_name_of_another_shows_nothing_of_it(server: SharePoint) -> None:
    server.share("青山商事.txt", may(user("kato", 1003)))
    first = look(server)
    server.delete("青山商事.txt")
    server.put("青山商事.txt", "別のもの")
    second = look(server, first)
    assert told(second) == {"青山商事.txt": NOBODY}, "until it is read"
    assert reads(upserts(second)["青山商事"].access, 1001)


def test_a_column_that_changes_does_not_make_a_file_be_read_again(server: SharePoint) -> None:
    first = look(server)
    server.touch(server.find("青山商事.txt"))
    home = server.find("Home.aspx", "サイトのページ")
    home.columns["WikiField"] = "<p>合言葉は品質第一。</p>"
    server.touch(home)
    second = look(server, first)
    versions = [{t: f.version for t, f in upserts(c).items()} for c in (first, second)]
    assert versions[0].pop("営業部へようこそ") != versions[1].pop("営業部へようこそ")
    assert versions[0] == versions[1]
    assert "品質第一" in text(upserts(second)["営業部へようこそ"])


def test_attachments_come_and_go_with_their_item(server: SharePoint) -> None:
    first = look(server)
    note = next(iter(server.shelf("お知らせ")[1].entries.values()))
    note.attachments = {"新手順.pdf": b"new"}
    server.touch(note)
    second = look(server, first)
    assert text(upserts(second)["新手順"]) == "new" and "手順" not in upserts(second)


def test_a_log_that_is_too_old_or_not_understood_means_all_is_read(server: SharePoint) -> None:
    first = look(server)
    server.put("新しい.txt", "新しい")
    web = server.sites["/sites/eigyo"]
    web.oldest = len(web.log) + 5
    second = look(server, first)
    assert "新しい" in upserts(second) and complete(second)
    assert [one for one in server.asked if "/items?" in one]


def test_once_a_day_all_is_read(server: SharePoint, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look(server)
    del server.shelf()[1].entries[server.find("青山商事.txt").id]  # the log tells nothing of it
    assert "青山商事" in upserts(look(server, first))
    monkeypatch.setattr("connectors.sharepoint_server_lists.ANYWAY_S", -1.0)
    assert "青山商事" not in upserts(look(server, first))


# --- who may read -----------------------------------------------------------------


def test_a_reader_is_named_by_the_nearest_that_has_its_own(server: SharePoint) -> None:
    server.share("人事/評価.txt", may(user("sato", 1002)))
    server.put("人事/規程.txt", "x")
    server.shelf("お知らせ")[1].own = [may(group("EXAMPLE\\総務部", 2001))]
    found = accesses(server)
    assert reads(found["青山商事"], 1001) and not reads(found["青山商事"], 1002, 1003)
    assert reads(found["規程"], 1003) and not reads(found["規程"], 1001)
    assert reads(found["評価"], 1002) and not reads(found["評価"], 1001, 1003)
    assert reads(found["棚卸し"], 2001) and not reads(found["手順"], 1001)


def test_revoked_and_granted_without_reading_anything(server: SharePoint) -> None:
    first = look(server)
    server.share("青山商事.txt", may(user("sato", 1002)))
    second = look(server, first)
    assert reads(told(second)["青山商事.txt"], 1002) and not reads(
        told(second)["青山商事.txt"], 1001
    )
    at = [type(c) for c in second]
    assert at.index(AccessChanged) < at.index(Upsert), "before any content"
    server.share("青山商事.txt", may(user("kato", 1003)))  # no longer sato
    third = look(server, second)
    assert reads(told(third)["青山商事.txt"], 1003) and not reads(told(third)["青山商事.txt"], 1002)
    server.inherit("青山商事.txt")
    fourth = look(server, third)
    assert reads(told(fourth)["青山商事.txt"], 1001) and not reads(
        told(fourth)["青山商事.txt"], 1003
    )
    web = server.sites["/sites/eigyo"]
    web.own = [may(user("sato", 1002))]
    web.log.append(("", None, 12))
    fifth = told(look(server, fourth))
    assert reads(fifth["青山商事.txt"], 1002) and "評価.txt" not in fifth
    assert not [one for one in server.asked if "$value" in one]


def test_a_folder_is_asked_about_at_every_look(server: SharePoint) -> None:
    first = look(server)
    server.find("人事").own = [may(user("sato", 1002))]  # no row in the log
    assert reads(told(look(server, first))["評価.txt"], 1002)


def test_what_inherits_again_because_of_a_folder_above_is_asked_about(server: SharePoint) -> None:
    server.share("営業/見積/四月.txt", may(user("sato", 1002)))
    first = look(server)
    server.clear("営業", may(user("kato", 1003)))
    second = told(look(server, first))
    assert reads(second["四月.txt"], 1003) and not reads(second["四月.txt"], 1002)
    server.share("営業/見積/四月.txt", may(user("sato", 1002)))
    third = look(server, first)
    web, shelf = server.shelf()
    server.find("営業/見積/四月.txt").own = None
    web.log.append((shelf.id, None, SCOPE_GONE))  # of the library
    fourth = look(server, third)
    assert reads(told(fourth)["四月.txt"], 1003)
    server.share("営業/見積/四月.txt", may(user("sato", 1002)))
    fifth = look(server, fourth)
    server.find("営業/見積/四月.txt").own = None
    web.log.append(("", None, SCOPE))  # of the site
    assert reads(told(look(server, fifth))["四月.txt"], 1003)


def test_groups_of_a_site_are_their_members_at_each_look(server: SharePoint) -> None:
    web = server.sites["/sites/eigyo"]
    web.own = [may(site_group(7, "営業 メンバー"))]
    server.groups[7] = [user("ito", 1001), group("総務部", 2001)]
    first = look(server)
    assert reads(upserts(first)["青山商事"].access, 1001)
    assert reads(upserts(first)["青山商事"].access, 2001)
    server.groups[7] = [user("sato", 1002)]
    second = look(server, first)
    assert reads(told(second)["青山商事.txt"], 1002) and not reads(
        told(second)["青山商事.txt"], 1001
    )
    named = accesses(server, names=["営業 メンバー = group:営業部"])
    assert reads(named["青山商事"], "group:営業部") and not reads(named["青山商事"], 1002)
    server.groups[7] = None
    third = look(server, second)
    assert told(third)["青山商事.txt"] == NOBODY
    assert [c for c in third if isinstance(c, Failed) and "営業 メンバー" in c.reason]
    with pytest.raises(SourceDenied, match="営業 メンバー"):
        over(server).check()


@pytest.mark.parametrize("role", [LIMITED, VIEW_ONLY, (2, 0), (1, 0x21)])
def test_what_does_not_let_read_does_not(server: SharePoint, role: tuple[int, int]) -> None:
    server.share("青山商事.txt", may(user("sato", 1002), role), may(user("kato", 1003)))
    found = accesses(server)["青山商事"]
    assert reads(found, 1003) and not reads(found, 1002)


def test_a_role_that_changes_is_asked_about_everywhere(server: SharePoint) -> None:
    server.share("青山商事.txt", may(user("sato", 1002)))
    first = look(server)
    server.find("青山商事.txt").own = [may(user("sato", 1002), VIEW_ONLY)]
    server.sites["/sites/eigyo"].log.append(("", None, ROLE))
    assert told(look(server, first))["青山商事.txt"] == NOBODY


@pytest.mark.parametrize(
    "login",
    ["c:0(.s|true", "c:0!.s|windows", "c:0+.w|s-1-5-11", "NT AUTHORITY\\authenticated users"],
)
def test_everyone_is_whom_the_settings_mean(server: SharePoint, login: str) -> None:
    server.share("青山商事.txt", may(claim(login)))
    changes = look(server)
    assert upserts(changes)["青山商事"].access == NOBODY
    assert [c for c in changes if isinstance(c, Failed) and "組織の全員" in c.reason]
    assert reads(accesses(server, everyone=["everyone"])["青山商事"])
    some = accesses(server, everyone=["group:社員"])["青山商事"]
    assert reads(some, "group:社員") and not reads(some)


@pytest.mark.parametrize(
    "login",
    ["c:0!.s|forms:partners", "c:0-.f|roles|管理者", "i:0#.f|members|ito", "i:05.t|adfs|ito@example.co.jp",
     "c:0%.c|system|farm", "i:0i.t|00000003|app@sharepoint"],
)  # fmt: skip
def test_who_is_unknown_is_nobody_and_told(server: SharePoint, login: str) -> None:
    server.share("青山商事.txt", may(claim(login, "だれか")))
    changes = look(server)
    assert upserts(changes)["青山商事"].access == NOBODY
    (row,) = [c for c in changes if isinstance(c, Failed)]
    assert login in row.reason and complete(changes)
    found = accesses(server, names=[f"{login} = user:ito"])["青山商事"]
    assert reads(found, "user:ito")


def test_people_are_known_by_the_table_the_directory_or_the_domain(server: SharePoint) -> None:
    strange = group("EXAMPLE\\ito", 9002)  # a group that is called like a person
    server.share("青山商事.txt", may(user("suzuki")), may(user("tanaka", 9001)), may(strange))
    changes = look(server)
    assert upserts(changes)["青山商事"].access == NOBODY
    row = next(c for c in changes if isinstance(c, Failed))
    assert sid(9001) in row.reason and "example\\suzuki" in row.reason
    found = accesses(server, domain="EXAMPLE")["青山商事"]
    assert (
        reads(found, "user:suzuki") and reads(found, "user:tanaka") and not reads(found, "user:ito")
    )
    names = [
        f"{sid(9001)} = user:t.tanaka",
        "EXAMPLE\\suzuki = nobody",
        f"{sid(9002)} = group:営業部",
    ]
    found = accesses(server, domain="EXAMPLE", names=names)["青山商事"]
    assert reads(found, "user:t.tanaka") and reads(found, "group:営業部")
    assert not reads(found, "user:suzuki") and not reads(found, "user:tanaka")
    with pytest.raises(SourceMisconfigured, match="形ではありません"):
        over(server, names=["営業部"]).check()


def test_settings_narrow_and_deny(server: SharePoint) -> None:
    found = accesses(server, allow=["group:営業部"], deny=["group:派遣"])["青山商事"]
    assert reads(found, 1001, "group:営業部") and not reads(found, 1001)
    assert not reads(found, "group:営業部")
    assert not reads(found, 1001, "group:営業部", "group:派遣")


def test_who_is_let_in_to_a_changed_file_waits_until_it_is_read(server: SharePoint) -> None:
    server.share("青山商事.txt", may(user("sato", 1002)))
    first = look(server)
    server.put("青山商事.txt", "新しい")
    server.inherit("青山商事.txt")
    second = look(server, first)
    assert told(second)["青山商事.txt"] == NOBODY
    assert reads(upserts(second)["青山商事"].access, 1001)


def test_rights_are_looked_after_while_reading_takes_long(
    server: SharePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.sharepoint_server.AGAIN_S", -1.0)
    run, seen = over(server).changes(None), list[Change]()
    for change in run:
        seen.append(change)
        if isinstance(change, Upsert):
            break
    server.sites["/sites/eigyo"].own = [may(user("sato", 1002))]
    seen += run
    assert reads(told(seen)["青山商事.txt"], 1002) and not reads(told(seen)["青山商事.txt"], 1001)
    assert all(not reads(f.access, 1001) for t, f in upserts(seen).items() if t != "青山商事")
