"""The words that a reader points at, as an answer.

A small model copies well and chooses badly; a reader that learned to point chooses better, and
what it points at stands in the source by construction. So a small model's answer stands where it
holds what the reader points at, else the reader's words do, and where the reader is not sure nothing
is said: then the places that come nearest are shown as they stand. Where another document answers with another
number, both are shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from appliance.ask import numerals, prompt, wanted
from appliance.search import evidence
from appliance.text import split
from appliance.types import ANSWER_CHARS, Passage, Pointer, Span, Words

Weigh = Callable[
    [Sequence[str]], Sequence[float]
]  # the language model's log P of answers, if it tells

# Log-odds of passage and words together, more where the model says so too, and more the likelier it holds
# the words against a refusal. Fitted by `tests/quality/reading.py` for kura-reader-v6 and kura-answer-v3, on
# colleagues' questions about papers that no training saw (104 answered, 104 not), and on JaQuAD dev (40 and
# 40): of the unanswered .92 and .66 stay below, of the others .64 and .80 are answered rightly, .10 and .18
# wrongly. Where it tells no likelihoods .91 and .71, .58 and .77, .10 and .15.
AGREES, LIKELY = 2.0, 0.5
SURE = 8.5
WEIGHED = 3  # the surest: with two and with six the answers are the same
DOUBT = (
    4.0,
    17.0,
)  # where its word decides: a third of the questions, and the same answers as with all
UNLIKELY, UNWEIGHED = -20.0, 2.0  # no less than that; and what stands for it where it is not asked
# Below it a place is not worth showing. With kura-reader-v4: of 26 colleagues' questions that were answered
# nowhere though they could be, 12 answers are among the places above; 70 of the 108 silent ones show nothing.
NEAR = -2.0
MOST_NEAR = 3
QUOTED = 160  # characters of a sentence that are shown

_MARKERS = re.compile(r"\[\d+\]")
_MARKED = re.compile(r"(?:\s*\[\d+\])+\s*$")
_SILENT = re.compile(r"[\s、。，．,.「」『』（）()]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# What words of a sentence drag along where they stand alone: 「1912年に」, 「サイベリア」（.
_PARTICLE = re.compile(r"(?<=[\w%℃」』)）])(?<![ぁ-ん])(?:[にでと]は|[にのをはがで])$")
_PAIRS = dict(zip("」』）)】〉》", "「『（(【〈《", strict=True))
_OPENING = frozenset(_PAIRS.values())
_COPULA = re.compile(r"(?:です|である|だ|となる|となります|とする)$")


@dataclass(frozen=True, slots=True)
class Extract:
    number: int  # of the passage, from 1
    text: str
    sure: float  # how far it is believed
    words: Words

    def __str__(self) -> str:
        return f"{self.text}[{self.number}]"


def extracts(
    question: str, passages: Sequence[Passage], said: str = "", weigh: Weigh | None = None
) -> list[Extract]:
    """What the reader points at in the passages as they are shown, the surest first.

    What has not the form that the question asks for is none of it.
    """
    every = (e for e in _every(passages, said) if wanted.fits(question, e.text))
    found = sorted(every, key=lambda e: -e.sure)
    return _weighed(found, weigh)


def settle(
    question: str, said: str, passages: Sequence[Passage], weigh: Weigh | None = None
) -> str:
    """The answer that stands: what was said, if it holds what was read; else that; or nothing.

    A small model leaves out what it should not: "8" of 「8,000円まで」.
    """
    found = extracts(question, passages, said, weigh)
    if not found or found[0].sure < SURE:
        return ""
    read = _plain(found[0].text)
    if not read or read not in _plain(said):
        return str(found[0])
    markers = _MARKED.search(said)
    words = said[: markers.start()] if markers else said
    return tidy(words) + said[len(words) :]


def near(question: str, passages: Sequence[Passage]) -> tuple[Pointer, ...]:
    """Of each passage the surest place, the surest first: worth a look, and no more."""
    first: dict[int, Extract] = {}
    for one in extracts(question, passages):
        if one.sure >= NEAR:
            first.setdefault(one.number, one)
    return tuple(_pointer(e, passages) for e in list(first.values())[:MOST_NEAR])


def conflicts(
    question: str, stands: str, passages: Sequence[Passage], weigh: Weigh | None = None
) -> tuple[Pointer, ...]:
    """Where other documents surely answer with other numbers of the same kind; empty where none do.

    The place of the answer that stands comes first. What is not in force contradicts nothing.
    """
    sure = [e for e in extracts(question, passages, stands, weigh) if e.sure >= SURE]
    own = next((e for e in sure if agree(stands, e.text)), None)
    if own is None or not (kind := _kind(own.text)):
        return ()
    found, told = [own], {passages[own.number - 1].document_id}
    for other in sure:
        passage = passages[other.number - 1]
        if passage.version or passage.document_id in told or _kind(other.text) != kind:
            continue
        told.add(passage.document_id)  # its surest place decides
        if _plain(other.text) != _plain(own.text):
            found.append(other)
    return tuple(_pointer(e, passages) for e in found) if len(found) > 1 else ()


def agree(said: str, read: str) -> bool:
    """Whether one is the other, or a part of it; ways of writing numbers aside."""
    one, other = _plain(said), _plain(read)
    shorter, longer = sorted((one, other), key=len)
    return bool(shorter) and shorter in longer


def tidy(text: str) -> str:
    """Without the particle and the half of a pair of brackets at its ends, which belonged to the sentence."""
    text = text.strip()
    while text and (bare := _bare(text)) != text:
        text = bare.strip()
    return text


def _bare(text: str) -> str:
    last = text[-1]
    if last in _OPENING or (last in _PAIRS and text.count(last) > text.count(_PAIRS[last])):
        return text[:-1]
    first = text[0]
    if first in _PAIRS or (first in _OPENING and _unclosed(text)):
        return text[1:]
    if first in "（(" and _PAIRS.get(last) == first and text.count(first) == 1:
        return text[1:-1]
    return _PARTICLE.sub("", text)


def _unclosed(text: str) -> bool:
    first = text[0]
    return text.count(first) > sum(text.count(c) for c, o in _PAIRS.items() if o == first)


def _weighed(found: list[Extract], weigh: Weigh | None) -> list[Extract]:
    """The first of them believed more, the likelier the language model holds it against a refusal.

    It is asked only where that may decide, for it takes its time.
    """
    told: Sequence[float] = ()
    first = [e for e in found if len(str(e)) <= ANSWER_CHARS][:WEIGHED]
    if weigh and first and DOUBT[0] <= found[0].sure < DOUBT[1]:
        told = weigh([prompt.REFUSAL, *map(str, first)])
    if not told:
        return [replace(e, sure=e.sure - UNWEIGHED) for e in found]
    refusal, *values = told
    likely = [
        replace(e, sure=e.sure + LIKELY * (max(value, UNLIKELY) - refusal))
        for e, value in zip(first, values, strict=True)
    ]
    rest = [replace(e, sure=e.sure - UNWEIGHED) for e in found if e not in first]
    return sorted(likely, key=lambda e: -e.sure) + rest


def _every(passages: Sequence[Passage], said: str) -> Iterator[Extract]:
    for number, passage in enumerate(passages, 1):
        read = evidence.logit(passage.relevance or 0.0)
        for words in passage.words:
            if passage.start <= words.start and words.end <= passage.end:
                text = tidy(passage.text[words.start - passage.start : words.end - passage.start])
                sure = read + words.score + AGREES * agree(said, text)
                if text:
                    yield Extract(number, text, sure, words)


def _pointer(found: Extract, passages: Sequence[Passage]) -> Pointer:
    passage = passages[found.number - 1]
    first, last = found.words.start - passage.start, found.words.end - passage.start
    held = [(a, b) for a, b in split.sentences(passage.text) if a < last and b > first]
    start = max(held[0][0], first - QUOTED)
    end = max(last, min(held[-1][1], start + QUOTED))
    shown = passage.text[start:end]
    start += len(shown) - len(shown.lstrip())
    end = start + len(shown.strip())
    span = Span(passage.start + start, passage.start + end)
    return Pointer(found.number, passage, span, Span(found.words.start, found.words.end))


def _kind(text: str) -> str:
    """What its numbers count: 「10,000円」 and 「8千円」 give "#円"; empty without a number."""
    kind, numbers = _NUMBER.subn("#", _plain(text))
    return kind if numbers else ""


def _plain(text: str) -> str:
    bare = _SILENT.sub("", numerals.normalize(_MARKERS.sub("", text)).text)
    return _COPULA.sub("", bare)
