"""Pages that are pictures, of files inside files: they wait and are read as all others."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import update
from sqlmodel import select

from appliance.formats.sandbox import Sandbox
from appliance.ingest import again, kept, pages
from appliance.settings import Settings
from appliance.store import again as wanted
from appliance.store import catalog, database, dossier, scans, sources
from appliance.store.tables import HistoryRow, ScanPageRow, ScanRow, now
from appliance.testing.fakes import MemoryConnector, ScriptedPages
from appliance.types import Child, RawFile
from tests.ingest.conftest import Machine
from tests.ingest.test_inside import inside, listed, packed

NUMBER = "123456789018"


def picture(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (40, 30), shade).save(out, "PNG")
    return out.getvalue()


def scanned(shade: int) -> bytes:
    """A PDF: a page with text, and one that is a picture."""
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    canvas.drawString(100, 700, "The first page of the rules of travel")
    canvas.showPage()
    canvas.drawImage(ImageReader(io.BytesIO(picture(shade))), 0, 0, 595, 842)
    canvas.save()
    return out.getvalue()


def mail(data: bytes) -> bytes:
    message = EmailMessage()
    message["Subject"] = "図面"
    message.set_content("図面を送ります。")
    message.add_attachment(data, maintype="image", subtype="png", filename="図面.png")
    return message.as_bytes()


FILES: dict[str, str | bytes] = {
    "図.png": picture(10),
    "内.zip": packed({"規程.pdf": scanned(20), "便り.eml": mail(picture(30))}),
    "メモ.txt": "日当は三千円",
}
PICTURE, RULES, DRAWING = "図.png", "内.zip › 規程.pdf", "内.zip › 便り.eml › 図面.png"


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[RawFile], Any]]:
    with Sandbox(Settings(data=tmp_path_factory.mktemp("data"))) as sandbox:
        yield sandbox.parse


class Site:
    def __init__(self, machine: Machine, parse: Callable[[RawFile], Any]) -> None:
        self.machine, self.engine, machine.parse = machine, machine.engine, parse
        self.reader = ScriptedPages({1: "一枚目の図", 2: "二枚目の表"})
        self.connector = MemoryConnector({"資料.zip": packed(FILES)})

    def sync(self, files: dict[str, str | bytes] | None = None) -> Any:
        if files is not None:
            self.connector.files = {"資料.zip": packed(files)}
        return self.machine.sync(self.connector).counts

    def read(self) -> None:
        m = self.machine
        room = pages.Room(m.engine, self.reader, m.parse, m.embedder, m.settings)
        while pages.turn(room, "a", m.over):
            pass

    def kept(self) -> set[str]:
        folder = kept.folder(self.machine.settings)
        return {one.name for one in folder.iterdir()} if folder.is_dir() else set()

    def history(self, document_id: str) -> list[str]:
        with database.reading(self.engine) as s:
            mine = select(HistoryRow.kind).where(HistoryRow.document_id == document_id)
            return list(s.exec(mine.order_by(HistoryRow.id)))  # type: ignore[arg-type]

    def take_again(self, document_id: str) -> None:
        m = self.machine
        assert wanted.ask(m.engine, document_id)
        assert again.look(
            m.engine, lambda source: self.connector, m.embedder, m.parse, m.settings, m.over
        )


@pytest.fixture
def site(machine: Machine, parse: Callable[[RawFile], Any]) -> Site:
    return Site(machine, parse)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_pictures_inside_wait_are_read_and_found(site: Site) -> None:
    site.sync()
    found = inside(site)
    assert found[PICTURE].problem == "p. 1 は文字の読み取り (OCR) を待っています"
    assert found[RULES].problem == "p. 2 は文字の読み取り (OCR) を待っています"
    assert site.kept() == {sha(picture(10)), sha(scanned(20)), sha(picture(30))}
    assert scans.counts(site.engine).waiting == 3
    site.read()
    after = inside(site)
    assert {path: d.id for path, d in after.items()} == {path: d.id for path, d in found.items()}
    assert not site.kept() and not [d.problem for d in after.values() if d.problem]
    said = site.machine.texts()
    assert (said["図.png"], said["図面.png"]) == ("一枚目の図", "一枚目の図")
    assert "The first page" in said["規程.pdf"] and "二枚目の表" in said["規程.pdf"]
    held = [entry.text for entry in catalog.entries_of(site.engine, after[PICTURE].id, "hash")]
    assert held[0].startswith("資料.zip › 図.png\n")
    assert site.history(after[PICTURE].id) == ["added", "reread"]


def test_what_was_read_is_not_read_again(site: Site) -> None:
    site.sync()
    site.read()
    asked, before = len(site.reader.asked), inside(site)
    moved = {"新しい図.png": FILES["図.png"], "内.zip": FILES["内.zip"], "新.txt": "新しい"}
    assert site.sync(moved) == {"updated": 1}
    site.read()
    after = inside(site)
    assert len(site.reader.asked) == asked
    assert after["新しい図.png"].id == before[PICTURE].id and after[RULES].id == before[RULES].id
    assert site.machine.texts()["新しい図.png"] == "一枚目の図"
    assert site.history(after["新しい図.png"].id) == ["added", "reread", "moved"]


def test_to_read_a_file_inside_again_is_to_read_its_holder_again(site: Site) -> None:
    site.sync()
    site.read()
    asked, embedded, before = len(site.reader.asked), site.machine.embedded, inside(site)
    site.take_again(before["メモ.txt"].id)
    assert inside(site)["メモ.txt"].id == before["メモ.txt"].id
    assert site.history(before["メモ.txt"].id) == ["added", "reread"]
    assert site.machine.embedded > embedded and len(site.reader.asked) == asked
    assert scans.counts(site.engine).waiting == 0


def test_other_bytes_under_the_old_name_are_read_anew(site: Site) -> None:
    site.sync()
    site.sync(FILES | {"図.png": picture(77)})
    assert sha(picture(77)) in site.kept() and sha(picture(10)) not in site.kept()
    site.reader.pages[1] = "別の図"
    site.read()
    assert site.machine.texts()["図.png"] == "別の図" and not site.kept()


def test_bytes_that_are_gone_are_brought_again_with_their_holder(site: Site) -> None:
    site.sync()
    for name in site.kept():
        kept.path(site.machine.settings, name).unlink()
    site.read()
    assert not site.reader.asked
    assert site.sync() == {"updated": 1}
    with database.writing(site.engine) as s:
        s.connection().execute(update(ScanRow).values(turn_at=now()))
    site.read()
    assert site.machine.texts()["図.png"] == "一枚目の図"


def test_who_loses_the_archive_loses_its_pages(site: Site) -> None:
    site.sync()
    site.connector.files = {}
    site.sync()
    assert listed(site) == {}
    with database.reading(site.engine) as s:
        for table in (ScanRow, ScanPageRow, HistoryRow):
            assert s.exec(select(table)).all() == []


def test_a_page_inside_that_tells_what_is_quarantined_hides_its_file_alone(site: Site) -> None:
    sources.update(site.engine, site.machine.source_id, personal_data="quarantine")
    site.reader.pages[2] = f"個人番号 {NUMBER}"
    site.sync()
    site.read()
    found = inside(site)
    assert found[RULES].status == "problem" and "個人情報" in str(found[RULES].problem)
    assert set(site.machine.texts()) == {"図.png", "図面.png", "メモ.txt", "便り.eml"}
    assert not site.kept()


def test_a_parser_that_lies_about_bytes_gets_no_other_document_read(site: Site) -> None:
    secret = "0" * 64
    honest = site.machine.parse

    def liar(file: RawFile) -> Any:
        document, media_type = honest(file)
        children: tuple[Child, ...] = tuple(replace(c, digest=secret) for c in document.children)
        return replace(document, children=children), media_type

    site.machine.parse = liar
    site.sync()
    site.sync(FILES | {"新.txt": "新しい"})
    with database.reading(site.engine) as s:
        digests = set(s.exec(select(ScanRow.digest)))
    assert digests == {sha(picture(10)), sha(scanned(20)), sha(picture(30))}


def test_without_a_reader_a_picture_inside_says_so(site: Site) -> None:
    site.machine.settings = replace(site.machine.settings, ocr=False)
    site.sync()
    found = inside(site)
    assert "OCR" in str(found[PICTURE].problem) and not site.kept()
    assert found[RULES].notes == ("p. 2 にテキストがありません (画像のみ)",)


def test_what_its_name_tells_still_counts_when_its_page_is_read(site: Site) -> None:
    sources.update(site.engine, site.machine.source_id, personal_data="mask")
    site.sync({f"個人番号{NUMBER}.png": picture(10)})
    (one,) = inside(site).values()
    assert one.personal == {"my_number": 1} and NUMBER not in one.uri
    site.read()
    (one,) = inside(site).values()
    assert one.status == "ready" and one.personal == {"my_number": 1}
    assert dossier.of(site.engine, str(one.parent_id)).masked
