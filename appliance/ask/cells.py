"""Which cell of a table is asked for, told by the names of rows and columns.

A reader often points at the right column of the wrong row, or the other way. A row is told by its cells of which
the question has every word, a column by the words of its name. Where another row has more of the question, a place
is not what is asked for: of 8,005 questions of colleagues that have an answer (`training/written`, the companies that
are learned from) this takes .002 of the answers away, and of answers to other questions on the same paper .06. Another
column, whose cell may answer, speaks against it. Where all that a question tells is the name of one row, of one column
and of the document, that cell is the answer, whatever else is pointed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

from appliance.ask import wanted
from appliance.search import evidence
from appliance.text import grids, numerals, segment
from appliance.types import Passage, Span

Named = Literal["named", "other", ""]
# Log-odds. Of those answers 3,445 stand in a row that the question names, and 66 of as many to other questions; in
# a column that it names and no row, 2,207 and 262. Taken from a dozen combinations with the reader's words for
# 260 questions of colleagues about papers that no training saw (docs/en/answers.md).
ROW, COLUMN, OTHER_COLUMN = 4.0, 3.0, -5.0
# What is asked of a thing rather than which: 「休憩時間は」 is told under 「休憩」.
_OF_ANYTHING = "時間 時刻 期間 期限 時期 日数 日 回数 人数 額 金額 率 料金 費用 支給 上限"
ATTRIBUTES = frozenset(_OF_ANYTHING.split())
_LONG = 30  # characters: a longer cell describes, and names nothing
_COUNT = re.compile(r"(?<![0-9.a-z-])[0-9]+(?:\.[0-9]+)?(?:[a-z%℃]+|[^\W\d_])")
_COUNTERS = frozenset(
    [*"年月日時分秒級号機人名回度個本台枚件円%階点位番部社泊週mltkcf", "kg", "km", "mm", "cm"]
)
_WHY = re.compile("なぜ|なんで|何で|どうして|何故")
_WHERE = re.compile(
    "どこ|何処|誰|だれ|どなた|何[をがはのにで]|どの(?![くぐ])|どんな|どう|のは[?？]|せい"
)
_FIGURES = re.compile(r"[^\W\d_]{0,3}[\d０-９].*")
_PARTS = re.compile(r"[\s・、，,／/（）()]+")
_NOTHING = re.compile(r"[-−―ー–—\s]*")


def told(question: str, passage: Passage, at: int) -> float | None:
    """How much the names of its row and column speak for a place, `at` in offsets of the document; 0 outside of tables.

    In log-odds, less than 0 where the question names another column. None where it names another row.
    """
    text, at = passage.text, at - passage.start
    for grid in grids.find(text):
        if place := grid.place(at):
            row = grid.rows[place[0]]
            cell = row[place[1]]
            of_row = _row(question, text, grid, row, cell)
            of_column = _column(question, text, row, cell)
            if of_row == "other":
                return None
            against = OTHER_COLUMN if of_column == "other" else 0.0
            if not _all_there(question, passage):
                return against
            return ROW * (of_row == "named") + COLUMN * (of_column == "named") + against
    return 0.0


def _all_there(question: str, passage: Passage) -> bool:
    """Whether all names of the question are found there: who asks for what is not in a table may name its rows."""
    place = (passage.title, passage.label, passage.about, passage.text)
    return _names(question) - ATTRIBUTES <= _names("\n".join(place))


def looked_up(question: str, passage: Passage) -> Span | None:
    """The one cell, in offsets of the document, that is told by the names of its row and its column alone."""
    if _WHY.search(question):
        return None
    text, asked = passage.text, _words(question)
    about = _words(f"{passage.title}\n{passage.label}\n{passage.about}")
    telling = evidence.telling(wanted.HOW_MANY.sub("", question))
    counts = _counts(question)
    found: dict[str, tuple[grids.Cell, set[str]]] = {}
    for grid in grids.find(text):
        for row in grid.rows:
            for cell in row:
                column = _words(cell.column) & asked
                said, beside = _of(text, cell), [_of(text, c) for c in _beside(row, cell)]
                named = {w for t in beside for w in _words(t)} & asked
                if (
                    _names(cell.column) & _names(question)
                    and named - about
                    and telling <= about | named | column
                    and counts <= _counts(" ".join([passage.title, cell.column, *beside]))
                    and not _words(said) <= asked
                    and not _NOTHING.fullmatch(said)
                    and wanted.fits(question, said)
                    and not (_WHERE.search(question) and _FIGURES.fullmatch(said))
                ):
                    if said in found:
                        return None
                    found[said] = (cell, named | column)
    best = [
        cell for cell, own in found.values() if all(own >= other for _, other in found.values())
    ]
    if len(best) != 1:
        return None
    return Span(passage.start + best[0].start, passage.start + best[0].end)


def _row(
    question: str, text: str, grid: grids.Grid, row: Sequence[grids.Cell], cell: grids.Cell
) -> Named:
    own = _covered(question, text, row, cell)
    rivals = grid.rows if grid.columns else grid.rows[1:]  # the first may name columns
    return _named(own, [_covered(question, text, r, cell) for r in rivals if r is not row])


def _column(question: str, text: str, row: Sequence[grids.Cell], cell: grids.Cell) -> Named:
    """The first column names rows; one whose cell the question has told which row is meant."""
    if cell is row[0] or not cell.column:
        return ""
    asked = _names(question)
    rivals = [
        set(_names(other.column) & asked)
        for other in row[1:]
        if other is not cell
        and not _names(_of(text, other)) & asked
        and wanted.fits(question, _of(text, other))
    ]
    return _named(set(_names(cell.column) & asked), rivals)


def _named(own: set[str], rivals: Sequence[set[str]]) -> Named:
    """ "other": one of the rivals has all it has and more; "named": none has all it has."""
    if any(own < rival for rival in rivals):
        return "other"
    return "named" if own and not any(own <= rival for rival in rivals) else ""


def _covered(question: str, text: str, row: Sequence[grids.Cell], cell: grids.Cell) -> set[str]:
    """The names in those cells of a row of which the question has every word; 「総務課（代表）」 is two."""
    asked, names = _words(question), _names(question)
    found = set[str]()
    for other in _beside(row, cell):
        for said in _PARTS.split(_of(text, other)):
            if _words(said) <= asked and _names(said) <= names:
                found |= _names(said)
    return found


def _beside(row: Sequence[grids.Cell], cell: grids.Cell) -> Iterator[grids.Cell]:
    """The short cells of a row that are not in the column of `cell`."""
    for other in row:
        own = other is cell or (cell.column and other.column == cell.column)
        if not own and other.end - other.start <= _LONG:
            yield other


def _of(text: str, cell: grids.Cell) -> str:
    return text[cell.start : cell.end]


@lru_cache(4096)
def _words(text: str) -> frozenset[str]:
    return frozenset(segment.words(text))


def _counts(text: str) -> set[str]:
    return set(_COUNT.findall(numerals.normalize(text).text))


@lru_cache(4096)
def _names(text: str) -> frozenset[str]:
    """Nouns, codes, and numbers with what they count; a number or a counter alone names nothing."""
    nouns = {n for n in segment.nouns(text) if not n.isdecimal() and n not in _COUNTERS}
    return frozenset(nouns | set(segment.codes(text)) | _counts(text)) - evidence.ASKING
