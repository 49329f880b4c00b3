"""How an Excel 97 workbook (.xls) shows its cells, as `looks` tells it of .xlsx ([MS-XLS]).

The values themselves are read elsewhere, by a faster reader that knows nothing of this. A record
that is shorter than it should be is passed over.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from appliance.errors import TooLarge
from appliance.formats import looks
from appliance.formats.compound import Compound, longs, shorts
from appliance.formats.draft import one_line
from appliance.formats.looks import Look, Place

_STREAMS = ("Workbook", "Book")  # since 97, and before
_BEGIN, _END = 0x0809, 0x000A
_SHEET, _FONT, _FORMAT, _STYLE = 0x0085, 0x0031, 0x041E, 0x00E0
_ROW, _COLUMN, _EXTENT = 0x0208, 0x007D, 0x0200
_SHEET_CELLS = 65_536 * 256  # no sheet has more
_NUMBER, _RK, _FORMULA, _TEXT, _LABEL = 0x0203, 0x027E, 0x0006, 0x00FD, 0x0204
_ROW_OF_NUMBERS = 0x00BD
_OBJECT, _SAID, _MORE, _NOTE = 0x005D, 0x01B6, 0x003C, 0x001C
_IS_NOTE = 0x19  # of an object
_HIDDEN_ROW, _HIDDEN_COLUMN = 0x20, 0x01
_WHITE = (1, 9)  # of the palette
_TINY = 60  # twentieths of a point
_NO_FONT = 4  # a number that is never given
_SHEETS = 10_000
_SAID_CHARS = 1_000
_FAINT = 10_000  # cells of a sheet that are looked at

Record = tuple[int, bytes]


@dataclass
class _Styles:
    """Of the whole book."""

    sheets: list[tuple[str, int, bool]] = field(default_factory=list)  # name, place, hidden
    fonts: list[bool | None] = field(default_factory=list)  # white, tiny; None: neither
    own: dict[int, str] = field(default_factory=dict)
    formats: list[int] = field(default_factory=list)  # of each style
    faint: set[int] = field(default_factory=set)
    wide: bool = True  # two bytes a letter, where it says so


def read(data: bytes) -> dict[str, Look]:
    """By the sheets' names. Raises Unreadable, and TooLarge for cells in far corners."""
    file = Compound(io.BytesIO(data))
    stream = next((s for s in _STREAMS if file.has(s)), "")
    book = file.read(stream) if stream else b""
    styles = _styles(book, wide=stream == _STREAMS[0])
    codes = {
        n: code
        for n, number in enumerate(styles.formats)
        if (code := looks.own_code(number, styles.own))
    }
    found = {}
    for name, at, hidden in styles.sheets:
        found[name] = _look(book, at, codes, styles.faint)
        found[name].hidden = hidden
    return found


def _records(book: bytes, at: int) -> Iterator[Record]:
    """Of one part of the book, without the charts inside it."""
    depth = 0
    while at + 4 <= len(book):
        kind, size = shorts(book, at, 2)
        at += 4 + size
        depth += (kind == _BEGIN) - (kind == _END)
        if depth <= 0:
            return
        if depth == 1:
            yield kind, book[at - size : at]


def _styles(book: bytes, *, wide: bool) -> _Styles:
    styles = _Styles(wide=wide)
    for kind, data in _records(book, 0):
        try:
            _take(styles, kind, data)
        except struct.error:
            continue
    return styles


def _take(styles: _Styles, kind: int, data: bytes) -> None:
    if kind == _SHEET and len(styles.sheets) < _SHEETS:
        hidden = bool(data[4:5] and data[4] & 3)
        styles.sheets.append((_text(data[6:], 1, styles.wide), longs(data, 0)[0], hidden))
    elif kind == _FONT:
        high, _, colour = shorts(data, 0, 3)
        tiny = high <= _TINY
        styles.fonts.append(tiny if tiny or colour in _WHITE else None)
    elif kind == _FORMAT:
        size = 2 if styles.wide else 1
        styles.own[shorts(data, 0)[0]] = _text(data[2:], size, styles.wide)
    elif kind == _STYLE:
        font, number = shorts(data, 0, 2)
        font -= font > _NO_FONT
        unseen = styles.fonts[font] if font < len(styles.fonts) else None
        # before 97 a style is shorter, and its ground stands elsewhere
        ground = longs(data, 14)[0] >> 26 if styles.wide else 0
        if unseen or (unseen is not None and not ground):
            styles.faint.add(len(styles.formats))
        styles.formats.append(number)


def _text(data: bytes, size: int, wide: bool) -> str:
    """`size`: bytes that say how long it is."""
    count = int.from_bytes(data[:size], "little")
    if not wide:
        return data[size : size + count].decode("cp932", "replace")
    return _letters(data[size:], count)


def _letters(data: bytes, count: int) -> str:
    if data[:1] and data[0] & 1:
        return data[1 : 1 + 2 * count].decode("utf-16-le", "replace")
    return data[1 : 1 + count].decode("latin-1")


def _look(book: bytes, at: int, codes: dict[int, str], faint: set[int]) -> Look:
    look = Look()
    rows = columns = 0
    said: dict[int, str] = {}  # by objects
    notes: dict[int, Place] = {}
    now = letters = 0
    boxes: list[int] = []
    for kind, data in _records(book, at):
        try:
            if kind in (_NUMBER, _RK, _FORMULA, _TEXT, _LABEL):
                row, column, style = shorts(data, 0, 3)
                styles: tuple[int, ...] = (style,)
            elif kind == _ROW_OF_NUMBERS:
                row, column = shorts(data, 0, 2)
                styles = shorts(data, 4, (len(data) - 6) // 6 * 3)[::3]
            else:
                if kind == _ROW:
                    look.hidden_rows |= bool(shorts(data, 12)[0] & _HIDDEN_ROW)
                elif kind == _COLUMN:
                    look.hidden_rows |= bool(shorts(data, 8)[0] & _HIDDEN_COLUMN)
                elif kind == _EXTENT:
                    _plausible(data)
                elif kind == _OBJECT:
                    what, now = shorts(data, 4, 2)
                    boxes += [now] * (what != _IS_NOTE)
                elif kind == _SAID:
                    letters = shorts(data, 10)[0]
                elif kind == _MORE and letters and now not in said:
                    said[now] = one_line(_letters(data, letters))[:_SAID_CHARS]
                    letters = 0
                elif kind == _NOTE:
                    row, column, _, number = shorts(data, 0, 4)
                    notes[number] = row, column
                continue
        except struct.error:
            continue
        rows, columns = max(rows, row + 1), max(columns, column + len(styles))
        if rows * columns > looks.CELLS:
            raise TooLarge(f"表が大きすぎます ({rows:,} 行 × {columns:,} 列)")
        for n, style in enumerate(styles, column):
            if style in codes:
                look.codes[row, n] = codes[style]
            if style in faint and len(look.faint) < _FAINT:
                look.faint.append((row, n))
    look.comments = {place: said[n] for n, place in notes.items() if said.get(n)}
    look.boxes = [said[n] for n in boxes if said.get(n)]
    return look


def _plausible(extent: bytes) -> None:
    """The reader makes room for as many cells as the sheet says it has, before it sees one."""
    wide = len(extent) == 14
    top, bottom = longs(extent, 0, 2) if wide else shorts(extent, 0, 2)
    left, right = shorts(extent, 8 if wide else 4, 2)
    rows = max(bottom, (bottom - top) % (1 << 32)) if bottom else 0
    columns = max(right, (right - left) % (1 << 16)) if right else 0
    if rows * columns > _SHEET_CELLS:
        raise TooLarge(f"表が大きすぎます ({rows:,} 行 × {columns:,} 列)")
