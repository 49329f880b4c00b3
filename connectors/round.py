"""One look at a share beside what was there before: in which order it is told, and what is remembered.

First what takes rights away, then moves and new permissions, and only then files, whose content may
take hours. While it does, permissions are looked after now and then.
"""

from __future__ import annotations

import json
import time
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance.errors import ApplianceError, SourceDenied, SourceUnreachable
from appliance.shelf import Shelf
from appliance.types import (
    NOBODY,
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Moved,
    Remove,
    Upsert,
    narrower,
)
from connectors.fileserver import Entry, moment
from connectors.listing import packed, rows

if TYPE_CHECKING:
    from connectors.smb import SmbConnector

AGAIN_S = 240.0  # while a run takes long, permissions are looked after as often
ANYWAY_S = 86_400.0  # how old permissions get though ChangeTime stands still
OLDEST_S = 3600.0  # how long a grant is kept where nobody could look
SETTLED_S = 5.0  # a file that changed later than this may change again under the same time
TOLD = 20  # SIDs without a counterpart that one message names
UNKNOWN = (
    "対応表にない人とグループ"  # what the administrator is told about it is a row of that name
)
_FEW = 20  # files; fewer than this may vanish at once without a doubt


class Record(NamedTuple):
    """What is known of a file from the run before."""

    id: int
    size_bytes: int
    written: int
    changed: int  # 0: look again whatever its ChangeTime says
    descriptor: int  # a place in the list of them; -1: nobody may read it
    read_at: float  # when its descriptor was

    @property
    def same(self) -> str:
        """What a rename and a move keep."""
        return f"{self.id}:{self.written}:{self.size_bytes}"


@dataclass(slots=True)
class Memory:
    """What a cursor holds."""

    files: Shelf[Record] = field(default_factory=lambda: Shelf(Record._make))
    descriptors: list[bytes] = field(default_factory=list)
    closed: dict[str, float] = field(default_factory=dict)  # folder "a/b/": since when
    told: str = ""  # of unknown SIDs
    doubted: bool = False  # permissions changed here while ChangeTime stood still


@dataclass(slots=True)
class Walk:
    # by uri: path there, entry
    files: Shelf[tuple[str, Entry]] = field(default_factory=lambda: Shelf(_found))
    failures: list[Failed] = field(default_factory=list)
    closed: dict[str, bool] = field(default_factory=dict)  # folder "a/b/": whether it will pass


def _found(said: list[Any]) -> tuple[str, Entry]:
    path, entry = said
    return path, Entry._make(entry)


class Round:
    """One run: what is there now beside what was there before."""

    def __init__(self, connector: SmbConnector, before: Memory, walk: Walk) -> None:
        self._connector, self._before, self._walk = connector, before, walk
        self._began_at = time.time()
        self._closed = tuple(walk.closed)
        # Samba gives the time of writing for ChangeTime, which then says nothing of permissions
        moved = sum(entry.changed > entry.written for _, entry in walk.files.values())
        self._telling = 2 * moved > len(walk.files) and not before.doubted
        self._places: dict[bytes, int] = {}
        self._accesses: list[Access] = []  # of each descriptor
        self._failed: set[str] = set()
        self._missing, self._kept = Shelf(Record._make), Shelf(Record._make)
        for uri, record in before.files.items():
            if uri not in walk.files:
                (self._kept if uri.startswith(self._closed) else self._missing)[uri] = record
        self._after = Memory(doubted=before.doubted)
        self._after.closed = {f: before.closed.get(f, self._began_at) for f in walk.closed}

    def changes(self) -> Iterator[Change]:
        """All that is there; a checkpoint, complete if every folder could be listed."""
        yield from self._walk.failures
        yield from self._revoked()
        yield from self._moved()
        yield from self._permissions()
        yield from self._files()
        yield from self._unknown()
        yield from self._gone()
        yield Checkpoint(save(self._after), complete=not self._walk.closed)

    # --- all of them, one thing after the other -----------------------------------

    def _revoked(self) -> Iterator[Change]:
        """Nobody reads what lies where nobody can look: at once if we were shut out."""
        for uri, record in self._kept.items():
            folder = max((f for f in self._closed if uri.startswith(f)), key=len)
            old = self._began_at - self._after.closed[folder] >= OLDEST_S
            if record.descriptor >= 0 and (old or not self._walk.closed[folder]):
                yield AccessChanged(uri, NOBODY)
                record = record._replace(descriptor=-1)
            self._keep(uri, record)

    def _moved(self) -> Iterator[Change]:
        origin = Shelf[str]()
        for uri, record in self._missing.items():
            if record.id:
                origin[record.same] = uri
        if not origin:
            return
        for uri, (_, entry) in self._walk.files.items():
            if uri in self._before.files or _same(entry) not in origin:
                continue
            if failed := self._look(uri):
                yield failed
                continue
            old = origin.pop(_same(entry))
            del self._missing[old]
            yield Moved(old, uri, title(uri), self._access(uri))

    def _permissions(self) -> Iterator[Change]:
        """The permissions of what is known already, before any content is read."""
        for uri, (_, entry) in self._walk.files.items():
            record = self._before.files.get(uri)
            if record is None:
                continue
            if self._stands(record, entry):
                self._keep(uri, _record(entry, record.changed, record.descriptor, record.read_at))
            elif failed := self._look(uri):
                yield failed
            elif (before := self._access_before(record)) != self._access(uri):
                self._after.doubted |= record.descriptor >= 0 and record.changed == entry.changed
                yield self._let_in(uri, record, before, entry)

    def _files(self) -> Iterator[Change]:
        """All of them; while that takes long, it is looked after permissions now and then."""
        looked_at = time.monotonic()
        for uri in self._walk.files:
            if time.monotonic() - looked_at > AGAIN_S:
                yield from self._look_again()
                looked_at = time.monotonic()
            if uri in self._failed:
                continue
            if uri not in self._after.files and (failed := self._look(uri)):
                yield failed
                continue
            self._walk.files.mark(uri)  # it is told
            yield self._upsert(uri)

    def _unknown(self) -> Iterator[Change]:
        """The SIDs that the table lacks: a row that the administrator sees."""
        uses = Counter(r.descriptor for r in self._after.files.values() if r.descriptor >= 0)
        met = Counter[str]()
        for place, files in uses.items():
            for sid in self._connector.unmapped(self._after.descriptors[place]):
                met[sid] += files
        if met:
            most = met.most_common(TOLD)
            names = self._connector.names([sid for sid, _ in most])
            named = "、".join(f"{names.get(sid, '')} {sid} ({n} 件)".strip() for sid, n in most)
            more = f"、ほか {len(met) - TOLD} 個" if len(met) > TOLD else ""
            self._after.told = f"対応表にない人やグループがあります。許可は誰にも効かず、拒否は全員に効きます: {named}{more}"
        if met and self._after.told != self._before.told:
            yield Failed(UNKNOWN, UNKNOWN, self._after.told, False)
        elif met:
            yield AccessChanged(UNKNOWN, NOBODY)  # as before: it is still there
        elif self._before.told:
            yield Remove(UNKNOWN)

    def _gone(self) -> Iterator[Change]:
        """One folder that does not open must not keep alive what was deleted elsewhere."""
        few = len(self._missing) < _FEW or 2 * len(self._missing) <= len(self._before.files)
        if self._closed and few:
            yield from map(Remove, self._missing)
        elif self._closed:
            for uri, record in self._missing.items():
                self._keep(uri, record)

    def _look_again(self) -> Iterator[Change]:
        for uri, found in self._connector.walk().files.items():
            record = self._after.files.get(uri)
            if record is None or uri in self._failed or self._stands(record, found[1]):
                continue
            before, told = self._access(uri), self._walk.files.marked(uri)
            if not told:
                self._walk.files[uri] = found
            if failed := self._look(uri):
                yield failed
            elif self._access(uri) == before:
                continue
            elif uri in self._before.files:
                read = record if told else self._before.files[uri]
                yield self._let_in(uri, read, before, found[1])
            elif told:
                yield self._upsert(uri)

    # --- one file -----------------------------------------------------------------

    def _look(self, uri: str) -> Failed | None:
        """Its permissions as they are now, remembered; why not, where they cannot be read."""
        path, entry = self._walk.files[uri]
        try:
            data = self._connector.descriptor(path)
        except SourceUnreachable:
            raise
        except ApplianceError as error:
            self._failed.add(uri)
            reason = f"アクセス許可を読めないため、誰にも見えません ({error})"
            return Failed(uri, title(uri), reason, not isinstance(error, SourceDenied))
        now = time.time()
        settled = abs(now - moment(entry.changed).timestamp()) > SETTLED_S
        changed = entry.changed if settled else 0
        self._after.files[uri] = _record(entry, changed, self._place(data), now)
        return None

    def _let_in(self, uri: str, read: Record, before: Access, entry: Entry) -> AccessChanged:
        """Nobody new to what was `read`, where the file is another by now: soon that is read too."""
        access = self._access(uri)
        same = _same(entry) == read.same
        return AccessChanged(uri, access if same or narrower(before, access) else NOBODY)

    def _stands(self, record: Record, entry: Entry) -> bool:
        """Whether what is known of its permissions need not be read again."""
        still = record.changed == entry.changed != 0 or not self._telling
        oldest_s = ANYWAY_S if self._telling else self._connector.access_s
        return record.descriptor >= 0 and still and abs(time.time() - record.read_at) < oldest_s

    def _keep(self, uri: str, record: Record) -> None:
        if record.descriptor >= 0:
            place = self._place(self._before.descriptors[record.descriptor])
            record = record._replace(descriptor=place)
        self._after.files[uri] = record

    def _place(self, descriptor: bytes) -> int:
        if descriptor not in self._places:
            self._places[descriptor] = len(self._accesses)
            self._accesses.append(self._connector.access(descriptor))
            self._after.descriptors.append(descriptor)
        return self._places[descriptor]

    def _access(self, uri: str) -> Access:
        return self._accesses[self._after.files[uri].descriptor]

    def _access_before(self, record: Record) -> Access:
        if record.descriptor < 0:
            return NOBODY
        return self._connector.access(self._before.descriptors[record.descriptor])

    def _upsert(self, uri: str) -> Upsert:
        return Upsert(self._connector.raw_file(uri, *self._walk.files[uri], self._access(uri)))


def _record(entry: Entry, changed: int, descriptor: int, read_at: float) -> Record:
    return Record(entry.id, entry.size_bytes, entry.written, changed, descriptor, read_at)


def _same(entry: Entry) -> str:
    return f"{entry.id}:{entry.written}:{entry.size_bytes}"


def title(uri: str) -> str:
    return PurePosixPath(uri).stem or uri


def load(cursor: Cursor | None) -> Memory:
    try:
        said: dict[str, Any] = json.loads(cursor or "{}")
        descriptors = [b64decode(text) for text in said["descriptors"]]
        files = Shelf(Record._make)
        files.fill(
            (str(uri), Record(int(i), int(s), int(w), int(c), int(d), float(r)))
            for uri, i, s, w, c, d, r in rows(said["files"])
            if -1 <= d < len(descriptors)
        )
        closed = {folder: float(since) for folder, since in said["closed"].items()}
        return Memory(files, descriptors, closed, str(said["told"]), said["doubted"] is True)
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return Memory()  # another version's: everything is listed anyway


def save(memory: Memory) -> Cursor:
    said = {
        "descriptors": [b64encode(data).decode() for data in memory.descriptors],
        "files": packed((uri, *record) for uri, record in memory.files.items()),
        "closed": memory.closed,
        "told": memory.told,
        "doubted": memory.doubted,
    }
    return Cursor(json.dumps(said, ensure_ascii=False, separators=(",", ":")))
