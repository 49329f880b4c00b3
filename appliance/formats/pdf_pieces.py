"""Characters of a page to pieces of lines, across or down; small kana beside a word is left out.

Vertical pages are turned so that their lines run across and follow from top to bottom: whoever orders
pieces needs to know one direction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from appliance.formats.pdf_page import Glyph

_GAP = 0.9  # em: a wider one ends a piece
_SPACED_GAP = 1.7  # with a space that was written
_WORD_GAP = 0.2
_DOWN_GAP = 0.6
_BESIDE = 0.75
_RUBY = 0.65  # of the size of the word it stands at
_KANA = re.compile("[ぁ-ゖァ-ヺー・\u3000]+")
_MOST = 3_000  # pieces of a page that anybody reads
_LEAST_DOWN = 4  # signs of a line down on a page that runs across


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    column: tuple[int, int] = (0, 0)  # where on its page the column begins that it stands in
    row: bool = False  # of a table
    whole: bool = False  # the margin did not break it: words with gaps between them


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of characters on one line, or a block that has been read already."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    size: float
    lines: tuple[Line, ...] = ()
    at: int = 0  # in the order of the file

    def turned(self) -> Piece:
        """The right edge of the page becomes its top."""
        return replace(self, left=self.top, top=-self.right, right=self.bottom, bottom=-self.left)


@dataclass(slots=True)
class _Run:
    glyphs: list[Glyph]
    down: bool | None = None

    def takes(self, glyph: Glyph) -> bool:
        last = self.glyphs[-1]
        em = last.size
        if (  # most come so
            self.down is False
            and glyph.size == em
            and glyph.bottom == last.bottom
            and 0 <= glyph.left - last.right + 0.1 * em <= 0.4 * em
        ):
            self.glyphs.append(glyph)
            return True
        em = max(em, glyph.size)
        if self.down is not True and _goes_on(last, glyph, em):
            self.down = False
        elif self.down is not False and self._goes_down(last, glyph, em):
            self.down = True
        else:
            return False
        self.glyphs.append(glyph)
        return True

    def _goes_down(self, last: Glyph, glyph: Glyph, em: float) -> bool:
        first = self.glyphs[0]
        off = abs(_across(glyph) - _across(first))
        if self.down and abs(_along(glyph) - _along(last)) <= 0.4 * em:  # 縦中横
            return off <= _BESIDE * em and glyph.left >= last.left
        return (
            off <= 0.5 * em
            and glyph.size > _RUBY * last.size
            and -0.4 * em <= glyph.top - last.bottom <= _DOWN_GAP * em
        )


def pieces(glyphs: Iterable[Glyph]) -> tuple[list[Piece], list[Piece], bool]:
    """Those in the direction of most, those in the other, and whether most run down.

    Pieces that run down come turned.
    """
    runs: list[_Run] = []
    run = None
    for glyph in glyphs:
        if run is None or not run.takes(glyph):
            run = _Run([glyph])
            runs.append(run)
    down = sum(len(r.glyphs) for r in runs if r.down and len(r.glyphs) > 2)
    across = sum(len(r.glyphs) for r in runs if r.down is False and len(r.glyphs) > 2)
    if down > across:
        most = [_piece(r, True, n).turned() for n, r in enumerate(runs) if r.down is not False]
        other = [_piece(r, False) for r in runs if r.down is False]
        return _without_ruby(most), other, True
    most = []
    other = []
    for n, run in enumerate(runs):
        if not run.down:
            most.append(_piece(run, False, n))
        elif _is_line(run.glyphs):
            other.append(_piece(run, True).turned())
        else:
            most += [_piece(_Run([g]), False, n) for g in run.glyphs]
    return _without_ruby(most), _without_ruby(other), False


def _goes_on(last: Glyph, glyph: Glyph, em: float) -> bool:
    if glyph[1:5] == last[1:5]:  # of one ligature
        return True
    gap = glyph.left - last.right
    limit = _SPACED_GAP if glyph.spaced else _GAP
    return (
        -0.5 * em <= gap <= limit * em
        and glyph.left > last.left - 0.1 * em
        and abs(_along(glyph) - _along(last)) <= 0.5 * em
        and not (glyph.size < _RUBY * last.size and _KANA.fullmatch(glyph.sign))
    )


def _is_line(glyphs: Sequence[Glyph]) -> bool:
    """Letters one below the other that make a line, not a column of numbers."""
    if len(glyphs) < _LEAST_DOWN or sum(g.sign.isascii() for g in glyphs) > len(glyphs) / 2:
        return False
    gaps = [b.top - a.bottom for a, b in pairwise(glyphs)]
    return median(gaps) <= 0.2 * glyphs[0].size


def _piece(run: _Run, down: bool, at: int = 0) -> Piece:
    glyphs = run.glyphs
    text = [glyphs[0].sign]
    for last, glyph in pairwise(glyphs):
        close = not glyph.spaced and not down and glyph.left - last.right < 0.3 * glyph.size
        text.append(glyph.sign if close else _space(last, glyph, down) + glyph.sign)
    _, lefts, tops, rights, bottoms, sizes, _ = zip(*glyphs, strict=True)
    return Piece("".join(text), min(lefts), min(tops), max(rights), max(bottoms), max(sizes), at=at)


def _space(last: Glyph, glyph: Glyph, down: bool) -> str:
    em = max(last.size, glyph.size)
    gap = glyph.top - last.bottom if down else glyph.left - last.right
    latin = last.sign.isascii() and glyph.sign.isascii()
    if glyph.spaced and (latin or gap > (_DOWN_GAP if down else _WORD_GAP) * em):
        return " "
    if not down and (last.sign.isascii() or glyph.sign.isascii()):
        return " " if glyph.spaced or gap > (0.3 if latin else 0.45) * em else ""
    return "\u3000" if gap > 0.7 * em and "\u3000" not in last.sign + glyph.sign else ""


def _without_ruby(found: list[Piece]) -> list[Piece]:
    """Without small kana that stands close above a word: readings are no text of their own."""
    if len({round(p.size, 1) for p in found}) < 2 or len(found) > _MOST:
        return found
    return [p for p in found if not (_KANA.fullmatch(p.text) and _stands_at(p, found))]


def _stands_at(ruby: Piece, found: Sequence[Piece]) -> bool:
    return any(
        ruby.size <= _RUBY * p.size
        and -0.5 * p.size <= p.top - ruby.bottom <= 0.4 * p.size
        and p.left - p.size <= ruby.left
        and ruby.right <= p.right + p.size
        for p in found
    )


def _across(glyph: Glyph) -> float:
    return (glyph.left + glyph.right) / 2


def _along(glyph: Glyph) -> float:
    return (glyph.top + glyph.bottom) / 2
