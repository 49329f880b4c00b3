"""What the lists and libraries of a site hold, kept up to date by its change log.

An item is known by its number in its list. One that the log names is asked for again; where a folder
changed, or too much did, its list is read anew, and once a day everything is. Role assignments are
asked for of whatever has its own: of sites, lists and folders at every look, of other items when the
log names them.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from appliance.errors import SourceDenied, SourceMisconfigured
from appliance.types import Failed
from connectors.sharepoint_api import of
from connectors.sharepoint_server_api import NoSuchField, NotThere, Rest, Stale, inner
from connectors.sharepoint_server_rights import ASSIGNED, Own, nfc, subjects

ANYWAY_S = 86_400.0  # how long a site is followed by its log alone
PAGE = 1000  # items in one answer; more than 5,000 are refused
MANY = 300  # items of a list that are asked for one by one
_ROLES = frozenset({8, 9, 10})  # ChangeType: a role was added, deleted, changed
_SCOPES = frozenset(
    {17, 18}
)  # it has role assignments of its own now, or inherits; so may all below
_BELOW = (
    frozenset({4, 5, 6, 7}) | _SCOPES
)  # renamed, moved away or here, restored: with what is below
_ITSELF = 0  # instead of the number of an item
_LIST, _LIBRARY, _ISSUES = 0, 1, 5  # BaseType
_PAGES = frozenset({119, 850})  # BaseTemplate: site pages, publishing pages
_BOARD = 108  # of a discussion board, whose topics are folders
_TO_ALL = 0  # DraftVersionVisibility: whoever reads sees drafts
_PUBLISHED = 1  # Level of a file
_OWN_ONLY = 2  # ReadSecurity: everybody reads what he wrote himself
_FOLDER = 1  # FileSystemObjectType
_ABOUT = (
    "Id,Title,BaseType,BaseTemplate,Hidden,NoCrawl,IsCatalog,HasExternalDataSource,"
    "HasUniqueRoleAssignments,EnableAttachments,EnableModeration,DraftVersionVisibility,"
    "DefaultDisplayFormUrl,RootFolder/ServerRelativeUrl"
)
_COMMON = "Id,FileSystemObjectType,FileRef,Title,Modified,HasUniqueRoleAssignments"
_FILE = "UniqueId,ContentTag,ETag,Length,Level,MajorVersion,TimeLastModified"


class Item(NamedTuple):
    """`own`: its own role assignments; None: those of what it lies in."""

    path: str  # server-relative, as the server spells it
    kind: str  # "d": a folder, "f": a file, "p": a page, "i": an item, "t": a topic and a folder
    key: str = ""  # of a file: stays when it is moved within its site collection
    title: str = ""
    version: str = ""
    size_bytes: int | None = None
    at: str = ""
    draft: str = ""  # "d": readers see another version; "n": none yet
    hung: tuple[str, ...] = ()  # names of its attachments
    own: Own | None = None


@dataclass
class Shelf:
    """A list or a library."""

    id: str
    title: str
    path: str  # of its folder, server-relative
    kind: str  # "files", "pages", "list", "board"
    form: str = ""  # where an item is shown
    attachments: bool = False
    moderated: bool = False
    drafts: bool = True  # whoever reads sees drafts
    security: int = 1  # of a list; -1: not told
    unique: bool = False
    whole: bool = True  # all of it is known
    own: Own | None = None
    items: dict[int, Item] = field(default_factory=dict)

    def asks(self) -> dict[str, str]:
        """The query that tells of its items."""
        if self.kind in ("files", "pages"):
            more = [f"File/{name}" for name in _FILE.split(",")]
            return {"$select": ",".join([_COMMON, *more]), "$expand": "File"}
        select = [_COMMON, "owshiddenversion"]
        select += ["OData__ModerationStatus"] if self.moderated else []
        if not self.attachments:
            return {"$select": ",".join(select)}
        select += ["AttachmentFiles/FileName", "AttachmentFiles/ServerRelativeUrl"]
        return {"$select": ",".join(select), "$expand": "AttachmentFiles"}

    @property
    def where(self) -> str:
        return f"web/lists(guid'{self.id}')"


@dataclass
class Web:
    """A site."""

    path: str  # server-relative, "" for the one at the top
    place: str  # the setting that it is below
    site: str = ""  # the site collection, of whose groups its assignments speak
    token: str = ""  # after what the log was read; "": everything is to be read
    listed_at: float = 0.0
    own: Own = ()
    shelves: dict[str, Shelf] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # by what has assignments: of its access


Only = Callable[[Shelf], bool]  # whether it is read
Touched = dict[str, dict[int, set[int]]]  # by list and item: what happened to it


def follow(rest: Rest, before: Web, only: Only, failures: list[Failed]) -> Web:
    """The site as it is now. A list of which not all is known is not `whole`.

    Raises NotThere, SourceDenied and SourceMisconfigured where the site itself does not open.
    """
    about = rest.json(before.path, "web", {"$select": "Id,CurrentChangeToken"})
    now = of(about, "CurrentChangeToken", "StringValue")
    if not isinstance(now, str) or not now:
        raise NotThere(f"サイト {before.path or '/'} がありません。パスを確かめてください。")
    site = of(rest.json(before.path, "site", {"$select": "Id"}), "Id")
    if not isinstance(site, str) or not site:
        raise SourceMisconfigured(
            f"サイト {before.path or '/'} のサイト コレクションが分かりません。"
        )
    own = subjects(rest.listed(before.path, "web/roleassignments", ASSIGNED))
    touched = _touched(rest, before)
    web = replace(before, site=site, own=own, shelves={}, digests={})
    if touched is None:
        web.token, web.listed_at = now, time.time()
    elif touched:
        web.token = now  # else the old one serves, and no cursor is written
    for shelf in shelves(rest, web):
        if only(shelf):
            old = before.shelves.get(shelf.id) if touched is not None else None
            web.shelves[shelf.id] = shelf
            _Reading(rest, web, shelf, failures).go(old, (touched or {}).get(shelf.id, {}))
    return web


def _touched(rest: Rest, web: Web) -> Touched | None:
    """What the log names; None where everything is to be read."""
    if not web.token or not 0 <= time.time() - web.listed_at < ANYWAY_S:
        return None
    touched: Touched = {}
    try:
        for said in rest.changes(web.path, web.token):
            kind, shelf, id = (said.get(name) for name in ("ChangeType", "ListId", "ItemId"))
            if kind in _ROLES:
                return None
            if not isinstance(kind, int) or not (shelf is None or isinstance(shelf, str)):
                return None  # it is not understood
            if kind in _SCOPES and shelf is None:
                return None
            happened = touched.setdefault(str(shelf or "").lower(), {})
            if isinstance(id, int) or kind in _SCOPES:
                happened.setdefault(id if isinstance(id, int) else _ITSELF, set()).add(kind)
    except (Stale, NoSuchField):
        return None
    return touched


def shelves(rest: Rest, web: Web) -> Iterator[Shelf]:
    """Lists and libraries that SharePoint's own search would look into."""
    query = {"$select": f"{_ABOUT},ReadSecurity", "$expand": "RootFolder"}
    try:
        told = list(rest.listed(web.path, "web/lists", query))
    except NoSuchField:  # 2016
        told = list(rest.listed(web.path, "web/lists", query | {"$select": _ABOUT}))
    for said in told:
        base, template, id = (said.get(n) for n in ("BaseType", "BaseTemplate", "Id"))
        if base not in (_LIST, _LIBRARY, _ISSUES) or not isinstance(id, str):
            continue
        if any(said.get(n) is not False for n in ("Hidden", "NoCrawl", "IsCatalog", "HasExternalDataSource")):  # fmt: skip
            continue
        kind = "list" if base != _LIBRARY else "pages" if template in _PAGES else "files"
        path = of(said, "RootFolder", "ServerRelativeUrl")
        if not isinstance(path, str) or not path.startswith("/"):
            raise SourceMisconfigured(f"サイト {web.path or '/'} のリストの場所が分かりません。")
        yield Shelf(
            id=id.lower(),
            title=nfc(said.get("Title")) or path,
            path=path,
            kind="board" if template == _BOARD else kind,
            form=str(said.get("DefaultDisplayFormUrl") or ""),
            attachments=said.get("EnableAttachments") is True,
            moderated=said.get("EnableModeration") is not False,
            drafts=said.get("DraftVersionVisibility") == _TO_ALL,
            unique=said.get("HasUniqueRoleAssignments") is not False,
            security=said.get("ReadSecurity", -1) if kind == "list" else 1,
        )


@dataclass
class _Reading:
    """Of one list."""

    rest: Rest
    web: Web
    shelf: Shelf
    failures: list[Failed]

    def go(self, old: Shelf | None, touched: Mapping[int, set[int]]) -> None:
        """`old`: as it was known, where the log tells of all that happened since."""
        shelf = self.shelf
        try:
            if shelf.security != 1 and self._of_own():
                raise SourceDenied("書いた人だけが読む設定のリストです")
            if shelf.unique:
                path = f"{shelf.where}/roleassignments"
                shelf.own = subjects(self.rest.listed(self.web.path, path, ASSIGNED))
            if old is None or not old.whole or not _alike(old, shelf):
                self._all()
            else:
                shelf.items = dict(old.items)
                self._some(touched)
        except (SourceDenied, SourceMisconfigured) as error:
            shelf.items, shelf.whole = {}, False
            self._lose(shelf.path, f"リストを開けないため、誰にも見えません ({error})", error)

    def _of_own(self) -> bool:
        """Whether everybody reads what he wrote himself, and no more. SharePoint 2016 tells so in XML."""
        if self.shelf.security == -1:
            said = self.rest.json(self.web.path, self.shelf.where, {"$select": "SchemaXml"})
            found = re.search(r'<List\b[^>]*\sReadSecurity="(\d)"', str(of(said, "SchemaXml")))
            self.shelf.security = int(found[1]) if found else _OWN_ONLY
        return self.shelf.security != 1

    def _all(self) -> None:
        self.shelf.items.clear()
        query = self.shelf.asks() | {"$top": str(PAGE)}
        for said in self.rest.listed(self.web.path, f"{self.shelf.where}/items", query):
            self._take(said)
        self._ask(set(self.shelf.items))

    def _some(self, touched: Mapping[int, set[int]]) -> None:
        items = self.shelf.items
        if len(touched) > MANY or _ITSELF in touched:
            self._all()
            return
        for id, happened in touched.items():
            old = items.pop(id, None)
            said = self.rest.json(
                self.web.path, f"{self.shelf.where}/items({id})", self.shelf.asks()
            )
            if said is not None:
                self._take(said)
            new = items.get(id)
            if not any(one and one.kind in "dt" for one in (old, new)):
                continue
            if new and (happened & _BELOW or (old and old.path != new.path)):
                self._all()
                return
            if old and not new:
                for below in [i for i, one in items.items() if one.path.startswith(f"{old.path}/")]:
                    del items[below]
        self._ask(touched.keys() | {i for i, one in items.items() if one.kind in "dt"})

    def _take(self, said: dict[str, Any]) -> None:
        id = said.get("Id")
        try:
            item = entry(self.shelf, said)
        except (SourceMisconfigured, ValueError):
            self.shelf.whole = False
            where = f"{self.shelf.path}#{str(id)[:20]}"
            self._lose(where, "一覧の答えを読めません。", None)
            return
        if item and isinstance(id, int):
            self.shelf.items[id] = item

    def _ask(self, ids: Set[int]) -> None:
        """Of those that have their own. Nobody's, where it is not told."""
        items = self.shelf.items
        for id in ids & items.keys():
            if items[id].own is None:
                continue
            try:
                path = f"{self.shelf.where}/items({id})/roleassignments"
                own = subjects(self.rest.listed(self.web.path, path, ASSIGNED))
            except NotThere:
                own = ()  # it went meanwhile
            except (SourceDenied, SourceMisconfigured) as error:
                own = ()
                self._lose(items[id].path, f"権限を読めないため、誰にも見えません ({error})", error)
            items[id] = items[id]._replace(own=own)

    def _lose(self, path: str, reason: str, error: Exception | None) -> None:
        uri = f"{self.rest.root}{unicodedata.normalize('NFC', path)}#"
        self.failures.append(Failed(uri, path.rpartition("/")[2], reason, error is None))


def entry(shelf: Shelf, said: dict[str, Any]) -> Item | None:
    """None for what is no document and no folder. Raises ValueError, SourceMisconfigured."""
    path, kind = said.get("FileRef"), said.get("FileSystemObjectType")
    if not isinstance(path, str) or not path.startswith("/") or not isinstance(kind, int):
        raise ValueError("no item")
    own: Own | None = None if said.get("HasUniqueRoleAssignments") is False else ()
    title, at = nfc(said.get("Title")), str(said.get("Modified") or "")
    if kind == _FOLDER and shelf.kind != "board":
        return Item(path, "d", own=own)
    if shelf.kind in ("list", "board"):
        hung = tuple(_hung(shelf, said))
        version = f"{said.get('owshiddenversion') or ''}:{at}"
        # what was not approved is there for its author
        waits = shelf.moderated and not shelf.drafts and said.get("OData__ModerationStatus") != 0
        return Item(
            path, "t" if kind == _FOLDER else "i", "", title,
            version, None, at, "n" if waits else "", hung, own,
        )  # fmt: skip
    file = said.get("File")
    page = path.lower().endswith(".aspx")
    if kind != 0 or page != (shelf.kind == "pages") or not of(file, "UniqueId"):
        return None
    at = str(of(file, "TimeLastModified") or at)
    level, major, size = of(file, "Level"), of(file, "MajorVersion"), of(file, "Length")
    draft = "" if shelf.drafts or level == _PUBLISHED else "d" if major else "n"
    tag = next(versions(said, page=page))
    length = int(size) if not page and str(size).isdecimal() else None
    return Item(
        path, "p" if page else "f", str(of(file, "UniqueId")).lower(), title, tag, length, at,
        draft, (), own,
    )  # fmt: skip


def versions(said: dict[str, Any], *, page: bool) -> Iterator[str]:
    """What tells bytes from others, best first: the tag of the content stands when a column changes.

    The text of a page is in its columns.
    """
    file = said.get("File")
    for name in ("ETag",) if page else ("ContentTag", "ETag"):
        if isinstance(tag := of(file, name), str) and tag:
            yield tag
    yield f"{of(file, 'TimeLastModified')}:{of(file, 'Length')}"


def _hung(shelf: Shelf, said: dict[str, Any]) -> Iterator[str]:
    for one in inner(said, "AttachmentFiles") if shelf.attachments else ():
        if isinstance(path := one.get("ServerRelativeUrl"), str) and path.startswith("/"):
            yield path


def _alike(old: Shelf, new: Shelf) -> bool:
    """What the items look like does not differ."""
    return all(
        getattr(old, name) == getattr(new, name)
        for name in ("path", "kind", "attachments", "moderated", "drafts")
    )
