"""All that a source shows at one time, beside what it showed before: what came, moved and went."""

from __future__ import annotations

import io
import json
import unicodedata
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from appliance.shelf import Shelf
from appliance.types import (
    Access,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Moved,
    RawFile,
    Remove,
    Upsert,
)

E = TypeVar("E")
_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

DEEPEST = 60  # folders inside folders
FEW = 20  # files; fewer than this may vanish at once without a doubt
_MANY = 500  # files of one question to the shelf
# a cursor that another version wrote: everything is listed anyway
_STRANGE = (ValueError, AttributeError, TypeError, zlib.error)
_BLOCK_BYTES = 4096  # of what is pressed; a thousand times as much may come of it


@dataclass(slots=True)
class Listing(Generic[E]):
    """Files by uri, as their connector knows them. They lie on the disk: there may be a million."""

    files: Shelf[E] = field(default_factory=Shelf)
    failures: list[Failed] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)  # folders whose content is unknown, "a/b/"

    def add(self, uri: str, entry: E, access: Access) -> None:
        """One file; of two with the same name the first is kept, and the other told of."""
        if not self.files.add(uri, entry):
            other = next(n for n in count(2) if f"{uri}#{n}" not in self.files)
            reason = "同じ名前のファイルがあります (濁点などの文字コードだけが違います)"
            self.failures.append(Failed(f"{uri}#{other}", title(uri), reason, False, access))

    def shut(self, folder: str, why: object, *, transient: bool) -> None:
        """A folder, "a/b/", that did not open: it hides no other, and what was in it stays."""
        self.closed.append(folder)
        reason = f"フォルダーを開けません ({why})"
        self.failures.append(Failed(folder, title(folder), reason, transient))

    def end(self, folder: str) -> None:
        """A folder, "a/b/", that is too deep: no share ends otherwise that holds itself."""
        reason = "フォルダーが深すぎるため、ここから下は読みません"
        self.failures.append(Failed(folder, title(folder), reason, False))

    def changes(
        self,
        since: Cursor | None,
        same: Callable[[E], str],
        file: Callable[[str, E], RawFile],
    ) -> Iterator[Change]:
        """All files, then a checkpoint, complete if every folder could be listed.

        `same` is what a move keeps, or empty: where one file that is gone and one that is new have
        it, and no others do, it is the same file. What it does not promise, the version must: a
        file that moved is read again if its version is another.
        """
        closed, now = tuple(self.closed), Packed()
        gone, hidden, before = self._missing(since)
        moved = self._moved(gone, same) if gone else {}
        yield from self.failures
        for uri, entry in self.files.items():
            raw = file(uri, entry)
            now.add((uri, same(entry)))
            if old := moved.get(uri):
                del gone[old]
                yield Moved(old, uri, raw.title, raw.access)
            yield Upsert(raw)
        # one folder that does not open must not keep alive what was deleted elsewhere
        doubted = len(gone) >= FEW and 2 * len(gone) > before
        if closed and not doubted:
            yield from map(Remove, gone)
            gone.clear()
        for kept in chain(hidden.items(), gone.items() if closed else ()):
            now.add(kept)
        yield Checkpoint(Cursor(json.dumps({"files": now.text()})), complete=not closed)

    def _missing(self, since: Cursor | None) -> tuple[Shelf[str], Shelf[str], int]:
        """What was there before and is not: gone, or in a closed folder; and how many were there.

        Marks the files that were.
        """
        closed, before = tuple(self.closed), 0
        gone, hidden = Shelf[str](), Shelf[str]()
        told = _told(since)
        try:
            while block := dict(islice(told, _MANY)):
                before += len(block)
                there = self.files.mark_all(block)
                for uri, one in block.items():
                    if uri not in there:
                        (hidden if uri.startswith(closed) else gone)[uri] = one
        except _STRANGE:
            self.files.unmark()
            return Shelf(), Shelf(), 0
        return gone, hidden, before

    def _moved(self, gone: Mapping[str, str], same: Callable[[E], str]) -> Mapping[str, str]:
        """By the uri of a file that came, which of the `gone` it is."""
        come = ((uri, same(self.files[uri])) for uri in self.files.unmarked_keys())
        origin, arrived, moved = _once(gone.items()), _once(come), Shelf[str]()
        for one, uri in arrived.items():
            if uri and (old := origin.get(one)):
                moved[uri] = old
        return moved


def spelled(name: bytes) -> str:
    """A name in NFC; bytes that are not UTF-8 are read as CP932, as old archives leave them."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        text = name.decode("cp932", "replace")
    return unicodedata.normalize("NFC", text)


def title(uri: str) -> str:
    return PurePosixPath(uri).stem or uri


def _once(files: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Uris by what they keep; none where several have it."""
    found = Shelf[str]()
    for uri, same in files:
        if same:
            found[same] = "" if same in found else uri
    return found


def held(cursor: Cursor | None) -> Shelf[str]:
    """By uri, what each file of the last listing keeps when it moves."""
    found = Shelf[str]()
    try:
        found.fill(_told(cursor))
    except _STRANGE:
        return Shelf()
    return found


def _told(cursor: Cursor | None) -> Iterator[tuple[str, str]]:
    """Raises one of `_STRANGE`."""
    for uri, same in rows(json.loads(cursor or "{}").get("files", {})):
        yield str(uri), str(same)


class Packed:
    """Rows of what JSON knows, for a cursor; no more than a line of their text is held."""

    def __init__(self) -> None:
        self._press, self._out = zlib.compressobj(1), io.BytesIO()

    def add(self, row: Sequence[Any]) -> None:
        line = f"{_write(row)}\n".encode("utf-8", "surrogatepass")
        self._out.write(self._press.compress(line))

    def text(self) -> str:
        """All of them; nothing more can be added."""
        self._out.write(self._press.flush())
        return b64encode(self._out.getbuffer()).decode()


def packed(rows: Iterable[Sequence[Any]]) -> str:
    made = Packed()
    for row in rows:
        made.add(row)
    return made.text()


def rows(files: Any) -> Iterator[list[Any]]:
    """What `packed` made of them; a dictionary by uri too, as connectors with less to say write it."""
    if isinstance(files, str):
        yield from _unpacked(files)
        return
    for uri, one in files.items():
        yield [uri, *one] if isinstance(one, list) else [uri, one]


def _unpacked(text: str) -> Iterator[list[Any]]:
    """Raises ValueError, zlib.error where it is not what `packed` made."""
    press, data, rest = zlib.decompressobj(), memoryview(b64decode(text, validate=True)), b""
    for start in range(0, len(data), _BLOCK_BYTES):
        block = press.decompress(data[start : start + _BLOCK_BYTES])
        *lines, rest = (rest + block).split(b"\n")
        yield from (json.loads(line.decode("utf-8", "surrogatepass")) for line in lines)
    if rest or not press.eof:
        raise ValueError("a cursor that was cut off")
