"""SharePoint Server's REST API after Microsoft's public documentation, behind IIS (`windows.py`).

Checked: path, parameters by name, `Accept`, form digest, the fields that an edition has, page sizes.
A refusal is a status and `{"odata.error": {"code", "message"}}`. An item is created, changed, moved and
deleted as users do it, and each leaves its row in the change log.
"""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tests.fakes.windows import DOMAIN, PASSWORD, USER, Handler, Windows

READ, LIMITED, VIEW_ONLY = (2, 0x3008031021), (1, 0x1000000000 | 0x08001000), (2, 0x3008031001)
ADD, UPDATE, DELETE, RENAME, MOVE_INTO, RESTORE = 1, 2, 3, 4, 6, 7
ASSIGN, SCOPE, SCOPE_GONE, ROLE = 11, 17, 18, 10
Answer = Callable[[Handler], None]
_WEB = {"Id", "CurrentChangeToken", "ServerRelativeUrl"}
_LIST = {
    "Id", "Title", "BaseType", "BaseTemplate", "Hidden", "NoCrawl", "IsCatalog",
    "HasExternalDataSource", "HasUniqueRoleAssignments", "EnableAttachments", "EnableModeration",
    "DraftVersionVisibility", "DefaultDisplayFormUrl", "RootFolder/ServerRelativeUrl",
}  # fmt: skip
_ITEM = {"Id", "FileSystemObjectType", "FileRef", "Title", "Modified", "HasUniqueRoleAssignments"}
_OF_FILE = {"UniqueId", "ContentTag", "ETag", "Length", "Level", "MajorVersion", "TimeLastModified"}
_FIELD = {"InternalName", "Title", "TypeAsString", "Hidden", "ReadOnlyField"}
_MEMBER = {"LoginName", "Title", "PrincipalType", "UserId"}


class Refused(Exception):
    def __init__(self, status: int, code: str, **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.headers = status, code, headers


def sid(number: int) -> str:
    return f"S-1-5-21-1004336348-1177238915-682003330-{number}"


def user(name: str, number: int = 0) -> dict[str, Any]:
    said: dict[str, Any] = {
        "Id": number or 99, "LoginName": f"i:0#.w|example\\{name}", "Title": name, "PrincipalType": 1,
        "UserId": None,
    }  # fmt: skip
    if number:
        issuer = "urn:office:idp:activedirectory"
        said["UserId"] = {"NameId": sid(number).lower(), "NameIdIssuer": issuer}
    return said


def group(title: str, number: int) -> dict[str, Any]:
    login = f"c:0+.w|{sid(number).lower()}"
    return {"Id": number, "LoginName": login, "Title": title, "PrincipalType": 4, "UserId": None}


def claim(login: str, title: str = "全員") -> dict[str, Any]:
    return {"Id": 5, "LoginName": login, "Title": title, "PrincipalType": 4, "UserId": None}


def site_group(number: int, title: str) -> dict[str, Any]:
    return {"Id": number, "LoginName": title, "Title": title, "PrincipalType": 8}


def may(member: dict[str, Any], role: tuple[int, int] = READ) -> dict[str, Any]:
    """A role assignment."""
    kind, mask = role
    rights = {"High": str(mask >> 32), "Low": str(mask & 0xFFFFFFFF)}
    binding = {"Id": 1, "Name": "x", "RoleTypeKind": kind, "BasePermissions": rights}
    return {"PrincipalId": member["Id"], "Member": member, "RoleDefinitionBindings": [binding]}


@dataclass
class Entry:
    id: int
    path: str
    title: str = ""
    data: bytes | None = None  # None: a folder or an item
    folder: bool = False
    unique: str = field(default_factory=lambda: str(uuid.uuid4()))
    content: int = 1
    version: int = 1
    level: int = 1
    major: int = 1
    moderation: int = 0
    columns: dict[str, str] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)
    own: list[dict[str, Any]] | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Shelf:
    title: str
    path: str
    base: int = 1
    template: int = 101
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    entries: dict[int, Entry] = field(default_factory=dict)
    own: list[dict[str, Any]] | None = None
    about: dict[str, Any] = field(default_factory=dict)
    security: int = 1
    fields: list[tuple[str, str, str, bool]] = field(default_factory=list)
    denied: bool = False


@dataclass
class Site:
    path: str
    own: list[dict[str, Any]]
    above: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    collection: str = "5f0a3a4e-0000-4000-8000-000000000001"
    shelves: list[Shelf] = field(default_factory=list)
    log: list[tuple[str, int | None, int]] = field(default_factory=list)
    oldest: int = 0
    denied: bool = False


class SharePoint(Windows):
    kind = "sharepoint_server"

    def __init__(self, edition: int = 2019, tls: Any = None) -> None:
        self.edition = edition
        self.sites = {"/sites/eigyo": Site("/sites/eigyo", [may(user("ito", 1001))])}
        self.groups: dict[int, list[dict[str, Any]] | None] = {}  # None: not told
        self.asked: list[str] = []
        self.faults: list[tuple[str, Answer]] = []  # each once, where the URL has the words
        self.verbose = False
        self.most = 5000  # items in one answer
        self.most_changes = 1000
        self._ids = itertools.count(1)
        self.add("ドキュメント", "Shared Documents")
        super().__init__(tls)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "url": self.url, "user": f"{DOMAIN}\\{USER}", "password": PASSWORD,
            "sites": ["/sites/eigyo"], "per_second": 0,
        }  # fmt: skip

    # --- what its users do --------------------------------------------------------

    def add(self, title: str, path: str, site: str = "/sites/eigyo", **more: Any) -> Shelf:
        shelf = Shelf(title, f"{self.sites[site].path}/{path}", **more)
        self.sites[site].shelves.append(shelf)
        return shelf

    def shelf(self, title: str = "ドキュメント") -> tuple[Site, Shelf]:
        return next((w, s) for w in self.sites.values() for s in w.shelves if s.title == title)

    def put(self, path: str, data: str | bytes = "", shelf: str = "ドキュメント") -> Entry:
        site, its = self.shelf(shelf)
        at, data = its.path, data.encode() if isinstance(data, str) else data
        *folders, name = path.split("/")
        for folder in folders:
            at += f"/{folder}"
            if not any(e.path == at for e in its.entries.values()):
                self._new(site, its, at, folder=True)
        found: Entry | None = self.find(path, shelf)
        if found:
            found.data, found.content = data, found.content + 1
            self.touch(found, UPDATE)
            return found
        return self._new(site, its, f"{at}/{name}", data=data)

    def write(self, title: str, shelf: str, **columns: str) -> Entry:
        """An item of a list."""
        site, its = self.shelf(shelf)
        return self._new(
            site, its, f"{its.path}/{next(self._ids)}_.000", title=title, columns=columns
        )

    def _new(self, site: Site, shelf: Shelf, path: str, **more: Any) -> Entry:
        one = Entry(next(self._ids), path, **more)
        shelf.entries[one.id] = one
        site.log.append((shelf.id, one.id, ADD))
        return one

    def find(self, path: str, shelf: str = "ドキュメント") -> Any:  # None where there is none
        its = self.shelf(shelf)[1]
        return next((e for e in its.entries.values() if e.path == f"{its.path}/{path}"), None)

    def touch(self, one: Entry, how: int = UPDATE) -> None:
        site, shelf = self._where(one)
        one.version += 1
        site.log.append((shelf.id, one.id, how))

    def share(self, path: str, *assignments: dict[str, Any], shelf: str = "ドキュメント") -> None:
        one = self.find(path, shelf)
        site, its = self._where(one)
        site.log.append((its.id, one.id, SCOPE if one.own is None else ASSIGN))
        one.own = list(assignments)

    def clear(self, path: str, *assignments: dict[str, Any]) -> None:
        """A folder gets its own, and all below inherits: the log tells of the folder alone."""
        one, shelf = self.find(path), self.shelf()[1]
        for each in shelf.entries.values():
            if each.path.startswith(f"{one.path}/"):
                each.own = None
        one.own = list(assignments)
        self.shelf()[0].log.append((shelf.id, one.id, SCOPE))

    def inherit(self, path: str) -> None:
        one = self.find(path)
        one.own = None
        site, shelf = self._where(one)
        site.log.append((shelf.id, one.id, SCOPE_GONE))

    def move(self, path: str, to: str) -> None:
        one, shelf = self.find(path), self.shelf()[1]
        old, new = one.path, f"{shelf.path}/{to}"
        parent = new.rpartition("/")[0]
        if parent != shelf.path and not any(e.path == parent for e in shelf.entries.values()):
            self._new(self.shelf()[0], shelf, parent, folder=True)
        for each in shelf.entries.values():
            if each.path == old or each.path.startswith(f"{old}/"):
                each.path = new + each.path[len(old) :]
        self.touch(one, RENAME if old.rpartition("/")[0] == parent else MOVE_INTO)

    def carry(self, path: str, to: str) -> None:
        """To another library: another number there, the same file."""
        one = self.find(path)
        site, shelf = self._where(one)
        del shelf.entries[one.id]
        site.log.append((shelf.id, one.id, 5))
        there, other = self.shelf(to)
        one.id, one.path = next(self._ids), f"{other.path}/{one.path.rpartition('/')[2]}"
        other.entries[one.id] = one
        there.log.append((other.id, one.id, MOVE_INTO))

    def delete(self, path: str, shelf: str = "ドキュメント") -> None:
        one = self.find(path, shelf)
        site, its = self._where(one)
        site.log.append((its.id, one.id, DELETE))
        its.entries = {
            i: e for i, e in its.entries.items()
            if e is not one and not e.path.startswith(f"{one.path}/")
        }  # fmt: skip

    def _where(self, one: Entry) -> tuple[Site, Shelf]:
        return next(
            (w, s) for w in self.sites.values() for s in w.shelves if one in s.entries.values()
        )

    # --- what it answers ----------------------------------------------------------

    def answer(self, to: Handler, body: bytes) -> None:
        self.asked.append(f"{to.command} {unquote(to.path)}")
        for number, (words, fault) in enumerate(self.faults):
            if words in unquote(to.path):
                del self.faults[number]
                return fault(to)
        try:
            self._send(to, self._said(to, body))
        except Refused as error:
            message = {"lang": "ja-JP", "value": "エラーです。"}
            said = {"odata.error": {"code": error.code, "message": message}}
            _write(to, error.status, json.dumps(said).encode(), "application/json", error.headers)
        return None

    def _send(self, to: Handler, said: Any) -> None:
        if isinstance(said, bytes):
            return _write(to, 200, said, "application/octet-stream", {})
        if self.verbose:
            link = said.get("odata.nextLink")
            said = {"d": {"results": said["value"]} if "value" in said else said}
            if link:
                said["d"]["__next"] = link
        return _write(to, 200, json.dumps(said).encode(), "application/json;odata=nometadata", {})

    def _said(self, to: Handler, body: bytes) -> Any:
        parts = urlsplit(to.path)
        place, api, path = unquote(parts.path).partition("/_api/")
        query = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
        site = self.sites.get(place)
        if not api or site is None:
            raise Refused(404, "-2147024894, System.IO.FileNotFoundException")
        if site.denied:
            raise Refused(403, "-2147024891, System.UnauthorizedAccessException")
        if to.headers.get("x-forms_based_auth_accepted") != "f":
            raise Refused(403, "the zone would have asked for a form")
        if to.command == "POST":
            return self._posted(site, path, to, body)
        if (
            not path.endswith("$value")
            and to.headers["accept"] != "application/json;odata=nometadata"
        ):
            raise Refused(406, "-1, Microsoft.SharePoint.Client.ClientServiceException")
        return self._got(site, path, query)

    def _posted(self, site: Site, path: str, to: Handler, body: bytes) -> Any:
        if path == "contextinfo":
            return {"FormDigestValue": f"0x{site.id},27 Nov 2026", "FormDigestTimeoutSeconds": 1800}
        if path != "web/getchanges":
            raise Refused(404, "-1, Microsoft.SharePoint.Client.ResourceNotFoundException")
        if to.headers.get("x-requestdigest") != f"0x{site.id},27 Nov 2026":
            raise Refused(403, "-2130575251, System.Runtime.InteropServices.COMException")
        if to.headers.get("content-type") != "application/json;odata=verbose":
            raise Refused(400, "-1, Microsoft.SharePoint.Client.InvalidClientQueryException")
        query = json.loads(body)["query"]
        start = query.pop("ChangeTokenStart")
        assert query.pop("__metadata") == {"type": "SP.ChangeQuery"}
        assert start["__metadata"] == {"type": "SP.ChangeToken"}
        assert set(query) >= {"Item", "RoleAssignmentAdd", "Move"} and set(query.values()) == {True}
        found = re.fullmatch(rf"1;2;{site.id};\d+;(\d+)", start["StringValue"])
        if not found or int(found[1]) < site.oldest:
            raise Refused(500, "-2130575172, Microsoft.SharePoint.SPException")
        rows, at = [], int(found[1])
        for number, (shelf, item, kind) in enumerate(site.log[at : at + self.most_changes], at + 1):
            rows.append(
                {"ChangeToken": {"StringValue": self.token(site, number)}, "ChangeType": kind,
                 "SiteId": site.collection, "Time": "2026-11-27T00:00:00Z", "WebId": site.id}
                | ({"ListId": shelf} if shelf else {}) | ({"ItemId": item} if item else {})
            )  # fmt: skip
        return {"value": rows}

    def token(self, site: Site, number: int) -> str:
        return f"1;2;{site.id};63{number:016d};{number}"

    def _got(self, site: Site, path: str, query: dict[str, str]) -> Any:
        match path:
            case "web":
                chosen = _chosen(query, _WEB)
                said = {"Id": site.id, "ServerRelativeUrl": site.path or "/"}
                said["CurrentChangeToken"] = {"StringValue": self.token(site, len(site.log))}  # type: ignore[assignment]
                return {name: said[name] for name in chosen}
            case "site":
                _chosen(query, {"Id"})
                return {"Id": site.collection}
            case "web/webs":
                _chosen(query, _WEB)
                below = [w for w in self.sites.values() if w.above == site.path]
                return {"value": [{"Id": w.id, "ServerRelativeUrl": w.path} for w in below]}
            case "web/roleassignments":
                return _assigned(query, site.own)
            case "web/lists":
                known = _LIST | ({"ReadSecurity"} if self.edition >= 2019 else set())
                chosen = _chosen(query, known, "RootFolder")
                return {"value": [_about(site, one, chosen) for one in site.shelves]}
        if found := re.fullmatch(r"web/sitegroups/getbyid\((\d+)\)/users", path):
            _chosen(query, _MEMBER)
            if (members := self.groups.get(int(found[1]))) is None:
                raise Refused(403, "-2147024891, System.UnauthorizedAccessException")
            return {"value": members}
        if found := re.fullmatch(r"web/GetFileByServerRelative(Url|Path)\((decodedUrl=)?'(.+)'\)/(.+)", path):  # fmt: skip
            return self._by_name(site, found, query)
        if found := re.fullmatch(r"web/lists\(guid'([0-9a-f-]{36})'\)(/.+)?", path):
            shelf = next((s for s in site.shelves if s.id == found[1]), None)
            if shelf is None:
                raise Refused(404, "-2130575322, Microsoft.SharePoint.SPException")
            if shelf.denied:
                raise Refused(403, "-2147024891, System.UnauthorizedAccessException")
            return self._of_shelf(site, shelf, (found[2] or "")[1:], query)
        raise Refused(404, "-1, Microsoft.SharePoint.Client.ResourceNotFoundException")

    def _by_name(self, site: Site, found: re.Match[str], query: dict[str, str]) -> Any:
        kind, decoded, name, rest = found[1], found[2], found[3].replace("''", "'"), found[4]
        odd = "%" in name or "#" in name
        if bool(decoded) != (kind == "Path") or (odd and kind == "Url"):
            raise Refused(400, "-1, Microsoft.SharePoint.Client.InvalidClientQueryException")
        if kind == "Path" and self.edition < 2019:
            raise Refused(404, "-1, Microsoft.SharePoint.Client.ResourceNotFoundException")
        for shelf in site.shelves:
            for one in shelf.entries.values():
                for file, data in one.attachments.items():
                    if name == self.hung(shelf, one, file) and rest == "$value":
                        return data
                if one.path == name and not one.folder and one.data is not None:
                    if rest == "$value":
                        return one.data
                    if rest == "ListItemAllFields":
                        return self._row(shelf, one, _fields(shelf, query))
        raise Refused(404, "-2147024894, System.IO.FileNotFoundException")

    def hung(self, shelf: Shelf, one: Entry, name: str) -> str:
        return f"{shelf.path}/Attachments/{one.id}/{name}"

    def _of_shelf(self, site: Site, shelf: Shelf, path: str, query: dict[str, str]) -> Any:
        match path:
            case "":
                assert _chosen(query, {"SchemaXml"})
                xml = f'<List DocTemplateUrl="" Title="x" ReadSecurity="{shelf.security}"><Fields/></List>'
                return {"SchemaXml": xml}
            case "roleassignments":
                return _assigned(query, site.own if shelf.own is None else shelf.own)
            case "fields":
                _chosen(query, _FIELD)
                parts = ("InternalName", "Title", "TypeAsString", "Hidden")
                rows = [dict(zip(parts, row, strict=True)) for row in shelf.fields]
                return {"value": [row | {"ReadOnlyField": False} for row in rows]}
            case "items":
                return self._page(site, shelf, query)
        found = re.fullmatch(r"items\((\d+)\)(/.+)?", path)
        one = shelf.entries.get(int(found[1])) if found else None
        if not found or one is None:
            raise Refused(404, "-2130575338, Microsoft.SharePoint.SPException")
        match found[2]:
            case None if one.data is not None and shelf.template in (119, 850) and "," in query.get("$select", "") and "FileRef" not in query["$select"]:  # fmt: skip
                names = {name for name, *_ in shelf.fields} | {"Title"}
                return {n: one.columns.get(n, one.title) for n in _chosen(query, names)}
            case None:
                return self._row(shelf, one, _fields(shelf, query))
            case "/roleassignments":
                above = self._above(site, shelf, one)
                return _assigned(query, above)
            case "/File/$value" if one.data is not None:
                return one.data
            case "/FieldValuesAsHtml":
                values = {name.replace("_", "_x005f_"): v for name, v in one.columns.items()}
                return values | {"Title": one.title}
        raise Refused(404, "-1, Microsoft.SharePoint.Client.ResourceNotFoundException")

    def _above(self, site: Site, shelf: Shelf, one: Entry) -> list[dict[str, Any]]:
        """What holds for it: of an heir SharePoint tells what it inherits."""
        path = one.path
        while path != shelf.path:
            at = next((e for e in shelf.entries.values() if e.path == path), None)
            if at and at.own is not None:
                return at.own
            path = path.rpartition("/")[0]
        return site.own if shelf.own is None else shelf.own

    def _page(self, site: Site, shelf: Shelf, query: dict[str, str]) -> Any:
        skip = query.pop("$skiptoken", "Paged=TRUE&p_ID=0")
        found, top = re.fullmatch(r"Paged=TRUE&p_ID=(\d+)", skip), query.pop("$top", "100")
        if not found or not top.isdecimal():
            raise Refused(400, "-1, Microsoft.SharePoint.Client.InvalidClientQueryException")
        if int(top) > 5000:
            raise Refused(500, "-2147429894, Microsoft.SharePoint.SPQueryThrottledException")
        chosen = _fields(shelf, dict(query))
        ids = sorted(id for id in shelf.entries if id > int(found[1]))
        many = min(int(top), self.most)
        said: dict[str, Any] = {
            "value": [self._row(shelf, shelf.entries[i], chosen) for i in ids[:many]]
        }
        if len(ids) > many:
            more = query | {"$top": top, "$skiptoken": f"Paged=TRUE&p_ID={ids[many - 1]}"}
            told = "&".join(f"{quote(k)}={quote(v)}" for k, v in more.items())
            where = f"{self.url}{quote(site.path)}/_api/web/lists(guid%27{shelf.id}%27)/items"
            said["odata.nextLink"] = f"{where}?{told}"
        return said

    def _row(self, shelf: Shelf, one: Entry, chosen: set[str]) -> dict[str, Any]:
        at = f"2026-04-01T00:{one.version // 60 % 60:02d}:{one.version % 60:02d}Z"
        said: dict[str, Any] = {
            "Id": one.id, "FileSystemObjectType": int(one.folder), "FileRef": one.path,
            "Title": one.title or None, "Modified": at, "owshiddenversion": one.version,
            "HasUniqueRoleAssignments": one.own is not None,
            "OData__ModerationStatus": one.moderation,
        }  # fmt: skip
        if "File/UniqueId" in chosen:
            said["File"] = None if one.data is None else {
                "UniqueId": one.unique, "ContentTag": f"{{{one.unique}}},{one.content},1",
                "ETag": f'"{{{one.unique}}},{one.version}"', "Length": str(len(one.data)),
                "Level": one.level, "MajorVersion": one.major, "TimeLastModified": at,
            }  # fmt: skip
        if "AttachmentFiles/FileName" in chosen:
            said["AttachmentFiles"] = [
                {"FileName": name, "ServerRelativeUrl": self.hung(shelf, one, name)}
                for name in one.attachments
            ]
        wanted = {name.partition("/")[0] for name in chosen}
        return {k: v for k, v in said.items() if k in wanted} | one.more


def _about(site: Site, one: Shelf, chosen: set[str]) -> dict[str, Any]:
    said = {
        "Id": one.id, "Title": one.title, "BaseType": one.base, "BaseTemplate": one.template,
        "Hidden": False, "NoCrawl": False, "IsCatalog": False, "HasExternalDataSource": False,
        "HasUniqueRoleAssignments": one.own is not None, "EnableAttachments": one.base == 0,
        "EnableModeration": False, "DraftVersionVisibility": 0, "ReadSecurity": one.security,
        "DefaultDisplayFormUrl": f"{one.path}/DispForm.aspx",
        "RootFolder": {"ServerRelativeUrl": one.path},
    } | one.about  # fmt: skip
    return {k: v for k, v in said.items() if k in {name.partition("/")[0] for name in chosen}}


def _fields(shelf: Shelf, query: dict[str, str]) -> set[str]:
    known = set(_ITEM)
    if shelf.base == 1:
        return _chosen(query, known | {f"File/{name}" for name in _OF_FILE}, "File")
    known |= {"owshiddenversion"}
    if shelf.about.get("EnableModeration"):
        known |= {"OData__ModerationStatus"}
    return _chosen(query, known | {f"AttachmentFiles/{n}" for n in ("FileName", "ServerRelativeUrl")}, "AttachmentFiles")  # fmt: skip


def _chosen(query: dict[str, str], known: set[str], expand: str = "") -> set[str]:
    """What `$select` names. Nothing else is asked for, and nothing that there is not."""
    chosen = set(query.pop("$select", "Id").split(","))
    inside = {name.partition("/")[0] for name in chosen if "/" in name}
    expanded = set(filter(None, query.pop("$expand", "").split(",")))
    if query or not chosen <= known or inside != expanded or not expanded <= {expand}:
        raise Refused(400, "-1, Microsoft.SharePoint.Client.InvalidClientQueryException")
    return chosen


def _assigned(query: dict[str, str], own: list[dict[str, Any]]) -> dict[str, Any]:
    if query != {"$expand": "Member,RoleDefinitionBindings"}:
        raise Refused(400, "-1, Microsoft.SharePoint.Client.InvalidClientQueryException")
    return {"value": own}


def _write(to: Handler, status: int, data: bytes, kind: str, more: dict[str, str]) -> None:
    to.send_response(status)
    for name, value in {
        "Content-Type": kind,
        "MicrosoftSharePointTeamServices": "16.0.0.10",
    }.items():
        to.send_header(name, value)
    for name, value in more.items():
        to.send_header(name.replace("_", "-"), value)
    to.send_header("Content-Length", str(len(data)))
    to.end_headers()
    to.wfile.write(data)


def send(status: int, data: bytes = b"{}", wait: str = "") -> Answer:
    headers = {"Retry-After": wait} if wait else {}
    return lambda to: _write(to, status, data, "application/json", headers)


def half(to: Handler) -> None:
    """An answer that ends before it is whole."""
    to.send_response(200)
    to.send_header("Content-Type", "application/json")
    to.send_header("Content-Length", "1000")
    to.end_headers()
    to.wfile.write(b'{"value": [{"Id": 1,')
    to.close_connection = True


def drop(to: Handler) -> None:
    to.close_connection = True
    to.connection.close()
