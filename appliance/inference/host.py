"""Before the engine: who is next, who is told to come back, who hears what.

Requests wait in a fair queue; the first of them starts as soon as a slot is free and its prompt
and limit fit beside what runs. Nothing overtakes it meanwhile, so a long prompt is not starved by
short ones. Whoever waits hears the place, each time it changes.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from appliance.errors import ModelBusy, PromptTooLong
from appliance.inference import fair
from appliance.inference.metrics import Meter
from appliance.inference.prompts import Part, Rendered
from appliance.inference.work import EVERYBODY, End, Event, Piece, Sampling, Waiting, Work

log = logging.getLogger("kura.infer")

Listener = Callable[[Event], None]


class Backend(Protocol):
    """What computes: the engine in this process, or in a child. `listen` comes before `start`.

    `slots` is 0 while there is no model; it calls `wake` when that changes. `tokenize` and
    `grammar` raise ModelUnreachable meanwhile, `grammar` BadRequest.
    """

    @property
    def slots(self) -> int: ...

    def listen(
        self, emit: Callable[[int, Piece | End], None], wake: Callable[[], None]
    ) -> None: ...
    def tokenize(self, parts: Sequence[Part], *, begin: bool = True) -> list[int]: ...
    def grammar(self, source: str, schema: bool) -> str: ...
    def start(self, work: Work) -> None: ...
    def cancel(self, id: int) -> None: ...
    def stats(self) -> dict[str, Any]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Request:
    """`owner` says whose prefixes may be reused; empty means nobody else's, ever."""

    prompt: Rendered
    limit: int
    owner: str = ""
    stop: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    schema: str = ""  # JSON schema that the answer must follow
    grammar: str = ""  # or a grammar, in GBNF


class Job:
    """A request under way. The listener hears an End last, whatever happens."""

    def __init__(self, host: Host, work: Work, owner: str, listener: Listener) -> None:
        self._host = host
        self.work = work
        self.owner = owner
        self.listener = listener
        self.place = 0  # last told
        self.arrived = time.monotonic()
        self.started = 0.0
        self.spoke = 0.0

    def cancel(self) -> None:
        self._host.cancel(self)


class Host:
    """Safe to use from any thread. Listeners are called from the engine's; they must not block."""

    def __init__(
        self,
        backend: Backend,
        *,
        context_tokens: int,
        queue_size: int,
        share_prefixes: bool = False,
        model: str = "",
    ) -> None:
        self._backend = backend
        self.meter = Meter(model, self.stats)
        self.context_tokens = context_tokens
        self._share = share_prefixes
        self._lock = threading.Lock()
        self._queue: fair.FairQueue[Job] = fair.FairQueue(queue_size)
        self._running: dict[int, Job] = {}
        self._reserved = 0
        self._ids = itertools.count(1)
        self._seconds = 3.0  # a request's usual time in its slot, for Retry-After
        self._refused = 0
        backend.listen(self._hear, self.wake)

    def close(self) -> None:
        self._backend.close()

    def count(self, text: str) -> int:
        """The tokens of a text."""
        return len(self._backend.tokenize([Part(text)], begin=False))

    def submit(self, request: Request, listener: Listener) -> Job:
        """Raises PromptTooLong, BadRequest, ModelUnreachable, or ModelBusy when it may not wait."""
        tokens = self._backend.tokenize(request.prompt.parts)
        if len(tokens) + request.limit > self.context_tokens:
            raise PromptTooLong(len(tokens) + request.limit, self.context_tokens)
        sampling = request.sampling
        if source := request.schema or request.grammar:
            grammar = self._backend.grammar(source, bool(request.schema))
            sampling = replace(sampling, grammar=grammar)
        shared = 0
        if request.prompt.shared:
            shared = _common(self._backend.tokenize(request.prompt.shared), tokens)
        id = next(self._ids)
        reuse = EVERYBODY if self._share else request.owner or f"request {id}"
        stop = tuple(dict.fromkeys((*request.prompt.stop, *request.stop)))
        work = Work(id, tokens, request.limit, shared, reuse, stop, sampling)
        job = Job(self, work, request.owner, listener)
        with self._lock:
            try:
                self._queue.put(
                    job,
                    request.owner or f"request {id}",
                    place_s=self._seconds / max(1, self._backend.slots),
                    claims=bool(request.owner),
                )
            except fair.Full as full:
                self._refused += 1
                raise ModelBusy(_why(full), max(1.0, full.retry_s)) from None
            self._dispatch()
        return job

    def cancel(self, job: Job) -> None:
        with self._lock:
            waited = self._queue.remove(job)
            if waited:
                self._dispatch()
            running = job.work.id in self._running
        if waited:
            self.meter.ended("cancelled", time.monotonic() - job.arrived)
            job.listener(End("cancelled", len(job.work.tokens)))
        elif running:
            self._backend.cancel(job.work.id)

    def wake(self) -> None:
        """There is a model again."""
        with self._lock:
            self._dispatch()

    def stats(self) -> dict[str, Any]:
        """For /health: who runs, who waits, and the backend's own figures."""
        with self._lock:
            mine = {
                "waiting": len(self._queue),
                "running": len(self._running),
                "refused": self._refused,
            }
        return mine | self._backend.stats()

    def _dispatch(self) -> None:
        """Start who may start, and tell the others their place. Called with the lock held."""
        while job := self._queue.first():
            need = self._reserved + job.work.reserved
            if len(self._running) >= self._backend.slots or need > self.context_tokens:
                break
            self._queue.pop()
            self._running[job.work.id] = job
            self._reserved = need
            job.started = time.monotonic()
            self.meter.waited(job.started - job.arrived)
            if job.place:
                job.listener(Waiting(0))
            self._backend.start(job.work)
        for place, job in enumerate(self._queue.items(), 1):
            if job.place != place:
                job.place = place
                job.listener(Waiting(place))

    def _hear(self, id: int, event: Piece | End) -> None:
        now = time.monotonic()
        if isinstance(event, Piece):
            job = self._running.get(id)
            if job:
                self.meter.spoke(now - (job.spoke or job.arrived), first=not job.spoke)
                job.spoke = now
        else:
            with self._lock:
                job = self._running.pop(id, None)
                if job:
                    self._reserved -= job.work.reserved
                    self._seconds += 0.2 * (now - job.started - self._seconds)
                    self._dispatch()
            if job:
                self.meter.ended(event.finish, now - job.arrived)
        if job:
            job.listener(event)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _why(full: fair.Full) -> str:
    if full.owner_full:
        return "this person already has as many requests waiting as one may have"
    return f"{full.waiting} requests are already waiting"
