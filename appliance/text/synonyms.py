"""A company's own words: expressions that mean the same, put beside the one that was asked with.

「就規」 is asked for and 「就業規則」 stands in the documents. The question is widened, never the
documents: nothing has to be indexed or embedded again when an expression is added. What is in the
list is a word, also where no dictionary has it, and also alone: it is looked for as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from appliance.text.normalize import fold, normalize

Groups = Sequence[Sequence[str]]  # in each, what means the same; one alone is just a word

GROUPS, EXPRESSIONS, CHARS = 5000, 20, 100
ADDED = 8  # expressions put into one question


def expand(question: str, groups: Groups) -> str:
    """The question, with what means the same in brackets after its first mention.

    The longest expression counts where several begin at one place; what the question
    says already is not added.
    """
    said = normalize(question)
    found = sorted(_mentions(said.text, groups), key=lambda m: (m[0], -m[1]))
    out, at, end, left = list[str](), 0, 0, ADDED
    known = {said.text}
    for start, stop, group in found:
        if start < end or left <= 0:
            continue
        others = [e for e in group if not any(fold(e) in text for text in known)][:left]
        if not others:
            continue
        place = said.span(start, stop)[1]
        out += [question[at:place], f"（{'、'.join(others)}）"]
        at, end, left = place, stop, left - len(others)
        known |= {fold(e) for e in others}
    return "".join([*out, question[at:]])


def own(question: str, groups: Groups) -> tuple[str, ...]:
    """The company's words that a question says, folded; the longest where several overlap."""
    text = fold(question)
    said = {text[start:stop] for start, stop, _ in _mentions(text, groups)}
    return tuple(sorted(w for w in said if not any(w != other and w in other for other in said)))


def problem(groups: Groups) -> tuple[int, str] | None:
    """The first group that cannot be kept, counted from 1, and why; None where all can."""
    if len(groups) > GROUPS:
        return GROUPS + 1, f"登録できるのは{GROUPS}組までです。"
    for number, group in enumerate(groups, 1):
        folded = [fold(e).strip() for e in group]
        if not group:
            return number, "言葉を書いてください。"
        if len(group) > EXPRESSIONS:
            return number, f"一組に書けるのは{EXPRESSIONS}個までです。"
        if not all(folded) or any(len(e) > CHARS for e in group):
            return number, f"言葉は1文字以上、{CHARS}文字以下にしてください。"
        if len(set(folded)) < len(folded):
            return (
                number,
                "同じ言葉が2度書かれています（全角・半角、大文字・小文字は区別しません）。",
            )
    return None


def _mentions(text: str, groups: Groups) -> Iterator[tuple[int, int, Sequence[str]]]:
    for group in groups:
        for expression in group:
            wanted = _folded(expression)
            start = _find(text, wanted) if wanted else -1
            if start >= 0:
                yield start, start + len(wanted), group


@lru_cache(GROUPS * EXPRESSIONS)  # of 20,000 expressions it took a tenth of a second a question
def _folded(expression: str) -> str:
    return fold(expression).strip()


def _find(text: str, wanted: str) -> int:
    """Where the words stand by themselves: 「PO」 is not in 「POS」."""
    start = text.find(wanted)
    while start >= 0:
        before, after = text[start - 1 : start], text[start + len(wanted) :][:1]
        if not (_joined(before, wanted[0]) or _joined(wanted[-1], after)):
            return start
        start = text.find(wanted, start + 1)
    return -1


def _joined(one: str, other: str) -> bool:
    return bool(one and other) and all(c.isascii() and c.isalnum() for c in (one, other))
