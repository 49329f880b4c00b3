"""A document into chunks: children an index holds, inside parents a reader is shown.

Every character that is not blank is in exactly one chunk; every chunk is in its
parent; parents do not overlap. A parent is a section (条, heading, slide, sheet,
attachment), cut where it is too long and joined with its neighbours where it is tiny.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.types import Chunk, Document, Mark

_CLOSING = "」』）)]】"
# 「（税を含む。）を上限として」 goes on after its bracket; 「…である。」 at a line's end does not
SENTENCE_END = re.compile(
    rf"[。．！？!?]+(?:[{re.escape(_CLOSING)}]+(?=\s|$)|(?![。．！？!?{re.escape(_CLOSING)}]))|\n+"
)
_PAUSE = re.compile(r"[、，,;；:：|\s]")
SEPARATOR = " › "  # between the headings of a title path
_HEADING_CHARS = 120
_HARD = ("part", "slide")  # a parent never crosses these


@dataclass(frozen=True, slots=True)
class _Section:
    start: int
    end: int
    heading: str
    hard: bool  # begins at a border no parent crosses


def split(document: Document, chunk_chars: int = 400, parent_chars: int = 1500) -> list[Chunk]:
    """Chunks in the order of the text, at most 5/4 of `chunk_chars` long.

    Parents are at most `parent_chars` long. Raises ValueError for sizes below 1
    or a parent that could not hold a chunk.
    """
    if chunk_chars < 1 or parent_chars * 4 < chunk_chars * 5:
        raise ValueError("chunk_chars must be at least 1 and parent_chars at least 5/4 of it")
    chunks: list[Chunk] = []
    tiny = parent_chars // 4
    group: list[tuple[int, int, str]] = []  # children waiting for their parent's borders

    def close() -> None:
        if group:
            start, end = group[0][0], group[-1][1]
            chunks.extend(Chunk(a, b, start, end, heading) for a, b, heading in group)
            group.clear()

    for section in _sections(document):
        if section.hard or (group and group[-1][1] - group[0][0] >= tiny):
            close()
        children = _children(document.text, section.start, section.end, chunk_chars)
        if group and children and children[-1][1] - group[0][0] > parent_chars:
            close()
        for start, end in children:
            if group and end - group[0][0] > parent_chars:
                close()
            group.append((start, end, section.heading))
    close()
    return chunks


def sentences(text: str) -> list[tuple[int, int]]:
    """[start, end) of each sentence or line that is not blank; joined they leave out only blanks."""
    found, start = [], 0
    for end in [*(m.end() for m in SENTENCE_END.finditer(text)), len(text)]:
        if text[start:end].strip():
            found.append((start, end))
        start = end
    return found


def _sections(document: Document) -> Iterator[_Section]:
    text = document.text
    borders = _borders(document.marks, len(text))
    for n, (start, heading, hard) in enumerate(borders):
        end = borders[n + 1][0] if n + 1 < len(borders) else len(text)
        if text[start:end].strip():
            yield _Section(start, end, heading, hard)


def _borders(marks: Sequence[Mark], length: int) -> list[tuple[int, str, bool]]:
    """(start, title path, hard) of each section, sorted, the first at 0."""
    borders: list[tuple[int, str, bool]] = []
    open_headings: list[Mark] = []
    part = ""
    at, heading, hard = 0, "", False
    for mark in sorted(marks, key=lambda m: (m.start, m.kind not in _HARD)):
        if mark.kind in ("page", "cell") or mark.start >= length:
            continue
        if mark.start > at or not borders:
            if mark.start > at:
                borders.append((at, heading, hard))
            at, hard = mark.start, False
        if mark.kind in _HARD:
            open_headings, hard = [], True
            part = mark.label if mark.kind == "part" else part
        else:
            level = mark.level or 99
            while open_headings and (open_headings[-1].level or 99) >= level:
                open_headings.pop()
            open_headings.append(mark)
        heading = _path(part, open_headings)
    borders.append((at, heading, hard))
    return _without_bare_headings(borders, length)


def _without_bare_headings(
    borders: list[tuple[int, str, bool]], length: int
) -> list[tuple[int, str, bool]]:
    """A heading with nothing under it begins the section that follows, one level deeper."""
    kept: list[tuple[int, str, bool]] = []
    waiting: tuple[int, str, bool] | None = None
    for n, (start, heading, hard) in enumerate(borders):
        end = borders[n + 1][0] if n + 1 < len(borders) else length
        if waiting and not hard and heading.startswith(waiting[1] + SEPARATOR):
            start, hard = waiting[0], waiting[2]
        elif waiting:
            kept.append(waiting)
        waiting = None
        bare = end - start <= len(heading.rsplit(SEPARATOR, 1)[-1]) + 12
        if heading and bare and n + 1 < len(borders):
            waiting = (start, heading, hard)
        else:
            kept.append((start, heading, hard))
    return kept


def _path(part: str, headings: Sequence[Mark]) -> str:
    labels = [part] if part else []
    labels += [mark.label for mark in headings]
    path = SEPARATOR.join(labels)
    while len(path) > _HEADING_CHARS and len(labels) > 1:
        labels = labels[1:]
        path = SEPARATOR.join(labels)
    return path[:_HEADING_CHARS]


def _children(text: str, start: int, end: int, size: int) -> list[tuple[int, int]]:
    """[start, end) as runs of whole sentences and rows, about `size` long, no blank ends."""
    cuts = _cuts(text, start, end, size)
    children: list[tuple[int, int]] = []
    at = 0
    while at < len(cuts) - 1:
        here = cuts[at]
        if cuts[-1] - here <= size * 5 // 4:  # no crumb at the end
            to = len(cuts) - 1
        else:
            to = max(bisect_right(cuts, here + size) - 1, at + 1)
        a, b = _trim(text, here, cuts[to])
        if a < b:
            children.append((a, b))
        at = to
    return children


def _cuts(text: str, start: int, end: int, size: int) -> list[int]:
    """Places one may cut, ends included, never more than `size` apart."""
    ends = [m.end() for m in SENTENCE_END.finditer(text, start, end)]
    cuts = [start]
    for place in [*ends, end]:
        while place - cuts[-1] > size:
            cuts.append(_pause(text, cuts[-1], cuts[-1] + size))
        if place > cuts[-1]:
            cuts.append(place)
    return cuts


def _pause(text: str, start: int, limit: int) -> int:
    pauses = [m.end() for m in _PAUSE.finditer(text, start + (limit - start) // 2, limit)]
    return pauses[-1] if pauses else limit


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    body = text[start:end]
    return start + len(body) - len(body.lstrip()), start + len(body.rstrip())
