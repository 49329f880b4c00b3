"""Microsoft 365: libraries of SharePoint sites, OneDrive of people, files of Teams channels.

Not verified against the real service: written after Microsoft's documentation of Graph, tested
against a fake.

A drive is followed by delta queries: a look costs what changed, the permissions of folders that have
their own, and the members of groups. What is known of a drive is in the cursor, so that every run
tells of all there is, and a new member of a group counts without a file being touched.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote, unquote, urlsplit

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
from connectors import admit
from connectors.http import Http
from connectors.listing import FEW
from connectors.sharepoint_api import Graph, NotThere, SignIn, judge, of, parsed, values
from connectors.sharepoint_drive import (
    ID,
    SELECT,
    Drive,
    Found,
    Item,
    entry,
    files,
    follow,
    spelled,
    versions,
)
from connectors.sharepoint_rights import Own, Rights, subjects, table
from connectors.sharepoint_settings import SharePointSettings

FILE_BYTES = 2_000_000_000
AGAIN_S = 240.0  # while a run takes long, permissions are looked after as often
_DRIVE = {"$select": "id,name,webUrl"}
Key = tuple[str, str]  # of a file: its drive, and itself


@dataclass
class _Look:
    rights: Rights
    drives: dict[str, Drive] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)  # drives of which not all is known
    failures: list[Failed] = field(default_factory=list)


class SharePointConnector:
    """SharePoint・OneDrive・Teams (Microsoft 365)"""

    kind: ClassVar[str] = "sharepoint"
    Settings: ClassVar[type[BaseModel]] = SharePointSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: SharePointSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    @cached_property
    def _sign_in(self) -> SignIn:
        own = self._settings
        return SignIn(
            *(own.login, own.tenant, own.client_id, self.site),
            *(own.client_secret, own.certificate, own.private_key),
        )

    def _http(self, *origins: str) -> Http:
        return Http(origins, self.site, per_second=self._settings.per_second, judge=judge)

    @cached_property
    def _graph(self) -> Graph:
        own = self._settings
        mine = re.sub(r"^(https?://[^.:/]+)\.", r"\1-my.", own.sharepoint)  # where OneDrive is
        media = own.media or [own.sharepoint, mine]
        return Graph(own.graph, self._http(own.graph, *media), self._sign_in)

    @cached_property
    def _sharepoint(self) -> Http:
        return self._http(self._settings.sharepoint)

    @cached_property
    def _allow(self) -> Access:
        return admit.access(self._settings.allow)

    @cached_property
    def _everyone(self) -> frozenset[Principal]:
        return frozenset().union(*(one.allow for one in admit.access(self._settings.everyone)))

    @cached_property
    def _names(self) -> dict[str, frozenset[Principal]]:
        told = admit.rules("人とグループの対応表", self._settings.names, [])[:-1]
        return dict(
            table((name, access[0].allow if access else frozenset()) for name, access in told)
        )

    def _rights(self) -> Rights:
        own = self._settings
        return Rights(
            *(self._graph, self._names, self._everyone, own.links, own.same_names, self._members)
        )

    def check(self) -> None:
        self._allow, self._everyone, self._names  # noqa: B018  a setting may be wrong
        if self._settings.private_key:
            self._sign_in.pair()
        look, known = self._rights(), False
        for place in self._places():
            for drive in self._named(place):
                known = True
                top = of(self._graph.json(f"{_at(drive)}/root", {"$select": "id"}), "id")
                look.readers(self._asked(drive, str(top)), drive.site)
        if not known:
            raise SourceMisconfigured(
                "読めるライブラリがありません。名前と許可を確かめてください。"
            )
        if look.notes:
            raise SourceDenied(next(iter(look.notes.values())))

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All there is. First who may read what is known, then the files."""
        before = load(since)
        look = self._look(before)
        old, now = self._all(before), self._all(look.drives)
        access = self._readers(look, now)
        yield from look.failures
        gone = {key: one for key, one in old.items() if key not in now}
        yield from (AccessChanged(o.uri, NOBODY) for k, o in gone.items() if k[0] in look.closed)
        there, was_there = ({one.uri: key for key, one in all.items()} for all in (now, old))
        taken = {uri for uri, key in there.items() if was_there.get(uri, key) != key}
        yield from (AccessChanged(uri, NOBODY) for uri in taken)  # another file has its name now
        digests = {drive.id: drive.digests for drive in before.values()}
        for key, one in now.items():
            if (was := old.get(key)) is None or one.uri in taken or there[one.uri] != key:
                continue
            # nobody new to what was read before, where it is another by now: soon that is read too
            its = access[key] if was.item.version == one.item.version else NOBODY
            if was.uri != one.uri:
                yield Moved(was.uri, one.uri, _title(one), its)
            elif digests[key[0]].get(was.above) != _digest(access[key]):
                yield AccessChanged(one.uri, its)
        yield from self._files(look, now, access)
        left = [o for k, o in gone.items() if k[0] not in look.closed and o.uri not in there]
        if look.closed and (len(left) < FEW or 2 * len(left) <= len(old)):
            # one drive that does not open must not keep alive what was deleted elsewhere
            yield from (Remove(one.uri) for one in left)
        yield Checkpoint(save(look.drives), complete=not look.closed)

    def _files(
        self, look: _Look, now: dict[Key, Found], access: dict[Key, Access]
    ) -> Iterator[Change]:
        told, looked_at = dict[str, Key](), time.monotonic()
        for key, one in now.items():
            if time.monotonic() - looked_at > AGAIN_S:
                yield from self._again(look, now, set(told.values()), access)
                looked_at = time.monotonic()
            if one.uri in told:
                reason = "同じ名前のファイルがあります (濁点などの文字コードだけが違います)"
                yield Failed(f"{one.uri}#2", _title(one), reason, False, access[key])
                continue
            told[one.uri] = key
            if one.item.kind == "v":
                reason = "ウイルスが見つかったファイルのため、読みません。"
                yield Failed(one.uri, _title(one), reason, False, access[key])
            else:
                yield Upsert(self._file(key[0], one, access[key]))

    def _again(
        self, look: _Look, now: dict[Key, Found], told: set[Key], access: dict[Key, Access]
    ) -> Iterator[Change]:
        """Who may read, once more while reading takes long: what is another now of what was `told`."""
        anew = self._look(look.drives)
        there = self._all(anew.drives)
        its = self._readers(anew, there)
        for key, one in now.items():
            if (may := its.get(key, NOBODY)) != access[key]:
                access[key] = may
                look.drives[key[0]].digests.pop(one.above, None)  # said anew by the next run
                if key in told:
                    same = key in there and there[key].item.version == one.item.version
                    yield AccessChanged(one.uri, may if same else NOBODY)

    def file(self, uri: str) -> RawFile:
        for place in self._places():
            if not self._may_hold(place, uri):
                continue
            for drive in self._named(place):
                if not uri.startswith(f"{drive.url}/"):
                    continue
                path = unquote(uri[len(drive.url) + 1 :])
                parts = path.split("/")
                if any(p in ("", ".", "..") for p in parts) or "\0" in path:
                    continue
                if found := self._by_path(drive, path):
                    access = self._access(self._rights(), self._asked(drive, found.id), drive)
                    return self._file(drive.id, found._replace(uri=uri), access)
        raise NotVisible(f"{uri} はありません。")

    def _may_hold(self, place: str, uri: str) -> bool:
        kind, _, name = place.partition(" ")
        site = f"{self._settings.sharepoint}/{spelled(_nfc(_site_path(name)))}"
        return uri.startswith("http") and (kind != "site" or uri.lower().startswith(site.lower()))

    def _by_path(self, drive: Drive, path: str) -> Found | None:
        if not admit.within(path, self._settings.exclude):
            return None
        for form in dict.fromkeys((path, unicodedata.normalize("NFD", path))):
            where = f"{_at(drive)}/root:/{quote(form)}"
            said = self._graph.json(where, {"$select": SELECT})
            item = entry(said) if said else None
            if said and item and item.kind == "f":
                at = item.parent
                while drive.roots and at not in drive.roots:
                    up = self._graph.json(f"{_at(drive)}/items/{quote(at)}", {"$select": SELECT})
                    at = ((above := entry(up) if up else None) and above.parent) or ""
                    if not at:
                        return None
                return Found(str(said["id"]), "", item, str(said["id"]))
        return None

    def _file(self, drive: str, one: Found, access: Access) -> RawFile:
        return RawFile(
            uri=one.uri,
            version=one.item.version,
            open=partial(self._open, drive, one),
            access=access,
            title=_title(one),
            modified_at=_when(one.item.at),
            media_type=one.item.media_type or None,
            size_bytes=one.item.size_bytes,
        )

    def _open(self, drive: str, one: Found) -> BinaryIO:
        """The bytes that were listed: SourceBusy where they are others by now."""
        where = f"/drives/{quote(drive, safe='!')}/items/{quote(one.id)}"
        # the answer leads to another host, which gets no token
        copy = self._graph.file(f"{where}/content", FILE_BYTES)
        try:
            said = self._graph.json(where, {"$select": SELECT})
            if said is None or one.item.version not in versions(said):
                raise SourceBusy(f"{one.uri} は書き換えられました。次の確認で読み直します。")
        except BaseException:
            copy.close()
            raise
        return copy

    # --- who may read -------------------------------------------------------------

    def _asked(self, drive: Drive, id: str) -> Own:
        path = f"{_at(drive)}/items/{quote(id)}/permissions"
        try:
            return subjects(self._graph.listed(path))
        except NotThere:
            return ()  # it went meanwhile

    def _access(self, rights: Rights, own: Own, drive: Drive) -> Access:
        found = rights.readers(own, drive.site)
        return (*self._allow, Layer(found)) if found else NOBODY

    def _readers(self, look: _Look, now: dict[Key, Found]) -> dict[Key, Access]:
        """Of each file; notes what could not be found out, and what each drive's cursor holds."""
        tops = dict[Key, Access]()
        for drive in look.drives.values():
            drive.digests = {}
            for id, item in drive.items.items():
                if item.own is not None:
                    tops[drive.id, id] = its = self._access(look.rights, item.own, drive)
                    drive.digests[id] = _digest(its)
        for what, reason in look.rights.notes.items():
            uri = f"{self._settings.sharepoint}#{what}"
            look.failures.append(Failed(uri, what, reason, False))
        return {key: tops.get((key[0], one.above), NOBODY) for key, one in now.items()}

    def _all(self, drives: dict[str, Drive]) -> dict[Key, Found]:
        exclude = self._settings.exclude
        return {(d.id, one.id): one for d in drives.values() for one in files(d, exclude)}

    def _members(self, site: str, id: str) -> list[dict[str, Any]] | None:
        """Of a group of a site. SharePoint tells an application that has a certificate alone."""
        own = self._settings
        at = urlsplit(site)
        if not own.private_key or at[:2] != urlsplit(own.sharepoint)[:2] or not id.isdecimal():
            return None
        path = f"{quote(unquote(at.path))}/_api/web/sitegroups/getbyid({id})/users"
        url = f"{own.sharepoint}{path}?$select=LoginName,Email,PrincipalType"
        headers = {
            "accept": "application/json;odata=nometadata",
            "authorization": f"Bearer {self._sign_in.token(own.sharepoint)}",
        }
        reply = self._sharepoint.ask("GET", url, headers=headers)
        return values(parsed(reply.body, url), url) if reply.status == 200 else None

    # --- listing ------------------------------------------------------------------

    def _look(self, before: dict[str, Drive]) -> _Look:
        look = _Look(self._rights())
        for place in self._places():
            known = {d.id: d for d in before.values() if d.place == place}
            try:
                drives = self._named(place)
            except (SourceDenied, SourceMisconfigured) as error:
                self._shut(look, known, place, place, error)
                continue
            for named in drives:
                if named.id in look.drives:  # a team's library is also its site's
                    roots = look.drives[named.id].roots
                    look.drives[named.id].roots = (
                        (*roots, *named.roots) if roots and named.roots else ()
                    )
                    continue
                old = before.get(named.id, named)
                now = replace(named, link=old.link, listed_at=old.listed_at, each=old.each,
                              items=old.items, digests=old.digests)  # fmt: skip
                try:
                    look.drives[now.id] = follow(
                        self._graph, now, partial(self._asked, now), look.failures
                    )
                    if look.drives[now.id].holes:
                        look.closed.add(now.id)
                except (SourceDenied, SourceMisconfigured) as error:
                    self._shut(look, {now.id: now}, place, now.url, error)
        return look

    def _shut(
        self, look: _Look, known: dict[str, Drive], place: str, uri: str, error: Exception
    ) -> None:
        """It hides no other; what was in it stays, for nobody."""
        reason = f"開けないため、誰にも見えません ({error})"
        look.failures.append(Failed(uri, place, reason, isinstance(error, NotThere)))
        for id, drive in known.items():
            look.closed.add(id)
            look.drives.setdefault(id, replace(drive, items={}, link="", digests={}))
        look.closed.add(place)

    def _places(self) -> Iterator[str]:
        own = self._settings
        yield from (f"site {one.strip()}" for one in own.sites)
        yield from (f"user {one.strip()}" for one in own.people)
        yield from (f"team {one}" for one in own.teams)

    def _named(self, place: str) -> list[Drive]:
        """The drives that a setting means. Raises NotThere."""
        kind, _, name = place.partition(" ")
        graph, own = self._graph, self._settings
        if kind == "site":
            host = urlsplit(own.sharepoint).netloc
            path = _site_path(name)
            said = graph.json(f"/sites/{host}:/{quote(path)}" if path else f"/sites/{host}")
            if not said:
                raise NotThere(f"サイト {name} がありません。パスを確かめてください。")
            id = quote(str(said.get("id")), safe=",")
            found = list(graph.listed(f"/sites/{id}/drives", _DRIVE))
            named = [d for d in found if not own.libraries or _nfc(d.get("name")) in own.libraries]
            if not named:
                raise NotThere(f"サイト {name} に、読むライブラリがありません。")
            return [_drive(one, place) for one in named]
        if kind == "user":
            said = graph.json(f"/users/{quote(name)}/drive", _DRIVE)
            if not said:
                raise NotThere(f"{name} の OneDrive がありません。名前を確かめてください。")
            return [_drive(said, place)]
        drives = dict[str, Drive]()
        for channel in graph.listed(f"/teams/{name}/channels", {"$select": "id,displayName"}):
            at = f"/teams/{name}/channels/{quote(str(channel.get('id')))}/filesFolder"
            folder = graph.json(at)  # None: nobody has opened its files yet
            root, id = of(folder, "id"), of(folder, "parentReference", "driveId")
            if not all(isinstance(one, str) and ID.fullmatch(one) for one in (root, id)):
                continue
            if id not in drives:
                said = graph.json(f"/drives/{quote(id, safe='!')}", _DRIVE)
                drives[id] = _drive(said or {}, place)
            drives[id].roots = (*drives[id].roots, root)
        return list(drives.values())


def _at(drive: Drive) -> str:
    return f"/drives/{quote(drive.id, safe='!')}"


def _site_path(name: str) -> str:
    return unquote(urlsplit(name).path if "://" in name else name).strip("/")


def _drive(said: dict[str, Any], place: str) -> Drive:
    """Raises SourceMisconfigured where it does not say which it is."""
    id, url = said.get("id"), said.get("webUrl")
    if not (isinstance(id, str) and ID.fullmatch(id)):
        raise SourceMisconfigured(f"{place} のライブラリの答えを読めません。")
    if not (isinstance(url, str) and re.match(r"https?://[^/]", url)):
        raise SourceMisconfigured(f"{place} のライブラリの場所が答えにありません。")
    parts = urlsplit(url)
    path = spelled(_nfc(unquote(parts.path)))
    here = f"{parts.scheme}://{parts.netloc}{path}".rstrip("/")
    return Drive(id, place, here, site=here.rpartition("/")[0])  # a library lies in its site


def _title(one: Found) -> str:
    return PurePosixPath(one.item.name).stem or one.item.name


def _nfc(said: Any) -> str:
    return unicodedata.normalize("NFC", said).strip() if isinstance(said, str) else ""


def _when(said: str) -> datetime:
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _digest(access: Access) -> str:
    said = [[sorted(layer.allow), sorted(layer.deny)] for layer in access]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def load(cursor: Cursor | None) -> dict[str, Drive]:
    try:
        told = json.loads(cursor or "{}").get("drives", {})
        return {id: _loaded(id, said) for id, said in told.items()}
    except (ValueError, TypeError, AttributeError, KeyError):
        return {}  # another version's: everything is listed anyway


def _loaded(id: str, said: dict[str, Any]) -> Drive:
    owns = [tuple(tuple(one) for one in own) for own in said["owns"]]
    items = {
        str(item): Item(*row)._replace(own=None if row[-1] is None else owns[row[-1]])
        for item, row in said["items"].items()
    }
    return Drive(
        id=id,
        place=str(said["place"]),
        url=str(said["url"]),
        site=str(said["site"]),
        roots=tuple(said["roots"]),
        link=str(said["link"]),
        listed_at=float(said["listed_at"]),
        each=said["each"] is True,
        items=items,
        digests=dict(said["digests"]),
    )


def save(drives: dict[str, Drive]) -> Cursor:
    said = {id: _saved(drive) for id, drive in sorted(drives.items())}
    return Cursor(json.dumps({"drives": said}, ensure_ascii=False, separators=(",", ":")))


def _saved(drive: Drive) -> dict[str, Any]:
    owns = dict[Own, int]()  # most files that have permissions of their own have the same
    rows = {
        id: [*item[:-1], None if item.own is None else owns.setdefault(item.own, len(owns))]
        for id, item in drive.items.items()
    }
    return {
        "place": drive.place, "url": drive.url, "site": drive.site, "roots": drive.roots,
        "link": drive.link, "listed_at": drive.listed_at, "each": drive.each,
        "owns": list(owns), "items": rows, "digests": drive.digests,
    }  # fmt: skip
