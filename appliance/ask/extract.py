"""The words that a reader points at, as an answer.

A small model copies well and chooses badly; a reader that learned to point chooses better, and
what it points at stands in the source by construction. So a small model's answer stands where the
reader agrees, else the reader's words do, and where the reader is not sure nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.ask import numerals
from appliance.search import evidence
from appliance.types import Passage

# Log-odds of passage and words together. On JaQuAD dev (`tests/quality/reading.py`) every
# answerable question reaches this, and .76 of those whose own paragraph is kept away do not.
SURE = 9.0
CLOSE = 3.0  # log-odds below the surest, within which a model may prefer another

_MARKERS = re.compile(r"\[\d+\]")
_SILENT = re.compile(r"[\s、。，．,.「」『』（）()]+")
_COPULA = re.compile(r"(?:です|である|だ|となる|となります|とする)$")


@dataclass(frozen=True, slots=True)
class Extract:
    number: int  # of the passage, from 1
    text: str
    sure: float  # log-odds that it is the answer

    def __str__(self) -> str:
        return f"{self.text}[{self.number}]"


def extracts(passages: Sequence[Passage]) -> list[Extract]:
    """What the reader points at in the passages as they are shown, the surest first."""
    return sorted(_every(passages), key=lambda e: -e.sure)


def settle(said: str, passages: Sequence[Passage]) -> str:
    """The answer that stands: what was said, or what was read; empty where neither may."""
    found = extracts(passages)
    if not found or found[0].sure < SURE:
        return ""
    least = max(SURE, found[0].sure - CLOSE)
    if any(agree(said, e.text) for e in found if e.sure >= least):
        return said
    return str(found[0])


def agree(said: str, read: str) -> bool:
    """Whether one is the other, or a part of it; ways of writing numbers aside."""
    one, other = _plain(said), _plain(read)
    shorter, longer = sorted((one, other), key=len)
    return bool(shorter) and shorter in longer


def _every(passages: Sequence[Passage]) -> Iterator[Extract]:
    for number, passage in enumerate(passages, 1):
        for words in passage.words:
            if passage.start <= words.start and words.end <= passage.end:
                text = passage.text[words.start - passage.start : words.end - passage.start]
                sure = evidence.logit(passage.relevance or 0.0) + words.score
                if text.strip():
                    yield Extract(number, text.strip(), sure)


def _plain(text: str) -> str:
    bare = _SILENT.sub("", numerals.normalize(_MARKERS.sub("", text)).text)
    return _COPULA.sub("", bare)
