"""Google Drive against a fake that follows Google's documentation: what is read, and for whom."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from appliance.errors import ApplianceError, NotVisible, SourceBusy, SourceDenied, TooLarge
from appliance.store.secrets import SECRET
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
from connectors.gdrive import GDriveConnector, GDriveSettings
from connectors.gdrive_rights import grants
from tests.fakes.gdrive import DOC, SHORTCUT, GDrive, group, user

DRIVE = "0AEigyoDrive"
PEOPLE = [
    "user:ito@example.co.jp = user:ito",
    "user:kanri@example.co.jp = user:kanri",
    "group:sales@example.co.jp = group:営業部",
]
LINK = "https://drive.google.com/open?id="


def filled() -> GDrive:
    one = GDrive()
    one.folder("folder-mitsumori", "見積", DRIVE)
    one.folder("folder-yakuin", "役員", DRIVE, limited=True, named=[user("ito@example.co.jp")])
    one.put("file-tejun", "値引きの手順.txt", "folder-mitsumori", "八分まで。")
    one.put("doc-kisoku", "規則/2026 年度", DRIVE, "きそく", kind=DOC)
    one.put("file-yakuin", "役員報酬.txt", "folder-yakuin", "秘密。")
    one.put("file-gomi", "捨てた.txt", DRIVE, "x", trashed=True)
    one.put("short-cut", "近道", DRIVE, kind=SHORTCUT)
    one.folder("folder-kojin", "個人の資料", "root-ito", named=[user("ito@example.co.jp", "owner")])
    one.put("file-memo", "メモ.txt", "folder-kojin", "わたしのメモ。")
    return one


@pytest.fixture
def drive() -> Iterator[GDrive]:
    one = filled()
    yield one
    one.close()


def over(drive: GDrive, **more: object) -> GDriveConnector:
    own = drive.settings | {"people": PEOPLE, "drives": ["営業"]} | more
    return GDriveConnector(GDriveSettings.model_validate(own), Site(near=frozenset({drive.near})))


class TestASharedDrive(ConnectorContract):
    @pytest.fixture
    def connector(self, drive: GDrive) -> GDriveConnector:
        return over(drive)


class TestAFolderOfMyDrive(ConnectorContract):
    @pytest.fixture
    def connector(self, drive: GDrive) -> GDriveConnector:
        return over(drive, drives=[], folders=["folder-kojin"])


class TestBoth(ConnectorContract):
    @pytest.fixture
    def connector(self, drive: GDrive) -> GDriveConnector:
        inner = "https://drive.google.com/drive/folders/folder-mitsumori"
        return over(drive, drives=[DRIVE], folders=[inner, "folder-kojin"])


def upserts(changes: list[Change]) -> dict[str, Any]:
    return {c.file.uri.removeprefix(LINK): c.file for c in changes if isinstance(c, Upsert)}


def told(changes: list[Change]) -> dict[str, Access]:
    return {c.uri.removeprefix(LINK): c.access for c in changes if isinstance(c, AccessChanged)}


def accesses(drive: GDrive, **more: object) -> dict[str, Access]:
    files = upserts(list(over(drive, **more).changes(None)))
    return {id: file.access for id, file in files.items()}


def may(access: Access, *names: str) -> bool:
    return admits(access, frozenset({Principal("everyone"), *map(Principal, names)}))


def cursor(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def complete(changes: list[Change]) -> bool:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].complete


# --- what is read -----------------------------------------------------------------


def test_files_are_read_and_google_s_own_are_exported(drive: GDrive) -> None:
    drive.put("sheet-1", "売上", DRIVE, "s", kind="application/vnd.google-apps.spreadsheet")
    drive.put("slide-1", "発表", DRIVE, "p", kind="application/vnd.google-apps.presentation")
    drive.put("form-1", "アンケート", DRIVE, kind="application/vnd.google-apps.form")
    files = upserts(list(over(drive).changes(None)))
    assert set(files) == {
        "file-tejun", "doc-kisoku", "file-yakuin", "sheet-1", "slide-1",
    }, "no shortcut, no form, nothing trashed, nothing of another drive"  # fmt: skip
    assert files["doc-kisoku"].title == "規則/2026 年度"
    assert files["doc-kisoku"].media_type.endswith("wordprocessingml.document")
    assert files["sheet-1"].media_type.endswith("spreadsheetml.sheet")
    assert files["slide-1"].media_type.endswith("presentationml.presentation")
    for id, text in (("file-tejun", "八分まで。"), ("doc-kisoku", "きそく")):
        with files[id].open() as stream:
            assert stream.read().decode() == text
    assert files["file-tejun"].modified_at == datetime(2026, 4, 1, tzinfo=UTC)


def test_what_google_does_not_export_is_one_failure(drive: GDrive) -> None:
    drive.put("doc-big", "大きい", DRIVE, b"x" * 10_000_001, kind=DOC)
    files = upserts(list(over(drive).changes(None)))
    with pytest.raises(TooLarge, match="10 MB"):
        files["doc-big"].open()
    with files["doc-kisoku"].open() as stream:
        assert stream.read()


def test_a_file_that_changed_since_it_was_listed_waits(drive: GDrive) -> None:
    files = upserts(list(over(drive).changes(None)))
    drive.put("file-tejun", "値引きの手順.txt", "folder-mitsumori", "一割まで。")
    drive.put("doc-kisoku", "規則", DRIVE, "新しい", kind=DOC)
    for id in ("file-tejun", "doc-kisoku"):
        with pytest.raises(SourceBusy, match="書き換え"):
            files[id].open()


def test_names_may_be_the_same_and_hold_anything(drive: GDrive) -> None:
    drive.put("file-a", "同じ.txt", DRIVE, "a")
    drive.put("file-b", "同じ.txt", DRIVE, "b")
    drive.put("file-c", "ハ\u3099ック/../x.txt", DRIVE, "c")
    files = upserts(list(over(drive).changes(None)))
    assert files["file-a"].title == files["file-b"].title == "同じ.txt"
    assert files["file-c"].title == "バック/../x.txt"


def test_what_is_left_out_is_left_out_with_all_below(drive: GDrive) -> None:
    assert set(accesses(drive, exclude=["見積", "*報酬*"])) == {"doc-kisoku"}
    with pytest.raises(NotVisible):
        over(drive, exclude=["見積"]).file(f"{LINK}file-tejun")


# --- what changes -----------------------------------------------------------------


def test_only_the_log_of_changes_is_asked(drive: GDrive) -> None:
    for number in range(10_000):
        drive.items[f"many-{number}"] = drive.items["file-tejun"].__class__(
            f"many-{number}", f"{number}.txt", "folder-mitsumori", b"x"
        )
    first = list(over(drive).changes(None))
    assert len(upserts(first)) == 10_003
    assert len(drive.asked) < 20, "no request for each document"
    drive.asked.clear()
    second = list(over(drive).changes(cursor(first)))
    assert len(upserts(second)) == 10_003 and complete(second)
    assert len(drive.asked) == 4, "sign-in, drives, its members, its log"
    assert cursor(second) == cursor(first)


def test_a_change_a_rename_and_a_move_keep_the_document(drive: GDrive) -> None:
    first = list(over(drive).changes(None))
    drive.put("file-tejun", "値引きの手順.txt", "folder-mitsumori", "一割まで。")
    second = list(over(drive).changes(cursor(first)))
    assert upserts(second)["file-tejun"].version != upserts(first)["file-tejun"].version
    drive.items["file-tejun"].name = "手順 (改).txt"
    drive.move("file-tejun", DRIVE)
    third = list(over(drive).changes(cursor(second)))
    before, after = upserts(second)["file-tejun"], upserts(third)["file-tejun"]
    assert after.title == "手順 (改).txt"
    assert (after.uri, after.version) == (before.uri, before.version)
    assert not told(third)


@pytest.mark.parametrize("how", ["delete", "trash", "trash the folder", "move out"])
def test_what_went_is_gone(drive: GDrive, how: str) -> None:
    drive.drives["0AOther"], drive.members["0AOther"] = "人事", []
    first = list(over(drive).changes(None))
    if how == "delete":
        drive.delete("file-tejun")
    elif how == "move out":
        drive.move("folder-mitsumori", "0AOther")
    else:
        id = "file-tejun" if how == "trash" else "folder-mitsumori"
        drive.items[id].trashed = True
        drive.touch(id)
    second = list(over(drive).changes(cursor(first)))
    assert set(upserts(second)) == {"doc-kisoku", "file-yakuin"} and complete(second)
    with pytest.raises(NotVisible):
        over(drive).file(f"{LINK}file-tejun")
    if how == "trash the folder":
        drive.items["folder-mitsumori"].trashed = False
        drive.touch("folder-mitsumori")
        third = list(over(drive).changes(cursor(second)))
        assert "file-tejun" in upserts(third), "restored, though the log tells of the folder alone"


def test_a_drive_is_listed_anew_after_a_day(drive: GDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    first = list(over(drive).changes(None))
    del drive.items["file-tejun"]  # and no log tells
    assert "file-tejun" in upserts(list(over(drive).changes(cursor(first))))
    monkeypatch.setattr("connectors.gdrive_look.WHOLE_EVERY_S", 0.0)
    assert "file-tejun" not in upserts(list(over(drive).changes(cursor(first))))


def test_a_folder_is_walked_each_time(drive: GDrive) -> None:
    own = {"drives": [], "folders": ["folder-kojin", "folder-mitsumori"]}
    drive.folder("folder-naka", "中", "folder-kojin")
    drive.put("file-naka", "奥.txt", "folder-naka", "奥の話。")
    first = list(over(drive, **own).changes(None))
    assert set(upserts(first)) == {"file-memo", "file-naka", "file-tejun"}
    drive.items["folder-naka"].parent = "root-ito"
    drive.put("file-new", "新しい.txt", "folder-mitsumori", "新")
    second = list(over(drive, **own).changes(cursor(first)))
    assert set(upserts(second)) == {"file-memo", "file-new", "file-tejun"} and complete(second)


# --- who may read -----------------------------------------------------------------


def test_members_of_a_drive_read_what_is_in_it(drive: GDrive) -> None:
    found = accesses(drive)
    for id in ("file-tejun", "doc-kisoku"):
        assert may(found[id], "group:営業部") and may(found[id], "user:kanri")
        assert not may(found[id], "user:ito") and not may(found[id], "user:sato")


@pytest.mark.parametrize("plain", [False, True])
def test_a_folder_with_limited_access_admits_who_is_named_on_it(drive: GDrive, plain: bool) -> None:
    drive.plain = plain
    found = accesses(drive)["file-yakuin"]
    assert may(found, "user:ito") and not may(found, "group:営業部")
    assert may(found, "user:kanri"), "who manages the drive enters everywhere"


def test_who_is_named_on_a_file_or_above_it_may_read_more(drive: GDrive) -> None:
    drive.items["folder-mitsumori"].named = [user("ito@example.co.jp", "commenter")]
    drive.touch("folder-mitsumori")
    found = accesses(drive)
    assert may(found["file-tejun"], "user:ito") and not may(found["doc-kisoku"], "user:ito")


def test_a_folder_with_limited_access_may_be_all_that_is_read(drive: GDrive) -> None:
    drive.plain = True
    for id in ("folder-yakuin", "folder-mitsumori"):
        found = accesses(drive, drives=[], folders=[id])
        assert may(next(iter(found.values())), "user:kanri")
        assert may(next(iter(found.values())), "group:営業部") == (id == "folder-mitsumori")
        assert may(next(iter(found.values())), "user:ito") == (id == "folder-yakuin")


def test_where_a_drive_is_for_members_only_others_named_on_it_read_nothing(drive: GDrive) -> None:
    drive.items["file-tejun"].named = [user("ito@example.co.jp")]
    drive.members_only.add(DRIVE)
    found = accesses(drive)
    assert not may(found["file-tejun"], "user:ito") and not may(found["file-yakuin"], "user:ito")
    assert may(found["file-yakuin"], "user:ito", "group:営業部"), "a member by a group"
    assert may(found["doc-kisoku"], "group:営業部")
    found = accesses(drive, drives=[], folders=["folder-mitsumori"])
    assert not may(found["file-tejun"], "user:ito") and may(found["file-tejun"], "group:営業部")


@pytest.mark.parametrize(
    "grant",
    [
        user("ito@example.co.jp", "reader", view="published"),
        user("ito@example.co.jp", "writer", view="metadata"),
        user("ito@example.co.jp", "unheardOf"),
        user("ito@example.co.jp", deleted=True),
        user("ito@example.co.jp", "writer", view="metadata", inheritedPermissionsDisabled=True),
        user("ito@example.co.jp", expirationTime="2026-01-01T00:00:00Z"),
        user("ito@example.co.jp", expirationTime="いつか"),
        user("sato@example.co.jp"),
        group("ito@example.co.jp"),
        {"type": "domain", "role": "reader", "domain": "example.co.jp"},
        {"type": "anyone", "role": "reader"},
    ],
)
def test_what_grants_nothing_here_grants_nothing(drive: GDrive, grant: dict[str, Any]) -> None:
    for id in ("file-tejun", "file-memo"):
        drive.items[id].named = [grant]
    drive.items["folder-kojin"].named = []
    people = [*PEOPLE, "anyone = everyone", "domain:example.co.jp = everyone"]
    found = accesses(drive, folders=["folder-kojin"], people=people)
    assert not may(found["file-tejun"], "user:ito")
    assert found["file-memo"] == NOBODY


def test_what_is_inherited_where_that_is_switched_off_grants_nothing() -> None:
    """How Drive tells of it is not certain: as something to be seen alone, or so."""
    off: dict[str, Any] = {"inheritedPermissionsDisabled": True}
    assert not grants([user("ito@example.co.jp", **off)])
    assert not grants([user("ito@example.co.jp", permissionDetails=[{"inherited": True}], **off)])
    assert grants([user("ito@example.co.jp", permissionDetails=[{"inherited": False}], **off)])
    assert grants([user("kanri@example.co.jp", "organizer", **off)])


def test_domains_and_anyone_by_the_table_alone(drive: GDrive) -> None:
    domain = {"type": "domain", "role": "reader", "domain": "Example.co.jp"}
    drive.items["file-memo"].named = [domain | {"allowFileDiscovery": True}]
    drive.items["file-tejun"].named = [{"type": "anyone", "role": "reader"}]
    both = {"folders": ["folder-kojin"]}
    people = [*PEOPLE, "anyone = everyone", "domain:example.co.jp = group:社員"]
    assert not may(accesses(drive, **both)["file-memo"], "group:社員")
    found = accesses(drive, people=people, **both)
    assert may(found["file-memo"], "group:社員") and not may(found["file-tejun"], "user:x")
    assert may(accesses(drive, people=people, links=True, **both)["file-tejun"], "user:x")


def test_the_same_name_is_the_same_person_where_that_is_said(drive: GDrive) -> None:
    drive.items["file-tejun"].named = [user("Sato@example.co.jp"), group("all@example.co.jp")]
    assert not may(accesses(drive)["file-tejun"], "user:sato@example.co.jp")
    found = accesses(drive, same_names=True)["file-tejun"]
    assert may(found, "user:sato@example.co.jp")
    assert not may(found, "group:all@example.co.jp"), "nobody knows who is in a group of Google"


def test_the_administrator_s_allow_narrows(drive: GDrive) -> None:
    found = accesses(drive, allow=["group:東京"])["file-tejun"]
    assert may(found, "group:東京", "group:営業部")
    assert not may(found, "group:営業部") and not may(found, "group:東京")


def test_rights_change_without_reading(drive: GDrive) -> None:
    drive.items["folder-mitsumori"].named = [user("ito@example.co.jp")]
    first = list(over(drive).changes(None))
    drive.items["folder-mitsumori"].named = [user("kato@example.co.jp")]
    drive.touch("folder-mitsumori")  # of what is below, the log says nothing
    second = list(over(drive).changes(cursor(first)))
    assert second[0] == AccessChanged(f"{LINK}file-tejun", upserts(second)["file-tejun"].access)
    assert not may(told(second)["file-tejun"], "user:ito")
    drive.members[DRIVE] = [user("kanri@example.co.jp", "organizer")]  # no log tells of this either
    drive.asked.clear()
    third = list(over(drive).changes(cursor(second)))
    assert set(told(third)) == {"file-tejun", "doc-kisoku"}
    assert not any(may(access, "group:営業部") for access in told(third).values())
    assert not [url for url in drive.asked if "alt=media" in url or "export" in url]


def test_a_move_below_a_limited_folder_is_limited(drive: GDrive) -> None:
    first = list(over(drive).changes(None))
    drive.move("folder-mitsumori", "folder-yakuin")
    second = list(over(drive).changes(cursor(first)))
    assert may(told(second)["file-tejun"], "user:ito")
    assert not may(told(second)["file-tejun"], "group:営業部")


def test_who_is_let_in_to_a_changed_file_waits_until_it_is_read(drive: GDrive) -> None:
    first = list(over(drive).changes(None))
    drive.put(
        *("file-tejun", "手順.txt", "folder-mitsumori", "新しい"),
        named=[user("ito@example.co.jp")],
    )
    second = list(over(drive).changes(cursor(first)))
    assert told(second)["file-tejun"] == NOBODY
    assert may(upserts(second)["file-tejun"].access, "user:ito")


def test_a_right_for_a_time_ends(drive: GDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    end = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    drive.items["file-tejun"].named = [user("ito@example.co.jp", expirationTime=end)]
    one = over(drive)
    first = list(one.changes(None))
    assert may(upserts(first)["file-tejun"].access, "user:ito")

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=2)

    monkeypatch.setattr("connectors.gdrive_rights.datetime", Later)
    second = list(one.changes(cursor(first)))
    assert not may(told(second)["file-tejun"], "user:ito")


def test_rights_are_looked_after_while_reading_takes_long(
    drive: GDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.gdrive.AGAIN_S", -1.0)
    seen, run = list[Change](), over(drive).changes(None)
    for change in run:
        seen.append(change)
        if len(upserts(seen)) == 2:
            break
    drive.members[DRIVE] = [user("kanri@example.co.jp", "organizer")]
    later = list(run)
    assert set(told(later)) == set(upserts(seen)) & {"file-tejun", "doc-kisoku"}
    assert not any(may(one, "group:営業部") for one in told(later).values())
    monkeypatch.undo()
    assert not told(list(over(drive).changes(cursor(later)))), "the cursor knows"


@pytest.mark.parametrize("own", [{}, {"drives": [], "folders": ["folder-kojin"]}])
def test_rights_that_are_not_told_are_nobody_s(drive: GDrive, own: dict[str, Any]) -> None:
    drive.viewer = True
    if not own:
        with pytest.raises(SourceDenied, match="読む権限"):
            over(drive).check()
        with pytest.raises(SourceDenied):
            list(over(drive).changes(None))
        return
    with pytest.raises(SourceDenied, match="編集者"):
        over(drive, **own).check()
    changes = list(over(drive, **own).changes(None))
    assert {file.access for file in upserts(changes).values()} == {NOBODY}
    failed = [c for c in changes if isinstance(c, Failed)]
    assert len(failed) == 1 and "編集者" in failed[0].reason


# --- settings ---------------------------------------------------------------------


def test_the_key_is_a_secret_and_the_account_may_act_for_somebody(drive: GDrive) -> None:
    assert SECRET.search("key")
    assert "PRIVATE" not in repr(GDriveSettings.model_validate(drive.settings))
    over(drive, subject="ito@example.co.jp").check()
    assert drive.sign_in.signed[-1]["sub"] == "ito@example.co.jp"
    over(drive).check()
    assert "sub" not in drive.sign_in.signed[-1]


def test_all_drives_of_the_account_where_none_is_named(drive: GDrive) -> None:
    drive.drives["0AOther"], drive.members["0AOther"] = "人事", [user("ito@example.co.jp")]
    drive.put("file-jinji", "人事.txt", "0AOther", "x")
    assert "file-jinji" in accesses(drive, drives=[])
    assert "file-jinji" not in accesses(drive)


def test_one_drive_that_closes_hides_no_other_and_deletes_nothing(drive: GDrive) -> None:
    drive.drives["0AOther"], drive.members["0AOther"] = "人事", [user("ito@example.co.jp")]
    drive.put("file-jinji", "人事.txt", "0AOther", "x")
    own = {"drives": ["営業", "人事"]}
    first = list(over(drive, **own).changes(None))
    drive.hidden.add("0AOther")
    drive.delete("file-tejun")
    second = list(over(drive, **own).changes(cursor(first)))
    assert told(second)["file-jinji"] == NOBODY and not complete(second)
    assert [c.uri for c in second if isinstance(c, Remove)] == [f"{LINK}file-tejun"]
    assert [c.title for c in second if isinstance(c, Failed)] == ["人事"]
    drive.hidden.clear()
    third = list(over(drive, **own).changes(cursor(second)))
    assert may(told(third)["file-jinji"], "user:ito") and complete(third)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"drives": ["ない"]}, "メンバーではありません"),
        ({"drives": [], "folders": ["folder-nai"]}, "共有されていません"),
        ({"drives": [], "folders": ["file-memo"]}, "共有されていません"),
        ({"key": "ない"}, "JSON ファイルの中身"),
        ({"key": '{"client_email": "a", "private_key": "b"}'}, "private_key を読めません"),
        ({"people": ["user:ito"]}, "人とグループの対応表"),
        ({"people": ["ito@example.co.jp = user:ito"]}, "人とグループの対応表"),
        ({"allow": ["ito"]}, "閲覧できる人"),
        ({"subject": "ito@elsewhere.example"}, "ドメイン全体の委任"),
        ({"subject": "inai@example.co.jp"}, "代理する利用者がいません"),
    ],
)
def test_what_is_wrong_is_said(drive: GDrive, own: dict[str, Any], says: str) -> None:
    with pytest.raises(ApplianceError, match=says):
        over(drive, **own).check()


def test_two_drives_of_one_name_are_told_apart_by_their_ids(drive: GDrive) -> None:
    drive.drives["0AOther"], drive.members["0AOther"] = "営業", []
    with pytest.raises(ApplianceError, match="ID を書いて"):
        over(drive).check()
    over(drive, drives=[DRIVE]).check()


def test_a_file_beside_the_scope_is_not_visible(drive: GDrive) -> None:
    for id in ("file-memo", "folder-mitsumori", "short-cut", "file-gomi", DRIVE):
        with pytest.raises(NotVisible):
            over(drive).file(f"{LINK}{id}")
