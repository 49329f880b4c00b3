"""One page as a picture, drawn behind the walls."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from reportlab.pdfgen.canvas import Canvas

from appliance.errors import PasswordNeeded, Unreadable
from appliance.formats import answers
from appliance.formats.picture import MOST_PIXELS, Pixels, png
from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from appliance.types import RawFile
from tests import bombs

Raw = Callable[..., RawFile]


def dark(picture: bytes) -> tuple[int, int, int]:
    """Width, height, and how many pixels are dark, of a grey PNG."""
    assert picture.startswith(b"\x89PNG")
    width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    assert picture[25] == 0, "grey"
    size = int.from_bytes(picture[33:37], "big")
    lines = np.frombuffer(zlib.decompress(picture[41 : 41 + size]), np.uint8)
    lines = lines.reshape(height, width + 1)[:, 1:]
    return width, height, int((np.cumsum(lines, axis=0, dtype=np.uint8) < 128).sum())


def test_a_japanese_page_is_drawn_with_fonts_its_file_does_not_bring(
    sandbox: Sandbox, raw: Raw, corpus: Path
) -> None:
    data = (corpus / "規程.pdf").read_bytes()
    width, height, ink = dark(sandbox.picture(raw(data, "規程.pdf"), 1))
    assert (width, height) == (1200, 1698)
    assert 5_000 < ink < 500_000
    assert dark(sandbox.picture(raw(data, "規程.pdf"), 3))[2] > 500_000, "a black picture"


@pytest.mark.parametrize("page", [5, 10**9])
def test_a_page_that_is_not_there(sandbox: Sandbox, raw: Raw, corpus: Path, page: int) -> None:
    with pytest.raises(Unreadable, match="ページはありません"):
        sandbox.picture(raw((corpus / "規程.pdf").read_bytes(), "規程.pdf"), page)


def test_what_has_no_picture_says_so(sandbox: Sandbox, raw: Raw, corpus: Path) -> None:
    with pytest.raises(Unreadable, match="表示できません"):
        sandbox.picture(raw("旅費規程".encode(), "規程.txt"), 1)
    with pytest.raises(PasswordNeeded):
        sandbox.picture(raw((corpus / "要パスワード.pdf").read_bytes(), "a.pdf"), 1)
    with pytest.raises(Unreadable):
        sandbox.picture(raw(b"%PDF-1.7 broken", "a.pdf"), 1)


@pytest.mark.parametrize("size", [(10, 14_000), (14_000, 10), (1, 1), (14_400, 14_400)])
def test_no_size_of_a_page_makes_too_many_pixels(
    sandbox: Sandbox, raw: Raw, size: tuple[float, float]
) -> None:
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=size)
    canvas.drawString(0, 0, "x")
    canvas.save()
    width, height, _ = dark(sandbox.picture(raw(out.getvalue(), "a.pdf"), 1))
    assert 0 < width * height <= MOST_PIXELS


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"[1]",
        b"nonsense",
        b'{"width": 2, "height": 2, "rgb": "AAAA"}',
        b'{"width": -1, "height": -1, "rgb": "AAAA"}',
        b'{"width": 1.0, "height": 1, "rgb": "AAAA"}',
        b'{"width": 1, "height": 1, "rgb": 7}',
        b'{"width": 1, "height": 1, "rgb": "<script>"}',
        b'{"width": 3000, "height": 3000, "rgb": ""}',
    ],
)
def test_pixels_that_lie_are_not_believed(answer: bytes) -> None:
    with pytest.raises(Unreadable, match="正しくありません"):
        answers.pixels(answer)


def test_a_page_that_kills_its_renderer_hurts_nothing_else(tmp_path: Path, raw: Raw) -> None:
    here = Path(__file__).parent
    settings = Settings(data=tmp_path, parse_seconds=20)
    with Sandbox(settings, module="canaries", path=[here]) as cage:
        zygote = cage.pid
        with pytest.raises(Unreadable, match="2 回異常終了しました"):
            cage.picture(raw(b"crash", "crash"), 1)
        assert cage.parse(raw(b"plain", "plain"))[0].text == "plain"
        assert cage.pid == zygote


def test_a_page_that_takes_for_ever_ends(tmp_path: Path, raw: Raw, corpus: Path) -> None:
    with Sandbox(Settings(data=tmp_path, parse_seconds=3)) as sandbox:
        bomb = raw(bombs.pattern_pdf(), "a.pdf")
        assert sandbox.parse(bomb)[0].text == "Travel rules of the company"
        # of its time and its memory, whichever is over first
        with pytest.raises(Unreadable, match=r"ページの表示|メモリの上限"):
            sandbox.picture(bomb, 1)
        assert sandbox.picture(raw((corpus / "規程.pdf").read_bytes(), "規程.pdf"), 1)


def test_colours_stay() -> None:
    red = png(Pixels(2, 1, bytes([255, 0, 0, 0, 0, 255])))
    assert red[25] == 2
    assert zlib.decompress(red[41:-16]) == bytes([2, 255, 0, 0, 0, 0, 255])
