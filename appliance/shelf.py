"""What grows with the number of files, and must not in memory: a dictionary that lies on the disk."""

from __future__ import annotations

import errno
import json
import sqlite3
import tempfile
from collections.abc import (
    Callable,
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    MutableMapping,
    ValuesView,
)
from dataclasses import fields, is_dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Generic, TypeVar, cast

from appliance.errors import no_room

V = TypeVar("V")

_CACHE_KIB = 4096  # what is smaller never touches the disk
_BLOCK = 500  # rows at a time
_KIND = "\0"  # no word of anybody's
_MAKERS: dict[str, Callable[[Any], Any]] = {
    "at": datetime.fromisoformat,
    "bytes": lambda said: said.encode("latin-1"),
    "set": frozenset,
    "tuple": tuple,
}
_MAKE = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -{_CACHE_KIB};
CREATE TABLE shelf (
    place INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, mark INTEGER NOT NULL
);
BEGIN;
"""
_PUT = "INSERT INTO shelf (key, value, mark) VALUES (?, ?, 0) ON CONFLICT (key) DO "
_ANEW = "UPDATE SET value = excluded.value"


class Shelf(MutableMapping[str, V], Generic[V]):
    """A dict by string, in a file without a name that is gone with its owner. For one thread at a time.

    Values are what JSON knows, and dates, bytes, frozensets and frozen dataclasses; a tuple comes
    back as `make` makes it of its parts. They are copies: what is changed must be put back. Its order
    is that of `dict`; whoever walks over it may change it meanwhile. Each key that is there can be
    marked. Raises NotReady where the disk is full.
    """

    def __init__(self, make: Callable[[Any], V] | None = None) -> None:
        self._make, self._codec = make, _Codec()
        # without a name: a file of SQLite's own, unlinked as soon as it is made
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript(_MAKE)
        self._to_mark: list[tuple[int]] = []  # places; many at once cost less

    def __getitem__(self, key: str) -> V:
        row = self._ask("SELECT value FROM shelf WHERE key = ?", _bytes(key)).fetchone()
        if row is None:
            raise KeyError(key)
        return self._value(row[0])

    def __contains__(self, key: object) -> bool:
        ask = "SELECT 1 FROM shelf WHERE key = ?"
        return isinstance(key, str) and self._ask(ask, _bytes(key)).fetchone() is not None

    def __setitem__(self, key: str, value: V) -> None:
        self._put(key, value, _ANEW)

    def __delitem__(self, key: str) -> None:
        self._mark()  # its place may be another's next
        if not self._ask("DELETE FROM shelf WHERE key = ?", _bytes(key)).rowcount:
            raise KeyError(key)

    def __len__(self) -> int:
        return int(self._ask("SELECT count(*) FROM shelf").fetchone()[0])

    def __bool__(self) -> bool:
        return self._ask("SELECT 1 FROM shelf LIMIT 1").fetchone() is not None

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._rows("key, NULL"))

    def items(self) -> ItemsView[str, V]:
        return _Items(self)

    def values(self) -> ValuesView[V]:
        return _Values(self)

    def add(self, key: str, value: V) -> bool:
        """False where the key was there: it keeps what it has."""
        return self._put(key, value, "NOTHING") == 1

    def fill(self, pairs: Iterable[tuple[str, V]]) -> None:
        """Many at once."""
        rows = ((_bytes(key), _bytes(self._codec.encode(value))) for key, value in pairs)
        while block := list(islice(rows, _BLOCK)):
            self._done(self._db.executemany, _PUT + _ANEW, block)

    def mark(self, key: str) -> V | None:
        """Its value; of a key that is not there nothing is kept."""
        row = self._ask("SELECT place, value FROM shelf WHERE key = ?", _bytes(key)).fetchone()
        if row is None:
            return None
        self._to_mark.append((row[0],))
        if len(self._to_mark) == _BLOCK:
            self._mark()
        return self._value(row[1])

    def mark_all(self, keys: Collection[str]) -> set[str]:
        """Those of them that are there; no more than SQLite takes at once, some hundreds."""
        places = ",".join("?" * len(keys))
        ask = f"UPDATE shelf SET mark = 1 WHERE key IN ({places}) RETURNING key"  # noqa: S608
        return {_text(key) for (key,) in self._ask(ask, *map(_bytes, keys)).fetchall()}

    def marked(self, key: str) -> bool:
        self._mark()
        ask = "SELECT 1 FROM shelf WHERE key = ? AND mark = 1"
        return self._ask(ask, _bytes(key)).fetchone() is not None

    def unmark(self) -> None:
        """All of them."""
        self._to_mark.clear()
        self._ask("UPDATE shelf SET mark = 0 WHERE mark = 1")

    def unmarked(self) -> int:
        """How many."""
        self._mark()
        return int(self._ask("SELECT count(*) FROM shelf WHERE mark = 0").fetchone()[0])

    def unmarked_keys(self) -> Iterator[str]:
        """Sorted."""
        self._mark()
        last = b""
        while rows := self._ask(
            "SELECT key FROM shelf WHERE mark = 0 AND key >= ? ORDER BY key LIMIT ?",
            last,
            _BLOCK,
        ).fetchall():
            for (key,) in rows:
                yield _text(key)
            last = rows[-1][0] + b"\0"

    def clear(self) -> None:
        self._to_mark.clear()
        self._ask("DELETE FROM shelf")

    def __del__(self) -> None:
        self._db.close()

    def pairs(self) -> Iterator[tuple[str, V]]:
        return ((key, self._value(value)) for key, value in self._rows("key, value"))

    def _put(self, key: str, value: V, otherwise: str) -> int:
        data = _bytes(self._codec.encode(value))
        return self._ask(_PUT + otherwise, _bytes(key), data).rowcount

    def _mark(self) -> None:
        if places := self._to_mark:
            self._to_mark = []
            self._done(self._db.executemany, "UPDATE shelf SET mark = 1 WHERE place = ?", places)

    def _rows(self, columns: str) -> Iterator[tuple[str, bytes]]:
        ask = f"SELECT place, {columns} FROM shelf WHERE place > ? ORDER BY place LIMIT ?"  # noqa: S608
        last = -1
        while rows := self._ask(ask, last, _BLOCK).fetchall():
            yield from ((_text(key), value) for _, key, value in rows)
            last = rows[-1][0]

    def _value(self, data: bytes) -> V:
        value = self._codec.decode(_text(data))
        return self._make(value) if self._make else cast(V, value)

    def _ask(self, ask: str, *given: Any) -> sqlite3.Cursor:
        return self._done(self._db.execute, ask, given)

    def _done(self, do: Callable[..., sqlite3.Cursor], *given: Any) -> sqlite3.Cursor:
        try:
            return do(*given)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            full = no_room(OSError(errno.ENOSPC, "full"), tempfile.gettempdir())
            raise full or error from error


class _Codec:
    """Values as JSON, and back; no class is made but those that it has met on their way in."""

    def __init__(self) -> None:
        self._kinds: list[Any] = []
        write = json.JSONEncoder(default=self._told, ensure_ascii=False, separators=(",", ":"))
        self.encode = write.encode
        self.decode = json.JSONDecoder(object_hook=self._made).decode

    def _told(self, value: Any) -> dict[str, Any]:
        """What JSON has no word for."""
        match value:
            case datetime():
                return {_KIND: "at", "": value.isoformat()}
            case bytes():
                return {_KIND: "bytes", "": value.decode("latin-1")}
            case frozenset():
                return {_KIND: "set", "": [self._within(one) for one in value]}
        if not is_dataclass(value):
            raise TypeError(f"a {type(value).__name__} lies on no shelf")
        parts = [self._within(getattr(value, one.name)) for one in fields(value)]
        return {_KIND: self._number(type(value)), "": parts}

    def _within(self, value: Any) -> Any:
        """A tuple in something else, which JSON would make a list."""
        if not isinstance(value, tuple):
            return value
        kind = "tuple" if type(value) is tuple else self._number(type(value))
        return {_KIND: kind, "": [self._within(one) for one in value]}

    def _number(self, kind: Any) -> int:
        if kind not in self._kinds:
            self._kinds.append(kind)
        return self._kinds.index(kind)

    def _made(self, said: dict[str, Any]) -> Any:
        if _KIND not in said:
            return said
        kind, value = said[_KIND], said[""]
        if isinstance(kind, str):
            return _MAKERS[kind](value)
        return self._kinds[kind](*value)


class _Items(ItemsView[str, V]):
    _mapping: Shelf[V]

    def __iter__(self) -> Iterator[tuple[str, V]]:
        return self._mapping.pairs()


class _Values(ValuesView[V]):
    _mapping: Shelf[V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping.pairs())


def _bytes(key: str) -> bytes:
    """Whatever a source calls a file: halves of letters and zeros too."""
    return key.encode("utf-8", "surrogatepass")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")
