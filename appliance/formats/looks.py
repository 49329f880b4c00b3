"""How an Excel workbook (.xlsx) shows its cells: number formats, comments, text boxes, what is hidden.

The values themselves are read elsewhere, by a faster reader that knows nothing of this. It believes
the places of cells, too, and unfolds all between them: how far they reach is looked at before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from appliance.errors import TooLarge
from appliance.formats.cells import BUILT_IN
from appliance.formats.draft import one_line
from appliance.formats.package import Package, child, children, name, value, whole

CELLS = 8_000_000  # a sheet is unfolded in memory, gaps too
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
# as nearly all programs write a cell: its letters, its number, and that of its style
_USUAL = re.compile(
    rb'<c r="([A-Z]{1,3})([0-9]{1,7})"(?: s="([0-9]{1,5})")?(?: t="[A-Za-z]{1,9}")?/?>'
)
# numbers no sheet has are looked for too: the reader believes them
_CELL = re.compile(
    rb"<(?:\w+:)?c\s(?=[^<>]{0,200}?\br=[\"']([A-Z]{1,99})([0-9]{1,99})[\"'])"
    rb"(?:[^<>]{0,200}?\bs=[\"']([0-9]{1,5})[\"'])?"
)
_ROW = re.compile(  # with cells in it, that need not say where they are
    rb"<(?:\w+:)?row\s[^>]{0,400}?\br=[\"']([0-9]{1,99})[\"'][^>]{0,400}(?<!/)>\s{0,100}<(?:\w+:)?c[\s/>]"
)
_TAG = 1_200  # bytes, in which a row says where it is
_HIDDEN_ROW = re.compile(rb'<(?:\w+:)?(?:row|col) [^>]*?\bhidden="(?:1|true)"')
_PLAIN_DATES = range(14, 23)  # Excel shows them as the reader's country does
_COMMENT_CHARS = 1_000
_WHITE = ("FFFFFFFF", "00FFFFFF", "FFFFFF")
_PLACE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_TINY = ("1", "2", "3")  # points
_FAINT = 10_000  # cells of a sheet that are looked at

Place = tuple[int, int]  # row and column, from 0
Cell = tuple[bytes, bytes, bytes]  # letters, number, and style if it has one


@dataclass
class Look:
    """Of one sheet."""

    codes: dict[Place, str] = field(default_factory=dict)
    comments: dict[Place, str] = field(default_factory=dict)
    boxes: list[str] = field(default_factory=list)
    hidden: bool = False
    hidden_rows: bool = False
    faint: list[Place] = field(default_factory=list)  # white on no ground of its own, or tiny


def read(package: Package) -> dict[str, Look]:
    """By the sheets' names. Raises TooLarge where two cells in far corners would be unfolded."""
    looks = dict[str, Look]()
    looked = set[str]()
    if package.main().endswith(".xml"):  # .xlsb keeps them in a form of its own
        for name, part, look in _looks(package):
            looks[name] = look
            looked.add(part)
    for part in package.names:  # the reader may find more of them
        if _SHEET.fullmatch(part) and part not in looked:
            for _ in _blocks(package, part):
                pass
    return looks


def _looks(package: Package) -> Iterator[tuple[str, str, Look]]:
    """Of each sheet its name, its part and what it looks like."""
    part = package.main()
    related = package.related(part)
    styles = next((t for kind, t in related.values() if kind == "styles"), "")
    codes = dict(_codes(package, styles)) if package.has(styles) else {}
    faint = set(_faint(package.xml(styles))) if package.has(styles) else set()
    sheets = child(package.xml(part), "sheets")
    for sheet in sheets if sheets is not None else ():
        _, target = related.get(_relation(sheet), ("", ""))
        if package.has(target):
            look = _look(package, target, codes, faint)
            look.hidden = (value(sheet, "state") or "visible") != "visible"
            yield value(sheet, "name") or "", package.spelled(target), look


def _codes(package: Package, styles: str) -> Iterator[tuple[int, str]]:
    """Of each style that shows a value in a way of its own, its number format."""
    root = package.xml(styles)
    formats = child(root, "numFmts")
    own = {
        whole(f, "numFmtId"): value(f, "formatCode") or ""
        for f in (formats if formats is not None else ())
    }
    cells = child(root, "cellXfs")
    for n, cell in enumerate(children(cells, "xf") if cells is not None else ()):
        if code := own_code(whole(cell, "numFmtId"), own):
            yield n, code


def own_code(number: int, own: Mapping[int, str]) -> str:
    """A number format that is none of the plain ones; `own` are those the book brings."""
    code = own.get(number, BUILT_IN.get(number, ""))
    return "" if number in _PLAIN_DATES or code.lower() in ("general", "@") else code


def _faint(root: Any) -> Iterator[int]:
    """The styles whose text nobody sees: white where the cell has no fill, or tiny."""
    fonts, fills, cells = (child(root, tag) for tag in ("fonts", "fills", "cellXfs"))
    unseen: dict[int, bool] = {}
    for n, font in enumerate(children(fonts, "font") if fonts is not None else ()):
        colour, size = child(font, "color"), child(font, "sz")
        white = colour is not None and (
            (value(colour, "rgb") or "").upper() in _WHITE
            or (value(colour, "theme") == "0" and value(colour, "tint") is None)
        )
        tiny = size is not None and (value(size, "val") or "99") in _TINY
        if white or tiny:
            unseen[n] = tiny
    patterns = (child(fill, "patternFill") for fill in (fills if fills is not None else ()))
    grounds = {
        n
        for n, p in enumerate(patterns)
        if p is None or value(p, "patternType") not in (None, "none")
    }
    for n, cell in enumerate(children(cells, "xf") if cells is not None else ()):
        font, fill = (whole(cell, a) for a in ("fontId", "fillId"))
        if font in unseen and (unseen[font] or fill not in grounds):
            yield n


def _look(package: Package, part: str, codes: dict[int, str], faint: set[int]) -> Look:
    look = Look()
    by_style = {str(n).encode(): code for n, code in codes.items()}
    unseen = {str(n).encode() for n in faint}
    for data, cells in _blocks(package, part):
        if b"hidden=" in data and _HIDDEN_ROW.search(data):
            look.hidden_rows = True
        for letters, number, style in cells if codes or faint else ():
            if not style:
                continue
            if code := by_style.get(style):
                look.codes[int(number) - 1, column(letters) - 1] = code
            if style in unseen and len(look.faint) < _FAINT:
                look.faint.append((int(number) - 1, column(letters) - 1))
    for kind, target in package.related(part).values():
        if not package.has(target):
            continue
        if kind == "comments":
            look.comments |= dict(_comments(package, target))
        elif kind == "drawing":
            look.boxes += _boxes(package, target)
    return look


def _blocks(package: Package, part: str) -> Iterator[tuple[bytes, list[Cell]]]:
    """A sheet piece by piece, with those cells that say where they are. Raises TooLarge."""
    rows = columns = 0
    before = b""
    for data in package.blocks(part):
        cells: list[Cell] = _USUAL.findall(data)
        # of each other kind of cell there would be a tag more
        usual = len(cells) == data.count(b"<c") and b":c" not in data
        numbers = set[bytes]()
        if not usual:
            cells = _CELL.findall(data)
            numbers = set(_ROW.findall(before + data))
        before = data[-_TAG:]
        numbers.update(number for _, number, _ in cells)
        rows = max(rows, max(map(int, numbers), default=0))
        columns = max(columns, max(map(column, {letters for letters, _, _ in cells}), default=0))
        if rows * columns > CELLS:
            raise TooLarge(f"表が大きすぎます ({rows:,} 行 × {columns:,} 列)")
        yield data, cells


def _comments(package: Package, part: str) -> Iterator[tuple[Place, str]]:
    for comment in package.xml(part).iter():
        found = _PLACE.fullmatch(value(comment, "ref") or "")
        if name(comment) == "comment" and found:
            text = one_line("".join(t.text or "" for t in comment.iter() if name(t) == "t"))
            yield (int(found[2]) - 1, column(found[1].encode()) - 1), text[:_COMMENT_CHARS]


def _boxes(package: Package, part: str) -> list[str]:
    lines = []
    for body in package.xml(part).iter():
        if name(body) == "txBody":
            paragraphs = (
                "".join(t.text or "" for t in p.iter() if name(t) == "t")
                for p in children(body, "p")
            )
            lines += [line for line in map(one_line, paragraphs) if line]
    return lines


def _relation(sheet: object) -> str:
    attributes = getattr(sheet, "attrib", {})
    return next((str(v) for k, v in attributes.items() if k.endswith("}id")), "")


@lru_cache(20_000)
def column(letters: bytes) -> int:
    """From 1."""
    index = 0
    for letter in letters:
        index = index * 26 + letter - 64
    return index
