"""The words that a reader points at, as an answer.

A small model copies well and chooses badly; a reader that learned to point chooses better, and
what it points at stands in the source by construction. So a small model's answer stands where it
holds what the reader points at, else the reader's words do, and where the reader is not sure nothing
is said: then the places that come nearest are shown as they stand. Where another document answers with another
number, both are shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.ask import cells, wanted
from appliance.search import evidence
from appliance.text import articles, dates, english, grids, numerals, places, segment, split
from appliance.types import Passage, Pointer, Span, Words

# Log-odds of passage and words together, more where the model says so too. SURE is believed; so is what is
# LIKELY, if nothing that says something else comes within CLEAR of it. Fitted by `tests/quality/reading.py` for
# kura-reader-v6 and kura-answer-v3, on colleagues' questions about papers that no training saw (228 answered,
# 225 not), and on JaQuAD dev (150 and 150): of the unanswered .91 and .79 are refused, of the others .72 and .71
# are answered rightly, .10 and .18 wrongly.
AGREES = 3.0
SURE, LIKELY, CLEAR = 12.0, 8.0, 3.0
# Log-odds from which another document contradicts: surer, for the model says something else.
ALONE = 10.5
# What a reader that learned from Japanese lacks for a question in English on it; places it orders as well. Chosen on
# 90 questions on Japanese papers that no training saw; of 90 others 17 are answered rightly so (6 without), none
# wrongly, for 23 more the answer is near (9), and of 40 that nothing answers 38 are refused (40).
IN_ENGLISH = 8.0
# Below it a place is not worth showing. Of 69 questions of colleagues that were answered nowhere though a paper that
# no training saw does, the answer is among the places above for 40; of 164 that nothing answers 31 show any. With
# one place of a passage and none below 0 these are 33 and 20.
NEAR = -2.0
MOST_NEAR, OF_ONE = 3, 2
QUOTED = 160  # characters of a sentence that are shown
ARTICLE = 400  # characters of an article that is asked for; the citation opens the rest

_NUMBERED = re.compile(
    r"^[#\s]*(?:第[0-9０-９一二三四五六七八九十百]+[章節条編款](?:の[0-9０-９一二三四五六七八九]+)?"
    r"|[(（]?[0-9０-９]+(?:[.．\-－][0-9０-９]+)*[.．)）、]?(?=\s)|[■□●◆◇○▼▽・])"
)
_AROUND = "（）()【】 \t\u3000\n"  # a heading
_EITHER = re.compile(r"[・、,]|および|及び|または|又は")  # of two things
_ALL_OF_IT = re.compile(r"種類|手続|手順|方法|条件|内容|流れ|仕方|やり方")
_MARKERS = re.compile(r"\[\d+\]")
_MARKED = re.compile(r"(?:\s*\[\d+\])+\s*$")
_SILENT = re.compile(r"[\s、。，．,.「」『』（）()]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# What words of a sentence drag along where they stand alone: 「1912年に」, 「サイベリア」（.
_PARTICLE = re.compile(r"(?<=[\w%℃」』)）])(?<![ぁ-ん])(?:[にでと]は|[にのをはがで])$")
_PAIRS = dict(zip("」』）)】〉》", "「『（(【〈《", strict=True))
_BULLET = re.compile(r"^(?:[・●○■□◆▼▽*-]|[(（]?[0-9０-９]{1,2}[)）.．、]?(?=[ \u3000]))[ \u3000]*")
_ASKED = re.compile(
    r"^(?:Q|Ｑ|問)[ \u3000]?[0-9０-９]*[.．:：、)）]|(?:す|せん|した|しょう|[るたの]|[よい]い|ない)か[。．]?$|[？?]$"
)
_REASON = re.compile(r"(?:ため|から|ので)(?:です|である|だ)?[。．]?\s*$")
_OPENING = frozenset(_PAIRS.values())
_COPULA = re.compile(r"(?:です|である|だ|となる|となります|とする)$")


@dataclass(frozen=True, slots=True)
class Extract:
    number: int  # of the passage, from 1
    text: str
    sure: float  # log-odds
    words: Words

    def __str__(self) -> str:
        return f"{self.text}[{self.number}]"


def extracts(question: str, passages: Sequence[Passage], said: str = "") -> list[Extract]:
    """What the reader points at in the passages as they are shown, the surest first.

    What has not the form that the question asks for is none of it.
    """
    foreign = english.is_asked_in(question)
    every = (e for e in _every(passages, said, foreign) if wanted.fits(question, e.text))
    return sorted(every, key=lambda e: -e.sure)


def of_another_year(question: str, passage: Passage) -> bool:
    """Whether a year is asked for, and the passage speaks of others alone.

    Of 3,264 questions of JaQuAD's training part that name a year this is so of .01 of the paragraphs that
    answer, and of .65 of others of their article; of 455 and 282 of colleagues, of .03 and .60.
    """
    asked, terms = dates.years(question)
    if not asked:
        return False
    told, told_terms = dates.years(
        f"{passage.title}\n{passage.about}\n{passage.label}\n{passage.text}"
    )
    if terms and told_terms:
        return not terms & told_terms
    return bool(told) and not asked & told


def _answers(question: str, passages: Sequence[Passage], said: str) -> list[Extract]:
    """The extracts that may answer: of another year's paper they may not, near as they are.

    Where an article is named and shown, no other answers.
    """
    named = articles.named(question)
    meant = {n for n, p in enumerate(passages, 1) if named & articles.named(p.label)}
    other = {
        n
        for n, p in enumerate(passages, 1)
        if of_another_year(question, p) or (meant and n not in meant)
    }
    return [e for e in extracts(question, passages, said) if e.number not in other]


def believed(found: Sequence[Extract]) -> bool:
    """Whether the first of some extracts, the surest first, may stand."""
    if not found or found[0].sure < LIKELY:
        return False
    return found[0].sure >= SURE or _ahead(found) >= CLEAR


def _ahead(found: Sequence[Extract]) -> float:
    """How far the surest is ahead of what says something else."""
    first, *rest = found
    return first.sure - next((e.sure for e in rest if not agree(e.text, first.text)), -math.inf)


def _together(found: Sequence[Extract], passages: Sequence[Passage]) -> bool:
    """Whether the surest is likely, and all that comes near it stands in its own sentence: then that answers.

    「第2会議室（工事中の階が5階のときは第3会議室）」. Of 450 questions of colleagues on papers that no training saw, 6
    that nothing was said to: the sentence answers 5 of them, and one is answered nowhere.
    """
    if not found or found[0].sure < LIKELY:
        return False
    first, *rest = found
    pointer = _pointer(first, passages)
    place = pointer.span
    if grids.BAR in pointer.quote:  # two cells of a row are of two columns
        return False
    near = (e for e in rest if first.sure - e.sure < CLEAR and not agree(e.text, first.text))
    return all(e.number == first.number and _pointer(e, passages).span == place for e in near)


def settle(question: str, said: str, passages: Sequence[Passage]) -> str:
    """The answer that stands: what was said, if it holds what was read; else that; or nothing.

    A small model leaves out what it should not: "8" of 「8,000円まで」. Whoever asks whether something is so
    is given the sentence: 「認める」 alone does not say what is allowed to whom. So is everybody where two places in
    one sentence come as near.
    """
    found = _answers(question, passages, said)
    sure = believed(found)
    if not sure and not _together(found, passages):
        return ""
    if not sure or wanted.yes_or_no(question):
        return f"{_sentence(found[0], passages)}[{found[0].number}]"
    read = plain(found[0].text)
    if not read or read not in plain(said):
        return str(found[0])
    markers = _MARKED.search(said)
    words = said[: markers.start()] if markers else said
    return tidy(words) + said[len(words) :]


def asked_whole(question: str, passage: Passage) -> bool:
    """Whether the passage is of the article that is asked for as it stands, and of that document.

    Most nouns before it must stand in the document's title: 「旅費規程」 has an article of that number too.
    """
    if not (asked := articles.asked_whole(question)) or asked not in articles.named(passage.label):
        return False
    nouns, title = segment.nouns(articles.before(question)), set(segment.nouns(passage.title))
    return not nouns or sum(n in title for n in nouns) > len(nouns) / 2


def section(question: str, passages: Sequence[Passage]) -> Passage | None:
    """The one whose heading is what is asked for, unless one place in it is what answers.

    「日当はいくら」 has as many answers as the table below 「日当」 has lines, and 「懲戒の種類は」 wants all of them. What
    else the question says must stand in the document's title, or in what it says it is about.
    """
    asked = _words(wanted.HOW_MANY.sub("", question))
    for number, passage in enumerate(passages, 1):
        if _is_headed(passage, asked) and not of_another_year(question, passage):
            found = _answers(question, passages, "")
            one = believed(found) and _ahead(found) >= CLEAR and found[0].number == number
            return None if one and not _ALL_OF_IT.search(question) else passage
    return None


def _is_headed(passage: Passage, asked: set[str]) -> bool:
    """Whether its heading, or one of two things in it, is all that is asked for, its document aside.

    A heading that is a question asks for something else: 「名刺はいつもらえますか」 is no answer to 「名刺は」.
    """
    about = _words(f"{passage.title}\n{passage.about}")
    name = heading(passage)[0]
    named = map(_words, _EITHER.split(name))
    return not _ASKED.search(name) and any(
        own and own <= asked and asked - cells.ATTRIBUTES <= about | own for own in named
    )


def _words(text: str) -> set[str]:
    return set(segment.words(text)) - evidence.ASKING


def heading(passage: Passage) -> tuple[str, int]:
    """Its own heading without the number, and where in the text its line begins; ("", 0) without one."""
    name = _NUMBERED.sub("", passage.label.rsplit(places.SEPARATOR, 1)[-1]).strip(_AROUND)
    at = 0
    for line in passage.text.splitlines(keepends=True) if name else ():
        said = _NUMBERED.sub("", line).strip(_AROUND)
        if said == name or (said.startswith(name) and said[len(name)] in _AROUND):
            return name, at
        at += len(line)
    return "", 0


def beginning(passage: Passage, *, goes_on: bool = False) -> tuple[str, Span]:
    """As much of a whole article or section as is shown, cited as the first passage, and where that stands.

    Its citation opens the rest. The text is empty where there is none.
    """
    text = passage.text
    ends = [end for _, end in split.sentences(text)]
    end = max((e for e in ends if e <= ARTICLE), default=min(ends, default=0))
    shown = text[:end].strip()
    start = passage.start + end - len(text[:end].lstrip())
    rest = "…" if goes_on or end < max(ends, default=0) else ""
    return (f"{shown}{rest}[1]" if shown else ""), Span(start, start + len(shown))


def near(question: str, passages: Sequence[Passage]) -> tuple[Pointer, ...]:
    """The surest places, no two in one sentence and few in one passage: worth a look, and no more."""
    told: list[Pointer] = []
    for one in extracts(question, passages):
        if one.sure < NEAR or len(told) == MOST_NEAR:
            break
        place = _pointer(one, passages)
        beside = [p for p in told if p.number == one.number]
        if len(beside) < OF_ONE and all(p.span != place.span for p in beside):
            told.append(place)
    return tuple(told)


def conflicts(question: str, stands: str, passages: Sequence[Passage]) -> tuple[Pointer, ...]:
    """Where other documents surely answer with other numbers of the same kind; empty where none do.

    The place of the answer that stands comes first. What is not in force contradicts nothing.
    """
    sure = [e for e in _answers(question, passages, stands) if e.sure >= ALONE]
    own = next((e for e in sure if agree(stands, e.text)), None)
    if own is None or not (kind := _kind(own.text)):
        return ()
    found, told = [own], {passages[own.number - 1].document_id}
    for other in sure:
        passage = passages[other.number - 1]
        if passage.version or passage.document_id in told or _kind(other.text) != kind:
            continue
        told.add(passage.document_id)  # its surest place decides
        if plain(other.text) != plain(own.text):
            found.append(other)
    return tuple(_pointer(e, passages) for e in found) if len(found) > 1 else ()


def agree(said: str, read: str) -> bool:
    """Whether one is the other, or a part of it; ways of writing numbers aside."""
    one, other = plain(said), plain(read)
    shorter, longer = sorted((one, other), key=len)
    return bool(shorter) and shorter in longer


def tidy(text: str) -> str:
    """Without the particle, colon and half of a pair of brackets at its ends, which belonged to the sentence."""
    text = text.strip().lstrip(":：").lstrip()
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


def _every(passages: Sequence[Passage], said: str, foreign: bool) -> Iterator[Extract]:
    for number, passage in enumerate(passages, 1):
        read = evidence.logit(passage.relevance or 0.0)
        more = IN_ENGLISH if foreign and english.is_japanese(passage.text) else 0.0
        asked = list(_questions(passage))
        for words in passage.words:
            within = passage.start <= words.start and words.end <= passage.end
            if within and not any(a <= words.start < b for a, b in asked):
                text = tidy(passage.text[words.start - passage.start : words.end - passage.start])
                sure = read + words.score + AGREES * agree(said, text) + more
                if text:
                    yield Extract(number, text, sure, words)


def _questions(passage: Passage) -> Iterator[tuple[int, int]]:
    """[start, end) of what is asked there itself, as in lists of questions with their answers."""
    for start, end in split.sentences(passage.text):
        if _ASKED.search(passage.text[start:end].strip()):
            yield passage.start + start, passage.start + end


def _sentence(found: Extract, passages: Sequence[Passage]) -> str:
    """That holds the words, without the mark of a list before it; a reason, with what it is the reason of."""
    place = _pointer(found, passages)
    passage = place.passage
    start, end = place.span.start - passage.start, place.span.end - passage.start
    if _REASON.search(passage.text[start:end]):
        line = passage.text.rfind("\n", 0, start) + 1
        before = [a for a, b in split.sentences(passage.text) if line <= a < b <= start]
        start = before[-1] if before else start
    text = passage.text[start:end]
    return tidy(_BULLET.sub("", " ".join(text.split())))


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
    kind, numbers = _NUMBER.subn("#", plain(text))
    return kind if numbers else ""


def plain(text: str) -> str:
    """Bare of markers, signs and how numbers are written: two that are so the same say the same."""
    bare = _SILENT.sub("", numerals.normalize(_MARKERS.sub("", text)).text)
    return _COPULA.sub("", bare)
