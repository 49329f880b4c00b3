"""The other side of the sandbox: a warm process that forks one child a file.

Started by `sandbox.py` in a fresh interpreter, single-threaded, with every parser
imported, for a child can open nothing any more. Speaks JSON, never pickle.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from appliance import logs
from appliance.errors import ApplianceError, PasswordNeeded, TooLarge, Unreadable
from appliance.formats import attached, confine
from appliance.formats.picture import Pixels
from appliance.sovereignty import egress
from appliance.text import readings
from appliance.types import Child, Document, Properties

Pictures = Mapping[str, Callable[[BinaryIO, int], Pixels]]
Identify = Callable[[BinaryIO, str], str]
Say = Callable[[dict[str, Any]], None]  # something before the last word
# job, file, what goes with it
Work = Callable[[dict[str, Any], BinaryIO, bytes, Say], dict[str, Any]]
_LAZY = ("encodings", "email", "xml")  # packages that import their modules when first needed
_REQUEST = 65_536


def main(control_fd: int, module: str, counts: str) -> None:
    """Serve until the other side hangs up. `module` has `prepare`, or PARSERS and `identify`.

    `counts`: the folder where it is counted what the guard refuses.
    """
    for asked in (signal.SIGINT, signal.SIGTERM):  # meant for the worker: it hangs up when done
        signal.signal(asked, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    logs.to(sys.stderr)
    egress.guard_child("parser", Path(counts))
    try:
        egress.assert_off()
        work = work_of(importlib.import_module(module))
        _import_all()
        time.tzset()
        os.chdir("/")
        gc.collect()
        gc.freeze()  # a child that collects leaves these pages shared
        confine.isolate()
        threads = len(list(Path("/proc/self/task").iterdir()))
        if threads != 1:
            raise confine.Unconfined(f"the parsers' process has {threads} threads")
    except (confine.Unconfined, ImportError, ApplianceError) as error:
        _hello(control, {"error": str(error)})
        return
    if _hello(control, {"ready": os.getpid()}):
        _serve(control, work)


def _hello(control: socket.socket, said: dict[str, Any]) -> bool:
    """Whether anybody heard it: the worker may have been killed meanwhile."""
    try:
        control.send(json.dumps(said).encode())
    except BrokenPipeError:
        return False
    return True


def work_of(module: Any) -> Work:
    """What a child of the process does for a job."""
    if hasattr(module, "prepare"):
        return cast("Work", module.prepare())
    paged: frozenset[str] = getattr(module, "PAGED", frozenset())
    pictures: Pictures = getattr(module, "PICTURES", {})
    parse = partial(_parse, parsers=module.PARSERS, identify=module.identify, paged=paged)
    draw = partial(_picture, identify=module.identify, pictures=pictures)
    cut = partial(_cut, parsers=module.PARSERS, identify=module.identify)

    def work(job: dict[str, Any], stream: BinaryIO, given: bytes, say: Say) -> dict[str, Any]:
        if "page" in job:
            return draw(job, stream)
        return cut(job, stream, say) if "cut" in job else parse(job, stream, given, say)

    return work


def _serve(control: socket.socket, work: Work) -> None:
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_w, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(wake_r, selectors.EVENT_READ)
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if wake_r in ready:
            os.read(wake_r, 4096)
            _reap(running)
        if control in ready:
            message, fds, _, _ = socket.recv_fds(control, _REQUEST, 4)
            if not message:
                break
            _start(json.loads(message), fds, running, work)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _start(
    job: dict[str, Any],
    fds: list[int],
    running: dict[int, socket.socket],
    work: Work,
) -> None:
    source, output, given, status_fd = fds
    pid = os.fork()
    if pid == 0:
        _child(job, source, output, given, work)
    status = socket.socket(fileno=status_fd)
    pidfd = os.pidfd_open(pid)
    try:
        socket.send_fds(status, [b"started"], [pidfd])
    except OSError:  # nobody waits for it any more
        os.kill(pid, signal.SIGKILL)
    for fd in (source, output, given, pidfd):
        os.close(fd)
    running[pid] = status


def _reap(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        listener = running.pop(pid)
        with contextlib.suppress(OSError):  # nobody waits for it any more
            listener.send(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode())
        listener.close()


def _step_back() -> None:
    """Others first. Where a filter refuses the class, the lowest priority."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        os.nice(19)


def _child(job: dict[str, Any], source: int, output: int, given: int, work: Work) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        parent = os.getppid()
        source, output, given = _only(source, output, given)
        with os.fdopen(given, "rb") as beside:
            more = beside.read()
        if job["idle"]:
            _step_back()
        confine.confine(job["memory_bytes"], job["cpu_s"])
        if os.getppid() != parent:
            os._exit(1)
        with os.fdopen(source, "rb", closefd=False) as stream:
            reply = work(job, stream, more, partial(_send, output, last=False))
    except confine.Unconfined as error:
        reply = {"unconfined": str(error)}
    except MemoryError:
        reply = {"error": "Unreadable", "reason": "メモリの上限を超えました"}
    except BaseException as error:  # noqa: BLE001 (nothing of the child may run on)
        reply = {"error": "Unreadable", "reason": f"解析できません ({type(error).__name__})"}
    try:
        _send(output, reply)
    finally:
        os._exit(0)


def _only(source: int, output: int, given: int) -> tuple[int, int, int]:
    """Close everything else; what stays becomes 3, 4 and 5, the standard three go nowhere."""
    # above those three, but no number of our own: a container's limit may be low
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 6) for fd in (source, output, given)]
    null = os.open(os.devnull, os.O_RDWR)
    for n in (0, 1, 2):
        os.dup2(null, n)
    os.dup2(high[0], 3)
    os.dup2(high[1], 4)
    os.dup2(high[2], 5)
    os.closerange(6, os.sysconf("SC_OPEN_MAX"))
    return 3, 4, 5


def _parse(
    job: dict[str, Any],
    stream: BinaryIO,
    given: bytes,
    say: Say,
    parsers: Mapping[str, Callable[..., Document]],
    identify: Identify,
    paged: frozenset[str],
) -> dict[str, Any]:
    """The last word on the file. What is inside it is said before, each as soon as it is read."""
    media_type, name, told = "", job["name"], 0
    start = job.get("start", 0)

    def begin(number: int, path: str) -> None:
        say({"number": number, "path": path})

    def tell(children: list[Child]) -> None:
        nonlocal told
        told += len(children)
        say({"children": [_child_row(child) for child in children]})

    try:
        own, inner = readings.unpack(given) if given else (None, None)
        media_type = identify(stream, name)
        stream.seek(0)
        if media_type not in parsers:
            raise Unreadable(f"この形式には対応していません ({media_type})")
        with attached.listening(name, start, begin, tell, inner):
            more = (own,) if media_type in paged else ()
            document = parsers[media_type](stream, *more)
        if not (document.text.strip() or document.pages or told or start):
            raise Unreadable("テキストがありません")
    except (Unreadable, TooLarge) as error:
        kind = next(k for k in (PasswordNeeded, TooLarge, Unreadable) if isinstance(error, k))
        return {"error": kind.__name__, "reason": str(error)}
    except MemoryError:
        return {"error": "Unreadable", "reason": "メモリの上限を超えました"}
    except Exception as error:  # noqa: BLE001 (a parser may raise anything over hostile bytes)
        what = f"{media_type or name}: {type(error).__name__} {error}"[:300]
        return {"error": "Unreadable", "reason": f"ファイルが壊れているか、解析できません ({what})"}
    return {"media_type": media_type, **_document_row(document)}


def _child_row(child: Child) -> dict[str, Any]:
    return {
        "path": child.path,
        "at": child.at,
        "digest": child.digest,
        "media_type": child.media_type,
        "size_bytes": child.size_bytes,
        "modified_at": child.modified_at and child.modified_at.isoformat(),
        "problem": child.problem,
        "document": child.document and _document_row(child.document),
    }


def _document_row(document: Document) -> dict[str, Any]:
    return {
        "text": document.text,
        "title": document.title,
        "problems": document.problems,
        "marks": [[m.start, m.label, m.kind, m.page, m.level] for m in document.marks],
        "properties": _properties(document.properties),
        "pages": [[p.number, p.state, p.sure, p.read] for p in document.pages],
        "runs": document.runs,
        "own": document.own,
    }


def _properties(own: Properties) -> list[Any]:
    return [own.author, own.created and own.created.isoformat(), own.edges]


def _cut(
    job: dict[str, Any],
    stream: BinaryIO,
    say: Say,
    parsers: Mapping[str, Callable[..., Document]],
    identify: Identify,
) -> dict[str, Any]:
    """The bytes of some of the files inside, as far as it comes."""

    def give(at: tuple[int, ...], data: bytes) -> None:
        say({"at": at, "bytes": base64.b64encode(data).decode()})

    with contextlib.suppress(Exception):  # hostile bytes; whoever asked sees what is missing
        media_type = identify(stream, job["name"])
        stream.seek(0)
        with attached.cutting(job["name"], {tuple(at) for at in job["cut"]}, give):
            parsers[media_type](stream)
    return {}


def _picture(
    job: dict[str, Any], stream: BinaryIO, identify: Identify, pictures: Pictures
) -> dict[str, Any]:
    try:
        media_type = identify(stream, job["name"])
        stream.seek(0)
        if media_type not in pictures:
            raise Unreadable(f"この形式のページは表示できません ({media_type})")
        drawn = pictures[media_type](stream, job["page"])
    except (Unreadable, TooLarge) as error:
        kind = next(k for k in (PasswordNeeded, TooLarge, Unreadable) if isinstance(error, k))
        return {"error": kind.__name__, "reason": str(error)}
    rgb = base64.b64encode(drawn.rgb).decode()
    return {"width": drawn.width, "height": drawn.height, "rgb": rgb}


def _send(output: int, reply: dict[str, Any], last: bool = True) -> None:
    """The length in eight bytes, with the highest bit set if more comes, and JSON."""
    data = json.dumps(reply, ensure_ascii=False).encode("utf-8", "replace")
    view = memoryview((len(data) | (not last) << 63).to_bytes(8, "big") + data)
    while view:
        view = view[os.write(output, view) :]


def _import_all() -> None:
    for package in _LAZY:
        for found in pkgutil.walk_packages(
            importlib.import_module(package).__path__, f"{package}."
        ):
            try:
                importlib.import_module(found.name)
            except (ImportError, SyntaxError):  # made for another system
                continue


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:4])
