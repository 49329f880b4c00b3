"""Fits the evidence gate and prints its curves. Run by hand; it takes minutes.

    python -m tests.quality.evidence --jaquad FOLDER [--questions 350]

So many questions of JaQuAD dev, and so many of colleagues about papers of companies that no training saw
(`training/written.py`), are asked three times over all of both: with everything there (answerable), without the
paragraph or paper that answers (near), and without its whole article or company (far).
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64

from appliance import build, settings
from appliance.inference import models
from appliance.inference.cores import Cores
from appliance.inference.embed import LocalEmbedder
from appliance.search import evidence
from appliance.search.dense import DenseIndex
from appliance.search.keyword import KeywordIndex
from appliance.search.retrieve import Retriever
from appliance.search.scope import ScopeMap
from appliance.store.catalog import entry_text
from appliance.text.split import split
from appliance.training import written
from appliance.types import Document, Entry, IndexChanges, Query, Scope

SPACE = models.DEFAULT_EMBEDDER
FIRST = evidence.Fit(
    10.0, 6.0, -8.0, 0.0
)  # of an embedder that nobody has fitted: only a beginning
ROUNDS = 4  # which passage counts depends on the fit
PASS = (0.99, 0.985, 0.98, 0.97, 0.95)
THRESHOLDS = (0.02, 0.03, 0.05, 0.1)


class Paragraph(NamedTuple):
    article: str
    title: str
    text: str


class Case(NamedTuple):
    key: tuple[int, str]  # the question
    kind: str  # answerable, near, far
    dense: float
    covered: float


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jaquad", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=350)
    given = parser.parse_args()
    paragraphs, questions = read(sorted(given.jaquad.glob("jaquad_dev_*.json"))[::2])
    questions = random.Random(5).sample(questions, given.questions)
    encyclopaedia = len(paragraphs)
    papers = [p for firm in written.companies(written.read(), measured=True) for p in firm]
    at_work = [(one.text, encyclopaedia + n) for n, p in enumerate(papers) for one in p.asked]
    paragraphs += [Paragraph(p.company, p.title, p.text) for p in papers]
    questions += random.Random(5).sample(at_work, given.questions)
    embedder = LocalEmbedder.default(settings.load({}).models, Cores())
    with tempfile.TemporaryDirectory() as folder:
        cases = measure(paragraphs, questions, embedder, Path(folder))
    fit = evidence.FITTED.get(SPACE, FIRST)
    for _ in range(ROUNDS):
        fit = fitted(best(cases, fit))
    print(f"{len(questions)} questions, {len(paragraphs)} paragraphs; fitted anew: {fit}")
    shipped = evidence.FITTED.get(SPACE, fit)
    report("JaQuAD dev", shipped, [c for c in cases if c.key[0] < encyclopaedia])
    report("colleagues", shipped, [c for c in cases if c.key[0] >= encyclopaedia])


def read(paths: list[Path]) -> tuple[list[Paragraph], list[tuple[str, int]]]:
    """Paragraphs, and questions with the number of their paragraph."""
    paragraphs: list[Paragraph] = []
    questions: list[tuple[str, int]] = []
    for path in paths:
        for article in json.loads(path.read_text("utf-8"))["data"]:
            for found in article["paragraphs"]:
                questions += [(qa["question"], len(paragraphs)) for qa in found["qas"]]
                paragraphs.append(Paragraph(article["title"], article["title"], found["context"]))
    return paragraphs, questions


def measure(
    paragraphs: list[Paragraph],
    questions: list[tuple[str, int]],
    embedder: LocalEmbedder,
    folder: Path,
) -> list[Case]:
    owners, texts = [], []
    for n, (_, title, text) in enumerate(paragraphs):
        for chunk in split(Document(text)):
            owners.append(n)
            texts.append(entry_text(title, None, chunk.heading, text[chunk.start : chunk.end]))
    vectors = embedder.embed(texts, "passage")
    dense, keyword = DenseIndex(folder / "dense", embedder.dim), KeywordIndex(folder / "keyword")
    entries = [Entry(i, 1, t, v) for i, (t, v) in enumerate(zip(texts, vectors, strict=True))]
    for index in (dense, keyword):
        index.apply(IndexChanges(tuple(entries), sequence=1))
    own = settings.load({}, data=folder, database_url=f"sqlite:///{folder / 'kura.db'}")
    retriever = Retriever(build.store(own), embedder, dense, keyword, ScopeMap(), own)
    of_article: defaultdict[str, set[int]] = defaultdict(set)
    of_paragraph: defaultdict[int, set[int]] = defaultdict(set)
    for chunk_id, n in enumerate(owners):
        of_article[paragraphs[n].article].add(chunk_id)
        of_paragraph[n].add(chunk_id)
    cases = []
    for (question, n), vector in zip(
        questions, embedder.embed([q for q, _ in questions], "query"), strict=True
    ):
        rarity = keyword.rarity(evidence.telling(question))
        for kind, gone in (
            ("answerable", set()),
            ("near", of_paragraph[n]),
            ("far", of_article[paragraphs[n].article]),
        ):
            scope = Scope(BitMap64(range(len(texts))) - BitMap64(gone), frozenset({1}))
            found = retriever.candidates(Query(question, vector[None]), 50, scope)
            for one in found[: own.passages]:
                covered = evidence.coverage(rarity, texts[one.chunk_id])
                cases.append(Case((n, question), kind, one.dense, covered))
    return cases


def best(cases: list[Case], fit: evidence.Fit) -> list[Case]:
    """Of each question and kind the passage that the fit likes best: that one counts."""
    found: dict[tuple[tuple[int, str], str], Case] = {}
    for case in cases:
        before = found.setdefault((case.key, case.kind), case)
        if value(fit, case) > value(fit, before):
            found[case.key, case.kind] = case
    return list(found.values())


def value(fit: evidence.Fit, case: Case) -> float:
    return evidence.relevance(fit, case.dense, case.covered)


def report(name: str, fit: evidence.Fit, cases: list[Case]) -> None:
    print(f"\n| {name}: threshold | answerable pass | near stopped | far stopped |")
    print("|---|---|---|---|")
    values = {
        kind: np.array([value(fit, c) for c in best(cases, fit) if c.kind == kind])
        for kind in ("answerable", "near", "far")
    }
    thresholds = [float(np.quantile(values["answerable"], 1 - share)) for share in PASS]
    for threshold in sorted([*thresholds, fit.threshold, *THRESHOLDS]):
        passed = (values["answerable"] >= threshold).mean()
        near, far = ((values[kind] < threshold).mean() for kind in ("near", "far"))
        print(f"| {threshold:.3f} | {passed:.3f} | {near:.3f} | {far:.3f} |")


def fitted(cases: list[Case]) -> evidence.Fit:
    """Logistic regression of answerable against the two others, by gradient descent."""
    features: NDArray[np.float64] = np.array([(c.dense, c.covered) for c in cases])
    wanted = np.array([c.kind == "answerable" for c in cases], float)
    mean, spread = features.mean(0), features.std(0)
    rows = np.c_[(features - mean) / spread, np.ones(len(cases))]
    weights = np.zeros(3)
    for _ in range(3000):
        weights -= 0.5 * rows.T @ (1 / (1 + np.exp(-rows @ weights)) - wanted) / len(cases)
    dense, coverage = weights[:2] / spread
    bias = weights[2] - float((weights[:2] * mean / spread).sum())
    return evidence.Fit(round(dense, 2), round(coverage, 2), round(bias, 2), 0.0)


if __name__ == "__main__":
    main()
