"""A Box after its public API reference: client credentials, folders, collaborations, downloads.

It takes what is documented and refuses everything else, with the vendor's error body.
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
from urllib.parse import parse_qs, urlsplit

SECRET, CLIENT, ENTERPRISE = "himitsu-box-0733", "kura0client0id", "440011"
Answer = Callable[[BaseHTTPRequestHandler], None]
_FIELDS = {
    "type", "id", "etag", "name", "sequence_id", "sha1", "size", "file_version", "modified_at",
    "created_at", "content_modified_at", "item_status", "owned_by", "shared_link", "parent",
    "has_collaborations", "path_collection", "watermark_info", "description",
}  # fmt: skip
_OF_COLLABORATION = {"type", "id", "role", "status", "expires_at", "accessible_by", "item"}
_CODES = {400: "bad_request", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


@dataclass
class Collaboration:
    who: str  # user:login or group:id
    role: str = "viewer"
    status: str = "accepted"
    expires_at: str | None = None
    active: bool = True


@dataclass
class Node:
    id: str
    name: str
    parent: str = "10"
    kind: str = "file"
    data: bytes = b""
    status: str = "active"
    owner: str = "shacho@example.co.jp"
    etag: int = 0
    at: str = "2026-04-01T09:00:00+09:00"
    shared: list[Collaboration] = field(default_factory=list)
    link: dict[str, Any] | None = None
    watermarked: bool = False

    @property
    def sha1(self) -> str:
        return hashlib.sha1(self.data, usedforsecurity=False).hexdigest()


class Refused(Exception):
    def __init__(self, status: int, why: str = "", code: str = "") -> None:
        super().__init__(why)
        self.status, self.why, self.code = status, why, code or _CODES.get(status, "error")


class Box:
    """On loopback; files are handed out at another host (localhost)."""

    kind = "box"

    def __init__(self) -> None:
        self.nodes = {"0": Node("0", "All Files", "", "folder")}
        self.groups: dict[str, tuple[str, list[str]]] = {}  # id: name, logins
        self.tokens: list[str] = []
        self.subject = ("enterprise", ENTERPRISE)
        self.most = 1000
        self.inherits = True  # whether a folder tells of collaborations above it
        self.hidden = set[str]()  # collaborations that the account may not see
        self.seen: dict[str, tuple[str, int]] = {}  # markers that were handed out
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
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "url": f"http://{self.near}",
            "downloads": [f"http://localhost:{self.port}"],
            "client_id": CLIENT,
            "client_secret": SECRET,
            "subject": self.subject[0],
            "subject_id": self.subject[1],
            "folders": ["10"],
            "per_second": 0,
        }

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # --- what its users do --------------------------------------------------------

    def folder(self, id: str, name: str, parent: str = "10", **more: Any) -> Node:
        self.nodes[id] = Node(id, name, parent, "folder", **more)
        return self.nodes[id]

    def put(self, id: str, name: str, text: str, parent: str = "10", **more: Any) -> Node:
        self.nodes[id] = Node(id, name, parent, data=text.encode(), **more)
        return self.nodes[id]

    def share(self, id: str, who: str, role: str = "viewer", **more: Any) -> Collaboration:
        one = Collaboration(who, role, **more)
        self.nodes[id].shared.append(one)
        return one

    # --- requests -----------------------------------------------------------------

    def _faulty(self, handler: BaseHTTPRequestHandler) -> bool:
        self.asked.append(handler.path)
        for place, (words, answer) in enumerate(self.faults):
            if words in handler.path:
                del self.faults[place]
                answer(handler)
                return True
        return False

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        form = parse_qs(handler.rfile.read(int(handler.headers["content-length"])).decode())
        if not self._faulty(handler):
            kind = handler.headers.get("content-type")
            right = (handler.path, kind) == ("/oauth2/token", "application/x-www-form-urlencoded")
            status, said = self._token({k: v[0] for k, v in form.items()}) if right else (405, {})
            _send(handler, status, said)

    def _token(self, own: dict[str, str]) -> tuple[int, dict[str, Any]]:
        right = {"client_id": CLIENT, "client_secret": SECRET, "grant_type": "client_credentials"}
        error, why = "", ""
        if {name: own.get(name) for name in right} != right:
            error, why = "invalid_client", "The client credentials are invalid"
        elif set(own) - set(right) != {"box_subject_type", "box_subject_id"}:
            error, why = "invalid_request", "Invalid grant_type parameter or parameter missing"
        elif own["box_subject_type"] != self.subject[0]:
            why = 'The "box_subject_type" value is unauthorized for this client_id'
            error = "unauthorized_client"
        elif own["box_subject_id"] != self.subject[1]:
            error, why = "invalid_grant", "Grant credentials are invalid"
        if error:
            return 400, {"error": error, "error_description": why}
        self.tokens = [f"token-{len(self.asked)}"]
        said = {"access_token": self.tokens[0], "expires_in": 3600, "token_type": "bearer"}
        return 200, said | {"restricted_to": []}

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        if self._faulty(handler):
            return
        try:
            self._answer(handler)
        except Refused as why:
            body = {
                "type": "error", "status": why.status, "code": why.code,
                "help_url": "http://developers.box.com/docs/#errors",
                "message": why.why, "request_id": "abcdef123456",
            }  # fmt: skip
            _send(handler, why.status, body)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        bearer = handler.headers.get("authorization", "")
        if found := re.fullmatch(r"/d/1/(\d+)/download", parts.path):
            if bearer or handler.headers["host"] != f"localhost:{self.port}":
                raise Refused(400, "credentials of another host")
            one = self.nodes[found[1]]
            data = b"WATERMARK " + one.data if one.watermarked else one.data
            send(handler, 200, data, "application/octet-stream")
        elif bearer.removeprefix("Bearer ") not in self.tokens:
            why = 'Bearer realm="Service", error="invalid_token"'
            send(handler, 401, b"", WWW_Authenticate=why)
        else:
            said = self._said(parts.path, query)
            if isinstance(said, str):
                send(handler, 302, b"", "text/plain", Location=said)
            else:
                _send(handler, 200, said)

    def _said(self, path: str, query: dict[str, str]) -> Any:
        for pattern, answer in self._routes.items():
            if found := re.fullmatch(f"/2.0/{pattern}", path):
                return answer(self, query, *found.groups())
        raise Refused(404, "no such endpoint")

    # --- what it says -------------------------------------------------------------

    def _node(self, id: str, kind: str) -> Node:
        one = self.nodes.get(id)
        if one is None or one.kind != kind:
            raise Refused(404, "Not Found")
        if any(above.status != "active" for above in [one, *self._above(one)]):
            raise Refused(404, "Item is trashed", "trashed")
        return one

    def _above(self, one: Node) -> list[Node]:
        found: list[Node] = []
        while one.parent:
            one = self.nodes[one.parent]
            found.insert(0, one)
        return found

    def _get_folder(self, query: dict[str, str], id: str) -> Any:
        takes(query, "fields", need=("fields",))
        return self._shape(self._node(id, "folder"), query)

    def _get_file(self, query: dict[str, str], id: str) -> Any:
        takes(query, "fields", need=("fields",))
        return self._shape(self._node(id, "file"), query)

    def _items(self, query: dict[str, str], id: str) -> Any:
        takes(query, "fields", "usemarker", "marker", "limit", need=("usemarker",))
        if query["usemarker"] != "true":
            raise Refused(400, "offsets end at 10,000")
        self._node(id, "folder")
        order = {"folder": 0, "file": 1, "web_link": 2}
        found = [n for n in self.nodes.values() if n.parent == id and n.status == "active"]
        found.sort(key=lambda node: order[node.kind])
        return self._page(f"items {id}", query, [self._shape(node, query) for node in found])

    def _collaborations(self, query: dict[str, str], kind: str, id: str) -> Any:
        takes(query, "fields", "marker", "limit")
        one = self._node(id, kind)
        if id in self.hidden or id == "0":
            raise Refused(403, "Access denied", "access_denied_insufficient_permissions")
        # of a folder mostly those above too, which is not documented; of a file, only its own
        places = [*self._above(one), one] if kind == "folder" and self.inherits else [one]
        fields = set(query["fields"].split(",")) if "fields" in query else _OF_COLLABORATION
        if odd := fields - _OF_COLLABORATION:
            raise Refused(400, f"fields {odd}")
        found = []
        for place in places:
            for number, share in enumerate(place.shared):
                said = {
                    "role": share.role, "status": share.status, "expires_at": share.expires_at,
                    "accessible_by": self._who(share),
                    "item": {"type": place.kind, "id": place.id, "name": place.name},
                }  # fmt: skip
                own: dict[str, Any] = {"type": "collaboration", "id": f"9{place.id}{number}"}
                found.append(own | {k: v for k, v in said.items() if k in fields})
        return self._page(f"collaborations {id}", query, found)

    def _who(self, share: Collaboration) -> dict[str, Any] | None:
        kind, _, name = share.who.partition(":")
        if kind == "group":
            called = self.groups[name][0]
            return {"type": "group", "id": name, "name": called, "group_type": "managed_group"}
        if share.status == "pending":
            return None
        own = {"type": "user", "id": str(hash(name) % 10**9), "name": name, "login": name}
        return own | {"is_active": share.active}

    def _memberships(self, query: dict[str, str], id: str) -> Any:
        takes(query, "limit", "offset")
        if id in self.hidden:
            raise Refused(403, "Access denied", "access_denied_insufficient_permissions")
        name, logins = self.groups[id]
        start, limit = int(query.get("offset", 0)), int(query.get("limit", 100))
        if limit > 1000 or start > 10_000:
            raise Refused(400, "limit or offset")
        some = [
            {
                "type": "group_membership", "id": f"8{n}", "role": "member",
                "user": {"type": "user", "id": f"7{n}", "name": login, "login": login},
                "group": {"type": "group", "id": id, "name": name},
            }
            for n, login in enumerate(logins)
        ][start : start + min(limit, self.most)]  # fmt: skip
        return {"entries": some, "total_count": len(logins), "offset": start, "limit": limit}

    def _content(self, query: dict[str, str], id: str) -> Any:
        takes(query, "version")
        self._node(id, "file")
        return f"http://localhost:{self.port}/d/1/{id}/download"

    def _page(self, of: str, query: dict[str, str], found: list[Any]) -> Any:
        limit, marker = int(query.get("limit", 100)), query.get("marker", "")
        if limit > 1000:
            raise Refused(400, "limit")
        if marker and self.seen.get(marker, ("", 0))[0] != of:
            raise Refused(400, "Invalid value for marker")
        start = self.seen[marker][1] if marker else 0
        limit = min(limit, self.most)
        after = None
        if start + limit < len(found):
            after = f"JV9{len(self.seen)}"
            self.seen[after] = (of, start + limit)
        return {"entries": found[start : start + limit], "limit": limit, "next_marker": after}

    def _shape(self, one: Node, query: dict[str, str]) -> dict[str, Any]:
        fields = set(query["fields"].split(",")) if "fields" in query else {"name", "sequence_id"}
        if odd := fields - _FIELDS:
            raise Refused(400, f"fields {odd}")
        owner = {"type": "user", "id": "11", "name": one.owner, "login": one.owner}
        said: dict[str, Any] = {
            "name": one.name, "sequence_id": str(one.etag), "item_status": one.status,
            "modified_at": one.at, "content_modified_at": one.at, "created_at": one.at,
            "owned_by": owner, "shared_link": one.link, "has_collaborations": bool(one.shared),
            "size": len(one.data), "description": "", "parent": {"type": "folder", "id": one.parent},
        }  # fmt: skip
        above = [
            {"type": "folder", "id": n.id, "etag": str(n.etag), "name": n.name}
            for n in self._above(one)
        ]
        said["path_collection"] = {"total_count": len(above), "entries": above}
        if one.kind == "file":
            version = f"55{one.id}{one.sha1[:3]}"
            said["sha1"] = one.sha1
            said["file_version"] = {"type": "file_version", "id": version, "sha1": one.sha1}
            said["watermark_info"] = {"is_watermarked": one.watermarked}
        own = {"type": one.kind, "id": one.id, "etag": str(one.etag)}
        return own | {name: value for name, value in said.items() if name in fields}

    _routes: ClassVar[dict[str, Callable[..., Any]]] = {
        r"folders/(\d+)": _get_folder,
        r"folders/(\d+)/items": _items,
        r"files/(\d+)": _get_file,
        r"files/(\d+)/content": _content,
        r"groups/(\d+)/memberships": _memberships,
        r"(folder|file)s/(\d+)/collaborations": _collaborations,
    }


def takes(query: dict[str, str], *names: str, need: tuple[str, ...] = ()) -> None:
    if (odd := set(query) - set(names)) or (odd := set(need) - set(query)):
        raise Refused(400, f"parameters: {sorted(odd)}")


def _send(handler: BaseHTTPRequestHandler, status: int, said: Any) -> None:
    send(handler, status, json.dumps(said, ensure_ascii=False).encode())


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    kind: str = "application/json",
    **headers: str,
) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Type": kind} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
