"""An administrator asks what somebody may read, and why: told as it is decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.identity import accounts
from appliance.store import people, sources
from appliance.system import Appliance
from appliance.types import Access, Layer, Principal
from tests.api.conftest import FILES, Person, take_in

REWARD, TRAVEL, PLAN = "人事/役員報酬.txt", "規程/旅費規程.txt", "営業/計画.txt"


def only(allow: str, deny: str = "") -> Layer:
    return Layer(frozenset({Principal(allow)}), frozenset({Principal(deny)} if deny else ()))


SALES: Access = (only("group:社員"), only("group:営業部", "group:派遣"))


@pytest.fixture(autouse=True)
def company(machine: Appliance) -> None:
    """ito is of 営業部 by way of 営業一課; the plan wants 社員 and 営業部, and no 派遣."""
    accounts.set_group(machine.engine, "営業一課", ["user:ito"])
    accounts.set_group(machine.engine, "営業部", ["group:営業一課"])
    accounts.set_group(machine.engine, "社員", ["group:営業部", "group:人事部"])
    take_in(machine, FILES | {PLAN: ("来期の計画。", SALES), "不明.txt": ("誰の物か。", ())})


def sight(admin: Person, user: str, *also: str) -> dict[str, Any]:
    response = admin.http.get(f"/api/v1/admin/users/{user}/sight", params={"also": list(also)})
    assert response.status_code == 200, response.text
    return dict(response.json())


def readers(admin: Person, uri: str, user: str = "", *also: str) -> dict[str, Any]:
    asked = {"document": f"共有フォルダ/{uri}", "user": user, "also": list(also)}
    response = admin.http.get("/api/v1/admin/readers", params=asked)
    assert response.status_code == 200, response.text
    return dict(response.json())


def reading(admin: Person, uri: str) -> set[str]:
    return {one["user"] for one in readers(admin, uri)["verdicts"] if one["reads"]}


def ways(admin: Person, user: str) -> dict[str, list[str]]:
    return {one["principal"]: one["way"] for one in sight(admin, user)["principals"]}


def seen(admin: Person, user: str, *also: str) -> int:
    shelf = shared(sight(admin, user, *also))
    assert shelf["documents"] == 4
    return int(shelf["seen"])


def shared(told: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in told["sources"] if one["source"] == "共有フォルダ")


def test_what_somebody_counts_as_and_why(machine: Appliance, admin: Person) -> None:
    told = ways(admin, "ito")
    assert told["group:社員"] == ["user:ito", "group:営業一課", "group:営業部", "group:社員"]
    assert told["everyone"] == ["user:ito", "everyone"]
    for user in ("ito", "sato", "admin"):
        assert ways(admin, user).keys() == people.viewer(machine.engine, user).principals


def test_groups_that_hold_each_other_end(machine: Appliance, admin: Person) -> None:
    accounts.set_group(machine.engine, "営業一課", ["user:ito", "group:社員"])
    assert ways(admin, "ito")["group:営業部"] == ["user:ito", "group:営業一課", "group:営業部"]


def test_how_much_of_a_source_somebody_sees(
    machine: Appliance, admin: Person, ito: Person, sato: Person
) -> None:
    for who in (ito, sato, admin):
        listed = who.http.get("/api/v1/documents").json()["documents"]
        assert seen(admin, who.user_id) == len(listed)
    assert (seen(admin, "ito"), seen(admin, "sato")) == (2, 2)
    assert seen(admin, "ito", "group:人事部") == 3, "what it would be if"
    assert seen(admin, "ito", "group:派遣") == 1
    assert seen(admin, "ito") == 2, "it was a thought"
    people.update(machine.engine, "ito", disabled=True)
    assert sight(admin, "ito")["disabled"] and seen(admin, "ito") == 0


def test_who_may_read_a_document_is_who_can(
    machine: Appliance, admin: Person, ito: Person, sato: Person
) -> None:
    for uri in (REWARD, TRAVEL, PLAN, "不明.txt"):
        who_can = {
            who.user_id
            for who in (ito, sato, admin)
            if uri in {d["uri"] for d in who.http.get("/api/v1/documents").json()["documents"]}
        }
        assert reading(admin, uri) == who_can, uri
    assert reading(admin, REWARD) == {"sato"} and reading(admin, "不明.txt") == set()
    people.update(machine.engine, "sato", disabled=True)
    assert reading(admin, REWARD) == set()


def test_every_layer_says_whom_it_means(admin: Person) -> None:
    (ito,) = readers(admin, PLAN, "ito")["verdicts"]
    first, second = sorted(ito["rulings"], key=lambda r: r["allow"])
    assert ito["reads"] and first["admits"] and second["admits"]
    assert first["allowed_by"] == [["user:ito", "group:営業一課", "group:営業部"]]
    assert second["allowed_by"][0][-1] == "group:社員"

    (sato,) = readers(admin, PLAN, "sato")["verdicts"]
    assert not sato["reads"] and [r["admits"] for r in sato["rulings"]].count(False) == 1

    (hired,) = readers(admin, PLAN, "ito", "group:派遣")["verdicts"]
    assert not hired["reads"]
    assert [r["denied_by"] for r in hired["rulings"] if r["deny"]] == [[["user:ito", "group:派遣"]]]
    assert readers(admin, "不明.txt", "ito")["verdicts"][0]["rulings"] == []


def test_a_source_of_which_nobody_knows_is_nobodys(machine: Appliance, admin: Person) -> None:
    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source
    sources.hold(machine.engine, source.id, datetime(2026, 1, 1, tzinfo=UTC))
    assert readers(admin, TRAVEL)["withheld"] and reading(admin, TRAVEL) == set()
    assert seen(admin, "sato") == 0 and shared(sight(admin, "sato"))["withheld"]


def test_by_its_id_too_and_never_a_word_of_it(machine: Appliance, admin: Person) -> None:
    found = readers(admin, REWARD)
    same = admin.http.get("/api/v1/admin/readers", params={"document": found["id"]})
    assert same.json() == found and "KANARIA" not in same.text
    sources.create(machine.engine, "共有フォルダ/人事", "memory", {})
    assert readers(admin, REWARD)["id"] == found["id"], "a source's name may hold a slash"


@pytest.mark.parametrize("named", ["共有フォルダ/ない.txt", "ない/規程", "ない", ""])
def test_what_is_not_there_is_said(admin: Person, named: str) -> None:
    assert admin.http.get("/api/v1/admin/readers", params={"document": named}).status_code == 404


def test_for_administrators_alone(admin: Person, ito: Person) -> None:
    url = "/api/v1/admin/readers"
    assert ito.http.get(url, params={"document": f"共有フォルダ/{TRAVEL}"}).status_code == 403
    assert ito.http.get("/api/v1/admin/users/ito/sight").status_code == 403
    assert admin.http.get("/api/v1/admin/users/nobody/sight").status_code == 404
    asked = {"document": f"共有フォルダ/{TRAVEL}", "user": "nobody"}
    assert admin.http.get(url, params=asked).status_code == 404
    odd = admin.http.get("/api/v1/admin/users/ito/sight", params={"also": "営業部"})
    assert odd.status_code == 422
