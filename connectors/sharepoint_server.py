"""SharePoint Server (2016, 2019, Subscription Edition): files, pages, items of lists and what hangs on
them, each for those whom its role assignments let read.

Not verified against the real service: written after Microsoft's documentation of the REST API, tested
against a fake that signs in by real NTLM.

A site is followed by its change log: a look costs what changed, the assignments of sites, lists and
folders that have their own, and the members of groups. What is known of a site is in the cursor, so
that every run tells of all there is, and a new member of a group counts without a file being touched.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import BinaryIO, ClassVar
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from appliance.errors import NotVisible, SourceBusy, SourceDenied, SourceMisconfigured
from appliance.types import (
    ALONE,
    NOBODY,
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Layer,
    Moved,
    Principal,
    RawFile,
    Remove,
    Site,
    Upsert,
)
from connectors import admit, sharepoint_server_page
from connectors.http import Http, endpoint
from connectors.listing import FEW
from connectors.negotiate import SignIn
from connectors.sharepoint_api import of
from connectors.sharepoint_server_api import AGAIN, NotThere, Rest, judge, named
from connectors.sharepoint_server_documents import Found, documents, load, save, scopes
from connectors.sharepoint_server_lists import Shelf, Web, entry, follow, shelves
from connectors.sharepoint_server_rights import ASSIGNED, UNTOLD, Own, Rights, nfc, subjects
from connectors.sharepoint_server_settings import SharePointServerSettings

FILE_BYTES = 2_000_000_000
AGAIN_S = 240.0  # while a run takes long, permissions are looked after as often
DEEPEST = 20  # sites inside sites
UNKNOWN = "対応表にない人とグループ"
_DRAFT = "発行されていない変更があるため、発行されるまで前のままです (下書きは編集者だけに見えます)"


@dataclass
class _Look:
    rights: Rights
    webs: dict[str, Web] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)  # sites that did not open
    failures: list[Failed] = field(default_factory=list)

    def hides(self, web: str, shelf: str) -> bool:
        """Whether what was there may be there still."""
        if web in self.closed:
            return True
        one = self.webs[web].shelves.get(shelf) if web in self.webs else None
        return one is not None and not one.whole

    @property
    def whole(self) -> bool:
        shelves = (one for web in self.webs.values() for one in web.shelves.values())
        return not self.closed and all(one.whole for one in shelves)


class SharePointServerConnector:
    """SharePoint Server (社内のサーバー)"""

    kind: ClassVar[str] = "sharepoint_server"
    Settings: ClassVar[type[BaseModel]] = SharePointServerSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: SharePointServerSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._columns: dict[str, list[sharepoint_server_page.Column]] = {}

    @cached_property
    def _rest(self) -> Rest:
        own = self._settings
        sign_in = SignIn(own.user.strip(), own.password, own.protocol)
        http = Http(
            [own.url],
            self.site,
            # a web application that takes forms, too, then asks for Windows
            headers={"x-forms_based_auth_accepted": "f"},
            per_second=own.per_second,
            judge=judge,
            pool=sign_in.pool([endpoint(own.url)]),
            again=AGAIN,
        )
        return Rest(own.url, http)

    @cached_property
    def _around(self) -> tuple[Access, frozenset[Principal]]:
        """Layers that hold for all, and who is kept out."""
        own = self._settings
        denied = frozenset[Principal]().union(*(one.allow for one in admit.access(own.deny)))
        return admit.access(own.allow) if own.allow else (), denied

    @cached_property
    def _everyone(self) -> frozenset[Principal]:
        layers = admit.access(self._settings.everyone)
        return frozenset[Principal]().union(*(one.allow for one in layers))

    @cached_property
    def _names(self) -> dict[str, frozenset[Principal]]:
        table: dict[str, frozenset[Principal]] = {}
        for line in self._settings.names:
            who, equals, name = (part.strip() for part in line.rpartition("="))
            if not equals or not who or not name:
                raise SourceMisconfigured(
                    f"対応表の「{line}」は「DOMAIN\\営業部 = group:営業部」の形ではありません。"
                )
            layers = () if name == "nobody" else admit.access([name])
            meant = frozenset[Principal]().union(*(one.allow for one in layers))
            table[nfc(who).lower()] = table.get(nfc(who).lower(), frozenset()) | meant
        return table

    def _rights(self) -> Rights:
        own = self._settings
        return Rights(self._rest, self._names, self._everyone, self.site.sids, own.domain)

    def check(self) -> None:
        self._around, self._everyone, self._names  # noqa: B018  a setting may be wrong
        known, look = False, self._rights()
        for path in self._roots():
            if self._rest.json(path, "web", {"$select": "Id"}) is None:
                raise NotThere(f"サイト {path or '/'} がありません。パスを確かめてください。")
            own = subjects(self._rest.listed(path, "web/roleassignments", ASSIGNED))
            look.readers(own, path, path)
            known |= any(map(self._only, shelves(self._rest, Web(path, path))))
        if not known:
            raise SourceMisconfigured(
                "読めるライブラリもリストもありません。名前と権限を確かめてください。"
            )
        if look.notes:
            raise SourceDenied(next(iter(look.notes.values())))

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All there is. First who may read what is known, then the documents."""
        before = load(since)
        look = self._look(before)
        old, now = self._all(before), self._all(look.webs)
        access = self._readers(look, now)
        yield from look.failures
        yield from self._told(look)
        gone = {key: one for key, one in old.items() if key not in now}
        for one in gone.values():
            if look.hides(one.web, one.shelf):
                yield AccessChanged(one.uri, NOBODY)
        there, was_there = ({one.uri: key for key, one in all.items()} for all in (now, old))
        taken = {uri for uri, key in there.items() if was_there.get(uri, key) != key}
        yield from (AccessChanged(uri, NOBODY) for uri in taken)  # another file has its name now
        digests = {path: web.digests for path, web in before.items()}
        for key, one in now.items():
            if (was := old.get(key)) is None or one.uri in taken or there[one.uri] != key:
                continue
            # nobody new to what was read before, where it is another by now: soon that is read too
            same = was.item.version == one.item.version or one.item.draft
            its = access[key] if same else NOBODY
            if was.uri != one.uri:
                yield Moved(was.uri, one.uri, one.called, its)
            elif digests.get(was.web, {}).get(was.above) != _digest(access[key]):
                yield AccessChanged(one.uri, its)
        yield from self._files(look, now, access)
        left = [
            one for one in gone.values()
            if not look.hides(one.web, one.shelf) and one.uri not in there
        ]  # fmt: skip
        if not look.whole and (len(left) < FEW or 2 * len(left) <= len(old)):
            # one list that does not open must not keep alive what was deleted elsewhere
            yield from (Remove(one.uri) for one in left)
        yield Checkpoint(save(look.webs), complete=look.whole)

    def _files(
        self, look: _Look, now: dict[str, Found], access: dict[str, Access]
    ) -> Iterator[Change]:
        told, looked_at = dict[str, str](), time.monotonic()
        for key, one in now.items():
            if time.monotonic() - looked_at > AGAIN_S:
                yield from self._again(look, now, set(told.values()), access)
                looked_at = time.monotonic()
            if one.uri in told:
                reason = "同じ名前のファイルがあります (濁点などの文字コードだけが違います)"
                yield Failed(f"{one.uri}#2", one.called, reason, False, access[key])
                continue
            told[one.uri] = key
            if one.item.draft:
                yield Failed(one.uri, one.called, _DRAFT, False, access[key])
            else:
                yield Upsert(self._file(look.webs[one.web].shelves[one.shelf], one, access[key]))

    def _again(
        self, look: _Look, now: dict[str, Found], told: set[str], access: dict[str, Access]
    ) -> Iterator[Change]:
        """Who may read, once more while reading takes long: what is another now of what was `told`."""
        anew = self._look(look.webs)
        there = self._all(anew.webs)
        its = self._readers(anew, there)
        for key, one in now.items():
            if (may := its.get(key, NOBODY)) != access[key]:
                access[key] = may
                look.webs[one.web].digests.pop(one.above, None)  # said anew by the next run
                if key in told:
                    same = key in there and there[key].item.version == one.item.version
                    yield AccessChanged(one.uri, may if same else NOBODY)

    def _told(self, look: _Look) -> Iterator[Change]:
        """A row of whom nobody knows."""
        if untold := sorted(look.rights.untold):
            more = f"、ほか {len(untold) - UNTOLD} 個" if len(untold) > UNTOLD else ""
            reason = f"許可は誰にも効きません: {'、'.join(untold[:UNTOLD])}{more}"
            yield Failed(f"{self._settings.url}#{UNKNOWN}", UNKNOWN, reason, False)

    def file(self, uri: str) -> RawFile:
        if not uri.startswith(f"{self._settings.url}/") or len(uri) > 4000:
            raise NotVisible(f"{uri} はありません。")
        parts = urlsplit(uri)
        path, query = unquote(parts.path), unquote(parts.query)
        if any(p in (".", "..") for p in path.split("/")) or not path.isprintable():
            raise NotVisible(f"{uri} はありません。")
        for place in self._towards(path):
            web = Web(place, place, str(of(self._rest.json(place, "site"), "Id") or ""))
            for shelf in filter(self._only, shelves(self._rest, web)):
                if one := self._by_path(web, shelf, uri, path, query):
                    where = f"{shelf.where}/items({one.id})/roleassignments"
                    own = subjects(self._rest.listed(web.path, where, ASSIGNED))
                    return self._file(shelf, one, self._access(self._rights(), own, web))
        raise NotVisible(f"{uri} はありません。")

    def _by_path(self, web: Web, shelf: Shelf, uri: str, path: str, query: str) -> Found | None:
        if shelf.kind in ("list", "board"):
            hung = re.fullmatch(rf"{re.escape(shelf.path)}/Attachments/(\d+)/.+", path)
            shown = re.fullmatch(r"ID=(\d+)", query) if path == shelf.form else None
            if not (which := hung or shown):
                return None
            said = self._rest.json(web.path, f"{shelf.where}/items({which[1]})", shelf.asks())
        elif path.startswith(f"{shelf.path}/"):
            said = None
            for form in dict.fromkeys((path, unicodedata.normalize("NFD", path))):
                said = said or self._rest.json(
                    web.path, f"{named('File', form)}/ListItemAllFields", shelf.asks()
                )
        else:
            return None
        item = entry(shelf, said) if said else None
        if not said or not item:
            return None
        shelf.items = {int(said["Id"]): item}
        web.shelves = {shelf.id: shelf}
        found = self._all({web.path: web}).values()  # where it lies, whoever may read it
        return next((one for one in found if one.uri == uri and not one.item.draft), None)

    def _file(self, shelf: Shelf, one: Found, access: Access) -> RawFile:
        text = one.item.kind != "f" and not one.name
        return RawFile(
            uri=one.uri,
            version=one.item.version,
            open=partial(self._text if text else self._bytes, shelf, one),
            access=access,
            title=one.called,
            modified_at=_when(one.item.at),
            media_type="text/html" if text else None,
            size_bytes=one.item.size_bytes if not one.name else None,
        )

    def _bytes(self, shelf: Shelf, one: Found) -> BinaryIO:
        """The bytes that were listed: SourceBusy where they are others by now."""
        where = f"{shelf.where}/items({one.id})/File/$value"
        if one.name:
            where = f"{named('File', one.name)}/$value"
        copy = self._rest.file(one.web, where, FILE_BYTES)
        try:
            self._still(shelf, one)
        except BaseException:
            copy.close()
            raise
        return copy

    def _still(self, shelf: Shelf, one: Found) -> None:
        said = self._rest.json(one.web, f"{shelf.where}/items({one.id})", shelf.asks())
        item = entry(shelf, said) if said else None
        if item is None or item.version != one.item.version or item.draft:
            raise SourceBusy(f"{one.uri} は書き換えられました。次の確認で読み直します。")

    def _text(self, shelf: Shelf, one: Found) -> BinaryIO:
        fields = self._fields(one.web, shelf)
        where, called = f"{shelf.where}/items({one.id})", one.called
        if one.item.kind == "p":
            texts = [c.name for c in fields if c.name in sharepoint_server_page.TEXTS]
            said = self._rest.json(one.web, where, {"$select": ",".join(["Title", *texts])})
            data = sharepoint_server_page.page(called, said or {})
        else:
            said = self._rest.json(one.web, f"{where}/FieldValuesAsHtml")
            shown = [c for c in fields if c.shown]
            data = sharepoint_server_page.item(called, shelf.title, shown, said or {})
        self._still(shelf, one)
        return io.BytesIO(data)

    def _fields(self, web: str, shelf: Shelf) -> list[sharepoint_server_page.Column]:
        if shelf.id not in self._columns:
            query = {"$select": "InternalName,Title,TypeAsString,Hidden,ReadOnlyField"}
            told = self._rest.listed(web, f"{shelf.where}/fields", query)
            self._columns[shelf.id] = list(sharepoint_server_page.columns(told))
        return self._columns[shelf.id]

    # --- who may read -------------------------------------------------------------

    def _access(self, rights: Rights, own: Own, web: Web) -> Access:
        around, denied = self._around
        found = rights.readers(own, web.path, web.site)
        return (*around, Layer(found, denied)) if found else NOBODY

    def _readers(self, look: _Look, now: dict[str, Found]) -> dict[str, Access]:
        """Of each document; notes what could not be found out, and what each site's cursor holds."""
        met = dict[tuple[str, str], Access]()
        for web in look.webs.values():
            web.digests = {}
            for scope, own in scopes(web):
                met[web.path, scope] = its = self._access(look.rights, own, web)
                web.digests[scope] = _digest(its)
        for what, reason in look.rights.notes.items():
            look.failures.append(Failed(f"{self._settings.url}#{what}", what, reason, False))
        return {key: met.get((one.web, one.above), NOBODY) for key, one in now.items()}

    # --- listing ------------------------------------------------------------------

    def _look(self, before: dict[str, Web]) -> _Look:
        look = _Look(self._rights())
        for root in self._roots():
            waiting = [(root, 0)]
            while waiting:
                path, depth = waiting.pop()
                if path in look.webs:
                    continue
                try:
                    old = before.get(path) or Web(path, root)
                    web = follow(self._rest, old, self._only, look.failures)
                    waiting += ((below, depth + 1) for below in self._below(path, depth))
                    look.webs[path] = web
                except (SourceDenied, SourceMisconfigured) as error:
                    self._shut(look, before, path, error)
        return look

    def _shut(self, look: _Look, before: dict[str, Web], path: str, error: Exception) -> None:
        """It hides no other; what was in it and below stays, for nobody."""
        reason = f"サイトを開けないため、誰にも見えません ({error})"
        uri = f"{self._settings.url}{unicodedata.normalize('NFC', path)}/"
        look.failures.append(Failed(uri, path or "/", reason, isinstance(error, NotThere)))
        look.closed.add(path)
        look.closed |= {
            other for other in before if other.startswith(f"{path}/")
        } - look.webs.keys()

    def _roots(self) -> list[str]:
        return ["" if path == "/" else path for path in self._settings.sites]

    def _below(self, path: str, depth: int) -> list[str]:
        """The sites right below one, if they are read, too."""
        if not self._settings.subsites or depth >= DEEPEST:
            return []
        query = {"$select": "Id,ServerRelativeUrl"}
        found = [one.get("ServerRelativeUrl") for one in self._rest.listed(path, "web/webs", query)]
        below = [one for one in found if isinstance(one, str) and one.startswith(f"{path}/")]
        if len(below) < len(found):
            raise SourceMisconfigured(f"{path or '/'} のサブサイトの場所が分かりません。")
        return below

    def _towards(self, uri: str) -> Iterator[str]:
        """The sites on the way to a document, the one that it lies in first."""
        found, waiting = list[str](), [(root, 0) for root in self._roots()]
        while waiting:
            path, depth = waiting.pop()
            if uri.startswith(f"{path}/") and path not in found:
                found.append(path)
                waiting += ((below, depth + 1) for below in self._below(path, depth))
        return iter(sorted(found, key=len, reverse=True))

    def _only(self, shelf: Shelf) -> bool:
        own = self._settings
        if own.libraries and shelf.title not in own.libraries:
            return False
        return own.lists if shelf.kind in ("list", "board") else own.pages or shelf.kind != "pages"

    def _all(self, webs: dict[str, Web]) -> dict[str, Found]:
        url, exclude = self._settings.url, self._settings.exclude
        return {key: one for web in webs.values() for key, one in documents(web, url, exclude)}


def _when(said: str) -> datetime:
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _digest(access: Access) -> str:
    said = [[sorted(layer.allow), sorted(layer.deny)] for layer in access]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
