"""Files are parsed where a hostile one can do nothing: no network, no file, no time.

`Sandbox.parse` (and `Sandbox.picture`, for one page of it) hands the bytes to a child that has
nothing but them and a pipe to answer on, and believes nothing of the answer that `answers` has not
checked.
"""

from __future__ import annotations

import fcntl
import json
import os
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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO

from appliance.errors import (
    SettingsError,
    SourceBusy,
    TooLarge,
    Transient,
    Unreadable,
)
from appliance.formats import answers
from appliance.formats.picture import png
from appliance.settings import Settings
from appliance.sovereignty import egress
from appliance.text import readings
from appliance.types import Child, Document, RawFile

_ROOT = Path(__file__).resolve().parents[2]
_BLOCK = 1 << 20
_START_S = 180.0  # of a busy machine
_ANSWER_S = 10.0  # for the zygote to fork, or to say how a child ended
_UNCONFINED = "このマシンでは、ファイルを読むプロセスを閉じ込められません"
_TRIES = 3  # to start, where something else kills what was started
_LONGEST = 10  # times `parse_seconds`: for a file with all that is inside it
_PICTURE_S = 20  # a person is waiting
_CUT_BYTES, _CUT_FILES = 64_000_000, 500  # inside a file, that are fetched together


class _Lost(Exception):
    """The zygote went away; the file is not to blame."""


@dataclass(frozen=True, slots=True)
class _Died:
    """How a child ended that gave no answer."""

    reason: str
    again: bool  # worth a second try

    def told(self, times: int) -> str:
        return self.reason.format(times=f" {times} 回" if times > 1 else "")


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
            given = b"" if file.read is None else readings.pack(file.read, file.read_inside)
            document, media_type = self._parse(source, name_of(file), given)
        return replace(document, children=_Cuts(self, file).readable(document.children)), media_type

    def cut(
        self, file: RawFile, wanted: Sequence[tuple[int, ...]], seconds: int | None = None
    ) -> dict[tuple[int, ...], bytes]:
        """The bytes of these files inside, by `Child.at`: those that can be had in that time.

        Raises TooLarge, SourceBusy, Transient, and what `file.open` raises.
        """
        task = _Task({"name": name_of(file), "cut": [*wanted]}, b"", seconds, "取り出し")
        with _bytes_of(file, self._settings.file_bytes) as (source, _):
            return answers.cut(self._last(source, task)[0], wanted)

    def picture(self, file: RawFile, page: int) -> bytes:
        """Page `page` of the file, from 1, as PNG. Raises what `parse` raises."""
        task = _Task({"name": name_of(file), "page": page}, b"", _PICTURE_S, "ページの表示")
        with _bytes_of(file, self._settings.file_bytes) as (source, _):
            return png(answers.pixels(self._answer(source, task, deaths=2)))

    def ask(
        self, source: int, job: Mapping[str, Any], given: bytes = b"", deaths: int = 1
    ) -> bytes:
        """What a child says of an open file, unchecked. Tries again until it died so many times.

        Raises Unreadable where it died or was late, Transient.
        """
        return self._answer(source, _Task(job, given), deaths)

    def _parse(self, source: int, name: str, given: bytes) -> tuple[Document, str]:
        """A process that ends inside a file inside takes nothing but that one with it.

        Whether it was to blame is known when it was the first one read: until then the next
        process begins with it. So time and memory are each one's own, too.
        """
        children: list[Child] = []
        late = ""
        start, suspect, died, size = 0, -1, 0, 0
        over = time.monotonic() + _LONGEST * self._seconds
        while True:
            said, end = self._last(source, _Task({"name": name, "start": start}, given))
            at = answers.inside(said, start, children)
            size += sum(map(len, said))
            if size > self._output_bytes:  # of all processes together
                raise self._too_much()
            if len(children) > answers.CHILDREN:
                del children[answers.CHILDREN :]
                late = f"ファイルが多すぎるため、{answers.CHILDREN:,} 個より後を読んでいません"
            if isinstance(end, bytes):
                document, media_type = answers.file(end)
                problems = (*document.problems, late) if late else document.problems
                told = answers.told_apart(children)
                return replace(document, problems=problems, children=told), media_type
            if at == (start, None):
                died += 1
                if died == 2 or not end.again:
                    raise Unreadable(end.told(died))
            elif at.path and (at.number == suspect or (at.number == start and not end.again)):
                lost = Child(at.path, problem=end.told(2), at=(at.number + 1,))
                children.append(lost)
                start = at.number + 1
            else:
                start = suspect = at.number
            if time.monotonic() > over and not late:
                late = f"時間がかかりすぎるため、{start + 1:,} 番目のファイルから後を読んでいません"
            if late:
                start = answers.ALL

    def _answer(self, source: int, task: _Task, deaths: int) -> bytes:
        died = 0
        while True:
            _, end = self._last(source, task)
            if isinstance(end, bytes):
                return end
            died += 1
            if died == deaths or not end.again:
                raise Unreadable(end.told(died))

    def _last(self, source: int, task: _Task) -> tuple[list[bytes], bytes | _Died]:
        """As `_run`, though the zygote goes away a few times. Raises Transient."""
        for lost in range(5):
            try:
                return self._run(source, task)
            except _Lost:
                time.sleep(0.1 * 2**lost)  # a process that was killed takes a moment to be gone
        raise Transient(
            "ファイルを読むプロセスが繰り返し終わります。このファイルは次の取り込みを待ちます。"
        )

    def _run(self, source: int, task: _Task) -> tuple[list[bytes], bytes | _Died]:
        """What one child said before its last word, and that, or how it died. Raises _Lost."""
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

    def _await(
        self, output: int, status: socket.socket, seconds: int, doing: str
    ) -> tuple[list[bytes], bytes | _Died]:
        deadline = time.monotonic() + seconds * self._patience
        late = _Died(f"{doing}が {seconds} 秒で終わりませんでした", again=False)
        answer = bytearray()
        ready = select.poll()
        ready.register(output, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not ready.poll(left * 1000):
                return answers.messages(answer)[0], late
            block = os.read(output, _BLOCK)
            if not block:
                break
            answer += block
            if len(answer) > self._output_bytes:
                raise self._too_much()
        said, last = answers.messages(answer)
        if last is not None:
            return said, last
        with _lost_if_broken():
            message = status.recv(256)
        if not message:
            raise _Lost
        code = int(json.loads(message)["status"])
        if code == -signal.SIGXCPU:
            return said, late
        name = signal.Signals(-code).name if code < 0 else f"終了コード {code}"
        return said, _Died(f"{doing}プログラムが{{times}}異常終了しました ({name})", again=True)

    def _too_much(self) -> TooLarge:
        return TooLarge(f"取り出した文字が多すぎます (上限 {self._output_bytes:,} バイト)")

    def _prove(self) -> None:
        """One empty parse before the first file: the walls stand, or nothing starts."""
        source = os.memfd_create("kura-proof")
        try:
            os.write(source, b"kura")
            reply: bytes | _Died = _Died("no child started", again=True)
            for _ in range(_TRIES):
                with suppress(_Lost):
                    _, reply = self._run(source, _Task({"name": "proof.txt"}))
                if not isinstance(reply, _Died) or not reply.again:
                    break
        finally:
            os.close(source)
        if isinstance(reply, _Died):
            raise SettingsError(f"{_UNCONFINED}（{reply.told(1)}）。")
        if unconfined := json.loads(reply).get("unconfined"):
            raise SettingsError(f"{_UNCONFINED}（{unconfined}）。")

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
        """Raises SettingsError. A process that somebody killed meanwhile is started again."""
        for _ in range(_TRIES):
            hello, killed = self._hello()
            if "ready" in hello:
                return
            self._stop()
            if not killed:
                break
        why = hello.get("error", "its process does not start")
        raise SettingsError(f"{_UNCONFINED}（{why}）。")

    def _hello(self) -> tuple[dict[str, Any], bool]:
        """What a new zygote says, and whether it was killed before."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        boot = (
            "import sys; sys.path[:0] = sys.argv[4:]; "
            "from appliance.formats.child import main; main(int(sys.argv[1]), *sys.argv[2:4])"
        )
        about = [str(theirs.fileno()), self._module, str(self._settings.data / egress.FOLDER)]
        argv = [sys.executable, "-I", "-c", boot, *about, *self._path]
        # one thread only: a fork of many threads is not safe
        quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
        quiet["ORT_DISABLE_TELEMETRY"] = "1"  # the version we pin has none
        quiet = egress.environment(quiet)
        self._control = ours
        try:
            self._zygote = subprocess.Popen(
                argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=quiet
            )
        finally:
            theirs.close()
        ours.settimeout(_START_S)
        try:
            said = ours.recv(4096)
            hello: dict[str, Any] = json.loads(said or b"{}")
        except (OSError, ValueError):
            return {}, False
        if said:
            return hello, False
        with suppress(subprocess.TimeoutExpired):  # it hung up: it is ending
            return {}, self._zygote.wait(_ANSWER_S) < 0
        return {}, False

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
        raise SourceBusy("読んでいる間にファイルが変わりました。次の取り込みで読み直します。")
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


def name_of(file: RawFile) -> str:
    """The name whose ending may break a tie between kinds of text."""
    for name in (file.uri, file.title):
        if PurePosixPath(name.replace("\x00", "")).suffix:
            return PurePosixPath(name).name[-200:]
    return file.title[-200:]


class _Cuts:
    """Hands out the bytes of files inside a file: of some that follow one another at a time."""

    def __init__(self, sandbox: Sandbox, file: RawFile) -> None:
        self._sandbox, self._file = sandbox, file
        self._order: list[Child] = []
        self._had: dict[tuple[int, ...], bytes] = {}

    def readable(self, children: Sequence[Child]) -> tuple[Child, ...]:
        """Those with pages to be read, whose bytes are needed for it."""
        self._order = [c for c in children if c.at and c.document and readings.unread(c.document)]
        wanted = {c.at for c in self._order}
        return tuple(
            replace(c, read=partial(self._read, c)) if c.at in wanted else c for c in children
        )

    def _read(self, child: Child) -> bytes:
        if child.at not in self._had:
            first = next(n for n, one in enumerate(self._order) if one.at == child.at)
            wanted: list[tuple[int, ...]] = []
            size = 0
            for one in self._order[first:]:
                size += one.size_bytes or 0
                if wanted and (size > _CUT_BYTES or len(wanted) == _CUT_FILES):
                    break
                wanted.append(one.at)
            self._had = self._sandbox.cut(self._file, wanted)
        if child.at not in self._had:
            raise Unreadable("中のファイルを取り出せません")
        return self._had.pop(child.at)
