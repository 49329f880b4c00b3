"""Continuous batching: many requests in one context, one thread that owns it.

Each step computes one batch: for every stream that writes, its last token (and, where it pays, a
draft of what may follow); then, in order of arrival, as much of the waiting prompts as the step
has room for. There is no phase of reading and none of writing, only tokens to catch up with; a long
prompt costs the other streams one bounded step at a time. What was admitted is never evicted: its
prompt and its limit are reserved before it starts, and cached prefixes give way.
"""

from __future__ import annotations

import codecs
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from appliance.errors import BadRequest
from appliance.inference import prefix
from appliance.inference.cores import Cores
from appliance.inference.work import (
    DRAFT_TOKENS,
    GUESSES,
    End,
    Entry,
    Finish,
    Piece,
    Sampling,
    Work,
)

log = logging.getLogger("kura.infer")

# Guesses make streams that began together end apart, and each prompt that then comes alone holds up
# the others for as long as it is read: with eight streams, gaps of 840 ms instead of 130 at p99, for a
# fortieth more words. So more streams than this guess only where most of a prompt is found in the
# cache lately, and what is left is read in SOON steps or less: a twelfth more words there.
DRAFT_STREAMS = 4
SOON = 1.5
LATELY = 0.2  # how much each prompt changes what is thought of the next
DRAFT_GRAMS = (4, 3)  # lengths of what must repeat before the rest is guessed
TRUST = 0.5  # in a stream's guesses before any was seen to be right or wrong
LEARNING = 0.2  # how much each of them changes it
# Steps that a stream whose prompt was read waits for those that came with it: eight prompts of 650
# tokens are twenty. A limit of ten seconds did the same, until a day on which those eight took fifteen:
# streams began one by one, and words came 1.0 s apart at p99 instead of 0.2.
TOGETHER = 24
WORTH = 32  # tokens that another is reading now and that it pays to wait for
GRAMMAR_SECONDS = 20.0  # of choosing tokens by a grammar, in one request

Emit = Callable[[int, Piece | End], None]


class Chooser(Protocol):
    """Chooses a request's tokens."""

    def choose(self, logits: Any) -> int: ...
    def accept(self, token: int) -> None: ...
    def alternatives(self, logits: Any, token: int) -> tuple[float, list[tuple[int, float]]]: ...
    def close(self) -> None: ...


class Core(prefix.Cells, Protocol):
    """The context: `appliance.inference.llama.Llama`, or a fake."""

    context_tokens: int
    batch_tokens: int
    apart: bool  # whether writing and reading tokens are computed quicker one after the other
    step_cost: float  # of a step before its first token, in the time of a token
    prefill_tokens: int  # of a second context in which prompts are read; 0: there is none

    def decode(self, entries: Sequence[Entry], *, prefill: bool = False) -> None: ...
    def to_prefill(self, sequence: int, end: int) -> None: ...
    def from_prefill(self, sequence: int, start: int, end: int) -> None: ...
    def logits(self, entry: int) -> Any: ...
    def sampler(self, sampling: Sampling) -> Chooser: ...
    def piece(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...
    def clear(self) -> None: ...


@dataclass(eq=False)
class Slot:
    """A request that runs. `past` tokens of it are in the cache; `chosen` is the next to go in."""

    work: Work
    sequence: int
    text: Text
    sampler: Chooser
    known: list[int]  # prompt and what was written
    arrived: float  # by time.monotonic
    ready: float = math.inf  # since when only the last token of its prompt is missing
    waited: int = 0  # steps since
    node: prefix.Node | None = None  # its pinned prefix
    prefill: bool = False  # it is read in the prefill context
    past: int = 0
    owned: int = 0  # cells that only this slot holds
    reused: int = 0
    written: int = 0
    chosen: int | None = None
    grams: dict[tuple[int, ...], int] = field(default_factory=dict)
    guess: Sequence[int] = ()  # what may follow `chosen`
    trust: float = TRUST  # the share of guesses that was right lately
    cancelled: bool = False
    choosing_s: float = 0.0
    details: list[dict[str, Any]] = field(default_factory=list)  # log-probabilities not yet sent

    @property
    def writing(self) -> bool:
        return self.chosen is not None

    @property
    def reading(self) -> bool:
        return self.chosen is None and self.ready == math.inf

    def path(self, end: int) -> prefix.Path:
        """What is at its positions up to `end`, as a path."""
        tokens, shared = self.known[:end], self.work.shared
        return prefix.path(tokens, shared, self.work.owner) if end > shared else tokens


Plan = list[tuple[Slot, list[Entry]]]


@dataclass
class Counts:
    """Since the start."""

    steps: int = 0
    read: int = 0  # prompt tokens computed
    reused: int = 0  # prompt tokens found in the cache
    written: int = 0
    drafted: int = 0
    accepted: int = 0
    finished: int = 0
    cancelled: int = 0


class Engine:
    """Starts its thread at construction. `slots` sequences run, `cached` more hold prefixes.

    Prefixes that nobody runs on keep at most `idle` cells: the more cells are in use, the longer a
    step takes. None: whatever nobody else wants.
    """

    def __init__(
        self,
        core: Core,
        emit: Emit,
        cores: Cores,
        *,
        slots: int,
        cached: int,
        idle: int | None = None,
    ) -> None:
        self._core = core
        self._emit = emit
        self._cores = cores
        self._free = list(range(slots))
        self._prefixes = prefix.Prefixes(core, range(slots, slots + cached))
        self._idle = idle
        self._slots: list[Slot] = []  # in order of arrival
        self._inbox: queue.SimpleQueue[Work | int | None] = queue.SimpleQueue()
        # of a prompt's tokens, lately, those that were not in the cache; at first taken for many
        self._unread = 2 * SOON * core.batch_tokens
        self._closing = False
        self.counts = Counts()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def start(self, work: Work) -> None:
        """The caller sees to it that a slot is free and that what runs fits the context."""
        self._inbox.put(work)

    def cancel(self, id: int) -> None:
        self._inbox.put(id)

    def close(self) -> None:
        """End what runs, and the thread."""
        self._inbox.put(None)
        self._thread.join(30)

    def used(self) -> tuple[int, int]:
        """Cells held by running requests alone, and by cached prefixes."""
        return sum(s.owned for s in list(self._slots)), self._prefixes.cells

    @property
    def running(self) -> int:
        return len(self._slots)

    # --- the engine's thread -----------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            self._receive(block=not self._slots)
            if not self._slots:
                continue
            with self._cores.urgent():
                while self._slots and not self._closing:
                    self._step()
                    self._receive(block=False)
        for slot in list(self._slots):
            self._finish(slot, "cancelled")

    def _receive(self, block: bool) -> None:
        while True:
            try:
                message = self._inbox.get(block=block)
            except queue.Empty:
                return
            block = False
            if message is None:
                self._closing = True
            elif isinstance(message, int):
                for slot in self._slots:
                    slot.cancelled |= slot.work.id == message
            else:
                self._admit(message)

    def _admit(self, work: Work) -> None:
        try:
            sampler = self._core.sampler(work.sampling)
        except BadRequest as error:
            self._emit(work.id, End("error", len(work.tokens), message=str(error)))
            return
        known, arrived = list(work.tokens), time.monotonic()
        self._slots.append(Slot(work, self._free.pop(), Text(work.stop), sampler, known, arrived))

    def _step(self) -> None:
        for slot in [s for s in self._slots if s.cancelled]:
            self._finish(slot, "cancelled")
        try:
            writing, reading = self._plan()
            for plan in (writing, reading) if self._core.apart else (writing + reading,):
                for prefill in (False, True):
                    if part := [p for p in plan if p[0].prefill is prefill]:
                        self._compute(part, prefill)
            self.counts.steps += 1
        except Exception as error:
            # The context is in doubt: whoever runs is told, whoever comes finds it clean.
            log.exception("a step failed")
            self._fail(f"{type(error).__name__}: {error}")

    def _compute(self, plan: Plan, prefill: bool) -> None:
        entries = [entry for _, part in plan for entry in part]
        self._make_room(len(entries))
        with self._cores.turn():
            self._core.decode(entries, prefill=prefill)
        at = 0
        for slot, part in plan:
            self._take(slot, part, at)
            at += len(part)

    def _plan(self) -> tuple[Plan, Plan]:
        """Who gives which tokens to this step: those who write, and those whose prompt is read."""
        reading = [s for s in self._slots if s.reading]
        writing = [s for s in self._slots if s.writing or (not s.reading and self._starts(s))]
        room = self._core.batch_tokens
        plan: Plan = []
        soon = self._unread <= SOON * room
        many = len(writing) > DRAFT_STREAMS and not soon
        guesses = GUESSES if not many and (self._core.apart or not reading) else 0
        for slot in writing[:room]:
            draft = self._draft(slot, len(writing), min(guesses, room - len(writing)))
            plan.append((slot, self._entries(slot, [slot.known[slot.past], *draft], -1)))
            guesses -= len(draft)
            room -= len(plan[-1][1])
        prompts: Plan = []
        full = False  # somebody waits for room: nobody begins before, who has begun goes on
        for slot in reading:
            if room <= 0:
                break
            if slot.node is None:
                if full or self._comes(slot):
                    continue
                if full := not self._borrow(slot):
                    continue
            part = slot.work.tokens[slot.past : slot.past + room]
            last = slot.past + len(part) == len(slot.work.tokens)
            if last and self._core.apart and len(reading) > 1:
                part.pop()  # it starts with the others
                last = False
            if part:
                wanted = len(part) - 1 if last else len(part)
                prompts.append((slot, self._entries(slot, part, wanted)))
                room -= len(part)
            else:
                slot.ready = time.monotonic()
        return plan, prompts

    def _starts(self, slot: Slot) -> bool:
        """Whether it writes now, and waits no more for those who came while its prompt was read.

        Where prompts and streams are computed apart, a stream that began while many prompts are
        read would get a token a step, and each step would be longer by a batch of few tokens.
        """
        slot.waited += 1
        if slot.waited > TOGETHER:
            return True
        return not any(s.reading and s.arrived <= slot.ready for s in self._slots)

    def _comes(self, slot: Slot) -> bool:
        """Whether another is reading more of this prompt than the cache has."""
        wanted = slot.path(len(slot.work.tokens) - 1)
        have = self._prefixes.find(wanted).end
        return any(
            prefix.common(wanted, other.path(len(other.work.tokens))) - have >= WORTH
            for other in self._slots
            if other.reading and other.node
        )

    def _entries(self, slot: Slot, tokens: Sequence[int], wanted_from: int) -> list[Entry]:
        return [
            Entry(token, slot.past + n, slot.sequence, n >= wanted_from)
            for n, token in enumerate(tokens)
        ]

    def _borrow(self, slot: Slot) -> bool:
        """Start from what the cache has of the prompt, all but its last token at most.

        Where prompts are read in a context of their own, it waits until there is room: False.
        """
        length, room = len(slot.work.tokens), self._core.prefill_tokens
        if length <= room:
            if length > room - sum(len(s.work.tokens) for s in self._slots if s.prefill):
                return False
            slot.prefill = True
        node = self._prefixes.find(slot.path(length - 1))
        self._prefixes.lend(node, slot.sequence)
        slot.node = node
        slot.past = slot.reused = node.end
        self.counts.reused += node.end
        self._unread += LATELY * (length - node.end - self._unread)
        if slot.prefill:
            self._core.to_prefill(slot.sequence, node.end)
        return True

    def _make_room(self, tokens: int) -> None:
        owned, cached = self.used()
        short = owned + cached + tokens - self._core.context_tokens
        if short > 0:
            self._prefixes.give_way(short)

    def _take(self, slot: Slot, part: Sequence[Entry], at: int) -> None:
        """Use what a step computed for this slot."""
        if slot.writing:
            self._write(slot, [e.token for e in part[1:]], at)
            return
        slot.past += len(part)
        slot.owned += len(part)
        self.counts.read += len(part)
        missing = len(slot.work.tokens) - slot.past
        if missing <= 1:
            self._keep(slot)
            slot.ready = min(slot.ready, time.monotonic())
        if not missing:
            self._index(slot, 0)
            self._choose(slot, at + len(part) - 1)

    def _write(self, slot: Slot, guesses: Sequence[int], at: int) -> None:
        """Choose after the last token, and after each guess for as long as the guesses are right."""
        right = 0
        while True:
            slot.past += 1
            slot.owned += 1
            going_on = self._choose(slot, at + right)
            if not going_on or right == len(guesses) or slot.chosen != guesses[right]:
                break
            right += 1
        self.counts.drafted += len(guesses)
        self.counts.accepted += right
        if going_on and right < len(guesses):
            self._core.remove(slot.sequence, slot.past)

    def _choose(self, slot: Slot, entry: int) -> bool:
        """Choose and say the next token. False if the request ended with it."""
        logits = self._core.logits(entry)
        began = time.perf_counter()
        token = slot.sampler.choose(logits)
        slot.choosing_s += time.perf_counter() - began
        if self._core.ends(token):
            self._say(slot, slot.text.flush())
            self._finish(slot, "stop")
            return False
        slot.sampler.accept(token)
        if slot.work.sampling.logprobs >= 0:
            slot.details.append(self._detail(slot, logits, token))
        if slot.guess:
            slot.trust += LEARNING * ((slot.guess[0] == token) - slot.trust)
        slot.chosen = token
        slot.known.append(token)
        slot.written += 1
        self.counts.written += 1
        self._index(slot, len(slot.known) - 1)
        slot.guess = self._guess(slot)
        self._say(slot, slot.text.add(self._core.piece(token)))
        if slot.text.stopped:
            self._finish(slot, "stop")
        elif slot.written >= slot.work.limit:
            self._say(slot, slot.text.flush())
            self._finish(slot, "length")
        elif slot.cancelled:
            self._finish(slot, "cancelled")
        elif slot.work.sampling.grammar and slot.choosing_s > GRAMMAR_SECONDS:
            self._finish(slot, "error", f"the grammar took longer than {GRAMMAR_SECONDS:.0f} s")
        else:
            return True
        return False

    def _detail(self, slot: Slot, logits: Any, token: int) -> dict[str, Any]:
        own, others = slot.sampler.alternatives(logits, token)

        def row(token: int, value: float) -> dict[str, Any]:
            data = self._core.piece(token)
            return {
                "token": data.decode("utf-8", "replace"),
                "bytes": list(data),
                "logprob": round(value, 6),
            }

        return row(token, own) | {"top_logprobs": [row(t, v) for t, v in others]}

    def _say(self, slot: Slot, pieces: Iterator[str]) -> None:
        for piece in pieces:
            self._emit(slot.work.id, Piece(piece, tuple(slot.details)))
            slot.details.clear()

    def _keep(self, slot: Slot) -> None:
        """Share with the cache what the slot holds."""
        if slot.prefill:
            self._core.from_prefill(slot.sequence, slot.reused, slot.past)
            slot.prefill = False
        before = self._prefixes.cells
        node = self._prefixes.keep(slot.path(slot.past), slot.sequence)
        slot.owned -= self._prefixes.cells - before
        if slot.node:
            self._prefixes.unpin(slot.node)
        slot.node = node

    def _finish(self, slot: Slot, finish: Finish, message: str = "") -> None:
        self._slots.remove(slot)
        self.counts.finished += 1
        self.counts.cancelled += finish == "cancelled"
        if slot.past:
            self._keep(slot)
        self._release(slot)
        if self._idle is not None:
            self._prefixes.give_way(self._prefixes.idle - self._idle)
        end = End(finish, len(slot.work.tokens), slot.written, message, slot.reused)
        self._emit(slot.work.id, end)

    def _release(self, slot: Slot) -> None:
        if slot.node:
            self._prefixes.unpin(slot.node)
        self._core.remove(slot.sequence, 0)
        self._free.append(slot.sequence)
        slot.sampler.close()

    def _fail(self, message: str) -> None:
        slots, self._slots = self._slots, []
        for slot in slots:
            slot.sampler.close()
            self._free.append(slot.sequence)
        self._core.clear()
        self._prefixes.clear()
        for slot in slots:
            self._emit(slot.work.id, End("error", len(slot.work.tokens), slot.written, message))

    # --- drafts: what follows where the same words stood before ---------------------

    def _index(self, slot: Slot, start: int) -> None:
        """Remember where each run of tokens was last seen. The end of `known` has no next yet."""
        known = slot.known
        for end in range(max(start, 1), len(known)):
            for size in DRAFT_GRAMS:
                if end >= size:
                    slot.grams[tuple(known[end - size : end])] = end

    def _guess(self, slot: Slot) -> Sequence[int]:
        for size in DRAFT_GRAMS:
            found = slot.grams.get(tuple(slot.known[-size:]))
            if found is not None:
                return slot.known[found : found + DRAFT_TOKENS]
        return ()

    def _draft(self, slot: Slot, streams: int, most: int) -> Sequence[int]:
        """As much of the guess as is worth its time.

        A step of `n` tokens takes as long as `step_cost + n` of them, so one more pays if it is
        right more often than `n` in `step_cost + n`. Each rests on all those before it.
        """
        worth = streams / (streams + self._core.step_cost)
        most = min(most, len(slot.guess), slot.work.limit - slot.written - 1)
        length, sure = 0, slot.trust
        while length < most and sure > worth:
            length += 1
            sure *= slot.trust
        return slot.guess[:length]


class Text:
    """Bytes in, whole characters out, nothing from a stop string on."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = [s for s in stop if s]
        self._held = ""
        self.stopped = False

    def add(self, data: bytes) -> Iterator[str]:
        self._held += self._decoder.decode(data)
        found = [at for s in self._stop if (at := self._held.find(s)) >= 0]
        if found:
            self._held = self._held[: min(found)]
            self.stopped = True
            yield from self.flush()
            return
        keep = max((_overlap(self._held, s) for s in self._stop), default=0)
        ready, self._held = (
            self._held[: len(self._held) - keep],
            self._held[len(self._held) - keep :],
        )
        if ready:
            yield ready

    def flush(self) -> Iterator[str]:
        rest = self._held + ("" if self.stopped else self._decoder.decode(b"", final=True))
        self._held = ""
        if rest:
            yield rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )
