"""Files inside files, from the upload to the citation, and for whom they are not there."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from appliance.formats.sandbox import Sandbox
from appliance.ingest import schedule
from appliance.ingest.sync import sync
from appliance.settings import Settings
from appliance.store import sources
from appliance.system import Appliance
from tests.api.conftest import Person
from tests.api.test_documents import found
from tests.formats.test_office import packed

Work = Callable[[str], None]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(Settings(data=tmp_path_factory.mktemp("data"))) as made:
        yield made


@pytest.fixture
def work(machine: Appliance, sandbox: Sandbox) -> Work:
    """What `kura work` would do now with a source of this kind."""

    def work(kind: str) -> None:
        (source,) = [s for s in sources.all(machine.engine) if s.kind == kind]
        connector = schedule.connector(machine.connectors, source)
        sync(machine.engine, source, connector, machine.embedder, sandbox.parse, machine.settings)
        machine.follower.catch_up()

    return work


def upload(who: Person, name: str, data: bytes, **form: str) -> Any:
    response = who.http.post("/api/v1/uploads", files={"file": (name, io.BytesIO(data))}, data=form)
    assert response.status_code == 202, response.text
    return response.json()


def mine(who: Person) -> Any:
    (one,) = who.http.get("/api/v1/uploads").json()["uploads"]
    return one


def test_a_file_in_an_uploaded_archive_answers_and_is_cited(
    work: Work, ito: Person, sato: Person, admin: Person
) -> None:
    files = {
        "手引き/蔵の手引き.txt": "ミズホ号の鍵は守衛室で受け取る。",
        "図.png": b"\x89PNG\r\n\x1a\n",
    }
    upload(ito, "蔵の資料.zip", packed(**files))
    assert mine(ito)["status"] == "pending"
    work("uploads")
    one = mine(ito)
    assert (one["status"], one["children"], one["children_problems"]) == ("ready", 2, 1)
    answer = ito.ask("ミズホ号の鍵はどこで受け取る").json()
    place = "蔵の資料.zip › 手引き/蔵の手引き.txt"
    assert answer["passages"][0]["within"] == answer["citations"][0]["within"] == place
    assert answer["passages"][0]["title"] == "蔵の手引き.txt"
    url = f"/api/v1/documents/{one['document_id']}"
    holder = ito.http.get(url).json()
    assert (holder["text"], holder["children"], holder["within"]) == ("", 2, None)
    children = ito.http.get(f"{url}/children").json()
    guide, picture = sorted(children["children"], key=lambda c: c["status"], reverse=True)
    assert children["total"] == 2 and guide["within"] == place and guide["problem"] is None
    assert picture["status"] == "problem" and "壊れています" in picture["problem"]
    inner = ito.http.get(f"/api/v1/documents/{guide['id']}").json()
    assert (inner["parent_id"], inner["within"]) == (one["document_id"], place)
    page = ito.http.get(f"{url}/children", params={"page": 2, "page_size": 1}).json()
    assert [c["within"] for c in page["children"]] == [place]
    # to somebody else none of it is there
    assert "蔵の手引き.txt" not in found(sato, "ミズホ号の鍵")
    for hidden in (url, f"{url}/children", f"/api/v1/documents/{guide['id']}"):
        assert sato.http.get(hidden).status_code == 404
    listed = admin.http.get("/api/v1/admin/documents", params={"parent": one["document_id"]})
    assert {d["within"]: d["status"] for d in listed.json()["documents"]} == {
        place: "ready",
        "蔵の資料.zip › 図.png": "problem",
    }
    status = admin.http.get("/api/v1/admin/status").json()
    assert (status["inside"], status["inside_problems"], status["problems"]) == (2, 1, 0)
    assert ito.http.delete(f"/api/v1/uploads/{one['id']}").status_code == 200
    assert ito.http.get(f"/api/v1/documents/{guide['id']}").status_code == 404
    assert "蔵の手引き.txt" not in found(ito, "ミズホ号の鍵")


def test_a_kind_of_file_means_those_inside_others_too(work: Work, ito: Person) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.jp", "b@example.jp", "ミズホ号の件"
    mail.set_content("ミズホ号の部品表を送ります。")
    mail.add_attachment(
        "部品,数\nミズホ号の車輪,四".encode(), maintype="text", subtype="csv", filename="部品表.csv"
    )
    upload(ito, "資料.zip", packed(**{"連絡.eml": mail.as_bytes(), "案内.txt": "ミズホ号の案内。"}))
    work("uploads")

    def titles(*kinds: str) -> set[str]:
        body = {"question": "ミズホ号", "filter": {"types": kinds}}
        response = ito.http.post("/api/v1/search", json=body)
        assert response.status_code == 200, response.text
        return {p["title"] for p in response.json()["passages"]}

    assert titles("csv") == {"部品表.csv"} and titles("mail") == {"連絡.eml"}
    assert titles("archive") == {"部品表.csv", "連絡.eml", "案内.txt"}
    assert ito.http.get("/api/v1/filters").json()["types"].count("archive") == 1
    (passage,) = [
        p
        for p in ito.http.post("/api/v1/search", json={"question": "ミズホ号の車輪"}).json()[
            "passages"
        ]
        if p["title"] == "部品表.csv"
    ]
    assert passage["within"] == "資料.zip › 連絡.eml › 部品表.csv"


def test_a_shared_folder_whose_rights_and_archives_change(
    work: Work, machine: Appliance, tmp_path: Path, ito: Person, sato: Person
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    archive = share / "規程集.zip"
    archive.write_bytes(packed(**{"鍵.txt": "ミズホ号の鍵の規程。", "車輪.txt": "車輪の規程。"}))
    settings = {"root": str(share), "allow": ["everyone"]}
    made = sources.create(machine.engine, "棚", "folder", settings)
    work("folder")
    assert "鍵.txt" in found(ito, "ミズホ号の鍵") and "鍵.txt" in found(sato, "ミズホ号の鍵")
    answer = sato.ask("ミズホ号の鍵の規程").json()
    conversation = f"/api/v1/conversations/{answer['conversation_id']}"

    def recalled() -> list[Any]:
        (message,) = sato.http.get(conversation).json()["messages"]
        return [p.get("title") for p in message["passages"]]

    archive.rename(share / "新しい規程集.zip")
    work("folder")
    places = sato.ask("ミズホ号の鍵").json()["passages"]
    assert "新しい規程集.zip › 鍵.txt" in {p["within"] for p in places}
    assert "鍵.txt" in recalled()  # what was cited is still what it was
    (share / "新しい規程集.zip").write_bytes(packed(**{"鍵.txt": "ミズホ号の鍵の規程。"}))
    work("folder")
    assert "鍵.txt" in recalled() and "車輪.txt" not in found(sato, "車輪の規程")
    sources.update(machine.engine, made.id, settings=settings | {"allow": ["group:総務部"]})
    work("folder")
    assert "鍵.txt" in found(ito, "ミズホ号の鍵")
    assert "鍵.txt" not in found(sato, "ミズホ号の鍵") and "鍵.txt" not in recalled()
