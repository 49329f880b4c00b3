"""The parent's side of the native child: starts it, talks to it, starts it again when it dies.

A crash in native code ends what was running, with a message to each; what waits, waits on. The
child is also killed when it computes no step for `STALL_S` while it has work.
"""

from __future__ import annotations

import base64
import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from appliance import host
from appliance.errors import ApplianceError, BadRequest, ModelUnreachable, SettingsError
from appliance.inference.prompts import Part
from appliance.inference.work import End, Piece, Work
from appliance.types import Reading, Role, Vectors, Words

log = logging.getLogger("kura.infer")

STALL_S = 120.0
BACK_S = 20.0  # a call waits so long for the child to be back
CALL_S = 120.0
CALL_TRIES = 3
# A thread that waits for the other looks a thousand times before it sleeps: some microseconds. A step
# of eight streams took 64 ms on two cores instead of 87 with threads that sleep at once; beside two
# busy processes 153 instead of 197. Threads that spin for longer starve their neighbours. "passive"
# would mean no look at all as soon as libgomp has more threads than there are cores: torch's count.
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "active",
    "GOMP_SPINCOUNT": "1000",
    "TOKENIZERS_PARALLELISM": "false",
}
PAUSES_S = (0.0, 0.2, 1.0, 3.0, 10.0)  # before each start, by how many failed before it in a row

_ERRORS: dict[str, type[ApplianceError]] = {
    kind.__name__: kind for kind in (BadRequest, ModelUnreachable, SettingsError)
}


class _Gone(Exception):
    """The child died before it answered."""


class Native:
    """The Backend in a child. `spec` is what `child.Child.run` reads first.

    The child starts at once, with its libraries, and waits for `load` to be told of the models.
    `counts`: the folder where it is counted what its guard refuses.
    """

    def __init__(self, counts: Path | None = None) -> None:
        self._counts = [str(counts)] if counts else []
        self._spec: dict[str, Any] | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ready = False
        self._failed: dict[str, str] | None = None
        self._closing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: socket.socket | None = None
        self._running: dict[int, Work] = {}
        self._held: dict[int, Work] = {}  # started in the moment between two children
        self._calls: dict[int, Future[Any]] = {}
        self._ids = itertools.count(1)
        self._stats: dict[str, Any] = {}
        self._restarts = -1
        self._emit: Callable[[int, Piece | End], None] = lambda id, event: None
        self._wake: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._supervise, name="native", daemon=True)
        self._thread.start()

    @property
    def slots(self) -> int:
        return int(self._spec["slots"]) if self._spec and self._ready else 0

    @property
    def pid(self) -> int:
        """The child's process id, 0 while there is none."""
        return self._process.pid if self._process else 0

    def load(self, spec: dict[str, Any]) -> None:
        with self._changed:
            self._spec = spec
            self._changed.notify_all()

    def wait_ready(self, timeout_s: float) -> None:
        """Raises SettingsError if the models cannot be loaded, ModelUnreachable if it takes too long."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failed, timeout_s)
            if self._failed:
                raise SettingsError(self._failed["message"])
            if not self._ready:
                raise ModelUnreachable("モデルをまだ読み込んでいます。")

    def listen(self, emit: Callable[[int, Piece | End], None], wake: Callable[[], None]) -> None:
        self._emit, self._wake = emit, wake

    def tokenize(self, parts: Sequence[Part], *, begin: bool = True) -> list[int]:
        found = self.call("tokenize", parts=[(p.text, p.special) for p in parts], begin=begin)
        return list(found)

    def grammar(self, source: str, schema: bool) -> str:
        return str(self.call("grammar", source=source, schema=schema))

    def start(self, work: Work) -> None:
        with self._lock:
            ready = self._ready
            (self._running if ready else self._held)[work.id] = work
        if ready:
            self._send({"start": asdict(work)})

    def cancel(self, id: int) -> None:
        with self._lock:
            held = self._held.pop(id, None)
        if held:
            self._emit(id, End("cancelled", len(held.tokens)))
        else:
            self._send({"cancel": id})

    def stats(self) -> dict[str, Any]:
        state = {"ready": self._ready, "restarts": max(self._restarts, 0), "child": self.pid}
        return self._stats | state

    def settle(self, timeout_s: float) -> None:
        """Until the encoders are loaded, too. On a busy machine their libraries take minutes."""
        self.call("settle", timeout_s)

    def call(self, name: str, within_s: float = CALL_S, /, **arguments: Any) -> Any:
        """Run a function of the child. Raises what it raised, or ModelUnreachable.

        Where the child dies meanwhile, the next one is asked: a function changes nothing.
        """
        for _ in range(CALL_TRIES):
            with self._changed:
                if not self._changed.wait_for(lambda: self._ready or self._closing, BACK_S):
                    raise ModelUnreachable("モデルを起動しています。")
                id = next(self._ids)
                future = self._calls[id] = Future()
            self._send({"call": name, "id": id, "with": arguments})
            try:
                return future.result(within_s)
            except FutureTimeout:
                raise ModelUnreachable(
                    "モデルが時間内に応答しません。混み合っているか、止まっています。"
                ) from None
            except _Gone:
                continue
            finally:
                with self._lock:
                    self._calls.pop(id, None)
        raise ModelUnreachable(
            f"モデルのプロセスが繰り返し終わります。{host.log_of('infer')}を見てください。"
        )

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            wire, process = self._wire, self._process
        if wire:
            try:
                wire.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("the child was gone already")
        if process:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(10)

    # --- the supervisor's thread --------------------------------------------------

    def _supervise(self) -> None:
        failures = 0
        while not self._closing:
            time.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
            failures = 0 if self._live() else failures + 1
            if self._failed and self._restarts == 0:
                return  # it never worked: a person must mend it

    def _live(self) -> bool:
        """One child from its start to its end. Whether it ever got ready."""
        ours, theirs = socket.socketpair()
        environment = os.environ | ENVIRONMENT
        command = [sys.executable, "-m", "appliance.inference.child", str(theirs.fileno())]
        command += self._counts
        with self._lock:
            if self._closing:
                return False
            self._restarts += 1
            self._wire = ours
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
            )
        theirs.close()
        watch = _Watch(self._process)
        with self._changed:
            self._changed.wait_for(lambda: self._spec or self._closing)
        if self._spec:
            self._send(self._spec)
        with ours.makefile("r", encoding="utf-8") as lines:
            try:
                for line in lines:
                    self._take(json.loads(line), watch)
            except (OSError, ValueError):
                log.debug("the child went in the middle of a line")
        self._process.kill()
        status = self._process.wait()
        worked = self._ready
        self._gone(status)
        ours.close()
        return worked

    def _take(self, message: dict[str, Any], watch: _Watch) -> None:
        match message:
            case {"piece": piece, "id": id}:
                self._emit(id, Piece(piece["text"], tuple(piece["logprobs"])))
            case {"end": end, "id": id}:
                with self._lock:
                    known = self._running.pop(id, None)
                if known:
                    self._emit(id, End(**end))
            case {"result": result, "id": id}:
                if future := self._calls.get(id):
                    future.set_result(result)
            case {"error": error, "id": id}:
                if future := self._calls.get(id):
                    kind = _ERRORS.get(error["type"], ModelUnreachable)
                    future.set_exception(kind(error["message"]))
            case {"stats": stats}:
                self._stats = stats
                watch.saw(stats["steps"], bool(self._running))
            case {"ready": _}:
                with self._changed:
                    self._ready = True
                    held, self._held = self._held, {}
                    self._running |= held
                    self._changed.notify_all()
                log.info("the models are loaded")
                for work in held.values():
                    self._send({"start": asdict(work)})
                self._wake()
            case {"failed": failed}:
                with self._changed:
                    self._failed = failed
                    self._changed.notify_all()

    def _gone(self, status: int) -> None:
        with self._changed:
            self._ready = False
            running, self._running = self._running, {}
            calls = list(self._calls.values())
            self._wire = None
            self._process = None
        if not self._closing:
            log.error("the native child ended with %s; it is started again", status)
        message = "the model's process ended in mid-answer; ask again"
        for future in calls:
            if not future.done():
                future.set_exception(_Gone())
        for id, work in running.items():
            self._emit(id, End("error", len(work.tokens), message=message))

    def _send(self, message: dict[str, Any]) -> None:
        """To a child that is gone nothing is sent: `_gone` tells whoever waits."""
        data = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with self._lock:
            wire = self._wire
            if wire is None:
                return
            try:
                wire.sendall(data)
            except OSError:
                log.debug("the child is gone")


class _Watch:
    """Kills a child that has work and does none."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._steps = -1
        self._since = time.monotonic()

    def saw(self, steps: int, working: bool) -> None:
        now = time.monotonic()
        if steps != self._steps or not working:
            self._steps, self._since = steps, now
        elif now - self._since > STALL_S:
            log.error("no step for %.0f s: the native child is killed", now - self._since)
            self._process.kill()


class ChildEmbedder:
    """The Embedder port over the child."""

    def __init__(
        self, native: Native, name: str, dim: int, beside: Mapping[str, Any] | None = None
    ) -> None:
        """`beside`: what to load, where it is not the one that the child was told of."""
        self._native = native
        self._name = name
        self._dim = dim
        self._beside = dict(beside) if beside else None

    @property
    def name(self) -> str:
        return self._name

    @property
    def dim(self) -> int:
        return self._dim

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        found = self._native.call("embed", texts=list(texts), role=role, beside=self._beside)
        rows = np.frombuffer(base64.b64decode(found["rows"]), "<f4")
        return rows.reshape(len(texts), found["dim"]).astype(np.float32)


class ChildReranker:
    """The Reranker port over the child."""

    def __init__(self, native: Native, name: str) -> None:
        self._native = native
        self.name = name

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        return list(self._native.call("rerank", question=question, texts=list(texts)))


class ChildReader:
    """The Reader port over the child."""

    def __init__(self, native: Native, name: str) -> None:
        self._native = native
        self.name = name

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        return [reading.relevance for reading in self.read(question, texts)]

    def read(self, question: str, texts: Sequence[str]) -> list[Reading]:
        found = self._native.call("read", question=question, texts=list(texts))
        return [
            Reading(row["relevance"], tuple(Words(**words) for words in row["words"]))
            for row in found
        ]


def spec(
    path: Path,
    adapters: Sequence[Path],
    embedder: Path,
    embedder_name: str,
    change: Path | None = None,
    *,
    context_tokens: int,
    slots: int,
    threads: int,
    gpu_layers: int = 0,
    reranker: str = "",
    reader: Path | None = None,
    reader_name: str = "",
) -> dict[str, Any]:
    """What a child loads. Every path was verified, but for the reranker's, which the site names.

    `change` and `reader` are adapter files for the embedder: what it embeds with, what reads.
    """
    return {
        "path": str(path),
        "adapters": [str(a) for a in adapters],
        "context_tokens": context_tokens,
        "slots": slots,
        "threads": threads,
        "gpu_layers": gpu_layers,
        "embedder": {"folder": str(embedder), "name": embedder_name, "threads": threads},
        "change": str(change) if change else "",
        "reranker": {"folder": reranker, "name": Path(reranker).name, "threads": threads},
        "reader": {
            "adapter": str(reader) if reader else "",
            "name": reader_name,
            "threads": threads,
        },
    }
