"""Where the lines that were read of a page stand on it.

A line's letters follow each other in the file nearly always, so they are looked up there; cells of a
table are looked up one by one. What is not found has no place, and nothing is drawn for it.
"""

from __future__ import annotations

import ctypes
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from appliance.formats.pdf_lines import mended
from appliance.formats.pdf_pieces import Line
from appliance.text.where import FULL
from appliance.types import ReadPage, Run

_MOST = 20_000  # letters of a page: more are a file that wants to keep us busy
_WORD = re.compile(r"[^\s|]+")
_NEAR, _SHORT = 60, 3  # letters ahead in which a short word is looked for
_FINE, _FAR = 1_000_000, 1_000  # of a drawn page; of a PDF
_BAND = 0.6  # of a letter's height: farther off, another line has begun
_KEPT = re.compile("[^\0\x02\t\n\r \xa0\xad\u200b\u3000\ufeff\ufffe\uffff]+")


def of(
    page: pypdfium2.PdfPage, text_page: pypdfium2.PdfTextPage, lines: Sequence[Line], number: int
) -> list[list[Run]]:
    """Of each line its runs, counted from its beginning."""
    signs, *places = _letters(text_page)
    if not signs:
        return [[] for _ in lines]
    boxes, shown = _Boxes(text_page, *places), _shown(page)
    at = 0
    found = []
    for line in lines:
        runs: list[Run] = []
        for start, end, spot, count in _spots(line.text, signs, at):
            at = spot + count
            runs += _runs(shown, number, boxes, line.text, start, end, spot, count)
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


def _spots(text: str, signs: str, at: int) -> Iterator[tuple[int, int, int, int]]:
    """The line without its blanks where the file has it so; else its words. From where to where each
    goes in the line, where it begins among the signs, and how many letters it has."""
    whole = "".join(text.split())
    if len(whole) >= _SHORT and (spot := _spot(signs, whole, at)) >= 0:
        yield len(text) - len(text.lstrip()), len(text.rstrip()), spot, len(whole)
        return
    for start, word in _words(text, signs, at):
        if (spot := _spot(signs, word, at)) >= 0:
            at = spot + len(word)
            yield start, start + len(word), spot, len(word)


def _words(text: str, signs: str, at: int) -> Iterator[tuple[int, str]]:
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


def _letters(text_page: pypdfium2.PdfTextPage) -> tuple[str, list[int], list[int]]:
    """The page's signs but blanks, in the order of the file; where what stands between blanks begins
    among them, and how many blanks are before that."""
    count = pdfium.FPDFText_CountChars(text_page.raw)
    if not 0 < count <= _MOST:
        return "", [], []
    signs = _at_once(text_page.raw, count) or "".join(_one_by_one(text_page.raw, count))
    kept: list[str] = []
    begins: list[int] = []
    blanks: list[int] = []
    length = 0
    for found in _KEPT.finditer(signs):
        kept.append(found[0])
        begins.append(length)
        blanks.append(found.start() - length)
        length += len(found[0])
    return mended("".join(kept)), begins, blanks


def _at_once(raw: Any, count: int) -> str:
    """ "" where PDFium leaves letters out, or a sign takes two units: numbers would not hold."""
    units = (ctypes.c_ushort * (count + 1))()
    got = pdfium.FPDFText_GetText(raw, 0, count, units)
    text = bytes(units).decode("utf-16-le", "replace")
    return text[:count] if got == len(text) == count + 1 else ""


def _one_by_one(raw: Any, count: int) -> Iterator[str]:
    high = 0
    for n in range(count):
        code = pdfium.FPDFText_GetUnicode(raw, n)
        if 0xDC00 <= code < 0xE000:
            yield chr(0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)) if high else "\ufffd"
            high = 0
        else:
            high = code if 0xD800 <= code < 0xDC00 else 0
            yield "\0" if high else chr(code)


class _Boxes:
    """Of a page's letters, each asked for when it is wanted."""

    def __init__(
        self, text_page: pypdfium2.PdfTextPage, begins: Sequence[int], blanks: Sequence[int]
    ) -> None:
        self._raw, self._begins, self._blanks = text_page.raw, begins, blanks
        self._box = pdfium.FS_RECTF()
        self._by = ctypes.byref(self._box)

    def __getitem__(self, n: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        box = self._box
        place = n + self._blanks[bisect_right(self._begins, n) - 1]
        if not pdfium.FPDFText_GetLooseCharBox(self._raw, place, self._by):
            return 0.0, 0.0, 0.0, 0.0
        return box.left, box.top, box.right, box.bottom


def _runs(
    shown: _Shown,
    number: int,
    boxes: _Boxes,
    text: str,
    start: int,
    end: int,
    spot: int,
    count: int,
) -> Iterator[Run]:
    """Letters `spot` and following, cut where another line begins."""
    first, last = boxes[spot], boxes[spot + count - 1]
    if _straight(first, last, count):
        held = [first, boxes[spot + count // 2], last]
        yield _run(shown, number, held, start, end)
        return
    places = [n for n in range(start, end) if not text[n].isspace()]
    held = [first]
    begun = 0
    for n in range(1, count + 1):
        box = boxes[spot + n] if n < count else None
        if box and _goes_on(held[0], held[-1], box):
            held.append(box)
            continue
        yield _run(shown, number, held, places[begun], places[n - 1] + 1)
        held, begun = [box] if box else [], n


_Box = tuple[float, float, float, float]
_Shown = Callable[[float, float], tuple[int, int]]


def _straight(first: _Box, last: _Box, count: int) -> bool:
    """Whether what ends as far along as so many letters take has no other line in between."""
    height = abs(first[1] - first[3])
    level = abs(_middle(first)[1] - _middle(last)[1]) <= _BAND * height / 2
    return level and 0 <= last[0] - first[0] <= 2 * height * count


def _middle(box: _Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _goes_on(first: _Box, before: _Box, box: _Box) -> bool:
    left, top, right, bottom = first
    x0, y1, x1, y0 = before
    x, y = _middle(box)
    level = abs(y - (top + bottom) / 2) <= _BAND * abs(top - bottom)
    below = abs(x - (left + right) / 2) <= _BAND * abs(right - left)
    # along the line a letter follows the one before; back at its beginning is another line
    return (
        (level and x >= x0 - abs(x1 - x0)) or (below and not level) or (below and y <= max(y0, y1))
    )


def _run(shown: _Shown, number: int, held: Sequence[_Box], start: int, end: int) -> Run:
    """Of letters with these boxes, the first and the last of all among them."""
    lefts, tops, rights, bottoms = zip(*held, strict=True)
    (x0, y0), (x1, y1) = shown(min(lefts), max(tops)), shown(max(rights), min(bottoms))
    from_, to = shown(*_middle(held[0])), shown(*_middle(held[-1]))
    across, down = to[0] - from_[0], to[1] - from_[1]
    way = (0 if across >= 0 else 2) if abs(across) >= abs(down) else (1 if down > 0 else 3)
    return Run(start, end, number, min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), way)


def _shown(page: pypdfium2.PdfPage) -> _Shown:
    """A place of the PDF on the page as it is drawn, which is turned and moved, and no more."""
    across, down = ctypes.c_int(), ctypes.c_int()
    seen = []
    for x, y in ((0, 0), (_FAR, 0), (0, _FAR)):
        pdfium.FPDF_PageToDevice(page.raw, 0, 0, _FINE, _FINE, 0, x, y, across, down)
        seen.append((across.value * FULL / _FINE, down.value * FULL / _FINE))
    (x0, y0), (right, below), (left, above) = seen
    x_of_x, y_of_x = (right - x0) / _FAR, (below - y0) / _FAR
    x_of_y, y_of_y = (left - x0) / _FAR, (above - y0) / _FAR

    def shown(x: float, y: float) -> tuple[int, int]:
        across, down = round(x0 + x * x_of_x + y * x_of_y), round(y0 + x * y_of_x + y * y_of_y)
        if 0 <= across <= FULL and 0 <= down <= FULL:  # nearly always, and cheaper to ask
            return across, down
        return _within(across), _within(down)

    return shown


def _within(place: float) -> int:
    return max(0, min(FULL, round(place)))
