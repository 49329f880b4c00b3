"""Redmine against a real one."""

from __future__ import annotations

import pytest

from appliance.errors import (
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
)
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    EVERYONE,
    NOBODY,
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Layer,
    Moved,
    Principal,
    Remove,
    Upsert,
)
from connectors import redmine_look
from connectors.redmine import RedmineConnector
from tests.connectors.redmines import Redmine, redmine, server

__all__ = ["redmine", "server"]  # fixtures

FIRST = """
shop = Project.find("eigyo")
ito, sato, kato = %w[ito sato kato].map { |login| $user.call(login) }
$member.call(shop, ito, 4)
$member.call(shop, sato, 3)
$member.call(shop, kato, 5)
one = $issue.call(shop, "青山商事の値引き", description: "h2. 理由\\n\\n# 八分まで\\n## 端数", author: ito)
$at.call(one, "部長が承認した。")
$at.call(one, "原価は秘密。", private_notes: true)
$attach.call(one, "見積.txt", "宿泊費は12,000円。")
$attach.call(shop, "規程.txt", "始業は9時。")
page = $page.call(shop, "手引き", "h1. 受付\\n\\n受付は1階。")
$attach.call(page, "地図.txt", "地図です。")
"""


@pytest.fixture
def shop(redmine: Redmine) -> Redmine:
    redmine.do(FIRST)
    return redmine


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, shop: Redmine) -> RedmineConnector:
        return shop.connector()


def look(connector: RedmineConnector, since: Cursor | None = None) -> list[Change]:
    return list(connector.changes(since))


def cursor(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def texts(changes: list[Change]) -> dict[str, str]:
    found = {}
    for change in changes:
        if isinstance(change, Upsert):
            with change.file.open() as stream:
                found[change.file.title] = stream.read().decode()
    return found


def readers(changes: list[Change]) -> dict[str, str]:
    """By title; a layer's names between spaces."""
    return {c.file.title: names(c.file.access) for c in changes if isinstance(c, Upsert)}


def names(access: Access) -> str:
    return " & ".join(
        " ".join(sorted(name.removeprefix("user:") for name in one.allow)) for one in access
    )


def versions(changes: list[Change]) -> dict[str, str]:
    return {c.file.title: c.file.version for c in changes if isinstance(c, Upsert)}


# --- what is read -----------------------------------------------------------------


def test_issues_pages_files_and_what_is_attached_are_documents(shop: Redmine) -> None:
    found = texts(look(shop.connector()))
    issue = next(found.pop(title) for title in list(found) if title.endswith("青山商事の値引き"))
    assert issue.startswith("# 青山商事の値引き (#")
    assert "- ステータス: 新規" in issue and "- プロジェクト: 営業の棚" in issue
    assert "## 理由\n\n1. 八分まで\n   1. 端数" in issue, "Textile as Markdown"
    assert "部長が承認した。" in issue and "原価" not in issue, "no private note"
    assert found == {
        "手引き": "# 手引き\n\n# 受付\n\n受付は1階。\n",
        "見積.txt": "宿泊費は12,000円。",
        "規程.txt": "始業は9時。",
        "地図.txt": "地図です。",
    }


def test_the_uri_is_where_people_find_it(shop: Redmine) -> None:
    uris = [c.file.uri for c in look(shop.connector()) if isinstance(c, Upsert)]
    assert all(uri.startswith(f"{shop.url}/") for uri in uris)
    assert f"{shop.url}/projects/eigyo/wiki/%E6%89%8B%E5%BC%95%E3%81%8D" in uris


def test_only_what_is_asked_for(shop: Redmine) -> None:
    shop.do("""
    shop = Project.find("eigyo")
    $issue.call(shop, "機能の要望", tracker_id: 2)
    child = Project.create!(name: "子", identifier: "ko", tracker_ids: [1],
      enabled_module_names: ["issue_tracking"])
    child.set_parent!(shop)
    $issue.call(child, "子のチケット")
    """)
    only = shop.connector(trackers=["機能"], wiki=False, files=False)
    assert [title.partition(" ")[2] for title in texts(look(only))] == ["機能の要望"]
    bare = shop.connector(issues=False, attachments=False)
    assert set(texts(look(bare))) == {"手引き", "規程.txt"}
    every = shop.connector(projects=[])
    assert any("子のチケット" in title for title in texts(look(every)))
    assert not any("子の" in title for title in texts(look(shop.connector())))


def test_closed_issues_and_closed_projects_are_read(shop: Redmine) -> None:
    shop.do("""
    closed = IssueStatus.find_by(is_closed: true)
    $at.call(Issue.last, "終わり。", status: closed)
    Project.find("eigyo").close
    """)
    found = texts(look(shop.connector()))
    assert any("終わり。" in text for text in found.values()) and len(found) == 5


def test_fields_that_some_roles_alone_see_are_left_out(shop: Redmine) -> None:
    shop.do("""
    base = {field_format: "string", is_for_all: true, trackers: Tracker.all}
    open = IssueCustomField.create!(base.merge(name: "取引先"))
    shut = IssueCustomField.create!(base.merge(name: "原価", visible: false, role_ids: [3]))
    issue = Issue.last
    issue.reload.custom_field_values = {open.id => "青山商事", shut.id => "五千円"}
    issue.save!
    """)
    issue = next(iter(texts(look(shop.connector(wiki=False, files=False))).values()))
    assert "- 取引先: 青山商事" in issue and "五千円" not in issue


def test_markdown_stays_as_it_is(shop: Redmine) -> None:
    shop.do("""Issue.last.update!(description: "# 見出し\\n\\nh2. ではない")""")
    found = texts(look(shop.connector(markdown=True)))
    assert any("\n# 見出し\n\nh2. ではない\n" in text for text in found.values())


# --- what changes -----------------------------------------------------------------


def test_created_changed_renamed_moved_deleted(shop: Redmine) -> None:
    connector = shop.connector(projects=["eigyo", "betsu"])
    shop.do("""
    other = Project.create!(name: "別", identifier: "betsu", is_public: false, tracker_ids: [1],
      enabled_module_names: ["issue_tracking"])
    $member.call(other, User.find_by_login("sato"), 3)
    $issue.call(Project.find("eigyo"), "消えるチケット")
    $issue.call(Project.find("eigyo"), "移るチケット")
    """)
    first = look(connector)
    shop.do("""
    $issue.call(Project.find("eigyo"), "新しいチケット")
    one = Issue.find_by(subject: "青山商事の値引き")
    $at.call(one, "一割五分に改めた。")
    Issue.find_by(subject: "消えるチケット").destroy
    moved = Issue.find_by(subject: "移るチケット")
    $at.call(moved, "", project: Project.find("betsu"))
    page = Project.find("eigyo").wiki.find_page("手引き")
    page.title, page.redirect_existing_links = "受付の手引き", "1"
    page.save!
    """)
    second = look(connector, cursor(first))
    assert isinstance(second[-1], Checkpoint) and second[-1].complete
    moves = [(c.old_uri, c.uri, c.title) for c in second if isinstance(c, Moved)]
    assert [title for _, _, title in moves] == ["受付の手引き", "地図.txt"]
    found = texts(second)
    subjects = {title.partition(" ")[2] for title in found if title.startswith("#")}
    assert subjects == {"青山商事の値引き", "移るチケット", "新しいチケット"}
    assert any("一割五分" in text for text in found.values())
    access = {t.partition(" ")[2] or t: who for t, who in readers(second).items()}
    assert access["移るチケット"] == "sato" and "ito" in access["新しいチケット"]
    before, after = versions(first), versions(second)
    assert before["規程.txt"] == after["規程.txt"] and before["見積.txt"] == after["見積.txt"]


def test_what_is_attached_and_taken_away_again(shop: Redmine) -> None:
    first = look(shop.connector())
    shop.do("""
    one = Issue.last
    $attach.call(one, "追加.txt", "追加です。")
    $at.call(one, "添付した。")
    """)
    second = look(shop.connector(), cursor(first))
    assert "追加です。" in texts(second).values()
    shop.do("""
    one = Issue.last
    one.attachments.find_by(filename: "追加.txt").destroy
    $at.call(one, "消した。")
    """)
    third = look(shop.connector(), cursor(second))
    assert "追加.txt" not in texts(third) and isinstance(third[-1], Checkpoint)


def test_once_a_day_everything_is_listed(shop: Redmine, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look(shop.connector())
    shop.do("Attachment.where(filename: %w[見積.txt 地図.txt]).each(&:destroy)")
    shop.do("Issue.update_all(updated_on: 1.day.ago)")
    monkeypatch.setattr(redmine_look, "WHOLE_S", 0.0)
    assert set(texts(look(shop.connector(), cursor(first)))) & {"見積.txt", "地図.txt"} == set()


def test_an_issue_changed_after_it_was_listed_is_busy_not_mixed(shop: Redmine) -> None:
    changes = look(shop.connector())
    one = next(c.file for c in changes if isinstance(c, Upsert) and c.file.title.startswith("#"))
    shop.do("Issue.last.update!(subject: '別の件名')")
    with pytest.raises(SourceBusy, match="変更されました"):
        one.open()


def test_what_did_not_change_costs_no_request_of_its_own(
    shop: Redmine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.do("150.times { |n| $issue.call(Project.find('eigyo'), \"件 #{n}\") }")
    shop.do("Issue.update_all(updated_on: 1.day.ago); Issue.last.touch(:updated_on)")
    first = look(shop.connector())
    assert len(versions(first)) == 155
    asked: list[str] = []
    connector = shop.connector()
    ask = connector._api.http.ask

    def count(method: str, url: str, **more: object) -> object:
        asked.append(url)
        return ask(method, url, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(connector._api.http, "ask", count)
    assert versions(look(connector, cursor(first))) == versions(first)
    assert sum("/issues.json" in url for url in asked) == 2, "the newest, and what is newer"
    assert len(asked) < 20


# --- who may read -----------------------------------------------------------------


def test_members_read_what_their_roles_permit(shop: Redmine) -> None:
    shop.do("""
    Issue.last.update!(assigned_to: nil)
    role = Role.find(4)
    role.permissions -= [:view_files]
    role.save!
    """)
    found = {t.partition(" ")[2] or t: who for t, who in readers(look(shop.connector())).items()}
    assert found == {
        "青山商事の値引き": "ito sato",  # 報告者 sees only his own
        "見積.txt": "ito sato",
        "手引き": "ito kato sato",
        "地図.txt": "ito kato sato",
        "規程.txt": "kato sato",
    }


def test_private_issues_are_for_author_assignee_and_who_sees_all(shop: Redmine) -> None:
    shop.do("""
    shop = Project.find("eigyo")
    nakata, mori = $user.call("nakata"), $user.call("Mori")
    group = Group.create!(name: "開発部")
    group.users << mori
    [nakata].each { |who| $member.call(shop, who, 4) }
    $member.call(shop, group, 4)
    Issue.last.update!(is_private: true)
    $issue.call(shop, "内緒", is_private: true, assigned_to: group)
    """)
    found = {t.partition(" ")[2] or t: who for t, who in readers(look(shop.connector())).items()}
    assert found["青山商事の値引き"] == found["見積.txt"] == "ito sato"
    assert found["内緒"] == "mori sato", "by the group it is assigned to"
    by_name = readers(look(shop.connector(groups_by_name=True)))
    assert "group:開発部" in by_name["手引き"]


def test_a_role_kept_to_some_trackers_sees_no_other(shop: Redmine) -> None:
    """The REST API tells nothing of it."""
    shop.do("""
    role = Role.find(4)
    role.set_permission_trackers(:view_issues, [2])
    role.save!
    shop = Project.find("eigyo")
    $issue.call(shop, "機能の要望", tracker_id: 2)
    both = $user.call("both")
    $member.call(shop, both, 4, 5)
    """)
    found = {t.partition(" ")[2] or t: who for t, who in readers(look(shop.connector())).items()}
    assert found["青山商事の値引き"] == "sato", "not even its author"
    assert found["機能の要望"] == "both ito sato"


def test_what_was_not_seen_is_not_granted(shop: Redmine) -> None:
    """Nobody has role 4 or 5 alone: which of them shows a tracker is not known."""
    shop.do("""
    Member.all.each(&:destroy)
    both = $user.call("both")
    $member.call(Project.find("eigyo"), both, 3, 5)
    $issue.call(Project.find("eigyo"), "自分の", author: both)
    """)
    found = {t.partition(" ")[2] or t: who for t, who in readers(look(shop.connector())).items()}
    assert found["青山商事の値引き"] == "" and found["自分の"] == found["手引き"] == "both"


def test_locked_users_and_revoked_roles_go_before_any_content(shop: Redmine) -> None:
    first = look(shop.connector())
    shop.do("""
    User.find_by_login("sato").lock!
    Member.find_by(user_id: User.find_by_login("kato").id).destroy
    """)
    second = look(shop.connector(), cursor(first))
    told = [type(change) for change in second]
    assert told.count(AccessChanged) == 5 and told.index(Upsert) == 5
    assert all(c.access == (Layer(frozenset({Principal("user:ito")})),)
               for c in second if isinstance(c, AccessChanged))  # fmt: skip
    shop.do("r = Role.find(4); r.permissions -= [:view_wiki_pages]; r.save!")
    third = look(shop.connector(), cursor(second))
    assert [c.access for c in third if isinstance(c, AccessChanged)] == [NOBODY, NOBODY]


def test_an_issue_made_private_is_taken_from_the_others_first(shop: Redmine) -> None:
    shop.do("$issue.call(Project.find('eigyo'), '公開')")
    first = look(shop.connector())
    shop.do("$at.call(Issue.last, '内緒に。', is_private: true)")
    second = look(shop.connector(), cursor(first))
    (changed,) = [c for c in second if isinstance(c, AccessChanged)]
    assert changed.access == NOBODY, "until what it says now is read"
    assert next(w for t, w in readers(second).items() if t.endswith("公開")) == "sato"


def test_inherited_members_read_too(shop: Redmine) -> None:
    shop.do("""
    child = Project.create!(name: "子", identifier: "ko", is_public: false, tracker_ids: [1],
      enabled_module_names: ["issue_tracking"])
    child.set_parent!(Project.find("eigyo"))
    child.update!(inherit_members: true)
    $issue.call(child, "子のチケット")
    """)
    assert list(readers(look(shop.connector(projects=["ko"]))).values()) == ["ito sato"]


def test_a_public_project_is_for_everyone_only_if_a_setting_says_so(shop: Redmine) -> None:
    shop.do("Project.find('eigyo').update!(is_public: true); $user.call('soto')")
    assert "everyone" not in " ".join(readers(look(shop.connector())).values())
    shop.do("Issue.last.update!(is_private: true)")
    found = {
        t.partition(" ")[2] or t: who
        for t, who in readers(look(shop.connector(public=True))).items()
    }
    assert EVERYONE in found["手引き"] and EVERYONE not in found["青山商事の値引き"]
    shop.do("r = Role.non_member; r.permissions -= [:view_wiki_pages]; r.save!")
    try:
        assert EVERYONE not in readers(look(shop.connector(public=True)))["手引き"]
    finally:
        shop.do("r = Role.non_member; r.permissions += [:view_wiki_pages]; r.save!")


def test_the_administrator_narrows_or_says_alone(shop: Redmine) -> None:
    both = readers(look(shop.connector(allow=["group:営業部"])))
    assert both["手引き"] == "ito kato sato & group:営業部"
    shop.do("Issue.last.update!(is_private: true)")
    alone = readers(look(shop.connector(by_roles=False, allow=["group:営業部"])))
    assert alone.pop("手引き") == alone.pop("規程.txt") == alone.pop("地図.txt") == "group:営業部"
    assert set(alone.values()) == {""}, "private, and what is attached to it"


# --- what goes wrong --------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"api_key": "himitsu"}, SourceDenied, "サインインできません.*API キー"),
        ({"projects": ["nai"]}, SourceMisconfigured, "「nai」がありません"),
        ({"trackers": ["ない"]}, SourceMisconfigured, "トラッカー「ない」"),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
        ({"url": "http://127.0.0.1:{port}/redmine"}, SourceMisconfigured, "ではありません"),
    ],
)
def test_a_wrong_setting_is_told(
    shop: Redmine, wrong: dict[str, object], error: type[Exception], words: str
) -> None:
    given = {k: v.format(port=shop.port) if isinstance(v, str) else v for k, v in wrong.items()}
    connector = shop.connector(**given)
    with pytest.raises(error, match=words) as told:
        connector.check()
    assert "himitsu" not in str(told.value) + repr(connector._settings)


def test_a_key_of_no_administrator_is_told(shop: Redmine) -> None:
    key = shop.do("User.find_by_login('sato').api_key")
    with pytest.raises(SourceDenied, match="管理者のものではない"):
        shop.connector(api_key=key).check()
    with pytest.raises(SourceDenied, match="管理者のものではない"):
        look(shop.connector(api_key=key))
    found = readers(look(shop.connector(api_key=key, by_roles=False, allow=["everyone"])))
    assert set(found.values()) == {"everyone"}


def test_an_api_that_is_switched_off_deletes_nothing(shop: Redmine) -> None:
    """Redmine then answers as it does strangers, with an empty list."""
    shop.do("Setting.rest_api_enabled = '0'")
    with pytest.raises(SourceDenied, match="RESTによる"):
        look(shop.connector())


def test_a_project_that_went_keeps_its_documents_for_nobody(shop: Redmine) -> None:
    first = look(shop.connector())
    shop.do("Project.find('eigyo').archive")
    second = look(shop.connector(), cursor(first))
    assert [c.access for c in second if isinstance(c, AccessChanged)] == [NOBODY] * 5
    assert [c.title for c in second if isinstance(c, Failed)] == ["eigyo"]
    assert second[-1] == Checkpoint(cursor(second), complete=False)
    shop.do("Project.find('eigyo').unarchive")
    third = look(shop.connector(), cursor(second))
    assert readers(third) == readers(first) and versions(third) == versions(first)
    assert not [c for c in third if isinstance(c, (Moved, Remove, Failed))]
