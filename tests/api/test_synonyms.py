"""The company's own words: edited by administrators, in effect at once, for everybody."""

from __future__ import annotations

from typing import Any

from appliance.store import audit
from appliance.system import Appliance
from tests.api.conftest import FILES, PUBLIC, Model, Person, take_in

PATH = "/api/v1/admin/synonyms"


def put(person: Person, groups: list[list[str]], revision: str) -> Any:
    return person.http.put(PATH, json={"groups": groups, "revision": revision})


def test_an_abbreviation_finds_its_document_with_the_next_question(
    machine: Appliance, admin: Person, ito: Person, model: Model
) -> None:
    take_in(
        machine, FILES | {"規程/夏季休業.txt": ("夏季休業は五日。夏季休業の届は要らない。", PUBLIC)}
    )

    def first() -> str:
        passages = ito.ask("ナツヤスを知りたい").json()["passages"]
        return str(passages[0]["title"]) if passages else ""

    assert first() != "夏季休業.txt"
    seen = admin.http.get(PATH).json()
    kept = put(admin, [["ナツヤス", "夏季休業"]], seen["revision"]).json()
    assert kept["groups"] == [["ナツヤス", "夏季休業"]]
    model.script = lambda prompt: iter(["五日[1]"])
    assert first() == "夏季休業.txt"
    assert "ナツヤス（夏季休業）を知りたい" in model.prompts[-1].user
    put(admin, [], kept["revision"])
    assert first() != "夏季休業.txt"
    actions = [e.action for e in audit.entries(machine.engine)]
    assert actions.count("synonyms.replace") == 2


def test_the_second_administrator_does_not_undo_the_first(admin: Person) -> None:
    seen = admin.http.get(PATH).json()["revision"]
    assert put(admin, [["就規", "就業規則"]], seen).status_code == 200
    late = put(admin, [["VPN", "社外接続"]], seen)
    assert late.status_code == 409
    assert admin.http.get(PATH).json()["groups"] == [["就規", "就業規則"]]


def test_a_bad_line_changes_nothing_and_is_named(admin: Person) -> None:
    seen = admin.http.get(PATH).json()["revision"]
    bad = put(admin, [["就規", "就業規則"], ["同じ", "同じ"]], seen)
    assert bad.status_code == 400
    assert "2行目" in str(bad.json())
    assert admin.http.get(PATH).json()["groups"] == []


def test_members_may_neither_see_nor_change_them(ito: Person) -> None:
    assert ito.http.get(PATH).status_code == 403
    assert put(ito, [], "x").status_code == 403
