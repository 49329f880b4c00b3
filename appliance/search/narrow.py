"""A viewer's scope, narrowed to the documents that are meant, and without what is withheld."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pyroaring import BitMap64
from sqlalchemy import Engine

from appliance.store import narrow
from appliance.types import Filter, Scope

_KEPT = 64
# A file's date may change without a change of its text, which the indexes do not hear of.
_KEPT_S = 30.0

Key = tuple[frozenset[int], Filter | frozenset[int]]


@dataclass(frozen=True, slots=True)
class _Narrowed:
    whole: BitMap64  # what it was made from: another, and it is made anew
    scope: Scope
    at: float


class Narrowing:
    """Any number of threads may narrow."""

    def __init__(self) -> None:
        self._made: OrderedDict[Key, _Narrowed] = OrderedDict()

    def scope(self, engine: Engine, scope: Scope, wanted: Filter) -> Scope:
        """What of `scope` is wanted; the same object as before, where nothing changed."""
        return self._kept(scope, wanted, lambda: scope.chunks & narrow.chunks(engine, wanted))

    def without(self, engine: Engine, scope: Scope, sources: frozenset[int]) -> Scope:
        """What of `scope` does not come from these; likewise."""
        return self._kept(scope, sources, lambda: scope.chunks - narrow.chunks_of(engine, sources))

    def _kept(
        self, scope: Scope, by: Filter | frozenset[int], make: Callable[[], BitMap64]
    ) -> Scope:
        key = (scope.accesses, by)
        made = self._made.get(key)
        now = time.monotonic()
        if made is None or made.whole is not scope.chunks or now - made.at > _KEPT_S:
            made = _Narrowed(scope.chunks, Scope(make(), scope.accesses), now)
            self._made[key] = made
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return made.scope
