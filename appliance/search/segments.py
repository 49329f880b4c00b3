"""Rows of the dense index: few of them searched one by one, many of them by the lists they lie in.

A segment never changes, except for which of its rows are alive.

The lists are k-means cells with 8-bit codes (IVF, Jégou et al. 2011, doi 10.1109/TPAMI.2010.57).
Alone they go blind under a narrow scope: the lists nearest to a question may hold nothing of it.
So the lists are chosen by the scope: nearest first, of those that hold any of it, until enough rows
of it lie in them, and enough was done (`_enough`). What is found is scored again by the whole vectors,
which lie in a file.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import faiss
import numpy as np
from numpy.typing import NDArray

from appliance.types import ChunkIds, Vectors

Mask: TypeAlias = NDArray[np.bool_]
Rows: TypeAlias = NDArray[np.int64]  # positions within a segment, rising
Found: TypeAlias = tuple[NDArray[np.float32], Rows]  # scores and rows, in no order

NARROW = 512  # rows: so few are gathered and multiplied
# Rows in scope that are looked at, times the root of how many there are: the fewer there are, the
# larger a share of them is near. Of a million, with noise that has no structure, 48 finds all of the best
# 50 at shares from 1 to .003, 30 finds .9994 of them.
LOOKED = 48
# Where a scope lies together, far from the question, that misses some (.97 of a department's): there a few
# lists hold all of it, so as much is done as costs little anywhere. A row whose scope is tested costs a
# PASSED of one that is multiplied.
WORK, PASSED = 32_000, 20
DEEPER = 4  # times k are scored again by the whole vectors
_GATHER_SHARE = 0.01  # below this share of a segment, gathering rows beats testing each
_TRAINED = 40  # rows for each list, that k-means sees
_BLOCK = 16_384  # rows handled at a time
_INDEX, _IDS, _ALIVE, _VECTORS = ".faiss", ".ids.npy", ".alive.npy", ".vectors.npy"


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """Which rows of a segment a scope holds."""

    mask: Mask  # (rows,)
    bits: NDArray[np.uint8]  # the same, as FAISS wants it
    count: int
    in_lists: NDArray[np.int64]  # (lists,) how many of them lie in each


@dataclass(frozen=True, slots=True, eq=False)
class Segment(ABC):
    name: str
    ids: ChunkIds  # sorted: row i holds the vector of chunk ids[i]
    index: Any  # of faiss
    alive: Mask

    @property
    def size(self) -> int:
        return len(self.ids)

    @property
    @abstractmethod
    def vectors(self) -> Vectors:
        """All rows, without a copy; valid as long as the segment."""

    @abstractmethod
    def best(self, cover: Cover, vector: Vectors, k: int) -> Found:
        """The best k of the covered rows, which are at least k. `vector`: (1, dim)."""

    def rows_of(self, wanted: ChunkIds) -> Rows:
        """Rows that are alive and whose chunk is in `wanted` (sorted, few)."""
        rows = np.minimum(np.searchsorted(self.ids, wanted), self.size - 1)
        return np.asarray(rows[(self.ids[rows] == wanted) & self.alive[rows]], np.int64)

    def cover(self, wanted: ChunkIds) -> Cover:
        mask = self.alive & member(self.ids, wanted)
        bits = np.packbits(mask, bitorder="little")
        return Cover(mask, bits, int(mask.sum()), self._in_lists(mask))

    def without(self, gone: ChunkIds) -> Segment:
        alive = self.alive & ~member(self.ids, gone)
        if np.array_equal(alive, self.alive):
            return self
        return replace(self, alive=alive)

    def gathered(self, rows: Rows, vector: Vectors, k: int) -> Found:
        """The best k of `rows`, which are sorted."""
        # einsum stays in this thread: a matrix product wakes BLAS threads that then wait for cores
        scores = np.einsum("ij,j->i", self.vectors[rows], vector[0])
        if k < len(rows):
            best = np.argpartition(-scores, k - 1)[:k]
            return scores[best], rows[best]
        return scores, rows

    def files(self) -> tuple[str, ...]:
        """Names of what never changes, as `read` wants it."""
        return f"{self.name}{_INDEX}", f"{self.name}{_IDS}"

    def content(self, file: str) -> bytes:
        """Of one of `files`, or of `alive_file`."""
        match file.removeprefix(self.name):
            case suffix if suffix == _INDEX:
                return faiss.serialize_index(self.index).tobytes()
            case suffix if suffix == _IDS:
                return _npy(self.ids)
            case suffix if suffix == _ALIVE:
                return _npy(self.alive)
            case _:
                return _npy(self.vectors)

    @property
    def alive_file(self) -> str:
        return f"{self.name}{_ALIVE}"

    def _in_lists(self, mask: Mask) -> NDArray[np.int64]:
        return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Flat(Segment):
    """Every covered row is looked at. `index` is an IndexFlatIP."""

    @property
    def vectors(self) -> Vectors:
        n, dim = self.index.ntotal, self.index.d
        flat = faiss.rev_swig_ptr(self.index.get_xb(), n * dim)
        return np.asarray(flat, np.float32).reshape(n, dim)

    def best(self, cover: Cover, vector: Vectors, k: int) -> Found:
        if cover.count <= max(k, _GATHER_SHARE * self.size):
            return self.gathered(np.flatnonzero(cover.mask), vector, k)
        parameters = None
        if cover.count < self.size:
            selector = faiss.IDSelectorBitmap(cover.bits)  # type: ignore[call-arg,arg-type]
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        scores, best = self.index.search(vector, k, params=parameters)
        return scores[0], best[0]


@dataclass(frozen=True, slots=True, eq=False)
class Listed(Segment):
    """`index` is an IndexIVFScalarQuantizer; the vectors are mapped from a file."""

    whole: Vectors
    lists: NDArray[np.int32]  # of each row
    centroids: Vectors
    sizes: NDArray[np.int64]  # rows of each list

    @property
    def vectors(self) -> Vectors:
        return self.whole

    def best(self, cover: Cover, vector: Vectors, k: int) -> Found:
        # einsum, as in `gathered`
        near = np.argsort(-np.einsum("ij,j->i", self.centroids, vector[0]), kind="stable")
        near = near[cover.in_lists[near] > 0]
        near = near[: self._enough(cover, near, k)]
        chosen = np.zeros(len(self.centroids), np.bool_)
        chosen[near] = True
        bits = np.packbits(chosen, bitorder="little")
        parameters = faiss.SearchParametersIVF(  # type: ignore[call-arg]
            nprobe=len(near),
            sel=faiss.IDSelectorBitmap(cover.bits),  # type: ignore[call-arg,arg-type]
            quantizer_params=faiss.SearchParameters(  # type: ignore[call-arg]
                sel=faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg,arg-type]
            ),
        )
        depth = min(cover.count, DEEPER * k + 64)
        _, rows = self.index.search(vector, depth, params=parameters)
        found = np.sort(rows[0][rows[0] >= 0])
        return self.gathered(found, vector, min(k, len(found)))

    def _enough(self, cover: Cover, near: NDArray[np.int64], k: int) -> int:
        """How many of the lists `near`, the nearest first."""
        seen = np.cumsum(cover.in_lists[near])
        work = seen + np.cumsum(self.sizes[near]) / PASSED
        looked = max(LOOKED * cover.count**0.5, k)
        return 1 + max(int(np.searchsorted(seen, looked)), int(np.searchsorted(work, WORK)))

    def files(self) -> tuple[str, ...]:
        return f"{self.name}{_INDEX}", f"{self.name}{_IDS}", f"{self.name}{_VECTORS}"

    def _in_lists(self, mask: Mask) -> NDArray[np.int64]:
        return np.bincount(self.lists[mask], minlength=len(self.centroids))


def flat(ids: ChunkIds, vectors: Vectors) -> Flat:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    return Flat(secrets.token_hex(8), ids, index, np.ones(len(ids), np.bool_))


def merged(segments: Sequence[Segment]) -> Flat:
    ids = np.concatenate([s.ids[s.alive] for s in segments])
    vectors = np.concatenate([s.vectors[s.alive] for s in segments])
    order = np.argsort(ids)
    return flat(ids[order], vectors[order])


def listed(segments: Sequence[Segment], folder: Path) -> Listed:
    """The living rows of `segments`, in lists. Its `files` are written to `folder`.

    Takes minutes for a million rows, and hardly any memory but for the codes. Raises OSError.
    """
    dim = segments[0].vectors.shape[1]
    owner = np.concatenate([np.full(int(s.alive.sum()), n) for n, s in enumerate(segments)])
    place = np.concatenate([np.flatnonzero(s.alive) for s in segments])
    ids = np.concatenate([s.ids[s.alive] for s in segments])
    order = np.argsort(ids)
    owner, place, ids = owner[order], place[order], ids[order]
    name, n = secrets.token_hex(8), len(ids)
    whole = np.lib.format.open_memmap(folder / f"{name}{_VECTORS}", "w+", np.float32, (n, dim))
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        for number, segment in enumerate(segments):
            here = owner[start:stop] == number
            whole[start:stop][here] = segment.vectors[place[start:stop][here]]
    whole.flush()
    lists = _lists(n)
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim),
        dim,
        lists,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    sample = np.random.default_rng(0).choice(n, min(n, _TRAINED * lists), replace=False)
    index.train(np.ascontiguousarray(whole[np.sort(sample)]))
    for start in range(0, n, _BLOCK):
        index.add(np.ascontiguousarray(whole[start : start + _BLOCK]))
    faiss.write_index(index, str(folder / f"{name}{_INDEX}"))
    np.save(folder / f"{name}{_IDS}", ids, allow_pickle=False)
    return _listed(folder, name, ids, index, np.ones(n, np.bool_))


def read(folder: Path, name: str) -> Segment:
    """From files whose digests were checked."""
    index = faiss.read_index(str(folder / f"{name}{_INDEX}"))
    ids = np.load(folder / f"{name}{_IDS}", allow_pickle=False)
    alive = np.load(folder / f"{name}{_ALIVE}", allow_pickle=False)
    if (folder / f"{name}{_VECTORS}").exists():
        return _listed(folder, name, ids, index, alive)
    return Flat(name, ids, index, alive)


def _listed(folder: Path, name: str, ids: ChunkIds, index: Any, alive: Mask) -> Listed:
    whole = np.load(folder / f"{name}{_VECTORS}", mmap_mode="r", allow_pickle=False)
    lists = np.empty(len(ids), np.int32)
    for number in range(index.nlist):
        if size := index.invlists.list_size(number):
            lists[faiss.rev_swig_ptr(index.invlists.get_ids(number), size)] = number
    quantizer: Any = faiss.downcast_index(index.quantizer)
    held = faiss.rev_swig_ptr(quantizer.get_xb(), index.nlist * index.d)
    centroids = np.array(held, np.float32).reshape(index.nlist, index.d)
    sizes = np.bincount(lists, minlength=index.nlist)
    return Listed(name, ids, index, alive, whole, lists, centroids, sizes)


def member(ids: ChunkIds, wanted: ChunkIds) -> Mask:
    """For each of `ids`, whether it is in `wanted`; both sorted."""
    if not len(wanted) or not len(ids):
        return np.zeros(len(ids), np.bool_)
    first, last = int(ids[0]), int(ids[-1])
    if last - first < 16 * (len(ids) + len(wanted)):  # a table is ten times as fast as looking up
        table = np.zeros(last - first + 1, np.bool_)
        low, high = np.searchsorted(wanted, [first, last + 1])
        table[wanted[low:high] - first] = True
        return np.asarray(table[ids - first], np.bool_)
    places = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[places] == ids, np.bool_)


def _lists(rows: int) -> int:
    """About twice the root of the rows, as FAISS advises; a power of two."""
    return int(2 ** max(0, round(np.log2(2 * np.sqrt(rows)))))


def _npy(array: NDArray[Any]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
