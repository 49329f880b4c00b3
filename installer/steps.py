"""Steps that may be stopped anywhere: by Ctrl-C, by kill -9, by the power.

A step looks at the host to know whether it is done (`done`), never at the journal, so the same
command goes on from whatever state it finds. `do` may find its own work half done and has to
finish it. The journal tells people what happened, and `back` what to undo.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

from installer.places import Places

MARK = "KURA_INSTALLER_STATE"  # in the environment of all that a run starts
STOP_S = 10.0


class Refused(Exception):
    """The sentence says what is wrong and what to do; nothing was changed by the step that says it."""


class AtWork(Refused):
    """Another installer is, on this host."""


@dataclass
class Context:
    """What every step may use. A verb adds fields of its own."""

    places: Places
    verb: str
    version: str = ""
    say: Callable[[str], None] = field(default=lambda text: print(text, flush=True))

    @property
    def journal(self) -> Journal:
        return Journal(self.places.journal)


C = TypeVar("C", bound=Context)


def _nothing(context: Any) -> None:
    """There is nothing to take back."""


@dataclass(frozen=True)
class Step(Generic[C]):
    """`undo` finds its work done, half done or not begun. `plan`: what a dry run adds to the title."""

    name: str
    title_ja: str
    title_en: str
    done: Callable[[C], bool]
    do: Callable[[C], None]
    undo: Callable[[C], None] = _nothing
    plan: Callable[[C], str] = lambda context: ""

    @property
    def title(self) -> str:
        return f"{self.title_ja} / {self.title_en}"


class Journal:
    """Lines of JSON, each on the disk before anything goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, **event: Any) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at} | event, ensure_ascii=False).encode() + b"\n"
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # one that was cut off stays a line of its own
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)

    def events(self) -> Iterator[dict[str, Any]]:
        """Oldest first; a line that was cut off is none."""
        try:
            text = self._path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict):
                    yield found

    def begun(self, verb: str) -> list[str]:
        """Steps of `verb` that were begun since it last came to an end, and not undone."""
        names: list[str] = []
        for event in self.events():
            name = str(event.get("step", ""))
            if event.get("verb") != verb:
                continue
            if event.get("event") in {"finish", "back"}:
                names = []
            elif event.get("event") == "start" and name not in names:
                names.append(name)
            elif event.get("event") == "undone" and name in names:
                names.remove(name)
        return names


def run(steps: Sequence[Step[C]], context: C, *, dry: bool = False) -> None:
    """Take every step that is not done. What stops it leaves the rest for the next call."""
    if dry:
        for step in steps:
            done = step.done(context)
            more = "" if done else step.plan(context)
            context.say(f"  {'済 / done' if done else '→ 行う / to do'}  {step.title}")
            if more:
                context.say(f"      {more}")
        return
    journal = context.journal
    told = {"verb": context.verb, "version": context.version}
    journal.write(**told, event="begin")
    for number, step in enumerate(steps, 1):
        place = f"[{number}/{len(steps)}]"
        if step.done(context):
            context.say(f"{place} 済 / done: {step.title}")
            continue
        context.say(f"{place} {step.title} …")
        began = time.monotonic()
        journal.write(**told, event="start", step=step.name)
        try:
            step.do(context)
            if not step.done(context):
                raise Refused(
                    f"「{step.title_ja}」の結果が確かめられません。{context.places.log} を見てください。"
                    f" / {step.title_en}: the result is not there; see the log."
                )
        except BaseException as error:
            why = str(error) or type(error).__name__
            journal.write(**told, event="failed", step=step.name, why=why[:2000])
            raise
        took_s = round(time.monotonic() - began, 1)
        journal.write(**told, event="end", step=step.name, took_s=took_s)
    journal.write(**told, event="finish")


def back(steps: Sequence[Step[C]], context: C) -> None:
    """Undo, last first, what was begun. May be stopped and called again like `run`."""
    journal = context.journal
    begun = set(journal.begun(context.verb))
    told = {"verb": context.verb, "version": context.version}
    for step in reversed(steps):
        if step.name in begun:
            context.say(f"取り消し / undoing: {step.title}")
            step.undo(context)
            journal.write(**told, event="undone", step=step.name)
    journal.write(**told, event="back")


@contextlib.contextmanager
def alone(places: Places) -> Iterator[None]:
    """One installer at a time; SIGTERM and SIGHUP end it like Ctrl-C; nothing of a killed one goes on.

    Raises AtWork where another is.
    """
    places.state.mkdir(parents=True, exist_ok=True)
    places.state.chmod(0o700)
    handle = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    before: dict[signal.Signals, Any] = {}
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            raise AtWork(
                f"kura-installer はすでに動いています（プロセス {pid}）。終わってからもう一度実行してください。"
                f" / Another kura-installer is at work (process {pid})."
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        _end_orphans(places)
        for number in (signal.SIGTERM, signal.SIGHUP):
            before[number] = signal.signal(number, _interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(handle)


def program(
    context: Context,
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    bare: bool = False,
    to_the_end: bool = False,
) -> str:
    """Run one; what it says goes to the log, and comes back. Raises Refused, with its last lines.

    `bare`: with `env` and nothing of ours. What is secret in it is then in no list of processes.
    `to_the_end`: Ctrl-C waits for it, and the next run leaves it alone (dpkg, which must not be cut off).
    """
    command = [str(one) for one in argv]
    environment = {**({} if bare else os.environ), **(env or {})}
    if not to_the_end:
        environment[MARK] = str(context.places.state)
    with context.places.log.open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        began = log.tell()
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=cwd,
                process_group=0,  # Ctrl-C comes to this process, which ends the child in order
            )
        except OSError as error:
            raise Refused(f"{command[0]} を実行できません / cannot be run: {error}") from None
        try:
            child.wait()
        except BaseException:
            _end(child, to_the_end)
            raise
    with context.places.log.open("rb") as log:
        log.seek(began)
        said = log.read().decode("utf-8", "replace")
    if child.returncode:
        raise Refused(
            f"{' '.join(command[:3])} … が失敗しました (終了コード {child.returncode})。全文: {context.places.log}"
            f" / failed; the whole log is there.\n{said[-1500:]}"
        )
    return said


def _end(child: subprocess.Popen[bytes], to_the_end: bool) -> None:
    if not to_the_end:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _end_orphans(places: Places) -> None:
    """A killed run may have left a program that still writes; dpkg is not marked, it has its own lock."""
    mark = f"{MARK}={places.state}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            ours = mark in (folder / "environ").read_bytes().split(b"\0")
            handle = os.pidfd_open(int(folder.name)) if ours else -1
        except OSError:
            continue  # it has ended, or is another user's
        if ours:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], STOP_S)
            os.close(handle)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
