"""Where a character of a document is, in words a person can follow: "p. 3 · 第12条 宿泊費"."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from appliance.text import split
from appliance.types import Chunk, Mark

SEPARATOR = " · "  # between the kinds of a place
_KINDS = ("part", "page", "slide", "cell", "section")
LEAVES = ("page", "slide")  # what one turns
_INSIDE = {  # what ends with it: a new sheet has none of the old one's cells
    "part": ("page", "slide", "cell", "section"),
    "slide": ("cell", "section"),
    "section": ("cell",),
}


def at(marks: Sequence[Mark], offset: int) -> str:
    """The place of one character. `marks` are sorted by `start`."""
    current: dict[str, str] = {}
    for mark in marks:
        if mark.start > offset:
            break
        _enter(current, mark)
    return _joined(current)


def of_chunks(marks: Sequence[Mark], chunks: Sequence[Chunk]) -> list[str]:
    """The place of every chunk, in one walk over the marks."""
    out = [""] * len(chunks)
    current: dict[str, str] = {}
    ahead = 0
    for n in sorted(range(len(chunks)), key=lambda n: chunks[n].start):
        while ahead < len(marks) and marks[ahead].start <= chunks[n].start:
            _enter(current, marks[ahead])
            ahead += 1
        inner = chunks[n].heading.rsplit(split.SEPARATOR, 1)[-1]
        # a chunk that begins with the bare line of a 章 is in the first 条 of it
        first = _first_section(marks, ahead, chunks[n].end)
        below = first is not None and first.label == inner
        out[n] = _joined(current | {"section": inner} if below else current)
    return out


def _first_section(marks: Sequence[Mark], at: int, end: int) -> Mark | None:
    while at < len(marks) and marks[at].start < end:
        if marks[at].kind == "section":
            return marks[at]
        at += 1
    return None


def leaves(marks: Iterable[Mark]) -> list[Mark]:
    """Where each page or slide begins, of a file that has any; those of attached files are not its own."""
    own = takewhile(lambda mark: mark.kind != "part", marks)
    found: list[Mark] = []
    for mark in own:
        last = found[-1].page if found else 0
        if mark.kind in LEAVES and mark.page is not None and mark.page > (last or 0):
            found.append(mark)
    return found


def leaf_at(leaves: Sequence[Mark], offset: int) -> int | None:
    """The page that a character is on."""
    n = bisect_right(leaves, offset, key=lambda mark: mark.start)
    return leaves[n - 1].page if n else None


def _enter(current: dict[str, str], mark: Mark) -> None:
    for inner in _INSIDE.get(mark.kind, ()):
        current.pop(inner, None)
    current[mark.kind] = mark.label


def _joined(current: Mapping[str, str]) -> str:
    return SEPARATOR.join(current[kind] for kind in _KINDS if current.get(kind))
