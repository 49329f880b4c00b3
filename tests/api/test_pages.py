"""What was read from pictures reaches people through the same doors as all other text."""

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

SCAN = Path(__file__).parents[1] / "ocr" / "pages" / "二ページ.pdf"
HR: Access = (Layer(frozenset({Principal("group:人事部")})),)
SAID = "給与等級表のとおり、四等級の基本給は月額三十一万円とする。"


@pytest.fixture
def room(machine: Appliance):
    """A scanned paper of 人事部 has been taken in, and waits."""
    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source
    with Sandbox(machine.settings) as sandbox:
        connector = MemoryConnector({"人事/給与等級表.pdf": (SCAN.read_bytes(), HR)})
        sync(machine.engine, source, connector, machine.embedder, sandbox.parse, machine.settings)
        reader = ScriptedPages({1: SAID, 2: ""})
        yield pages.Room(machine.engine, reader, sandbox.parse, machine.embedder, machine.settings)


def test_a_scanned_paper_is_found_by_those_who_may_read_it_once_it_is_read(
    machine: Appliance, room: pages.Room, admin, ito, sato
) -> None:
    status = admin.http.get("/api/v1/admin/status").json()["pages"]
    assert (status["on"], status["waiting"], status["done"]) == (True, 2, 0)
    (source,) = [
        s
        for s in admin.http.get("/api/v1/admin/sources").json()["sources"]
        if s["name"] == "共有フォルダ"
    ]
    assert (source["documents"], source["pages_waiting"]) == (1, 2)
    (listed,) = admin.http.get("/api/v1/admin/documents").json()["documents"]
    assert listed["problem"] == "p. 1–2 は文字の読み取り (OCR) を待っています"

    assert pages.turn(room, "worker", threading.Event())
    machine.follower.catch_up()

    status = admin.http.get("/api/v1/admin/status").json()["pages"]
    assert (status["waiting"], status["done"], status["failed"]) == (0, 2, 0)
    assert status["per_minute"] > 0
    (listed,) = admin.http.get("/api/v1/admin/documents").json()["documents"]
    assert (listed["status"], listed["problem"]) == ("ready", None)
    body = {"question": "四等級の基本給"}
    (found,) = sato.http.post("/api/v1/search", json=body).json()["passages"]
    assert found["text"] == SAID
    assert found["label"] == "p. 1（OCR）"
    assert ito.http.post("/api/v1/search", json=body).json()["passages"] == []
