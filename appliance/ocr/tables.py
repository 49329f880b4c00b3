"""Ruled tables and forms of a page: lines cut at their walls, and what was read in them as rows.

The grid comes of the page's rules just as that of a PDF's page does (`formats/pdf_tables.py`), and
is said in the same way. Places are those of the page without its skew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.formats import form, pdf_tables
from appliance.formats.pdf_page import Rule
from appliance.formats.pdf_tables import Grid
from appliance.ocr import rules
from appliance.ocr.engine import Picture, Quad

_POINTS = 10.5  # of a letter: what a grid's tolerances are made for
_OVER_EM = 1.3  # a line as it is found is so much higher than its letters
_PART = 0.35  # em: less of a line on the other side of a wall is no part of it
_INSET = 0.12  # em: a cell's rules have a width
_INK = 60  # darker than the paper of its cell
_LEAST_INK, _MOST_INK = 0.4, 1.9  # em: height of letters that were not found
_ADDED = 300  # cells of a page whose letters were not found
_RUNNING = 4  # lines: cells that stand alone beside each other with so many are columns of text


@dataclass(slots=True)
class Tables:
    """The grids of a page. `cell` says in which one something stands."""

    angle: float = 0.0
    grids: tuple[Grid, ...] = ()
    em: float = 1.0

    @classmethod
    def of(cls, picture: Picture, quads: Sequence[Quad]) -> Self:
        em = float(np.median([_height(q) for q in quads])) / _OVER_EM
        angle, found = rules.find(picture, quads, em)
        unit = _POINTS / em
        points = [Rule(*(n * unit for n in rule)) for rule in found]
        area = picture.shape[0] * picture.shape[1] * unit * unit
        grids = [g for g in pdf_tables.grids(points, area) if g.count > 1]
        for grid in grids:
            grid.xs = [x / unit for x in grid.xs]
            grid.ys = [y / unit for y in grid.ys]
        return cls(angle, tuple(grids), em)

    def cell(self, x: float, y: float) -> tuple[int, int] | None:
        """Which grid, and which of its cells: that of the smallest."""
        for n, grid in enumerate(self.grids):
            if (number := grid.cell(x, y)) is not None:
                return n, number
        return None

    def parts(self, picture: Picture, quads: Sequence[Quad]) -> list[Quad]:
        """The lines, cut where a wall goes through them; and letters in cells that were not found."""
        if not self.grids:
            return list(quads)
        parts: list[Quad] = []
        filled: set[tuple[int, int]] = set()
        for quad in quads:
            flat = rules.straight(quad, self.angle)
            if not any(_meets(grid, flat) for grid in self.grids):
                parts.append(quad)
                continue
            for left, top, right, bottom in self._cut(flat):
                at = self.cell((left + right) / 2, (top + bottom) / 2)
                inside = self._within(at, (left, top, right, bottom))
                if at is not None:
                    filled.add(at)
                parts.append(self.quad(inside))
        return parts + [self.quad(box) for box in self._missed(picture, filled)]

    def _cut(self, flat: NDArray[np.float64]) -> list[tuple[float, float, float, float]]:
        (left, top), (right, bottom) = flat.min(0), flat.max(0)
        middle = (top + bottom) / 2
        least = _PART * self.em
        ends = [left]
        last = self.cell(left + least, middle)
        for x in sorted({x for grid in self.grids for x in grid.xs if left < x < right}):
            here = self.cell(x + 1, middle)
            if here != last and x - ends[-1] >= least and right - x >= least:
                ends.append(x)
            last = here
        ends.append(right)
        return [(a, top, b, bottom) for a, b in pairwise(ends)]

    def _within(
        self, at: tuple[int, int] | None, box: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float]:
        """The part of a line that its cell's rules leave free."""
        if at is None:
            return box
        inset = _INSET * self.em
        a, b, c, d = _bounds(self.grids[at[0]], at[1])
        left, top, right, bottom = box
        return (
            max(left, a + inset),
            max(top, b + inset),
            max(min(right, c - inset), left + 1),
            max(min(bottom, d - inset), top + 1),
        )

    def _missed(
        self, picture: Picture, filled: set[tuple[int, int]]
    ) -> list[tuple[float, float, float, float]]:
        """Where letters stand in cells in which no line was found: a digit, 「○」."""
        found: list[tuple[float, float, float, float]] = []
        inset = 2 * _INSET * self.em
        for n, grid in enumerate(self.grids):
            for number in sorted({c for row in grid.cells for c in row}):
                if (n, number) in filled or len(found) >= _ADDED:
                    continue
                a, b, c, d = _bounds(grid, number)
                box = (a + inset, b + inset, c - inset, d - inset)
                if box[2] - box[0] < self.em * _PART or box[3] - box[1] < self.em * _LEAST_INK:
                    continue
                if (ink := _inked(picture, self.quad(box), self.em)) is not None:
                    left, top, right, bottom = ink
                    by = 0.2 * self.em
                    found.append(
                        (
                            box[0] + left - by,
                            box[1] + top - by,
                            box[0] + right + by,
                            box[1] + bottom + by,
                        )
                    )
        return found

    def quad(self, box: tuple[float, float, float, float]) -> Quad:
        left, top, right, bottom = box
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        return rules.straight(corners, -self.angle).astype(np.float32)


def said(
    grid: Grid, cells: Mapping[int, Sequence[tuple[str, float]]], em: float
) -> list[tuple[int, str]] | None:
    """The rows of a grid, numbered, of the lines of its cells: each a text and where it ends.

    None where it is no table: frames around text, which is read as it stands.
    """
    if not pdf_tables.is_table(grid, cells.keys()):
        return None
    full = [row for row in grid.cells if any(n in cells for n in row)]
    if len(full) == 1 and all(len(cells[n]) >= _RUNNING for n in full[0] if n in cells):
        return None
    edges = pdf_tables.widths_of(grid)
    texts = {
        n: pdf_tables.joined(
            [text for text, _ in lines], edges[n][1] - max(end for _, end in lines) < 1.5 * em
        )
        for n, lines in cells.items()
    }
    return _pairs(grid, texts) or pdf_tables.table(grid, texts)


def _pairs(grid: Grid, texts: Mapping[int, str]) -> list[tuple[int, str]] | None:
    """A form's labels with their values; None if it is no form."""
    rows: list[tuple[int, list[str]]] = []
    spans: dict[form.Place, tuple[int, int]] = {}
    seen: set[int] = set()
    for r, cells in enumerate(grid.cells):
        row = [""] * len(cells)
        for c, cell in enumerate(cells):
            if cell in seen:
                continue
            seen.add(cell)
            row[c] = texts.get(cell, "")
            down = sum(cell in other for other in grid.cells)
            if (size := (down, cells.count(cell))) != (1, 1):
                spans[r, c] = size
        if any(row):
            rows.append((r, row))
    if (pairs := form.pairs(rows, spans)) is not None:
        return pairs
    if form.is_form(rows, spans):
        return [(n, text) for lines in form.blocks(rows, spans) for n, _, text in lines]
    return None


def _bounds(grid: Grid, number: int) -> tuple[float, float, float, float]:
    rows = [n for n, row in enumerate(grid.cells) if number in row]
    columns = [n for row in grid.cells for n, cell in enumerate(row) if cell == number]
    return (
        grid.xs[min(columns)],
        grid.ys[rows[0]],
        grid.xs[max(columns) + 1],
        grid.ys[rows[-1] + 1],
    )


def _meets(grid: Grid, flat: NDArray[np.float64]) -> bool:
    (left, top), (right, bottom) = flat.min(0), flat.max(0)
    middle = (top + bottom) / 2
    beside = left < grid.xs[-1] and right > grid.xs[0]
    return bool(beside and grid.ys[0] < middle < grid.ys[-1])


def _inked(picture: Picture, quad: Quad, em: float) -> tuple[float, float, float, float] | None:
    """Where in there letters of one line seem to stand."""
    width = max(1, round(float(np.linalg.norm(quad[1] - quad[0]))))
    height = max(1, round(float(np.linalg.norm(quad[3] - quad[0]))))
    target = np.array([[0, 0], [width, 0], [0, height]], np.float32)
    way = cv2.getAffineTransform(quad[[0, 1, 3]], target)
    cell = cv2.warpAffine(picture[:, :, 2], way, (width, height), borderMode=cv2.BORDER_REPLICATE)
    cell = cv2.blur(cell, (3, 3)).astype(np.int16)
    dark = (float(np.median(cell)) - cell > _INK).astype(np.uint8)
    dark = cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    if not len(rows):
        return None
    high = int(np.ptp(rows)) + 1
    if not _LEAST_INK * em <= high <= _MOST_INK * em:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _height(quad: Quad) -> float:
    sides = float(np.linalg.norm(quad[1] - quad[0])), float(np.linalg.norm(quad[3] - quad[0]))
    return min(sides)
