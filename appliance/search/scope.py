"""Which chunks an access covers: what turns a viewer's rights into a search scope."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from pyroaring import BitMap64

from appliance.types import IndexChanges, Scope


class ScopeMap:
    """Access id → chunk ids, kept up by the follower; any number of threads may read.

    Bitmaps are never changed once they are seen: `apply` puts new ones in their place.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, BitMap64] = {}
        self.sequence = 0

    def __len__(self) -> int:
        return sum(len(chunks) for chunks in self._chunks.values())

    def scope(self, admitted: frozenset[int]) -> Scope:
        """What somebody whom these accesses admit may search."""
        held = self._chunks
        bitmaps = [held[i] for i in admitted if i in held]
        return Scope(BitMap64.union(BitMap64(), *bitmaps), admitted)

    def load(self, pairs: Iterable[tuple[int, int]], sequence: int) -> None:
        """Everything anew, from (chunk id, access id)."""
        chunks: defaultdict[int, list[int]] = defaultdict(list)
        for chunk_id, access_id in pairs:
            chunks[access_id].append(chunk_id)
        self._chunks = {i: BitMap64(ids) for i, ids in chunks.items()}
        self.sequence = sequence

    def apply(self, changes: IndexChanges) -> None:
        added: defaultdict[int, BitMap64] = defaultdict(BitMap64)
        for entry in changes.added:
            added[entry.access_id].add(entry.chunk_id)
        gone = BitMap64(changes.removed.tolist()) | BitMap64(e.chunk_id for e in changes.added)
        chunks = {
            i: held if held.isdisjoint(gone) else held - gone for i, held in self._chunks.items()
        }
        for access_id, fresh in added.items():
            chunks[access_id] = chunks.get(access_id, BitMap64()) | fresh
        self._chunks = {i: held for i, held in chunks.items() if held}
        self.sequence = changes.sequence
