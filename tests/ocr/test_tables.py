"""Ruled tables and forms of pages that are pictures, from the picture to a document's text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from appliance.formats.sandbox import Sandbox
from appliance.ocr import rules
from appliance.ocr.reader import ConfinedReader
from appliance.settings import Settings
from appliance.text import readings
from appliance.types import NOBODY, Box, RawFile, ReadLine, ReadPage
from tests.quality import ocr_tables

PAGES = Path(__file__).parent / "pages"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfinedReader]:
    with ConfinedReader(Settings(data=tmp_path_factory.mktemp("data")), idle=False) as made:
        yield made


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(Settings(data=tmp_path_factory.mktemp("data"))) as made:
        yield made


@pytest.mark.parametrize(("name", "which"), [("表", "merged heads"), ("申請書", "form")])
def test_a_table_is_read_row_by_row_between_the_lines_around_it(
    reader: ConfinedReader, name: str, which: str
) -> None:
    page = reader.read(PAGES / f"{name}.png", 1)
    wanted = next(d.wanted for d in ocr_tables.DRAWN if d.name == which)
    said = [line.text for line in page.lines if line.row]
    right, count = ocr_tables.placed(wanted, said)
    assert (right, len(said)) == (count, len(wanted)), said
    assert [line.row for line in page.lines] == [False, *[True] * len(wanted), False]
    tops = [line.box.top for line in page.lines]
    assert tops == sorted(tops)


def test_rules_of_a_page_that_is_askew_are_found_and_strokes_of_letters_are_none() -> None:
    image = Image.new("RGB", (1200, 800), "white")
    draw = ImageDraw.Draw(image)
    for y in (100, 200, 300):
        draw.line([100, y, 1100, y + 20], "black", 2)  # a little more than one degree
    draw.line([100, 600, 300, 604], "black", 2)  # a dash in a line of text
    draw.line([600, 100, 1000, 108], (220, 40, 40), 2)  # of a stamp
    page = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
    text = np.array([[90, 580], [700, 580], [700, 630], [90, 630]], np.float32)
    angle, found = rules.find(page, [text], 40.0)
    assert angle == pytest.approx(0.02, abs=0.001)
    across = [r for r in found if r.right - r.left > r.bottom - r.top]
    assert len(found) == len(across) == 3
    assert [r.top for r in across] == pytest.approx([98 + 100 * n for n in range(3)], abs=3)


def test_rows_stay_rows_in_the_text_of_a_document(sandbox: Sandbox) -> None:
    said = [
        "出張旅費規程に定める旅費の額は次の表のと",
        "型番 | 数量",
        "KX-3200R | 2",
        "おりとし四月一日から適用する。",
    ]
    lines = tuple(
        ReadLine(text, 0.9, Box(10, 20 * n, 200, 20 * n + 15), row="|" in text)
        for n, text in enumerate(said)
    )
    data = (PAGES / "二ページ.pdf").read_bytes()
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    kept = readings.from_json(readings.to_json(ReadPage(lines)))
    file = RawFile("表.pdf", "1", lambda: io.BytesIO(data), NOBODY, "表", moment, read={1: kept})
    text = sandbox.parse(file)[0].text
    assert "型番 | 数量\nKX-3200R | 2\n" in text


def test_what_was_kept_before_rows_were_told_is_read() -> None:
    kept = {"lines": [["型番", 0.9, 1.0, 2.0, 3.0, 4.0]], "turned": 0, "vertical": False}
    assert readings.from_json(kept).lines == (ReadLine("型番", 0.9, Box(1, 2, 3, 4)),)
    kept["lines"] = [["型番", 0.9, 1.0, 2.0, 3.0, 4.0, "yes"]]
    with pytest.raises(ValueError, match="not a line"):
        readings.from_json(kept)
