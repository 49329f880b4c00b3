"""Google Drive API v3 and Google's sign-in, after their public documentation.

It takes what is documented and refuses everything else, with the vendor's error body. Like Drive, it
tells no permissions with the items of shared drives, in answers only the fields that were asked for, and
in the log of changes how an item is now, once, whatever happened to it.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.google import ACCOUNT, Refused, SignIn, key_file, shown

SCOPE = "https://www.googleapis.com/auth/drive.readonly"
FOLDER = "application/vnd.google-apps.folder"
DOC = "application/vnd.google-apps.document"
SHORTCUT = "application/vnd.google-apps.shortcut"
EXPORT_BYTES = 10_000_000
_OFFICE = "application/vnd.openxmlformats-officedocument."
_EXPORTS = {
    DOC: {f"{_OFFICE}wordprocessingml.document", "text/plain", "application/pdf"},
    "application/vnd.google-apps.spreadsheet": {f"{_OFFICE}spreadsheetml.sheet"},
    "application/vnd.google-apps.presentation": {f"{_OFFICE}presentationml.presentation"},
    "application/vnd.google-apps.drawing": {"application/pdf", "image/png"},
}
_FILE = {
    "id", "name", "mimeType", "parents", "driveId", "trashed", "modifiedTime", "size", "version",
    "sha256Checksum", "md5Checksum", "headRevisionId", "hasAugmentedPermissions",
    "inheritedPermissionsDisabled", "webViewLink", "permissions", "permissionIds",
}  # fmt: skip
_PERMISSION = {
    "id", "type", "role", "emailAddress", "domain", "allowFileDiscovery", "expirationTime",
    "inheritedPermissionsDisabled", "deleted", "view", "displayName", "pendingOwner", "permissionDetails",
}  # fmt: skip
_FIELDS = _FILE | _PERMISSION | {
    "files", "nextPageToken", "incompleteSearch", "kind", "changes", "newStartPageToken",
    "changeType", "removed", "fileId", "file", "time", "drives", "startPageToken",
    "inherited", "inheritedFrom", "permissionType", "restrictions", "driveMembersOnly",
}  # fmt: skip
Answer = Callable[[BaseHTTPRequestHandler], None]


def user(address: str, role: str = "reader", **more: Any) -> dict[str, Any]:
    return {"type": "user", "role": role, "emailAddress": address} | more


def group(address: str, role: str = "reader", **more: Any) -> dict[str, Any]:
    return {"type": "group", "role": role, "emailAddress": address} | more


@dataclass
class Item:
    id: str
    name: str
    parent: str
    data: bytes = b""
    kind: str = "text/plain"
    named: list[dict[str, Any]] = field(default_factory=list)  # permissions on itself
    limited: bool = False
    trashed: bool = False
    at: str = "2026-04-01T00:00:00.000Z"
    version: int = 1


class GDrive:
    """On loopback. Shared drives have members; the roots of My Drive are "root-…" folders."""

    kind = "gdrive"

    def __init__(self) -> None:
        self.drives: dict[str, str] = {"0AEigyoDrive": "営業"}
        self.members: dict[str, list[dict[str, Any]]] = {
            "0AEigyoDrive": [
                user(ACCOUNT, "writer"),
                user("kanri@example.co.jp", "organizer"),
                group("sales@example.co.jp", "fileOrganizer"),
            ]
        }
        self.members_only: set[str] = set()
        self.plain = False  # who may only see that a limited folder is there is told like others
        self.hidden: set[str] = set()  # drives of which the account is no member
        self.viewer = False  # the account may not read permissions
        self.items: dict[str, Item] = {}
        self.log: list[tuple[str, str]] = []  # drive, item
        self.exported: dict[str, bytes] = {}
        self.most = 1000
        self.asked: list[str] = []
        self.faults: list[tuple[str, Answer]] = []  # each once, where the URL has the words
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._get(self)

            def do_POST(self) -> None:
                outer._post(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.near = f"127.0.0.1:{self.port}"
        self.sign_in = SignIn(f"{self.url}/token", SCOPE, {"ito@example.co.jp"})
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.near}"

    @property
    def settings(self) -> dict[str, Any]:
        own = {"key": key_file(), "api": self.url, "sign_in": f"{self.url}/token"}
        return own | {"per_second": 0}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # --- what its users do --------------------------------------------------------

    def put(self, id: str, name: str, parent: str, data: bytes | str = b"", **more: Any) -> Item:
        old = self.items.get(id)
        one = Item(id, name, parent, data.encode() if isinstance(data, str) else data, **more)
        if old:
            one.version, one.at = old.version, f"2026-04-{old.version + 1:02}T00:00:00.000Z"
        self.items[id] = one
        self.touch(id)
        return one

    def folder(self, id: str, name: str, parent: str, **more: Any) -> Item:
        return self.put(id, name, parent, kind=FOLDER, **more)

    def touch(self, id: str) -> None:
        """Something of it changed."""
        self.items[id].version += 1
        self.log.append((self.drive(id), id))

    def move(self, id: str, parent: str) -> None:
        before = self.drive(id)
        self.items[id].parent = parent
        if before != self.drive(id):
            self.log.append((before, id))
        self.touch(id)

    def delete(self, id: str) -> None:
        drive = self.drive(id)
        del self.items[id]
        self.log.append((drive, id))

    def drive(self, id: str) -> str:
        while id in self.items:
            id = self.items[id].parent
        return id if id in self.drives else ""

    def _trashed(self, id: str) -> bool:
        while id in self.items:
            if self.items[id].trashed:
                return True
            id = self.items[id].parent
        return False

    # --- requests -----------------------------------------------------------------

    def _fault(self, handler: BaseHTTPRequestHandler) -> bool:
        self.asked.append(handler.path)
        for place, (words, answer) in enumerate(self.faults):
            if words in unquote(handler.path):
                del self.faults[place]
                answer(handler)
                return True
        return False

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        data = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        if self._fault(handler):
            return
        form = {name: some[0] for name, some in parse_qs(data.decode()).items()}
        grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
        kind = handler.headers.get("content-type")
        if handler.path != "/token" or kind != "application/x-www-form-urlencoded":
            send(handler, 404, b"")
        elif set(form) != {"grant_type", "assertion"} or form["grant_type"] != grant:
            said = {"error": "unsupported_grant_type", "error_description": "Invalid grant_type"}
            send(handler, 400, json.dumps(said).encode())
        else:
            status, body = self.sign_in.answer(form["assertion"])
            send(handler, status, json.dumps(body).encode())

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        if self._fault(handler):
            return
        parts = urlsplit(handler.path)
        some = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        query = {name: values[0] for name, values in some.items()}
        try:
            if not self.sign_in.knows(handler.headers.get("authorization") or ""):
                raise Refused(401, "authError", "Invalid Credentials")
            if any(len(values) > 1 for values in some.values()):
                raise Refused(400, "badRequest", "Repeated parameter")
            for pattern, answer in self._paths.items():
                if found := re.fullmatch(pattern, parts.path):
                    body = answer(self, query, *found.groups())
                    break
            else:
                raise Refused(404, "notFound", "Not Found")
            if not isinstance(body, bytes):
                mask = query.get("fields", "kind")
                body = json.dumps(shown(body, mask, _FIELDS), ensure_ascii=False).encode()
            send(handler, 200, body)
        except Refused as why:
            send(handler, why.status, json.dumps(why.body).encode())

    def _start(self, query: dict[str, str]) -> Any:
        takes(query, "driveId", "supportsAllDrives", "fields")
        self._drive(query)
        query.setdefault("fields", "startPageToken,kind")
        return {"startPageToken": str(len(self.log) + 1), "kind": "drive#startPageToken"}

    def _changes(self, query: dict[str, str]) -> Any:
        takes(
            query, "driveId", "supportsAllDrives", "includeItemsFromAllDrives", "pageToken",
            "pageSize", "includeRemoved", "fields", "spaces", need=("pageToken",),
        )  # fmt: skip
        drive, token = self._drive(query), query["pageToken"]
        if not token.isdecimal() or not 0 < int(token) <= len(self.log) + 1:
            raise Refused(400, "invalid", "Invalid Value", "pageToken")
        last: dict[str, int] = {}
        for place, (where, id) in enumerate(self.log, 1):
            if where == drive:
                last[id] = place
        told = sorted((place, id) for id, place in last.items() if place >= int(token))
        page, rest = told[: self._size(query)], told[self._size(query) :]
        body: dict[str, Any] = {"changes": [self._change(drive, id) for _, id in page]}
        if rest:
            return body | {"nextPageToken": str(rest[0][0])}
        return body | {"newStartPageToken": str(len(self.log) + 1)}

    def _change(self, drive: str, id: str) -> dict[str, Any]:
        one: dict[str, Any] = {"kind": "drive#change", "changeType": "file", "fileId": id}
        if id not in self.items or self.drive(id) != drive:
            return one | {"removed": True}
        return one | {"removed": False, "file": self._file(self.items[id])}

    def _files(self, query: dict[str, str]) -> Any:
        takes(
            query, "corpora", "driveId", "supportsAllDrives", "includeItemsFromAllDrives", "q",
            "pageSize", "pageToken", "fields", "orderBy", "spaces",
        )  # fmt: skip
        corpora = query.get("corpora", "user")
        if corpora not in ("user", "drive", "allDrives", "domain"):
            raise Refused(400, "invalid", "Invalid Value", "corpora")
        if (corpora == "drive") != ("driveId" in query):
            raise Refused(400, "invalid", "driveId must be specified exactly for drive", "driveId")
        wide = "true" == query.get("supportsAllDrives") == query.get("includeItemsFromAllDrives")
        if corpora in ("drive", "allDrives") and not wide:
            raise Refused(403, "teamDrivesNotSupported", "includeItemsFromAllDrives is needed")
        drive = self._drive(query) if corpora == "drive" else None
        parents = parsed(query.get("q", ""))
        found = [
            one for one in self.items.values()
            if not self._trashed(one.id) and (parents is None or one.parent in parents)
            and (drive is None or self.drive(one.id) == drive)
            and self.drive(one.id) not in self.hidden
            and (corpora != "user" or not self.drive(one.id))
        ]  # fmt: skip
        start = 0
        if token := query.get("pageToken"):
            if not re.fullmatch(r"~!![0-9]+", token):
                raise Refused(400, "invalid", "Invalid Value", "pageToken")
            start = int(token[3:])
        end = start + self._size(query)
        body: dict[str, Any] = {"incompleteSearch": False, "kind": "drive#fileList"}
        body["files"] = [self._file(one) for one in found[start:end]]
        return body | ({"nextPageToken": f"~!!{end}"} if end < len(found) else {})

    def _one(self, query: dict[str, str], id: str) -> Any:
        takes(query, "supportsAllDrives", "fields", "alt", "acknowledgeAbuse")
        item = self._item(id, query)
        if query.get("alt") == "media":
            if item.kind.startswith("application/vnd.google-apps."):
                message = "Only files with binary content can be downloaded. Use Export with Docs Editors files."
                raise Refused(403, "fileNotDownloadable", message, "alt")
            return item.data
        return self._file(item)

    def _export(self, query: dict[str, str], id: str) -> Any:
        takes(query, "mimeType", need=("mimeType",))
        item = self._item(id, query | {"supportsAllDrives": "true"})
        if item.kind not in _EXPORTS:
            raise Refused(403, "fileNotExportable", "Export only supports Docs Editors files.")
        if query["mimeType"] not in _EXPORTS[item.kind]:
            raise Refused(400, "badRequest", "The requested conversion is not supported.")
        if len(item.data) > EXPORT_BYTES:
            raise Refused(403, "exportSizeLimitExceeded", "This file is too large to be exported.")
        return item.data

    def _permissions(self, query: dict[str, str], id: str) -> Any:
        takes(query, "supportsAllDrives", "pageSize", "pageToken", "fields")
        if id in self.drives and id not in self.hidden:
            if query.get("supportsAllDrives") != "true":
                raise not_found(id)
            told = self.members[id]
        else:
            self._item(id, query)
            told = self._effective(id)
        if self.viewer:
            message = "The user does not have sufficient permissions for this file."
            raise Refused(403, "insufficientFilePermissions", message)
        size = int(query.get("pageSize", "100"))
        if not 1 <= size <= 100:
            raise Refused(400, "invalid", "Invalid Value", "pageSize")
        size, start = min(size, self.most), int(query.get("pageToken", "0"))
        body: dict[str, Any] = {"permissions": told[start : start + size]}
        more = start + size < len(told)
        return body | ({"nextPageToken": str(start + size)} if more else {})

    def _drive_list(self, query: dict[str, str]) -> Any:
        takes(query, "pageSize", "pageToken", "q", "useDomainAdminAccess", "fields")
        if not 1 <= int(query.get("pageSize", "10")) <= 100:
            raise Refused(400, "invalid", "Invalid Value", "pageSize")
        seen = [(i, name) for i, name in self.drives.items() if i not in self.hidden]
        return {
            "drives": [
                {
                    "id": i,
                    "name": name,
                    "restrictions": {"driveMembersOnly": i in self.members_only},
                }
                for i, name in seen
            ]
        }

    _paths: ClassVar[dict[str, Callable[..., Any]]] = {
        r"/drive/v3/changes/startPageToken": _start,
        r"/drive/v3/changes": _changes,
        r"/drive/v3/files": _files,
        r"/drive/v3/files/([\w-]+)": _one,
        r"/drive/v3/files/([\w-]+)/export": _export,
        r"/drive/v3/files/([\w-]+)/permissions": _permissions,
        r"/drive/v3/drives": _drive_list,
    }

    # --- what it says -------------------------------------------------------------

    def _drive(self, query: dict[str, str]) -> str:
        drive = query.get("driveId", "")
        if drive and query.get("supportsAllDrives") != "true":
            raise Refused(403, "teamDrivesNotSupported", "supportsAllDrives is needed")
        if drive and (drive not in self.drives or drive in self.hidden):
            raise Refused(404, "notFound", f"Shared drive not found: {drive}", "driveId")
        return drive

    def _size(self, query: dict[str, str]) -> int:
        size = query.get("pageSize", "100")
        if not size.isdecimal() or not 1 <= int(size) <= 1000:
            raise Refused(400, "invalid", "Invalid Value", "pageSize")
        return min(int(size), self.most)

    def _item(self, id: str, query: dict[str, str]) -> Item:
        item = self.items.get(id)
        drive = self.drive(id) if item else ""
        if item is None or drive in self.hidden or (drive and "supportsAllDrives" not in query):
            raise not_found(id)
        return item

    def _effective(self, id: str) -> list[dict[str, Any]]:
        """Direct and inherited, as Drive adds them up."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        up, closed = id, False
        while up in self.items:
            for one in self.items[up].named:
                if not closed or one["role"] in ("owner", "organizer"):
                    self._told(found, one, inherited=up != id)
            closed |= self.items[up].limited
            up = self.items[up].parent
        for one in self.members.get(up, []):
            if not closed or one["role"] == "organizer":
                self._told(found, one, inherited=True)
            else:
                seen = one if self.plain else one | {"view": "metadata"}
                self._told(found, seen, inherited=True)
        return list(found.values())

    def _told(self, found: Any, one: dict[str, Any], inherited: bool) -> None:
        who = (one["type"], one.get("emailAddress") or one.get("domain") or "")
        detail = {"permissionType": "file", "role": one["role"], "inherited": inherited}
        told = found.setdefault(who, {"id": f"p{len(found)}"} | one | {"permissionDetails": []})
        told["permissionDetails"].append(detail)

    def _file(self, item: Item) -> dict[str, Any]:
        drive = self.drive(item.id)
        said: dict[str, Any] = {
            "id": item.id, "name": item.name, "mimeType": item.kind, "parents": [item.parent],
            "trashed": self._trashed(item.id), "modifiedTime": item.at, "version": str(item.version),
        }  # fmt: skip
        if not item.kind.startswith("application/vnd.google-apps."):
            said |= {"size": str(len(item.data)), "headRevisionId": f"r{item.version}"}
            said["sha256Checksum"] = hashlib.sha256(item.data).hexdigest()
        if item.limited:
            said["inheritedPermissionsDisabled"] = True
        if drive:
            return said | {"driveId": drive, "hasAugmentedPermissions": bool(item.named)}
        if self.viewer:  # only who may share is told
            return said
        told = [
            {name: value for name, value in one.items() if name != "permissionDetails"}
            for one in self._effective(item.id)
        ]
        return said | {"permissions": told}


def takes(query: dict[str, str], *names: str, need: tuple[str, ...] = ()) -> None:
    for name in query:
        if name not in names:
            raise Refused(400, "badRequest", f'Unknown name "{name}"', name)
    for name in need:
        if name not in query:
            raise Refused(400, "required", f"Required parameter: {name}", name)


def parsed(q: str) -> set[str] | None:
    """Whose children are wanted; None: all. Only what the connector has reason to ask."""
    if q == "trashed = false":
        return None
    found = re.fullmatch(r"\((.+)\) and trashed = false", q)
    parts = found[1].split(" or ") if found else []
    ids = [re.fullmatch(r"'([\w-]+)' in parents", part) for part in parts]
    if not ids or not all(ids):
        raise Refused(400, "invalid", "Invalid Value", "q")
    return {one[1] for one in ids if one}


def not_found(id: str) -> Refused:
    return Refused(404, "notFound", f"File not found: {id}.", "fileId")


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json; charset=UTF-8")
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)
