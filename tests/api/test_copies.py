"""The same text in many places, each for its own readers: nobody learns of another's copy."""

from __future__ import annotations

from appliance.system import Appliance
from appliance.types import Access, Layer, Principal
from tests.api.conftest import HR, Person, take_in

TEXT = "青山商事への値引きは八分まで。端数は切り捨てる。"
GENERAL: Access = (Layer(frozenset({Principal("group:総務部")})),)
NOBODYS: Access = (Layer(frozenset()),)
QUESTION = "青山商事への値引きはどこまで"


def seen(who: Person) -> set[str]:
    response = who.http.post("/api/v1/search", json={"question": QUESTION})
    assert response.status_code == 200
    return {p["uri"] for p in response.json()["passages"] if "値引き" in p["text"]}


def test_each_copy_is_for_its_own_readers(machine: Appliance, ito: Person, sato: Person) -> None:
    closed = {f"閉じた棚/控え{n}.txt": (TEXT, NOBODYS) for n in range(40)}
    take_in(machine, {"総務/値引き.txt": (TEXT, GENERAL), "人事/値引き.txt": (TEXT, HR)} | closed)
    assert seen(ito) == {"総務/値引き.txt"}, "forty that are hidden push it out of no list"
    assert seen(sato) == {"人事/値引き.txt"}
    for who, other in ((ito, "人事/値引き"), (sato, "総務/値引き")):
        said = who.ask(QUESTION).text
        assert "値引き" in said and other not in said and "控え" not in said


def test_a_copy_that_is_closed_leaves_the_others_open(
    machine: Appliance, ito: Person, sato: Person
) -> None:
    both = {"総務/値引き.txt": (TEXT, GENERAL), "人事/値引き.txt": (TEXT, HR)}
    take_in(machine, both)
    take_in(machine, both | {"総務/値引き.txt": (TEXT, NOBODYS)})
    assert seen(ito) == set() and seen(sato) == {"人事/値引き.txt"}
    take_in(machine, {"総務/値引き.txt": (TEXT, GENERAL)})
    assert seen(ito) == {"総務/値引き.txt"} and seen(sato) == set()
