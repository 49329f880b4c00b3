"""The chunks of documents as vectors, waiting for the model where questions go first."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from appliance.errors import ModelBusy, ModelUnreachable
from appliance.ports import Embedder
from appliance.store import catalog
from appliance.types import Chunk, Document, Vectors

EMBED_AT_ONCE = 32  # texts
MODEL_PATIENCE_S = 120.0  # how long to wait for the embedder before giving up for now
STOP_PATIENCE_S = 10.0  # how long a stop waits for the documents at hand


class Stopped(Exception):
    """The worker is asked to stop, or the lease is lost."""


@dataclass(frozen=True, slots=True)
class Part:
    """Chunks of one document, as they are embedded under its title."""

    title: str
    document: Document
    chunks: Sequence[Chunk]
    holder: str | None = None

    def texts(self) -> Iterator[str]:
        whole = self.document
        for c in self.chunks:
            text = whole.text[c.start : c.end]
            yield catalog.entry_text(self.title, whole.title, c.heading, text, self.holder)


def of_parts(parts: Sequence[Part], embedder: Embedder, over: threading.Event) -> list[Vectors]:
    """The vectors of each. What is embedded at once may be of several. Raises what `embed` does."""
    counts = [len(part.chunks) for part in parts]
    texts = chain.from_iterable(part.texts() for part in parts)
    rows = _embed(texts, sum(counts), embedder, over)
    return np.split(rows, np.cumsum(counts)[:-1]) if parts else []


def of_chunks(
    title: str,
    document: Document,
    chunks: Sequence[Chunk],
    embedder: Embedder,
    over: threading.Event,
    holder: str | None = None,
) -> Vectors:
    """Raises what `embed` does."""
    return of_parts([Part(title, document, chunks, holder)], embedder, over)[0]


def embed(texts: Sequence[str], embedder: Embedder, over: threading.Event) -> Vectors:
    """Raises ModelBusy, ModelUnreachable; Stopped once `over` is set and it takes too long."""
    return _embed(texts, len(texts), embedder, over)


def _embed(texts: Iterable[str], count: int, embedder: Embedder, over: threading.Event) -> Vectors:
    began, rest = time.monotonic(), iter(texts)
    vectors = np.empty((count, embedder.dim), np.float32)
    for start in range(0, count, EMBED_AT_ONCE):
        if over.is_set() and time.monotonic() - began > STOP_PATIENCE_S:
            raise Stopped  # nothing of the document is stored yet: the next run begins it again
        block = list(islice(rest, EMBED_AT_ONCE))
        vectors[start : start + len(block)] = _patiently(block, embedder, over)
    return vectors


def _patiently(texts: list[str], embedder: Embedder, over: threading.Event) -> Vectors:
    """Vectors, waiting while the models are busy or restarting: questions go first."""
    began = time.monotonic()
    while True:
        try:
            return embedder.embed(texts, "passage")
        except (ModelBusy, ModelUnreachable) as error:
            if time.monotonic() - began + error.retry_after_s > MODEL_PATIENCE_S:
                raise
            if over.wait(error.retry_after_s):
                raise Stopped from None
