"""Files on their way in: some are parsed while others are embedded and one is stored.

    the owner's thread      some threads      two threads         the owner's thread
    put, with its bytes  →  prepare        →  embed, together  →  finish, one after another

The owner, who runs the source, speaks to it and writes the catalogue alone, and files end in the
order in which they were put. So to both it is as if each file were taken in before the next, and a
crash loses what is on its way, which is bounded in number and size. A stage that fails hands its
error to `finish`: whose fault it was is judged there.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeVar

from appliance.errors import ModelBusy, ModelUnreachable, NotReady
from appliance.ingest.vectors import EMBED_AT_ONCE, STOP_PATIENCE_S, Part, Stopped, of_parts
from appliance.ports import Embedder
from appliance.types import Vectors

PARSERS = min(4, os.cpu_count() or 1)  # each may need `parse_memory`
EMBEDDERS = 2  # one call waits at the models while they compute the other
FILES = 32  # on their way at most
ROOM = 200_000_000  # bytes of files and characters of their texts, unless it is one alone
_LOOK_S = 0.1  # how often a stop is noticed

T = TypeVar("T")
NOT_THE_FILES_FAULT = (Stopped, ModelBusy, ModelUnreachable, NotReady)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was parsed: what of it is to be embedded, and how it is stored."""

    parts: Sequence[Part]
    store: Callable[[Sequence[Vectors]], str]  # the vectors of each part; what it counts as
    awaited: bool = False  # others of the same bytes may have what a parser said, once it is stored

    @property
    def size(self) -> int:
        return sum(len(part.document.text) for part in self.parts)

    @property
    def chunks(self) -> int:
        """How many are to be embedded."""
        return sum(part.new for part in self.parts)


@dataclass(eq=False, slots=True)
class _Passing:
    uri: str
    size: int
    prepare: Callable[[], Prepared]
    finish: Callable[[Callable[[], str]], object]
    release: Callable[[], None]
    alike: tuple[str, str] = ("", "")  # the digest of its bytes, and its title
    at: Literal["put", "preparing", "prepared", "embedding", "done"] = "put"
    prepared: Prepared | None = None
    vectors: list[Vectors] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def parts(self) -> Sequence[Part]:
        return self.prepared.parts if self.prepared else ()

    def spares(self, other: _Passing) -> bool:
        """True if the other, of the same bytes, may have from the catalogue what is made here."""
        digest, title = self.alike
        if not digest or digest != other.alike[0]:
            return False
        if self.prepared is None or self.prepared.awaited:
            return True
        return bool(self.prepared.chunks) and title == other.alike[1]

    def outcome(self) -> str:
        """Stores it. Raises what a stage raised."""
        if self.error is not None:
            raise self.error
        assert self.prepared is not None
        return self.prepared.store(self.vectors)


class Flow:
    """Used by one thread, which every method belongs to.

    Raises what `finish` raises; nothing that was put behind that file is finished then. Waiting
    raises Stopped when `over` has been set for too long.
    """

    def __init__(self, embedder: Embedder, over: threading.Event) -> None:
        self._embedder, self._over = embedder, over
        self._over_at: float | None = None  # noticed
        self._changed = threading.Condition()
        self._passing: deque[_Passing] = deque()
        self._storing: _Passing | None = None
        self._closed = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for one in self._passing:
            one.release()
        self._passing.clear()

    def put(
        self,
        uri: str,
        size: int,
        prepare: Callable[[], Prepared],
        finish: Callable[[Callable[[], str]], object],
        release: Callable[[], None],
        alike: tuple[str, str] = ("", ""),
    ) -> None:
        """Waits for room, finishing others. `finish` is given what stores the file, or raises why
        it cannot be; `release` is called when nobody needs the file's bytes any more. Of files that
        are `alike`, by the digest of their bytes and their title, the second waits until the first
        is stored, where it may have from there what was made of that.
        """
        one = _Passing(uri, size, prepare, finish, release, alike)
        try:
            while self._passing and not self._has_room(size):
                self._finish()
        except BaseException:
            release()
            raise
        with self._changed:
            self._passing.append(one)
            self._changed.notify_all()
        self._start()

    def collect(self) -> None:
        """Finish what is ready, without waiting."""
        while self._passing and self._passing[0].at == "done":
            self._finish()

    def settle(self, uri: str) -> None:
        """What is said of this file now is said after what was."""
        while any(one.uri == uri for one in self._passing):
            self._finish()

    def drain(self) -> None:
        """Until everything that was put is finished."""
        while self._passing:
            self._finish()

    # --- the owner's thread ---

    def _has_room(self, size: int) -> bool:
        with self._changed:
            return len(self._passing) < FILES and self._size() + size <= ROOM

    def _size(self) -> int:
        return sum(one.size for one in self._passing)

    def _finish(self) -> None:
        """The first of all, waiting until its turn has come."""
        with self._changed:
            first = self._passing[0]
            while first.at != "done":
                self._changed.wait(_LOOK_S)
                self._mind_the_stop()
            self._storing = self._passing.popleft()
            self._changed.notify_all()
        try:
            first.finish(first.outcome)
        finally:
            first.release()
            with self._changed:
                self._storing = None
                self._changed.notify_all()

    def _mind_the_stop(self) -> None:
        if self._over.is_set():
            self._over_at = self._over_at or time.monotonic()
            if time.monotonic() - self._over_at > STOP_PATIENCE_S:
                raise Stopped

    def _start(self) -> None:
        """A run that changes nothing starts no thread."""
        if not self._threads:
            works = [self._parsing] * PARSERS + [self._embedding] * EMBEDDERS
            self._threads = [threading.Thread(target=one, name="flow") for one in works]
            for thread in self._threads:
                thread.start()

    # --- theirs ---

    def _parsing(self) -> None:
        while (one := self._taken(self._to_parse)) is not None:
            try:
                prepared = one.prepare()
                if not prepared.chunks:
                    one.vectors = of_parts(prepared.parts, self._embedder, self._over)
            except BaseException as error:  # noqa: BLE001  the owner's thread raises it
                self._done([one], error)
                continue
            with self._changed:
                one.prepared, one.at = prepared, "prepared" if prepared.chunks else "done"
                one.size += prepared.size
                self._changed.notify_all()

    def _embedding(self) -> None:
        while (some := self._taken(self._to_embed)) is not None:
            try:
                self._give_vectors(some)
                self._done(some)
            except BaseException as error:  # noqa: BLE001  the owner's thread raises it
                self._done(some, error)

    def _taken(self, look: Callable[[], T | None]) -> T | None:
        """What there is to do, waiting for it; None when the flow has ended."""
        with self._changed:
            while not self._closed:
                if (found := look()) is not None:
                    return found
                self._changed.wait()
            return None

    def _to_parse(self) -> _Passing | None:
        """The next, unless texts that were parsed already fill the room; the first has it always."""
        one = next((one for one in self._ready() if one.at == "put"), None)
        if one is None or (one is not self._passing[0] and self._size() > ROOM):
            return None
        one.at = "preparing"
        return one

    def _ready(self) -> Iterator[_Passing]:
        """All but those that wait for one of the same bytes to be stored."""
        ahead = [self._storing] if self._storing else []
        for one in self._passing:
            if one.at != "put" or not any(other.spares(one) for other in ahead):
                yield one
            ahead.append(one)

    def _to_embed(self) -> list[_Passing] | None:
        """The next that are parsed, in their order. Beside another call only as many as fill one."""
        some: list[_Passing] = []
        chunks = 0
        for one in self._ready():
            if one.at in ("put", "preparing") or chunks >= EMBED_AT_ONCE:
                break
            if one.at == "prepared" and one.prepared:
                some.append(one)
                chunks += one.prepared.chunks
        busy = any(one.at == "embedding" for one in self._passing)
        if not some or (busy and chunks < EMBED_AT_ONCE):
            return None
        for one in some:
            one.at = "embedding"
        return some

    def _give_vectors(self, some: Sequence[_Passing]) -> None:
        parts = [part for one in some for part in one.parts]
        try:
            vectors = iter(of_parts(parts, self._embedder, self._over))
        except NOT_THE_FILES_FAULT:
            raise
        except Exception:
            if len(some) == 1:
                raise
            for one in some:  # whichever is at fault takes no other with it
                try:
                    self._give_vectors([one])
                except Exception as error:  # noqa: BLE001  the owner's thread raises it
                    one.error = error
            return
        for one in some:
            one.vectors = [next(vectors) for _ in one.parts]

    def _done(self, some: Sequence[_Passing], error: BaseException | None = None) -> None:
        with self._changed:
            for one in some:
                one.error, one.at = one.error or error, "done"
            self._changed.notify_all()
