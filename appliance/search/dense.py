"""Nearest vectors: FAISS over the chunks a viewer may read.

Rows live in segments that never change, except for which of them are alive: a removal or an
addition makes a new tuple of segments, swapped in at once. So a search works on one state from
beginning to end while another thread applies changes, and neither waits for the other.
Segments of similar size are merged, so there are about log2(rows) of them. Small ones are searched
exactly. What makes a large one takes minutes, and goes on in a thread beside.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from pyroaring import BitMap64

from appliance.search import segments
from appliance.search.segments import NARROW, Cover, Flat, Found, Mask, Rows, Segment
from appliance.search.snapshot import Snapshots, Workshop
from appliance.types import ChunkIds, Entry, Hit, IndexChanges, Query, Scope, Vectors

log = logging.getLogger(__name__)

LARGE = 50_000  # rows; to look at them all takes 5 ms with one thread
# of a GPU: on an H100 a search 264 deep takes 12 ms, 2,048 deep 48 ms, and 10,000 rows are gathered
# and multiplied in less than 25 (docs/en/gpu.md)
SHALLOW, GATHERED = 1024, 30_000
_COVERS = 32  # kept: as many readers' scopes, times segments
_FORMAT = 2

# requests come in threads of their own; one search on all cores only makes the others wait
faiss.omp_set_num_threads(1)


@dataclass(frozen=True, slots=True)
class State:
    segments: tuple[Segment, ...] = ()
    sequence: int = 0


class DenseIndex:
    """The best k by inner product: exact up to `large` rows, and nearly so beyond, in any scope.

    `space` names the vector space; a snapshot of another space or dimension is not used. Any
    number of threads may search while one applies. Raises ValueError for a vector that does
    not fit, and changes nothing then.
    """

    def __init__(self, folder: Path, dim: int, space: str = "", large: int = LARGE) -> None:
        self._dim = dim
        self.space = space
        self._large = large
        self._folder = folder
        self._snapshots = Snapshots(folder)
        self._workshop: Workshop | None = None  # where large segments are made
        self._writing = threading.Lock()
        self._compacting = threading.Lock()
        self._compacts = False  # whether a thread does
        self._busy: frozenset[str] = frozenset()  # segments it is making a large one of
        self._files: dict[str, Path] = {}  # segment name -> the folder its files are in
        self._covers: OrderedDict[tuple[int, str], tuple[BitMap64, Mask, Cover]] = OrderedDict()
        self._covering = threading.Lock()
        self._state = self._load()
        with self._writing:
            self._arrange()

    @property
    def sequence(self) -> int:
        return self._state.sequence

    def apply(self, changes: IndexChanges) -> None:
        added = {e.chunk_id: e for e in changes.added}
        fresh = self._segment_of(sorted(added.values(), key=lambda e: e.chunk_id))
        gone = np.union1d(changes.removed, np.fromiter(added, np.int64, len(added)))
        with self._writing:
            held = [s.without(gone) for s in self._state.segments]
            if fresh is not None:
                held.append(fresh)
            self._state = State(tuple(self._tidy(held)), changes.sequence)
            self._arrange()

    def ids(self) -> ChunkIds:
        parts = [s.ids[s.alive] for s in self._state.segments]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def search(self, query: Query, k: int, scope: Scope) -> list[Hit]:
        if k <= 0 or not scope.chunks:
            return []
        wanted = functools.cache(lambda: ids_of(scope))
        narrow = len(scope.chunks) <= NARROW
        vector = np.ascontiguousarray(query.vector, np.float32).reshape(1, -1)
        hits: list[Hit] = []
        for segment in self._state.segments:
            if narrow:
                rows = segment.rows_of(wanted())
                scores, best = segment.gathered(rows, vector, min(k, len(rows)))
            else:
                cover = self._cover(segment, scope, wanted)
                if not cover.count:
                    continue
                scores, best = self._best(segment, cover, vector, min(k, cover.count))
            pairs = zip(segment.ids[best].tolist(), scores.tolist(), strict=True)
            hits += [Hit(i, score) for i, score in pairs]
        return sorted(hits, key=lambda h: (-h.score, h.chunk_id))[:k]

    def save(self) -> None:
        with self._writing:
            state = self._state
            files: dict[str, Path | bytes] = {}
            for segment in state.segments:
                files |= _files_of(segment, self._files.get(segment.name))
            facts = {
                "format": _FORMAT,
                "dim": self._dim,
                "space": self.space,
                "sequence": state.sequence,
                "segments": [s.name for s in state.segments],
            }
            folder = self._snapshots.write(files, facts)
            self._files = {s.name: folder for s in state.segments}
            if self._workshop and not self._busy:
                self._workshop = None  # the generation has its own links

    def compact(self) -> bool:
        """Make one large segment that is due; it takes minutes. False if none is.

        Searches and changes go on meanwhile. Raises OSError, and changes nothing then.
        """
        with self._compacting:
            with self._writing:
                chosen = self._due()
                if not chosen:
                    return False
                self._busy = frozenset(s.name for s in chosen)
                self._workshop = self._workshop or Workshop(self._folder)
                folder = self._workshop.path
            try:
                fresh = segments.listed(chosen, folder)
                with self._writing:
                    self._swap(chosen, fresh)
                    self._files[fresh.name] = folder
            except Exception:
                with self._writing:
                    self._workshop = None  # half a segment must not fill the disk
                raise
            finally:
                self._busy = frozenset()
        return True

    def _swap(self, chosen: Sequence[Segment], fresh: Segment) -> None:
        """`fresh` instead of `chosen`, without what was removed meanwhile."""
        now = {s.name: s for s in self._state.segments}
        for was in chosen:
            held = now.pop(was.name, None)
            left = held.alive if held else np.zeros(was.size, np.bool_)
            fresh = fresh.without(was.ids[was.alive & ~left])
        rest = list(now.values())
        larger = sum(s.size >= fresh.size for s in rest)
        rest.insert(larger, fresh)
        self._state = State(tuple(self._tidy(rest)), self._state.sequence)

    def _due(self) -> Sequence[Segment]:
        """What is to become one large segment, if anything."""
        held = self._state.segments
        for before, after in zip(held[-2::-1], held[:0:-1], strict=True):
            if before.size <= 2 * after.size and before.size + after.size >= self._large:
                return before, after
        for one in held:
            mostly_dead = 2 * int(one.alive.sum()) <= one.size
            if one.size >= self._large and (mostly_dead or isinstance(one, Flat)):
                return (one,)
        return ()

    def _arrange(self) -> None:
        """A thread for what is due. To be called with `_writing` held."""
        if not self._compacts and self._due():
            self._compacts = True
            threading.Thread(target=self._compact_all, name="compaction", daemon=True).start()

    def _compact_all(self) -> None:
        while True:
            try:
                self.compact()
            except Exception:  # a full disk, most likely: with the next change it is tried again
                log.exception("a large segment of the dense index could not be made")
                self._compacts = False
                return
            with self._writing:
                if not self._due():
                    self._compacts = False
                    return

    def _cover(self, segment: Segment, scope: Scope, wanted: Callable[[], ChunkIds]) -> Cover:
        key = (id(scope.chunks), segment.name)
        kept = self._covers.get(key)
        if kept and kept[0] is scope.chunks and kept[1] is segment.alive:
            return kept[2]
        cover = segment.cover(wanted())
        with self._covering:
            self._covers[key] = (scope.chunks, segment.alive, cover)
            self._covers.move_to_end(key)
            while len(self._covers) > _COVERS * len(self._state.segments):
                self._covers.popitem(last=False)
        return cover

    def _best(self, segment: Segment, cover: Cover, vector: Vectors, k: int) -> Found:
        return segment.best(cover, vector, k)

    def _segment_of(self, entries: list[Entry]) -> Segment | None:
        if not entries:
            return None
        for entry in entries:
            if entry.vector.shape != (self._dim,) or not np.isfinite(entry.vector).all():
                raise ValueError(f"chunk {entry.chunk_id}: the vector is not {self._dim} numbers")
        ids = np.array([e.chunk_id for e in entries], np.int64)
        return segments.flat(ids, np.stack([e.vector for e in entries]))

    def _tidy(self, held: Iterable[Segment]) -> list[Segment]:
        """Drop what is dead, merge what is small: the invariant behind log2(rows) segments."""
        kept: list[Segment] = []
        for segment in held:
            count = int(segment.alive.sum())
            if not count:
                continue
            shrink = 2 * count <= segment.size and self._small(segment)
            kept.append(segments.merged([segment]) if shrink else segment)
        while len(kept) > 1 and kept[-2].size <= 2 * kept[-1].size and self._small(*kept[-2:]):
            kept[-2:] = [segments.merged(kept[-2:])]
        return kept

    def _small(self, *held: Segment) -> bool:
        """Whether they are quickly merged, and nobody is at it."""
        free = all(isinstance(s, Flat) and s.name not in self._busy for s in held)
        return free and sum(s.size for s in held) < self._large

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
        return State(tuple(segments.read(folder, name) for name in names), int(facts["sequence"]))


class GpuDense(DenseIndex):
    """Exact at any size, from a GPU, which must never be given an id selector: FAISS ignores it there.

    Whole segments are searched on the GPU, deeper than k: the deeper, the less of a segment is in
    scope. Everything the search did not return scores no better than the last it did, so k
    allowed hits among the returned are the exact top k: that is the proof. Where it fails, or
    cannot be hoped for, the rows in scope are gathered and searched by `knn`. Narrow scopes
    never leave the CPU.

    On an H100, 1,000,000 rows of 384, beside two trainings: recall@10 1.0 at every scope, scores
    within 2e-7, 1.5 GB of rows and 1.5 GB of FAISS's own; docs/en/gpu.md has the times. Ties may order
    otherwise than on a CPU.
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
        super().__init__(folder, dim, space, large=sys.maxsize)

    def _load(self) -> State:
        """Lists, from a time without a GPU, become whole rows: only of those the proof holds."""
        state = super()._load()
        whole = (s if isinstance(s, Flat) else segments.merged([s]) for s in state.segments)
        return State(tuple(whole), state.sequence)

    def _best(self, segment: Segment, cover: Cover, vector: Vectors, k: int) -> Found:
        if cover.count <= max(k, NARROW) or k > self._DEEPEST:
            return super()._best(segment, cover, vector, k)
        with self._device:
            due = k * segment.size // cover.count  # rows that hold k in scope, if they lie evenly
            depth = min(segment.size, self._DEEPEST, 2 * due + 64)
            if due <= depth and (depth <= SHALLOW or cover.count > GATHERED):
                scores, best = self._on_device(segment).search(vector, depth)
                there = best[0] >= 0
                scores, best = scores[0][there], best[0][there]
                allowed = cover.mask[best]
                if allowed.sum() >= k or depth == segment.size:
                    return scores[allowed][:k], best[allowed][:k]
            rows = np.flatnonzero(cover.mask)
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


def _files_of(segment: Segment, folder: Path | None) -> dict[str, Path | bytes]:
    """Links, where the files are in `folder`: they never change, but for which rows are alive."""
    links = {name: folder / name for name in segment.files()} if folder else {}
    whole = bool(links) and all(path.exists() for path in links.values())
    content = segment.content
    files = links if whole else {name: content(name) for name in segment.files()}
    return {**files, segment.alive_file: content(segment.alive_file)}
