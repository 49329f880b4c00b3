"""Several files one after another in one child: the same walls and parsers, one fork for all.

Both sides of it. The sandbox is started with this module (`Sandbox(module=MODULE)`).
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

from appliance import formats
from appliance.errors import PasswordNeeded, TooLarge, Transient, Unreadable
from appliance.formats import answers, child
from appliance.formats.sandbox import Sandbox
from appliance.types import Child
from tests.bench import endings

MODULE = "tests.bench.several"


def put(sandbox: Sandbox, files: Sequence[tuple[str, bytes]]) -> list[endings.Ending | None]:
    """How each ended; None for all where their child gave no answer."""
    source = os.memfd_create("kura-several", os.MFD_CLOEXEC)
    try:
        with os.fdopen(source, "wb", closefd=False) as out:
            out.writelines(data for _, data in files)
        sizes = json.dumps([(name, len(data)) for name, data in files]).encode()
        said = json.loads(sandbox.ask(source, {}, sizes)).get("told", ())
    except (Transient, Unreadable, TooLarge, ValueError):
        said = ()
    finally:
        os.close(source)
    return [_ending(one) for one in said] if len(said) == len(files) else [None] * len(files)


def _ending(said: Sequence[Any]) -> endings.Ending:
    """As `Sandbox.parse` believes it."""
    *before, last = (json.dumps(message).encode() for message in said)
    children: list[Child] = []
    try:
        answers.inside(before, 0, children)
        answers.file(last)
        answers.told_apart(children)
    except (Transient, Unreadable, TooLarge, PasswordNeeded) as error:
        return endings.told(error)
    return "answered", ""


def prepare() -> child.Work:
    return one_by_one(formats)


def one_by_one(module: Any) -> child.Work:
    """What the child does, with the parsers of `module`."""
    read = child.work_of(module)

    def work(job: dict[str, Any], stream: BinaryIO, given: bytes, say: child.Say) -> dict[str, Any]:
        told, at = [], 0
        for name, size in json.loads(given):
            said: list[dict[str, Any]] = []
            part = cast("BinaryIO", io.BufferedReader(Part(stream.fileno(), at, size)))
            last = read({"name": name}, part, b"", said.append)
            told.append([*said, last])
            at += size
        return {"told": told}

    return work


class Part(io.RawIOBase):
    """Some bytes of an open file, as a file of their own with its ways of saying no."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd, self._start, self._size, self._at = fd, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        left = max(0, self._size - self._at)
        data = os.pread(self._fd, min(len(view), left), self._start + self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        to = offset + (0, self._at, self._size)[whence]
        if not 0 <= to < 1 << 63:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = to
        return to
