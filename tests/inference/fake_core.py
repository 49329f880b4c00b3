"""A context that remembers exactly what each sequence holds, and a model that is a hash.

The next token depends on every token before it, at its position: a cell that was mixed up, shared
wrongly or forgotten changes the answer. What llama.cpp would refuse raises here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

from appliance.inference.work import Entry, NoRoom, Sampling

WORDS = 97
END = 96


def following(tokens: Sequence[int], ending: int = 40) -> int:
    """What the model says after these tokens; about one in `ending` ends the answer."""
    digest = hashlib.blake2b(",".join(map(str, tokens)).encode(), digest_size=8).digest()
    value = int.from_bytes(digest)
    return END if value % ending == 0 else value // 1009 % END


def answer(tokens: Sequence[int], limit: int, ending: int = 40) -> list[int]:
    known, out = list(tokens), []
    while len(out) < limit and (token := following(known, ending)) != END:
        known.append(token)
        out.append(token)
    return out


def _cells(held: dict[int, dict[int, list[Any]]]) -> int:
    return len({id(c) for row in held.values() for c in row.values()})


class Chosen:
    def choose(self, logits: Any) -> int:
        return int(logits)

    def accept(self, token: int) -> None: ...
    def close(self) -> None: ...

    def alternatives(self, logits: Any, token: int) -> tuple[float, list[tuple[int, float]]]:
        return -0.5, [(token, -0.5)]


class FakeCore:
    def __init__(
        self,
        context_tokens: int = 512,
        batch_tokens: int = 32,
        pause_s: float = 0.0,
        apart: bool = False,
        prefill_tokens: int = 0,
    ):
        self.prefill_tokens = prefill_tokens
        self.apart = apart
        self.step_cost = 6.0
        self.context_tokens = context_tokens
        self.batch_tokens = batch_tokens
        self.pause_s = pause_s
        self.held: dict[int, dict[int, list[Any]]] = {}  # sequence -> position -> its cell
        self.prefilled: dict[int, dict[int, list[Any]]] = {}  # the same of the second context
        self.most_cells = 0
        self.most_prefilled = 0
        self.batches: list[list[Entry]] = []
        self.decoded: list[tuple[list[Entry], bool]] = []  # with where
        self.break_at = -1  # a batch that fails
        self._outputs: list[int | None] = []

    def cells(self) -> int:
        return _cells(self.held)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        row = self.held.get(source, {})
        for position in range(start, end):
            assert position in row, f"sequence {source} has nothing at {position}"
            self.held.setdefault(target, {})[position] = row[position]

    def remove(self, sequence: int, start: int) -> None:
        row = self.held.get(sequence, {})
        self.held[sequence] = {p: c for p, c in row.items() if p < start}

    def clear(self) -> None:
        self.held.clear()
        self.prefilled.clear()

    def to_prefill(self, sequence: int, end: int) -> None:
        assert not self.prefilled.get(sequence)
        row = self.held.get(sequence, {})
        self.prefilled[sequence] = {p: list(row[p]) for p in range(end)}

    def from_prefill(self, sequence: int, start: int, end: int) -> None:
        read = self.prefilled.pop(sequence)
        assert len(read) == end
        row = self.held.setdefault(sequence, {})
        assert len(row) == start
        row.update({p: list(read[p]) for p in range(start, end)})
        if self.cells() > self.context_tokens:
            raise NoRoom
        self.most_cells = max(self.most_cells, self.cells())

    def decode(self, entries: Sequence[Entry], *, prefill: bool = False) -> None:
        held = self.prefilled if prefill else self.held
        time.sleep(self.pause_s)
        self.batches.append(list(entries))
        self.decoded.append((list(entries), prefill))
        assert 0 < len(entries) <= self.batch_tokens
        if len(self.batches) == self.break_at:
            raise RuntimeError("the card fell off the bus")
        room = self.prefill_tokens if prefill else self.context_tokens
        if _cells(held) + len(entries) > room:
            raise NoRoom
        self._outputs = []
        for entry in entries:
            row = held.setdefault(entry.sequence, {})
            assert entry.position not in row and len(row) == entry.position
            row[entry.position] = [entry.token]
            known = [row[p][0] for p in range(entry.position + 1)]
            self._outputs.append(following(known) if entry.wanted else None)
        self.most_cells = max(self.most_cells, self.cells())
        self.most_prefilled = max(self.most_prefilled, _cells(self.prefilled))

    def logits(self, entry: int) -> Any:
        assert self._outputs[entry] is not None
        return self._outputs[entry]

    def sampler(self, sampling: Sampling) -> Chosen:
        return Chosen()

    def piece(self, token: int) -> bytes:
        return f"<{token}>".encode()

    def ends(self, token: int) -> bool:
        return token == END
