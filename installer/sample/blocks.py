"""A small part of Markdown, as values.

Headings (`#` to `####`), paragraphs, `-` and `1.` lists, pipe tables, `> ` notes,
and `\\newpage`. Adjacent lines are one paragraph, joined without a space where
Japanese meets Japanese. `**words**` are bold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    text: str
    number: int | None = None  # None: a bullet
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    rows: tuple[tuple[str, ...], ...]
    headed: bool  # the first row is a heading


@dataclass(frozen=True, slots=True)
class Note:
    text: str


@dataclass(frozen=True, slots=True)
class PageBreak:
    pass


Block = Heading | Paragraph | Item | Table | Note | PageBreak

_HEADING = re.compile(r"(#{1,4}) +(.+)")
_ITEM = re.compile(r"( *)(?:-|(\d+)\.) +(.+)")
_RULE = re.compile(r"\|(?: *:?-+:? *\|)+")


def parse(body: str) -> Iterator[Block]:
    paragraph: list[str] = []
    rows: list[str] = []
    for line in [*body.splitlines(), ""]:
        line = line.rstrip(" ")
        if rows and not line.startswith("|"):
            yield table(rows)
            rows = []
        block = _single(line)
        if paragraph and (block or not line or line.startswith("|")):
            yield Paragraph(join(paragraph))
            paragraph = []
        if block:
            yield block
        elif line.startswith("|"):
            rows.append(line)
        elif line:
            paragraph.append(line)


def table(lines: Iterable[str]) -> Table:
    lines = list(lines)
    headed = len(lines) > 1 and bool(_RULE.fullmatch(lines[1]))
    return Table(tuple(cells(line) for line in lines if not _RULE.fullmatch(line)), headed)


def cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip(" ") for cell in line.strip("|").split("|"))


def join(lines: Iterable[str]) -> str:
    text = ""
    for line in lines:
        latin = text[-1:].isascii() and line[:1].isascii()
        text += (" " if text and latin else "") + line
    return text


def runs(text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, each with whether it is bold."""
    for number, piece in enumerate(text.split("**")):
        if piece:
            yield piece, number % 2 == 1


def _single(line: str) -> Block | None:
    if line == "\\newpage":
        return PageBreak()
    if line.startswith("> "):
        return Note(line[2:])
    if found := _HEADING.fullmatch(line):
        return Heading(len(found[1]), found[2])
    if found := _ITEM.fullmatch(line):
        return Item(found[3], int(found[2]) if found[2] else None, len(found[1]) // 2)
    return None
