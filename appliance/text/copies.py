"""Texts that say the same in other layout: a notice that was pasted into a mail, a form kept twice.

What differs in a number or in a word is no copy, however long it is: 10,000円 became 12,000円.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from appliance.text import segment
from appliance.text.normalize import fold

ALIKE = 0.9  # Jaccard of character bigrams below which words need not be compared
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Shape:
    text: str
    numbers: tuple[str, ...]
    grams: frozenset[str]


def shape(text: str) -> Shape:
    folded = fold(text)
    return Shape(text, tuple(_NUMBER.findall(folded)), frozenset(segment.bigrams(folded)))


def alike(one: Shape, other: Shape) -> bool:
    if one.numbers != other.numbers:
        return False
    either = len(one.grams | other.grams)
    if len(one.grams & other.grams) < ALIKE * either:
        return False
    return _words(one.text) == _words(other.text)


@lru_cache(maxsize=256)
def _words(text: str) -> frozenset[str]:
    return frozenset(segment.words(text))
