"""What a run has done so far: how many documents, and which. Written down now and then, both together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from appliance.store.runs import Kind, Outcome

WRITE_S = 2.0

Write = Callable[[Mapping[str, int], Sequence[Outcome]], None]
_KINDS = frozenset(get_args(Kind))


class Tally:
    """Of what did not change it keeps the number alone."""

    def __init__(self, write: Write = lambda counts, outcomes: None) -> None:
        self.counts: Counter[str] = Counter()
        self._write = write
        self._fresh: list[Outcome] = []
        self._written_at = time.monotonic()

    def note(self, kind: str, uri: str, title: str, reason: str = "") -> None:
        self.counts[kind] += 1
        if kind in _KINDS:
            self._fresh.append(Outcome(kind, uri, title, reason))  # type: ignore[arg-type]

    def tell(self) -> None:
        """Write down what is new, if it is time."""
        if time.monotonic() - self._written_at >= WRITE_S:
            self._write(self.counts, self._fresh)
            self._fresh = []
            self._written_at = time.monotonic()

    def rest(self) -> list[Outcome]:
        """What has not been written down."""
        rest, self._fresh = self._fresh, []
        return rest
