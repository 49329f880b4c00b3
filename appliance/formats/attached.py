"""Files inside files (attachments, members of an archive), whatever format they are in.

Each becomes a `Child` of the outermost file. The sandbox is told of them one by one, so that what
was read is kept when a later one kills the process.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import cache, partial

from appliance.errors import TooLarge, Unreadable
from appliance.formats import kinds
from appliance.formats.draft import one_line
from appliance.text.split import SEPARATOR
from appliance.types import Child, Document, Readings

JAPAN = timezone(timedelta(hours=9))  # where a file does not say which clock it means
_DEPTH = 5  # of files inside files

Parse = Callable[[], Document]
Find = Callable[[], tuple[str, int | None, str | None, Parse]]  # its kind, size and digest


@dataclass
class _Level:
    """A file this process is inside of: it reads one at a time."""

    name: str
    number: int = 0  # of the file inside it that was met last, from 1


@dataclass(frozen=True)
class _Listener:
    """Is told of the outermost file's children, from number `start` (0) on."""

    start: int
    begin: Callable[[int, str], None]  # with the number and path of the one that is read next
    tell: Callable[[list[Child]], None]  # it, and what is inside it
    read: Mapping[str, Readings] | None  # what was read of pages, by the digest of their file

    def meet(self, child: Child, find: Find, data: Callable[[], bytes] | None) -> list[Child]:
        """What is left to collect."""
        if len(_levels) > 1:
            return _read(child, find)
        number = _levels[0].number - 1
        if number >= self.start:
            self.begin(number, child.path)
            self.tell(_read(child, find))
        return []


@dataclass(frozen=True)
class _Cutter:
    """Is given the bytes of those it wants, and reads no more than it must."""

    wanted: Collection[tuple[int, ...]]
    give: Callable[[tuple[int, ...], bytes], None]

    def meet(self, child: Child, find: Find, data: Callable[[], bytes] | None) -> list[Child]:
        at = _at()
        with suppress(Exception):  # a broken one must not lose the others
            if data and at in self.wanted:
                self.give(at, data())
            if any(len(one) > len(at) and one[: len(at)] == at for one in self.wanted):
                with _inside(child.path):
                    find()[-1]()
        return []


_levels: list[_Level] = []
_watching: list[_Listener | _Cutter] = []


@contextmanager
def listening(
    name: str,
    start: int,
    begin: Callable[[int, str], None],
    tell: Callable[[list[Child]], None],
    read: Mapping[str, Readings] | None = None,
) -> Iterator[None]:
    """What is added to the file `name` is told, and not collected. Without `read` nobody reads
    pages that are pictures.
    """
    with _watched(name, _Listener(start, begin, tell, read)):
        yield


@contextmanager
def cutting(
    name: str, wanted: Collection[tuple[int, ...]], give: Callable[[tuple[int, ...], bytes], None]
) -> Iterator[None]:
    """Of what is added to the file `name`, and to those inside it, the bytes are given: see
    `Child.at`.
    """
    with _watched(name, _Cutter(wanted, give)):
        yield


@contextmanager
def _watched(name: str, by: _Listener | _Cutter) -> Iterator[None]:
    _watching.append(by)
    _levels.append(_Level(name))
    try:
        yield
    finally:
        _levels.pop()
        _watching.pop()


def holder() -> str:
    """The name of the file that is being read, "" where nobody said."""
    return _levels[-1].name if _levels else ""


def add(
    children: list[Child],
    path: str,
    read: Callable[[], bytes],
    *,
    size_bytes: int | None = None,
    modified_at: datetime | None = None,
) -> None:
    """A file of any format. One that cannot be read is a child with its problem."""

    data = cache(read)  # of some archives it can be had but once

    def find() -> tuple[str, int | None, str | None, Parse]:
        if not data():
            raise Unreadable("中身が空です")
        kind = kinds.identify(io.BytesIO(data()), path)
        digest = hashlib.sha256(data()).hexdigest() if kind in _paged() else None
        return kind, len(data()), digest, partial(_parsed, kind, data(), digest)

    _add(children, Child(path, None, None, None, size_bytes, modified_at), find, data)


def add_parsed(
    children: list[Child],
    path: str,
    media_type: str,
    parse: Parse,
    modified_at: datetime | None = None,
) -> None:
    """A file that is no sequence of bytes in what holds it."""
    _add(
        children,
        Child(path, None, None, media_type, None, modified_at),
        lambda: (media_type, None, None, parse),
    )


def _add(
    children: list[Child], child: Child, find: Find, data: Callable[[], bytes] | None = None
) -> None:
    if _levels:
        _levels[-1].number += 1
    child = replace(child, at=_at() if data else ())
    children += _watching[-1].meet(child, find, data) if _watching else _read(child, find)


def _at() -> tuple[int, ...]:
    return tuple(level.number for level in _levels)


def _read(child: Child, find: Find) -> list[Child]:
    """The child and what is inside it, each with its path from the outermost file."""
    try:
        with _inside(child.path):
            kind, size, digest, parse = find()
            size = child.size_bytes or size
            child = replace(child, media_type=kind, size_bytes=size, digest=digest)
            document = parse()
        if not (document.text.strip() or document.pages or document.children):
            raise Unreadable("テキストがありません")
    except (Unreadable, TooLarge) as error:
        return [replace(child, problem=str(error))]
    except MemoryError:
        return [replace(child, problem="メモリの上限を超えました")]
    except Exception as error:  # noqa: BLE001 (a broken one must not lose the others)
        return [replace(child, problem=f"解析できません ({type(error).__name__})")]
    inside = [replace(c, path=f"{child.path}{SEPARATOR}{c.path}") for c in document.children]
    return [replace(child, document=replace(document, children=())), *inside]


@contextmanager
def _inside(name: str) -> Iterator[None]:
    """One deeper. Raises TooLarge where that is too deep: a file may hold itself."""
    if len(_levels) > _DEPTH:
        raise TooLarge("入れ子が深すぎます")
    _levels.append(_Level(name))
    try:
        yield
    finally:
        _levels.pop()


def _parsed(kind: str, data: bytes, digest: str | None) -> Document:
    from appliance.formats import PARSERS  # of which the caller is a row

    if kind not in PARSERS:
        raise Unreadable(f"この形式には対応していません ({kind})")
    if digest is None:
        return PARSERS[kind](io.BytesIO(data))
    watch = _watching[-1] if _watching else None
    read = watch.read if isinstance(watch, _Listener) else None
    more = None if read is None else read.get(digest, {})
    parse: Callable[..., Document] = PARSERS[kind]
    return parse(io.BytesIO(data), more)


def _paged() -> frozenset[str]:
    from appliance.formats import PAGED

    return PAGED


def file_name(said: str) -> str:
    """A name to be shown: one line, no path."""
    said = "".join(c for c in said if unicodedata.category(c) not in ("Cf", "Cc", "Cs", "Co"))
    return one_line(said.replace("/", "_").replace("\\", "_"))[:120]
