"""What `kura infer` did, in Prometheus' text format.

The engine counts for itself, in its child, and its figures are read when they are asked for: they
begin again when the child does, which Prometheus takes for what it is. Times are taken here, where
requests come in and pieces go out. The share of prompts found in the cache is
`kura_prompt_reused_tokens_total` of it and `kura_prompt_read_tokens_total` together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.inference.work import Finish

CONTENT_TYPE = CONTENT_TYPE_LATEST
Stats = Callable[[], Mapping[str, Any]]

# Seconds. Of one token on a GPU, to a whole answer that waited on two cores.
TOKEN_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
ANSWER_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300)

_COUNTED = {
    "tokens_read": ("kura_prompt_read_tokens", "Prompt tokens that were computed"),
    "tokens_reused": ("kura_prompt_reused_tokens", "Prompt tokens found in the cache"),
    "tokens_written": ("kura_generated_tokens", "Tokens written"),
    "tokens_drafted": ("kura_drafted_tokens", "Tokens guessed from the prompt"),
    "tokens_accepted": ("kura_accepted_tokens", "Guesses that were right"),
    "refused": ("kura_refused_requests", "Requests told to come back later"),
    "steps": ("kura_steps", "Steps computed, of one batch or two"),
    "restarts": ("kura_restarts", "Times the native child was started again"),
}
_MEASURED = {
    "running": ("kura_requests_running", "Requests in a slot"),
    "waiting": ("kura_requests_waiting", "Requests in the queue"),
    "slots": ("kura_slots", "Requests that can run at once; 0 while there is no model"),
    "cells": ("kura_kv_cells", "Tokens that the KV cache has room for"),
    "cells_used": ("kura_kv_cells_used", "Held by requests that run"),
    "cells_cached": ("kura_kv_cells_cached", "Held for prompts that begin alike"),
}


class Meter:
    """Of one model. Safe to use from any thread."""

    def __init__(self, model: str, stats: Stats) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Stats(model, stats))

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            made = Histogram(name, what, ["model"], registry=self._registry, buckets=buckets)
            return made.labels(model)

        self._ended = Counter(
            "kura_requests",
            "Requests, by how they ended",
            ["model", "end"],
            registry=self._registry,
        )
        self._model = model
        self._waited = histogram("kura_queue_seconds", "Until a slot was free", ANSWER_BUCKETS)
        self._first = histogram(
            "kura_time_to_first_token_seconds", "From arrival, waiting included", ANSWER_BUCKETS
        )
        self._gap = histogram(
            "kura_inter_token_seconds", "Between pieces of one answer", TOKEN_BUCKETS
        )
        self._whole = histogram("kura_request_seconds", "From arrival to the end", ANSWER_BUCKETS)
        self._vectors = Histogram(
            "kura_embedding_seconds",
            "Of one request for vectors",
            registry=self._registry,
            buckets=ANSWER_BUCKETS,
        )
        self._texts = Counter(
            "kura_embedded_texts", "Texts made into vectors", registry=self._registry
        )
        for end in get_args(Finish):
            self._ended.labels(model, end)  # a rate needs a zero to begin with

    def waited(self, seconds: float) -> None:
        self._waited.observe(seconds)

    def spoke(self, seconds: float, *, first: bool) -> None:
        (self._first if first else self._gap).observe(seconds)

    def ended(self, end: Finish, seconds: float) -> None:
        self._ended.labels(self._model, end).inc()
        self._whole.observe(seconds)

    def embedded(self, texts: int, seconds: float) -> None:
        self._texts.inc(texts)
        self._vectors.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Stats(Collector):
    """The engine's own figures, at the moment of asking."""

    def __init__(self, model: str, stats: Stats) -> None:
        self._model = model
        self._stats = stats

    def describe(self) -> Iterator[Metric]:
        return iter(())  # nothing is asked of the engine before somebody wants to know

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        for kind, rows in ((CounterMetricFamily, _COUNTED), (GaugeMetricFamily, _MEASURED)):
            for key, (name, what) in rows.items():
                if key in stats:
                    family = kind(name, what, labels=["model"])
                    family.add_metric([self._model], float(stats[key]))
                    yield family
