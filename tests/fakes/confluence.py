"""A Confluence after Atlassian's public API documentation: Data Center's REST API, or Cloud's v1 and v2.

It takes what is documented and refuses everything else, with the vendor's error body.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

TOKEN, MAIL = "himitsu-pat-0451", "kura@example.co.jp"
Answer = Callable[[BaseHTTPRequestHandler], None]
_EXPAND = {
    "version", "space", "ancestors", "metadata.labels", "body.storage",
    "restrictions.read.restrictions.user", "restrictions.read.restrictions.group",
    "children.attachment.version",
}  # fmt: skip
_REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}


@dataclass
class Content:
    id: str
    title: str
    body: str = ""
    space: str = "EIGYO"
    above: str = ""  # parent
    kind: str = "page"
    status: str = "current"
    number: int = 1
    labels: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)  # who may view, where anybody is named
    groups: list[str] = field(default_factory=list)
    page: str = ""  # of an attachment
    data: bytes = b""


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Confluence:
    """On loopback, below /confluence (Data Center) or /wiki (Cloud)."""

    kind = "confluence"

    def __init__(self, edition: str = "datacenter") -> None:
        self.cloud = edition == "cloud"
        self.edition, self.context = edition, "/wiki" if self.cloud else "/confluence"
        self.spaces = {"EIGYO": "global", "~ito": "personal"}
        self.readers: dict[str, list[tuple[str, str]] | None] = {
            "EIGYO": [("group", "営業部"), ("user", "ito")], "~ito": [("user", "ito")],
        }  # fmt: skip
        self.contents: dict[str, Content] = {}
        self.folders: dict[str, Content] = {}  # Cloud: in no search, but above pages
        self.mails: dict[str, str] = {}
        self.unfound: set[str] = set()  # which Cloud's search does not know yet
        self.most = 100
        self.inner = 200  # users in one answer
        self.links = True  # whether a listing names its next page
        self.asked: list[str] = []
        self.faults: list[tuple[str, Answer]] = []  # each once, where the URL has the words
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._get(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.near = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.near}{self.context}"

    @property
    def settings(self) -> dict[str, Any]:
        own = {"url": self.url, "edition": self.edition, "token": TOKEN, "per_second": 0}
        return own | (
            {"user": MAIL, "media": f"http://localhost:{self.port}"} if self.cloud else {}
        )

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # --- what its users do --------------------------------------------------------

    def put(self, id: str, title: str, body: str = "", **more: Any) -> Content:
        one = Content(id, title, body, **more)
        if old := self.contents.get(id):
            one.number = old.number + 1
        self.contents[id] = one
        return one

    def attach(self, id: str, page: str, name: str, data: bytes) -> Content:
        space = self.contents[page].space
        return self.put(id, name, kind="attachment", page=page, data=data, space=space)

    # --- requests -----------------------------------------------------------------

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        for place, (words, answer) in enumerate(self.faults):
            if words in handler.path:
                del self.faults[place]
                return answer(handler)
        parts = urlsplit(handler.path)
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        try:
            if parts.path == "/signed":  # another host: who has the link may read
                if handler.headers.get("authorization"):
                    raise Refused(400, "credentials of another host")
                return send(handler, 200, self.contents[query["id"]].data, "application/pdf")
            self._known(handler)
            if not parts.path.startswith(f"{self.context}/"):
                raise Refused(404, "not here")
            path = parts.path[len(self.context) :]
            if found := re.fullmatch(
                r"/rest/api/content/(\d+)/child/attachment/(\w+)/download", path
            ):
                if not self.cloud or self.contents[found[2]].page != found[1]:
                    raise Refused(404, "no such attachment")
                away = f"http://localhost:{self.port}/signed?id={found[2]}"
                return send(handler, 302, b"", "text/plain", Location=away)
            if found := re.fullmatch(r"/download/attachments/(\d+)/(\w+)", path):
                if self.cloud:
                    raise Refused(401, "Basic authentication is not supported here")
                return send(handler, 200, self.contents[found[2]].data, "application/pdf")
            if handler.headers.get("accept") != "application/json":
                raise Refused(400, "Accept")
            body = self._answer(path, query)
            send(handler, 200, json.dumps(body, ensure_ascii=False).encode())
        except Refused as why:
            send(handler, why.status, json.dumps(self._error(why, parts.path)).encode())

    def _known(self, handler: BaseHTTPRequestHandler) -> None:
        want = f"Bearer {TOKEN}"
        if self.cloud:
            want = f"Basic {base64.b64encode(f'{MAIL}:{TOKEN}'.encode()).decode()}"
        if handler.headers.get("authorization") != want:
            raise Refused(401, "Client must be authenticated to access this resource.")

    def _error(self, why: Refused, path: str) -> dict[str, Any]:
        if "/api/v2/" in path:
            title = _REASONS[why.status]
            code = title.upper().replace(" ", "_")
            return {
                "errors": [{"status": why.status, "code": code, "title": title, "detail": None}]
            }
        data = {"authorized": why.status != 403, "valid": True, "errors": [], "successful": False}
        said = {"statusCode": why.status, "data": data, "message": why.message}
        return said | {"reason": _REASONS[why.status]}

    def _answer(self, path: str, query: dict[str, str]) -> Any:
        for pattern, answer in (self._v2 if self.cloud else self._server).items():
            if found := re.fullmatch(pattern, path):
                return answer(self, path, query, *found.groups())
        raise Refused(404, f"null for uri: {path}")

    # --- Data Center --------------------------------------------------------------

    def _space_list(self, path: str, query: dict[str, str]) -> Any:
        takes(query, "status", "limit", "start", "type", "spaceKey", "expand")
        found = [
            {"id": n, "key": key, "name": key, "type": kind}
            for n, (key, kind) in enumerate(self.spaces.items(), 1)
        ]
        return self._page(path, query, found)

    def _permissions(self, path: str, query: dict[str, str], key: str) -> Any:
        takes(query)
        readers = self.readers.get(key)
        if readers is None:
            raise Refused(403, "You do not have permission to administer this space.")
        read = {"targetType": "space", "operationKey": "read"}
        told = [("group", "confluence-administrators")]
        return [
            {"operation": read, "subject": subject(kind, name), "spaceKey": key, "spaceId": 1}
            for kind, name in readers
        ] + [
            {
                "operation": {"targetType": "space", "operationKey": "administer"},
                "subject": subject(kind, name),
                "spaceKey": key,
                "spaceId": 1,
            }
            for kind, name in told
        ]

    def _content_list(self, path: str, query: dict[str, str]) -> Any:
        takes(query, "type", "spaceKey", "status", "limit", "start", "expand", need=("type", "spaceKey"))  # fmt: skip
        if query["spaceKey"] not in self.spaces:
            raise Refused(404, f"No space with key : {query['spaceKey']}")
        found = [
            one for one in self.contents.values()
            if (one.kind, one.space, one.status) == (query["type"], query["spaceKey"], query.get("status", "current"))
        ]  # fmt: skip
        return self._page(path, query, found, lambda one: self._content(one, query))

    def _content_one(self, path: str, query: dict[str, str], id: str) -> Any:
        takes(query, "expand", "status", "version")
        one = self.contents.get(id)
        if one is None or one.status != "current":
            raise Refused(404, f"No content found with id: ContentId{{id={id}}}")
        return self._content(one, query)

    def _attachments(self, path: str, query: dict[str, str], id: str) -> Any:
        takes(query, "limit", "start", "expand", "filename", "mediaType")
        return self._page(path, query, self._hung(id), self._attachment)

    def _restriction(self, path: str, query: dict[str, str], id: str) -> Any:
        takes(query, "expand", "start", "limit")
        one = self.contents.get(id) or self.folders.get(id)
        if one is None or one.status != "current":
            raise Refused(404, f"No content found with id: ContentId{{id={id}}}")
        most = min(int(query.get("limit", 100)), self.inner)
        return self._rules(one, int(query.get("start", 0)), most)

    # --- Cloud --------------------------------------------------------------------

    def _search(self, path: str, query: dict[str, str]) -> Any:
        takes(query, "cql", "limit", "cursor", "expand", need=("cql",))
        if found := re.fullmatch(r"id = (\d+)", query["cql"]):
            some = [one for one in self.contents.values() if one.id == found[1]]
        elif found := re.fullmatch(r'space = "([^"]+)" and type in \(([a-z,]+)\)', query["cql"]):
            some = [
                one for one in self.contents.values()
                if one.space == found[1] and one.kind in found[2].split(",")
            ]  # fmt: skip
        else:
            raise Refused(400, f"Could not parse cql : {query['cql']}")
        some = [one for one in some if one.status == "current" and one.id not in self.unfound]
        return self._page(path, query, some, lambda one: self._content(one, query))

    def _spaces_v2(self, path: str, query: dict[str, str]) -> Any:
        takes(query, "status", "limit", "cursor", "type", "keys", "ids")
        found = [
            {"id": str(n), "key": key, "name": key, "type": kind, "status": "current"}
            for n, (key, kind) in enumerate(self.spaces.items(), 1)
        ]
        return self._page(path, query, found, most=250)

    def _permissions_v2(self, path: str, query: dict[str, str], id: str) -> Any:
        takes(query, "limit", "cursor")
        readers = self.readers[list(self.spaces)[int(id) - 1]]
        if readers is None:
            raise Refused(403, "Forbidden")
        found = [
            {
                "id": str(n),
                "principal": {"type": kind, "id": f"gid-{name}" if kind == "group" else name},
                "operation": {"key": verb, "targetType": "space"},
            }
            for n, (kind, name, verb) in enumerate(
                [*((k, n, "read") for k, n in readers), ("group", "管理者", "administer")]
            )
        ]
        return self._page(path, query, found, most=250)

    def _attachments_v2(self, path: str, query: dict[str, str], *of: str) -> Any:
        takes(query, "status", "limit", "cursor", "mediaType", "filename", "sort")
        found = [
            one for one in self.contents.values()
            if one.kind == "attachment" and one.status == "current" and (not of or one.page == of[-1])
        ]  # fmt: skip
        return self._page(path, query, found, self._attachment_v2, most=250)

    def _body_v2(self, path: str, query: dict[str, str], kind: str, id: str) -> Any:
        takes(query, "body-format", "version")
        one = self.contents.get(id)
        if one is None or one.kind != kind:
            raise Refused(404, "Not Found")
        said: dict[str, Any] = {"id": id, "status": one.status, "title": one.title}
        said["version"] = {"number": one.number, "createdAt": when(one)}
        if query.get("body-format") == "storage":
            said["body"] = {"storage": {"representation": "storage", "value": one.body}}
        return said

    def _user(self, path: str, query: dict[str, str]) -> Any:
        takes(query, "accountId", need=("accountId",))
        return self._account(query["accountId"])

    def _group(self, path: str, query: dict[str, str]) -> Any:
        takes(query, "id", need=("id",))
        return {"type": "group", "name": query["id"].removeprefix("gid-"), "id": query["id"]}

    _server: ClassVar[dict[str, Callable[..., Any]]] = {
        r"/rest/api/space": _space_list,
        r"/rest/api/space/([^/]+)/permissions": _permissions,
        r"/rest/api/content": _content_list,
        r"/rest/api/content/(\d+)": _content_one,
        r"/rest/api/content/(\d+)/child/attachment": _attachments,
        r"/rest/api/content/(\d+)/restriction/byOperation/read": _restriction,
    }
    _v2: ClassVar[dict[str, Callable[..., Any]]] = {
        r"/rest/api/content/search": _search,
        r"/rest/api/content/(\d+)/restriction/byOperation/read": _restriction,
        r"/rest/api/user": _user,
        r"/rest/api/group/by-id": _group,
        r"/api/v2/spaces": _spaces_v2,
        r"/api/v2/spaces/(\d+)/permissions": _permissions_v2,
        r"/api/v2/attachments": _attachments_v2,
        r"/api/v2/(page|blogpost)s/(\d+)/attachments": _attachments_v2,
        r"/api/v2/(page|blogpost)s/(\d+)": _body_v2,
    }

    # --- what it says -------------------------------------------------------------

    def _page(
        self,
        path: str,
        query: dict[str, str],
        found: list[Any],
        shape: Callable[[Any], Any] = lambda one: one,
        most: int = 0,
    ) -> Any:
        limit = int(query.get("limit", 25))
        if most and not 1 <= limit <= most:
            raise Refused(400, "limit")
        limit = min(limit, self.most)
        start = int(query.get("cursor" if self.cloud else "start", 0))
        some = found[start : start + limit]
        links: dict[str, str] = {"base": self.url, "context": self.context}
        if self.links and start + limit < len(found):
            more = {**query, "cursor" if self.cloud else "start": str(start + limit)}
            inside = "/wiki" if path.startswith("/api/v2") else ""
            links["next"] = f"{inside}{path}?{urlencode(more)}"
        said: dict[str, Any] = {"results": [shape(one) for one in some], "_links": links}
        if not path.startswith("/api/v2"):
            said |= {"start": start, "limit": limit, "size": len(some)}
        return said

    def _content(self, one: Content, query: dict[str, str]) -> dict[str, Any]:
        expand = set(filter(None, query.get("expand", "").split(",")))
        if odd := expand - _EXPAND:
            raise Refused(400, f"Cannot expand {odd}")
        said: dict[str, Any] = {"id": one.id, "type": one.kind, "status": one.status}
        said |= {"title": one.title, "_links": {"webui": f"/pages/viewpage.action?pageId={one.id}"}}
        if "version" in expand:
            said["version"] = {"number": one.number, "when": when(one), "minorEdit": False}
        if "space" in expand:
            said["space"] = {"key": one.space, "type": self.spaces[one.space]}
        if "ancestors" in expand:
            said["ancestors"] = [{"id": id, "type": "page"} for id in self._above(one)]
        if "metadata.labels" in expand:
            names = [{"prefix": "global", "name": name} for name in one.labels]
            said["metadata"] = {"labels": {"results": names, "start": 0, "limit": 200, "size": len(names)}}  # fmt: skip
        if "body.storage" in expand:
            said["body"] = {"storage": {"value": one.body, "representation": "storage"}}
        if "restrictions.read.restrictions.user" in expand:
            said["restrictions"] = {"read": self._rules(one, 0, self.inner)}
        if "children.attachment.version" in expand:
            hung = self._hung(one.id)
            some = [self._attachment(file) for file in hung[:25]]
            links = {"next": f"/rest/api/content/{one.id}/child/attachment?start=25"}
            said["children"] = {
                "attachment": {
                    "results": some, "start": 0, "limit": 25, "size": len(some),
                    "_links": links if len(hung) > 25 else {},
                }
            }  # fmt: skip
        return said

    def _above(self, one: Content) -> list[str]:
        ids: list[str] = []
        while one.above:
            ids.insert(0, one.above)
            one = self.contents.get(one.above) or self.folders[one.above]
        return ids

    def _rules(self, one: Content, start: int, limit: int) -> dict[str, Any]:
        users, groups = one.users[start : start + limit], one.groups[start : start + limit]
        named = [self._account(u) if self.cloud else subject("user", u) for u in users]  # fmt: skip
        both = {"user": named, "group": [subject("group", g) for g in groups]}
        return {
            "operation": "read",
            "restrictions": {
                who: {"results": some, "start": start, "limit": limit, "size": len(some)}
                for who, some in both.items()
            },
        }

    def _account(self, id: str) -> dict[str, Any]:
        own = {"type": "known", "accountId": id, "accountType": "atlassian"}
        return own | {"email": self.mails.get(id, ""), "displayName": id}

    def _hung(self, id: str) -> list[Content]:
        return [one for one in self.contents.values() if one.page == id and one.status == "current"]

    def _attachment(self, one: Content) -> dict[str, Any]:
        return {
            "id": one.id, "type": "attachment", "status": one.status, "title": one.title,
            "version": {"number": one.number, "when": when(one)},
            "extensions": {"mediaType": "application/pdf", "fileSize": len(one.data)},
            "_links": {"download": f"/download/attachments/{one.page}/{one.id}?version={one.number}&api=v2"},
        }  # fmt: skip

    def _attachment_v2(self, one: Content) -> dict[str, Any]:
        return {
            "id": one.id, "status": one.status, "title": one.title, "pageId": one.page,
            "mediaType": "application/pdf", "fileSize": len(one.data),
            "version": {"number": one.number, "createdAt": when(one)},
            "downloadLink": f"/download/attachments/{one.page}/{one.id}",
        }  # fmt: skip


def subject(kind: str, name: str) -> dict[str, Any]:
    if kind == "group":
        return {"type": "group", "name": name, "displayName": name}
    if kind == "anonymous":
        return {"type": "anonymous", "displayName": "Anonymous"}
    return {"type": "known", "username": name, "userKey": f"key-{name}", "displayName": name}


def when(one: Content) -> str:
    return f"2026-04-01T09:00:{one.number % 60:02}.000+09:00"


def takes(query: dict[str, str], *names: str, need: tuple[str, ...] = ()) -> None:
    if (odd := set(query) - set(names)) or (odd := set(need) - set(query)):
        raise Refused(400, f"parameters: {sorted(odd)}")
    for name in ("limit", "start"):
        if name in query and not query[name].isdecimal():
            raise Refused(400, name)


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
