"""`kura up`: starts infer, web and work, keeps them running, stops them in order, gathers their log.

A process that dies is started again, after a pause that doubles while it keeps
dying. One that ends with MISCONFIGURED is not: starting it again changes
nothing, so everything stops and says why.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from appliance import logs
from appliance.errors import Conflict
from appliance.operate.processes import answers_on_socket as answers_on_socket
from appliance.operate.processes import local_host as local_host
from appliance.operate.processes import web_status as web_status
from appliance.settings import Settings
from appliance.sovereignty import egress

MISCONFIGURED = 78  # EX_CONFIG
POLL_S = 0.1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STABLE_S = 60.0
LOG_BYTES, LOGS_KEPT = 10_000_000, 5
LINE_BYTES = 64_000

Say = Callable[[str], None]  # tells the person at the console


@dataclass(frozen=True)
class Program:
    """One process. `after`: started once that one is ready, or has had `patience_s`."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool] = lambda: True
    environment: Mapping[str, str] = field(default_factory=dict)
    after: str = ""
    patience_s: float = 60.0
    stop_s: float = 15.0


def programs(settings: Settings, cores: int) -> tuple[Program, ...]:
    """infer, web and work of this installation."""
    kura = [sys.executable, "-m", "appliance.cli"]
    child_of_this = ["--supervised", str(os.getpid())]

    def threads(n: int) -> dict[str, str]:
        # Spinning OpenMP pools on few cores starve everybody else.
        return {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(n), "MALLOC_ARENA_MAX": "2"}

    return (
        Program(
            "infer",
            [*kura, "infer", *child_of_this],
            lambda: answers_on_socket(settings.infer_socket),
            threads(settings.generator_threads or cores),
        ),
        Program("web", [*kura, "web", *child_of_this], lambda: web_ready(settings), threads(1)),
        Program(
            "work",
            [*kura, "work", *child_of_this],
            environment=threads(1),
            after="infer",
            stop_s=30.0,
        ),
    )


def run(settings: Settings, wanted: Sequence[Program], say: Say, stop: threading.Event) -> int:
    """Supervise until `stop` is set. Returns the exit status. Raises Conflict if already running."""
    with held(settings.data, "up"), Log(settings.log) as log:
        up = Supervisor(wanted, log, say)
        try:
            return up.run(stop)
        finally:
            up.stop()


class Supervisor:
    def __init__(
        self,
        wanted: Sequence[Program],
        log: Log,
        say: Say = lambda text: None,
        *,
        first_pause_s: float = FIRST_PAUSE_S,
        stable_s: float = STABLE_S,
    ) -> None:
        self._children = {p.name: _Child(p, log, first_pause_s, stable_s) for p in wanted}
        self._log = log
        self._say = say
        self._said_ready = False

    def run(self, stop: threading.Event) -> int:
        began = time.monotonic()
        while not stop.is_set():
            for child in self._children.values():
                if child.running:
                    child.look()
                elif (status := child.ended()) is not None:
                    if status == MISCONFIGURED:
                        self._say(f"{child.program.name}: {child.last_line}")
                        return MISCONFIGURED
                    self._say(
                        f"{child.program.name} が終了しました（{_told(status)}）。再起動します。"
                    )
                elif child.due and self._may_start(child, began):
                    child.start()
            if not self._said_ready and all(c.ready for c in self._children.values()):
                self._said_ready = True
                self._log.write("up", {"event": "ready"})
                self._say("ready")
            stop.wait(POLL_S)
        return 0

    def stop(self) -> None:
        """In the reverse order; each has its time, then it is killed."""
        for child in reversed(self._children.values()):
            child.stop()

    def pids(self) -> dict[str, int]:
        return {name: c.process.pid for name, c in self._children.items() if c.process}

    def _may_start(self, child: _Child, began: float) -> bool:
        first = self._children.get(child.program.after)
        return first is None or first.ready or time.monotonic() - began > child.program.patience_s


class _Child:
    def __init__(self, program: Program, log: Log, first_pause_s: float, stable_s: float) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.last_line = ""
        self._log = log
        self._first_pause_s = self._pause_s = first_pause_s
        self._stable_s = stable_s
        self._started = self._next = 0.0
        self._readers: list[threading.Thread] = []

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def due(self) -> bool:
        return self.process is None and time.monotonic() >= self._next

    def start(self) -> None:
        environment = egress.environment(os.environ) | {"PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            self.program.argv,
            env=environment | dict(self.program.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is for the supervisor, which stops them in order
        )
        self._started, self.ready = time.monotonic(), False
        self._log.write(
            "up", {"event": "started", "of": self.program.name, "pid": self.process.pid}
        )
        assert self.process.stdout is not None
        reader = threading.Thread(target=self._gather, args=(self.process.stdout,), daemon=True)
        reader.start()
        self._readers.append(reader)

    def look(self) -> None:
        if not self.ready and self.program.ready():
            self.ready = True
            took_s = round(time.monotonic() - self._started, 1)
            self._log.write("up", {"event": "ready", "of": self.program.name, "after_s": took_s})
        if time.monotonic() - self._started > self._stable_s:
            self._pause_s = self._first_pause_s

    def ended(self) -> int | None:
        """The exit status, once; then it waits for its restart."""
        if self.process is None:
            return None
        status = self.process.wait()
        self._end_group()
        self._next = time.monotonic() + self._pause_s
        self._log.write(
            "up",
            {
                "level": "error",
                "event": "ended",
                "of": self.program.name,
                "status": status,
                "again_in_s": self._pause_s,
            },
        )
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        self.process, self.ready = None, False
        self._drain()
        return status

    def stop(self) -> None:
        if self.process is None:
            return
        if self.running:
            self.process.terminate()
            try:
                self.process.wait(self.program.stop_s)
            except subprocess.TimeoutExpired:
                self._log.write(
                    "up", {"level": "error", "event": "killed", "of": self.program.name}
                )
        self._end_group()
        status = self.process.wait()
        self._drain()
        self._log.write("up", {"event": "stopped", "of": self.program.name, "status": status})
        self.process = None

    def _end_group(self) -> None:
        """Whatever it started goes with it."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _drain(self) -> None:
        for reader in self._readers:
            reader.join(2.0)
        self._readers = []

    def _gather(self, stream: BinaryIO) -> None:
        with stream:
            while raw := stream.readline(LINE_BYTES):
                text = raw.decode("utf-8", "replace").strip()
                if text:
                    event = _event(text)
                    self.last_line = str(event.get("event", text))
                    self._log.write(self.program.name, event)


class Log:
    """The one log: appends lines, and turns the file over when it is full."""

    def __init__(self, path: Path, longest: int = LOG_BYTES, kept: int = LOGS_KEPT) -> None:
        self._path = path
        self._longest = longest
        self._kept = kept
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = self._open()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._file.close()

    def write(self, process: str, event: Mapping[str, Any]) -> None:
        """A full disk loses lines, never the process that writes them."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        text = logs.line({"at": now, "process": process, "level": "info"} | dict(event))
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._file.write(text.encode() + b"\n")
            self._file.flush()
            if self._file.tell() > self._longest:
                self._turn()

    def _turn(self) -> None:
        self._file.close()
        try:
            for n in range(self._kept - 1, 0, -1):
                older = self._numbered(n)
                if older.exists():
                    older.replace(self._numbered(n + 1))
            self._path.replace(self._numbered(1))
        finally:
            self._file = self._open()

    def _numbered(self, n: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{n}")

    def _open(self) -> BinaryIO:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(handle, "ab")


@contextlib.contextmanager
def held(data: Path, name: str, *, alone: bool = True) -> Iterator[None]:
    """Only one at a time on this data folder. Raises Conflict, naming the one there is.

    Not `alone`: beside others of its name, but not beside one that is.

    The kernel lets go of the lock when its holder dies, however it dies.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = data / f"{name}.lock"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = file.read(20).strip() or "?"
            raise Conflict(
                f"`kura {name}` はこのデータフォルダーですでに動いています（プロセス {pid}）。"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate(0)


def die_with(parent: int) -> None:
    """This process ends when the one that started it does, even by SIGKILL."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could ask
        sys.exit("the supervisor is gone")


def web_ready(settings: Settings) -> bool:
    return web_status(settings) in ("ready", "degraded")


def _event(text: str) -> dict[str, Any]:
    """A line of a process: an event as it stands, or the text of one."""
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {"event": text}


def _told(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
    return f"終了コード {status}"
