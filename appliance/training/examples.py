"""What the answer adapter learns from: passages, questions about them, and what to say.

A `Case` is a handful of passages and several questions, each of which is asked alone: its prompt
is `prompt.build(question, passages)`, its target `answer[n]`, or `prompt.REFUSAL` where no passage
holds the answer. Two invariants: an answer stands word for word in the passage it cites, and the
answer of a refused question stands in no passage shown.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.ask import prompt
from appliance.types import Passage

ANSWER_LIMIT_CHARS = 60
SHINGLE_CHARS = 40  # so much text in common means the same article
PASSAGE_COUNTS = (1, 2, 3, 4, 5)
COUNT_WEIGHTS = (14, 24, 32, 18, 12)
REFUSED_SHARE = 0.22
HARD_REFUSALS = 0.8  # about the same article as a passage shown
MOST_QUESTIONS = 7  # of one case; more would repeat its passages too often
_SENTENCE = re.compile(r"[^。\n]*(?:。[」』）)]*|\n|$)")
_WIDE = str.maketrans("()?!", "（）？！")
_CORE = str.maketrans("", "", "「」『』（）()\"'“”約 ")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as its data set has it."""

    text: str
    answers: tuple[str, ...]
    start: int  # of the first answer, in the paragraph


@dataclass(frozen=True, slots=True)
class Paragraph:
    article: str
    text: str
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """`cited` is the passage's number, from 1; 0 where the question must be refused.

    `answer` is kept for refused questions too: it is what no passage may hold.
    """

    text: str
    answer: str
    cited: int

    @property
    def target(self) -> str:
        return f"{self.answer}[{self.cited}]" if self.cited else prompt.REFUSAL


@dataclass(frozen=True, slots=True)
class Case:
    passages: tuple[Passage, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a paragraph, [start, end) of its text."""

    paragraph: Paragraph
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.paragraph.text[self.start : self.end].strip()

    def holds(self, asked: Asked) -> bool:
        return self.start <= asked.start and asked.start + len(asked.answers[0]) <= self.end


def passage(title: str, label: str, text: str) -> Passage:
    return Passage(0, "", "", "", title, label, text, 0, len(text))


# --- data sets -------------------------------------------------------------------


def read(paths: Iterable[Path]) -> list[Paragraph]:
    """A SQuAD-shaped data set. JSQuAD writes a title before its text: it is taken off."""
    out: list[Paragraph] = []
    for path in sorted(paths):
        for article in json.loads(path.read_text("utf-8"))["data"]:
            for found in article["paragraphs"]:
                title, text, skipped = article["title"], found["context"], 0
                if " [SEP] " in text:
                    title, _, text = text.partition(" [SEP] ")
                    skipped = len(title) + len(" [SEP] ")
                asked = tuple(
                    Asked(
                        qa["question"].strip(),
                        tuple(dict.fromkeys(a["text"] for a in qa["answers"])),
                        qa["answers"][0]["answer_start"] - skipped,
                    )
                    for qa in found["qas"]
                    if qa["answers"]
                )
                out.append(Paragraph(title.replace("_", " "), text, asked))
    return out


def without(paragraphs: Sequence[Paragraph], measured: Sequence[Paragraph]) -> list[Paragraph]:
    """The paragraphs of articles that share neither title nor text with the measuring set."""
    titles = {plain(p.article) for p in measured}
    seen = {s for p in measured for s in shingles(p.text)}
    known = {
        p.article
        for p in paragraphs
        if plain(p.article) in titles or any(s in seen for s in shingles(p.text))
    }
    return [p for p in paragraphs if p.article not in known]


def plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split()).lower()


def shingles(text: str) -> Iterator[str]:
    text = plain(text)
    for start in range(max(1, len(text) - SHINGLE_CHARS + 1)):
        yield text[start : start + SHINGLE_CHARS]


# --- cases -----------------------------------------------------------------------


class Maker:
    """Makes cases from a data set: the passages, their neighbours, and what to ask."""

    def __init__(self, paragraphs: Sequence[Paragraph]) -> None:
        self.paragraphs = paragraphs
        self.articles: dict[str, list[Paragraph]] = defaultdict(list)
        for p in paragraphs:
            self.articles[p.article].append(p)
        self.alike = Alike([p.text for p in paragraphs])

    def case(self, seed: Paragraph, dice: random.Random) -> Case | None:
        """A case around one paragraph, or None where nothing can be asked about it."""
        usable = [a for a in seed.asked if askable(a, seed)]
        if not usable:
            return None
        first = window(seed, dice.choice(usable), dice)
        shown = [first]
        for _ in range(dice.choices(PASSAGE_COUNTS, COUNT_WEIGHTS)[0] - 1):
            other = self._neighbour(seed, usable, {id(w.paragraph) for w in shown}, dice)
            chosen = [a for a in other.asked if askable(a, other)]
            around = dice.choice(chosen) if chosen and dice.random() < 0.7 else None
            shown.append(window(other, around, dice))
        shown = [w for w in shown if 20 <= len(w.text) <= 600]
        dice.shuffle(shown)
        if not shown:
            return None
        answered = self._answered(seed, shown, dice)
        refused = self._refused(seed, shown, len(answered), dice)
        questions = [*answered, *refused]
        dice.shuffle(questions)
        wide = dice.random() < 0.5  # JaQuAD's brackets are narrow, offices write wide ones
        passages = [passage(w.paragraph.article, label(dice), w.text) for w in shown]
        return styled(passages, questions, wide) if questions else None

    def _neighbour(
        self, seed: Paragraph, usable: Sequence[Asked], taken: set[int], dice: random.Random
    ) -> Paragraph:
        for _ in range(20):
            kind = dice.random()
            if kind < 0.55:
                other = dice.choice(self.articles[seed.article])
            elif kind < 0.8:
                asked = dice.choice(usable).text if dice.random() < 0.5 else seed.text[:200]
                near = self.alike.nearest(asked, 12)
                others = [p for n in near if (p := self.paragraphs[n]).article != seed.article]
                other = dice.choice(others or self.paragraphs)
            else:
                other = dice.choice(self.paragraphs)
            if id(other) not in taken:
                return other
        return dice.choice(self.paragraphs)

    def _answered(
        self, seed: Paragraph, shown: Sequence[Window], dice: random.Random
    ) -> list[Question]:
        out: list[Question] = []
        for n, w in enumerate(shown, 1):
            found = [
                Question(a.text, a.answers[0], n)
                for a in w.paragraph.asked
                if askable(a, w.paragraph) and w.holds(a) and only_there(a, n, shown)
            ]
            dice.shuffle(found)
            out += found[: 4 if w.paragraph is seed else 2]
        dice.shuffle(out)
        return out[:MOST_QUESTIONS]

    def _refused(
        self, seed: Paragraph, shown: Sequence[Window], answered: int, dice: random.Random
    ) -> list[Question]:
        wanted = max(answered, 1) * REFUSED_SHARE / (1 - REFUSED_SHARE)
        count = int(wanted) + (dice.random() < wanted % 1)
        out: list[Question] = []
        for _ in range(30 * count):
            if len(out) == count:
                break
            hard = dice.random() < HARD_REFUSALS
            source = dice.choice(self.articles[seed.article] if hard else self.paragraphs)
            if not source.asked:
                continue
            asked = dice.choice(source.asked)
            new = all(asked.text != q.text for q in out)
            if new and not any(hinted(asked.answers, w.text) for w in shown):
                out.append(Question(asked.text, asked.answers[0], 0))
        return out


def styled(passages: Sequence[Passage], questions: Sequence[Question], wide: bool) -> Case:
    if not wide:
        return Case(tuple(passages), tuple(questions))
    return Case(
        tuple(
            passage(p.title.translate(_WIDE), p.label, p.text.translate(_WIDE)) for p in passages
        ),
        tuple(
            Question(q.text.translate(_WIDE), q.answer.translate(_WIDE), q.cited) for q in questions
        ),
    )


def askable(asked: Asked, p: Paragraph) -> bool:
    answer = asked.answers[0]
    return (
        0 < len(answer) <= ANSWER_LIMIT_CHARS
        and answer == answer.strip()
        and "\n" not in answer
        and "[" not in answer
        and p.text[asked.start : asked.start + len(answer)] == answer
    )


def only_there(asked: Asked, n: int, shown: Sequence[Window]) -> bool:
    """True if no other passage could be cited as well: it lacks the answer or fits worse."""
    fits = [overlap(asked.text, w.text) for w in shown]
    return not any(
        asked.answers[0] in w.text and fits[m - 1] >= 0.7 * fits[n - 1]
        for m, w in enumerate(shown, 1)
        if m != n
    )


def hinted(answers: Sequence[str], text: str) -> bool:
    """True if the text holds an answer, or enough of one to make a refusal doubtful."""
    text = text.translate(_CORE)
    for answer in answers:
        core = answer.translate(_CORE)
        if not core or core in text:
            return True
        if any(number in text for number in re.findall(r"\d{2,}", core)):
            return True
        if any(core[i : i + 4] in text for i in range(len(core) - 3)):
            return True
    return False


def bigrams(text: str) -> Counter[str]:
    text = plain(text)
    return Counter(text[i : i + 2] for i in range(len(text) - 1))


def overlap(question: str, text: str) -> float:
    asked = set(bigrams(question))
    return len(asked & set(bigrams(text))) / max(1, len(asked))


def window(p: Paragraph, around: Asked | None, dice: random.Random, size: int = 0) -> Window:
    """Whole sentences around an answer, or around a random place; mostly short.

    At most `size` characters, if one sentence is not longer; 0 draws it.
    """
    spans = [m.span() for m in _SENTENCE.finditer(p.text) if m.end() > m.start()]
    if around is None:
        first = last = dice.randrange(len(spans))
    else:
        end = around.start + len(around.answers[0])
        first = next(i for i, s in enumerate(spans) if s[1] > around.start)
        last = next(i for i, s in enumerate(spans) if s[1] >= end)
    size = size or dice.choice((90, 140, 180, 220, 260, 320, 420))
    while True:
        sides = [
            (i, j)
            for i, j in ((first - 1, last), (first, last + 1))
            if i >= 0 and j < len(spans) and spans[j][1] - spans[i][0] <= size
        ]
        if not sides:
            return Window(p, spans[first][0], spans[last][1])
        first, last = dice.choice(sides)


def label(dice: random.Random) -> str:
    if dice.random() < 0.5:
        return ""
    page, article = dice.randint(1, 40), dice.randint(1, 60)
    cell = f"{dice.choice('ABCDEFGH')}{dice.randint(1, 99)}"
    return dice.choice(
        (
            f"p. {page}",
            f"p. {page}",
            f"第{article}条",
            f"Sheet{dice.randint(1, 3)}!{cell}",
            f"p. {page} · 第{article}条",
            f"スライド {page}",
        )
    )


class Alike:
    """Which texts share the rare character pairs of a query: cheap, and hard to tell apart."""

    COMMON = 300  # a pair in more texts than this says nothing

    def __init__(self, texts: Sequence[str]) -> None:
        self.total = len(texts)
        self.where: dict[str, list[int]] = defaultdict(list)
        for n, text in enumerate(texts):
            for pair in bigrams(text):
                self.where[pair].append(n)

    def nearest(self, query: str, count: int) -> list[int]:
        scores: dict[int, float] = defaultdict(float)
        for pair in bigrams(query):
            held = self.where.get(pair, ())
            if 0 < len(held) <= self.COMMON:
                for n in held:
                    scores[n] += math.log(self.total / len(held))
        return heapq.nlargest(count, scores, key=scores.__getitem__)


def digest(cases: Iterable[Case]) -> str:
    """One number for all that is learned from, in its order."""
    total = hashlib.sha256()
    for case in cases:
        shown = [[p.title, p.label, p.text] for p in case.passages]
        asked = [[q.text, q.target] for q in case.questions]
        total.update(json.dumps([shown, asked], ensure_ascii=False).encode() + b"\n")
    return total.hexdigest()
