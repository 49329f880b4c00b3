"""The engine in this process: the Backend that computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from appliance.inference import llama
from appliance.inference.cores import Cores
from appliance.inference.engine import Engine
from appliance.inference.prompts import Part
from appliance.inference.work import (
    BATCH_TOKENS,
    DRAFT_TOKENS,
    GUESSES,
    PREFILL_TOKENS,
    End,
    Piece,
    Sampling,
    Work,
)

CACHED = 16  # prefixes held beside what runs; each sequence costs a row of logits
# One in so many cells may hold what nobody runs on. A CPU looks at every cell in use: with eight readers
# and 4,096 such cells among 16,384 a step of writing took a twentieth longer.
IDLE = 4


class Local:
    """Loads the model at construction. Raises SettingsError."""

    def __init__(
        self,
        path: Path,
        adapters: Sequence[Path],
        cores: Cores,
        *,
        context_tokens: int,
        slots: int,
        threads: int = 0,
        gpu_layers: int = 0,
    ) -> None:
        self.slots = slots
        self._cores = cores
        self._idle = None if gpu_layers else context_tokens // IDLE
        self._core = llama.Llama(
            path,
            adapters,
            context_tokens=context_tokens + slots * DRAFT_TOKENS,
            sequences=slots + CACHED,
            slots=slots,
            batch_tokens=BATCH_TOKENS,
            outputs=slots + GUESSES,
            prefill_tokens=0 if gpu_layers else min(PREFILL_TOKENS, context_tokens),
            threads=threads,
            gpu_layers=gpu_layers,
        )
        self._engine: Engine | None = None

    def listen(self, emit: Callable[[int, Piece | End], None], wake: Callable[[], None]) -> None:
        self._engine = Engine(
            self._core, emit, self._cores, slots=self.slots, cached=CACHED, idle=self._idle
        )

    def tokenize(self, parts: Sequence[Part], *, begin: bool = True) -> list[int]:
        tokens: list[int] = []
        for n, part in enumerate(parts):
            first = begin and n == 0
            tokens += self._core.tokenize(part.text, begin=first, special=part.special)
        return tokens

    def grammar(self, source: str, schema: bool) -> str:
        """A grammar that llama.cpp takes, from GBNF or a JSON schema. Raises BadRequest."""
        grammar = llama.grammar_of(source) if schema else source
        self._core.sampler(Sampling(grammar=grammar)).close()
        return grammar

    def start(self, work: Work) -> None:
        self._running.start(work)

    def cancel(self, id: int) -> None:
        self._running.cancel(id)

    def stats(self) -> dict[str, Any]:
        owned, cached = self._running.used()
        counts = {
            "tokens_" + k if k in _TOKENS else k: v for k, v in asdict(self._running.counts).items()
        }
        return counts | {
            "cells": self._core.context_tokens,
            "cells_used": owned,
            "cells_cached": cached,
            "slots": self.slots,
        }

    def close(self) -> None:
        if self._engine:
            self._engine.close()
        self._core.close()

    @property
    def _running(self) -> Engine:
        assert self._engine, "listen() comes first"
        return self._engine


_TOKENS = {"read", "reused", "written", "drafted", "accepted"}
