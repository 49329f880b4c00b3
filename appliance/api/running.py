"""One question being answered: in its own thread, so that nobody's reading slows another.

A question of a conversation is kept before it is answered, as one whose answer
broke off: that is what it is if this process dies. While it does not, `Pulse`
says so in the row, to every process of the site. The answer is kept and
recorded by the thread, whether or not
anybody is still listening. Who was told where it will be may leave and find it
there; anybody else who hangs up cancels it, and so does who signs out or loses
the account or the key, within a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Engine
from starlette.exceptions import HTTPException

from appliance.api import render
from appliance.api.shapes import Answer as AnswerShape
from appliance.ask.answer import Found, Piece, Stage
from appliance.errors import ApplianceError, ModelBusy, NotReady, NotSignedIn, NotVisible
from appliance.identity import callers
from appliance.identity.callers import Caller
from appliance.search.retrieve import ANY
from appliance.store import audit, conversations
from appliance.system import Appliance
from appliance.types import Answer, Ended, Filter, Passage, Turn

log = logging.getLogger("kura.ask")

LOOK_S = 0.2  # how often the listener looks whether the reader is still there
ALIVE_S = 0.5  # how often it asks whether the reader may still be
KEEP_ALIVE_S = 10.0
PULSE_S = 2.0  # how often it is said that an answer is being made
ALIVE_FOR_S = 10.0  # how long that holds
TURNS = 6  # of a conversation, that a follow-up question is understood from
PER_USER = 4  # questions of one person under way at once


@dataclass(frozen=True, slots=True)
class Begun:
    """The question is kept: its message, and the conversation."""

    id: str
    conversation_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer broke off. `kept` is what was stored of it."""

    error: Exception
    kept: AnswerShape | None


Item: TypeAlias = Begun | Stage | Found | Piece | AnswerShape | Failed


class Seats:
    """How many questions may be under way, all together and of one person."""

    def __init__(self, engine: Engine, seats: int, per_user: int = PER_USER) -> None:
        self.pulse = Pulse(engine)
        self._free = seats
        self._per_user = per_user
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._running: set[Asking] = set()

    def take(self, asking: Asking) -> None:
        """Raises ModelBusy."""
        user_id = asking.caller.user.id
        with self._lock:
            if self._free <= 0 or self._taken[user_id] >= self._per_user:
                raise ModelBusy("too many questions at once")
            self._free -= 1
            self._taken[user_id] += 1
            self._running.add(asking)

    def leave(self, asking: Asking) -> None:
        with self._lock:
            self._free += 1
            self._taken[asking.caller.user.id] -= 1
            self._taken += Counter()  # forget who has none
            self._running.discard(asking)
        self.pulse.drop(asking.message_id)

    def stop(self, conversation_id: str) -> None:
        """Whatever this process answers in it, at once; another process stops at its next beat."""
        with self._lock:
            for asking in self._running:
                if asking.conversation_id == conversation_id:
                    asking.cancelled.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Cancel what is under way and wait until it is kept."""
        with self._lock:
            running = list(self._running)
        for asking in running:
            asking.cancelled.set()
        deadline = time.monotonic() + timeout_s
        for asking in running:
            asking.thread.join(max(0.0, deadline - time.monotonic()))


class Pulse:
    """Says of the kept questions which this process is answering, and hears which to stop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stops: dict[str, threading.Event] = {}  # by message
        self._beating = False
        self._lock = threading.Lock()

    def add(self, message_id: str, stop: threading.Event) -> None:
        with self._lock:
            self._stops[message_id] = stop
            if not self._beating:
                self._beating = True
                threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def drop(self, message_id: str) -> None:
        with self._lock:
            self._stops.pop(message_id, None)

    def _beat(self) -> None:
        """Until nothing is left to answer."""
        while True:
            time.sleep(PULSE_S)
            with self._lock:
                stops = dict(self._stops)
                self._beating = bool(stops)
            if not stops:
                return
            try:
                wanted = conversations.keep_alive(self._engine, stops, ALIVE_FOR_S)
            except ApplianceError as error:  # the database is away: `_store` will say so
                log.warning("cannot say what is being answered: %s", error)
                continue
            for message_id in stops.keys() - wanted:
                stops[message_id].set()


class Asking:
    """`keep`: the exchange belongs to a conversation, made when none is named."""

    def __init__(
        self,
        machine: Appliance,
        seats: Seats,
        caller: Caller,
        question: str,
        *,
        conversation_id: str | None = None,
        keep: bool = False,
        history: Sequence[Turn] = (),
        within: Filter = ANY,
    ) -> None:
        self.caller = caller
        self.question = question
        self.message_id = uuid.uuid4().hex
        self.conversation_id = conversation_id
        self.cancelled = threading.Event()
        self.thread = threading.Thread(target=self._run, name="answer", daemon=True)
        self._machine = machine
        self._seats = seats
        self._keep = keep
        self._history = history
        self._within = within
        self._listens = True
        self._may_leave = False
        self._looked = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Item | None] = asyncio.Queue()  # None: no more

    def begin(self) -> None:
        """Start answering. Raises NotVisible for a foreign conversation, NotReady, ModelBusy."""
        machine = self._machine
        if self.conversation_id is not None:
            found = conversations.get(machine.engine, self.caller.viewer, self.conversation_id)
            self._history = turns(found)
        if not machine.follower.ready:
            raise NotReady("indexes are loading")
        self._seats.take(self)
        try:
            # Before the answer: what cannot be recorded is not done.
            audit.record(machine.engine, self.caller.actor, "ask", self._asked())
            if self._keep:
                self._begun()
            self.thread.start()
        except BaseException:
            self._seats.leave(self)
            raise

    def _begun(self) -> None:
        """Keep the question, with the answer it has if nothing more comes."""
        engine, viewer = self._machine.engine, self.caller.viewer
        nothing = self._partial("", (), "cut")
        if self.conversation_id is None:
            self.conversation_id, _ = conversations.begin(
                engine,
                viewer,
                self.question,
                nothing,
                message_id=self.message_id,
                alive_s=ALIVE_FOR_S,
            )
        else:
            conversations.append(
                engine,
                viewer,
                self.conversation_id,
                self.question,
                nothing,
                message_id=self.message_id,
                alive_s=ALIVE_FOR_S,
            )
        self._seats.pulse.add(self.message_id, self.cancelled)
        self._say(Begun(self.message_id, self.conversation_id))

    async def items(self, request: Request) -> AsyncGenerator[Item | None, None]:
        """What happens, until it is over or the reader is gone. None: nothing for a while."""
        spoke = asked = time.monotonic()
        try:
            while not await request.is_disconnected():
                if time.monotonic() - asked >= ALIVE_S:
                    if not await run_in_threadpool(self._alive):
                        self.cancelled.set()
                        yield Failed(NotSignedIn("signed out in mid-answer"), None)
                        return
                    asked = time.monotonic()
                try:
                    item = await asyncio.wait_for(self._items.get(), LOOK_S)
                except TimeoutError:
                    if time.monotonic() - spoke >= KEEP_ALIVE_S:
                        spoke = time.monotonic()
                        yield None
                    continue
                if item is None:
                    return
                spoke = time.monotonic()
                yield item
        finally:
            self._listens = False
            if not self._may_leave:
                self.cancelled.set()

    def may_leave(self) -> None:
        """The reader has been told where the answer will be. Programs ask again instead."""
        self._may_leave = self.caller.key is None

    async def whole(self, request: Request) -> AnswerShape:
        """The answer when it is done. Raises what broke it off."""
        async with contextlib.aclosing(self.items(request)) as items:
            async for item in items:
                if isinstance(item, AnswerShape):
                    return item
                if isinstance(item, Failed):
                    raise item.error
        raise HTTPException(499)  # nobody reads this: the caller hung up

    # --- in the answering thread --------------------------------------------------

    def _run(self) -> None:
        text, passages, answer = "", (), None  # type: str, tuple[Passage, ...], Answer | None
        try:
            stream = self._machine.answerer.stream(
                self.question,
                self.caller.viewer,
                self._history,
                self._over,
                within=self._within,
            )
            for event in stream:
                if isinstance(event, Answer):
                    answer = event
                    continue
                if isinstance(event, Piece):
                    text += event.text
                elif isinstance(event, Found):
                    passages = event.passages
                self._say(event)
            self._say(self._store(answer or self._partial(text, passages, "cancelled")))
        except Exception as error:  # noqa: BLE001 - the reader must be told, whatever it is
            self._fail(error, text, passages)
        finally:
            self._seats.leave(self)
            self._say(None)

    def _fail(self, error: Exception, text: str, passages: tuple[Passage, ...]) -> None:
        log.warning("answer failed: %s", type(error).__name__, exc_info=error)
        ended: Ended = "cancelled" if self.cancelled.is_set() else "cut"
        kept = None
        with contextlib.suppress(Exception):
            kept = self._store(self._partial(text, passages, ended), error)
        self._say(Failed(error, kept))

    def _partial(self, text: str, passages: tuple[Passage, ...], ended: Ended) -> Answer:
        return Answer(text, (), passages, ended, self.question)

    def _store(self, answer: Answer, error: Exception | None = None) -> AnswerShape:
        """Record and keep; the answer as people see it."""
        engine = self._machine.engine
        audit_id = audit.record(
            engine,
            self.caller.actor,
            "answer",
            self._asked()
            | {
                "ended": answer.ended,
                "documents": sorted({p.document_id for p in answer.passages}),
                "cited": sorted({c.passage.document_id for c in answer.citations}),
                "error": type(error).__name__ if error else None,
            },
        )
        if self._keep:
            with contextlib.suppress(NotVisible):  # somebody deleted the conversation meanwhile
                conversations.finish(
                    engine, self.caller.viewer, self.message_id, answer, audit_id=audit_id
                )
        return render.answer(
            answer,
            id=self.message_id if self._keep else f"audit-{audit_id}",
            question=self.question,
            conversation_id=self.conversation_id,
            audit_id=audit_id,
        )

    def _over(self) -> bool:
        """Whether to stop. Of a reader who has left, nobody else looks whether he still may read."""
        if not self._listens and time.monotonic() - self._looked >= ALIVE_S:
            self._looked = time.monotonic()
            if not self._alive():
                self.cancelled.set()
        return self.cancelled.is_set()

    def _alive(self) -> bool:
        return callers.alive(self._machine.engine, self._machine.settings, self.caller)

    def _asked(self) -> dict[str, object]:
        asked: dict[str, object] = {"sha256": hashlib.sha256(self.question.encode()).hexdigest()}
        if self._machine.settings.log_questions:
            asked["question"] = self.question
        if self.conversation_id:
            asked["conversation"] = self.conversation_id
        return asked

    def _say(self, item: Item | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)


def turns(conversation: conversations.Conversation) -> list[Turn]:
    """The last exchanges. An answer whose sources may no longer be read is not repeated."""
    kept = conversation.messages[-TURNS:]
    return [
        Turn(m.searched, "" if m.lost else m.answer, _beginning(m.passages))
        for m in kept
        if m.answer
    ]


def _beginning(passages: Mapping[int, Passage]) -> tuple[Passage, ...]:
    """Those from the first on, up to one that may no longer be read or has changed."""
    whole = itertools.takewhile(lambda n: n in passages, itertools.count(1))
    return tuple(passages[n] for n in whole)
