"""Words that colleagues cut short, told from documents that write them out.

「年調」 is 「年末調整」, 「品証」 is 「品質保証」, 「情シス」 is 「情報システム」: a compound is cut to a character
of each of its words, the first or, but for the first word, the last; of a word in katakana to its first two
or three. No dictionary has those of a company, but its documents have the compounds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from appliance.text import segment
from appliance.text.normalize import fold, normalize

SHORT = 6  # characters; longer ones are seldom cut any further
MOST = 16  # of one question
READ = 4_000  # characters of a text: where a thing is spoken of, it is soon named

_RUN = re.compile(r"[々〆一-鿿ァ-ヺー]+")
_KATAKANA = re.compile(r"[ァ-ヺー]+")


def short(question: str) -> list[str]:
    """The words of the question that may be cut short, folded, in order.

    「夏休」 is none: the dictionary's word goes on, 「夏休み」.
    """
    text = fold(question)
    within, at = set[int](), 0
    for word in segment.surfaces(text):
        start = text.find(word, at)
        at = max(at, start + len(word)) if start >= 0 else at
        within |= set(range(start + 1, at)) if start >= 0 else set()
    found = (m for m in _RUN.finditer(text) if m.end() not in within)
    runs = dict.fromkeys(m.group() for m in found)
    return [run for run in runs if 2 <= len(run) <= SHORT][:MOST]


def written_out(words: Sequence[str], texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Of each of the words that is cut short, that word and the compound it stands for, folded.

    The compound stands in more of the texts than the short word does, and in more than any other
    that it may stand for; of those in as many, the shortest is taken.
    """
    read = [fold(text[:READ]) for text in texts]
    compounds = Counter(chain.from_iterable(set(_RUN.findall(text)) for text in read))
    found = []
    for word in words:
        known = sum(word in text for text in read)
        long = Counter[str]()
        for run, count in compounds.items():
            if len(run) > len(word) and _threaded(word, run):
                for compound in _meant(word, segment.surfaces(run)):
                    long[compound] += count
        if long:
            best = min(long, key=lambda compound: (-long[compound], len(compound)))
            if long[best] > known:
                found.append((word, best))
    return tuple(found)


def replaced(question: str, pairs: Sequence[tuple[str, str]]) -> str:
    """The question with the compounds instead of what is cut short, everything else as it was."""
    said, full = normalize(question), dict(pairs)
    out, at = list[str](), 0
    for run in _RUN.finditer(said.text):
        if run.group() in full:
            start, stop = said.span(*run.span())
            out += [question[at:start], full[run.group()]]
            at = stop
    return "".join([*out, question[at:]])


def _threaded(short: str, run: str) -> bool:
    """Whether its characters stand in the run, in order: all compounds that it may be of do so."""
    rest = iter(run)
    return all(char in rest for char in short)


def _meant(short: str, words: Sequence[str]) -> set[str]:
    """The compounds among these neighbouring words that are cut to `short`."""
    found = set()
    for first in range(len(words)):
        if words[first][0] == short[0] and (end := _end(short, words, first)):
            cut = sum(len(w) > 1 for w in words[first:end])
            compound = "".join(words[first:end])
            if cut > 1 and len(compound) > len(short):
                found.add(compound)
    return found


def _end(short: str, words: Sequence[str], at: int) -> int:
    """Past the last word of the compound that begins at `at`; 0 where `short` is none of it."""
    if not short:
        return at
    if at == len(words):
        return 0
    for part in _parts(words[at]):
        if short.startswith(part) and (end := _end(short[len(part) :], words, at + 1)):
            return end
    return 0


def _parts(word: str) -> tuple[str, ...]:
    """What may be left of a word of a compound."""
    if _KATAKANA.fullmatch(word):
        return word[:2], word[:3]
    return word[0], word[-1]
