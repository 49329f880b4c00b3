"""How near a text comes to what it should be: characters, cells of tables, pairs of forms."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from appliance.types import Document

_SIGNS = re.compile(r"[\s|#*_\-:・\\​]+")
_EMPTY = {"", "nan", "---"}
_PART = re.compile(r"[|\t]")


def whole(document: Document) -> str:
    """All that was read of a file: its text, and of each file inside it the name and the text."""
    inside = [f"{c.path}\n{c.document.text}" for c in document.children if c.document]
    return "\n\n".join([document.text, *inside]).strip()


def plain(text: str) -> str:
    """NFKC, without white space and without the signs that readers show structure by."""
    return _SIGNS.sub("", unicodedata.normalize("NFKC", text))


def wrong(read: str, meant: str) -> float:
    """The edit distance over the length of what is meant, at most 1."""
    said, right = plain(read), plain(meant)
    return min(1.0, distance(said, right) / max(len(right), 1))


def distance(a: str, b: str) -> int:
    """Levenshtein's, a column at a time in the bits of a number (Myers 1999, Hyyrö 2003)."""
    if not a or not b:
        return max(len(a), len(b))
    if len(a) < len(b):
        a, b = b, a
    full, top = (1 << len(b)) - 1, 1 << (len(b) - 1)
    where: dict[str, int] = {}
    for n, letter in enumerate(b):
        where[letter] = where.get(letter, 0) | 1 << n
    more, less, score = full, 0, len(b)
    for letter in a:
        equal = where.get(letter, 0)
        cross = equal | less
        down = (((equal & more) + more) ^ more) | equal
        up, fall = less | ~(down | more) & full, more & down
        score += bool(up & top) - bool(fall & top)
        up, fall = (up << 1 | 1) & full, fall << 1 & full
        more, less = fall | ~(cross | up) & full, up & cross
    return score


def cells(text: str, table: Sequence[Sequence[str]]) -> tuple[int, int]:
    """Cells in a line that is their row and in their column, of all that say something."""
    head, *rows = [[plain(c) for c in row] for row in table]
    lines = [[plain(part) for part in _PART.split(line)] for line in text.splitlines()]
    names = max(lines, key=lambda line: _in_order(line, head), default=[])
    at = [names.index(name) if name in names else None for name in head]
    right, total, used = 0, sum(1 for c in head if c), set()
    for row in rows:
        total += sum(1 for c in row if c)
        best, where = 0, -1
        for n, line in enumerate(lines):
            if n not in used and (score := _score(line, row, head, at, names)) > best:
                best, where = score, n
        used.add(where)
        right += best
    whole = "\n".join(part for line in lines for part in line)
    labelling = sum(
        1
        for n, name in enumerate(head)
        if name and any(name + row[n] in whole for row in rows if row[n])
    )
    return right + max(_in_order(names, head), labelling), total


def _in_order(line: Sequence[str], head: Sequence[str]) -> int:
    rest = iter(line)
    return sum(1 for name in head if name and name in rest)


def _score(
    line: Sequence[str], row: Sequence[str], head: Sequence[str], at: Sequence[int | None], names: Sequence[str]
) -> int:  # fmt: skip
    """Cells of `row` that this line has: after the column's name, in its place, or in its order."""
    whole = len(line) == len(names) or len([c for c in line if c]) == len([c for c in row if c])
    score = 0
    for n, value in enumerate(row):
        if not value:
            continue
        placed = at[n] is not None and at[n] < len(line) and line[at[n]] == value  # type: ignore[operator]
        labelled = any(part.endswith(f"{head[n]}{value}") for part in line)
        score += labelled or placed or (whole and value in line and _same_order(line, row))
    return score


def _same_order(line: Sequence[str], row: Sequence[str]) -> bool:
    return [c for c in line if c] == [c for c in row if c]


def pairs(text: str, meant: Sequence[Sequence[str]], *, written: bool = False) -> tuple[int, int]:
    """Values that follow their label in one line; `written` means 「label: value」."""
    right = 0
    lines = text.splitlines()
    parts = [
        [p for part in _PART.split(line) if (p := plain(part)).lower() not in _EMPTY]
        for line in lines
    ]
    for label, value in meant:
        name, said = plain(label), plain(value)
        if any(name + said in line for line in parts):
            right += 1
        elif not written:
            right += any(
                line[n] == name and line[n + 1] == said
                for line in parts
                for n in range(len(line) - 1)
            )
    return right, len(meant)
