"""Real pages through the real engine, behind its walls. The pictures are drawn by tests/quality/ocr.py."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from appliance.errors import DigestMismatch, TooLarge, Transient, Unreadable
from appliance.formats.sandbox import Sandbox
from appliance.ocr import engine
from appliance.ocr.reader import ConfinedReader
from appliance.settings import Settings
from appliance.testing.contracts import PageReaderContract
from appliance.types import NOBODY, Document, RawFile, ReadPage

PAGES = Path(__file__).parent / "pages"
SAID = (
    "出張旅費規程"
    "第1条（目的）この規程は、株式会社蔵商事（以下「会社」という。）の役員及び従業員が業務のため出張する場合の旅費の支給に関する事項を定めることを目的とする。"
    "第2条（適用範囲）この規程は、就業規則第3条に定める従業員に適用する。ただし、嘱託、臨時従業員及びパートタイマーについては、別に定める。"
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfinedReader]:
    with ConfinedReader(Settings(data=tmp_path_factory.mktemp("data")), idle=False) as made:
        yield made


class TestConfinedReader(PageReaderContract):
    @pytest.fixture(params=["二ページ.pdf", "二ページ.tif"])
    def file(self, request: pytest.FixtureRequest) -> Path:
        return PAGES / request.param


def said(page: ReadPage) -> str:
    return "".join(line.text for line in page.lines).replace(" ", "")


def wrong(page: ReadPage, wanted: str = SAID) -> int:
    """How many letters of the page are not as they should be."""
    got, row = said(page), list(range(len(said(page)) + 1))
    for i, x in enumerate(wanted, 1):
        last = [i]
        for j, y in enumerate(got, 1):
            last.append(min(row[j] + 1, last[-1] + 1, row[j - 1] + (x != y)))
        row = last
    return row[-1]


def test_japanese_is_read(reader: ConfinedReader) -> None:
    page = reader.read(PAGES / "横書き.png", 1)
    assert wrong(page) <= 2, said(page)
    assert (page.turned, page.vertical) == (0, False)
    assert [line.box.top for line in page.lines] == sorted(line.box.top for line in page.lines)


def test_a_page_that_lies_on_its_side_and_askew_is_read(reader: ConfinedReader) -> None:
    page = reader.read(PAGES / "横倒し.png", 1)
    assert wrong(page) <= 2, said(page)
    assert (page.turned, page.vertical) == (270, False)
    lefts = [line.box.left for line in page.lines]  # on the page as it lies there
    assert lefts == sorted(lefts)


def test_tategaki_is_read_from_right_to_left_with_its_punctuation(reader: ConfinedReader) -> None:
    page = reader.read(PAGES / "縦書き.png", 1)
    assert wrong(page, SAID.translate(str.maketrans("123", "一二三"))) <= 10, said(page)
    assert page.vertical
    assert "、" in said(page)


def test_nothing_but_the_page_is_at_hand(reader: ConfinedReader) -> None:
    """The engine's process has lost its network and its rights; each page's child has the parsers' walls."""
    pid = reader.pid
    assert pid is not None
    status = Path(f"/proc/{pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def test_questions_go_first(tmp_path: Path) -> None:
    Image.effect_noise((2000, 2000), 90).save(tmp_path / "noise.png")
    with ThreadPoolExecutor(1) as pool:
        with ConfinedReader(Settings(data=tmp_path)) as usual:
            reading = pool.submit(usual.read, tmp_path / "noise.png", 1)
            while not (found := children(usual.pid)) and not reading.done():
                time.sleep(0.01)
            while os.sched_getscheduler(found[0]) != os.SCHED_IDLE:
                time.sleep(0.01)
            assert os.sched_getscheduler(usual.pid or 0) == os.SCHED_OTHER
        with pytest.raises(Transient):  # closed under its hands: the page is not to blame
            reading.result(30)


def children(pid: int | None) -> list[int]:
    if pid is None:
        return []
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_page_that_takes_too_long_is_unreadable_and_the_next_is_read(tmp_path: Path) -> None:
    with ConfinedReader(Settings(data=tmp_path, ocr_seconds=1), idle=False) as hurried:
        noise = Image.effect_noise((4000, 4000), 90)
        noise.save(tmp_path / "noise.png")
        with pytest.raises(Unreadable, match="1 秒で終わりませんでした"):
            hurried.read(tmp_path / "noise.png", 1)


def test_a_page_that_takes_too_much_memory_is_unreadable(tmp_path: Path) -> None:
    with (
        ConfinedReader(Settings(data=tmp_path, ocr_memory=30_000_000), idle=False) as poor,
        pytest.raises(Unreadable),
    ):
        poor.read(PAGES / "横書き.png", 1)


def test_a_scanned_a4_page_takes_less_than_half_a_gigabyte(tmp_path: Path) -> None:
    """Beside the engine, which has 190 MB and which all pages share."""
    paper = Image.new("L", (2480, 3508), "white")
    paper.paste(Image.open(PAGES / "横書き.png"), (300, 300))
    paper.save(tmp_path / "a4.png")
    with ConfinedReader(Settings(data=tmp_path, ocr_memory=320 * 2**20), idle=False) as modest:
        assert wrong(modest.read(tmp_path / "a4.png", 1)) <= 2


def test_a_picture_of_too_many_pixels_is_not_unpacked(
    reader: ConfinedReader, tmp_path: Path
) -> None:
    Image.new("1", (20_000, 12_000)).save(tmp_path / "bomb.png")
    with pytest.raises(TooLarge, match="画素"):
        reader.read(tmp_path / "bomb.png", 1)


def test_a_torn_picture_is_unreadable(reader: ConfinedReader, tmp_path: Path) -> None:
    whole = (PAGES / "横書き.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable, match="壊れています"):
        reader.read(tmp_path / "torn.png", 1)


def test_an_engine_that_was_killed_is_there_again(reader: ConfinedReader) -> None:
    reader.read(PAGES / "二ページ.tif", 2)
    pid = reader.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert reader.read(PAGES / "二ページ.tif", 2) == ReadPage()


def test_only_the_models_we_know_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.problem() is None
    monkeypatch.setitem(engine.FILES, "PP-OCRv6_rec_small.onnx", "0" * 64)
    assert "PP-OCRv6_rec_small.onnx" in (engine.problem() or "")
    with pytest.raises(DigestMismatch):
        engine.Engine()


def test_the_engine_can_phone_nobody() -> None:
    """onnxruntime sends telemetry from 1.29 on; rapidocr's own code would download, and is not run."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec
    assert spec.origin
    for library in (Path(spec.origin).parent / "capi").glob("*.so*"):
        data = library.read_bytes()
        assert b"events.data.microsoft.com" not in data, library
    sources = (p.read_text("utf-8") for p in Path(engine.__file__).parent.glob("*.py"))
    assert not any("import rapidocr" in text or "from rapidocr" in text for text in sources)


# --- what the parsers make of it -----------------------------------------------------


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(Settings(data=tmp_path_factory.mktemp("data"))) as made:
        yield made


def parsed(sandbox: Sandbox, name: str, read: dict[int, ReadPage] | None) -> Document:
    data = (PAGES / name).read_bytes()
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    file = RawFile(name, "1", lambda: io.BytesIO(data), NOBODY, name, moment, read=read)
    return sandbox.parse(file)[0]


@pytest.mark.parametrize("name", ["二ページ.pdf", "二ページ.tif"])
def test_pages_wait_and_then_have_the_text_that_was_read(
    sandbox: Sandbox, reader: ConfinedReader, name: str
) -> None:
    waiting = parsed(sandbox, name, {})
    assert waiting.text == ""
    assert [(p.state, p.read) for p in waiting.pages] == [("scanned", "none")] * 2
    read = {n: reader.read(PAGES / name, n) for n in (1, 2)}
    document = parsed(sandbox, name, read)
    assert document.text.strip() == "出張旅費規程"
    assert [m.label for m in document.marks if m.kind == "page"] == ["p. 1（OCR）"]
    assert [p.read for p in document.pages] == ["ocr", "ocr"]


@pytest.mark.parametrize("name", ["二ページ.pdf", "二ページ.tif", "横書き.png"])
def test_where_nobody_reads_a_picture_is_refused_as_before(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(Unreadable, match="OCR"):
        parsed(sandbox, name, None)
