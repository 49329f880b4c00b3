"""Where the lines that were read of a page stand on it.

A line's letters follow each other in the file nearly always, so they are looked up there; cells of a
table are looked up one by one. What is not found has no place, and nothing is drawn for it.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Sequence
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
_BAND = 0.6  # of a letter's height: farther off, another line has begun
_SKIPPED = frozenset("\0\x02\t\n\r \xa0\xad\u200b\u3000\ufeff\ufffe\uffff")


def of(
    page: pypdfium2.PdfPage, text_page: pypdfium2.PdfTextPage, lines: Sequence[Line], number: int
) -> list[list[Run]]:
    """Of each line its runs, counted from its beginning."""
    signs, order = _letters(text_page)
    if not signs:
        return [[] for _ in lines]
    boxes, shown = _Boxes(text_page, order), _Shown(page)
    at = 0
    found = []
    for line in lines:
        runs: list[Run] = []
        for start, word in _words(line.text, signs, at):
            spot = _spot(signs, word, at)
            if spot < 0:
                continue
            at = spot + len(word)
            runs += _runs(shown, number, boxes, line.text, start, spot, len(word))
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


def _letters(text_page: pypdfium2.PdfTextPage) -> tuple[str, Sequence[int]]:
    """The page's signs but blanks, in the order of the file, and PDFium's number of each."""
    count = pdfium.FPDFText_CountChars(text_page.raw)
    if not 0 < count <= _MOST:
        return "", ()
    signs = _at_once(text_page.raw, count) or [*_one_by_one(text_page.raw, count)]
    kept = [n for n, sign in enumerate(signs) if sign not in _SKIPPED]
    return mended("".join([signs[n] for n in kept])), kept


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

    def __init__(self, text_page: pypdfium2.PdfTextPage, order: Sequence[int]) -> None:
        self._raw, self._order = text_page.raw, order
        self._box = pdfium.FS_RECTF()
        self._by = ctypes.byref(self._box)

    def __getitem__(self, n: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        box = self._box
        if not pdfium.FPDFText_GetLooseCharBox(self._raw, self._order[n], self._by):
            return 0.0, 0.0, 0.0, 0.0
        return box.left, box.top, box.right, box.bottom


def _runs(
    shown: _Shown,
    number: int,
    boxes: _Boxes,
    text: str,
    start: int,
    spot: int,
    count: int,
) -> Iterator[Run]:
    """Letters `spot` and following, cut where another line begins."""
    first, last = boxes[spot], boxes[spot + count - 1]
    if _straight(first, last, count):
        held = [first, boxes[spot + count // 2], last]
        yield _run(shown, number, held, start, _end(text, start, count))
        return
    places = [n for n in range(start, len(text)) if not text[n].isspace()][:count]
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


def _end(text: str, start: int, count: int) -> int:
    """Behind so many letters: a word, or all of the line."""
    rest = text[start:].rstrip()
    whole = len(rest) > count and len("".join(rest.split())) == count
    return start + (len(rest) if whole else count)


def _run(shown: _Shown, number: int, held: Sequence[_Box], start: int, end: int) -> Run:
    """Of letters with these boxes, the first and the last of all among them."""
    left, right = min(one[0] for one in held), max(one[2] for one in held)
    top, bottom = max(one[1] for one in held), min(one[3] for one in held)
    (x0, y0), (x1, y1) = shown(left, top), shown(right, bottom)
    from_, to = shown(*_middle(held[0])), shown(*_middle(held[-1]))
    across, down = to[0] - from_[0], to[1] - from_[1]
    way = (0 if across >= 0 else 2) if abs(across) >= abs(down) else (1 if down > 0 else 3)
    return Run(start, end, number, min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), way)


class _Shown:
    """A place of the PDF on the page as it is drawn, which is turned and moved, and no more."""

    _FINE, _FAR = 1_000_000, 1_000  # of the drawn page; of the PDF

    def __init__(self, page: pypdfium2.PdfPage) -> None:
        across, down = ctypes.c_int(), ctypes.c_int()
        seen = []
        for x, y in ((0, 0), (self._FAR, 0), (0, self._FAR)):
            pdfium.FPDF_PageToDevice(page.raw, 0, 0, self._FINE, self._FINE, 0, x, y, across, down)
            seen.append((across.value * FULL / self._FINE, down.value * FULL / self._FINE))
        (self._x, self._y), (right, below), (left, above) = seen
        self._of_x = (right - self._x) / self._FAR, (below - self._y) / self._FAR
        self._of_y = (left - self._x) / self._FAR, (above - self._y) / self._FAR

    def __call__(self, x: float, y: float) -> tuple[int, int]:
        across = self._x + x * self._of_x[0] + y * self._of_y[0]
        down = self._y + x * self._of_x[1] + y * self._of_y[1]
        return _within(across), _within(down)


def _within(place: float) -> int:
    return max(0, min(FULL, round(place)))
