"""Files are parsed where a hostile one can do nothing: no network, no file, no time.

`Sandbox.parse` (and `Sandbox.picture`, for one page of it) hands the bytes to a child that has nothing but them and a pipe to
answer on, and believes nothing of the answer that it has not checked.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO, get_args, get_type_hints

from appliance.errors import (
    PasswordNeeded,
    SettingsError,
    SourceBusy,
    TooLarge,
    Transient,
    Unreadable,
)
from appliance.formats.picture import Pixels, png
from appliance.settings import Settings
from appliance.text import readings
from appliance.types import Document, Mark, Page, Properties, RawFile

_ROOT = Path(__file__).resolve().parents[2]
_BLOCK = 1 << 20
_START_S = 180.0  # of a busy machine
_ANSWER_S = 10.0  # for the zygote to fork, or to say how a child ended
_KINDS = frozenset(get_args(get_type_hints(Mark)["kind"]))
_STATES, _READ = (frozenset(get_args(get_type_hints(Page)[name])) for name in ("state", "read"))
_PAGES, _EDGES = 100_000, 20
_PICTURE_S = 20  # a person is waiting
_ERRORS = {"Unreadable": Unreadable, "PasswordNeeded": PasswordNeeded, "TooLarge": TooLarge}
_UNSAFE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), " ")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Lost(Exception):
    """The zygote went away; the file is not to blame."""


@dataclass(frozen=True, slots=True)
class _Died:
    """How a child ended that gave no answer."""

    reason: str
    again: bool  # worth a second try


@dataclass(frozen=True, slots=True)
class _Task:
    """What a child is asked to do with a file."""

    job: Mapping[str, Any]
    given: bytes = b""  # goes with it
    seconds: int | None = None  # of a core; None: what this sandbox allows
    doing: str = "解析"


class Sandbox:
    """Parses files, one child each, from any number of threads.

    Fails closed: raises SettingsError where the machine cannot confine a parser.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        output_bytes: int = 256_000_000,
        module: str = "appliance.formats",
        path: Sequence[Path] = (),
        seconds: int | None = None,
        patience: int = 1,
        memory_bytes: int | None = None,
        idle: bool = False,
    ) -> None:
        self._settings = settings
        self._seconds = seconds or settings.parse_seconds  # of a core
        self._patience = patience  # times as many by the clock
        self._idle = idle  # children are last in line for the cores
        self._memory_bytes = memory_bytes or settings.parse_memory
        self._output_bytes = output_bytes
        self._module = module
        self._path = [str(p) for p in (_ROOT, *path)]
        self._lock = threading.Lock()
        self._closed = False
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        with self._lock:
            self._start()
        try:
            self._prove()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The zygote's process id, None when none runs."""
        zygote = self._zygote
        return zygote.pid if zygote and zygote.poll() is None else None

    def close(self) -> None:
        """Leave no process behind. Calls still parsing end with Transient."""
        with self._lock:
            self._closed = True
            self._stop()

    def parse(self, file: RawFile) -> tuple[Document, str]:
        """The document and its media type, found by content.

        Raises Unreadable (PasswordNeeded), TooLarge, SourceBusy, Transient, and what
        `file.open` raises; an OSError of the source becomes Transient.
        """
        with _bytes_of(file, self._settings.file_bytes) as (source, size):
            if size == 0:
                raise Unreadable("ファイルが空です")
            given = b"" if file.read is None else readings.pack(file.read)
            return _believe(self.ask(source, {"name": _name(file)}, given, deaths=2))

    def picture(self, file: RawFile, page: int) -> bytes:
        """Page `page` of the file, from 1, as PNG. Raises what `parse` raises."""
        task = _Task({"name": _name(file), "page": page}, b"", _PICTURE_S, "ページの表示")
        with _bytes_of(file, self._settings.file_bytes) as (source, _):
            return png(_believe_pixels(self._answer(source, task, deaths=2)))

    def ask(
        self, source: int, job: Mapping[str, Any], given: bytes = b"", deaths: int = 1
    ) -> bytes:
        """What a child says of an open file, unchecked. Tries again until it died so many times.

        Raises Unreadable where it died or was late, Transient.
        """
        return self._answer(source, _Task(job, given), deaths)

    def _answer(self, source: int, task: _Task, deaths: int) -> bytes:
        died = 0
        for lost in range(5):
            try:
                reply = self._run(source, task)
            except _Lost:
                time.sleep(0.1 * 2**lost)  # a process that was killed takes a moment to be gone
                continue
            if isinstance(reply, bytes):
                return reply
            died += 1
            if died == deaths or not reply.again:
                raise Unreadable(reply.reason.format(times=f" {died} 回" if died > 1 else ""))
        raise Transient("the parsers' process keeps ending; the file waits for the next run")

    def _run(self, source: int, task: _Task) -> bytes | _Died:
        """One child's answer, or how it died. Raises _Lost."""
        seconds = min(self._seconds, task.seconds or self._seconds)
        limits = {"memory_bytes": self._memory_bytes, "cpu_s": seconds, "idle": self._idle}
        job = {**task.job, **limits}
        # opened anew: read-only, with a position of its own
        given = os.open(f"/proc/self/fd/{source}", os.O_RDONLY)
        beside = os.memfd_create("kura-given", os.MFD_CLOEXEC)
        output, output_w = os.pipe()
        status, status_w = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pidfds: list[int] = []
        try:
            view = memoryview(task.given)
            while view:
                view = view[os.write(beside, view) :]
            os.lseek(beside, 0, os.SEEK_SET)
            with self._lock:
                control = self._alive()
                with _lost_if_broken():
                    fds = [given, output_w, beside, status_w.fileno()]
                    socket.send_fds(control, [json.dumps(job).encode()], fds)
            os.close(output_w)
            status_w.close()
            output_w = -1
            status.settimeout(_ANSWER_S)
            with _lost_if_broken():
                message, pidfds, _, _ = socket.recv_fds(status, 64, 1)
            if not message or not pidfds:
                raise _Lost
            return self._await(output, status, seconds, task.doing)
        finally:
            for pidfd in pidfds:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)
            for fd in (given, beside, output, output_w):
                if fd >= 0:
                    os.close(fd)
            status.close()
            status_w.close()

    def _await(self, output: int, status: socket.socket, seconds: int, doing: str) -> bytes | _Died:
        deadline = time.monotonic() + seconds * self._patience
        late = _Died(f"{doing}が {seconds} 秒で終わりませんでした", again=False)
        answer = bytearray()
        ready = select.poll()
        ready.register(output, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not ready.poll(left * 1000):
                return late
            block = os.read(output, _BLOCK)
            if not block:
                break
            answer += block
            if len(answer) > self._output_bytes:
                raise TooLarge(f"取り出した文字が多すぎます (上限 {self._output_bytes:,} バイト)")
        if len(answer) >= 8 and int.from_bytes(answer[:8], "big") == len(answer) - 8:
            return bytes(answer[8:])
        with _lost_if_broken():
            message = status.recv(256)
        if not message:
            raise _Lost
        code = int(json.loads(message)["status"])
        if code == -signal.SIGXCPU:
            return late
        name = signal.Signals(-code).name if code < 0 else f"終了コード {code}"
        return _Died(f"{doing}プログラムが{{times}}異常終了しました ({name})", again=True)

    def _prove(self) -> None:
        """One empty parse before the first file: the walls stand, or nothing starts."""
        source = os.memfd_create("kura-proof")
        try:
            os.write(source, b"kura")
            for _ in range(3):
                with suppress(_Lost):
                    reply = self._run(source, _Task({"name": "proof.txt"}))
                    break
            else:
                raise SettingsError("parsers cannot be confined on this machine: no child started")
        finally:
            os.close(source)
        if isinstance(reply, _Died):
            raise SettingsError(f"parsers cannot be confined on this machine: {reply.reason}")
        if unconfined := json.loads(reply).get("unconfined"):
            raise SettingsError(f"parsers cannot be confined on this machine: {unconfined}")

    def _alive(self) -> socket.socket:
        if self._closed:
            raise Transient("the sandbox is closed")
        if self._zygote is None or self._zygote.poll() is not None:
            self._stop()
            try:
                self._start()
            except SettingsError as error:  # it stood before: the machine's trouble, not the file's
                raise Transient(str(error)) from error
        assert self._control is not None
        return self._control

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        boot = (
            "import sys; sys.path[:0] = sys.argv[3:]; "
            "from appliance.formats.child import main; main(int(sys.argv[1]), sys.argv[2])"
        )
        argv = [sys.executable, "-I", "-c", boot, str(theirs.fileno()), self._module, *self._path]
        # one thread only: a fork of many threads is not safe
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
        quiet["ORT_DISABLE_TELEMETRY"] = "1"  # the version we pin has none
        self._control = ours
        try:
            self._zygote = subprocess.Popen(
                argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=quiet
            )
        finally:
            theirs.close()
        ours.settimeout(_START_S)
        try:
            hello = json.loads(ours.recv(4096) or b"{}")
        except (OSError, ValueError):
            hello = {}
        if "ready" not in hello:
            self._stop()
            why = hello.get("error", "its process does not start")
            raise SettingsError(f"parsers cannot be confined on this machine: {why}")

    def _stop(self) -> None:
        if self._control:
            self._control.close()
        if self._zygote:
            try:
                self._zygote.wait(2)
            except subprocess.TimeoutExpired:
                self._zygote.kill()
                self._zygote.wait()
        self._control = self._zygote = None


@contextmanager
def _lost_if_broken() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Lost from error


@contextmanager
def _bytes_of(file: RawFile, limit: int) -> Iterator[tuple[int, int]]:
    """The file's bytes in memory, sealed, with their number."""
    if file.size_bytes is not None and file.size_bytes > limit:
        raise _too_large(file.size_bytes, limit)
    copy = os.memfd_create("kura-file", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        try:
            with file.open() as stream:
                size = _copy(stream, copy, limit)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Transient(f"{file.uri} could not be read: {why}") from error
        _seal(copy)
        yield copy, size
    finally:
        os.close(copy)


def _copy(stream: BinaryIO, copy: int, limit: int) -> int:
    before = _fingerprint(stream)
    size = 0
    while block := stream.read(_BLOCK):
        size += len(block)
        if size > limit:
            raise _too_large(size, limit)
        view = memoryview(block)
        while view:
            view = view[os.write(copy, view) :]
    after = _fingerprint(stream)
    if before != after or (after and after[0] != size):
        raise SourceBusy("the file changed while it was read")
    return size


def _fingerprint(stream: BinaryIO) -> tuple[int, int] | None:
    try:
        facts = os.fstat(stream.fileno())
    except (OSError, AttributeError, ValueError):  # not a file of this machine
        return None
    return (facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None


def _seal(fd: int) -> None:
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(f"ファイルが大きすぎます ({size:,} バイト、上限 {limit:,} バイト)")


def _name(file: RawFile) -> str:
    """The name whose ending may break a tie between kinds of text."""
    for name in (file.uri, file.title):
        if PurePosixPath(name.replace("\x00", "")).suffix:
            return PurePosixPath(name).name[-200:]
    return file.title[-200:]


def _believe(answer: bytes) -> tuple[Document, str]:
    """The document in a child's answer; whatever does not fit the type is the file's fault."""
    try:
        reply = _reply(answer)
        text = _clean(_text(reply["text"]))
        title = reply["title"] and _clean(_text(reply["title"]))[:300]
        problems = tuple(_clean(_text(p))[:500] for p in reply["problems"][:100])
        marks = tuple(_mark(m, len(text)) for m in reply["marks"])
        if any(a.start > b.start for a, b in pairwise(marks)):
            raise ValueError("marks out of order")
        pages = tuple(_page(row) for row in reply["pages"][:_PAGES])
        own = _properties(reply["properties"])
        document = Document(text, marks, title or None, problems, pages, own)
        return document, _text(reply["media_type"])[:100]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        raise Unreadable("解析結果が正しくありません") from None


def _believe_pixels(answer: bytes) -> Pixels:
    try:
        reply = _reply(answer)
        width, height = reply["width"], reply["height"]
        pixels = Pixels(width, height, base64.b64decode(reply["rgb"], validate=True))
        if type(width) is int and type(height) is int and pixels.fits():
            return pixels
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        pass
    raise Unreadable("ページの画像が正しくありません")


def _reply(answer: bytes) -> dict[str, Any]:
    """Raises the error it tells of."""
    reply: dict[str, Any] = json.loads(answer)
    if "error" in reply:
        raise _ERRORS[reply["error"]](_clean(str(reply["reason"]))[:500])
    if "unconfined" in reply:
        raise Transient(f"the parser was not confined: {reply['unconfined']}")
    return reply


def _mark(row: Any, length: int) -> Mark:
    start, label, kind, page, level = row
    whole = type(start) is int and type(level) is int and (page is None or type(page) is int)
    if not whole or not 0 <= start <= length or kind not in _KINDS:
        raise ValueError("not a mark")
    return Mark(start, _clean(_text(label))[:200], kind, page, None, max(0, min(level, 99)))


def _properties(row: Any) -> Properties:
    author, created, edges = row
    return Properties(
        author and (_clean(_text(author))[:100] or None),
        created and date.fromisoformat(_text(created)),
        tuple(_clean(_text(line))[:200] for line in edges[:_EDGES]),
    )


def _page(row: Any) -> Page:
    number, state, sure, read = row
    whole = type(number) is int and number >= 1 and type(sure) in (int, float) and 0 <= sure <= 1
    if not whole or state not in _STATES or read not in _READ:
        raise ValueError("not a page")
    return Page(number, state, float(sure), read)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    return value


def _clean(text: str) -> str:
    """Same length, without what no database or terminal should be given."""
    return _SURROGATE.sub("\ufffd", text).translate(_UNSAFE)
