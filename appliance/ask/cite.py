"""Citations: the markers of an answer, each checked against its passage.

A claim is the sentence, or the part of one, that a marker follows. It is supported when its
numbers, part numbers and names stand in the passage and so do its words; the span is where.
Nothing here asks a model, so what a document says cannot talk its way through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from appliance.text import numerals, segment, split
from appliance.text.normalize import Normalized, fold
from appliance.types import Citation, Passage, Span, Statement

COVERED = 0.6  # of a claim's pairs of characters that must stand in the span
_WINDOW = 3  # sentences a span may have

_GROUP = re.compile(r"\s*[\[［]\s{0,2}(\d{1,3}(?:\s{0,2}[,、，]\s{0,2}\d{1,3}){0,7})\s{0,2}[\]］]")
_OURS = re.compile(r"\[(\d+)\]")
_HEADING = re.compile(r"\s*#{1,6}\s")
_OPENING = re.compile(r"\s*(?:\[\d+\])+[。．.]*")  # of a sentence: it belongs to the one before
_FRAME = frozenset(
    [
        "以下",
        "次",
        "通り",
        "資料",
        "下記",
        "回答",
        "答え",
        "上記",
        "為る",
        "有る",
        "成る",
        "居る",
        "御",
        "様",
        "事",
        "物",
        "又",
    ]
)
_ENDING = re.compile(
    r"(?:(?:の|こと|もの)?(?:です|でした|である|であった|だった|だ|となります|となっています|となる|とする|になります)"
    r"|[。．.、，,！？!?\s])+$"
)
_QUOTES = re.compile(r"^[「『“\"（(\s・]+|[」』”\"）)\s]+$")
_FACT = re.compile(r"(?=[a-z0-9-]*\d)[a-z][a-z0-9]*(?:-[a-z0-9]+)*|\d+(?:\.\d+)?[a-z]*")
_UNIT_GAP = re.compile(r"(?<=\d)\s+(?=[a-z])")
_SILENT = re.compile(r"[\s、。，．,.・「」『』（）()\[\]〔〕:;!?…~'\"-]+")
_KANA = re.compile(r"^[ぁ-ゖー]+$")
_OUGHT = re.compile(
    r"(?:なけれ|なくて|ねば|ない)?(?:ば|は|と)?(?:なら|いけ)(?:ない|ません)|かもしれ(?:ない|ません)|に過ぎない"
)
_NOT = re.compile(r"ない|ません|なく|ず(?:に|、|。|$)")
_STEM = re.compile(r"[一-龠々ァ-ヺー]{2,}")
_NOT_AFTER = re.compile(
    r"[はがをもに]?(?:し|され|さ|でき|出来|いた|致|行わ|行え|認め|認めら|得|対象と|必要と)?(?:れ|られ|し|は)?(?:ない|ません|ず(?!つ))"
)


# the end of a text that may still become a marker: at most 64 characters from the bracket
UNFINISHED = r"[\[［][\d\s,、，]{0,64}"


@dataclass(frozen=True, slots=True)
class Cited:
    """An answer's text with every marker as `[n]`, and what the markers are worth."""

    text: str
    citations: tuple[Citation, ...]
    dangling: int
    statements: tuple[Statement, ...] = ()


def clean(text: str, count: int) -> tuple[str, int]:
    """Markers as `[1][2]`; those that name none of `count` passages taken out, and how many."""
    dangling = 0

    def tidy(match: re.Match[str]) -> str:
        nonlocal dangling
        numbers = [int(n) for n in re.findall(r"\d+", match.group(1))]
        good = list(dict.fromkeys(n for n in numbers if 1 <= n <= count))
        dangling += sum(not 1 <= n <= count for n in numbers)
        return "".join(f"[{n}]" for n in good)

    return _GROUP.sub(tidy, text), dangling


def cite(text: str, passages: Sequence[Passage]) -> Cited:
    """The answer's citations, one for each passage it names, in the order of the first marker.

    An answer without any marker gets one if it stands word for word in exactly one passage;
    the marker is added to the text. If its only marker names a passage that does not say so, while
    exactly one other does word for word, the marker names that one: small models copy well and
    count badly. A citation is supported if every claim it follows is.
    """
    text, dangling = clean(text, len(passages))
    text = _recounted(text, passages)
    claims: dict[int, list[str]] = {}
    for claim, numbers in _claims(text):
        for n in numbers:
            claims.setdefault(n, []).append(claim)
    if not claims and (n := _only_source(text, passages)):
        text, claims = f"{text}[{n}]", {n: [text]}
    citations = tuple(_citation(n, passages[n - 1], said) for n, said in claims.items())
    return Cited(text, citations, dangling, tuple(statements(text, passages)))


def statements(text: str, passages: Sequence[Passage]) -> Iterator[Statement]:
    """Each sentence that states something, held against what it cites. A heading states its numbers and names."""
    for start, end in _with_markers(text):
        said = text[start:end]
        numbers = [int(n) for n in _OURS.findall(said)]
        whole = _OURS.sub("", said)
        if not numbers and not _content(whole):
            continue
        sources = [passages[n - 1] for n in dict.fromkeys(numbers)] or list(passages)
        supported = any(check(whole, p)[1] for p in sources) or (
            bool(numbers) and _in_parts(said, passages)
        )
        doubts = [] if supported else list(_doubts(said, start, sources))
        if _HEADING.match(said) and not supported and not doubts:
            continue  # it names what follows
        yield Statement(start, end, supported, tuple(sorted(doubts, key=lambda d: d.start)))


def check(claim: str, passage: Passage) -> tuple[Span | None, bool]:
    """Where the passage says so, in offsets of the document, and whether it does."""
    source = numerals.normalize(passage.text)
    wanted = _bare(claim)
    if not wanted:
        return None, False
    if (found := _literal(wanted, source.text)) is not None:
        supported = not _denied(wanted, source.text, *found)
        return _span(passage, source, *found), supported
    place = numerals.normalize(f"{passage.title}\n{passage.label}").text
    start, end, covered = _best_window(wanted, source.text, place)
    if start == end:
        return None, False
    window = source.text[start:end]
    supported = (
        _facts(wanted) <= _holding(window) | _holding(place)
        and covered >= COVERED
        and not _contradicts(wanted, window)
        and not _strange(claim, passage)
    )
    # what shares next to nothing is not worth showing
    return (_span(passage, source, start, end) if covered >= COVERED / 2 else None), supported


def _citation(number: int, passage: Passage, claims: Sequence[str]) -> Citation:
    checks = [check(claim, passage) for claim in claims]
    span = next((found for found, supported in checks if supported), checks[0][0])
    quote = passage.text[span.start - passage.start : span.end - passage.start] if span else ""
    return Citation(number, passage, span, quote, all(supported for _, supported in checks))


def _claims(text: str) -> Iterator[tuple[str, list[int]]]:
    """Each claim with the numbers of the markers that follow it."""
    pieces = re.split(r"((?:\[\d+\])+)", text)
    for n in range(1, len(pieces), 2):
        before = _sentences(pieces[n - 1])
        # a marker that opens the answer speaks of what follows
        after = _sentences(pieces[n + 1]) if not before and n == 1 else []
        claim = before[-1] if before else after[0] if after else ""
        yield claim, [int(m) for m in _OURS.findall(pieces[n])]


def _sentences(text: str) -> list[str]:
    found = (text[a:b].strip() for a, b in split.sentences(text))
    return [s for s in found if _SILENT.sub("", s)]


def _with_markers(text: str) -> list[tuple[int, int]]:
    """[start, end) of each sentence, with the markers that follow its full stop."""
    found: list[tuple[int, int]] = []
    for start, end in split.sentences(text):
        if found and (opening := _OPENING.match(text, start, end)):
            found[-1] = (found[-1][0], opening.end())
            start = opening.end()
        start, end = _trim_at(text, start, end)
        if _SILENT.sub("", text[start:end]):
            found.append((start, end))
    return found


def _trim_at(text: str, start: int, end: int) -> tuple[int, int]:
    a, b = _trim(text, start, end)
    return a, max(a, b)


def _in_parts(said: str, passages: Sequence[Passage]) -> bool:
    """Whether each part is supported by a passage it cites, and nothing follows the last one."""
    parts = list(_claims(said))
    rest = re.split(r"(?:\[\d+\])+", said)[-1]
    return not _content(rest) and all(
        any(check(claim, passages[n - 1])[1] for n in numbers) for claim, numbers in parts
    )


def _content(text: str) -> bool:
    """Whether it says anything that a source could confirm."""
    said = _bare(text)
    return bool(_facts(said)) or bool(set(segment.words(said)) - _FRAME)


def _doubts(said: str, start: int, sources: Sequence[Passage]) -> Iterator[Span]:
    """The numbers, part numbers and names that no source has; offsets `start` further."""
    shown = numerals.normalize(_OURS.sub(lambda m: " " * len(m.group()), said))
    held: set[str] = set()
    for p in sources:
        held |= _holding(numerals.normalize(p.text).text)
    for fact in _FACT.finditer(shown.text):
        if fact.group().replace("-", "") not in held:
            a, b = shown.span(*fact.span())
            yield Span(start + a, start + b)
    unknown = [set(_strange(said, p)) for p in sources]
    for a, b in sorted(set.intersection(*unknown)) if unknown else ():
        yield Span(start + a, start + b)


def _strange(claim: str, passage: Passage) -> list[tuple[int, int]]:
    """[start, end) of the claim's proper nouns that neither the passage nor its title has."""
    there = fold(f"{passage.title}\n{passage.label}\n{passage.text}")
    return [(a, b) for a, b in segment.names(claim) if fold(claim[a:b]) not in there]


def _recounted(text: str, passages: Sequence[Passage]) -> str:
    markers = list(_OURS.finditer(text))
    if len(markers) != 1 or text[markers[0].end() :].strip(" 。．.\n"):
        return text
    claim, named = text[: markers[0].start()], int(markers[0].group(1))
    if check(claim, passages[named - 1])[1] or not (n := _only_source(claim, passages)):
        return text
    return f"{claim}[{n}]{text[markers[0].end() :]}"


def _only_source(text: str, passages: Sequence[Passage]) -> int:
    wanted = _bare(text)
    if len(wanted) < 2:
        return 0
    holding = [
        n
        for n, passage in enumerate(passages, 1)
        if _literal(wanted, numerals.normalize(passage.text).text) is not None
        and check(text, passage)[1]
    ]
    return holding[0] if len(holding) == 1 else 0


def _bare(claim: str) -> str:
    """What a claim says, without quotation marks, full stop and copula."""
    text = numerals.normalize(_OURS.sub("", claim)).text
    return _QUOTES.sub("", _ENDING.sub("", _QUOTES.sub("", text)))


def _literal(wanted: str, text: str) -> tuple[int, int] | None:
    """[start, end) of the words where they stand, blanks aside; never inside a longer number."""
    letters = [c for c in wanted if not c.isspace()]
    pattern = r"\s*".join(map(re.escape, letters))
    if letters[0].isascii() and letters[0].isalnum():
        pattern = r"(?<![a-z0-9])(?<![0-9][.,-])" + pattern
    if letters[-1].isascii() and letters[-1].isalnum():
        pattern += r"(?![a-z0-9])(?![.,-][0-9])"
    match = re.search(pattern, text)
    return match.span() if match else None


def _best_window(wanted: str, text: str, place: str) -> tuple[int, int, float]:
    """The fewest sentences that hold most of what is wanted: facts first, then words.

    What the place says already, the title of the document, need not be said again.
    """
    pairs = _pairs(wanted) - _pairs(place) or _pairs(wanted)
    facts = _facts(wanted) - _holding(place) or _facts(wanted)
    borders = split.sentences(text)
    best, found = (-1.0, -1.0), (0, 0, 0.0)
    for size in range(1, _WINDOW + 1):
        for first in range(len(borders) - size + 1):
            start, end = borders[first][0], borders[first + size - 1][1]
            window = text[start:end]
            covered = len(pairs & _pairs(window)) / len(pairs) if pairs else 0.0
            held = len(facts & _holding(window)) / len(facts) if facts else 1.0
            score = (held, covered - 0.1 * (size - 1))  # a longer quote must earn its length
            if score > best:
                best, found = score, (*_trim(text, start, end), covered)
    return found


def _facts(text: str) -> set[str]:
    """Numbers with their units, and part numbers without their hyphens."""
    return {fact.replace("-", "") for fact in _FACT.findall(_UNIT_GAP.sub("", text))}


def _holding(text: str) -> set[str]:
    """The facts a text can vouch for: 「KP-2200-A」 speaks of KP-2200 too."""
    found: set[str] = set()
    for fact in _FACT.findall(_UNIT_GAP.sub("", text)):
        parts = fact.split("-")
        found |= {"".join(parts[:n]) for n in range(1, len(parts) + 1)} | {*parts}
    return found


def _pairs(text: str) -> set[str]:
    """Neighbouring characters that carry meaning: not both hiragana, unless all are."""
    every = {a + b for run in _SILENT.split(text) for a, b in pairwise(run)}
    telling = {pair for pair in every if not _KANA.match(pair)}
    return telling or every


def _contradicts(claim: str, window: str) -> bool:
    """One says that something is not so, and the other does not."""
    denies = bool(_NOT.search(_OUGHT.sub("", claim)))
    if denies:
        return not _NOT.search(_OUGHT.sub("", window))
    stems = _STEM.findall(claim)
    return bool(stems) and _only_denied(stems[-1], window)


def _denied(wanted: str, text: str, start: int, end: int) -> bool:
    """The words stand there, and the sentence goes on to say that it is not so."""
    stems = _STEM.findall(wanted)
    if not stems or not wanted.endswith(stems[-1]) or len(wanted) == len(stems[-1]):
        return False  # a bare name or a value claims nothing that could be denied
    return bool(_NOT_AFTER.match(text[end:]))


def _only_denied(stem: str, window: str) -> bool:
    places = [m.end() for m in re.finditer(re.escape(stem), window)]
    return bool(places) and all(_NOT_AFTER.match(window[place:]) for place in places)


def _span(passage: Passage, source: Normalized, start: int, end: int) -> Span:
    a, b = source.span(start, end)
    return Span(passage.start + a, passage.start + b)


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    body = text[start:end]
    return start + len(body) - len(body.lstrip()), start + len(body.rstrip())
