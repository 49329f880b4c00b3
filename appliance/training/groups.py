"""What reader and retrieval adapter learn from: a question, the passage that answers it, others.

A group's passages are of about one length. The others are of the same article, alike in words, or
taken by chance; none of them holds the answer. The same dice give the same groups.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from appliance.training import casual, company, examples

COMPANY_SHARE = 0.3  # of the groups that are not `written`
WRITTEN_SHARE = 0.55
AMONG = 0.6  # of the papers that stand among parts of others, as chunks of a long document do
WHOLE_CHUNK = 260  # characters; longer ones cost too much of the training
CASUAL = 0.35  # of the questions that are put as people at work put them
SIZES = (100, 140, 180, 220, 260, 320, 400)  # characters of a group's passages
SIZE_WEIGHTS = (12, 20, 22, 18, 12, 9, 7)
_POLITE = re.compile(r"(?:は?(?:何|なん)?(?:でしょう|です)か|ですか)?[？?。]*$")


@dataclass(frozen=True, slots=True)
class Group:
    """`right` is the place of the passage that answers; -1 where none does."""

    question: str
    texts: tuple[str, ...]
    right: int
    answer: tuple[int, int] = (0, 0)  # [start, end) of that passage's text
    office: bool = False  # made-up papers, of which another's may answer as well


class Maker:
    """Groups of `passages` from a data set of paragraphs; of `unanswered` the right one is left out."""

    def __init__(
        self,
        paragraphs: Sequence[examples.Paragraph],
        passages: int,
        unanswered: float,
        written: Iterator[Group] | None = None,
        written_share: float = WRITTEN_SHARE,
    ) -> None:
        """`written`: groups without end that come among the others, as they are, so great a share of all."""
        self.paragraphs = paragraphs
        self._written, self._written_share = written, written_share
        self._passages, self._unanswered = passages, unanswered
        self._of: dict[str, list[examples.Paragraph]] = {}
        for p in paragraphs:
            self._of.setdefault(p.article, []).append(p)
        self._alike = examples.Alike([p.text for p in paragraphs])
        self._all = [(p, a) for p in paragraphs for a in p.asked if examples.askable(a, p)]

    def groups(self, dice: random.Random) -> Iterator[Group]:
        """Without end; every question once before any comes again."""
        while True:
            order = dice.sample(self._all, len(self._all))
            for p, asked in order:
                while self._written and dice.random() < self._written_share:
                    yield next(self._written)
                while dice.random() < COMPANY_SHARE:
                    yield from (loose(g, dice) for g in office(dice))
                yield loose(self.group(p, asked, dice), dice)

    def group(self, p: examples.Paragraph, asked: examples.Asked, dice: random.Random) -> Group:
        size = dice.choices(SIZES, SIZE_WEIGHTS)[0]
        answers = [examples.plain(a) for a in asked.answers]
        found = examples.window(p, asked, dice, size)
        others: list[str] = []
        for kind in dice.sample((0, 1, 1, 2), self._passages - 1):
            other = self._other(p, asked, size, answers, kind, dice)
            if other and other not in others:
                others.append(other)
        question = asked.text if dice.random() < 0.7 else _POLITE.sub("", asked.text)
        if others and dice.random() < self._unanswered:
            return Group(question, tuple(others), -1)
        text, start = titled(p.article, found.text), p.text.index(found.text, found.start)
        start = asked.start - start + len(text) - len(found.text)
        right = dice.randrange(len(others) + 1)
        others.insert(right, text)
        span = (start, start + len(asked.answers[0]))
        assert text[span[0] : span[1]] == asked.answers[0]
        return Group(question, tuple(others), right, span)

    def _other(
        self,
        p: examples.Paragraph,
        asked: examples.Asked,
        size: int,
        answers: Sequence[str],
        kind: int,
        dice: random.Random,
    ) -> str:
        """A part of another paragraph, or of another place of this one, without the answer."""
        if kind == 0:
            pool = self._of[p.article]
        elif kind == 1:
            pool = [self.paragraphs[n] for n in self._alike.nearest(asked.text, 10)]
        else:
            pool = list(self.paragraphs) if dice.random() < 0.3 else self._of[p.article]
        for _ in range(8):
            other = dice.choice(pool)
            usable = [a for a in other.asked if a is not asked]
            if usable and dice.random() < 0.7:
                part = examples.window(other, dice.choice(usable), dice, size)
            else:
                part = examples.window(other, None, dice, size)
            plain = examples.plain(part.text)
            if len(part.text) >= 20 and not any(a in plain for a in answers):
                return titled(other.article, part.text)
        return ""


def titled(title: str, text: str) -> str:
    return f"{title}\n{text}"


def loose(group: Group, dice: random.Random) -> Group:
    """Now and then as people at work would ask it."""
    if dice.random() >= CASUAL:
        return group
    return replace(group, question=casual.casual(group.question, dice))


def office(dice: random.Random) -> Iterator[Group]:
    """At most two questions about some papers."""
    case = company.case(dice)
    asked = {q.text for q in case.questions}
    bodies = [_among(p.text, asked, dice) for p in case.passages]
    texts = [
        titled(f"{p.title} {p.label}".strip(), body)
        for p, body in zip(case.passages, bodies, strict=True)
    ]
    for q in case.questions[:2]:
        if not q.cited:
            yield Group(q.text, tuple(texts), -1, office=True)
            continue
        right = q.cited - 1
        body = bodies[right]
        if body.count(q.answer) != 1:
            continue
        start = len(texts[right]) - len(body) + body.index(q.answer)
        yield Group(q.text, tuple(texts), right, (start, start + len(q.answer)), office=True)


def _among(text: str, asked: set[str], dice: random.Random) -> str:
    """A paper as a chunk may show it: with the end of what stands before, and what comes after.

    None of that answers what is `asked`.
    """
    while len(text) < WHOLE_CHUNK and dice.random() < AMONG:
        other = dice.choice(company.KINDS)(dice)
        if any(asked & set(fact.asked) for fact in other.facts):
            continue
        cut = dice.randrange(len(other.text))
        before = dice.random() < 0.5
        text = f"{other.text[cut:]}\n{text}" if before else f"{text}\n{other.text[: cut + 1]}"
    return text
