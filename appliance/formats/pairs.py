"""Questions with their answers: each pair is a section, so that no chunk parts one from the other.

「Q1. …」 with 「A1. …」, 質問 with 回答, 問 with 答, and rows of a table with such columns. A mark
alone makes no pair: an answer must follow it, or the line must ask.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from appliance.types import Mark

LEVEL = 10  # below all headings of plain lines (`structure.py`)
_LABEL_CHARS = 80
_MOST_CHARS = 2_000  # of a line that may be a question
_NUMBER = r"(?:\s?(?:[Nn][Oo][.．]?\s?)?[-‐－]?[0-9０-９]{1,4}(?:[-‐－.．][0-9０-９]{1,3})?)?"
_BULLETS = " 　\t・■◆●▼◇□○◎*"
_LEAD = rf"^[{re.escape(_BULLETS)}]*"


def _marker(names: str) -> re.Pattern[str]:
    """The name in brackets, or with something after it that ends it: 「A社は」 is no answer."""
    return re.compile(
        rf"{_LEAD}(?:[【\[［(（〔<＜]\s?(?:{names}){_NUMBER}\s?[】\]］)）〕>＞][\s　]*[:：.．]?"
        rf"|(?:{names}){_NUMBER}(?:[.．:：、)）]|(?=[\s　]|$)))[\s　]*(?P<said>.*)$"
    )


_KINDS = tuple(
    (_marker(asks), _marker(tells))
    for asks, tells in (
        ("[QＱ]", "[AＡ]"),
        ("ご?質問(?:内容|事項)?|お?問い?合わ?せ内容", "ご?回答(?:内容)?|お?答え"),
        ("問い?", "答え?"),
    )
)
_FIRST = re.compile(rf"{_LEAD}[【\[［(（〔<＜]?\s?(?:[QＱAＡご質回お問答])")
_ASKS = re.compile(r"(?:[？?]|か[。．]?)\s*$")
_LISTED = re.compile(r"^[\s　]*([0-9０-９]{1,2})[.．)）、\s]")
_COLUMN = re.compile(r"[\s　]*\|[\s　]*")
_ASKING = re.compile(r"(?:よくある)?ご?質問(?:内容|事項)?|[QＱ]|問い?|お?問い?合わ?せ(?:内容)?")
_TELLING = re.compile(r"ご?回答(?:内容|例|案)?|[AＡ]|お?答え?|対応(?:方法|内容)?")


@dataclass(frozen=True, slots=True)
class Found:
    """Marks of pairs, and lines that begin no section of their own: answers, and lists in them."""

    marks: tuple[Mark, ...] = ()
    inner: frozenset[int] = frozenset()  # where they start


class _Line(NamedTuple):
    start: int
    text: str


def find(text: str) -> Found:
    lines = [*_lines(text)]
    marks: list[Mark] = []
    inner: set[int] = set()
    _said(lines, marks, inner)
    _rows(lines, marks)
    marks.sort(key=lambda m: m.start)
    return Found(tuple(marks), frozenset(inner))


def _lines(text: str) -> Iterator[_Line]:
    start = 0
    for line in text.split("\n"):
        yield _Line(start, line)
        start += len(line) + 1


def _said(lines: Sequence[_Line], marks: list[Mark], inner: set[int]) -> None:
    """Pairs in running lines."""
    seen = [*_met(lines)]
    asked = [*(n for n, _, tells in seen if not tells), len(lines)]
    for k, (n, kind, tells) in enumerate(seen):
        if tells:
            continue
        after = seen[k + 1] if k + 1 < len(seen) else None
        answer = after[0] if after and after[2] and after[1] == kind else None
        question = _question(lines, n, answer, kind)
        if answer is None and not _ASKS.search(question):
            continue
        following = asked[bisect_right(asked, n)]
        marks.append(_mark(lines[n], question, _KINDS[kind][0]))
        if answer is not None:
            inner.add(lines[answer].start)
        inner.update(_listed(lines, n if answer is None else answer, following))


def _met(lines: Sequence[_Line]) -> Iterator[tuple[int, int, bool]]:
    """Lines that begin with a marker: which, of which kind, and whether it is an answer's."""
    for n, (_, line) in enumerate(lines):
        if len(line) > _MOST_CHARS or not _FIRST.match(line) or "|" in line:
            continue
        for kind, (asks, tells) in enumerate(_KINDS):
            if asks.match(line):
                yield n, kind, False
                break
            if tells.match(line):
                yield n, kind, True
                break


def _question(lines: Sequence[_Line], n: int, answer: int | None, kind: int) -> str:
    """Its words, which may stand in the line below the marker."""
    found = _KINDS[kind][0].match(lines[n].text)
    said = found["said"].strip() if found else ""
    below = range(n + 1, min(answer if answer is not None else n + 3, len(lines)))
    return said or next((lines[m].text.strip() for m in below if lines[m].text.strip()), "")


def _mark(line: _Line, question: str, asks: re.Pattern[str]) -> Mark:
    found = asks.match(line.text)
    shown = line.text if found and found["said"].strip() else f"{line.text} {question}"
    label = " ".join(shown.lstrip(_BULLETS).split())
    indent = len(line.text) - len(line.text.lstrip())
    return Mark(line.start + indent, label[:_LABEL_CHARS], level=LEVEL)


def _listed(lines: Sequence[_Line], begin: int, end: int) -> Iterator[int]:
    """Numbered lines of an answer that count on from 1; a heading of what follows is none of them."""
    last = 0
    for n in range(begin + 1, end):
        found = _LISTED.match(lines[n].text)
        if not found or int(found[1]) != last + 1:
            continue
        below = next((m for m in range(n + 1, len(lines)) if lines[m].text.strip()), len(lines))
        if below == end and end < len(lines):
            continue
        last += 1
        yield lines[n].start


def _rows(lines: Sequence[_Line], marks: list[Mark]) -> None:
    """Rows below 「質問 | 回答」, with whatever columns beside."""
    head: list[str] = []
    for start, line in lines:
        cells = _COLUMN.split(line.strip()) if "|" in line and len(line) <= 100_000 else []
        if len(cells) < 2:
            head = []
        elif not head:
            head = (
                cells if ("問" in line or "Q" in line or "Ｑ" in line) and _is_head(cells) else []
            )
        elif question := _asked(head, cells):
            indent = len(line) - len(line.lstrip())
            marks.append(Mark(start + indent, question[:_LABEL_CHARS], level=LEVEL))


def _is_head(cells: Sequence[str]) -> bool:
    return any(_ASKING.fullmatch(c) for c in cells) and any(_TELLING.fullmatch(c) for c in cells)


def _asked(head: Sequence[str], cells: Sequence[str]) -> str:
    """The question in a row, which names its columns or has as many as the head."""
    at = next(n for n, name in enumerate(head) if _ASKING.fullmatch(name))
    for cell in cells:
        if cell.startswith(f"{head[at]}: "):
            return cell[len(head[at]) + 2 :].strip()
    return cells[at].strip() if len(cells) == len(head) else ""
