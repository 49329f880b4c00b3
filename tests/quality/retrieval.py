"""What each leg of retrieval finds, beside each other. Run by hand beside a running `kura infer`.

    python -m tests.quality.retrieval FILE [MORE …] [-n 0] [--read 300] [--cuts 500] [--page FILE]

The questions of FILE (SQuAD-shaped) are asked of its paragraphs and those of MORE, which are only in
the way. Each leg ranks documents by itself: dictionary words, bigrams, both of them (BM25), vectors,
all by the weight that is set; and for some questions what the reader makes of the best of them.
`--cuts` asks for parts of words: two to four letters that stand in at most ten of the documents.
"""

from __future__ import annotations

import argparse
import math
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlmodel import Session, select

from appliance import settings
from appliance.evaluation import scratch, sets
from appliance.search import keyword
from appliance.search.retrieve import Candidate
from appliance.store import access
from appliance.store.tables import ChunkRow, DocumentRow
from appliance.system import Appliance
from appliance.types import EVERYONE, Query, Viewer
from tests import pages

TOP = 10
COUNT = 50  # candidates of each leg, as the product takes them
VIEWER = Viewer("retrieval", frozenset({EVERYONE}))
LEGS = (("words and bigrams", "keyword"), ("vectors", "dense"), ("fused", "score"))
HEAD = """# What is found, step by step

Each section is written by the command in it, beside a `kura infer` with the default models. Every
question has one right paragraph; the paragraphs are documents of a scratch site. *Fused* is what a
search gives, *and read* what an answer is made from: the reader orders the best of the fused.
"""
_LETTERS = re.compile(r"[一-龯ァ-ヶー]{3,}")
Ranks = dict[str, list[int]]  # leg -> places of the right document, 0: not among TOP


def told(what: str, done: int, total: int) -> None:
    if done % 200 == 0 or done == total:
        print(what, done, total, flush=True)


@contextmanager
def weighed(words: float, grams: float) -> Iterator[None]:
    kept = keyword.WORD_WEIGHT, keyword.GRAM_WEIGHT
    keyword.WORD_WEIGHT, keyword.GRAM_WEIGHT = words, grams
    try:
        yield
    finally:
        keyword.WORD_WEIGHT, keyword.GRAM_WEIGHT = kept


def documents(machine: Appliance) -> dict[int, str]:
    """The uri of each chunk's document."""
    with Session(machine.engine) as session:
        rows = session.exec(
            select(ChunkRow.id, DocumentRow.uri).join(
                DocumentRow, ChunkRow.document_id == DocumentRow.id
            )
        )
        return {int(id or 0): uri for id, uri in rows}


def ordered(found: Iterable[Candidate], uris: dict[int, str], by: str) -> list[str]:
    best = sorted(found, key=lambda c: -getattr(c, by))
    return list(dict.fromkeys(uris[c.chunk_id] for c in best))[:TOP]


def ask(machine: Appliance, questions: Sequence[sets.Question], read: int) -> Ranks:
    retriever, uris = machine.retriever, documents(machine)
    scope = retriever.scopes.scope(access.admitted(machine.engine, VIEWER))
    places: Ranks = defaultdict(list)

    def note(leg: str, found: Sequence[str], right: str) -> None:
        places[leg].append(found.index(right) + 1 if right in found else 0)

    for n, question in enumerate(questions, 1):
        (right,) = question.documents
        query = Query(question.text, retriever.embedder.embed([question.text], "query"))
        found = retriever.candidates(query, COUNT, scope)
        for leg, weights in (("words", (1.0, 0.0)), ("bigrams", (0.0, 1.0))):
            with weighed(*weights):
                hits = retriever.keyword.search(query, COUNT, scope)
            note(leg, list(dict.fromkeys(uris[h.chunk_id] for h in hits))[:TOP], right)
        for leg, by in LEGS:
            note(leg, ordered(found, uris, by), right)
        if n <= read:
            note(f"fused, the first {read}", ordered(found, uris, "score"), right)
            ranked = retriever.retrieve(question.text, VIEWER, TOP).ranked
            note(f"and read, the first {read}", list(dict.fromkeys(p.uri for p in ranked)), right)
        told("questions", n, len(questions))
    return places


def cuts(paragraphs: Sequence[sets.Paragraph], n: int) -> list[tuple[str, set[str]]]:
    """Parts of words, and the documents in which they stand."""
    dice = random.Random(3)
    out: list[tuple[str, set[str]]] = []
    while len(out) < n:
        words = _LETTERS.findall(dice.choice(paragraphs).text)
        if not words:
            continue
        word = dice.choice(words)
        size = min(dice.choice((2, 3, 4)), len(word) - 1)
        start = dice.randrange(len(word) - size + 1)
        cut = word[start : start + size]
        held = {p.uri for p in paragraphs if cut in p.text or cut in p.title}
        if len(held) <= TOP:
            out.append((cut, held))
    return out


def ask_cuts(machine: Appliance, asked: Sequence[tuple[str, set[str]]]) -> dict[str, float]:
    """Of the documents that hold the cut, the share that is found, a mean over the cuts."""
    retriever, uris = machine.retriever, documents(machine)
    scope = retriever.scopes.scope(access.admitted(machine.engine, VIEWER))
    shares: dict[str, list[float]] = defaultdict(list)
    for cut, held in asked:
        found = retriever.candidates(
            Query(cut, retriever.embedder.embed([cut], "query")), COUNT, scope
        )
        for leg, by in LEGS:
            shares[leg].append(len(held & set(ordered(found, uris, by))) / len(held))
    return {leg: round(sum(some) / len(some), 4) for leg, some in shares.items()}


def figures(ranks: Sequence[int]) -> tuple[float, float, float, float]:
    """recall@1, recall@10, mrr@10, ndcg@10"""
    n = len(ranks)
    return (
        sum(r == 1 for r in ranks) / n,
        sum(r > 0 for r in ranks) / n,
        sum(1 / r for r in ranks if r) / n,
        sum(1 / math.log2(r + 1) for r in ranks if r) / n,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("more", type=Path, nargs="*")
    parser.add_argument("-n", type=int, default=0, help="questions; 0: all")
    parser.add_argument("--read", type=int, default=0)
    parser.add_argument("--cuts", type=int, default=0)
    parser.add_argument("--page", type=Path, help="write it into this page: docs/en/retrieval.md")
    given = parser.parse_args()
    found = sets.read(given.file)
    paragraphs = list(found.paragraphs)
    for k, path in enumerate(given.more):
        paragraphs += [
            sets.Paragraph(f"more-{k}/{p.uri}", p.title, p.text) for p in sets.read(path).paragraphs
        ]
    with scratch.site(paragraphs, settings.load(), told) as machine:
        places = ask(machine, scratch.some(found, given.n, 1), given.read)
        cut = ask_cuts(machine, cuts(paragraphs, given.cuts)) if given.cuts else {}
        embedder = machine.embedder.name
    text = shown(places, cut, given.cuts)
    print(text)
    if given.page:
        name = f"{given.file.name}, among {len(paragraphs):,} paragraphs ({embedder})"
        asked = [given.file, *given.more]
        named = asked if len(asked) < 4 else [asked[0], asked[1].parent / f"*{asked[1].suffix}"]
        command = " ".join(["python -m tests.quality.retrieval", *(p.name for p in named)])
        for option in ("n", "read", "cuts"):
            dashes = "-" if len(option) == 1 else "--"
            command += (
                f" {dashes}{option} {getattr(given, option)}" if getattr(given, option) else ""
            )
        pages.section(given.page, HEAD, name, command, text)


def shown(places: Ranks, cut: dict[str, float], asked: int) -> str:
    rows = [
        "| leg | questions | recall@1 | recall@10 | MRR@10 | nDCG@10 |",
        "|---|---|---|---|---|---|",
    ]
    for leg, ranks in places.items():
        values = " | ".join(f"{value:.3f}" for value in figures(ranks))
        rows.append(f"| {leg} | {len(ranks):,} | {values} |")
    if cut:
        parts = ", ".join(f"{leg} {value:.3f}" for leg, value in cut.items())
        rows += ["", f"Parts of words ({asked} of two to four letters), recall@10: {parts}."]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
