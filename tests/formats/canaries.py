# ruff: noqa: PTH102, PTH104, PTH108, PTH115, PTH208, PTH211, SIM115
"""Parsers that try to get out. Each tells in its document's text what it managed to do."""

from __future__ import annotations

import ctypes
import errno
import gc
import io
import json
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from appliance.formats import attached
from appliance.types import Child, Document, Mark

_libc = ctypes.CDLL(None, use_errno=True)


def report(attempt: Callable[[], object]) -> Document:
    try:
        attempt()
    except OSError as error:
        return Document(errno.errorcode.get(error.errno or 0, str(error)))
    return Document("escaped")


def call(number: int, *arguments: int) -> None:
    if _libc.syscall(number, *(ctypes.c_long(a) for a in arguments)) < 0:
        raise OSError(ctypes.get_errno(), "")


def sockets(stream: BinaryIO) -> Document:
    kinds = [
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
        socket.AF_PACKET,
        socket.AF_NETLINK,
        40,
    ]
    return Document(
        " ".join(report(lambda k=k: socket.socket(k, socket.SOCK_DGRAM)).text for k in kinds)
    )


def lookup(stream: BinaryIO) -> Document:
    """By the C library: Python's own would be stopped by the guard before the kernel is asked."""
    found = ctypes.c_void_p()
    if _libc.getaddrinfo(b"example.com", b"80", None, ctypes.byref(found)) != 0:
        return Document("EPERM")
    return Document("escaped")


def asks(stream: BinaryIO) -> Document:
    """By Python, which the guard hears of."""
    try:
        socket.getaddrinfo("example.com", 80)
    except PermissionError as error:
        return Document(type(error).__name__)
    return Document("escaped")


def bomb(stream: BinaryIO) -> Document:
    return report(lambda: [os.fork() for _ in range(100)])


def thread(stream: BinaryIO) -> Document:
    import _thread

    try:
        _thread.start_new_thread(time.sleep, (1,))
    except RuntimeError:
        return Document("EPERM")
    return Document("escaped")


def run(stream: BinaryIO) -> Document:
    try:
        subprocess.run(["/bin/true"], check=True)
    except OSError as error:
        return Document(errno.errorcode[error.errno or 0])
    return Document("escaped")


def execute(stream: BinaryIO) -> Document:
    return report(lambda: os.execv("/bin/true", ["true"]))


def reads(stream: BinaryIO) -> Document:
    """The file named in the document, by every way Python has."""
    path = stream.read().split(b"\n")[1].decode()
    ways: list[Callable[[], object]] = [
        lambda: open(path),
        lambda: os.listdir(Path(path).parent),
        lambda: os.open(path, os.O_PATH),
        lambda: os.readlink("/proc/self/exe"),
        lambda: Path("/proc/self/environ").read_bytes(),
    ]
    return Document(" ".join(report(way).text for way in ways))


def writes(stream: BinaryIO) -> Document:
    path = stream.read().split(b"\n")[1].decode()
    ways: list[Callable[[], object]] = [
        lambda: open("/etc/kura-canary", "w"),
        lambda: open(path, "w"),
        lambda: os.unlink(path),
        lambda: os.rename(path, path + ".x"),
        lambda: os.mkdir("/tmp/kura-canary"),
        lambda: os.symlink("/etc/passwd", "/tmp/kura-canary"),
        lambda: os.write(3, b"x"),  # its own file
        lambda: os.memfd_create("canary"),
    ]
    return Document(" ".join(report(way).text for way in ways))


def signals(stream: BinaryIO) -> Document:
    return Document(
        " ".join(report(lambda p=p: os.kill(p, signal.SIGKILL)).text for p in (os.getppid(), 1, -1))
    )


# ptrace, mount, bpf, io_uring_setup, keyctl, perf_event_open, userfaultfd,
# open_by_handle_at, setns, unshare
_DOORS = {
    "x86_64": (101, 165, 321, 425, 250, 298, 323, 304, 308, 272),
    "aarch64": (117, 40, 280, 425, 219, 241, 282, 265, 268, 97),
}


def kernel(stream: BinaryIO) -> Document:
    numbers = _DOORS[os.uname().machine]
    return Document(" ".join(report(lambda n=n: call(n, 0, 0, 0, 0, 0)).text for n in numbers))


def loosen(stream: BinaryIO) -> Document:
    import resource

    def raise_limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def seccomp_off() -> None:
        if _libc.prctl(22, 0, 0, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), "")

    def uid() -> None:
        os.setuid(0)

    out = []
    for way in (raise_limit, seccomp_off, uid):
        try:
            way()
            out.append("escaped")
        except (OSError, ValueError):
            out.append("EPERM")
    return Document(" ".join(out))


def descriptors(stream: BinaryIO) -> Document:
    """What is open: nothing, its file, and the pipe it answers on."""
    found = []
    for fd in range(2000):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return Document(json.dumps(found))


def hog(stream: BinaryIO) -> Document:
    held = []
    while True:
        held.append(bytearray(50_000_000))


def spin(stream: BinaryIO) -> Document:
    while True:
        pass


def sleeper(stream: BinaryIO) -> Document:
    while True:
        time.sleep(100)


def stubborn(stream: BinaryIO) -> Document:
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN)
    while True:
        pass


def flood(stream: BinaryIO) -> Document:
    return Document("あ" * 20_000_000)


def drip(stream: BinaryIO) -> Document:
    while True:
        os.write(4, b"\xff" * 60_000)


def crash(stream: BinaryIO) -> Document:
    ctypes.string_at(1)
    return Document("alive")


def silent(stream: BinaryIO) -> Document:
    os._exit(0)


def liar(stream: BinaryIO) -> Document:
    """An answer of its own, straight to the pipe."""
    reply = stream.read().split(b"\n", 1)[1]
    os.write(4, len(reply).to_bytes(8, "big") + reply)
    os._exit(0)


def dirty(stream: BinaryIO) -> Document:
    return Document("\x00a\x1b[31m\ud800b", (Mark(1, "x\x00"),), "t\x00", ("p\x07",))


def slow(stream: BinaryIO) -> Document:
    time.sleep(1.0)
    return Document("done")


def holder(stream: BinaryIO) -> Document:
    """Holds what the rest of its first line names: canaries, and texts."""
    children: list[Child] = []
    for n, name in enumerate(stream.read().decode().split()[1:]):
        parse = PARSERS.get(name, lambda _, name=name: Document(name))
        attached.add_parsed(children, f"{n} {name}", "x", partial(parse, io.BytesIO()))
    return Document("own", children=tuple(children))


def tidies(stream: BinaryIO) -> Document:
    """How many pages a full collection takes from those it shares with its parent."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    gc.collect()
    return Document(str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))


def plain(stream: BinaryIO) -> Document:
    return Document(stream.read().decode())


PARSERS: dict[str, Callable[[BinaryIO], Document]] = {
    f.__name__: f
    for f in (
        sockets, lookup, asks, bomb, thread, run, execute, reads, writes, signals, kernel, loosen,
        descriptors, hog, spin, sleeper, stubborn, flood, drip, crash, silent, liar, dirty, slow,
        holder, tidies, plain,
    )
}  # fmt: skip

PICTURES = {name: lambda stream, page, f=f: f(stream) for name, f in PARSERS.items()}


def identify(stream: BinaryIO, name: str) -> str:
    """The first line names the parser."""
    first = stream.readline().strip().decode("ascii", "replace")
    return first if first in PARSERS else "plain"
