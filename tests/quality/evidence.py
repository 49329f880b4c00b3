"""Fits the evidence gate on JaQuAD dev and prints its curve. Run by hand; it takes minutes.

    python tests/quality/evidence.py --jaquad FOLDER --model FOLDER [--questions 700]

Every question is asked three times over the same paragraphs: with all of them (answerable),
without its own (near), and without its whole article (far).
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64
from sqlalchemy import Engine

from appliance.inference.cores import Cores
from appliance.inference.embed import LocalEmbedder
from appliance.search import evidence
from appliance.search.dense import DenseIndex
from appliance.search.keyword import KeywordIndex
from appliance.search.retrieve import Retriever
from appliance.search.scope import ScopeMap
from appliance.settings import Settings
from appliance.store.catalog import entry_text
from appliance.text.split import split
from appliance.types import Document, Entry, IndexChanges, Query, Scope

SPACE = "multilingual-e5-small"
PASS = (0.99, 0.985, 0.98, 0.97, 0.95)


class Paragraph(NamedTuple):
    title: str
    text: str


class Case(NamedTuple):
    kind: str  # answerable, near, far
    dense: float
    covered: float


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jaquad", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=700)
    given = parser.parse_args()
    paragraphs, questions = read(sorted(given.jaquad.glob("jaquad_dev_*.json"))[::2])
    random.Random(5).shuffle(questions)
    questions = questions[: given.questions]
    embedder = LocalEmbedder(given.model, SPACE, Cores())
    with tempfile.TemporaryDirectory() as folder:
        cases = measure(paragraphs, questions, embedder, Path(folder))
    report(cases, len(questions), len(paragraphs))


def read(paths: list[Path]) -> tuple[list[Paragraph], list[tuple[str, int]]]:
    """Paragraphs, and questions with the number of their paragraph."""
    paragraphs: list[Paragraph] = []
    questions: list[tuple[str, int]] = []
    for path in paths:
        for article in json.loads(path.read_text("utf-8"))["data"]:
            for found in article["paragraphs"]:
                questions += [(qa["question"], len(paragraphs)) for qa in found["qas"]]
                paragraphs.append(Paragraph(article["title"], found["context"]))
    return paragraphs, questions


def measure(
    paragraphs: list[Paragraph],
    questions: list[tuple[str, int]],
    embedder: LocalEmbedder,
    folder: Path,
) -> list[Case]:
    owners, texts = [], []
    for n, (title, text) in enumerate(paragraphs):
        for chunk in split(Document(text)):
            owners.append(n)
            texts.append(entry_text(title, None, chunk.heading, text[chunk.start : chunk.end]))
    vectors = embedder.embed(texts, "passage")
    dense, keyword = DenseIndex(folder / "dense", embedder.dim), KeywordIndex(folder / "keyword")
    entries = [Entry(i, 1, t, v) for i, (t, v) in enumerate(zip(texts, vectors, strict=True))]
    for index in (dense, keyword):
        index.apply(IndexChanges(tuple(entries), sequence=1))
    settings = Settings()
    nowhere = cast(Engine, None)  # candidates are looked for in the indexes alone
    retriever = Retriever(nowhere, embedder, dense, keyword, ScopeMap(), settings)
    of_article: defaultdict[str, set[int]] = defaultdict(set)
    of_paragraph: defaultdict[int, set[int]] = defaultdict(set)
    for chunk_id, n in enumerate(owners):
        of_article[paragraphs[n].title].add(chunk_id)
        of_paragraph[n].add(chunk_id)
    cases = []
    for (question, n), vector in zip(
        questions, embedder.embed([q for q, _ in questions], "query"), strict=True
    ):
        rarity = keyword.rarity(evidence.telling(question))
        for kind, gone in (
            ("answerable", set()),
            ("near", of_paragraph[n]),
            ("far", of_article[paragraphs[n].title]),
        ):
            scope = Scope(BitMap64(range(len(texts))) - BitMap64(gone), frozenset({1}))
            found = retriever.candidates(Query(question, vector[None]), 50, scope)
            for one in found[: settings.passages]:
                covered = evidence.coverage(rarity, texts[one.chunk_id])
                cases.append((kind, question, n, one.dense, covered))
    # the passage that counts is the one the fit likes best: begin with the shipped fit
    fit = evidence.fit_for(SPACE)
    best: dict[tuple[str, int, str], Case] = {}
    for kind, question, n, similarity, covered in cases:
        case, key = Case(kind, similarity, covered), (kind, n, question)
        if key not in best or value(fit, case) > value(fit, best[key]):
            best[key] = case
    return list(best.values())


def value(fit: evidence.Fit, case: Case) -> float:
    return evidence.relevance(fit, case.dense, case.covered)


def report(cases: list[Case], questions: int, paragraphs: int) -> None:
    fit = fitted(cases)
    print(f"{questions} questions, {paragraphs} paragraphs; fitted anew: {fit}")
    print("| threshold | answerable pass | near stopped | far stopped |")
    print("|---|---|---|---|")
    shipped = evidence.fit_for(SPACE)
    values = {
        kind: np.array([value(shipped, c) for c in cases if c.kind == kind])
        for kind in ("answerable", "near", "far")
    }
    thresholds = [float(np.quantile(values["answerable"], 1 - share)) for share in PASS]
    for threshold in sorted([*thresholds, shipped.threshold]):
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
