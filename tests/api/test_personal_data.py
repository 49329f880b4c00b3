"""Metadata and personal data through the doors that people use; two sources, two handlings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.ingest.sync import sync
from appliance.store import catalog, sources
from appliance.system import Appliance
from appliance.testing.fakes import MemoryConnector
from appliance.types import Access, Document, RawFile
from tests.api.conftest import HR, PUBLIC, Person

NUMBER, CARD = "123456789018", "4111 1111 1111 1111"
TRAVEL = (
    "社外秘\n旅費規程\n第3版\n改定 2024年4月1日\n主管部署：総務部\n作成者：伊藤 花子\n\n"
    "第1条 出張の宿泊費は一泊一万円を上限とする。"
)
FORM = f"扶養控除等申告書\n個人番号 {NUMBER}\n出張の宿泊費の振込先は別紙のとおり。"


def parse(file: RawFile) -> tuple[Document, str]:
    with file.open() as stream:
        return Document(stream.read().decode()), "text/plain"


def take_in(machine: Appliance, name: str, files: dict[str, tuple[str, Access]]) -> None:
    source = sources.by_name(machine.engine, name)
    assert source is not None
    sync(machine.engine, source, MemoryConnector(files), machine.embedder, parse, machine.settings)
    if machine.follower.ready:
        machine.follower.catch_up()
    else:
        machine.follower.reconcile()


def source(admin: Person, name: str) -> dict[str, Any]:
    found = admin.http.get("/api/v1/admin/sources").json()["sources"]
    return next(s for s in found if s["name"] == name)


def handle(admin: Person, name: str, handling: str) -> None:
    url = f"/api/v1/admin/sources/{source(admin, name)['id']}"
    answer = admin.http.patch(url, json={"personal_data": handling})
    assert answer.json()["personal_data"] == handling


def everything(person: Person, words: str) -> str:
    """All that somebody is shown for some words: search, answer, and the documents themselves."""
    found = person.http.post("/api/v1/search", json={"question": words})
    answer = person.ask(words)
    assert (found.status_code, answer.status_code) == (200, 200)
    listed = person.http.get("/api/v1/documents").json()["documents"]
    texts = [person.http.get(f"/api/v1/documents/{d['id']}").text for d in listed]
    return "\n".join([found.text, answer.text, *texts, str(listed)])


@pytest.fixture
def two(machine: Appliance, admin: Person) -> Appliance:
    """The shared folder masks; 人事 quarantines."""
    sources.create(machine.engine, "人事", "memory", {})
    handle(admin, "共有フォルダ", "mask")
    handle(admin, "人事", "quarantine")
    take_in(
        machine, "共有フォルダ", {"旅費規程.txt": (TRAVEL, PUBLIC), "申告書.txt": (FORM, PUBLIC)}
    )
    take_in(machine, "人事", {"カード.txt": (f"出張の宿泊費の精算用カード {CARD}", PUBLIC)})
    return machine


def test_what_is_hidden_is_in_no_answer(two: Appliance, ito: Person) -> None:
    for words in ("出張の宿泊費", NUMBER, CARD, "個人番号"):
        shown = everything(ito, words).replace(words, "")
        assert NUMBER not in shown
        assert CARD not in shown
        assert "精算用カード" not in shown
    assert "個人番号 ＊＊＊＊＊＊＊＊＊＊＊＊" in everything(ito, "個人番号")


def test_what_is_hidden_is_in_no_byte_of_the_data_folder(two: Appliance, ito: Person) -> None:
    everything(ito, "出張の宿泊費")
    with two.engine.connect() as connection:
        raw = connection.connection.driver_connection
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database = Path(str(two.engine.url.database))
    kept = [database, *(p for p in two.settings.data.rglob("*") if p.is_file())]
    held = b"".join(p.read_bytes() for p in kept)
    assert "旅費規程".encode() in held
    for hidden in (NUMBER, CARD, CARD.replace(" ", "")):
        assert hidden.encode() not in held


def test_the_original_and_its_pages_show_no_more_than_the_text(two: Appliance, ito: Person) -> None:
    """With nobody at the desk, who is not refused is told that: 503."""

    def asked(uri: str, what: str) -> int:
        (id,) = [d.document_id for s in sources.all(two.engine)
                 for d in catalog.stored(two.engine, s.id) if d.uri == uri]  # fmt: skip
        about = ito.http.get(f"/api/v1/documents/{id}/about").json()
        answer = ito.http.get(f"/api/v1/documents/{id}/{what}")
        assert about["downloadable"] is (answer.status_code == 503)
        assert ("個人情報" in answer.text) is (answer.status_code == 422)
        return answer.status_code

    for what in ("original", "pages/1/image"):
        assert asked("申告書.txt", what) == 422, "masked"
        assert asked("カード.txt", what) == 422, "in quarantine"
    assert asked("旅費規程.txt", "original") == 503
    take_in(two, "人事", {"電話.txt": ("宿泊費の係 電話 03-1234-5678", PUBLIC)})
    assert asked("電話.txt", "original") == 503, "its text shows the number as well"
    sources.update(two.engine, sources.by_name(two.engine, "人事").id, personal_data="mask")  # type: ignore[union-attr]
    assert asked("電話.txt", "original") == 422, "not read again yet"


def test_the_administrator_sees_what_and_how_much_and_lets_it_go(
    two: Appliance, admin: Person, ito: Person
) -> None:
    assert source(admin, "共有フォルダ")["personal"] == {"my_number": 1}
    assert source(admin, "人事")["personal"] == {"credit_card": 1}
    listed = admin.http.get("/api/v1/admin/documents").json()["documents"]
    held = {d["title"]: d for d in listed}
    assert held["申告書.txt"]["personal"] == {"my_number": 1}
    assert (held["カード.txt"]["status"], held["カード.txt"]["searchable"]) == ("problem", False)
    assert "カード番号 1 件" in held["カード.txt"]["problem"]
    assert held["旅費規程.txt"]["confidentiality"] == "社外秘"

    handle(admin, "人事", "show")
    take_in(two, "人事", {"カード.txt": (f"出張の宿泊費の精算用カード {CARD}", PUBLIC)})
    assert CARD in everything(ito, "精算用カード")

    handle(admin, "人事", "quarantine")  # at once, before anybody has read it again
    two.follower.catch_up()
    assert CARD not in everything(ito, "精算用カード")
    audit = admin.http.get("/api/v1/admin/audit")
    assert CARD not in audit.text


def test_only_administrators_see_counts_and_only_three_handlings_exist(
    two: Appliance, admin: Person, ito: Person
) -> None:
    assert ito.http.get("/api/v1/admin/documents").status_code == 403
    assert "personal" not in ito.http.get("/api/v1/documents").text
    url = f"/api/v1/admin/sources/{source(admin, '人事')['id']}"
    assert admin.http.patch(url, json={"personal_data": "burn"}).status_code == 422
    assert admin.http.patch(url, json={"name": "人事部"}).json()["personal_data"] == "quarantine"


def test_what_people_upload_can_be_masked_too(two: Appliance, admin: Person) -> None:
    made = next(s for s in sources.all(two.engine) if s.kind == "uploads")
    url = f"/api/v1/admin/sources/{made.id}"
    assert admin.http.patch(url, json={"personal_data": "mask"}).json()["personal_data"] == "mask"
    told = admin.http.get("/api/v1/admin/audit", params={"action": "source.change"})
    assert '"personal_data": "mask"' in told.text or '"personal_data":"mask"' in told.text


def test_a_document_says_what_it_is_and_where(two: Appliance, ito: Person) -> None:
    listed = ito.http.get("/api/v1/documents", params={"q": "旅費"}).json()
    (one,) = listed["documents"]
    document = ito.http.get(f"/api/v1/documents/{one['id']}").json()
    said = document["metadata"]
    assert said == one["metadata"]
    assert {k: v and v["text"] for k, v in said.items()} == {
        "title": "旅費規程", "author": "伊藤 花子", "department": "総務部", "number": None,
        "version": "第3版", "confidentiality": "社外秘", "created": None,
        "revised": "2024-04-01", "in_force": None,
    }  # fmt: skip
    span = said["revised"]["span"]
    assert document["text"][span["start"] : span["end"]] == "2024年4月1日"


def test_a_cited_document_bears_its_stamp(two: Appliance, ito: Person) -> None:
    answer = ito.ask("出張の宿泊費の上限は？").json()
    stamps = {c["title"]: c["confidentiality"] for c in answer["citations"] + answer["passages"]}
    assert stamps["旅費規程.txt"] == "社外秘"
    history = ito.http.get(f"/api/v1/conversations/{answer['conversation_id']}").json()
    again = {p["title"]: p["confidentiality"] for p in history["messages"][0]["passages"]}
    assert again == {p["title"]: p["confidentiality"] for p in answer["passages"]}


def test_a_list_has_what_its_reader_may_read(machine: Appliance, ito: Person, sato: Person) -> None:
    files = {f"{n}.txt": (f"資料 {n}", HR if n % 2 else PUBLIC) for n in range(6)}
    take_in(machine, "共有フォルダ", files)
    seen = ito.http.get("/api/v1/documents", params={"page_size": 2, "page": 2}).json()
    assert ([d["title"] for d in seen["documents"]], seen["total"]) == (["4.txt"], 3)
    assert sato.http.get("/api/v1/documents").json()["total"] == 6
    assert ito.http.get("/api/v1/documents", params={"q": "3.txt"}).json()["total"] == 0
