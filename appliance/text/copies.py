"""Texts that say the same in other layout: a notice that was pasted into a mail, a form kept twice.

What differs in a number or in a word is no copy, however long it is: 10,000円 became 12,000円.
"""

from __future__ import annotations

import re
from functools import lru_cache

from appliance.text import segment

ALIKE = 0.9  # Jaccard of character bigrams below which words need not be compared
_NUMBER = re.compile(r"\d+")
_KEPT = 256  # texts: as many as a few searches compare


def alike(one: str, other: str) -> bool:
    """Compares what is cheap first: numbers, then bigrams, then words."""
    if _numbers(one) != _numbers(other):
        return False
    mine, theirs = _grams(one), _grams(other)
    if len(mine & theirs) < ALIKE * len(mine | theirs):
        return False
    return _words(one) == _words(other)


@lru_cache(_KEPT)
def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, _NUMBER.findall(text)))


@lru_cache(_KEPT)
def _grams(text: str) -> frozenset[str]:
    return frozenset(segment.bigrams(text))


@lru_cache(_KEPT)
def _words(text: str) -> frozenset[str]:
    return frozenset(segment.words(text))
