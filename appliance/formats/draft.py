"""A document being written: text and marks, in the order a parser meets them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, zip_longest
from typing import Literal

from appliance.formats import pairs, structure
from appliance.types import UNSAID, Document, Mark, Properties

UNSEEN = "背景と同じ色、または読めないほど小さな文字で書かれた文があります。開いて確かめてください"
UNSEEN_CHARS = 8  # of a run: less is a blank or a dot that somebody needed for the layout
_FIGURE = re.compile(r"[-+¥$,.\d/:%\s]+")
_LABEL_CHARS = 80
_LONG_TABLE = 600  # characters: beyond, each row names its columns


class Draft:
    """Lines and marks. `document` adds the headings that plain lines carry, but in a table."""

    def __init__(self, *, tabular: bool = False) -> None:
        self._tabular = tabular
        self._parts: list[str] = []
        self._length = 0
        self._marks: list[Mark] = []
        self.problems: list[str] = []

    @property
    def position(self) -> int:
        return self._length

    def line(self, text: str) -> None:
        self._parts += [text, "\n"]
        self._length += len(text) + 1

    def blank(self) -> None:
        if self._parts and self._parts[-2:] != ["", "\n"]:
            self.line("")

    def heading(self, text: str, level: int) -> None:
        """A line of its own that begins a section, 1 the highest."""
        if not (text := one_line(text)):
            return
        self.blank()
        found = structure.label(text)
        self.mark((found[0] if found else text)[:_LABEL_CHARS], "section", level=level)
        self.line(text)

    def mark(
        self,
        label: str,
        kind: Literal["page", "cell", "section", "slide", "part"],
        page: int | None = None,
        level: int = 0,
        at: int | None = None,
    ) -> None:
        """Here, or at what has been written already."""
        start = self._length if at is None else at
        self._marks.append(Mark(start, label[:_LABEL_CHARS], kind, page, None, level))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        for text in table_lines(rows):
            self.line(text)

    def embed(self, document: Document) -> None:
        """Another document's text here, its marks with it."""
        at = self._length
        self.line(document.text)
        self._marks += moved(document, at)
        self.problems += document.problems

    def document(self, title: str | None = None, properties: Properties = UNSAID) -> Document:
        text = "".join(self._parts).rstrip()
        asked = pairs.find(text)
        kept = [m for m in self._marks if m.kind != "section" or m.start not in asked.inner]
        taken = {_line_start(text, m.start) for m in kept if m.kind == "section"}
        found = asked.marks if self._tabular else structure.sections(text, taken, asked)
        new = [m for m in found if _line_start(text, m.start) not in taken]
        marks = [m for m in (*kept, *new) if m.start < len(text)]
        marks.sort(key=lambda m: (m.start, m.kind == "cell"))  # a section ends the cell before it
        title = one_line(title or "") or None
        return Document(text, tuple(marks), title, tuple(self.problems), properties=properties)


def moved(document: Document, by: int) -> list[Mark]:
    """The marks of a document that begins there in another."""
    return [Mark(m.start + by, m.label, m.kind, m.page, m.box, m.level) for m in document.marks]


def one_line(text: str) -> str:
    return " ".join(text.split())


def without_text(slides: Sequence[int]) -> list[str]:
    """The note that some slides have nothing to read."""
    if not slides:
        return []
    return [f"スライド {'、'.join(map(str, slides[:20]))} にテキストがありません (画像のみ)"]


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines: 「a | b」, or 「列: 値 | 列: 値」 where it is long, so that no row is orphaned."""
    cells = [[one_line(c) for c in row] for row in rows]
    cells = [row for row in cells if any(row)]
    if needs_labels(cells):
        return [pipes(cells[0]), *(labelled(cells[0], row) for row in cells[1:])]
    return [pipes(row) for row in cells]


def needs_labels(rows: Sequence[Sequence[str]]) -> bool:
    """True if the table will be cut, and a row without the names above it says little."""
    sizes = accumulate(len(c) + 3 for row in rows for c in row if c)
    if len(rows) < 2 or not any(size > _LONG_TABLE for size in sizes):
        return False
    return filled(rows[0]) > 2 and is_header(rows)


def filled(row: Sequence[str]) -> int:
    """How many of its cells have something in them."""
    return sum(map(bool, row))


def is_header(rows: Sequence[Sequence[str]]) -> bool:
    """True if the first row names the columns of those below."""
    head = [c for c in rows[0] if c]
    wide = max(map(filled, rows))
    return (
        len(head) >= 2
        and len(set(head)) == len(head)
        and 2 * len(head) > wide
        and all(len(c) <= 40 and not _FIGURE.fullmatch(c) for c in head)
    )


def pipes(row: Sequence[str]) -> str:
    return " | ".join(c for c in row if c)


def labelled(head: Sequence[str], row: Sequence[str]) -> str:
    named = zip_longest(head, row, fillvalue="")
    return " | ".join([f"{name}: {value}" if name else value for name, value in named if value])


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1
