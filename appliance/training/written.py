"""Papers of invented companies, written for Kura, and what colleagues ask about them.

`written/*.jsonl`, a paper a line: company, title, text, `qa` (a question, and its answer as it
stands in the text, once), `no` (questions that no paper of the company answers). People ask in
other words than papers use, and no template knows them; here somebody thought of each. Papers of a
company are easily confused: editions, neighbouring products, other years. Every sixth company is
kept for measuring.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.formats import structure
from appliance.text import places, split
from appliance.training import examples, groups
from appliance.types import Document

HERE = Path(__file__).parent / "written"
KEPT, KEPT_SEED = 6, "1"  # one of so many companies is not learned from; which ones
SIZES, SIZE_WEIGHTS = (180, 280, 400), (3, 4, 3)  # characters of a chunk
NEAREST = 5  # of the company's chunks: the others of a group are drawn from these
OWN = 0.3  # of the others come from the same paper


@dataclass(frozen=True, slots=True)
class Paper:
    """`asked`: (question, answer); an answer stands in the text once."""

    company: str
    title: str
    text: str
    asked: tuple[tuple[str, str], ...]
    silent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk as the reader is shown it; [start, end) of its paper begins at `at` of `shown`."""

    paper: int
    shown: str
    at: int
    start: int
    end: int


def read(folder: Path = HERE) -> list[Paper]:
    """Raises ValueError for a paper whose answers do not stand in it once."""
    papers = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            row = json.loads(line)
            asked = tuple((one["q"], one["a"]) for one in row["qa"])
            if wrong := [a for _, a in asked if row["text"].count(a) != 1]:
                raise ValueError(f"{path.name}, line {number}: {wrong[0]!r} does not stand once")
            silent = tuple(row["no"])
            papers.append(Paper(row["company"], row["title"], row["text"], asked, silent))
    return papers


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


def made(papers: Sequence[Paper], dice: random.Random, passages: int) -> Iterator[groups.Group]:
    """Without end; every question once before any comes again."""
    of = companies(papers, measured=False)
    while True:
        asked = [
            (firm, n, text, answer)
            for firm, some in enumerate(of)
            for n, paper in enumerate(some)
            for text, answer in (*paper.asked, *((s, "") for s in paper.silent))
        ]
        dice.shuffle(asked)
        shelves = [{size: _Shelf(pieces(some, size)) for size in SIZES} for some in of]
        for firm, n, text, answer in asked:
            shelf = shelves[firm][dice.choices(SIZES, SIZE_WEIGHTS)[0]]
            if group := shelf.group(of[firm][n], n, text, answer, dice, passages):
                yield group


class _Shelf:
    """A company's papers, cut at one size."""

    def __init__(self, cut: Sequence[Piece]) -> None:
        self._cut = cut
        self._alike = examples.Alike([p.shown for p in cut])

    def group(
        self, paper: Paper, n: int, text: str, answer: str, dice: random.Random, passages: int
    ) -> groups.Group | None:
        """None where the answer was cut in two, or the company has nothing else."""
        start = paper.text.index(answer) if answer else -1
        end = start + len(answer)
        right = next(
            (p for p in self._cut if p.paper == n and answer and p.start <= start and end <= p.end),
            None,
        )
        if answer and right is None:
            return None
        near = [self._cut[i] for i in self._alike.nearest(text, NEAREST)]
        own = [p for p in self._cut if p.paper == n]
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
            return groups.Group(text, tuple(others), -1, office=True)
        place = dice.randrange(len(others) + 1)
        others.insert(place, right.shown)
        first = start - right.start + right.at
        span = (first, first + len(answer))
        return groups.Group(text, tuple(others), place, span, office=True)
