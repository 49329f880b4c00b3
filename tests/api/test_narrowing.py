"""Searching among some of the documents, and seeing why what was found is shown or not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO

import pytest

from appliance.formats import PARSERS
from appliance.formats.kinds import ENCRYPTED, OLE, RAR, XDW
from appliance.store import catalog, sources
from appliance.store.narrow import FAMILIES
from appliance.system import Appliance
from appliance.text.split import split
from appliance.types import Access, Document, RawFile
from tests.api.conftest import HR, PUBLIC, Model, Person

WORDS = "出張の宿泊費は"
Put = Callable[..., None]


@pytest.fixture
def put(machine: Appliance) -> Put:
    def made(
        uri: str,
        text: str,
        *,
        source: str = "規程集",
        media_type: str = "application/pdf",
        day: int = 1,
        access: Access = PUBLIC,
    ) -> None:
        engine = machine.engine
        found = sources.by_name(engine, source) or sources.create(engine, source, "memory", {})
        document = Document(text)
        chunks = split(document)
        vectors = machine.embedder.embed([text[c.start : c.end] for c in chunks], "passage")
        modified = datetime(2026, 4, day, 12, tzinfo=UTC)
        file = RawFile(uri, "1", lambda: BytesIO(b""), access, uri, modified, media_type)
        name = machine.embedder.name
        catalog.replace(engine, found.id, file, document, chunks, vectors, name)
        machine.follower.catch_up()

    return made


def search(person: Person, **more: object) -> list[str]:
    body = {"question": "出張の宿泊費", "k": 20, **more}
    response = person.http.post("/api/v1/search", json=body)
    assert response.status_code == 200, response.text
    return sorted(p["uri"] for p in response.json()["passages"])


def test_only_the_documents_that_are_meant(put: Put, ito: Person) -> None:
    put("国内.pdf", WORDS + "国内では一万円とする。", day=1)
    put(
        "海外.docx",
        WORDS + "海外では二万円とする。",
        media_type=next(iter(FAMILIES["word"])),
        day=20,
    )
    put("通知.pdf", WORDS + "来月から改める。", source="通知", day=20)
    put("秘密.pdf", WORDS + "役員では無制限とする。", access=HR, day=20)
    everything = ["国内.pdf", "海外.docx", "規程/旅費規程.txt", "通知.pdf"]
    assert search(ito) == search(ito, filter={}) == sorted(everything)
    assert search(ito, filter={"types": ["pdf"]}) == ["国内.pdf", "通知.pdf"]
    assert search(ito, filter={"types": ["word", "text"]}) == ["海外.docx", "規程/旅費規程.txt"]
    assert search(ito, filter={"sources": ["規程集"]}) == ["国内.pdf", "海外.docx"]
    late = {"modified_from": "2026-04-10", "modified_to": "2026-04-20"}
    assert search(ito, filter=late) == ["海外.docx", "通知.pdf"]
    assert search(ito, filter={"modified_from": "2026-04-21", "modified_to": "2026-04-30"}) == []
    assert search(ito, filter=late | {"types": ["pdf"], "sources": ["通知"]}) == ["通知.pdf"]
    assert search(ito, filter={"sources": ["ない", "通知"]}) == ["通知.pdf"]
    assert search(ito, filter={"sources": ["ない"]}) == []


def test_what_is_new_or_withdrawn_is_so_for_a_filter_too(put: Put, ito: Person) -> None:
    put("国内.pdf", WORDS + "国内では一万円とする。")
    assert search(ito, filter={"types": ["pdf"]}) == ["国内.pdf"]
    put("海外.pdf", WORDS + "海外では二万円とする。")
    assert search(ito, filter={"types": ["pdf"]}) == ["国内.pdf", "海外.pdf"]
    put("国内.pdf", WORDS + "国内では一万円とする。", access=HR)
    assert search(ito, filter={"types": ["pdf"]}) == ["海外.pdf"]


@pytest.mark.parametrize(
    "bad",
    [
        {"types": ["exe"]},
        {"modified_from": "昨日"},
        {"modified_from": "0001-01-01"},
        {"modified_to": "9999-12-31"},
        {"collection": "x"},
        {"sources": "通知"},
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(ito: Person, bad: dict[str, object]) -> None:
    body = {"question": "宿泊費", "filter": bad}
    assert ito.http.post("/api/v1/search", json=body).status_code == 422


def test_an_answer_comes_from_what_is_meant(put: Put, ito: Person, model: Model) -> None:
    put("国内.pdf", WORDS + "国内では一万円とする。")
    answer = ito.ask("出張の宿泊費はいくらですか", filter={"types": ["pdf"]}).json()
    assert {p["uri"] for p in answer["passages"]} == {"国内.pdf"}
    assert "旅費規程" not in model.prompts[-1].user
    nothing = ito.ask("出張の宿泊費はいくらですか", filter={"sources": ["ない"]}).json()
    assert (nothing["ended"], nothing["passages"]) == ("no_evidence", [])


def test_every_candidate_says_why_it_is_not_shown(put: Put, ito: Person) -> None:
    put("国内.pdf", WORDS + "国内では一万円とする。")
    put("国内の写し.pdf", WORDS + "、国内では一万円とする 。")
    put("別の部の写し.pdf", WORDS + "、国内では一万円とする。", source="通知")
    put("旅費_旧版.pdf", WORDS + "国内では八千円とする。")
    put("旅費.pdf", WORDS + "国内では九千円とする。2026年4月1日改定。")
    put("秘密.pdf", WORDS + "役員では無制限とする。", access=HR)
    body = {"question": "出張の宿泊費は国内ではいくら", "k": 3}
    found = ito.http.post("/api/v1/search/candidates", json=body).json()
    why = {c["passage"]["uri"]: c["dropped"] for c in found["considered"]}
    assert "秘密.pdf" not in why and "秘密" not in str(found)
    assert sorted([why["国内.pdf"], why["国内の写し.pdf"]], key=str) == [None, "copy"]
    assert why["別の部の写し.pdf"] != "copy"  # another source vouches for it
    assert why["旅費_旧版.pdf"] == "superseded"
    assert list(why.values()).count(None) == 3
    assert "beyond" in why.values()
    shown = [c["passage"]["uri"] for c in found["considered"] if not c["dropped"]]
    assert shown == [
        p["uri"] for p in ito.http.post("/api/v1/search", json=body).json()["passages"]
    ]
    assert all(-1 <= c["dense"] <= 1 and c["keyword"] >= 0 for c in found["considered"])
    assert found["relevance"] >= found["threshold"] > 0


def test_every_kind_that_is_read_can_be_meant() -> None:
    known = {media for family in FAMILIES.values() for media in family}
    assert known == set(PARSERS) - {ENCRYPTED, OLE, XDW, RAR}


def test_what_can_be_named_is_only_what_one_may_read(put: Put, ito: Person, sato: Person) -> None:
    put("国内.pdf", WORDS + "国内では一万円とする。")
    put("評価.xlsx", "評価の結果", source="人事の資料", media_type=FAMILIES["excel"][0], access=HR)
    mine = ito.http.get("/api/v1/filters").json()
    assert mine == {"sources": ["共有フォルダ", "規程集"], "types": ["pdf", "text"]}
    theirs = sato.http.get("/api/v1/filters").json()
    assert theirs["sources"] == ["人事の資料", "共有フォルダ", "規程集"]
    assert theirs["types"] == ["pdf", "excel", "text"]
