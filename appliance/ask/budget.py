"""What of the passages fits into the prompt: whole sentences around what was found.

A shortened passage is still a passage: its text is exactly the document's [start, end).

What a prompt begins with like the one before it, the model need not read again. So a follow-up
begins with the passages of the turn before, in their order and cut as they were, for as long as
they are among what was found now and show what was found in them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from math import floor

from appliance.ask import prompt
from appliance.errors import PromptTooLong
from appliance.ports import Generator
from appliance.settings import Settings
from appliance.text import segment, split
from appliance.types import Passage, Span

_SPARE_TOKENS = 16  # what a server adds around the prompt
_SMALLEST_CHARS = 80  # a shorter window says nothing
_TRIES = 6
_FIRST_SHARE = 1.5  # the best passage may take more than the others
_PAUSE = re.compile(r"[、，,;；:：|\s]")
_JOINERS = "\u200d\ufe0e\ufe0f"


def fit(
    question: str,
    passages: Sequence[Passage],
    generator: Generator,
    settings: Settings,
    before: Sequence[Passage] = (),
) -> list[Passage]:
    """The passages, best first, cut so that the prompt fits. Some may be left out at the end.

    Those that `before` begins with, the passages of the turn before, come first. Passages take
    at most `settings.prompt_tokens`; prompt and answer together no more than the generator
    reads. Raises PromptTooLong if the question alone is too long.
    """
    bare = generator.count_tokens(prompt.build(question, ()).plain()) + _SPARE_TOKENS
    room = generator.context_tokens - settings.answer_tokens
    if bare + _SMALLEST_CHARS > room:
        raise PromptTooLong(bare, room)
    most = min(settings.prompt_tokens, room - bare)
    shown = _within(most, question, passages, generator)
    again = _again(before, shown)
    while again:
        tokens = _tokens([old for old, _ in again], generator)
        if tokens <= most * min(1.0, _FIRST_SHARE * len(again) / len(shown)):
            break
        again.pop()  # or little would be left for the others
    if not again:
        return shown
    known = [new.chunk_id for _, new in again]
    rest = [p for p in passages if p.chunk_id not in known]
    begun = [replace(old, hit=new.hit, score=new.score) for old, new in again]
    return begun + _within(most - tokens, question, rest, generator)


def _again(before: Sequence[Passage], shown: Sequence[Passage]) -> list[tuple[Passage, Passage]]:
    """What `before` begins with and is shown again: the old cut, and the new one."""
    found, rest = list[tuple[Passage, Passage]](), list(shown)
    for old in before:
        new = next((p for p in rest if _shows(old, p)), None)
        if new is None:
            break
        rest.remove(new)
        found.append((old, new))
    return found


def _shows(old: Passage, new: Passage) -> bool:
    """Whether the old cut shows what the new one shows of what was found."""
    hit = new.hit or Span(new.start, new.end)
    start, end = max(hit.start, new.start), min(hit.end, new.end)
    return (
        old.document_id == new.document_id
        and old.start <= start < end <= old.end
        and old.text[start - old.start : end - old.start]
        == new.text[start - new.start : end - new.start]
    )


def _within(
    most: int, question: str, passages: Sequence[Passage], generator: Generator
) -> list[Passage]:
    tokens = _tokens(passages, generator)
    if tokens <= most:
        return list(passages)
    kept = list(passages)
    while kept:
        frame = _tokens([replace(p, text="") for p in kept], generator)
        chars = sum(len(p.text) for p in kept)
        for _ in range(_TRIES):
            chars = floor(chars * max(0, most - frame) / max(1, tokens - frame) * 0.97)
            if chars < _SMALLEST_CHARS * len(kept):
                break
            shown = _windows(question, kept, chars)
            tokens = _tokens(shown, generator)
            if tokens <= most:
                return shown
        kept = kept[:-1]  # what is left for each would say nothing
        tokens = _tokens(kept, generator)
        if tokens <= most:
            return kept
    return []


def _tokens(passages: Sequence[Passage], generator: Generator) -> int:
    blocks = [prompt.block(n, prompt.titled(p), p.label, p.text) for n, p in enumerate(passages, 1)]
    return generator.count_tokens("\n\n".join(blocks)) + len(blocks) if blocks else 0


def _windows(question: str, passages: Sequence[Passage], chars: int) -> list[Passage]:
    """The passages within `chars` characters altogether; short ones leave room to others."""
    left, shown = chars, list[Passage]()
    wanted = set(segment.bigrams(question))
    shares = [_FIRST_SHARE, *[1.0] * (len(passages) - 1)]
    for n, passage in enumerate(passages):
        shown.append(window(passage, floor(left * shares[n] / sum(shares[n:])), wanted))
        left -= len(shown[-1].text)
    return shown


def window(passage: Passage, size: int, wanted: set[str]) -> Passage:
    """At most `size` characters of a passage: the sentences around the hit that tell most."""
    text = passage.text
    if len(text) <= size:
        return passage
    hit = passage.hit
    if passage.words:  # what a reader points at must stay
        hit = Span(passage.words[0].start, passage.words[0].end)
    near, far = (hit.start - passage.start, hit.end - passage.start) if hit else (0, len(text))
    sentences = split.sentences(text)
    best, found = (-1.0, 0), (0, 0)
    for n, (start, end) in enumerate(sentences):
        for _, further in sentences[n:]:
            if further - start > size:
                break
            end = further
        within = max(0, min(end, far) - max(start, near)) / max(1, far - near)
        told = len(wanted & set(segment.bigrams(text[start:end]))) / max(1, len(wanted))
        # whoever asked of the hit; ties go to the window that shows more
        score = (within + told, min(end - start, size))
        if score > best:
            best, found = score, (start, end)
    return _cut(passage, *found, size)


def _cut(passage: Passage, start: int, end: int, size: int) -> Passage:
    text = passage.text
    if end - start > size:  # one sentence, or a row of a table, longer than all there is
        end = start + size
        pauses = [m.end() for m in _PAUSE.finditer(text, start + size // 2, end)]
        end = pauses[-1] if pauses else end
        while end > start and end < len(text) and _joined(text[end]):
            end -= 1
    body = text[start:end]
    start += len(body) - len(body.lstrip())
    end = start + len(body.strip())
    at = passage.start
    return replace(passage, text=text[start:end], start=at + start, end=at + end)


def _joined(char: str) -> bool:
    """Whether a character belongs to the one before it."""
    return (
        bool(unicodedata.combining(char))
        or char in _JOINERS
        or "\U000e0100" <= char <= "\U000e01ef"
    )
