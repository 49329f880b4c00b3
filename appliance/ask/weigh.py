"""What readers do not see: rows and columns, numbers within bounds, one code or ordinal for another.

A reader's words are weighed by these before they are taken for answers (`extract`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from appliance.ask import bounds, cells, extract, ordinals
from appliance.search import evidence
from appliance.text import codes, everyday, grids
from appliance.types import Passage, Span, Words

# Of a cell that row and column tell, as much as a reader hardly ever gives: of 1,308 that were found so for 20,323
# questions of colleagues (`training/written`, the companies that are learned from) 1,255 are what is asked for.
LOOKED_UP = 16.0
ADMITTED = 3.0  # where the number in question lies within bounds (`bounds`)


def weighed(question: str, passages: Sequence[Passage]) -> list[Passage]:
    """As they are, but for the words that cannot answer, and for a cell that surely does.

    To be asked of whole passages: where they are cut, the names of the columns may be gone.
    """
    asked = [everyday.as_in(_whole(p), question) for p in passages]
    every = [_weighed(q, p) for q, p in zip(asked, passages, strict=True)]
    cell = [_looked_up(q, p) for q, p in zip(asked, passages, strict=True)]
    said = {_said(p, c) for p, c in zip(passages, cell, strict=True) if c}
    if len(said) != 1:  # several may be meant
        return every
    return [_with(p, c) if c else _without(p) for p, c in zip(every, cell, strict=True)]


def _weighed(question: str, passage: Passage) -> Passage:
    if _of_another(question, passage):
        return replace(passage, words=())
    told = (_best(question, passage, words) for words in passage.words)
    kept = sorted(filter(None, told), key=lambda w: -w.score)
    return replace(passage, words=tuple(kept))


def _of_another(question: str, passage: Passage) -> bool:
    return codes.of_another(question, _whole(passage))


def _whole(passage: Passage) -> str:
    return "\n".join((passage.title, passage.about, passage.label, passage.text))


def _best(question: str, passage: Passage, words: Words) -> Words | None:
    """Of words that go over several cells the one that is named; all of them where none is."""
    parts = [w for part in _parts(passage, words) if (w := _told(question, passage, part))]
    best = max(parts, key=lambda w: w.score, default=None)
    if best and sum(w.score == best.score for w in parts) > 1:
        return _told(question, passage, words)
    return best


def _parts(passage: Passage, words: Words) -> Iterator[Words]:
    at = words.start
    for part in passage.text[at - passage.start : words.end - passage.start].split(grids.BAR):
        if part.strip():
            yield Words(at, at + len(part), words.score)
        at += len(part) + len(grids.BAR)


def _told(question: str, passage: Passage, words: Words) -> Words | None:
    """As sure as row, column and bounds make them; None where these or another ordinal rule them out."""
    start, end = words.start - passage.start, words.end - passage.start
    told = cells.told(question, passage, words.start)
    place = (question, passage.text, start, end)
    case = bounds.admitted(*place)
    if told is None or case is False or not bounds.is_bound(*place) or ordinals.of_another(*place):
        return None
    return replace(words, score=words.score + told + (ADMITTED if case else 0.0))


def _looked_up(question: str, passage: Passage) -> Span | None:
    if not passage.words or passage.version or _of_another(question, passage):
        return None
    return cells.looked_up(question, passage)


def _said(passage: Passage, cell: Span) -> str:
    return extract.plain(passage.text[cell.start - passage.start : cell.end - passage.start])


def _with(passage: Passage, cell: Span) -> Passage:
    """The cell first, and surer than the reader is of it."""
    others = [w for w in passage.words if w.end <= cell.start or w.start >= cell.end]
    own = max((w.score for w in passage.words if w not in others), default=-math.inf)
    sure = max(own + extract.AGREES, LOOKED_UP - evidence.logit(passage.relevance or 0.0))
    return replace(passage, words=(Words(cell.start, cell.end, sure), *others))


def _without(passage: Passage) -> Passage:
    """What is pointed at elsewhere contradicts no cell that row and column tell."""
    less = tuple(replace(w, score=w.score - LOOKED_UP) for w in passage.words)
    return replace(passage, words=less)
