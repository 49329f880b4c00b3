"""Where the lines that were read of a page stand on it.

A line's letters follow each other in the file nearly always, so they are looked up there; cells of a
table are looked up one by one. What is not found has no place, and nothing is drawn for it.
"""

from __future__ import annotations

import ctypes
import re
from array import array
from collections.abc import Iterator, Sequence

import pypdfium2
import pypdfium2.raw as pdfium

from appliance.formats.pdf_lines import mended
from appliance.formats.pdf_pieces import Line
from appliance.text.where import FULL
from appliance.types import ReadPage, Run

_MOST = 20_000  # letters of a page: more are a file that wants to keep us busy
_WORD = re.compile(r"[^\s|]+")
_NEAR, _SHORT = 60, 3  # letters ahead in which a short word is looked for
_BAND = 0.6  # of a letter's height: farther off, another line has begun
_SKIPPED = frozenset((0, 2, 9, 10, 13, 0x20, 0xA0, 0xAD, 0x200B, 0x3000, 0xFEFF, 0xFFFE, 0xFFFF))


def of(
    page: pypdfium2.PdfPage, text_page: pypdfium2.PdfTextPage, lines: Sequence[Line], number: int
) -> list[list[Run]]:
    """Of each line its runs, counted from its beginning."""
    signs, boxes = _letters(text_page)
    if not signs:
        return [[] for _ in lines]
    at = 0
    found = []
    for line in lines:
        runs: list[Run] = []
        for start, word in _words(line.text, signs, at):
            spot = _spot(signs, word, at)
            if spot < 0:
                continue
            at = spot + len(word)
            runs += _runs(page, number, boxes, line.text, start, spot, len(word))
        found.append(runs)
    return found


def of_read(
    read: ReadPage, lines: Sequence[Line], size: tuple[float, float], number: int
) -> list[list[Run]]:
    """Of lines that were read from the page's picture."""
    wide, high = (n or 1.0 for n in size)
    way = {0: 0, 90: 1, 180: 2, 270: 3}[read.turned] if not read.vertical else 1
    found = []
    for line, said in zip(lines, read.lines, strict=True):
        box = said.box
        left, right = sorted(_within(FULL * x / wide) for x in (box.left, box.right))
        top, bottom = sorted(_within(FULL * y / high) for y in (box.top, box.bottom))
        found.append(
            [Run(0, len(line.text), number, left, top, right, bottom, way)] if line.text else []
        )
    return found


def _words(text: str, signs: str, at: int) -> Iterator[tuple[int, str]]:
    """The line without its blanks where the file has it so; else its words. With where they begin."""
    whole = "".join(text.split())
    if len(whole) >= _SHORT and _spot(signs, whole, at) >= 0:
        yield len(text) - len(text.lstrip()), whole
        return
    waiting = [(word.start(), word[0]) for word in _WORD.finditer(text)][::-1]
    while waiting:
        start, word = waiting.pop()
        half = len(word) // 2
        if half >= _SHORT and _spot(signs, word, at) < 0:  # a sign in it is told in another form
            waiting += [(start + half, word[half:]), (start, word[:half])]
        else:
            yield start, word


def _spot(signs: str, word: str, at: int) -> int:
    if len(word) < _SHORT:
        return signs.find(word, at, at + _NEAR)
    spot = signs.find(word, at)
    return spot if spot >= 0 else signs.find(word)


def _letters(text_page: pypdfium2.PdfTextPage) -> tuple[str, array[float]]:
    """The page's signs but blanks, in the order of the file, and four numbers for each."""
    raw, count = text_page.raw, pdfium.FPDFText_CountChars(text_page.raw)
    boxes: array[float] = array("f")
    signs: list[str] = []
    if count > _MOST:
        return "", boxes
    box, high = pdfium.FS_RECTF(), 0
    by_box = ctypes.byref(box)
    sign_of, box_of = pdfium.FPDFText_GetUnicode, pdfium.FPDFText_GetLooseCharBox
    for n in range(count):
        code = sign_of(raw, n)
        if code in _SKIPPED:
            continue
        if 0xD800 <= code < 0xDC00:
            high = code
            continue
        if 0xDC00 <= code < 0xE000:
            code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00) if high else 0xFFFD
            high = 0
        if box_of(raw, n, by_box):
            signs.append(chr(code))
            boxes.extend((box.left, box.top, box.right, box.bottom))
    return mended("".join(signs)), boxes


def _runs(
    page: pypdfium2.PdfPage,
    number: int,
    boxes: array[float],
    text: str,
    start: int,
    spot: int,
    count: int,
) -> Iterator[Run]:
    """Letters `spot` and following, cut where another line begins."""
    places = [n for n in range(start, len(text)) if not text[n].isspace()][:count]
    begun = 0
    for n in range(1, count + 1):
        if n < count and _goes_on(boxes, spot + begun, spot + n):
            continue
        first, last = spot + begun, spot + n - 1
        yield _run(page, number, boxes, first, last, places[begun], places[n - 1] + 1)
        begun = n


def _goes_on(boxes: array[float], first: int, n: int) -> bool:
    left, top, right, bottom = boxes[4 * first : 4 * first + 4]
    x0, y1, x1, y0 = boxes[4 * (n - 1) : 4 * n]
    x, y = (boxes[4 * n] + boxes[4 * n + 2]) / 2, (boxes[4 * n + 1] + boxes[4 * n + 3]) / 2
    level = abs(y - (top + bottom) / 2) <= _BAND * abs(top - bottom)
    below = abs(x - (left + right) / 2) <= _BAND * abs(right - left)
    # along the line a letter follows the one before; back at its beginning is another line
    return (
        (level and x >= x0 - abs(x1 - x0)) or (below and not level) or (below and y <= max(y0, y1))
    )


def _run(
    page: pypdfium2.PdfPage,
    number: int,
    boxes: array[float],
    first: int,
    last: int,
    start: int,
    end: int,
) -> Run:
    held = boxes[4 * first : 4 * last + 4]
    a = _shown(page, min(held[0::4]), max(held[1::4]))
    b = _shown(page, max(held[2::4]), min(held[3::4]))
    one, other = (
        _shown(
            page, (boxes[4 * n] + boxes[4 * n + 2]) / 2, (boxes[4 * n + 1] + boxes[4 * n + 3]) / 2
        )
        for n in (first, last)
    )
    across, down = other[0] - one[0], other[1] - one[1]
    way = (0 if across >= 0 else 2) if abs(across) >= abs(down) else (1 if down > 0 else 3)
    left, right = sorted((a[0], b[0]))
    top, bottom = sorted((a[1], b[1]))
    return Run(start, end, number, left, top, right, bottom, way)


def _shown(page: pypdfium2.PdfPage, x: float, y: float) -> tuple[int, int]:
    """A place of the PDF on the page as it is drawn."""
    across, down = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDF_PageToDevice(page.raw, 0, 0, FULL, FULL, 0, x, y, across, down)
    return _within(across.value), _within(down.value)


def _within(place: float) -> int:
    return max(0, min(FULL, round(place)))
