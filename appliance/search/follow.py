"""Keeps the indexes up with the catalogue: a thread that reads the change log.

The indexes are copies. Whatever happened to them, `reconcile` makes them equal to the
catalogue again; it runs at every start, and it is the whole of `kura reindex`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from sqlalchemy import Engine

from appliance.ports import Index
from appliance.search.scope import ScopeMap
from appliance.settings import Settings
from appliance.store import catalog
from appliance.types import ChunkIds, IndexChanges

log = logging.getLogger(__name__)

_BLOCK = 1000  # chunks read from the catalogue at a time
_LONGEST_WAIT_S = 30.0
_UNSAVED = -1


@runtime_checkable
class Filtering(Protocol):
    """An index that filters by the access it was given with each chunk."""

    def accesses(self) -> Mapping[int, int]: ...


@dataclass(frozen=True, slots=True)
class Report:
    """What `reconcile` found, over all indexes."""

    chunks: int  # in the catalogue
    added: int  # were missing, or under a wrong access
    removed: int  # the catalogue does not know them
    waiting: int  # have no vector of this embedder yet


class Follower:
    """The one writer of the indexes and the scope map of this process.

    An index with a `space` takes in only vectors of that embedder. `ready` once the indexes
    have been equal to the catalogue; `problem` says why they fall behind, if they do.
    """

    def __init__(
        self, engine: Engine, indexes: Sequence[Index], scopes: ScopeMap, settings: Settings
    ) -> None:
        self._engine = engine
        self._indexes = tuple(indexes)
        self._scopes = scopes
        self._settings = settings
        self._applying = threading.RLock()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._saved = {id(index): index.sequence for index in self._indexes}
        self._saved_at = time.monotonic()
        self.problem: str | None = None

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    def start(self) -> None:
        """Begin to follow, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until ready; False if it took longer."""
        return self._ready.wait(timeout_s)

    def close(self) -> None:
        """Stop following and save what is not saved; what cannot be saved is replayed next time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self.save()
        except OSError:
            log.exception("the indexes could not be saved")

    def catch_up(self) -> int:
        """Take in what the log holds by now. Returns 0 if there was nothing."""
        with self._applying:
            head = catalog.head(self._engine)
            if not self.ready or any(i.sequence > head or not i.sequence for i in self._indexes):
                if head or not self.ready:
                    report = self.reconcile()
                    return report.added + report.removed
                return 0
            return self._follow([self._scopes, *self._indexes])

    def reconcile(self) -> Report:
        """Make every index hold exactly what the catalogue holds, whatever it held before."""
        with self._applying:
            head = catalog.head(self._engine)
            self._follow([i for i in self._indexes if 0 < i.sequence <= head])
            head = catalog.head(self._engine)
            truth = dict(catalog.chunk_accesses(self._engine))
            self._scopes.load(truth.items(), head)
            parts = [self._repair(index, truth, head) for index in self._indexes]
            self._follow([self._scopes, *self._indexes])
            if not self._stop.is_set():
                self._ready.set()
            return Report(len(truth), *(sum(column) for column in zip(*parts, strict=True)))

    @property
    def indexes(self) -> tuple[Index, ...]:
        return self._indexes

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nothing is taken in meanwhile."""
        with self._applying:
            yield

    def fill(self, index: Index) -> bool:
        """Make an index that is not followed yet what the catalogue is. False: it was not ended.

        It takes a while, in which the others are followed. One that was saved may be from before the
        log begins, so it is compared, too.
        """
        head = catalog.head(self._engine)
        if 0 < index.sequence <= head:
            self._follow([index])
            head = index.sequence
        self._repair(index, dict(catalog.chunk_accesses(self._engine)), head)
        return self.follow(index)

    def follow(self, index: Index) -> bool:
        """What the log has of late for an index that was filled. False: it was not ended."""
        self._follow([index])
        return not self._stop.is_set()

    def exchange(self, old: Index, new: Index) -> None:
        """`new` is followed in the place of `old`."""
        with self._applying:
            self._indexes = tuple(new if one is old else one for one in self._indexes)
            self._saved[id(new)] = new.sequence

    def save(self) -> None:
        """Write a snapshot of every index that changed since the last."""
        with self._applying:
            for index in self._indexes:
                if index.sequence != self._saved[id(index)]:
                    index.save()
                    self._saved[id(index)] = index.sequence
            self._saved_at = time.monotonic()

    def _follow(self, targets: Sequence[Index | ScopeMap]) -> int:
        """The scope map comes first: what is withdrawn is so at once."""
        count = 0
        for space in dict.fromkeys(_space(target) for target in targets):
            group = [target for target in targets if _space(target) == space]
            while not self._stop.is_set():
                after = min(target.sequence for target in group)
                batch = catalog.changes(self._engine, after, embedder=space)
                if batch.sequence == after:
                    break
                for target in group:
                    if target.sequence < batch.sequence:
                        target.apply(batch)
                count += len(batch.removed)
        return count

    def _repair(self, index: Index, truth: Mapping[int, int], head: int) -> tuple[int, int, int]:
        held = index.accesses() if isinstance(index, Filtering) else None
        if held is None:
            missing = np.setdiff1d(_sorted(truth), index.ids(), assume_unique=True)
        else:
            missing = _sorted({i for i, access_id in truth.items() if held.get(i) != access_id})
        extra = np.setdiff1d(index.ids(), _sorted(truth), assume_unique=True)
        if not len(missing) and not len(extra) and index.sequence == head:
            return 0, 0, 0
        self._saved[id(index)] = _UNSAVED
        # until all is there, the sequence says that nothing is
        index.apply(IndexChanges(removed=extra))
        added = 0
        for start in range(0, len(missing), _BLOCK):
            if self._stop.is_set():
                return added, len(extra), len(missing) - added  # the next start goes on
            block = missing[start : start + _BLOCK]
            entries = catalog.entries(self._engine, block.tolist(), _space(index))
            index.apply(IndexChanges(tuple(entries)))
            added += len(entries)
        index.apply(IndexChanges(sequence=head))
        return added, len(extra), len(missing) - added

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self.catch_up()
                if time.monotonic() - self._saved_at >= self._settings.snapshot_seconds:
                    self.save()
                failures, self.problem = 0, None
            except Exception as error:
                # database away, disk full: the copies stay as they are until it is back
                failures += 1
                self.problem = f"{type(error).__name__}: {error}"
                log.exception("the indexes cannot follow the catalogue")
            wait_s = self._settings.follow_seconds * 2 ** min(failures, 10)
            self._stop.wait(min(wait_s, _LONGEST_WAIT_S))


def _space(target: object) -> str | None:
    return getattr(target, "space", None) or None


def _sorted(ids: Mapping[int, int] | set[int]) -> ChunkIds:
    return np.sort(np.fromiter(ids, np.int64, len(ids)))
