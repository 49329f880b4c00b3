"""What a shared drive or a folder holds at one time, and who may read it.

A shared drive is listed whole, and then followed by its log of changes. A folder (of My Drive, or shared
out of a drive) is walked each time: no log is sure to tell of all that is below it.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from appliance.errors import SourceBusy, SourceDenied, SourceMisconfigured, SourceUnreachable
from connectors import admit, gdrive_rights
from connectors.gdrive_api import Api, Params, of, segment
from connectors.gdrive_rights import Grant, grants

WHOLE_EVERY_S = 86_400.0  # a drive is listed anew as often, whatever its log says
PAGE = 1000  # files in one answer; Drive gives fewer where it wishes
BATCH = 40  # folders in one question
DEEPEST = 150  # folders inside folders
FOLDER = "application/vnd.google-apps.folder"
_GOOGLE = "application/vnd.google-apps."
_OFFICE = "application/vnd.openxmlformats-officedocument."
EXPORTS = {
    f"{_GOOGLE}document": f"{_OFFICE}wordprocessingml.document",
    f"{_GOOGLE}spreadsheet": f"{_OFFICE}spreadsheetml.sheet",
    f"{_GOOGLE}presentation": f"{_OFFICE}presentationml.presentation",
    f"{_GOOGLE}drawing": "application/pdf",
}
_FILE = (
    "id,name,mimeType,parents,driveId,trashed,modifiedTime,size,version,sha256Checksum,"
    "headRevisionId,hasAugmentedPermissions,inheritedPermissionsDisabled"
)
FIELDS = f"{_FILE},permissions({gdrive_rights.FIELDS})"  # in shared drives they are not told
ID = re.compile(r"[A-Za-z0-9_-]{5,200}")
BOTH: Params = {"supportsAllDrives": "true"}
_ALL: Params = BOTH | {"includeItemsFromAllDrives": "true"}
Asked = tuple[str, list[Grant]]  # the version it was asked of, what was said


class Node(NamedTuple):
    """A file or a folder, as a listing tells. What only folders walked anew tell is not kept."""

    parent: str
    name: str
    kind: str
    version: str  # of its content
    at: str
    size_bytes: int  # -1: not said
    stamp: str  # of all that is known of it
    shared: int  # 0: nobody is named on it; 1: somebody may be
    limited: int  # 1: who may enter what is above it may not enter it

    @property
    def document(self) -> bool:
        """Neither folders, shortcuts (what they lead to may lie anywhere), nor what has no file."""
        return self.kind in EXPORTS or not self.kind.startswith(_GOOGLE)


@dataclass(slots=True)
class Root:
    """A shared drive, or a folder with what is below."""

    id: str
    title: str
    drive: str = ""  # in which the folder lies; empty in My Drive
    members_only: bool = False  # whoever is named on an item must be a member of the drive, too
    token: str = ""  # of the log of a shared drive
    whole_at: float = 0.0
    nodes: dict[str, Node] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    own: dict[str, list[Grant] | None] = field(default_factory=dict)  # in My Drive: as listed

    @property
    def whole(self) -> bool:
        return self.id == self.drive


class Place(NamedTuple):
    """A folder: its path ("a/b/"), who may read in it, and who may enter all below."""

    path: str
    readers: frozenset[Grant]
    above: frozenset[Grant]


class Found(NamedTuple):
    node: Node
    readers: frozenset[Grant] | None  # None: nobody knows
    within: frozenset[Grant] | None = None  # of whom they must be; None: of all


# --- listing ----------------------------------------------------------------------


def filled(api: Api, root: Root, before: Root | None) -> Root:
    """The root with what it holds now. Raises what `Http` raises."""
    if not root.whole:
        _walk(api, root)
    elif before and before.token and 0 <= time.time() - before.whole_at < WHOLE_EVERY_S:
        root.token, root.whole_at = before.token, before.whole_at
        root.nodes, root.asked = dict(before.nodes), dict(before.asked)
        try:
            _follow(api, root)
        except SourceMisconfigured:  # a token that is not taken any more
            _list(api, root)
    else:
        _list(api, root)
    return root


def _list(api: Api, root: Root) -> None:
    """All of a shared drive. Where its log stands is asked first: what comes meanwhile comes again."""
    where: Params = {"driveId": root.id}
    said = api.get("changes/startPageToken", BOTH | where)
    token = of(said, "startPageToken")
    if not isinstance(token, str) or not token:
        raise SourceMisconfigured(f"共有ドライブ「{root.title}」の変更の記録を読めません。")
    root.nodes, root.asked = {}, {}
    query: Params = {"corpora": "drive", "q": "trashed = false"}
    for one in _files(api, _ALL | where | query, _FILE):
        if of(one, "driveId") in (root.id, None):
            add(root, one)
    root.token, root.whole_at = token, time.time()


def _follow(api: Api, root: Root) -> None:
    where: Params = {
        "driveId": root.id, "pageToken": root.token, "pageSize": PAGE, "includeRemoved": "true",
        "fields": f"nextPageToken,newStartPageToken,changes(changeType,removed,fileId,file({_FILE}))",
    }  # fmt: skip
    token: Any = None
    for said in api.pages("changes", _ALL | where):
        told = said.get("changes")
        if not isinstance(told, list):
            raise SourceUnreachable(f"共有ドライブ「{root.title}」の変更の記録を読めません。")
        for one in told:
            file, id = of(one, "file"), of(one, "fileId")
            if of(one, "changeType") == "drive":
                continue
            gone = of(one, "removed") is True or of(file, "trashed") is True
            if gone or of(file, "driveId") != root.id:
                # what lay in it stays, and is nowhere until it is back
                root.nodes.pop(str(id), None)
            else:
                add(root, file)
        token = said.get("newStartPageToken")
    if not isinstance(token, str) or not token:
        raise SourceUnreachable(
            f"共有ドライブ「{root.title}」の変更の記録が途中で切れました。次の確認でやり直します。"
        )
    root.token = token


def _walk(api: Api, root: Root) -> None:
    """All below a folder, level by level."""
    where: Params = {"corpora": "allDrives" if root.drive else "user"}
    waiting, seen, depth = [root.id], {root.id}, 0
    while waiting and depth <= DEEPEST:
        below: list[str] = []
        for start in range(0, len(waiting), BATCH):
            folders = waiting[start : start + BATCH]
            named = " or ".join(f"'{id}' in parents" for id in folders)
            query = _ALL | where | {"q": f"({named}) and trashed = false"}
            for one in _files(api, query, _FILE if root.drive else FIELDS):
                id = add(root, one, folders)
                if root.nodes[id].kind == FOLDER and id not in seen:
                    seen.add(id)
                    below.append(id)
        waiting, depth = below, depth + 1


def _files(api: Api, query: Params, fields: str) -> Iterator[Any]:
    asked = query | {"pageSize": PAGE, "fields": f"nextPageToken,incompleteSearch,files({fields})"}
    for said in api.pages("files", asked):
        files = said.get("files")
        if not isinstance(files, list):
            raise SourceUnreachable("Google Drive の一覧の答えを読めません。")
        if said.get("incompleteSearch") is True:
            raise SourceBusy("Google Drive の一覧が不完全でした。次の確認で読み直します。")
        yield from files


def add(root: Root, said: Any, parents: Sequence[str] = ()) -> str:
    id, node = read(said, parents)
    root.nodes[id] = node
    if not root.drive:
        told = of(said, "permissions")
        root.own[id] = grants(told) if isinstance(told, list) else None
    return id


def read(said: Any, parents: Sequence[str] = ()) -> tuple[str, Node]:
    """A file as Drive tells of it; of several `parents`, the one that is asked about."""
    id, name, kind = (of(said, one) for one in ("id", "name", "mimeType"))
    if not (isinstance(id, str) and ID.fullmatch(id)):
        raise SourceUnreachable("Google Drive の一覧の答えを読めません (ID がありません)。")
    above = [one for one in of(said, "parents") or [] if isinstance(one, str)]
    size, at = str(of(said, "size") or ""), str(of(said, "modifiedTime") or "")
    kind = str(kind or "application/octet-stream")
    version = of(said, "sha256Checksum") or of(said, "headRevisionId") or f"{at}:{size}"
    return id, Node(
        parent=next((one for one in above if one in parents or not parents), ""),
        name=nfc(str(name or "")) or id,
        kind=kind,
        version=at if kind.startswith(_GOOGLE) else str(version),
        at=at,
        size_bytes=int(size) if size.isdecimal() and not kind.startswith(_GOOGLE) else -1,
        stamp=str(of(said, "version") or ""),
        shared=int(of(said, "hasAugmentedPermissions") is not False),
        limited=int(of(said, "inheritedPermissionsDisabled") is True),
    )


# --- what is in it, and for whom --------------------------------------------------


@dataclass
class Rights:
    """Who may read what is in one root."""

    api: Api
    root: Root
    exclude: Sequence[str]
    denied: list[str] = field(default_factory=list)  # of whom nobody knows
    _places: dict[str, Place | None] = field(default_factory=dict)
    _members: frozenset[Grant] | None = None

    def documents(self) -> Iterator[tuple[str, Found]]:
        """All that is in the scope of the settings; what is below nothing known is not."""
        self.enter()
        for id, node in self.root.nodes.items():
            if node.document and (found := self.document(id, node)):
                yield id, found

    def enter(self) -> None:
        """Raises SourceDenied where it is not told who may read."""
        root, readers = self.root, frozenset[Grant]()
        if root.drive:
            readers = frozenset(self.ask(root.id))
        above = frozenset(one for one in readers if one.above)
        if root.members_only:
            self._members = readers if root.whole else frozenset(self.ask(root.drive))
        if (node := root.nodes.get(root.id)) and node.limited:
            readers = above | {one for one in readers if one.direct}
        self._places[root.id] = Place("", readers, above)

    def document(self, id: str, node: Node) -> Found | None:
        place = self._place(node.parent, 0)
        if place is None or not admit.wanted(place.path + _segment(node.name), self.exclude):
            return None
        if self.root.drive:
            return Found(node, self._readers(id, node, place), self._members)
        told = self.root.own.get(id)
        if told is None:
            self.denied.append(node.name)
            return Found(node, None)
        return Found(node, frozenset(told))

    def ask(self, id: str) -> list[Grant]:
        """All permissions of an item of a shared drive, or of the drive itself."""
        query: Params = BOTH | {
            "pageSize": 100, "fields": f"nextPageToken,permissions({gdrive_rights.FIELDS})",
        }  # fmt: skip
        found = list[Any]()
        for said in self.api.pages(f"files/{segment(id)}/permissions", query):
            told = said.get("permissions")
            if not isinstance(told, list):
                raise SourceUnreachable("Google Drive の権限の答えを読めません。")
            found += told
        return grants(found)

    def _place(self, id: str, depth: int) -> Place | None:
        if id in self._places:
            return self._places[id]
        node, place = self.root.nodes.get(id), None
        if node is not None and node.kind == FOLDER and depth < DEEPEST:
            up = self._place(node.parent, depth + 1)
            path = up.path + _segment(node.name) if up else ""
            if up and admit.wanted(path, self.exclude):
                readers = self._readers(id, node, up) if self.root.drive else up.readers
                place = Place(f"{path}/", readers, up.above)
        self._places[id] = place
        return place

    def _readers(self, id: str, node: Node, place: Place) -> frozenset[Grant]:
        """In shared drives what is above admits, and more may be named on the item itself."""
        base = place.above if node.limited else place.readers
        if not node.shared and not node.limited:
            return base
        named = self._named(id, node)
        return base | named if named else base

    def _named(self, id: str, node: Node) -> frozenset[Grant]:
        stamp, told = self.root.asked.get(id, ("", []))
        if not stamp or stamp != node.stamp:
            try:
                told = [one for one in self.ask(id) if one.direct]
            except (SourceDenied, SourceMisconfigured):
                self.denied.append(node.name)  # fewer may read than should; nobody who should not
                return frozenset()
            self.root.asked[id] = (node.stamp, told)
        return frozenset(told)


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _segment(name: str) -> str:
    """A name may hold what parts a path."""
    return name.replace("/", "／").replace("\0", "")
