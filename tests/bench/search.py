"""Search among a million chunks, for people who may read all, a tenth, a hundredth or next to none.

python -m tests.bench.search [--chunks 1000000] [--data FOLDER] [--out docs/en/search.md]

A catalogue of made-up office papers in a folder of its own (`--data` keeps it for another run),
followed by the real indexes; questions are embedded by the default model. Embedding a million texts
would take hours, so a chunk's vector is that of one of 2,000 real texts with noise: the noise has
no structure, which is harder for lists than texts are. Recall is that of the vector index against
all vectors in scope, multiplied out. The last line is one JSON object, by scope.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance import build, settings
from appliance.inference.cores import Cores
from appliance.inference.embed import LocalEmbedder
from appliance.search.dense import DenseIndex, ids_of
from appliance.settings import Settings
from appliance.store import access, catalog, sources
from appliance.system import Appliance
from appliance.testing.fakes import ScriptedGenerator
from appliance.training import company
from appliance.types import Chunk, Document, Layer, Principal, Query, RawFile, Vectors, Viewer
from tests.bench.__main__ import quantile, resident_mb
from tests.quality.__main__ import cores, processor

SUBJECTS = 2_000  # real texts, whose vectors the chunks lie around
NOISE = 0.33  # of a vector's length: a chunk's similarity to its text is about .95
OF_A_DOCUMENT = 40  # chunks
QUESTIONS = 60
K = 10
DAY = datetime(2026, 1, 1, tzinfo=UTC)
# who -> of how many documents one is his. A department's documents are about like subjects.
SHARES = {"100 %": 1, "10 %": 10, "1 %": 100, "0.01 %": 10_000}
DEPARTMENT = "1 %, one department"


@dataclass(frozen=True)
class Made:
    questions: list[str]
    vectors: Vectors  # of the subjects
    near: NDArray[np.int64]  # (subjects, 20) those most like each


def main() -> None:
    parser = argparse.ArgumentParser(description="Search among many chunks.")
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument(
        "--data", type=Path, help="a folder to keep the catalogue in, or to use again"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/en/search.md"))
    options = parser.parse_args()
    models_at = settings.load({}).models
    embedder = LocalEmbedder.default(models_at, Cores())
    with tempfile.TemporaryDirectory() as fresh:
        data = options.data or Path(fresh)
        own = settings.load({}, data=data, models=models_at, reranker="none")
        made = subjects(embedder)
        with opened(own, embedder) as machine:
            fill(machine, made, options.chunks)
            began = time.perf_counter()
            machine.follower.reconcile()
            told(f"followed in {time.perf_counter() - began:.0f} s")
            while dense(machine).compact():
                pass
            machine.follower.save()
        began = time.perf_counter()
        with opened(own, embedder) as machine:
            machine.follower.reconcile()
            start_s = time.perf_counter() - began
            rows = measure(machine, made)
            followed = follow(machine, made)
    report(options.out, options.chunks, start_s, followed, rows)


@contextmanager
def opened(own: Settings, embedder: LocalEmbedder) -> Iterator[Appliance]:
    machine = build.web(own, embedder=embedder, generator=ScriptedGenerator())
    try:
        yield machine
    finally:
        machine.follower.close()
        machine.engine.dispose()


def dense(machine: Appliance) -> DenseIndex:
    (index,) = (i for i in machine.indexes if isinstance(i, DenseIndex))
    return index


# --- what is searched -----------------------------------------------------------------


def papers(dice: random.Random) -> company.Paper:
    return dice.choice(company.KINDS)(dice)


def subjects(embedder: LocalEmbedder) -> Made:
    dice = random.Random(1)
    texts, questions = [], []
    for _ in range(SUBJECTS):
        paper = papers(dice)
        texts.append(f"{paper.title}\n{paper.text}")
        questions.append(dice.choice(dice.choice(paper.facts).asked))
    vectors = embedder.embed(texts, "passage")
    near = np.argsort(-(vectors @ vectors.T), axis=1)[:, :20]
    return Made(questions[:QUESTIONS], vectors, near)


def readers(number: int, subject: int, department: set[int]) -> tuple[Layer, ...]:
    """Who may read all may read any; the others what their number divides."""
    names = [f"one in {n}" for n in SHARES.values() if number % n == 0]
    if subject in department:
        names.append("department")
    return (Layer(frozenset(Principal(f"group:{name}") for name in names)),)


def viewers() -> dict[str, Viewer]:
    found = {name: f"one in {n}" for name, n in SHARES.items()} | {DEPARTMENT: "department"}
    return {
        name: Viewer("bench", frozenset({Principal(f"group:{group}")}))
        for name, group in found.items()
    }


def fill(machine: Appliance, made: Made, chunks: int) -> None:
    """Documents until there are so many chunks; those that are there already are kept."""
    source = sources.by_name(machine.engine, "bench") or sources.create(
        machine.engine, "bench", "memory", {}
    )
    department = set(np.argsort(-(made.vectors @ made.vectors[7]))[: SUBJECTS // 100].tolist())
    there = catalog.counts(machine.engine).chunks
    began = time.perf_counter()
    for number in range(there // OF_A_DOCUMENT, chunks // OF_A_DOCUMENT):
        put(machine, source.id, number, made, department)
        if number % 1000 == 999:
            told(f"{(number + 1) * OF_A_DOCUMENT} chunks, {time.perf_counter() - began:.0f} s")


def put(machine: Appliance, source_id: int, number: int, made: Made, department: set[int]) -> str:
    dice, noise = random.Random(number), np.random.default_rng(number)
    subject = dice.randrange(SUBJECTS)
    parts = [papers(dice).text for _ in range(OF_A_DOCUMENT)]
    chunks: list[Chunk] = []
    at = 0
    for n, part in enumerate(parts):
        parent = at if n % 4 == 0 else chunks[-1].parent_start
        chunks.append(Chunk(at, at + len(part), parent, at + len(part)))
        at += len(part) + 1
    around = made.vectors[noise.choice(made.near[subject], OF_A_DOCUMENT)]
    step = noise.normal(size=around.shape)
    vectors = around + NOISE * step / np.linalg.norm(step, axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    text = "\n".join(parts)
    uri = f"資料{number:06}.txt"
    file = RawFile(uri, "1", partial(BytesIO, b""), readers(number, subject, department), uri, DAY)
    return catalog.replace(
        machine.engine,
        source_id,
        file,
        Document(text),
        chunks,
        vectors.astype(np.float32),
        machine.embedder.name,
    )


# --- what is measured -----------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    scope: str
    chunks: int
    whole_ms: list[float]
    embedding_ms: list[float]
    vector_ms: list[float]
    words_ms: list[float]
    recall: float


def measure(machine: Appliance, made: Made) -> list[Row]:
    rows = []
    for name, viewer in viewers().items():
        scope = machine.scopes.scope(access.admitted(machine.engine, viewer))
        for question in made.questions[:5]:
            machine.retriever.retrieve(question, viewer, K)  # warm
        whole: list[float] = []
        embedding: list[float] = []
        vector: list[float] = []
        words: list[float] = []
        asked, found = [], []
        for question in made.questions:
            with clock(whole):
                machine.retriever.retrieve(question, viewer, K)
            with clock(embedding):
                query = Query(question, machine.embedder.embed([question], "query"))
            with clock(vector):
                hits = dense(machine).search(query, K, scope)
            with clock(words):
                machine.retriever.keyword.search(query, machine.settings.candidates, scope)
            asked.append(query.vector[0])
            found.append({hit.chunk_id for hit in hits})
        best = exact(dense(machine), ids_of(scope), np.stack(asked))
        recall = float(
            np.mean([len(a & b) / max(len(b), 1) for a, b in zip(found, best, strict=True)])
        )
        rows.append(Row(name, len(scope.chunks), whole, embedding, vector, words, recall))
        told(line(rows[-1]))
    return rows


@contextmanager
def clock(times_ms: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times_ms.append((time.perf_counter() - began) * 1000)


def exact(index: DenseIndex, ids: NDArray[np.int64], asked: Vectors) -> list[set[int]]:
    """The best K in scope for each question, by multiplying out."""
    scores: list[NDArray[np.float32]] = []
    chunks: list[NDArray[np.int64]] = []
    for segment in index._state.segments:
        rows = np.flatnonzero(segment.cover(ids).mask)
        for start in range(0, len(rows), 50_000):
            block = rows[start : start + 50_000]
            product = segment.vectors[block] @ asked.T
            best = np.argsort(-product, axis=0)[:K]
            scores.append(np.take_along_axis(product, best, axis=0))
            chunks.append(segment.ids[block][best])
    together, owners = np.concatenate(scores), np.concatenate(chunks)
    order = np.argsort(-together, axis=0)[:K]
    return [set(owners[order[:, n], n].tolist()) for n in range(len(asked))]


def follow(machine: Appliance, made: Made) -> tuple[float, float]:
    """Seconds from a change in the catalogue until it is found, and until what is gone is not."""
    source = sources.by_name(machine.engine, "bench")
    assert source
    machine.follower.start()
    number, viewer = 90_000_000, viewers()["100 %"]
    count = catalog.counts(machine.engine).chunks
    document_id = put(machine, source.id, number, made, set())
    began = time.perf_counter()
    while len(machine.scopes) == count:
        time.sleep(0.01)
    while any(index.sequence < machine.scopes.sequence for index in machine.indexes):
        time.sleep(0.01)
    found_s = time.perf_counter() - began
    uri = f"資料{number:06}.txt"
    catalog.forget(machine.engine, source.id, uri)
    began = time.perf_counter()
    seen = access.visible_documents(machine.engine, viewer, {document_id})
    assert not seen, "a deleted document is still shown"
    return found_s, time.perf_counter() - began


# --- the page -------------------------------------------------------------------------


def line(row: Row) -> str:
    cells = [
        row.scope,
        f"{row.chunks:,}",
        both(row.whole_ms),
        both(row.embedding_ms),
        both(row.vector_ms),
        both(row.words_ms),
        f"{row.recall:.3f}",
    ]
    return "| " + " | ".join(cells) + " |"


def both(values: list[float]) -> str:
    return f"{quantile(values, 0.5):.1f} / {quantile(values, 0.95):.1f}"


def report(
    out: Path, chunks: int, start_s: float, followed: tuple[float, float], rows: list[Row]
) -> None:
    table = "\n".join(map(line, rows))
    memory = resident_mb(os.getpid())
    out.write_text(
        f"""# Search among many

Written by `make bench-search` on {datetime.now(UTC):%Y-%m-%d}, on {cores()} cores ({processor()}), without a
GPU: {chunks:,} chunks in {chunks // OF_A_DOCUMENT:,} made-up documents, SQLite, the real indexes in
one process. {QUESTIONS} questions by people who may read so much; milliseconds, p50 / p95.

| may read | chunks | whole search | embedding the question | vectors | words | recall@{K} of vectors |
|---|---|---|---|---|---|---|
{table}

Whole search: rights, embedding, both indexes twice, passages with rights asked again; no reader.
Recall is against all vectors in scope, multiplied out. Vectors lie around {SUBJECTS:,} real ones with
noise that has no structure; in "one department" they are about like subjects, and most questions
are about something else.

| | |
|---|---|
| start from snapshots, until all is known to be whole | {start_s:.1f} s |
| a document of {OF_A_DOCUMENT} chunks: catalogue to findable | {followed[0]:.2f} s |
| a deleted document: not shown after | {followed[1] * 1000:.0f} ms |
| resident memory, with the embedder and mapped vectors | {memory:,.0f} MB |
""",
        "utf-8",
    )
    print(out.read_text("utf-8"))
    by_scope = {
        "p50_ms": {r.scope: round(quantile(r.whole_ms, 0.5), 1) for r in rows},
        "p95_ms": {r.scope: round(quantile(r.whole_ms, 0.95), 1) for r in rows},
        f"recall@{K}": {r.scope: round(r.recall, 3) for r in rows},
    }
    print(json.dumps(by_scope))


def told(what: str) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    main()
