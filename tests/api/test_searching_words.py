"""Who types a word, or a part of one, means what holds it; a question is another matter."""

from __future__ import annotations

from appliance.system import Appliance
from tests.api.conftest import FILES, HR, PUBLIC, Person, take_in

LONG = "".join(f"第{n}条 この要領は別に定める手続による。" for n in range(12))
ALIKE = {f"似た{n}.txt": (f"細則{n}、細則", PUBLIC) for n in range(20)}


def first(person: Person, question: str, k: int = 3) -> list[str]:
    body = {"question": question, "k": k}
    found = person.http.post("/api/v1/search", json=body).json()["passages"]
    return [p["uri"] for p in found]


def test_what_holds_a_part_of_a_word_comes_first(machine: Appliance, ito: Person) -> None:
    held = {"長い.txt": (LONG + "宿舎細則集による。" + LONG, PUBLIC)}
    take_in(machine, FILES | ALIKE | held)
    assert first(ito, "舎細則")[0] == "長い.txt"
    assert first(ito, "舎細則集に")[0] == "長い.txt"


def test_what_holds_it_and_may_not_be_read_is_not_found(machine: Appliance, ito: Person) -> None:
    take_in(machine, FILES | ALIKE | {"秘密.txt": ("宿舎細則集の別冊", HR)})
    assert "秘密.txt" not in first(ito, "舎細則集", k=20)
