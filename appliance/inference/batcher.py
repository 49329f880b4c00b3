"""Many callers, one forward pass: what they hand in waits here until the worker's next batch.

One thread forms and runs the batches. Questions go before documents. Within an
urgency the call that was served least goes next, and others of like length ride
along. Which texts share a batch is chance, so a model must give a text the same
row in any company; the batch does its part by holding only texts of like length,
which leaves little padding.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from appliance.errors import ModelBusy, ModelUnreachable
from appliance.types import Role

log = logging.getLogger("kura.infer")

Item = TypeVar("Item")
Row = TypeVar("Row")

LIKE = 0.75  # the shortest of a batch is at least this share of its longest
SHORT = 32  # characters; what is shorter costs a pass as much as this

Turn = Callable[[Callable[[], bool]], AbstractContextManager[None]]


@contextmanager
def _at_once(patient: Callable[[], bool]) -> Iterator[None]:
    yield


@dataclass(eq=False)
class _Entry(Generic[Item, Row]):
    call: _Call[Item, Row]
    index: int
    item: Item
    size: int


@dataclass(eq=False)
class _Call(Generic[Item, Row]):
    future: Future[list[Row]]
    served: int  # characters, beginning with those of whoever had most when the call came
    missing: int
    rows: dict[int, Row] = field(default_factory=dict)
    waiting: list[_Entry[Item, Row]] = field(default_factory=list)  # shortest first
    alone: list[_Entry[Item, Row]] = field(default_factory=list)  # their batch failed
    settled: bool = False


@dataclass(eq=False)
class _Lane(Generic[Item, Row]):
    """One urgency: the calls that have something waiting, in the order they came."""

    calls: dict[_Call[Item, Row], None] = field(default_factory=dict)
    since: float = 0.0  # when this lane's last batch ended, or it began to wait for one

    def entries(self) -> Iterator[_Entry[Item, Row]]:
        for call in self.calls:
            yield from call.waiting
            yield from call.alone


class Batcher(Generic[Item, Row]):
    """`run(role, items)` gives a row an item; only the worker calls it, inside `turn`.

    A batch has at most `texts` items and, padded to its longest, at most `chars`
    characters (one item alone may be longer). Documents wait for questions, but
    no longer than `patience_s` between two batches of theirs. `turn(patient)` is held for one
    batch; which one is decided inside it, and `patient()` says whether only
    documents are waiting now. `waiting` bounds the items of each urgency.
    """

    def __init__(
        self,
        run: Callable[[Role, list[Item]], Iterable[Row]],
        size: Callable[[Item], int],
        *,
        texts: int,
        chars: int,
        waiting: int = 4096,
        patience_s: float = 1.0,
        turn: Turn = _at_once,
        clock: Callable[[], float] = time.monotonic,
        name: str = "batcher",
    ) -> None:
        self._run = run
        self._size = size
        self._texts = texts
        self._chars = chars
        self._limit = waiting
        self._patience_s = patience_s
        self._turn = turn
        self._clock = clock
        self._changed = threading.Condition()
        self._query: _Lane[Item, Row] = _Lane()
        self._passage: _Lane[Item, Row] = _Lane()
        self._char_s = 1e-4  # seconds a character takes, for Retry-After
        self._closed = False
        self._last: Role = "query"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def rows(self, items: Sequence[Item], role: Role, timeout_s: float | None = None) -> list[Row]:
        """A row an item, in the caller's order. Raises what `submit` raises, or what `run` did.

        ModelBusy after `timeout_s`; whoever stops waiting frees its place.
        """
        future = self.submit(items, role)
        try:
            if not wait([future], timeout_s).done:
                raise ModelBusy(
                    f"モデルの応答に {timeout_s:g} 秒より長くかかっています。", self._drained(role)
                )
            return future.result()
        finally:
            future.cancel()

    def submit(self, items: Sequence[Item], role: Role) -> Future[list[Row]]:
        """Cancelling the future frees the call's place. Raises ModelBusy, ModelUnreachable.

        A call too large for the queue is taken when nothing else waits.
        """
        future: Future[list[Row]] = Future()
        if not items:
            future.set_result([])
            return future
        lane = self._lane(role)
        with self._changed:
            if self._closed:
                raise ModelUnreachable("モデルを止めています。")
            count = self.waiting(role)
            if count and count + len(items) > self._limit:
                raise ModelBusy(f"モデルの前に {count} 個の文が待っています。", self._drained(role))
            # The newest is behind everyone: starting lower, a stream of new ones would starve the old.
            served = max((other.served for other in lane.calls), default=0)
            call: _Call[Item, Row] = _Call(future, served, len(items))
            call.waiting = sorted(
                (
                    _Entry(call, n, item, max(self._size(item), SHORT))
                    for n, item in enumerate(items)
                ),
                key=_size,
            )
            if not lane.calls:
                lane.since = self._clock()
            lane.calls[call] = None
            self._changed.notify_all()
        future.add_done_callback(lambda _: self._forget(lane, call))
        return future

    def waiting(self, role: Role) -> int:
        """Items that no batch has taken yet."""
        with self._changed:
            return sum(len(call.waiting) + len(call.alone) for call in self._lane(role).calls)

    def close(self) -> None:
        """End the worker after its batch. Whoever still waits gets ModelUnreachable."""
        self._end()
        if threading.current_thread() is not self._thread:
            self._thread.join(10)

    def _lane(self, role: Role) -> _Lane[Item, Row]:
        return self._query if role == "query" else self._passage

    def _drained(self, role: Role) -> float:
        """Seconds until what waits now is done, as far as one can tell."""
        with self._changed:
            ahead = sum(entry.size for entry in self._lane(role).entries())
        return min(max(ahead * self._char_s, 1.0), 60.0)

    def _forget(self, lane: _Lane[Item, Row], call: _Call[Item, Row]) -> None:
        with self._changed:
            lane.calls.pop(call, None)

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            left = [*self._query.calls, *self._passage.calls]
            self._changed.notify_all()
        for call in left:
            self._settle(call, ModelUnreachable("the models were stopped"))

    def _settle(self, call: _Call[Item, Row], error: BaseException | None = None) -> None:
        with self._changed:
            if call.settled:
                return
            call.settled = True
        if not call.future.set_running_or_notify_cancel():
            return  # its caller has given up
        if error is not None:
            call.future.set_exception(error)
        else:
            call.future.set_result([call.rows[n] for n in range(len(call.rows))])

    # --- the worker's thread ---------------------------------------------------

    def _work(self) -> None:
        try:
            while self._something_waits():
                with self._turn(self._only_documents):
                    role, batch = self._take()
                    if batch:
                        self._pass(role, batch)
                with self._changed:
                    self._lane(role).since = self._clock()
        finally:
            self._end()

    def _something_waits(self) -> bool:
        with self._changed:
            while not (self._closed or self._query.calls or self._passage.calls):
                self._changed.wait()
            return not self._closed

    def _only_documents(self) -> bool:
        return not self._query.calls

    def _take(self) -> tuple[Role, list[_Entry[Item, Row]]]:
        """The next batch; empty when everybody has given up meanwhile."""
        with self._changed:
            waited = self._clock() - self._passage.since
            # Never two of documents in a row, however long a batch takes.
            due = self._passage.calls and self._last == "query" and waited > self._patience_s
            role: Role = "passage" if due or not self._query.calls else "query"
            lane = self._lane(role)
            self._last = role
            batch = self._batch(lane)
            for call in {entry.call for entry in batch}:
                if not (call.waiting or call.alone):
                    del lane.calls[call]
            return role, batch

    def _batch(self, lane: _Lane[Item, Row]) -> list[_Entry[Item, Row]]:
        """The longest of the call that was served least, then the nearest of each call in turn."""
        turns = [(call.served, n, call) for n, call in enumerate(lane.calls)]
        heapq.heapify(turns)
        if not turns:
            return []
        first = turns[0][2]
        if first.alone:
            entry = first.alone.pop()
            first.served += entry.size
            return [entry]
        longest = first.waiting[-1].size
        room = max(1, min(self._texts, self._chars // longest))
        batch: list[_Entry[Item, Row]] = []
        while turns and len(batch) < room:
            _, n, call = heapq.heappop(turns)
            at = bisect_right(call.waiting, longest, key=_size) - 1
            if at < 0 or call.waiting[at].size < longest * LIKE:
                continue
            batch.append(call.waiting.pop(at))
            call.served += batch[-1].size
            heapq.heappush(turns, (call.served, n, call))
        return batch

    def _pass(self, role: Role, batch: list[_Entry[Item, Row]]) -> None:
        started = time.monotonic()
        try:
            rows = list(self._run(role, [entry.item for entry in batch]))
            if len(rows) != len(batch):
                raise ValueError(f"{len(rows)} rows for {len(batch)} texts")
        except Exception as error:
            # Whatever one text did to the model, the texts beside it are to be served.
            log.warning("a batch of %d texts failed", len(batch), exc_info=True)
            self._failed(role, batch, error)
            return
        except BaseException:
            for entry in batch:
                self._settle(entry.call, ModelUnreachable("the models were stopped"))
            raise
        chars = sum(entry.size for entry in batch)
        self._char_s = 0.8 * self._char_s + 0.2 * (time.monotonic() - started) / chars
        for entry, row in zip(batch, rows, strict=True):
            entry.call.rows[entry.index] = row
            entry.call.missing -= 1
            if not entry.call.missing:
                self._settle(entry.call)

    def _failed(self, role: Role, batch: list[_Entry[Item, Row]], error: Exception) -> None:
        """Each text of the batch is tried once more, alone; the one that fails alone is at fault."""
        if len(batch) == 1:
            self._settle(batch[0].call, error)
            return
        lane = self._lane(role)
        with self._changed:
            for entry in batch:
                if not entry.call.future.done():
                    entry.call.alone.append(entry)
                    lane.calls[entry.call] = None


def _size(entry: _Entry[Any, Any]) -> int:
    return entry.size
