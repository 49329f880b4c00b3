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


def test_a_source_has_its_own_weight_of_words_and_meaning(
    machine: Appliance, ito: Person, admin: Person
) -> None:
    """A long text holds all the words, a short one is nearer as a whole."""
    words = "ポンプ 異音 対処 軸受 交換 手順 記録 様式"
    files = {"長い.txt": (LONG + "ポンプの異音への対処は軸受の交換手順による。" + LONG, PUBLIC)}
    take_in(machine, files | {"短い.txt": ("ポンプの様式", PUBLIC)})
    source = next(
        s
        for s in admin.http.get("/api/v1/admin/sources").json()["sources"]
        if s["name"] == "共有フォルダ"
    )
    assert set(source["tuning"].values()) == {None}
    found = []
    for weight in (0.0, 1.0):
        body = {"tuning": {"dense_weight": weight}}
        url = f"/api/v1/admin/sources/{source['id']}"
        assert admin.http.patch(url, json=body).json()["tuning"]["dense_weight"] == weight
        found.append(first(ito, words, k=1))
    assert found == [["長い.txt"], ["短い.txt"]]


def test_sizes_that_do_not_fit_are_refused(admin: Person) -> None:
    (source, *_) = admin.http.get("/api/v1/admin/sources").json()["sources"]
    url = f"/api/v1/admin/sources/{source['id']}"
    refused = admin.http.patch(url, json={"tuning": {"chunk_chars": 900, "parent_chars": 1000}})
    assert refused.status_code == 400 and "1.25 倍以上" in refused.json()["detail"]
    assert admin.http.get(url).json()["tuning"] == source["tuning"]
    assert admin.http.patch(url, json={"tuning": {"dense_weight": 1.5}}).status_code == 422
