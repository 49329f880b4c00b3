"""Text into what the keyword index counts: dictionary words, pairs of characters, and codes.

Index and query go through the same functions. Safe to call from any thread.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import sudachipy

from appliance.text.normalize import VARIANTS, fold, width

_SILENT = {"助詞", "助動詞", "補助記号", "空白"}
_PIECE_CHARS = 10_000  # Sudachi takes 49,149 bytes; a character is at most 4
_CUT = re.compile(r"[\n。．！？!?、，,\s]")
_RUN = re.compile(r"[\w々〆〇ー]+")
_CODE = re.compile(r"[0-9a-z]{3,32}")
_COMPOUND = re.compile(r"(?<![0-9a-z-])[0-9a-z]{1,32}(?:-[0-9a-z]{1,32})*(?![0-9a-z])")
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a text at [start, end): its dictionary form, its part of speech (品詞) and its form (活用形)."""

    surface: str
    base: str
    kind: str
    form: str
    start: int
    end: int


def words(text: str) -> list[str]:
    """Content words in their dictionary form, in order: 「支払った」 gives 「支払う」."""
    return list(_forms(text, lambda kind: kind not in _SILENT))


def nouns(text: str) -> list[str]:
    """Its nouns in their dictionary form, in order: 「受付」 and 「受け付け」 are one."""
    return list(_forms(text, lambda kind: kind == "名詞"))


def _forms(text: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    for piece in _pieces(width(text)):
        for morpheme in _tokenizer().tokenize(piece):
            if wanted(morpheme.part_of_speech()[0]):
                word = _folded(morpheme.normalized_form())
                if word:
                    yield word


@lru_cache(200_000)  # a language has so many words, and a text few of them
def _folded(word: str) -> str:
    return fold(word).strip()


def names(text: str) -> list[tuple[int, int]]:
    """[start, end) of each proper noun of the text: people, places, companies, products."""
    found: list[tuple[int, int]] = []
    start = 0
    for piece in _pieces(text.translate(VARIANTS)):  # a character for a character
        for m in _tokenizer().tokenize(piece):
            if m.part_of_speech()[1] == "固有名詞":
                begin, end = start + m.begin(), start + m.end()
                if found and found[-1][1] == begin:
                    begin = found.pop()[0]
                found.append((begin, end))
        start += len(piece)
    return found


def tokens(text: str) -> list[Token]:
    """All of it in order, as the dictionary takes it apart and bends it."""
    found, start = list[Token](), 0
    for piece in _pieces(text):
        for m in _tokenizer().tokenize(piece):
            kind, form = m.part_of_speech()[0], m.part_of_speech()[5]
            place = (start + m.begin(), start + m.end())
            found.append(Token(m.surface(), m.dictionary_form(), kind, form, *place))
        start += len(piece)
    return found


def surfaces(text: str) -> list[str]:
    """Its words as they stand in it, the short ones that a dictionary has: 「品質保証部」 gives three."""
    return [m.surface() for piece in _pieces(text) for m in _tokenizer().tokenize(piece)]


def bigrams(text: str) -> list[str]:
    """Pairs of neighbouring characters inside each run of letters and digits.

    A run of one character stands for itself; Latin words and numbers of three or
    more characters are also given whole, so that 「2200」 finds 「KP-2200」 first.
    """
    found: list[str] = []
    for run in _RUN.findall(fold(text)):
        found += [run] if len(run) == 1 else [run[i : i + 2] for i in range(len(run) - 1)]
        found += _CODE.findall(run)
    return found


def codes(text: str) -> list[str]:
    """Part numbers, error codes and the like, without their hyphens, and each of their beginnings.

    「KP-2200-A」 gives kp2200 and kp2200a, so 「KP2200」 meets it. Letters and digits must both
    be there: a date is no code.
    """
    found: list[str] = []
    for code in _COMPOUND.findall(fold(text)):
        parts = code.split("-")
        found += ["".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return [c for c in found if not c.isdigit() and not c.isalpha()]


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE_CHARS:
        cut = start + _PIECE_CHARS
        for mark in _CUT.finditer(text, cut - 500, cut):
            cut = mark.end()
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]


@cache
def _dictionary() -> Any:
    return sudachipy.Dictionary(dict="core")


def _tokenizer() -> Any:
    # a tokenizer serves one thread at a time; the dictionary serves all
    if not hasattr(_local, "tokenizer"):
        _local.tokenizer = _dictionary().tokenizer(mode=sudachipy.SplitMode.A)
    return _local.tokenizer
