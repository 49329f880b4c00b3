"""From lines that were found to lines as a person reads them: upright, in order, 縦書き too.

A page of 縦書き and a page that lies on its side look alike to the detector. Turned by a quarter
both are lines from top to bottom in the right order, and the recogniser reads letters that lie on
their side; only their punctuation is lost to it, and is read again from the letters set upright.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

import cv2
import numpy as np
import numpy.ma  # median needs it, and a child can import nothing
from numpy.typing import NDArray

from appliance.formats.pdf_tables import Grid
from appliance.ocr import rules, tables
from appliance.ocr.engine import Engine, Picture, Quad, cut
from appliance.ocr.tables import Tables

_TALL = 1.5  # height by width, of a line that runs downwards
_TWO = 1.8  # em: the height of letters that stand below one another
_SAMPLED = 4  # lines that decide which way is up
_SAMPLE_EMS = 10
_TURNED_SURER = 0.05  # by how much a turned page must be surer than the page as it is
_SHORT, _UNSURE = 2, 0.5  # letters and confidence of a stain
_COLUMN_EMS, _COLUMN_LINES = 10, 3  # lines of running text; shorter ones are cells of a table
_NEAR = 1  # letters on either side that are read once more with one that was not read
_ALIKE = 0.6  # of two readings of one line of 縦書き
# what the recogniser takes upright punctuation of 縦書き for
_MARKS = {"`": "、", "、": "、", "，": "、", "ヽ": "、", "丶": "、", "°": "。", "。": "。", "º": "。",
          "へ": "（", "（": "（", "(": "（", "︵": "（", "⌒": "（", "^": "（",
          "～": "）", "~": "）", "）": "）", ")": "）", "︶": "）", "〜": "）",
          "「": "「", "﹁": "「", "」": "」", "﹂": "」", "・": "・", "』": "』", "『": "『",
          "|": "ー", "｜": "ー", "丨": "ー", "︱": "ー", "l": "ー", "ー": "ー"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """One line, in order. The box is on the picture as it was given."""

    text: str
    sure: float
    left: float
    top: float
    right: float
    bottom: float
    row: bool = False  # of a table


@dataclass(frozen=True, slots=True)
class Read:
    lines: tuple[Found, ...]
    turned: int  # quarters, against the clock, that made its lines run from left to right
    vertical: bool  # 縦書き


@dataclass(frozen=True, slots=True)
class _Row:
    text: str
    sure: float
    corners: Quad  # on the turned picture


@dataclass(slots=True)
class _Piece:
    quad: Quad  # on the turned picture
    text: str
    sure: float
    middle: NDArray[np.float64]  # without the skew
    width: float
    height: float
    rows: tuple[_Row, ...] = ()  # it is a table

    @property
    def left(self) -> float:
        return float(self.middle[0]) - self.width / 2

    @property
    def right(self) -> float:
        return float(self.middle[0]) + self.width / 2


def read(engine: Engine, picture: Picture) -> Read:
    """All lines of a page, as they are read."""
    quads = engine.lines(picture)
    if not quads:
        return Read((), 0, False)
    turned = _turn(engine, picture, quads)
    upright = np.ascontiguousarray(np.rot90(picture, turned))
    quads = [_turned(quad, turned, picture.shape[1], picture.shape[0]) for quad in quads]
    vertical = turned in (1, 3) and _is_vertical(engine, upright, quads)
    ruled = Tables() if vertical else Tables.of(upright, quads)
    quads = ruled.parts(upright, quads)
    pieces = [_piece(engine, upright, quad, vertical, ruled.em) for quad in quads]
    pieces = [p for p in pieces if p.text and (len(p.text) > _SHORT or p.sure >= _UNSURE)]
    if ruled.grids:
        _turn_back(pieces, ruled.angle)
        pieces = _tabled(pieces, ruled)
    else:
        _straighten(pieces)
    size = upright.shape[1], upright.shape[0]
    lines = [line for row in _ordered(pieces) for line in _lines(row, turned, size)]
    return Read(tuple(lines), turned, vertical)


# --- which way is up --------------------------------------------------------------


def _turn(engine: Engine, picture: Picture, quads: Sequence[Quad]) -> int:
    """Quarters against the clock: 0 and 2 where lines lie, 1 and 3 where they stand."""
    tall = sum(max(_sides(q)) for q in quads if _is_tall(q))
    lying = sum(max(_sides(q)) for q in quads if not _is_tall(q) and _sides(q)[0] > _sides(q)[1])
    usual, other = (1, 3) if tall > lying else (0, 2)
    fitting = [q for q in quads if _is_tall(q) == (usual == 1)]
    longest = sorted(fitting, key=lambda q: -max(_sides(q)))[:_SAMPLED]
    sure = dict.fromkeys((usual, other), 0.0)
    for quad in longest:
        line = cut(picture, quad)
        for turn in sure:
            turned = np.ascontiguousarray(np.rot90(line, turn))
            text, odds, _ = engine.read(turned[:, : _SAMPLE_EMS * turned.shape[0]])
            sure[turn] += float(odds.mean()) if text else 0.0
    better = sure[other] > sure[usual] + _TURNED_SURER * max(1, len(longest))
    return other if better else usual


def _turned(quad: Quad, turns: int, width: int, height: int) -> Quad:
    """The corners on the picture after as many quarters against the clock."""
    for _ in range(turns):
        quad = np.stack([quad[:, 1], width - quad[:, 0]], 1)
        width, height = height, width
    by_left = quad[np.argsort(quad[:, 0], kind="stable")]
    (a, d), (b, c) = (
        half[np.argsort(half[:, 1], kind="stable")] for half in (by_left[:2], by_left[2:])
    )
    return np.array([a, b, c, d], np.float32)


def _sides(quad: Quad) -> tuple[float, float]:
    return float(np.linalg.norm(quad[1] - quad[0])), float(np.linalg.norm(quad[3] - quad[0]))


def _is_tall(quad: Quad) -> bool:
    width, height = _sides(quad)
    return height > _TALL * width


# --- one line ---------------------------------------------------------------------


def _piece(engine: Engine, picture: Picture, quad: Quad, vertical: bool, em: float) -> _Piece:
    line = cut(picture, quad)
    downwards = _is_tall(quad) and _sides(quad)[1] > _TWO * em  # one digit is tall, too
    if downwards:  # 縦書き on a page that is not
        line = np.ascontiguousarray(np.rot90(line))
    text, sure, places = engine.read(line)
    if downwards or vertical:
        text = _punctuated(engine, line, text, places)
    width, height = _sides(quad)
    return _Piece(
        quad,
        text.strip(),
        float(sure.mean()) if len(sure) else 0.0,
        quad.mean(0).astype(np.float64),
        width,
        height,
    )


def _is_vertical(engine: Engine, picture: Picture, quads: Sequence[Quad]) -> bool:
    """True if the letters stand upright in lines that run downwards: set side by side they read alike."""
    alike = tried = 0
    sampled = sorted(quads, key=lambda q: -_sides(q)[0])[:_SAMPLED]
    for quad in sampled:
        if 2 * alike >= len(sampled):  # the others can change nothing
            break
        line = cut(picture, quad)[:, : 2 * _SAMPLE_EMS * round(_sides(quad)[1])]
        text, _, places = engine.read(line)
        if len(text) >= 4:
            tried += 1
            letters = list(pairwise(_ends(line, places)))
            other = engine.read(_side_by_side(line, letters, places))[0]
            alike += SequenceMatcher(None, text, other, autojunk=False).ratio() > _ALIKE
    return tried > 0 and 2 * alike >= tried


def _punctuated(engine: Engine, line: Picture, text: str, places: NDArray[np.float64]) -> str:
    """The text, with the punctuation that only shows when its letters stand upright.

    It is looked for where a letter stands of which nothing was read; those beside it say where.
    """
    if len(text) < 4:
        return text
    ends = _ends(line, places)
    held = (np.searchsorted(ends, places * line.shape[1]) - 1).clip(0, len(ends) - 2)
    empty = np.setdiff1d(np.arange(len(ends) - 1), held)
    if not len(empty):
        return text
    near = np.unique((empty[:, None] + np.arange(-_NEAR, _NEAR + 1)).clip(0, len(ends) - 2))
    at = np.flatnonzero(np.isin(held, near))
    part = "".join(text[n] for n in at)
    other = engine.read(_side_by_side(line, [(ends[n], ends[n + 1]) for n in near], places))[0]
    match = SequenceMatcher(None, part, other, autojunk=False)
    if match.ratio() < _ALIKE:
        return text
    marks: dict[int, str] = {}  # by the letter they stand before
    for what, a, _, c, d in match.get_opcodes():
        if what == "insert":
            before = int(at[a - 1]) + 1 if a else int(at[a]) if len(at) else 0
            marks[before] = "".join(_MARKS[letter] for letter in other[c:d] if letter in _MARKS)
    return "".join(marks.get(n, "") + letter for n, letter in enumerate(text)) + marks.get(
        len(text), ""
    )


def _pitch(line: Picture, places: NDArray[np.float64]) -> float:
    length, thick = line.shape[1], line.shape[0]
    pitch = float(np.median(np.diff(places))) * length if len(places) > 3 else thick * 0.85
    return float(min(max(pitch, 0.5 * thick), 1.5 * thick))


def _ends(line: Picture, places: NDArray[np.float64]) -> list[int]:
    """Where the letters of a line of 縦書き that lies on its side begin, and where the last ends."""
    grey = cv2.cvtColor(line, cv2.COLOR_BGR2GRAY)
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
    return _cuts((grey < level).mean(0), _pitch(line, places))


def _side_by_side(
    line: Picture, letters: Sequence[tuple[int, int]], places: NDArray[np.float64]
) -> Picture:
    """Letters of such a line, upright beside one another."""
    side = max(line.shape[0], round(1.1 * _pitch(line, places)))
    strip = np.full((side, side * max(1, len(letters)), 3), 255, np.uint8)
    for n, (start, end) in enumerate(letters):
        letter = np.rot90(line[:, start:end], -1)[:side, :side]
        top, left = (side - letter.shape[0]) // 2, n * side + (side - letter.shape[1]) // 2
        strip[top : top + letter.shape[0], left : left + letter.shape[1]] = letter
    return strip


def _cuts(ink: NDArray[np.float64], pitch: float) -> list[int]:
    """Where to cut between letters: about a pitch apart, through as little ink as can be."""
    length = len(ink)
    inked = np.flatnonzero(ink)
    if not len(inked):
        return [0, length]
    first, last = int(inked[0]), int(inked[-1]) + 1
    least, most = max(1, int(0.75 * pitch)), max(2, int(1.3 * pitch))
    cost = np.full(length + 1, np.inf)
    cost[: first + 1] = 0.0
    back = np.zeros(length + 1, np.int64)
    over = np.r_[ink, 0.0]
    for at in range(first + least, length + 1):
        start = np.arange(max(0, at - most), at - least + 1)
        costs = cost[start] + 3.0 * ((at - start) / pitch - 1.0) ** 2 + 2.0 * over[at]
        best = int(costs.argmin())
        if at > first and costs[best] < cost[at]:
            cost[at], back[at] = costs[best], start[best]
    ends = [last + int(cost[last:].argmin())]
    while ends[-1] > first and back[ends[-1]] < ends[-1] and np.isfinite(cost[ends[-1]]):
        ends.append(int(back[ends[-1]]))
    return ends[::-1] if len(ends) > 1 else [first, last]


# --- in which order ---------------------------------------------------------------


def _straighten(pieces: Sequence[_Piece]) -> None:
    """Take the page's skew out of the middles: what is on one line then has one height."""
    long = [p for p in pieces if p.width > 4 * p.height]
    if not long:
        return
    slopes = [np.arctan2(*(p.quad[1] - p.quad[0])[::-1]) for p in long]
    _turn_back(pieces, float(np.median(slopes)))


def _turn_back(pieces: Sequence[_Piece], angle: float) -> None:
    for piece in pieces:
        piece.middle = rules.straight(piece.middle, angle)


def _tabled(pieces: Sequence[_Piece], ruled: Tables) -> list[_Piece]:
    """What stands in a table is one piece, which begins where the table does."""
    cells: dict[int, dict[int, list[_Piece]]] = {}
    rest: list[_Piece] = []
    for piece in pieces:
        at = ruled.cell(*map(float, piece.middle))
        if at is None:
            rest.append(piece)
        else:
            cells.setdefault(at[0], {}).setdefault(at[1], []).append(piece)
    for n, filled in cells.items():
        grid = ruled.grids[n]
        lines = {
            number: [(" ".join(p.text for p in row), row[-1].right) for row in _rows(inside)]
            for number, inside in filled.items()
        }
        found = tables.said(grid, lines, ruled.em)
        if found is None:
            rest += [piece for inside in filled.values() for piece in inside]
        else:
            rest.append(_table(found, grid, filled, ruled))
    return rest


def _table(
    said: Sequence[tuple[int, str]],
    grid: Grid,
    filled: Mapping[int, Sequence[_Piece]],
    ruled: Tables,
) -> _Piece:
    rows = []
    for number, text in said:
        sure = min((p.sure for n in grid.cells[number] for p in filled.get(n, ())), default=1.0)
        rows.append(_Row(text, sure, ruled.quad(_place(grid, number, number + 1))))
    left, top, right, _ = whole = _place(grid, 0, len(grid.cells))
    middle = np.array([(left + right) / 2, top + ruled.em / 2])
    quad = ruled.quad(whole)
    return _Piece(quad, "", 1.0, middle, right - left, ruled.em, tuple(rows))


def _place(grid: Grid, first: int, end: int) -> tuple[float, float, float, float]:
    return grid.xs[0], grid.ys[first], grid.xs[-1], grid.ys[end]


def _ordered(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Rows from top to bottom, one column after another where there are columns."""
    rows = _rows(pieces)
    gutter = _gutter(rows)
    if gutter is None:
        return rows
    above: list[_Piece] = []
    ordered: list[list[_Piece]] = []
    # what runs across the gutter parts the page into bands, each with its columns
    for row in rows:
        across = any(p.left < gutter < p.right for p in row)
        if across:
            ordered += _columns(above, gutter)
            above = []
            ordered.append(row)
        else:
            above += row
    return ordered + _columns(above, gutter)


def _columns(pieces: Sequence[_Piece], gutter: float) -> list[list[_Piece]]:
    left = [p for p in pieces if p.middle[0] < gutter]
    right = [p for p in pieces if p.middle[0] >= gutter]
    return [*_ordered(left), *_ordered(right)] if left and right else _rows(pieces)


def _rows(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    rows: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda p: float(p.middle[1])):
        if rows and abs(piece.middle[1] - np.mean([p.middle[1] for p in rows[-1]])) < 0.5 * min(
            piece.height, *(p.height for p in rows[-1])
        ):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return [sorted(row, key=lambda p: p.left) for row in rows]


def _gutter(rows: Sequence[list[_Piece]]) -> float | None:
    """The middle of a blank strip with running text on both sides, which most rows leave free."""
    pairs = [(a, b) for row in rows for a, b in pairwise(row)]
    pairs = [
        (a, b) for a, b in pairs if min(a.width, b.width) > _COLUMN_EMS * min(a.height, b.height)
    ]
    if len(pairs) < _COLUMN_LINES:
        return None
    start = float(np.median([a.right for a, _ in pairs]))
    end = float(np.median([b.left for _, b in pairs]))
    middle = (start + end) / 2
    crossing = sum(any(p.left < middle < p.right for p in row) for row in rows)
    return middle if end > start and 2 * crossing < len(rows) else None


def _lines(row: Sequence[_Piece], turned: int, size: tuple[int, int]) -> Iterator[Found]:
    """A line; and a table's rows, each a line of its own."""
    beside: list[_Piece] = []
    for piece in [*row, None]:
        if piece is not None and not piece.rows:
            beside.append(piece)
            continue
        if beside:
            corners = np.concatenate([p.quad for p in beside])
            text, sure = " ".join(p.text for p in beside), min(p.sure for p in beside)
            yield Found(text, sure, *_given(corners, turned, size))
            beside = []
        for one in piece.rows if piece else ():
            yield Found(one.text, one.sure, *_given(one.corners, turned, size), row=True)


def _given(corners: Quad, turned: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box around them on the picture as it was given."""
    for _ in range((4 - turned) % 4):
        corners = np.stack([corners[:, 1], size[0] - corners[:, 0]], 1)
        size = size[1], size[0]
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    return float(left), float(top), float(right), float(bottom)
