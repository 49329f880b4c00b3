"""Microsoft 365 after Microsoft's public documentation: Graph 1.0, and the groups of a site.

Checked: path, token and its audience, parameters by name, `Prefer`. A refusal is a status and `{"error": {"code", "message", "innerError"}}`. What SharePoint's
deltas leave out (`cTag`, paths, names of what is deleted) is left out.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fakes.entra import CLIENT, SECRET, TENANT, Entra, NotIn
from tests.fakes.graph_permissions import guid, user

TEAM = "33333333-cccc-4ccc-8ccc-333333333333"
Answer = Callable[[BaseHTTPRequestHandler], None]
_PREFER = {
    "deltashowremovedasdeleted", "deltatraversepermissiongaps", "deltashowsharingchanges",
    "hierarchicalsharing",
}  # fmt: skip
_SELECT = {
    "id", "name", "size", "eTag", "file", "folder", "package", "remoteItem", "malware", "root",
    "deleted", "parentReference", "shared", "lastModifiedDateTime",
}  # fmt: skip


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


@dataclass
class Node:
    id: str
    name: str
    parent: str
    data: bytes | None = None  # None: a folder
    number: int = 1
    own: list[dict[str, Any]] | None = None  # permissions, where they are its own
    at: str = "2026-04-01T00:00:00Z"
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Library:
    id: str
    name: str
    path: str  # of its webUrl
    nodes: dict[str, Node] = field(default_factory=dict)
    log: list[tuple[str, bool]] = field(default_factory=list)  # what changed, whether by sharing

    @property
    def root(self) -> Node:
        return next(n for n in self.nodes.values() if not n.parent)


class Microsoft:
    """On loopback: sign-in, Graph and SharePoint as 127.0.0.1, downloads as localhost."""

    kind = "sharepoint"

    def __init__(self, key: rsa.RSAPrivateKey | None = None) -> None:
        self.sites = {"sites/eigyo": ["L1"]}
        self.people: dict[str, str] = {"ito@example.co.jp": "L2"}  # OneDrive
        self.channels: dict[str, tuple[str, str] | None] = {}  # id: drive and folder
        self.libraries = {
            "L1": Library("b!L1", "ドキュメント", "/sites/eigyo/Shared%20Documents"),
            "L2": Library("b!L2", "OneDrive", "/personal/ito/Documents"),
        }
        self.groups: dict[str, list[dict[str, Any]]] = {}
        self.owners: dict[str, list[dict[str, Any]]] = {}
        self.site_groups: dict[str, list[dict[str, Any]]] = {}
        self.directory: dict[str, dict[str, Any]] = {}
        self.hierarchical = True  # whether the application may have `hierarchicalsharing`
        self.applied: dict[str, str] = {}  # headers that say which preferences were followed
        self.most = 200
        self.oldest: dict[str, int] = {}  # by drive: a token before that is gone
        self.resync = True  # whether a 410 says where to begin
        self.asked: list[str] = []
        self.faults: list[tuple[str, Answer]] = []  # each once, where the URL has the words
        self._ids = itertools.count(1)
        for library in self.libraries.values():
            library.nodes["01ROOT"] = Node("01ROOT", "root", "", own=[user("ito@example.co.jp")])
            library.log.append(("01ROOT", False))
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self, b"")

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                outer._answer(self, self.rfile.read(size))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.near = f"127.0.0.1:{self.port}"
        self.entra = Entra(self.url, key)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.near}"

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "tenant": TENANT, "client_id": CLIENT, "client_secret": SECRET,
            "sharepoint": self.url, "login": self.url, "graph": self.url,
            "media": [f"http://localhost:{self.port}"], "sites": ["/sites/eigyo"], "per_second": 0,
        }  # fmt: skip

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # --- what its users do --------------------------------------------------------

    def put(self, path: str, data: bytes | str = b"", library: str = "L1", **more: Any) -> Node:
        """A file, with the folders above it."""
        drive = self.libraries[library]
        *folders, name = path.split("/")
        above = drive.root
        for folder in folders:
            above = self._child(drive, above.id, folder) or self._new(drive, folder, above.id, None)
        data = data.encode() if isinstance(data, str) else data
        if old := self._child(drive, above.id, name):
            old.data, old.number = data, old.number + 1
            drive.log.append((old.id, False))
            return old
        return self._new(drive, name, above.id, data, **more)

    def find(self, path: str, library: str = "L1") -> Node:
        drive = self.libraries[library]
        at = drive.root
        for name in filter(None, path.split("/")):
            found = self._child(drive, at.id, name)
            assert found, path
            at = found
        return at

    def move(self, path: str, to: str, library: str = "L1") -> None:
        """Rename or move: the id stays, and nothing is said of what is below."""
        drive, node = self.libraries[library], self.find(path, library)
        *folders, node.name = to.split("/")
        node.parent = self.find("/".join(folders), library).id
        node.number += 1
        drive.log.append((node.id, False))

    def delete(self, path: str, library: str = "L1") -> None:
        """Of what was below nothing is said."""
        drive, gone = self.libraries[library], [self.find(path, library).id]
        drive.log.append((gone[0], False))
        for id in gone:
            gone += [n.id for n in drive.nodes.values() if n.parent == id]
            del drive.nodes[id]

    def share(
        self, path: str, *own: dict[str, Any], library: str = "L1", silent: bool = False
    ) -> None:
        """Permissions of its own, of which a delta may say nothing."""
        node = self.find(path, library)
        node.own, node.number = list(own), node.number + 1
        if not silent:
            self.libraries[library].log.append((node.id, True))

    def inherit(self, path: str) -> None:
        node = self.find(path)
        node.own, node.number = None, node.number + 1
        self.libraries["L1"].log.append((node.id, True))

    def _child(self, drive: Library, parent: str, name: str) -> Node | None:
        some = (n for n in drive.nodes.values() if n.parent == parent and n.name == name)
        return next(some, None)

    def _new(self, drive: Library, name: str, parent: str, data: bytes | None, **more: Any) -> Node:
        node = Node(f"01ITEM{next(self._ids):06}", name, parent, data, **more)
        drive.nodes[node.id] = node
        drive.log.append((node.id, False))
        return node

    # --- requests -----------------------------------------------------------------

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.asked.append(handler.path)
        for place, (words, answer) in enumerate(self.faults):
            if words in handler.path:
                del self.faults[place]
                return answer(handler)
        parts = urlsplit(handler.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        path = unquote(parts.path)
        try:
            if path == "/download":
                self._download(handler, query)
            elif path == f"/{TENANT}/oauth2/v2.0/token":
                send(handler, 200, self.entra.token(body))
            elif path.startswith("/v1.0/"):
                self._known(handler, self.url)
                if path.endswith("/content"):
                    return self._content(handler, path)
                if handler.headers.get("accept") != "application/json":
                    raise Refused(406, "notAcceptable")
                send(handler, 200, self._graph(handler, path[5:], query), **self.applied)
            elif found := re.fullmatch(r"(/.+)/_api/web/sitegroups/getbyid\((\d+)\)/users", path):
                self._known(handler, self.url, "certificate")
                takes(query, "$select")
                if handler.headers.get("accept") != "application/json;odata=nometadata":
                    raise Refused(406, "notAcceptable")
                sites = {unquote(x.path).rpartition("/")[0] for x in self.libraries.values()}
                if found[2] not in self.site_groups or found[1] not in sites:
                    raise Refused(404, "-2146232832")
                send(handler, 200, {"value": self.site_groups[found[2]]})
            else:
                send(handler, 400 if "oauth2" in path else 404, NotIn(90002).said)
        except NotIn as why:
            send(handler, 401, why.said)
        except Refused as why:
            inner = {"date": "2026-04-01T00:00:00", "request-id": guid(1)}
            error = {"code": why.code, "message": why.message, "innerError": inner}
            send(handler, why.status, {"error": error}, **why.headers)
        except OSError:
            pass

    def _known(self, handler: BaseHTTPRequestHandler, host: str, how: str = "") -> None:
        token = handler.headers.get("authorization", "")
        if not re.fullmatch(rf"Bearer token-{how or '(secret|certificate)'}-\d+", token):
            raise Refused(401, "InvalidAuthenticationToken", "Access token is empty.")
        if f"http://{handler.headers['host']}" != host:
            raise Refused(401, "InvalidAuthenticationToken", "Invalid audience.")

    def _content(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        found = re.fullmatch(r"/v1.0/drives/([^/]+)/items/([^/]+)/content", path)
        if not found:
            raise Refused(400, "BadRequest")
        node = self._node(self._drive(found[1]), found[2])
        if node.data is None:
            raise Refused(400, "invalidRequest", "Only files can be downloaded.")
        where = f"http://localhost:{self.port}/download?drive={quote(found[1])}&id={node.id}&tempauth=v1"
        send(handler, 302, b"", Location=where)

    def _download(self, handler: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        if handler.headers.get("authorization") or query.get("tempauth") != "v1":
            raise Refused(401, "unauthenticated")  # the link alone lets in
        if not handler.headers["host"].startswith("localhost:"):
            raise Refused(404, "itemNotFound")
        node = self._node(self._drive(query["drive"]), query["id"])
        send(handler, 200, node.data or b"", "application/octet-stream")

    def _graph(
        self, handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]
    ) -> dict[str, Any]:
        for pattern, answer in self._paths.items():
            if found := re.fullmatch(pattern, path):
                self._headers = handler.headers
                return answer(self, query, *found.groups())
        raise Refused(400, "BadRequest", f"Resource not found for the segment '{path}'.")

    def _site(self, query: dict[str, str], host: str, path: str = "") -> dict[str, Any]:
        takes(query)
        if host != self.near or path not in self.sites:
            raise Refused(404, "itemNotFound", "Requested site could not be found")
        id = f"{self.near.partition(':')[0]},{guid(1)},{guid(len(path))}"
        return {"id": id, "name": path, "webUrl": f"{self.url}/{path}"}

    def _site_drives(self, query: dict[str, str], id: str) -> dict[str, Any]:
        takes(query, "$select", "$skiptoken")
        path = next(p for p in self.sites if id.endswith(guid(len(p))))
        return self._page(query, [self._said(self.libraries[n]) for n in self.sites[path]])

    def _user_drive(self, query: dict[str, str], name: str) -> dict[str, Any]:
        takes(query, "$select")
        if name not in self.people:
            raise Refused(404, "itemNotFound", "User's mysite not found.")
        return self._said(self.libraries[self.people[name]])

    def _one_drive(self, query: dict[str, str], id: str) -> dict[str, Any]:
        takes(query, "$select")
        return self._said(self._drive(id))

    def _said(self, library: Library) -> dict[str, Any]:
        return {
            "id": library.id, "name": library.name, "webUrl": f"{self.url}{library.path}",
        }  # fmt: skip

    def _team_channels(self, query: dict[str, str], id: str) -> dict[str, Any]:
        takes(query, "$select", "$skiptoken")
        if id != TEAM:
            raise Refused(404, "NotFound", "No team found with Group Id")
        return self._page(query, [{"id": c, "displayName": c} for c in self.channels])

    def _files_folder(self, query: dict[str, str], id: str, channel: str) -> dict[str, Any]:
        takes(query)
        if not (where := self.channels[channel]):
            raise Refused(404, "NotFound", "Folder location for channel is not ready yet")
        drive = self.libraries[where[0]]
        said = self._item(drive, self.find(where[1], where[0]), delta=False)
        return said | {"parentReference": {"driveId": drive.id, "driveType": "documentLibrary"}}

    def _members(self, query: dict[str, str], id: str) -> dict[str, Any]:
        takes(query, "$select", "$top", "$skiptoken")
        if id not in self.groups:
            raise Refused(404, "Request_ResourceNotFound")
        return self._page(query, self.groups[id])

    def _group_owners(self, query: dict[str, str], id: str) -> dict[str, Any]:
        takes(query, "$select", "$top", "$skiptoken")
        return self._page(query, self.owners.get(id, []))

    def _user(self, query: dict[str, str], id: str) -> dict[str, Any]:
        takes(query, "$select")
        if id not in self.directory:
            raise Refused(404, "Request_ResourceNotFound")
        return self.directory[id]

    def _permissions(self, query: dict[str, str], id: str, item: str) -> dict[str, Any]:
        """Those that hold, be they inherited or not; `inheritedFrom` is not said."""
        takes(query, "$skiptoken")
        drive = self._drive(id)
        node = self._node(drive, item)
        found = self._effective(drive, node)
        return self._page(query, [{"id": str(n)} | one for n, one in enumerate(found)])

    def _effective(self, drive: Library, node: Node) -> list[dict[str, Any]]:
        while node.own is None:
            node = drive.nodes[node.parent]
        return node.own

    def _get(self, query: dict[str, str], id: str, item: str) -> dict[str, Any]:
        takes(query, "$select")
        drive = self._drive(id)
        return self._item(drive, self._node(drive, item), delta=False)

    def _root(self, query: dict[str, str], id: str) -> dict[str, Any]:
        takes(query, "$select")
        return {"id": self._drive(id).root.id}

    def _by_path(self, query: dict[str, str], id: str, path: str) -> dict[str, Any]:
        takes(query, "$select")
        drive = self._drive(id)
        at: Node | None = drive.root
        for name in path.split("/"):
            at = self._child(drive, at.id, name) if at else None
        if not at:
            raise Refused(404, "itemNotFound", "The resource could not be found.")
        return self._item(drive, at, delta=False)

    def _delta(self, query: dict[str, str], id: str) -> dict[str, Any]:
        takes(query, "$select", "token")
        if not set(query.get("$select", "id").split(",")) <= _SELECT:
            raise Refused(400, "invalidRequest", "$select")
        prefer = {p.strip() for p in self._headers.get("prefer", "").split(",")}
        if prefer != _PREFER:
            raise Refused(400, "invalidRequest", f"Prefer: {prefer}")
        drive = self._drive(id)
        began, end, skip = (int(n) for n in query.get("token", "0.0.0").split("."))
        here = f"{self.url}/v1.0/drives/{quote(id)}/root/delta?"
        if "$select" in query:
            here += f"$select={query['$select']}&"
        if began < self.oldest.get(id, 0) and "token" in query:
            more = {"Location": f"{here}token=0.0.0"} if self.resync else {}
            raise Refused(410, "resyncChangesApplyDifferences", "Resync required", **more)
        end = end or len(drive.log)
        if began == 0:
            changed = [(i, False) for i in drive.nodes]
        else:
            latest = dict.fromkeys(i for i, _ in drive.log[began:end])
            changed = [(i, any(s for j, s in drive.log[began:end] if i == j)) for i in latest]
            changed = [(drive.root.id, False), *(c for c in changed if c[0] != drive.root.id)]
            changed[0] = (
                drive.root.id,
                any(s for j, s in drive.log[began:end] if j == drive.root.id),
            )
        some = changed[skip : skip + self.most]
        page: dict[str, Any] = {"value": [self._change(drive, *one) for one in some]}
        if skip + self.most < len(changed):
            page["@odata.nextLink"] = f"{here}token={began}.{end}.{skip + self.most}"
        else:
            page["@odata.deltaLink"] = f"{here}token={end}.0.0"
        return page

    def _change(self, drive: Library, id: str, shared: bool) -> dict[str, Any]:
        if id not in drive.nodes:
            return {
                "id": id,
                "deleted": {"state": "deleted"},
                "parentReference": {"driveId": drive.id},
            }
        said = self._item(drive, drive.nodes[id], delta=True)
        return said | ({"@microsoft.graph.sharedChanged": "True"} if shared else {})

    def _item(self, drive: Library, node: Node, *, delta: bool) -> dict[str, Any]:
        said: dict[str, Any] = {
            "id": node.id, "name": node.name, "eTag": f'"{{{node.id}}},{node.number}"',
            "lastModifiedDateTime": node.at, "size": len(node.data or b""),
            "parentReference": {"driveId": drive.id, "id": node.parent},
        }  # fmt: skip
        if not node.parent:
            said["root"] = {}
            del said["parentReference"]["id"]
        if node.data is None:
            said["folder"] = {"childCount": 1}
        else:
            digest = base64.b64encode(hashlib.sha1(node.data).digest()).decode()
            said["file"] = {"mimeType": "text/plain", "hashes": {"quickXorHash": digest}}
        own = self._effective(drive, node)
        told = node.own is not None if self.hierarchical else any("link" in p for p in own)
        if delta and told:
            said["shared"] = {}
        return said | node.more

    def _page(self, query: dict[str, str], found: list[dict[str, Any]]) -> dict[str, Any]:
        skip = int(query.get("$skiptoken", 0))
        page: dict[str, Any] = {"value": found[skip : skip + self.most]}
        if skip + self.most < len(found):
            path = self.asked[-1].partition("&$skiptoken")[0].partition("?$skiptoken")[0]
            mark = "&" if "?" in path else "?"
            page["@odata.nextLink"] = f"{self.url}{path}{mark}$skiptoken={skip + self.most}"
        return page

    def _drive(self, id: str) -> Library:
        for library in self.libraries.values():
            if library.id == id:
                return library
        raise Refused(404, "itemNotFound", "The resource could not be found.")

    def _node(self, drive: Library, id: str) -> Node:
        if id not in drive.nodes:
            raise Refused(404, "itemNotFound", "The resource could not be found.")
        return drive.nodes[id]

    _paths: ClassVar[dict[str, Callable[..., dict[str, Any]]]] = {
        r"/sites/([^/]+?):/(.+)": _site,
        r"/sites/([^/:]+:\d+)": _site,
        r"/sites/([^/]+)/drives": _site_drives,
        r"/users/([^/]+)/drive": _user_drive,
        r"/users/([^/]+)": _user,
        r"/drives/([^/]+)": _one_drive,
        r"/drives/([^/]+)/root/delta": _delta,
        r"/drives/([^/]+)/root": _root,
        r"/drives/([^/]+)/root:/(.+)": _by_path,
        r"/drives/([^/]+)/items/([^/]+)/permissions": _permissions,
        r"/drives/([^/]+)/items/([^/]+)": _get,
        r"/groups/([^/]+)/transitiveMembers": _members,
        r"/groups/([^/]+)/owners": _group_owners,
        r"/teams/([^/]+)/channels": _team_channels,
        r"/teams/([^/]+)/channels/([^/]+)/filesFolder": _files_folder,
    }


def takes(query: dict[str, str], *names: str) -> None:
    if odd := set(query) - set(names):
        raise Refused(400, "invalidRequest", f"parameters: {sorted(odd)}")


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes | dict[str, Any] = b"",
    kind: str = "application/json",
    **headers: str,
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    handler.send_response(status)
    for name, value in ({"Content-Type": kind} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
