"""SharePoint, OneDrive and Teams, against a fake that follows Microsoft's documentation of Graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.errors import ApplianceError, SourceBusy, SourceDenied, SourceMisconfigured
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
from connectors.sharepoint import SharePointConnector
from connectors.sharepoint_settings import SharePointSettings
from tests.fakes.graph import TEAM, Library, Microsoft, Node
from tests.fakes.graph_permissions import claim, group, guid, link, site_group, user

ITO, SATO, KATO = "ito@example.co.jp", "sato@example.co.jp", "kato@example.co.jp"


def filled() -> Microsoft:
    one = Microsoft()
    one.put("青山商事.txt", "値引きは八分まで。")
    one.put("営業/見積/四月.txt", "見積です。")
    one.put("営業/規程 50%#1.txt", "規程です。")
    one.put("人事/評価.txt", "評価です。")
    one.share("", user(ITO), user(SATO))
    one.share("人事", user(KATO))
    one.put("個人メモ.txt", "メモ", library="L2")
    return one


@pytest.fixture
def cloud() -> Iterator[Microsoft]:
    one = filled()
    yield one
    one.close()


def over(cloud: Microsoft, **more: object) -> SharePointConnector:
    site = Site(near=frozenset({cloud.near, f"localhost:{cloud.port}"}))
    settings = cloud.settings | {"same_names": True} | more
    return SharePointConnector(SharePointSettings.model_validate(settings), site)


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, cloud: Microsoft) -> SharePointConnector:
        return over(cloud, people=[ITO])


def upserts(changes: list[Change]) -> dict[str, RawFile]:
    return {c.file.title: c.file for c in changes if isinstance(c, Upsert)}


def told(changes: list[Change]) -> dict[str, Access]:
    """By the last part of the uri, whose access was said to be another."""
    return {c.uri.rpartition("/")[2]: c.access for c in changes if isinstance(c, AccessChanged)}


def look(cloud: Microsoft, after: list[Change] | None = None, **more: Any) -> list[Change]:
    cloud.asked.clear()
    return list(over(cloud, **more).changes(cursor(after) if after else None))


def accesses(cloud: Microsoft, **more: Any) -> dict[str, Access]:
    return {title: file.access for title, file in upserts(look(cloud, **more)).items()}


def may(access: Access, *names: str) -> bool:
    who = (f"user:{n}" if "@" in n else n for n in names)
    return admits(access, frozenset({Principal("everyone"), *map(Principal, who)}))


def cursor(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def complete(changes: list[Change]) -> bool:
    return isinstance(changes[-1], Checkpoint) and changes[-1].complete


# --- documents --------------------------------------------------------------------


def test_files_of_sites_and_of_people_are_documents(cloud: Microsoft) -> None:
    found = upserts(look(cloud, people=[ITO]))
    assert set(found) == {"青山商事", "四月", "規程 50%#1", "評価", "個人メモ"}
    one = found["規程 50%#1"]
    at = f"{cloud.url}/sites/eigyo/Shared%20Documents/営業/規程%2050%25%231.txt"
    assert one.uri == at and one.media_type == "text/plain"
    assert one.modified_at.isoformat() == "2026-04-01T00:00:00+00:00"
    with one.open() as stream:
        assert stream.read().decode() == "規程です。"
    assert set(upserts(look(cloud, exclude=["営業/*", "*評価*"]))) == {"青山商事"}


def test_of_a_team_the_folders_of_its_channels_are_read(cloud: Microsoft) -> None:
    cloud.channels = {"19:a@thread": ("L1", "営業"), "19:b@thread": ("L2", ""), "19:c@thread": None}
    found = upserts(look(cloud, sites=[], teams=[TEAM.upper()]))
    assert set(found) == {"四月", "規程 50%#1", "個人メモ"}
    assert set(upserts(look(cloud, teams=[TEAM]))) == {"青山商事", "評価", *found}, "each once"
    connector = over(cloud, sites=[], teams=[TEAM])
    assert connector.file(found["四月"].uri).version == found["四月"].version
    with pytest.raises(ApplianceError):
        connector.file(upserts(look(cloud))["評価"].uri)


def test_libraries_may_be_named(cloud: Microsoft) -> None:
    other = Library("b!L3", "資料", "/sites/eigyo/Shiryo")
    other.nodes["01ROOT"] = Node("01ROOT", "root", "", own=[user(ITO)])
    other.log.append(("01ROOT", False))
    cloud.libraries["L3"] = other
    cloud.sites["sites/eigyo"].append("L3")
    cloud.put("資料.txt", "資料", library="L3")
    assert set(upserts(look(cloud, libraries=["資料"]))) == {"資料"}
    assert len(upserts(look(cloud))) == 5
    with pytest.raises(SourceMisconfigured, match="読むライブラリがありません"):
        over(cloud, libraries=["ない"]).check()


def test_what_has_no_bytes_of_its_own_is_left(cloud: Microsoft) -> None:
    cloud.put("手帳/一.txt", "x")
    cloud.find("手帳").more = {"package": {"type": "oneNote"}}
    cloud.put("よそ.txt", "x").more = {"remoteItem": {"id": "9"}}
    cloud.put("毒.txt", "x").more = {"malware": {"description": "bad"}}
    changes = look(cloud)
    assert len(upserts(changes)) == 4 and complete(changes)
    assert [c.title for c in changes if isinstance(c, Failed)] == ["毒"]


def test_changed_renamed_moved_and_deleted(cloud: Microsoft) -> None:
    first = look(cloud)
    cloud.put("青山商事.txt", "一割まで。")
    cloud.move("営業", "営業部")
    cloud.move("営業部/規程 50%#1.txt", "規程.txt")
    cloud.delete("人事")
    second = look(cloud, first)
    before, after = upserts(first), upserts(second)
    assert set(after) == {"青山商事", "四月", "規程"} and complete(second)
    assert before["青山商事"].version != after["青山商事"].version
    moved = {c.old_uri: c.uri for c in second if isinstance(c, Moved)}
    assert moved == {
        before["四月"].uri: after["四月"].uri,
        before["規程 50%#1"].uri: after["規程"].uri,
    }
    assert "/営業部/見積/四月.txt" in after["四月"].uri
    assert after["四月"].version == before["四月"].version
    with pytest.raises(SourceBusy):
        before["青山商事"].open()


def test_what_lies_where_another_lay_is_not_taken_for_it(cloud: Microsoft) -> None:
    first = look(cloud)
    cloud.share("青山商事.txt", user(KATO))
    cloud.move("青山商事.txt", "仮.txt")
    cloud.move("人事/評価.txt", "青山商事.txt")
    cloud.move("仮.txt", "人事/評価.txt")
    second = look(cloud, first)
    assert not [c for c in second if isinstance(c, Moved)]
    assert set(told(second).values()) == {NOBODY} and len(told(second)) == 2
    assert may(upserts(second)["評価"].access, KATO)
    assert not may(upserts(second)["評価"].access, ITO)
    with upserts(second)["青山商事"].open() as stream:
        assert stream.read().decode() == "評価です。"


def test_a_second_look_costs_what_changed(cloud: Microsoft) -> None:
    first = look(cloud)
    second = look(cloud, first)
    # sign-in, site, libraries, delta, permissions of the top and of one folder
    assert len(cloud.asked) == 6, cloud.asked
    assert cursor(second) == cursor(first), "none is written"
    assert not told(second)


def test_the_same_name_in_two_spellings_is_told_of(cloud: Microsoft) -> None:
    cloud.put("か\u3099.txt", "x")
    cloud.put("が.txt", "y")
    changes = look(cloud)
    assert len([c for c in changes if isinstance(c, Failed) and "同じ名前" in c.reason]) == 1
    assert len(upserts(changes)) == 5


# --- who may read -----------------------------------------------------------------


def test_a_file_has_the_permissions_of_the_nearest_above(cloud: Microsoft) -> None:
    cloud.share("人事/評価.txt", user(SATO))
    found = accesses(cloud)
    assert may(found["青山商事"], ITO) and may(found["四月"], SATO)
    assert may(found["評価"], SATO) and not may(found["評価"], KATO) and not may(found["評価"], ITO)
    cloud.inherit("人事/評価.txt")
    found = accesses(cloud)
    assert may(found["評価"], KATO) and not may(found["評価"], SATO)


@pytest.mark.parametrize("silent", [False, True])
def test_revoked_before_any_content_and_nothing_is_read(cloud: Microsoft, silent: bool) -> None:
    """Also where a delta says nothing of a folder's new permissions."""
    first = look(cloud)
    cloud.share("人事", user(SATO), silent=silent)
    second = look(cloud, first)
    assert may(told(second)["評価.txt"], SATO) and not may(told(second)["評価.txt"], KATO)
    assert isinstance(second[0], AccessChanged)
    assert {u: f.version for u, f in upserts(first).items()} == {
        u: f.version for u, f in upserts(second).items()
    }


def test_moved_below_a_closed_folder_is_closed_at_once(cloud: Microsoft) -> None:
    first = look(cloud)
    cloud.move("営業", "人事/営業")
    second = look(cloud, first)
    moved = [c for c in second if isinstance(c, Moved)]
    assert len(moved) == 2 and not any(may(c.access, ITO) for c in moved)
    assert all(may(c.access, KATO) for c in moved)


def test_a_file_shared_on_its_own_and_given_back_follows_its_folder(cloud: Microsoft) -> None:
    first = look(cloud)
    cloud.share("営業/見積/四月.txt", user(ITO), user(KATO))
    second = look(cloud, first)
    assert may(told(second)["四月.txt"], KATO)
    cloud.inherit("営業/見積/四月.txt")
    third = look(cloud, second)
    assert not may(told(third)["四月.txt"], KATO) and may(told(third)["四月.txt"], SATO)
    cloud.share("", user(ITO))
    fourth = look(cloud, third)
    assert not may(told(fourth)["四月.txt"], SATO)
    assert may(told(fourth)["四月.txt"], ITO)


def test_who_is_let_in_to_a_changed_file_waits_until_it_is_read(cloud: Microsoft) -> None:
    first = look(cloud)
    cloud.put("人事/評価.txt", "新しい評価")
    cloud.share("人事", user(SATO))
    second = look(cloud, first)
    assert told(second)["評価.txt"] == NOBODY
    assert may(upserts(second)["評価"].access, SATO)


def test_groups_are_their_members_at_every_look(cloud: Microsoft) -> None:
    sales, other = guid(1), guid(2)
    someone = {
        "@odata.type": "#microsoft.graph.user",
        "id": guid(8),
        "userPrincipalName": SATO.upper(),
    }
    cloud.groups[sales] = [someone, {"@odata.type": "#microsoft.graph.group", "id": other}]
    cloud.owners[sales] = [someone | {"userPrincipalName": KATO}]
    cloud.share("", group(sales))
    first = look(cloud)
    assert may(upserts(first)["四月"].access, SATO) and not may(upserts(first)["四月"].access, KATO)
    cloud.groups[sales] = []
    second = look(cloud, first)
    assert len(told(second)) == 3 and set(told(second).values()) == {NOBODY}
    table = {"names": [f"group:{sales.upper()} = group:営業部"]}
    assert may(accesses(cloud, **table)["四月"], "group:営業部")
    cloud.share("", claim(f"c:0o.c|federateddirectoryclaimprovider|{sales}_o"))
    assert may(accesses(cloud, **table)["四月"], KATO), "its owners"
    assert not may(accesses(cloud, **table)["四月"], "group:営業部")
    cloud.groups[sales] = [someone]
    cloud.share("", claim(f"c:0t.c|tenant|{sales}"))
    assert may(accesses(cloud)["四月"], SATO)
    cloud.share("", claim("c:0x.c|something|new"), group(guid(99)))
    assert accesses(cloud)["四月"] == NOBODY, "unknown, and gone"


def test_a_group_longer_than_an_answer_is_read_whole(cloud: Microsoft) -> None:
    cloud.most = 2
    cloud.groups[guid(1)] = [
        {"@odata.type": "#microsoft.graph.user", "id": guid(n), "userPrincipalName": f"u{n}@x"}
        for n in range(5)
    ]
    cloud.share("", group(guid(1)), *(user(f"v{n}@x") for n in range(5)))
    found = accesses(cloud)
    assert len(found) == 4
    assert may(found["四月"], "u4@x") and may(found["四月"], "v4@x")


def test_groups_of_a_site_are_asked_for_with_a_certificate(cloud: Microsoft) -> None:
    cloud.groups[guid(1)] = [
        {"@odata.type": "#microsoft.graph.user", "id": guid(3), "userPrincipalName": KATO}
    ]
    cloud.site_groups["5"] = [
        {"LoginName": f"i:0#.f|membership|{SATO}", "Email": "", "PrincipalType": 1},
        {"LoginName": f"c:0o.c|federateddirectoryclaimprovider|{guid(1)}", "PrincipalType": 4},
    ]
    cloud.share("", site_group("5", "営業 メンバー"))
    changes = look(cloud)
    assert upserts(changes)["四月"].access == NOBODY
    assert [c for c in changes if isinstance(c, Failed) and "営業 メンバー" in c.reason]
    with pytest.raises(SourceDenied, match="営業 メンバー"):
        over(cloud).check()
    found = accesses(cloud, **cloud.entra.pem)
    assert may(found["四月"], SATO) and may(found["四月"], KATO) and not may(found["四月"], ITO)
    over(cloud, **cloud.entra.pem).check()
    cloud.libraries["L1"].path = "/sites/%E5%96%B6%E6%A5%AD/Docs"
    assert may(accesses(cloud, **cloud.entra.pem)["四月"], SATO)
    table = {"names": ["group:営業 メンバー = group:営業部"]}
    assert may(accesses(cloud, **table)["四月"], "group:営業部")


def test_a_link_is_for_whom_it_names(cloud: Microsoft) -> None:
    cloud.share("青山商事.txt", link("users", KATO))
    cloud.share("営業/見積/四月.txt", link("organization"), link("existingAccess", SATO))
    cloud.share("営業/規程 50%#1.txt", link("anonymous"), link(None, ITO))
    cloud.share("人事", claim("c:0-.f|rolemanager|spo-grid-all-users/1111"))
    found = accesses(cloud)
    assert may(found["青山商事"], KATO) and not may(found["青山商事"], ITO)
    assert found["四月"] == NOBODY and found["評価"] == NOBODY
    assert may(found["規程 50%#1"], ITO) and not may(found["規程 50%#1"], SATO)
    found = accesses(cloud, everyone=["group:社員"])
    assert may(found["評価"], "group:社員") and found["四月"] == NOBODY
    found = accesses(cloud, everyone=["group:社員"], links=True)
    assert may(found["四月"], "group:社員") and may(found["規程 50%#1"], "group:社員")
    assert not may(found["四月"], ITO)


def test_what_is_over_and_what_does_not_let_read_admits_nobody(cloud: Microsoft) -> None:
    over_, later = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
    cloud.share("青山商事.txt", user(KATO, expirationDateTime=over_))
    cloud.share("営業/見積/四月.txt", user(KATO, expirationDateTime=later))
    cloud.share("人事", user(KATO, roles=["sp.limited"]), user(SATO, expirationDateTime="いつか"))
    found = accesses(cloud)
    assert found["青山商事"] == NOBODY == found["評価"]
    assert may(found["四月"], KATO)


def test_the_same_name_is_somebody_elses_unless_said(cloud: Microsoft) -> None:
    assert accesses(cloud, same_names=False)["四月"] == NOBODY
    table = {"same_names": False, "names": [f"user:{ITO.upper()} = user:ito"]}
    found = accesses(cloud, **table)["四月"]
    assert may(found, "user:ito") and not may(found, SATO)
    nobody = accesses(cloud, names=[f"user:{ITO} ="])["四月"]
    assert not may(nobody, ITO) and may(nobody, SATO)
    narrowed = accesses(cloud, allow=["group:本社"])["四月"]
    assert may(narrowed, ITO, "group:本社") and not may(narrowed, ITO)
    assert not may(narrowed, "group:本社")


def test_a_person_of_whom_only_the_id_is_told_is_looked_up_once(cloud: Microsoft) -> None:
    cloud.directory[guid(5)] = {"userPrincipalName": KATO, "mail": "k@example.com"}
    who = {"roles": ["read"], "grantedToV2": {"user": {"id": guid(5), "displayName": "加藤"}}}
    nobody = {"roles": ["read"], "grantedToV2": {"user": {"id": guid(6), "displayName": "x"}}}
    cloud.share("青山商事.txt", who, nobody)
    cloud.share("営業", who, who | {"roles": ["write"]})
    found = accesses(cloud)
    assert may(found["青山商事"], KATO) and may(found["四月"], KATO)
    assert len([url for url in cloud.asked if f"/users/{guid(5)}" in url]) == 1
    table = {"same_names": False, "names": ["user:k@example.com = user:kato"]}
    assert may(accesses(cloud, **table)["四月"], "user:kato")


@pytest.mark.parametrize("how", ["the top is not shared", "all are shared", "the service says so"])
def test_without_hierarchical_sharing_each_file_is_asked_about(cloud: Microsoft, how: str) -> None:
    """An item whose inheritance is broken then looks like any other."""
    cloud.hierarchical = False
    if how != "the top is not shared":
        cloud.share("", user(ITO), user(SATO), link("organization"))
    if how == "the service says so":
        for number in range(9):
            cloud.put(f"人事/{number}.txt", "x")
        cloud.applied = {"Preference_Applied": "deltashowsharingchanges"}
    cloud.share("営業/見積/四月.txt", user(KATO))
    first = look(cloud)
    found = upserts(first)
    assert may(found["評価"].access, KATO) and not may(found["評価"].access, ITO)
    assert may(found["四月"].access, KATO) and not may(found["四月"].access, ITO)
    cloud.share("人事", user(SATO))
    second = look(cloud, first)
    assert may(told(second)["評価.txt"], SATO) and not may(told(second)["評価.txt"], KATO)
    cloud.move("営業/規程 50%#1.txt", "人事/規程.txt")
    third = look(cloud, second)
    assert may(upserts(third)["規程"].access, SATO) and not may(upserts(third)["規程"].access, ITO)
    assert len([url for url in cloud.asked if "/permissions" in url]) == 2


def test_rights_are_looked_after_while_reading_takes_long(
    cloud: Microsoft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.sharepoint.AGAIN_S", -1.0)
    run, seen = over(cloud).changes(None), list[Change]()
    for change in run:
        seen.append(change)
        if isinstance(change, Upsert):
            cloud.share("", user(ITO))
            cloud.share("営業/見積/四月.txt", user(KATO))
            break
    later = list(run)
    assert set(told(later)) == {"青山商事.txt"}, "what was told of before"
    assert not may(told(later)["青山商事.txt"], SATO)
    assert may(upserts(later)["四月"].access, KATO) and not may(upserts(later)["四月"].access, ITO)
    monkeypatch.undo()
    after = look(cloud, later)
    assert complete(after) and not may(upserts(after)["青山商事"].access, SATO)
    cloud.share("", user(ITO), user(SATO))
    after = look(cloud, later)
    assert may(told(after)["青山商事.txt"], SATO), "as it was, which is another than was told last"


def test_what_is_gone_is_not_mentioned_and_not_removed_twice(cloud: Microsoft) -> None:
    first = look(cloud)
    cloud.delete("青山商事.txt")
    second = look(cloud, first)
    assert not [c for c in second if isinstance(c, Remove)] and complete(second)
    assert "青山商事" not in upserts(second)
