"""All that a source shows at one time, beside what it showed before: what came, moved and went."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Generic, TypeVar

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

DEEPEST = 60  # folders inside folders
FEW = 20  # files; fewer than this may vanish at once without a doubt


@dataclass(slots=True)
class Listing(Generic[E]):
    """Files by uri, as their connector knows them."""

    files: dict[str, E] = field(default_factory=dict)
    failures: list[Failed] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)  # folders whose content is unknown, "a/b/"

    def add(self, uri: str, entry: E, access: Access) -> None:
        """One file; of two with the same name the first is kept, and the other told of."""
        if uri in self.files:
            reason = "同じ名前のファイルがあります (濁点などの文字コードだけが違います)"
            self.failures.append(Failed(f"{uri}#2", title(uri), reason, False, access))
            return
        self.files[uri] = entry

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
        before, closed = held(since), tuple(self.closed)
        now = {uri: same(entry) for uri, entry in self.files.items()}
        gone = {u: s for u, s in before.items() if u not in now and not u.startswith(closed)}
        come = {uri: one for uri, one in now.items() if uri not in before}
        origin, arrived = _by_sameness(gone), _by_sameness(come)
        yield from self.failures
        for uri, entry in self.files.items():
            one = file(uri, entry)
            if arrived.get(now[uri]) == uri and (old := origin.get(now[uri])) is not None:
                del gone[old]
                yield Moved(old, uri, one.title, one.access)
            yield Upsert(one)
        now |= {u: s for u, s in before.items() if u not in now and u.startswith(closed)}
        if closed and (len(gone) < FEW or 2 * len(gone) <= len(before)):
            # one folder that does not open must not keep alive what was deleted elsewhere
            yield from map(Remove, gone)
        elif closed:
            now |= gone
        yield Checkpoint(_save(now), complete=not closed)


def spelled(name: bytes) -> str:
    """A name in NFC; bytes that are not UTF-8 are read as CP932, as old archives leave them."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        text = name.decode("cp932", "replace")
    return unicodedata.normalize("NFC", text)


def title(uri: str) -> str:
    return PurePosixPath(uri).stem or uri


def _by_sameness(files: Mapping[str, str]) -> dict[str, str]:
    """Uris by what they keep, where one alone has it."""
    times = Counter(files.values())
    return {same: uri for uri, same in files.items() if same and times[same] == 1}


def held(cursor: Cursor | None) -> dict[str, str]:
    """By uri, what each file of the last listing keeps when it moves."""
    try:
        files = json.loads(cursor or "{}").get("files", {})
        return {str(uri): str(same) for uri, same in files.items()}
    except (ValueError, AttributeError):
        return {}  # another version's: everything is listed anyway


def _save(files: Mapping[str, str]) -> Cursor:
    return Cursor(json.dumps({"files": files}, ensure_ascii=False, separators=(",", ":")))
