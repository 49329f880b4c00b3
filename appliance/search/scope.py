"""Which chunks an access covers: what turns a viewer's rights into a search scope."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pyroaring import BitMap64

from appliance.types import IndexChanges, Scope

_KEPT = 1000  # scopes of so many different rights


@dataclass(frozen=True, slots=True)
class _State:
    chunks: Mapping[int, BitMap64]
    scopes: dict[frozenset[int], Scope] = field(default_factory=dict)


class ScopeMap:
    """Access id → chunk ids, kept up by the follower; any number of threads may read.

    Bitmaps are never changed once they are seen: `apply` puts new ones in their place. So the same
    rights give the same scope, as an object, until something changes.
    """

    def __init__(self) -> None:
        self._state = _State({})
        self.sequence = 0

    def __len__(self) -> int:
        return sum(len(chunks) for chunks in self._state.chunks.values())

    def scope(self, admitted: frozenset[int]) -> Scope:
        """What somebody whom these accesses admit may search."""
        state = self._state  # a scope that is made while something changes is kept with the old
        found = state.scopes.get(admitted)
        if found is None:
            bitmaps = [state.chunks[i] for i in admitted if i in state.chunks]
            found = Scope(BitMap64.union(BitMap64(), *bitmaps), admitted)
            if len(state.scopes) < _KEPT:
                state.scopes[admitted] = found
        return found

    def load(self, pairs: Iterable[tuple[int, int]], sequence: int) -> None:
        """Everything anew, from (chunk id, access id)."""
        chunks: defaultdict[int, list[int]] = defaultdict(list)
        for chunk_id, access_id in pairs:
            chunks[access_id].append(chunk_id)
        self._state = _State({i: BitMap64(ids) for i, ids in chunks.items()})
        self.sequence = sequence

    def apply(self, changes: IndexChanges) -> None:
        added: defaultdict[int, BitMap64] = defaultdict(BitMap64)
        for entry in changes.added:
            added[entry.access_id].add(entry.chunk_id)
        gone = BitMap64(changes.removed.tolist()) | BitMap64(e.chunk_id for e in changes.added)
        chunks = {
            i: held if held.isdisjoint(gone) else held - gone
            for i, held in self._state.chunks.items()
        }
        for access_id, fresh in added.items():
            chunks[access_id] = chunks.get(access_id, BitMap64()) | fresh
        self._state = _State({i: held for i, held in chunks.items() if held})
        self.sequence = changes.sequence
