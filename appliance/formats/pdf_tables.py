"""Ruled lines of a page to grids, and the characters in them to tables and framed boxes of text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from appliance.formats import draft
from appliance.formats.pdf_page import Glyph, Rule
from appliance.formats.pdf_pieces import Line, Piece

_NEAR = 3.0  # points: lines this close are one, or touch
_SHORT = 4.0
_MOST_RULES = 600  # each way, after joining
_MOST_GRIDS = 300
_MOST_CELLS = 5_000
_FRAME = 0.5  # of the page: a frame around everything
_SAID_AGAIN = 40  # characters: a cell that spans rows is said in each of them
_FILLED = 0.15

Lines = Callable[[Sequence[Glyph]], list[Line]]
Spans = list[tuple[float, float, float]]  # a line's place, and where it begins and ends


@dataclass(slots=True)
class Grid:
    xs: list[float]
    ys: list[float]
    cells: list[list[int]]  # the number of the cell at each row and column; merged ones share it
    glyphs: dict[int, list[Glyph]] = field(default_factory=dict)

    @property
    def area(self) -> float:
        return (self.xs[-1] - self.xs[0]) * (self.ys[-1] - self.ys[0])

    @property
    def count(self) -> int:
        return len({n for row in self.cells for n in row})

    def cell(self, x: float, y: float) -> int | None:
        column, row = bisect_right(self.xs, x) - 1, bisect_right(self.ys, y) - 1
        if 0 <= row < len(self.cells) and 0 <= column < len(self.cells[0]):
            return self.cells[row][column]
        return None


def grids(rules: Sequence[Rule], page_area: float) -> list[Grid]:
    """The smallest first."""
    across = _joined(
        [(r.top, r.left, r.right) for r in rules if r.right - r.left > r.bottom - r.top]
    )
    down = _joined(
        [(r.left, r.top, r.bottom) for r in rules if r.bottom - r.top > r.right - r.left]
    )
    if not across or not down or max(len(across), len(down)) > _MOST_RULES:
        return []
    found = [g for part in _touching(across, down) if (g := _grid(*part)) is not None]
    found = sorted(found, key=lambda g: g.area)[-_MOST_GRIDS:]
    return [
        g
        for n, g in enumerate(found)
        if g.count > 1
        or (g.area < _FRAME * page_area and not any(_inside(o, g) for o in found[:n]))
    ]


def blocks(
    glyphs: Sequence[Glyph], found: Sequence[Grid], lines: Lines
) -> tuple[list[Glyph], list[Piece]]:
    """What stands in no grid, and each grid that has text, read."""
    rest = []
    for glyph in glyphs:
        x, y = (glyph.left + glyph.right) / 2, (glyph.top + glyph.bottom) / 2
        for grid in found:
            if (number := grid.cell(x, y)) is not None:
                grid.glyphs.setdefault(number, []).append(glyph)
                break
        else:
            rest.append(glyph)
    read = []
    for grid in found:
        if not grid.glyphs:
            continue
        as_table = is_table(grid, grid.glyphs)
        text = _table(grid, lines) if as_table else _boxes(grid, lines)
        if text:
            read.append(
                Piece("", grid.xs[0], grid.ys[0], grid.xs[-1], grid.ys[-1], 10.0, tuple(text))
            )
    return rest, read


def is_table(grid: Grid, filled: Collection[int]) -> bool:
    """Two cells beside each other, with text in more than a few of all."""
    beside = any(len({n for n in row if n in filled}) > 1 for row in grid.cells)
    return beside and len(filled) >= _FILLED * grid.count


def _table(grid: Grid, lines: Lines) -> list[Line]:
    widths = widths_of(grid)
    texts = {n: _cell(lines(glyphs), glyphs, widths[n]) for n, glyphs in grid.glyphs.items()}
    return [Line(text, row=True) for _, text in table(grid, texts)]


def table(grid: Grid, texts: Mapping[int, str]) -> list[tuple[int, str]]:
    """The rows of a grid that say something, each with its number, of the texts of its cells."""
    rows: list[list[str]] = []
    numbers: list[int] = []
    said: set[int] = set()
    for number, cells in enumerate(grid.cells):
        row, here = [], set()
        for cell in cells:
            text = texts.get(cell, "")
            again = cell in here or (cell in said and len(text) > _SAID_AGAIN)
            row.append("" if again else text)
            here.add(cell)
        # a row of nothing but cells that began above it is none
        if any(text and n not in said for text, n in zip(row, cells, strict=True)):
            rows.append(row)
            numbers.append(number)
        said |= here
    kept = [n for n in range(len(grid.xs) - 1) if any(row[n] for row in rows)]
    lines = draft.table_lines([[row[n] for n in kept] for row in rows])
    return list(zip(numbers, lines, strict=True))


def widths_of(grid: Grid) -> dict[int, tuple[float, float]]:
    """The left and right edge of each cell."""
    edges: dict[int, tuple[float, float]] = {}
    for row in grid.cells:
        for n, number in enumerate(row):
            left, right = edges.get(number, (grid.xs[n], grid.xs[n + 1]))
            edges[number] = min(left, grid.xs[n]), max(right, grid.xs[n + 1])
    return edges


def _cell(lines: Sequence[Line], glyphs: Sequence[Glyph], edges: tuple[float, float]) -> str:
    """Lines that the cell's edge broke are one again; others keep a space between."""
    em = max(g.size for g in glyphs)
    tight = edges[1] - max(g.right for g in glyphs) < 1.5 * em
    return joined([line.text for line in lines], tight)


def joined(lines: Sequence[str], tight: bool) -> str:
    """The lines of a cell as one, with a space between where its edge, if they reach it, broke none."""
    longest = max(map(len, lines), default=0)
    text, last = "", 0
    for line in lines:
        latin = text[-1:].isascii() and line[:1].isascii()
        text += (" " if text and (latin or not tight or last < longest - 1) else "") + line
        last = len(line)
    return text


def _boxes(grid: Grid, lines: Lines) -> list[Line]:
    """Framed text, cell by cell from the top."""
    order = dict.fromkeys(n for row in grid.cells for n in row if n in grid.glyphs)
    return [line for number in order for line in lines(grid.glyphs[number])]


def _joined(spans: Spans) -> Spans:
    """Lines at nearly one place that meet are one."""
    joined: Spans = []
    places: list[tuple[float, list[tuple[float, float]]]] = []
    for place, start, end in sorted(spans):
        if places and place - places[-1][0] <= _NEAR:
            places[-1][1].append((start, end))
        else:
            places.append((place, [(start, end)]))
    for place, parts in places:
        parts.sort()
        start, end = parts[0]
        for a, b in parts[1:]:
            if a <= end + _NEAR:
                end = max(end, b)
            else:
                joined.append((place, start, end))
                start, end = a, b
        joined.append((place, start, end))
    return [span for span in joined if span[2] - span[1] > _SHORT]


def _touching(across: Spans, down: Spans) -> list[tuple[Spans, Spans]]:
    """Lines that cross or touch, together."""
    same = list(range(len(across) + len(down)))
    for i, (y, left, right) in enumerate(across):
        for k, (x, top, bottom) in enumerate(down):
            if left - _NEAR <= x <= right + _NEAR and top - _NEAR <= y <= bottom + _NEAR:
                _unite(same, i, len(across) + k)
    parts: dict[int, tuple[Spans, Spans]] = {}
    for n in range(len(same)):
        part = parts.setdefault(_root(same, n), ([], []))
        if n < len(across):
            part[0].append(across[n])
        else:
            part[1].append(down[n - len(across)])
    return list(parts.values())


def _grid(across: Spans, down: Spans) -> Grid | None:
    if len(across) < 2 or not down or len(across) + len(down) < 4:
        return None
    # a table may be open at its sides: its lines across say how far it goes
    xs = _places([x for x, _, _ in down], [e for _, a, b in across for e in (a, b)])
    ys = _places([y for y, _, _ in across], [e for _, a, b in down for e in (a, b)])
    rows, columns = len(ys) - 1, len(xs) - 1
    if rows < 1 or columns < 1 or rows * columns > _MOST_CELLS:
        return None
    same = list(range(rows * columns))
    walls, floors = [_at(down, x) for x in xs], [_at(across, y) for y in ys]
    for r in range(rows):
        for c in range(columns):
            x, y = (xs[c] + xs[c + 1]) / 2, (ys[r] + ys[r + 1]) / 2
            here = r * columns + c
            if c + 1 < columns and not _stands(walls[c + 1], y):
                _unite(same, here, here + 1)
            if r + 1 < rows and not _stands(floors[r + 1], x):
                _unite(same, here, here + columns)
    cells = [[_root(same, r * columns + c) for c in range(columns)] for r in range(rows)]
    return Grid(xs, ys, cells)


def _root(same: list[int], n: int) -> int:
    while same[n] != n:
        same[n] = same[same[n]]
        n = same[n]
    return n


def _unite(same: list[int], one: int, other: int) -> None:
    same[_root(same, other)] = _root(same, one)


def _places(lines: Sequence[float], ends: Sequence[float]) -> list[float]:
    """Where lines are, and the outermost ends of those that cross them."""
    places: list[float] = []
    for at in sorted([*lines, min(ends), max(ends)]):
        if not places or at - places[-1] > _NEAR:
            places.append(at)
    return places


def _at(lines: Spans, place: float) -> list[tuple[float, float]]:
    return [(a, b) for p, a, b in lines if abs(p - place) <= _NEAR]


def _stands(lines: Sequence[tuple[float, float]], at: float) -> bool:
    return any(a - 1 <= at <= b + 1 for a, b in lines)


def _inside(inner: Grid, outer: Grid) -> bool:
    x, y = (inner.xs[0] + inner.xs[-1]) / 2, (inner.ys[0] + inner.ys[-1]) / 2
    return outer.xs[0] < x < outer.xs[-1] and outer.ys[0] < y < outer.ys[-1]
