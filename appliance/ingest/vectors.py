"""The chunks of a document as vectors, waiting for the model where questions go first."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np

from appliance.errors import ModelBusy, ModelUnreachable
from appliance.ports import Embedder
from appliance.store import catalog
from appliance.types import Chunk, Document, Vectors

EMBED_AT_ONCE = 32  # texts
MODEL_PATIENCE_S = 120.0  # how long to wait for the embedder before giving up for now
STOP_PATIENCE_S = 10.0  # how long a stop waits for the document at hand


class Stopped(Exception):
    """The worker is asked to stop, or the lease is lost."""


def of_chunks(
    title: str,
    document: Document,
    chunks: Sequence[Chunk],
    embedder: Embedder,
    over: threading.Event,
    holder: str | None = None,
) -> Vectors:
    """Raises what `embed` does."""
    texts = [
        catalog.entry_text(title, document.title, c.heading, document.text[c.start : c.end], holder)
        for c in chunks
    ]
    return embed(texts, embedder, over)


def embed(texts: list[str], embedder: Embedder, over: threading.Event) -> Vectors:
    """Raises ModelBusy, ModelUnreachable; Stopped once `over` is set and it takes too long."""
    began = time.monotonic()
    vectors = np.empty((len(texts), embedder.dim), np.float32)
    for start in range(0, len(texts), EMBED_AT_ONCE):
        if over.is_set() and time.monotonic() - began > STOP_PATIENCE_S:
            raise Stopped  # nothing of the document is stored yet: the next run begins it again
        block = texts[start : start + EMBED_AT_ONCE]
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
