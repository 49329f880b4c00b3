"""What a document library or a OneDrive holds, kept up to date by delta queries.

Items are known by their ids; where they lie, and who may read them, follows from what is above them.
Permissions are asked for of the top, and of items that have some of their own. Of folders that have,
at every look: whether a delta tells of every change to them is not certain. Once a day a drive is
listed anew, with all permissions.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import quote

from appliance.errors import SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.types import Failed
from connectors import admit
from connectors.listing import DEEPEST
from connectors.sharepoint_api import PAGES, Gone, Graph, of, values
from connectors.sharepoint_rights import Own

ANYWAY_S = 86_400.0  # how long a drive is followed by its changes alone
PREFER = (
    "deltashowremovedasdeleted, deltatraversepermissiongaps, deltashowsharingchanges, "
    "hierarchicalsharing"
)
SELECT = (
    "id,name,size,eTag,file,folder,package,remoteItem,malware,root,deleted,parentReference,shared,"
    "lastModifiedDateTime"
)
ID = re.compile(r"[A-Za-z0-9!_-]{1,200}")  # of an item or a drive
_PLAIN = "!$&'()*+,;=:@-._~/"


class Item(NamedTuple):
    """As a delta tells. `own`: its own permissions; None: those of what it lies in."""

    parent: str
    name: str
    kind: str  # "r": the top, "d": a folder, "f": a file, "x": what is not read, "v": a virus
    version: str = ""
    size_bytes: int | None = None
    at: str = ""
    media_type: str = ""
    own: Own | None = None


class Found(NamedTuple):
    """A file where it lies."""

    id: str
    uri: str
    item: Item
    above: str  # the item whose permissions are its own


@dataclass
class Drive:
    id: str
    place: str  # the setting that names it
    url: str  # NFC, as people write it
    site: str = ""  # of whose groups its permissions speak
    roots: tuple[str, ...] = ()  # folders that are read; none: all
    link: str = ""  # where its next changes are
    listed_at: float = 0.0
    holes: bool = False  # the last listing did not tell of all
    each: bool = False  # each file is asked about: the service does not tell which have their own
    items: dict[str, Item] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # by item with permissions: of its access


def follow(
    graph: Graph, before: Drive, asked: Callable[[str], Own], failures: list[Failed]
) -> Drive:
    """The drive as it is now. `asked` gives an item's permissions.

    Raises NotThere, and SourceUnreachable where a listing does not end.
    """
    drive = replace(before, items=dict(before.items), holes=False)
    anew = not drive.link or not 0 <= time.time() - drive.listed_at < ANYWAY_S
    first = f"{graph.base}/drives/{quote(drive.id, safe='!')}/root/delta?$select={SELECT}"
    url, look = first if anew else drive.link, _Look(drive, [])
    if anew:
        look.begin()
    seen, gone = set[str](), False
    while url and url not in seen and len(seen) < PAGES:
        seen.add(url)
        page = graph.delta(url, PREFER)
        if isinstance(page, Gone):
            if gone:
                break
            gone = anew = True
            url = page.link or first
            look.begin()
            seen.clear()
            continue
        for said in values(page.said, url):
            look.take(said)
        if page.applied and "hierarchicalsharing" not in page.applied:
            drive.each = True
        if link := graph.here(page.said.get("@odata.deltaLink")):
            look.prune()
            if drive.holes and not anew:
                return follow(graph, replace(before, link=""), asked, failures)
            if anew:
                look.doubt()
            look.ask(asked)
            if drive.holes:
                drive.link = ""
            elif anew or drive.items != before.items:
                drive.link = link  # else the old one serves, and no cursor is written
            failures += look.failures
            return drive
        url = graph.here(page.said.get("@odata.nextLink"))
    raise SourceUnreachable(f"{drive.url} の変更の一覧が終わりません。")


@dataclass
class _Look:
    drive: Drive
    failures: list[Failed]
    touched: dict[str, bool] = field(default_factory=dict)  # whether it tells of its permissions
    deleted: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)  # moved, or said to be shared with others

    def begin(self) -> None:
        """A listing from the start."""
        self.drive.items.clear()
        self.drive.listed_at, self.drive.each, self.drive.holes = time.time(), False, False
        self.touched.clear()
        self.deleted.clear()
        self.changed.clear()

    def take(self, said: dict[str, Any]) -> None:
        """Of what is told twice the last holds."""
        id, items = str(said.get("id") or ""), self.drive.items
        if said.get("deleted") is not None:
            items.pop(id, None)
            self.deleted.add(id)
            return
        if (item := entry(said)) is None:
            self._lose(id, "一覧の答えを読めません。")
            return
        self.deleted.discard(id)
        old = items.get(id)
        if old and old.parent != item.parent:
            self.changed.add(id)
        changed = str(said.get("@microsoft.graph.sharedChanged", "")).lower() == "true"
        told = changed or said.get("shared") is not None
        if changed and item.kind != "r":
            self.changed.add(id)
        items[id] = item._replace(own=old.own if old else None)
        self.touched[id] = told or self.touched.get(id, False)

    def prune(self) -> None:
        """What lay in a folder that was deleted is gone. All else hangs below the top, or is told of."""
        items, stands, lost = self.drive.items, dict[str, bool](), set[str]()
        for id in items:
            way, at = set[str](), id
            while at not in stands and at in items and items[at].kind != "r" and at not in way:
                way.add(at)
                at = items[at].parent
            good = stands.get(at, at in items and items[at].kind == "r")
            if at not in stands and not good and at not in self.deleted:
                lost.add(at)
            stands.update(dict.fromkeys([*way, at], good))
        for id in [id for id in items if not stands[id]]:
            del items[id]
        for id in sorted(lost):
            self._lose(id, "これが入っているフォルダーが一覧にありません。")

    def doubt(self) -> None:
        """Whether a whole listing tells which items have permissions of their own.

        Then the top has, and most have not. Where the service did not do as was preferred, the top
        tells nothing, or all that is shared does, and what inherits looks like what does not.
        """
        items = self.drive.items
        tops = [id for id, item in items.items() if item.kind == "r"]
        if not tops:
            raise SourceUnreachable(f"{self.drive.url} の一覧にいちばん上がありません。")
        telling = sum(self.touched[id] for id in items)
        self.drive.each |= not all(self.touched[id] for id in tops) or 2 * telling > len(items) > 4

    def _lose(self, id: str, reason: str) -> None:
        uri = f"{self.drive.url}#{id[:200]}"
        self.failures.append(Failed(uri, uri, reason, True))
        self.drive.holes = True

    def ask(self, asked: Callable[[str], Own]) -> None:
        """First of folders: where theirs are others now, so may be those of what is below."""
        items, each = self.drive.items, self.drive.each
        changed = set(self.changed) if each else set[str]()
        for id, item in list(items.items()):
            its = not each and (item.own is not None or self.touched.get(id, False))
            if item.kind == "r" or (item.kind == "d" and its):
                items[id] = item._replace(own=self._own(asked, id))
                if items[id].own != item.own:
                    changed.add(id)
        for id, item in list(items.items()):
            if item.kind == "f" and self._is_asked(id, item, changed):
                items[id] = item._replace(own=self._own(asked, id))

    def _own(self, asked: Callable[[str], Own], id: str) -> Own:
        """Nobody's, where it is not told; where it is not told of the top, nothing is."""
        try:
            return asked(id)
        except (SourceDenied, SourceMisconfigured) as error:
            if (item := self.drive.items[id]).kind == "r":
                raise
            reason = f"権限を読めないため、誰にも見えません ({error})"
            uri = f"{self.drive.url}#{id}"
            self.failures.append(Failed(uri, item.name, reason, False))
            return ()

    def _is_asked(self, id: str, item: Item, changed: set[str]) -> bool:
        if item.own is None:
            return self.drive.each or self.touched.get(id, False)
        return id in self.touched or self._below(id, changed)

    def _below(self, id: str, changed: set[str]) -> bool:
        while changed and id in self.drive.items:
            id = self.drive.items[id].parent
            if id in changed:
                return True
        return False


def entry(said: dict[str, Any]) -> Item | None:
    """None for what is no item."""
    id, name, parent = said.get("id"), said.get("name"), of(said, "parentReference", "id")
    top = said.get("root") is not None
    if not (isinstance(id, str) and ID.fullmatch(id) and isinstance(name, str)):
        return None
    if not top and not (isinstance(parent, str) and name.strip() and "/" not in name):
        return None
    kind = "r" if top else "x"
    if not top and said.get("package") is None and said.get("remoteItem") is None:
        kind = "d" if said.get("folder") is not None else "f" if "file" in said else "x"
    if kind == "f" and said.get("malware") is not None:
        kind = "v"
    size, media = said.get("size"), of(said, "file", "mimeType")
    return Item(
        "" if top else str(parent),
        unicodedata.normalize("NFC", name).strip(),
        kind,
        next(versions(said), "") if kind == "f" else "",
        size if kind == "f" and isinstance(size, int) else None,
        str(said.get("lastModifiedDateTime") or "") if kind == "f" else "",
        media if kind == "f" and isinstance(media, str) else "",
    )


def versions(said: dict[str, Any]) -> Iterator[str]:
    """What tells bytes from others, best first: a digest is not changed by a new permission."""
    at, size = said.get("lastModifiedDateTime"), said.get("size")
    for one in (of(said, "file", "hashes", "quickXorHash"), said.get("eTag")):
        if isinstance(one, str) and one:
            yield one
    yield f"{at}:{size}"


def spelled(path: str) -> str:
    """A path for a URL that people can read."""
    return "".join(c if c > "\x7f" else quote(c, safe=_PLAIN) for c in path)


def files(drive: Drive, exclude: Sequence[str]) -> Iterator[Found]:
    """Those that are wanted."""
    places = dict[str, tuple[str, str, bool] | None]()  # path, permissions of, whether it is read
    for id, item in drive.items.items():
        if item.kind not in "fv":
            continue
        if (place := _place(drive, item.parent, exclude, places)) and place[2]:
            path = f"{place[0]}{item.name}"
            if admit.wanted(path, exclude):
                above = id if item.own is not None else place[1]
                yield Found(id, f"{drive.url}/{spelled(path)}", item, above)


def _place(
    drive: Drive,
    id: str,
    exclude: Sequence[str],
    places: dict[str, tuple[str, str, bool] | None],
) -> tuple[str, str, bool] | None:
    way = []
    while id not in places and id in drive.items and drive.items[id].kind != "r":
        way.append(id)
        id = drive.items[id].parent
    if id not in places:
        places[id] = ("", id, not drive.roots or id in drive.roots) if id in drive.items else None
    at = places[id]
    for id in reversed(way):
        item = drive.items[id]
        if at is not None:
            path = f"{at[0]}{item.name}"
            deep = path.count("/") >= DEEPEST or item.kind != "d"
            own = id if item.own is not None else at[1]
            wanted = not deep and admit.wanted(path, exclude)
            at = (f"{path}/", own, at[2] or id in drive.roots) if wanted else None
        places[id] = at
    return at
