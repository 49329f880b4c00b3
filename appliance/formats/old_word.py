"""Word 97 to 2003 (.doc): the body in order, with the numbers Word would have shown.

After [MS-DOC]: the text lies in pieces, its properties in pages of 512 bytes keyed by place. Deleted
and hidden text and the codes of fields are left out, comments stand behind their paragraph, text
boxes and footnotes come last. Macros are never run.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from appliance.errors import PasswordNeeded, Unreadable
from appliance.formats import numerals
from appliance.formats.compound import Compound, longs, shorts
from appliance.formats.draft import Draft, one_line
from appliance.formats.package import MACROS
from appliance.formats.rtf import ruby
from appliance.types import Document

_MAGIC = 0xA5EC
_PAGE = 512  # bytes of a page of properties
_CHARS = 50_000_000
# places in the table of places ([MS-DOC] 2.5.6, FibRgFcLcb97)
_STYLES, _FOOTNOTES, _COMMENTS, _ENDNOTES = 1, 2, 4, 46
_CHPX, _PAPX, _CLX, _LISTS, _OVERRIDES = 12, 13, 33, 73, 74
_TITLE = 62  # of the styles that every document has; 1 to 9 are headings
# single property modifiers
_IN_TABLE, _ROW_END, _OUTLINE, _LIST, _LEVEL = 0x2416, 0x2417, 0x2640, 0x460B, 0x260A
_STYLE, _HIDDEN, _DELETED = 0x4600, 0x083C, 0x0800
_NUMBERS = {
    0: "decimal", 1: "upperRoman", 2: "lowerRoman", 3: "upperLetter", 4: "lowerLetter",
    10: "japaneseCounting", 11: "japaneseCounting", 12: "aiueo", 13: "iroha", 14: "decimalFullWidth",
    16: "japaneseLegal", 18: "decimalEnclosedCircle", 19: "decimalFullWidth2", 20: "aiueoFullWidth",
    21: "irohaFullWidth",
}  # fmt: skip
_BULLET, _NONE = 23, 255


@dataclass(frozen=True)
class _Paragraph:
    style: int = 0
    level: int = 0  # of a heading
    in_table: bool = False
    row_end: bool = False
    list: int = 0
    depth: int = 0


@dataclass(frozen=True)
class _Level:
    start: int
    form: int
    text: str  # a sign below 9 stands for the number at that depth


@dataclass
class _Lists:
    levels: dict[int, list[_Level]] = field(default_factory=dict)  # by list
    named: list[int] = field(default_factory=list)  # the list that each override is of
    counts: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def next(self, number: int, depth: int) -> str:
        if not 0 < number <= len(self.named):
            return ""
        known = self.named[number - 1]
        levels = self.levels.get(known, [])
        if depth >= len(levels):
            return ""
        level, counts = levels[depth], self.counts[known]
        if level.form == _BULLET:
            return "・"
        for deeper in [d for d in counts if d > depth]:
            del counts[deeper]
        counts[depth] = counts.get(depth, level.start - 1) + 1
        if level.form == _NONE:
            return ""
        return "".join(
            self._shown(levels, counts, ord(sign)) if ord(sign) < 9 else sign for sign in level.text
        ).strip()

    def _shown(self, levels: list[_Level], counts: dict[int, int], depth: int) -> str:
        level = levels[min(depth, len(levels) - 1)]
        form = _NUMBERS.get(level.form, "decimal")
        return numerals.written(counts.get(depth, level.start), form)


@dataclass
class _File:
    """A .doc as it lies: the main stream, and the table stream that says where everything is."""

    main: bytes
    table: bytes
    pieces: list[tuple[int, int, int, bool]]  # first character, how many, byte, one byte each?

    def at(self, place: int) -> tuple[int, int]:
        """[start, start + length) of a structure in the table stream."""
        found = longs(self.main, 0x9A + 8 * place, 2)
        return found[0], found[1]

    def text(self) -> str:
        parts = []
        for _, count, at, narrow in self.pieces:
            data = self.main[at : at + (count if narrow else 2 * count)]
            parts.append(data.decode("cp1252" if narrow else "utf-16-le", "replace"))
        return "".join(parts)


def parse(stream: BinaryIO) -> Document:
    compound = Compound(stream)
    try:
        return _read(compound)
    except (struct.error, IndexError) as error:
        raise Unreadable(f"Word の文書として壊れています ({error})") from None


def _read(compound: Compound) -> Document:
    main = compound.read("WordDocument")
    if shorts(main, 0)[0] != _MAGIC or shorts(main, 2)[0] < 0xC1:
        raise Unreadable("Word 95 以前の文書です (.docx で保存し直してください)")
    flags = shorts(main, 0x0A)[0]
    if flags & 0x0100:
        raise PasswordNeeded("パスワードが必要です")
    table = compound.read("1Table" if flags & 0x0200 else "0Table")
    file = _File(main, table, [])
    file.pieces = list(_pieces(file))
    draft = Draft()
    if any(name.startswith("Macros") for name in compound.names):
        draft.problems.append(MACROS)
    shown = _Shown(file)
    body, footnotes, headers, macros, comments, endnotes, boxes, _ = longs(main, 0x4C, 8)
    at = body
    notes, at = shown.lines(at, footnotes), at + footnotes + headers + macros
    said, at = shown.lines(at, comments), at + comments
    notes, at = notes + shown.lines(at, endnotes), at + endnotes
    references = [*_references(file, _FOOTNOTES, 2), *_references(file, _ENDNOTES, 2)]
    shown.marks = {cp: f"（注{n}）" for n, cp in enumerate(references, 1)}
    shown.comments = dict(zip(_references(file, _COMMENTS, 30), said, strict=False))
    title = _write(draft, file, shown.text[:body], shown)
    for lines in (shown.lines(at, boxes), [f"（注{n}）{note}" for n, note in enumerate(notes, 1)]):
        draft.blank()
        for line in lines:
            draft.line(line)
    return draft.document(compound.title() or title)


def _references(file: _File, place: int, size: int) -> list[int]:
    """The characters that refer to notes or comments; each has a record of `size` bytes."""
    start, length = file.at(place)
    count = max(0, (length - 4) // (4 + size))
    return list(longs(file.table, start, count)) if count else []


def _pieces(file: _File) -> Iterator[tuple[int, int, int, bool]]:
    start, length = file.at(_CLX)
    clx = file.table[start : start + length]
    at = 0
    while at < len(clx) and clx[at] == 1:  # properties of pieces: not needed
        at += 3 + shorts(clx, at + 1)[0]
    if at >= len(clx) or clx[at] != 2:
        raise Unreadable("Word の文書の本文が見つかりません")
    size = longs(clx, at + 1)[0]
    plc = clx[at + 5 : at + 5 + size]
    count = (len(plc) - 4) // 12
    places = longs(plc, 0, count + 1)
    if list(places) != sorted(places) or places[-1] > _CHARS:
        raise Unreadable("Word の文書の本文が壊れています")
    for n in range(count):
        (where,) = longs(plc, 4 * (count + 1) + 8 * n + 2)
        narrow = bool(where & 0x40000000)
        where &= 0x3FFFFFFF
        yield places[n], places[n + 1] - places[n], where // 2 if narrow else where, narrow


# --- properties -------------------------------------------------------------------


def _runs(file: _File, place: int, width: int) -> Iterator[tuple[int, int, bytes]]:
    """[start, end) in bytes of the main stream, and the properties of what lies there."""
    start, length = file.at(place)
    plc = file.table[start : start + length]
    count = max(0, (len(plc) - 4) // 8)
    for (page,) in (longs(plc, 4 * (count + 1) + 4 * n) for n in range(count)):
        data = file.main[_PAGE * (page & 0x3FFFFF) :][:_PAGE]
        if len(data) < _PAGE:
            continue
        runs = data[-1]
        if 4 * (runs + 1) + width * runs >= _PAGE:
            continue
        bounds = longs(data, 0, runs + 1)
        for n in range(runs):
            at = 2 * data[4 * (runs + 1) + width * n]
            yield bounds[n], bounds[n + 1], _properties(data, at, width) if at else b""


def _properties(page: bytes, at: int, width: int) -> bytes:
    size = page[at]
    if width == 1:  # of characters: so many bytes
        return page[at + 1 : at + 1 + size]
    if size == 0:  # of paragraphs: pairs of bytes, and a byte more to count them if they are many
        return page[at + 2 : at + 2 + 2 * page[at + 1]]
    return page[at + 1 : at + 2 * size]


def _modifiers(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Operations and their operands, as far as they can be told apart ([MS-DOC] 2.6)."""
    at = 0
    while at + 2 <= len(data):
        (operation,) = shorts(data, at)
        at += 2
        kind = operation >> 13
        if kind == 6:
            if at >= len(data):
                return
            size = 1 + data[at]
            if operation == 0xD608:
                size = 1 + shorts(data, at)[0] if at + 2 <= len(data) else len(data)
        else:
            size = (1, 1, 2, 4, 2, 2, 0, 3)[kind]
        yield operation, data[at : at + size]
        at += size


def _paragraph(data: bytes, styles: dict[int, int]) -> _Paragraph:
    if len(data) < 2:
        return _Paragraph()
    (style,) = shorts(data, 0)
    found: dict[int, int] = {}
    for operation, operand in _modifiers(data[2:]):
        found[operation] = int.from_bytes(operand[:2], "little")
    style = styles.get(found.get(_STYLE, style), 0)
    level = style if 1 <= style <= 9 else 0
    if (own := found.get(_OUTLINE)) is not None:
        level = own + 1 if own < 9 else 0
    return _Paragraph(
        style,
        level,
        bool(found.get(_IN_TABLE)),
        bool(found.get(_ROW_END)),
        found.get(_LIST, 0),
        found.get(_LEVEL, 0),
    )


class _Shown:
    """What is hidden or deleted of a text, and the properties of its paragraphs, by character."""

    def __init__(self, file: _File) -> None:
        self.text = file.text()
        self.marks: dict[int, str] = {}  # what stands for a reference
        self.comments: dict[int, str] = {}
        self._pieces = file.pieces
        styles = dict(_styles(file))
        self._paragraphs = sorted(
            ((a, b, _paragraph(data, styles)) for a, b, data in _runs(file, _PAPX, 13)),
            key=lambda run: run[0],
        )
        self._starts = [a for a, _, _ in self._paragraphs]
        self._gone = sorted(
            (a, b)
            for a, b, data in _runs(file, _CHPX, 1)
            for operation, operand in _modifiers(data)
            if operation in (_HIDDEN, _DELETED) and operand[:1] == b"\x01"
        )
        self._firsts = [first for first, _, _, _ in file.pieces]

    def paragraph(self, at: int) -> _Paragraph:
        byte = self._byte(at)
        n = bisect_right(self._starts, byte) - 1
        if n >= 0 and byte < self._paragraphs[n][1]:
            return self._paragraphs[n][2]
        return _Paragraph()

    def line(self, start: int, end: int) -> str:
        """What Word shows of these characters, and the comments on them."""
        out: list[str] = []
        fields: list[list[str]] = []  # the codes of those that are open
        results: list[bool] = []  # whether the code is over
        for at in range(start, min(end, len(self.text))):
            sign = self.text[at]
            if self._gone and self._is_gone(self._byte(at)):
                continue
            if sign == "\x13":
                fields.append([])
                results.append(False)
            elif sign == "\x14" and results:
                results[-1] = True
            elif sign == "\x15" and results:
                out.append(ruby("".join(fields.pop())) if all(results[:-1]) else "")
                results.pop()
            elif all(results):
                out.append(self.marks.get(at) or _SIGNS.get(sign, sign))
            else:
                fields[-1].append(sign)
        said = (text for at, text in self.comments.items() if start <= at <= end)
        comments = "".join(f"（コメント: {text}）" for text in said)
        return "".join(c for c in "".join(out) if c in "\t\n" or c >= " ").strip() + comments

    def lines(self, start: int, length: int) -> list[str]:
        """The paragraphs of another part of the text."""
        until = min(start + length, len(self.text))  # a damaged file may tell of billions
        ends = [n for n in range(max(0, start), until) if self.text[n] == "\r"]
        bounds = zip([start, *(n + 1 for n in ends)], ends, strict=False)
        return [line for line in (one_line(self.line(a, b)) for a, b in bounds) if line]

    def _is_gone(self, byte: int) -> bool:
        n = bisect_right(self._gone, (byte, 1 << 40)) - 1
        return n >= 0 and byte < self._gone[n][1]

    def _byte(self, at: int) -> int:
        n = max(0, bisect_right(self._firsts, at) - 1)
        first, _, byte, narrow = self._pieces[n]
        return byte + (at - first) * (1 if narrow else 2)


_SIGNS = {
    "\x0b": "\n", "\x1e": "-", "\x1f": "", "\xa0": " ", "\x02": "", "\x05": "", "\x01": "",
    "\x08": "", "\x0c": "",
}  # fmt: skip

# --- the document -----------------------------------------------------------------


def _write(draft: Draft, file: _File, body: str, shown: _Shown) -> str | None:
    """The body, and its title if a paragraph is styled as one."""
    lists = _lists(file)
    rows: list[list[str]] = []
    cells: list[str] = []
    cell: list[str] = []
    title: str | None = None
    start = 0
    for end, sign in ((n, s) for n, s in enumerate(body) if s in "\r\x07\x0c"):
        found = shown.paragraph(end)
        text = shown.line(start, end)
        start = end + 1
        if found.row_end:
            rows.append(cells)
            cells, cell = [], []
            continue
        if sign == "\x07":
            cells.append(one_line(" ".join([*cell, text])))
            cell = []
            continue
        if found.in_table:
            cell.append(text)
            continue
        if rows or cells:
            draft.table([*rows, *([cells] if cells else [])])
            draft.blank()
            rows, cells = [], []
        if not text:
            draft.blank()
            continue
        number = lists.next(found.list, found.depth)
        text = f"{number} {text}".strip()
        if found.level:
            draft.heading(one_line(text), found.level)
        else:
            draft.line(text)
            title = title or (one_line(text) if found.style == _TITLE else None)
    if rows or cells:
        draft.table([*rows, *([cells] if cells else [])])
    if rest := shown.line(start, len(body)):
        draft.line(rest)
    return title


def _styles(file: _File) -> Iterator[tuple[int, int]]:
    """(number, which of the known styles it is) ([MS-DOC] 2.9.271 STSH)."""
    start, length = file.at(_STYLES)
    (size,) = shorts(file.table, start)
    (count,) = shorts(file.table, start + 2)
    at = start + 2 + size
    for number in range(count):
        if at + 4 > start + length:
            return
        (size,) = shorts(file.table, at)
        if size:
            yield number, shorts(file.table, at + 2)[0] & 0x0FFF
        at += 2 + size + size % 2


def _lists(file: _File) -> _Lists:
    """How lists count ([MS-DOC] 2.9.131 LSTF, 2.9.150 LVL, 2.9.132 LFO)."""
    lists = _Lists()
    start, length = file.at(_LISTS)
    if not length:
        return lists
    (count,) = shorts(file.table, start)
    at = start + 2 + 28 * count
    for n in range(count):
        record = start + 2 + 28 * n
        (known,) = longs(file.table, record)
        simple = file.table[record + 26] & 1
        lists.levels[known] = []
        for _ in range(1 if simple else 9):
            level, at = _level(file.table, at)
            lists.levels[known].append(level)
    start, length = file.at(_OVERRIDES)
    if length:
        (count,) = longs(file.table, start)
        lists.named = [longs(file.table, start + 4 + 16 * n)[0] for n in range(min(count, 10_000))]
    return lists


def _level(table: bytes, at: int) -> tuple[_Level, int]:
    (first,) = struct.unpack_from("<i", table, at)
    form = table[at + 4]
    characters, paragraphs = table[at + 24], table[at + 25]
    at += 28 + characters + paragraphs
    (length,) = shorts(table, at)
    text = table[at + 2 : at + 2 + 2 * length].decode("utf-16-le", "replace")
    return _Level(first, form, text), at + 2 + 2 * length
