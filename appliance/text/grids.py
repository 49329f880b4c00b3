"""Tables in a text, as parsers write them (`formats/draft.py`): 「a | b」 is a row, and 「列: 値 | 列: 値」 one that names its columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BAR = " | "
_LABEL = re.compile(r"([^:|\n]{1,40}): ")
_FIGURE = re.compile(r"[-−+▲△±約]?\s*[¥￥$]?[0-9０-９][0-9０-９,.]*\s*\S{0,6}")
_DIGITS = re.compile(r"[0-9０-９][0-9０-９,.]*")

Reach = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Cell:
    """[start, end) of the text; `column` is what the column is called, or empty."""

    start: int
    end: int
    column: str


@dataclass(frozen=True, slots=True)
class Grid:
    """The rows below the one that names the columns, if one does."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def place(self, at: int) -> tuple[int, int] | None:
        """Row and cell there."""
        for n, row in enumerate(self.rows):
            if row[0].start <= at < max(row[-1].end, row[-1].start + 1):
                return next(((n, m) for m, c in enumerate(row) if c.start <= at < c.end), None)
        return None


def find(text: str) -> Iterator[Grid]:
    """In their order; a table ends with the line that is none of its rows."""
    lines: list[list[Reach]] = []
    at = 0
    for line in [*text.split("\n"), ""]:
        cells = _cells(line, at)
        if len(cells) > 1:
            lines.append(cells)
        elif lines:
            yield _grid(text, lines)
            lines = []
        at += len(line) + 1


def _cells(line: str, at: int) -> list[Reach]:
    found, start = [], 0
    for part in line.split(BAR):
        lead = len(part) - len(part.lstrip())
        found.append((at + start + lead, at + start + len(part.rstrip())))
        start += len(part) + len(BAR)
    return found


def _grid(text: str, lines: Sequence[Sequence[Reach]]) -> Grid:
    said = [[text[a:b] for a, b in line] for line in lines]
    headed = _is_head(said[0], said[1:])
    columns = tuple(said[0]) if headed else ()
    full = [row for row in said[headed:] if len(row) == len(columns)]
    kinds = [{_kind(row[n]) for row in full} for n in range(len(columns))]
    rows = [_row(text, line, columns, kinds) for line in lines[headed:]]
    return Grid(columns, tuple(rows))


def _is_head(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether it names columns: 「1年」 may, above 「9,800円」, but not above 「3年」."""
    if not below or len(set(first)) < len(first) or any(map(_LABEL.match, first)):
        return False
    kinds = [{_kind(row[n]) for row in below if n < len(row)} for n in range(len(first))]
    return not any(_kind(s) and _kind(s) in kinds[n] for n, s in enumerate(first))


def _kind(text: str) -> str:
    """What it is a figure of; empty if it is none."""
    return _DIGITS.sub("#", text) if _FIGURE.fullmatch(text) else ""


def _row(
    text: str, line: Sequence[Reach], columns: Sequence[str], kinds: Sequence[set[str]]
) -> tuple[Cell, ...]:
    labels = [_LABEL.match(text[a:b]) for a, b in line]
    named = [m[1] for m in labels if m and (not columns or m[1] in columns)]
    if len(named) == len(line):
        return tuple(
            Cell(a + len(name) + 2, b, name) for (a, b), name in zip(line, named, strict=True)
        )
    # empty cells are not written; where the others are of their columns' kinds, the last are empty
    known = len(line) <= len(columns) and all(
        _kind(text[a:b]) in kinds[n] or not kinds[n] for n, (a, b) in enumerate(line)
    )
    known = known or len(line) == len(columns)
    return tuple(Cell(a, b, columns[n] if known else "") for n, (a, b) in enumerate(line))
