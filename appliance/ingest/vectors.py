"""The chunks of documents as vectors, waiting for the model where questions go first."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

import numpy as np
from sqlalchemy import Engine

from appliance.errors import ModelBusy, ModelUnreachable
from appliance.ports import Embedder
from appliance.store import alike, catalog
from appliance.types import Chunk, Document, Vectors

EMBED_AT_ONCE = 32  # texts
MODEL_PATIENCE_S = 120.0  # how long to wait for the embedder before giving up for now
STOP_PATIENCE_S = 10.0  # how long a stop waits for the documents at hand


class Stopped(Exception):
    """The worker is asked to stop, or the lease is lost."""


@dataclass(frozen=True, slots=True)
class Part:
    """Chunks of one document, as they are embedded under its title.

    `said` names what is embedded of each chunk, `known` the vectors that were made before.
    """

    title: str
    document: Document
    chunks: Sequence[Chunk]
    holder: str | None = None
    said: Sequence[bytes] = ()
    known: Mapping[bytes, Vectors] = field(default_factory=dict)

    @property
    def new(self) -> int:
        """How many are to be embedded."""
        return sum(one not in self.known for one in self.said)

    def texts(self) -> Iterator[str]:
        whole = self.document
        for c in self.chunks:
            text = whole.text[c.start : c.end]
            yield catalog.entry_text(self.title, whole.title, c.heading, text, self.holder)


def named(engine: Engine, parts: Sequence[Part], embedder: Embedder, *, share: bool) -> list[Part]:
    """The parts with what they say named, and, where it is to be shared, what is known of that."""
    said = [tuple(alike.of_entry(embedder.name, text) for text in part.texts()) for part in parts]
    known = alike.vectors(engine, chain.from_iterable(said), embedder.dim) if share else {}
    return [
        replace(part, said=own, known={one: known[one] for one in own if one in known})
        for part, own in zip(parts, said, strict=True)
    ]


def of_parts(parts: Sequence[Part], embedder: Embedder, over: threading.Event) -> list[Vectors]:
    """The vectors of each. What is embedded at once may be of several, and what they have alike is
    embedded once. Raises what `embed` does.
    """
    new = dict.fromkeys(one for part in parts for one in part.said if one not in part.known)
    made = dict(zip(new, _embed(_once(parts, set(new)), len(new), embedder, over), strict=True))
    found = []
    for part in parts:
        vectors = np.empty((len(part.chunks), embedder.dim), np.float32)
        for n, one in enumerate(part.said):
            vectors[n] = part.known[one] if one in part.known else made[one]
        found.append(vectors)
    return found


def _once(parts: Sequence[Part], new: set[bytes]) -> Iterator[str]:
    """The text of each of the `new`, in their order."""
    for part in parts:
        for one, text in zip(part.said, part.texts(), strict=True):
            if one in new:
                new.remove(one)
                yield text


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
