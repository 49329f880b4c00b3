"""Nearest vectors, exactly: FAISS over the chunks a viewer may read.

Rows live in segments that never change, except for which of them are alive: a removal or an
addition makes a new tuple of segments, swapped in at once. So a search works on one state from
beginning to end while another thread applies changes, and neither waits for the other.
Segments of similar size are merged, so there are about log2(rows) of them.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from appliance.search.snapshot import Snapshots
from appliance.types import ChunkIds, Entry, Hit, IndexChanges, Query, Scope, Vectors

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]  # positions within a segment, rising
Found = tuple[NDArray[np.float32], Rows]  # scores and rows, in no order

_GATHER_SHARE = 0.01  # below this share of a segment, gathering rows beats testing each
_FORMAT = 1

# requests come in threads of their own; one search on all cores only makes the others wait
faiss.omp_set_num_threads(1)


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    name: str
    ids: ChunkIds  # sorted: row i holds the vector of chunk ids[i]
    index: Any  # faiss.IndexFlatIP
    alive: NDArray[np.bool_]

    @property
    def size(self) -> int:
        return len(self.ids)

    @property
    def vectors(self) -> Vectors:
        """All rows, without a copy; valid as long as the segment."""
        n, dim = self.index.ntotal, self.index.d
        flat = faiss.rev_swig_ptr(self.index.get_xb(), n * dim)
        return np.asarray(flat, np.float32).reshape(n, dim)

    def rows_of(self, wanted: ChunkIds) -> Rows:
        """Rows that are alive and whose chunk is in `wanted` (sorted)."""
        mask = self.alive
        if len(wanted) < self.size:
            rows = np.minimum(np.searchsorted(self.ids, wanted), self.size - 1)
            return np.asarray(rows[(self.ids[rows] == wanted) & mask[rows]], np.int64)
        return np.asarray(np.flatnonzero(mask & _member(self.ids, wanted)), np.int64)

    def without(self, gone: ChunkIds) -> Segment:
        alive = self.alive & ~_member(self.ids, gone)
        if np.array_equal(alive, self.alive):
            return self
        return replace(self, alive=alive)


@dataclass(frozen=True, slots=True)
class State:
    segments: tuple[Segment, ...] = ()
    sequence: int = 0


class DenseIndex:
    """The best k by inner product, exact at any selectivity.

    `space` names the vector space; a snapshot of another space or dimension is not used. Any
    number of threads may search while one applies. Raises ValueError for a vector that does
    not fit, and changes nothing then.
    """

    def __init__(self, folder: Path, dim: int, space: str = "") -> None:
        self._dim = dim
        self.space = space
        self._snapshots = Snapshots(folder)
        self._writing = threading.Lock()
        self._files: dict[str, Path] = {}  # segment name -> its folder, once saved
        self._state = self._load()

    @property
    def sequence(self) -> int:
        return self._state.sequence

    def apply(self, changes: IndexChanges) -> None:
        added = {e.chunk_id: e for e in changes.added}
        fresh = self._segment_of(sorted(added.values(), key=lambda e: e.chunk_id))
        gone = np.union1d(changes.removed, np.fromiter(added, np.int64, len(added)))
        with self._writing:
            segments = [s.without(gone) for s in self._state.segments]
            if fresh is not None:
                segments.append(fresh)
            self._state = State(tuple(self._tidy(segments)), changes.sequence)

    def ids(self) -> ChunkIds:
        parts = [s.ids[s.alive] for s in self._state.segments]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def search(self, query: Query, k: int, scope: Scope) -> list[Hit]:
        if k <= 0 or not scope.chunks:
            return []
        wanted = ids_of(scope)
        vector = np.ascontiguousarray(query.vector, np.float32).reshape(1, -1)
        hits: list[Hit] = []
        for segment in self._state.segments:
            rows = segment.rows_of(wanted)
            if len(rows):
                scores, best = self._best(segment, rows, vector, min(k, len(rows)))
                pairs = zip(segment.ids[best].tolist(), scores.tolist(), strict=True)
                hits += [Hit(i, score) for i, score in pairs]
        return sorted(hits, key=lambda h: (-h.score, h.chunk_id))[:k]

    def save(self) -> None:
        with self._writing:
            state = self._state
            files: dict[str, Path | bytes] = {}
            for segment in state.segments:
                files |= self._files_of(segment)
            facts = {
                "format": _FORMAT,
                "dim": self._dim,
                "space": self.space,
                "sequence": state.sequence,
                "segments": [s.name for s in state.segments],
            }
            folder = self._snapshots.write(files, facts)
            self._files = {s.name: folder for s in state.segments}

    def _best(self, segment: Segment, rows: Rows, vector: Vectors, k: int) -> Found:
        """The best k of `rows`, which are sorted and at least k."""
        if len(rows) <= max(k, _GATHER_SHARE * segment.size):
            return _gathered(segment, rows, vector, k)
        parameters = None
        if len(rows) < segment.size:
            mask = np.zeros(segment.size, np.bool_)
            mask[rows] = True
            bits = np.packbits(mask, bitorder="little")
            selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg,arg-type]
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        scores, best = segment.index.search(vector, k, params=parameters)
        return scores[0], best[0]

    def _segment_of(self, entries: list[Entry]) -> Segment | None:
        if not entries:
            return None
        for entry in entries:
            if entry.vector.shape != (self._dim,) or not np.isfinite(entry.vector).all():
                raise ValueError(f"chunk {entry.chunk_id}: the vector is not {self._dim} numbers")
        ids = np.array([e.chunk_id for e in entries], np.int64)
        return _segment(ids, np.stack([e.vector for e in entries]))

    def _tidy(self, segments: Iterable[Segment]) -> list[Segment]:
        """Drop what is dead, merge what is small: the invariant behind log2(rows) segments."""
        kept: list[Segment] = []
        for segment in segments:
            count = int(segment.alive.sum())
            if not count:
                continue
            kept.append(segment if 2 * count > segment.size else _merged([segment]))
        while len(kept) > 1 and kept[-2].size <= 2 * kept[-1].size:
            kept[-2:] = [_merged(kept[-2:])]
        return kept

    def _files_of(self, segment: Segment) -> dict[str, Path | bytes]:
        vectors, ids = f"{segment.name}.faiss", f"{segment.name}.ids.npy"
        files: dict[str, Path | bytes] = {f"{segment.name}.alive.npy": _npy(segment.alive)}
        folder = self._files.get(segment.name)
        if folder is not None and (folder / vectors).exists() and (folder / ids).exists():
            return files | {vectors: folder / vectors, ids: folder / ids}
        return files | {
            vectors: faiss.serialize_index(segment.index).tobytes(),
            ids: _npy(segment.ids),
        }

    def _load(self) -> State:
        found = self._snapshots.read()
        if found is None:
            return State()
        folder, facts = found
        ours = {"format": _FORMAT, "dim": self._dim, "space": self.space}
        if any(facts.get(key) != value for key, value in ours.items()):
            log.warning("the dense index in %s has another form; rebuilding it", folder)
            return State()
        names: list[str] = facts["segments"]
        self._files = dict.fromkeys(names, folder)
        return State(tuple(_read(folder, name) for name in names), int(facts["sequence"]))


class GpuDense(DenseIndex):
    """The same answers from a GPU, which must never be given an id selector: FAISS ignores it there.

    Whole segments are searched on the GPU, deeper than k. Everything the search did not return
    scores no better than the last it did, so k allowed hits among the returned are the exact
    top k: that is the proof. Where it fails, the rows in scope are gathered and searched by
    `knn`. Narrow scopes never leave the CPU.

    Verified here with stand-ins for `place` and `knn` only: the filter, the proof and the way
    back. Not verified: the GPU's own memory use, speed, and rounding (its scores may differ
    from the CPU's in the last bits, so ties may order differently).
    """

    _DEEPEST = 2048  # the most FAISS returns for one query on a GPU

    def __init__(
        self,
        folder: Path,
        dim: int,
        space: str = "",
        place: Callable[[Any], Any] | None = None,
        knn: Callable[[Vectors, Vectors, int], tuple[Vectors, Rows]] | None = None,
    ) -> None:
        self._place, self._knn = (place, knn) if place and knn else _gpu()
        self._device = threading.Lock()  # GPU resources serve one thread at a time
        self._placed: dict[str, Any] = {}
        super().__init__(folder, dim, space)

    def _best(self, segment: Segment, rows: Rows, vector: Vectors, k: int) -> Found:
        if len(rows) <= max(k, _GATHER_SHARE * segment.size) or k > self._DEEPEST:
            return super()._best(segment, rows, vector, k)
        with self._device:
            depth = min(segment.size, self._DEEPEST, 4 * k + 64)
            scores, best = self._on_device(segment).search(vector, depth)
            allowed = (best[0] >= 0) & np.isin(best[0], rows)
            if allowed.sum() >= k or depth == segment.size:
                return scores[0][allowed][:k], best[0][allowed][:k]
            scores, best = self._knn(vector, segment.vectors[rows], k)
            return scores[0], rows[best[0]]

    def _on_device(self, segment: Segment) -> Any:
        if segment.name not in self._placed:
            names = {s.name for s in self._state.segments}
            self._placed = {n: p for n, p in self._placed.items() if n in names}
            self._placed[segment.name] = self._place(segment.index)
        return self._placed[segment.name]


def has_gpu() -> bool:
    """Whether this FAISS was built for GPUs and one is there."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def ids_of(scope: Scope) -> ChunkIds:
    """The scope's chunk ids, sorted."""
    return np.frombuffer(scope.chunks.to_array(), np.uint64).astype(np.int64)


def _gpu() -> tuple[Callable[[Any], Any], Callable[[Vectors, Vectors, int], tuple[Vectors, Rows]]]:
    resources = faiss.StandardGpuResources()

    def place(index: Any) -> Any:
        return faiss.index_cpu_to_gpu(resources, 0, index)

    def knn(vector: Vectors, rows: Vectors, k: int) -> tuple[Vectors, Rows]:
        scores, best = faiss.knn_gpu(resources, vector, rows, k, metric=faiss.METRIC_INNER_PRODUCT)
        return scores, best

    return place, knn


def _gathered(segment: Segment, rows: Rows, vector: Vectors, k: int) -> Found:
    # einsum stays in this thread: a matrix product wakes BLAS threads that then wait for cores
    scores = np.einsum("ij,j->i", segment.vectors[rows], vector[0])
    if k < len(rows):
        best = np.argpartition(-scores, k - 1)[:k]
        return scores[best], rows[best]
    return scores, rows


def _member(ids: ChunkIds, wanted: ChunkIds) -> NDArray[np.bool_]:
    """For each of `ids`, whether it is in `wanted`; both sorted."""
    if not len(wanted):
        return np.zeros(len(ids), np.bool_)
    places = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[places] == ids, np.bool_)


def _segment(ids: ChunkIds, vectors: Vectors) -> Segment:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    return Segment(secrets.token_hex(8), ids, index, np.ones(len(ids), np.bool_))


def _merged(segments: list[Segment]) -> Segment:
    ids = np.concatenate([s.ids[s.alive] for s in segments])
    vectors = np.concatenate([s.vectors[s.alive] for s in segments])
    order = np.argsort(ids)
    return _segment(ids[order], vectors[order])


def _npy(array: NDArray[Any]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _read(folder: Path, name: str) -> Segment:
    index = faiss.read_index(str(folder / f"{name}.faiss"))
    ids = np.load(folder / f"{name}.ids.npy", allow_pickle=False)
    alive = np.load(folder / f"{name}.alive.npy", allow_pickle=False)
    return Segment(name, ids, index, alive)
