"""What people say, and what papers call it: 「ボーナス」 is asked for, 「賞与」 is written; 「辞めたい」, and 「退職」.

`everyday.tsv` is no list of a company's own: it has only words that mean the same in any Japanese company, and that
share little with it, or words and abbreviations (`abbreviations.written_out`) find it by themselves. Each with
what papers call it, the most usual first; in the place of a verb, a noun that takes する. It was written by two who had not
seen any question that is measured with.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

from appliance.text import segment
from appliance.text.normalize import fold, normalize

_LETTERS = "[一-龠々ァ-ヺーA-Za-z0-9]"
_BETWEEN = {"を", "が", "は"}  # people leave them out: 「休み取りたい」
# What する is where a verb stood, by how the verb ended.
_FORMS = {
    "連用形": "し",
    "未然形": "し",
    "仮定形": "すれ",
    "命令形": "しろ",
    "意志推量形": "しよう",
}
_VOICED = {"で": "て", "だ": "た"}  # 「休んで」, 「休暇取得して」


@dataclass(frozen=True, slots=True)
class Said:
    """An everyday word at [start, end) of a question, and what takes its place there, by what papers call it."""

    start: int
    end: int
    word: str
    instead: Mapping[str, str]
    verb: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    word: str
    tokens: tuple[str, ...]
    verb: bool
    papers: tuple[str, ...]


def as_in(text: str, question: str) -> str:
    """The question in the words of a text, where this has not the question's own."""
    return replaced(question, instead(said(question), [text]))


@lru_cache(256)  # a question is asked of many texts
def said(question: str) -> Sequence[Said]:
    """The everyday words of the question, in order; the longest of those that begin at one place.

    A word is meant where it stands by itself: 「残業」 is not in 「残業代」.
    """
    text = normalize(question)
    found, end = list[Said](), 0
    for one in _found(text.text):
        if one.start >= end:
            start, end = text.span(one.start, one.end)[0], one.end
            found.append(replace(one, start=start, end=text.span(one.start, one.end)[1]))
    return tuple(found)


def instead(found: Sequence[Said], texts: Sequence[str]) -> list[tuple[Said, str]]:
    """Of the words that none of the texts has, each with what most of these call it."""
    read = [fold(text) for text in texts]
    pairs = []
    for one in found:
        counts = {paper: sum(fold(paper) in text for text in read) for paper in one.instead}
        best = max(counts, key=lambda paper: counts[paper])
        if counts[best] and not any(_has(text, one) for text in read):
            pairs.append((one, best))
    return pairs


def replaced(question: str, pairs: Sequence[tuple[Said, str]]) -> str:
    """The question in the words of papers."""
    for one, paper in reversed(pairs):
        question = question[: one.start] + one.instead[paper] + question[one.end :]
    return question


def widened(question: str, found: Sequence[Said]) -> str:
    """The question, and all that papers may call it: to be searched for."""
    return f"{question}（{'、'.join(dict.fromkeys(p for one in found for p in one.instead))}）"


def _found(text: str) -> list[Said]:
    tokens = segment.tokens(text)
    starts, ends = {t.start for t in tokens}, {t.end for t in tokens}
    found = [
        Said(m.start(), m.end(), entry.word, {paper: paper for paper in entry.papers})
        for entry in _nouns()
        if entry.word in text
        for m in _standing(text, entry.word)
        if m.start() in starts and m.end() in ends
    ]
    verbs = _verbs()
    for last, token in enumerate(tokens):
        for entry in verbs.get(token.base, ()) if token.kind == "動詞" else ():
            if (first := _first(entry.tokens, tokens, last)) is not None:
                ending, end = _ending(tokens, last)
                taken = {paper: paper + ending for paper in entry.papers}
                found.append(Said(tokens[first].start, end, entry.word, taken, verb=True))
    return sorted(found, key=lambda one: (one.start, -one.end))


def _first(wanted: Sequence[str], tokens: Sequence[segment.Token], last: int) -> int | None:
    """Where the entry begins whose verb is the `last` of these tokens; None where it is not meant."""
    at = last
    for word in reversed(wanted[:-1]):
        at -= 1
        while at >= 0 and tokens[at].surface in _BETWEEN:
            at -= 1
        if at < 0 or tokens[at].surface != word:
            return None
    return at


def _ending(tokens: Sequence[segment.Token], last: int) -> tuple[str, int]:
    """What する is in the place of a verb, and where that ends."""
    verb = tokens[last]
    ending = _FORMS.get(verb.form.split("-")[0], "する")
    after = tokens[last + 1].surface[:1] if last + 1 < len(tokens) else ""
    if "音便" in verb.form and after in _VOICED:
        return ending + _VOICED[after], verb.end + 1
    return ending, verb.end


def _has(text: str, one: Said) -> bool:
    """Whether a text, folded, says it so too."""
    if one.verb:
        return set(segment.words(one.word)) <= set(segment.words(text))
    return next(_standing(text, one.word), None) is not None


def _standing(text: str, word: str) -> Iterator[re.Match[str]]:
    return re.finditer(rf"(?<!{_LETTERS}){re.escape(word)}(?!{_LETTERS})", text)


@cache
def _entries() -> tuple[_Entry, ...]:
    rows = Path(__file__).with_suffix(".tsv").read_text("utf-8").splitlines()
    return tuple(_entry(*row.split("\t")) for row in rows)


def _entry(word: str, papers: str) -> _Entry:
    word = fold(word)
    tokens = segment.tokens(word)
    verb = tokens[-1].kind == "動詞"
    named = [t.surface for t in tokens[:-1] if t.surface not in _BETWEEN]
    return _Entry(word, (*named, tokens[-1].base), verb, tuple(papers.split()))


@cache
def _nouns() -> tuple[_Entry, ...]:
    return tuple(e for e in _entries() if not e.verb)


@cache
def _verbs() -> Mapping[str, Sequence[_Entry]]:
    found = defaultdict[str, list[_Entry]](list)
    for entry in _entries():
        if entry.verb:
            found[entry.tokens[-1]].append(entry)
    return found
