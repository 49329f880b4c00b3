"""The same text in many places, each for its own readers: nobody learns of another's copy."""

from __future__ import annotations

from typing import Any

from appliance.system import Appliance
from appliance.testing.fakes import HashEmbedder
from appliance.types import Access, Layer, Principal
from tests.api import test_documents as shelf
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


def test_who_may_read_the_fifty_seventh_alone_finds_that_one(
    machine: Appliance, ito: Person, sato: Person
) -> None:
    copies = {f"棚{n:03}/値引き.txt": (TEXT, HR if n == 57 else NOBODYS) for n in range(120)}
    take_in(machine, copies | {"総務/値引きの控え.txt": (TEXT, GENERAL)})
    assert seen(sato) == {"棚057/値引き.txt"}
    assert seen(ito) == {"総務/値引きの控え.txt"}


def test_copies_that_all_may_read_take_the_place_of_nothing_else(
    machine: Appliance, ito: Person
) -> None:
    """More of them than are looked at for one question."""
    other = "青山商事への値引きの決裁は部長が行う。"
    copies = {f"棚{n:03}/値引き{n}.txt": (TEXT, GENERAL) for n in range(150)}
    take_in(machine, copies | {"決裁.txt": (other, GENERAL)})
    response = ito.http.post("/api/v1/search", json={"question": QUESTION, "k": 5})
    texts = [p["text"] for p in response.json()["passages"]]
    assert texts == [TEXT, other]


def test_an_upload_looks_the_same_whether_a_hidden_document_has_its_bytes_or_not(
    machine: Appliance, ito: Person
) -> None:
    """What is answered, shown and told of it; and no work is spared that could be timed."""
    other = TEXT.replace("八分", "七分")  # nobody has it
    take_in(machine, {"人事/値引き.txt": (TEXT, HR)})
    told, asked = [], []
    for text in (TEXT, other):
        before = len(_passages(machine))
        answers: list[Any] = [shelf.upload(ito, "控え.txt", text).json()]
        shelf.work(machine)
        asked.append(_passages(machine)[before:])
        (mine,) = ito.http.get("/api/v1/uploads").json()["uploads"]
        answers.append(mine)
        for what in ("", "/about", "/chunks", "/sections"):
            seen = ito.http.get(f"/api/v1/documents/{mine['document_id']}{what}")
            assert seen.status_code == 200
            answers.append(seen.json())
        answers.append(ito.http.get("/api/v1/documents").json()["total"])
        told.append(_alike(answers, text))
        assert ito.http.delete(f"/api/v1/uploads/{mine['id']}").status_code == 200
        shelf.work(machine)
    assert told[0] == told[1]
    assert [len(texts) for texts in asked] == [1, 1]


def _passages(machine: Appliance) -> list[str]:
    assert isinstance(machine.embedder, HashEmbedder)
    return [text for role, texts in machine.embedder.calls if role == "passage" for text in texts]


def _alike(said: Any, text: str) -> Any:
    """Without what differs between any two uploads: ids, moments, and the text itself."""
    if isinstance(said, dict):
        own = {"id", "document_id", "digest", "uri", "href", "at"}
        return {
            key: _alike(value, text)
            for key, value in said.items()
            if key not in own and not key.endswith("_at")
        }
    if isinstance(said, list):
        return [_alike(one, text) for one in said]
    return "…" if said == text else said
