"""The reading order of a page: columns one after the other, rows of aligned words as tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import mean

from appliance.formats import draft
from appliance.formats.pdf_pieces import Line, Piece

_DEEP = 12  # columns in columns
_GUTTER = 0.75  # em
_WIDE_GUTTER = 1.5
_BLANK = 0.9  # em: across all columns
_APART = 3.5  # em: in one of them
_NEVER = float("inf")
_EDGES = 24  # left edges that are tried
_LEAST_CHARS = 5  # on average, of a line in a column
_HYPHEN = "\x02"  # PDFium's, where a word goes on in the next line
_LONGEST = 300  # rows of a table
_SPARSE = 0.25
_NUMBER = re.compile(r"[-+△▲¥$,.\d/:%％\s()（）円人件個台名回日年月時分第~〜–-]+")


def lines(pieces: Sequence[Piece]) -> list[Line]:
    """All pieces, in order; what a broken file puts beyond all numbers stands on no page."""
    placed = (p for p in pieces if abs(p.left) < _NEVER and abs(p.top) < _NEVER)
    return list(_region(sorted(placed, key=lambda p: (p.top, p.left)), 0))


def _region(pieces: list[Piece], deep: int) -> Iterator[Line]:
    """`pieces` come sorted from top to bottom."""
    if len(pieces) < 2:
        yield from _leaf(pieces)
        return
    if deep < _DEEP and (parts := _columns(pieces)):
        for part in parts:
            if part:
                yield from _region(part, deep + 1)
        return
    yield from _leaf(pieces)


def _columns(pieces: list[Piece]) -> list[list[Piece]] | None:
    """What is above, left, right and below, at the tallest gutter between columns."""
    best: tuple[float, int, int, float] | None = None
    for edge in _candidates(pieces):
        for start, end in _runs(pieces, edge):
            left, right = _sides(pieces[start:end], edge)
            tall = _tall(left, right)
            if (best is None or tall > best[0]) and _are_columns(left, right):
                best = (tall, start, end, edge)
    if best is None:
        return None
    _, start, end, edge = best
    start += _start(pieces[start:end], edge)
    end = start + _end(pieces[start:end], edge)
    left, right = _sides(pieces[start:end], edge)
    return [pieces[:start], left, right, pieces[end:]]


def _candidates(pieces: Sequence[Piece]) -> list[float]:
    """Left edges, those of most pieces first; the leftmost is none."""
    leftmost = min(p.left for p in pieces)
    shared: list[tuple[float, int]] = []
    for left in sorted(p.left for p in pieces):
        if shared and left - shared[-1][0] <= 3:
            shared[-1] = (shared[-1][0], shared[-1][1] + 1)
        else:
            shared.append((left, 1))
    found = [s for s in shared if s[0] > leftmost + 20]
    return [left for left, _ in sorted(found, key=lambda s: -s[1])[:_EDGES]]


def _runs(pieces: Sequence[Piece], edge: float) -> Iterator[tuple[int, int]]:
    """Where nothing crosses the edge, from the first piece to the last; a wide blank ends it too."""
    sides = [_side(p, edge) for p in pieces]
    below = [(_NEVER, _NEVER)] * (len(pieces) + 1)  # where each side goes on, from a piece on
    for n in range(len(pieces) - 1, -1, -1):
        left, right = below[n + 1]
        top = pieces[n].top
        below[n] = (top if sides[n] != "right" else left, top if sides[n] != "left" else right)
    start, floors = 0, [-_NEVER, -_NEVER]
    for n, piece in enumerate(pieces):
        if sides[n] == "both" or _is_blank(piece, floors, below[n]):
            if n - start > 3:
                yield start, n
            start, floors = n + (sides[n] == "both"), [-_NEVER, -_NEVER]
        if sides[n] != "both":
            floors[sides[n] == "right"] = max(floors[sides[n] == "right"], piece.bottom)
    if len(pieces) - start > 3:
        yield start, len(pieces)


def _is_blank(piece: Piece, floors: Sequence[float], below: Sequence[float]) -> bool:
    """Nothing stands just above the piece on either side, and one side has long been empty."""
    if piece.top - max(floors) <= _BLANK * piece.size:
        return False
    return any(
        floor > -_NEVER and top < _NEVER and top - floor > _APART * piece.size
        for floor, top in zip(floors, below, strict=True)
    )


def _side(piece: Piece, edge: float) -> str:
    if piece.left >= edge - 0.3 * piece.size:
        return "right"
    return "both" if piece.right > edge - _GUTTER * piece.size else "left"


def _sides(pieces: Sequence[Piece], edge: float) -> tuple[list[Piece], list[Piece]]:
    left = [p for p in pieces if _side(p, edge) != "right"]
    return left, [p for p in pieces if _side(p, edge) == "right"]


def _start(pieces: Sequence[Piece], edge: float) -> int:
    """How many of them come before columns that begin below a date, or another line at the right."""
    left, _ = _sides(pieces, edge)
    before = 0
    for n, piece in enumerate(pieces):
        if _side(piece, edge) == "right":
            own = piece.left - edge < 1.6 * piece.size  # a first line may be set in
            if own or piece.lines or any(_level(piece, p) for p in left):
                break
            before = n + 1
    return before if all(_sides(pieces[before:], edge)) else 0  # else nothing is left of a side


def _end(pieces: Sequence[Piece], edge: float) -> int:
    """How many of them come before a table or a box below one of the sides."""
    left, right = _sides(pieces, edge)
    shorter = min(max(p.bottom for p in left), max(p.bottom for p in right))
    below = (n for n, p in enumerate(pieces) if p.lines and p.top >= shorter - 1)
    return next(below, len(pieces))


def _tall(left: Sequence[Piece], right: Sequence[Piece]) -> float:
    """How far both sides stand beside each other."""
    if not left or not right:
        return 0.0
    return min(max(p.bottom for p in left), max(p.bottom for p in right)) - max(
        min(p.top for p in left), min(p.top for p in right)
    )


def _are_columns(left: Sequence[Piece], right: Sequence[Piece]) -> bool:
    """Text beside text, not names beside their values."""
    if not left or not right:
        return False
    em = mean(p.size for p in (*left, *right))
    gutter = min(p.left for p in right) - max(p.right for p in left)
    rows = [_rows(side) for side in (left, right)]
    least = 3 if gutter >= _WIDE_GUTTER * em else 4
    if gutter < _GUTTER * em or min(map(len, rows)) < least or _tall(left, right) < 1.5 * em:
        return False
    if _alternate(left, right) or _aligned(_rows(sorted((*left, *right), key=lambda p: p.top))):
        return False
    if min(_density(left), _density(right)) < _SPARSE:
        return False
    for side in (left, right):
        words = [p for p in side if not p.lines]
        if words and mean(len(p.text) for p in words) < _LEAST_CHARS:
            return False
        if words and sum(bool(_NUMBER.fullmatch(p.text)) for p in words) > len(words) / 2:
            return False
    return True


def _alternate(left: Sequence[Piece], right: Sequence[Piece]) -> bool:
    """The file goes from side to side with every line, and these are no full lines of prose."""
    if all(_is_prose(side) for side in (left, right)):
        return False
    sides = sorted([*((p.at, 0) for p in left), *((p.at, 1) for p in right)])
    switches = sum(a[1] != b[1] for a, b in pairwise(sides))
    return switches > 2 and switches > min(len(left), len(right))


def _is_prose(side: Sequence[Piece]) -> bool:
    """Most lines go from edge to edge."""
    wide = max(p.right for p in side) - min(p.left for p in side)
    filled = sum(p.right - p.left > 0.8 * wide for p in side)
    return filled >= 0.6 * len(side) and mean(len(p.text) for p in side) >= 2 * _LEAST_CHARS


def _density(side: Sequence[Piece]) -> float:
    """How much of its height a column uses."""
    high = max(p.bottom for p in side) - min(p.top for p in side)
    return sum(max(p.bottom - p.top for p in row) for row in _rows(side)) / max(high, 1.0)


def _rows(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces that stand on one line, each row from left to right."""
    rows: list[list[Piece]] = []
    for piece in pieces:
        if rows and not piece.lines and not rows[-1][0].lines and _level(rows[-1][0], piece):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return [sorted(row, key=lambda p: p.left) for row in rows]


def _level(one: Piece, other: Piece) -> bool:
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    return shared >= 0.5 * min(one.bottom - one.top, other.bottom - other.top)


def _leaf(pieces: Sequence[Piece]) -> Iterator[Line]:
    rows = _rows(pieces)
    column = (round(pieces[0].left), round(pieces[0].top)) if pieces else (0, 0)
    n, begun = 0, ""
    while n < len(rows):
        if rows[n][0].lines:
            yield from rows[n][0].lines
            n += 1
        elif table := _aligned(rows[n : n + _LONGEST]):
            for text in draft.table_lines(table):
                yield Line(text, row=True)
            n += len(table)
        else:
            text = begun + _text(rows[n])
            broken = text.endswith(_HYPHEN) and n + 1 < len(rows) and not rows[n + 1][0].lines
            begun = text[:-1] if broken else ""
            if not broken:
                yield Line(text, column, whole=_has_gaps(rows[n]))
            n += 1


def _has_gaps(row: Sequence[Piece]) -> bool:
    return any(b.left - a.right > _WIDE_GUTTER * a.size for a, b in pairwise(row))


def _text(row: Sequence[Piece]) -> str:
    text = row[0].text
    for last, piece in pairwise(row):
        gap = piece.left - last.right
        text += (" " if gap > 0.3 * max(last.size, piece.size) else "") + piece.text
    return text


def _aligned(rows: Sequence[Sequence[Piece]]) -> list[list[str]]:
    """The cells of the rows at the beginning, if they are a table without rules; else nothing.

    Three rows and three columns at least, short, with numbers in them: what is set in columns for
    another reason must not be taken apart.
    """
    columns, table = _grid(rows)
    if table:
        return [_cells(row, columns) for row in table]
    columns, table = _grid(rows[1:])
    if table and len(rows[0]) == len(columns):  # names, centred over values that are not
        return [[p.text for p in rows[0]], *(_cells(row, columns) for row in table)]
    return []


def _grid(
    rows: Sequence[Sequence[Piece]],
) -> tuple[list[list[float]], Sequence[Sequence[Piece]]]:
    """From where to where the columns go, and the rows that keep to them."""
    columns: list[list[float]] = []
    count = 0
    for row in rows:
        if len(row) < 2 or any(p.lines for p in row):
            break
        wider = _merged([*columns, *([p.left, p.right] for p in row)])
        if count and (len(wider) < 3 or len(wider) < len(row)):
            break
        if count and len(wider) < len(columns):
            break
        columns, count = wider, count + 1
    table = rows[:count]
    if count < 3 or len(columns) < 3:
        return [], []
    cells = [p for row in table for p in row]
    numbers = sum(bool(_NUMBER.fullmatch(p.text)) for p in cells)
    filled = len(cells) / (count * len(columns))
    if mean(len(p.text) for p in cells) > 12 or numbers < 0.25 * len(cells) or filled < 0.6:
        return [], []
    return columns, table


def _cells(row: Sequence[Piece], columns: Sequence[Sequence[float]]) -> list[str]:
    texts = [""] * len(columns)
    for piece in row:
        at = next(n for n, c in enumerate(columns) if c[0] <= piece.left <= c[1])
        texts[at] = f"{texts[at]} {piece.text}".strip()
    return texts


def _merged(spans: list[list[float]]) -> list[list[float]]:
    merged: list[list[float]] = []
    for left, right in sorted(spans):
        if merged and left <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], right)
        else:
            merged.append([left, right])
    return merged
