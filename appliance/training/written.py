"""Papers of invented companies, written for Kura, and what colleagues ask about them.

`written/*.jsonl`, a paper a line: company, title, text, `qa` (a question `q`, its answer `a` as it
stands in the text, once, or in a stretch `in` of the text, which stands there once), `no` (questions
that no paper of the company answers). A line without a text asks more of a paper that stands before
it. People ask in other words than papers use, and no template knows them; here somebody thought of
each. Papers of a company are easily confused: editions, neighbouring products, other years. Every sixth company is
kept for measuring.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.formats import structure
from appliance.text import places, split
from appliance.training import examples, groups
from appliance.types import Document

HERE = Path(__file__).parent / "written"
KEPT, KEPT_SEED = 6, "1"  # one of so many companies is not learned from; which ones
SIZES, SIZE_WEIGHTS = (180, 280, 400), (3, 4, 3)  # characters of a chunk
NEAREST = 8  # of the company's chunks: the others of a group are drawn from these
OWN = 0.3  # of the others come from the same paper
LONG = 26  # characters of a question from which it mostly tells of who asks as well


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and its answer, which stands in the text from `start` on."""

    text: str
    answer: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.answer)


@dataclass(frozen=True, slots=True)
class Paper:
    company: str
    title: str
    text: str
    asked: tuple[Asked, ...]
    silent: tuple[str, ...]


_Asking = tuple[int, int, Asked]  # company, paper


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk as the reader is shown it; [start, end) of its paper begins at `at` of `shown`."""

    paper: int
    shown: str
    at: int
    start: int
    end: int


def read(folder: Path = HERE) -> list[Paper]:
    """Raises ValueError for a paper of whose answers one does not stand in it once, or that nobody knows."""
    papers: dict[tuple[str, str], Paper] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            row = json.loads(line)
            name = row["company"], row["title"]
            before = papers.get(name) if "text" not in row else Paper(*name, row["text"], (), ())
            try:
                if before is None:
                    raise ValueError(f"{name[1]!r} is not known")
                asked = tuple(_asked(before.text, **one) for one in row["qa"])
            except ValueError as error:
                raise ValueError(f"{path.name}, line {number}: {error}") from None
            silent = tuple(row["no"])
            papers[name] = replace(
                before, asked=before.asked + asked, silent=before.silent + silent
            )
    return list(papers.values())


def _asked(text: str, q: str, a: str, **more: str) -> Asked:
    around = more.get("in", a)
    if text.count(around) != 1 or around.count(a) != 1:
        raise ValueError(f"{a!r} does not stand once")
    return Asked(q, a, text.index(around) + around.index(a))


def kept(company: str) -> bool:
    """Whether it is for measuring alone."""
    return hashlib.sha256((KEPT_SEED + company).encode()).digest()[0] % KEPT == 0


def companies(papers: Iterable[Paper], *, measured: bool) -> list[list[Paper]]:
    """The papers of each company that is, or is not, for measuring."""
    found: dict[str, list[Paper]] = {}
    for paper in papers:
        if kept(paper.company) is measured:
            found.setdefault(paper.company, []).append(paper)
    return list(found.values())


def pieces(papers: Sequence[Paper], size: int) -> list[Piece]:
    """The company's papers as an index would hold them, and a reader be shown them."""
    found = []
    for n, paper in enumerate(papers):
        document = Document(paper.text, structure.sections(paper.text))
        for chunk in split.split(document, size, max(1500, 2 * size)):
            place = places.at(document.marks, chunk.start)
            head = f"{paper.title} {place}".strip() + "\n"
            shown = head + paper.text[chunk.start : chunk.end]
            found.append(Piece(n, shown, len(head), chunk.start, chunk.end))
    return found


def made(
    papers: Sequence[Paper], dice: random.Random, passages: int, long: float = 0.0
) -> Iterator[groups.Group]:
    """Without end; every question once before any comes again. `long`: more of those, at least so great a share."""
    of = companies(papers, measured=False)
    shelves = [{size: _Shelf(pieces(some, size)) for size in SIZES} for some in of]
    every = [
        (firm, n, one)
        for firm, some in enumerate(of)
        for n, paper in enumerate(some)
        for one in (*paper.asked, *(Asked(s, "", -1) for s in paper.silent))
    ]
    all_of_them = _shuffled(every, dice)
    lengthy = _shuffled([one for one in every if len(one[2].text) >= LONG], dice)
    while True:
        firm, n, one = next(lengthy if dice.random() < long else all_of_them)
        shelf = shelves[firm][dice.choices(SIZES, SIZE_WEIGHTS)[0]]
        if group := shelf.group(n, one, dice, passages):
            yield group


def _shuffled(some: Sequence[_Asking], dice: random.Random) -> Iterator[_Asking]:
    """Without end, each once before any comes again."""
    while some:
        yield from dice.sample(some, len(some))


class _Shelf:
    """A company's papers, cut at one size."""

    def __init__(self, cut: Sequence[Piece]) -> None:
        self._cut = cut
        self._alike = examples.Alike([p.shown for p in cut])

    def group(
        self, n: int, asked: Asked, dice: random.Random, passages: int
    ) -> groups.Group | None:
        """None where the answer was cut in two, or the company has nothing else."""
        own = [p for p in self._cut if p.paper == n]
        holding = (p for p in own if p.start <= asked.start and asked.end <= p.end)
        right = next(holding, None) if asked.answer else None
        if asked.answer and right is None:
            return None
        near = [self._cut[i] for i in self._alike.nearest(asked.text, NEAREST)]
        others: list[str] = []
        for _ in range(4 * passages):
            pool = own if not near or dice.random() < OWN else near
            other = dice.choice(pool)
            if other is not right and other.shown not in others:
                others.append(other.shown)
            if len(others) == passages - (right is not None):
                break
        if not others:
            return None
        if right is None:
            return groups.Group(asked.text, tuple(others), -1, office=True)
        place = dice.randrange(len(others) + 1)
        others.insert(place, right.shown)
        first = asked.start - right.start + right.at
        span = (first, first + len(asked.answer))
        return groups.Group(asked.text, tuple(others), place, span, office=True)
