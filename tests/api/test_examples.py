"""Examples of questions: a new site has none, administrators write them, everybody sees them."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.store import audit
from appliance.system import Appliance
from tests.api.conftest import Person

PATH = "/api/v1/admin/examples"


def seen(person: Person) -> list[str]:
    return list(person.http.get("/api/v1/examples").json()["questions"])


def put(person: Person, questions: list[str]) -> Any:
    return person.http.put(PATH, json={"questions": questions})


def test_what_an_administrator_writes_everybody_is_shown(
    machine: Appliance, admin: Person, ito: Person
) -> None:
    assert seen(ito) == []
    kept = put(admin, ["  日当は いくらですか ", "", "宿泊費は?", "宿泊費は?"])
    assert kept.json()["questions"] == ["日当は いくらですか", "宿泊費は?"]
    assert seen(ito) == ["日当は いくらですか", "宿泊費は?"]
    assert "examples.replace" in [e.action for e in audit.entries(machine.engine)]
    put(admin, [])
    assert seen(ito) == []


@pytest.mark.parametrize("bad", [[f"質問{n}" for n in range(7)], ["長" * 101]])
def test_too_many_or_too_long_changes_nothing_and_says_so(admin: Person, bad: list[str]) -> None:
    put(admin, ["日当は?"])
    response = put(admin, bad)
    assert response.status_code == 400
    assert "まで" in str(response.json())
    assert seen(admin) == ["日当は?"]


def test_members_may_not_change_them(ito: Person) -> None:
    assert put(ito, ["日当は?"]).status_code == 403
