"""Where words stand on their page, and both texts of a page that was read from its picture."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.formats.sandbox import Sandbox
from appliance.ingest import pages
from appliance.ingest.sync import sync
from appliance.store import sources
from appliance.system import Appliance
from appliance.testing.fakes import MemoryConnector, ScriptedPages
from appliance.types import Access, Layer, Principal

CORPUS = Path(__file__).parents[1] / "corpus"
HR: Access = (Layer(frozenset({Principal("group:人事部")})),)
SAID = "役員会の議事録である。"
FILES = {"人事/規程.pdf": "規程.pdf", "人事/議事録.pdf": "文字化け.pdf"}


@pytest.fixture
def room(machine: Appliance):
    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source
    with Sandbox(machine.settings) as sandbox:
        files = {uri: ((CORPUS / name).read_bytes(), HR) for uri, name in FILES.items()}
        connector = MemoryConnector(files)
        sync(machine.engine, source, connector, machine.embedder, sandbox.parse, machine.settings)
        yield pages.Room(
            machine.engine,
            ScriptedPages({1: SAID, 3: "三ページ目の図"}),
            sandbox.parse,
            machine.embedder,
            machine.settings,
        )


def read(room: pages.Room) -> None:
    while pages.turn(room, "worker", threading.Event()):
        pass


def ids(admin) -> dict[str, str]:
    listed = admin.http.get("/api/v1/admin/documents").json()["documents"]
    return {one["uri"]: f"/api/v1/documents/{one['id']}" for one in listed}


def test_the_words_of_a_citation_stand_on_their_page(
    machine: Appliance, room: pages.Room, admin, ito, sato
) -> None:
    at = ids(admin)["人事/規程.pdf"]
    text = sato.http.get(at).json()["text"]
    words = "業務のため出張するとき"
    start = text.index(words)
    span = {"start": start, "end": start + len(words)}
    (box,) = sato.http.get(f"{at}/boxes", params=span).json()["boxes"]
    line = text.index("従業員が業務のため"), text.index("従業員が業務のため") + 20
    (whole,) = sato.http.get(f"{at}/boxes", params={"start": line[0], "end": line[1]}).json()[
        "boxes"
    ]
    # the line begins at 60 pt of 595; the words four letters later
    assert box["page"] == 1 and box["top"] == whole["top"] < box["bottom"] == whole["bottom"]
    letter = (whole["right"] - whole["left"]) / 20
    assert box["left"] - whole["left"] == pytest.approx(4 * letter, abs=2)
    assert box["right"] - box["left"] == pytest.approx(len(words) * letter, abs=2)
    # a sentence over two lines has a box on each, one below the other
    start = text.index("従業員が業務のため")
    two = sato.http.get(f"{at}/boxes", params={"start": start, "end": start + 40}).json()["boxes"]
    assert [b["page"] for b in two] == [1, 1] and two[0]["bottom"] <= two[1]["bottom"]

    # the one who may not read it learns nothing, as if it were not there
    assert ito.http.get(f"{at}/boxes", params=span).status_code == 404
    assert ito.http.get(f"{at}/pages/1/texts").status_code == 404
    assert sato.http.get(f"{at}/boxes", params={"start": 5, "end": 5}).status_code == 400
    assert sato.http.get(f"{at}/boxes", params={"start": 0, "end": 30_000}).status_code == 400
    far = sato.http.get(f"{at}/boxes", params={"start": 9_000, "end": 9_001})
    assert far.json()["boxes"] == []


def test_both_texts_of_a_garbled_page(machine: Appliance, room: pages.Room, admin, sato) -> None:
    at = ids(admin)["人事/議事録.pdf"]
    before = sato.http.get(f"{at}/pages/1/texts").json()
    assert (before["state"]["state"], before["state"]["read"]) == ("garbled", "none")
    assert before["own"] and before["read"] == ""

    read(room)
    both = sato.http.get(f"{at}/pages/1/texts").json()
    assert both["own"] == before["own"] and both["read"].strip() == SAID
    assert both["state"]["read"] == "ocr" and 0 < both["state"]["sure"] <= 1
    # what was read has its place from the reader
    text = sato.http.get(at).json()["text"]
    start = text.index(SAID)
    span = {"start": start, "end": start + len(SAID)}
    (box,) = sato.http.get(f"{at}/boxes", params=span).json()["boxes"]
    assert box["page"] == 1 and box["left"] < box["right"] and box["top"] < box["bottom"]

    # a page whose letters are its own has one text
    fine = sato.http.get(f"{ids(admin)['人事/規程.pdf']}/pages/1/texts").json()
    assert fine["own"].startswith("第1章") and fine["read"] == ""


def test_a_source_that_masks_masks_both(machine: Appliance, room: pages.Room) -> None:
    from appliance.ingest.handling import handled
    from appliance.types import Document

    document = Document("本文", own=((1, "電話 03-1234-5678"),))
    for handling in ("mask", "quarantine"):
        own = handled(document, "a.pdf", handling).document.own
        assert "1234" not in own[0][1] and len(own[0][1]) == len(document.own[0][1])
