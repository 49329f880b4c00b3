"""Backlog, as Nulab's public API documentation has it: version 2, read only.

Checked: path, the key in the query, parameters by name, 100 in an answer. A refusal is a status and
`{"errors": [{"message", "code", "moreInfo"}]}`; every answer says how many requests are left.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from appliance.types import Site
from connectors.backlog import BacklogConnector, BacklogSettings

KEY = "kagi0451"
_LISTED = {"sort", "order", "offset", "count", "projectId[]"}
_PATHS: dict[str, set[str]] = {
    r"users/myself": set(),
    r"projects": {"archived", "all"},
    r"projects/[A-Z_0-9]+": set(),
    r"projects/[A-Z_0-9]+/users": {"excludeGroupMembers"},
    r"projects/[A-Z_0-9]+/files/metadata(/.*)?": {"order", "offset", "count"},
    r"projects/[A-Z_0-9]+/files/\d+": set(),
    r"issues": _LISTED,
    r"issues/[^/]+": set(),
    r"issues/[^/]+/comments": {"minId", "maxId", "count", "order"},
    r"issues/[^/]+/attachments/\d+": set(),
    r"wikis": {"projectIdOrKey", "keyword"},
    r"wikis/\d+": set(),
    r"wikis/\d+/attachments/\d+": set(),
}


class Refused(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        self.status, self.code, self.message = status, code, message


def user(name: str, role: int = 2, mail: str = "") -> dict[str, Any]:
    return {"id": len(name), "userId": name, "name": name, "roleType": role, "mailAddress": mail}


class Backlog:
    """A space in this process."""

    def __init__(self) -> None:
        self.projects = {"SALES": 1}
        self.users = {"SALES": [user("ito"), user("sato", 1, "sato@example.co.jp")]}
        self.issues: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self.wikis: dict[int, dict[str, Any]] = {}
        self.shared: dict[str, list[dict[str, Any]]] = {}  # by "SALES/folder"
        self.bytes: dict[int, bytes] = {}
        self.asked: list[str] = []
        self.refused: list[int] = []
        self.left, self.reset = "599", 0
        self.flags: dict[str, Any] = {}  # of every project
        self.silent = False  # the listing of a wiki says nothing of files
        self.cut: Callable[[str, int], str | int | None] = lambda path, count: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.near = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.near}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def connector(self, **more: object) -> BacklogConnector:
        said: dict[str, object] = {"url": self.url, "api_key": KEY, "per_second": 0}
        said |= {"allow": ["everyone"], "rights": "allow"} | more
        return BacklogConnector(
            BacklogSettings.model_validate(said), Site(near=frozenset({self.near}))
        )

    def issue(self, id_: int, summary: str, project: str = "SALES", **more: Any) -> None:
        number = self.issues.get(id_, {}).get("revision", 0) + 1
        self.issues[id_] = {
            "id": id_,
            "projectId": self.projects[project],
            "issueKey": f"{project}-{id_}",
            "issueType": {"id": 1, "name": "タスク"},
            "summary": summary,
            "description": "",
            "priority": {"id": 3, "name": "中"},
            "status": {"id": 1, "name": "未対応"},
            "created": "2026-04-01T00:00:00Z",
            "updated": f"2026-04-01T00:{number:02d}:00Z",
            "revision": number,
            "attachments": [],
        } | more

    def attach(self, name: str, data: bytes) -> dict[str, Any]:
        id_ = len(self.bytes) + 1
        self.bytes[id_] = data
        return {"id": id_, "name": name, "size": len(data), "created": "2026-04-01T00:00:00Z"}

    def share(self, folder: str, name: str, data: bytes | None, project: str = "SALES") -> None:
        id_ = len(self.bytes) + 1
        self.bytes[id_] = data or b""
        said: dict[str, Any] = {
            "id": id_,
            "type": "file" if data is not None else "directory",
            "name": name,
        }
        said |= {"dir": f"/{folder}", "created": "2026-04-01T00:00:00Z", "updated": None}
        if data is not None:
            said |= {"size": len(data)}
        self.shared.setdefault(f"{project}/{folder}".rstrip("/"), []).append(said)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        path = unquote(parts.path).removeprefix("/api/v2/")
        self.asked.append(path)
        fault = self.cut(path, self.asked.count(path))
        if fault == "drop":
            handler.close_connection = True
            return
        try:
            if isinstance(fault, int):
                raise Refused(fault, 13 if fault == 429 else 1, "fault")
            answer = self._said(path, parts.path, parse_qsl(parts.query, keep_blank_values=True))
        except Refused as error:
            self.refused.append(error.status)
            said = [{"message": error.message, "code": error.code, "moreInfo": ""}]
            self._send(handler, error.status, json.dumps({"errors": said}).encode())
            return
        if fault == "short" and isinstance(answer, list):
            answer = answer[: len(answer) // 2]
        if fault == "repeat":
            answer = [*self.issues.values()][:100]
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self._send(handler, 200, data[: len(data) // 2] if fault == "half" else data)

    def _said(self, path: str, raw: str, query: list[tuple[str, str]]) -> Any:
        params = dict(query)
        if params.pop("apiKey", None) != KEY:
            raise Refused(401, 11, "Authentication failure.")
        known = next((names for one, names in _PATHS.items() if re.fullmatch(one, path)), None)
        if known is None or not raw.startswith("/api/v2/"):
            raise Refused(404, 5, "Undefined resource.")
        if odd := params.keys() - known:
            raise Refused(400, 7, f"Invalid parameter {odd}")
        count, offset = int(params.get("count", 20)), int(params.get("offset", 0))
        if not 1 <= count <= 100 or offset < 0:
            raise Refused(400, 7, "count must be 1 to 100")
        match path.split("/"):
            case ["users", _]:
                return user("kura")
            case ["projects"]:
                return [self._project(key) for key in self.projects]
            case ["projects", key, *rest] if key in self.projects:
                return self._in_project(key, rest, offset, count)
            case ["issues"]:
                project = int(params["projectId[]"])
                found = [i for i in self.issues.values() if i["projectId"] == project]
                found = found if params.get("order") == "asc" else found[::-1]
                return found[offset : offset + count]
            case ["issues", which, *rest]:
                by = {str(i["id"]): i for i in self.issues.values()}
                by |= {i["issueKey"]: i for i in self.issues.values()}
                return self._part(by.get(which), rest, params, count)
            case ["wikis"]:
                project = self.projects[params["projectIdOrKey"]]
                found = [w for w in self.wikis.values() if w["projectId"] == project]
                left_out = {"content", "attachments"} if self.silent else {"content"}
                return [{k: v for k, v in w.items() if k not in left_out} for w in found]
            case ["wikis", which, *rest]:
                return self._part(self.wikis.get(int(which)), rest, params, count)
        raise Refused(404, 6, "No project.")

    def _project(self, key: str) -> dict[str, Any]:
        return {"id": self.projects[key], "projectKey": key, "name": key} | self.flags

    def _in_project(self, key: str, rest: list[str], offset: int, count: int) -> Any:
        match rest:
            case []:
                return self._project(key)
            case ["users"]:
                return self.users[key]
            case ["files", "metadata", *folders]:
                where = "/".join([key, *folders]).rstrip("/")
                if folders and where not in self.shared:
                    raise Refused(404, 6, "No such directory.")
                return self.shared.get(where, [])[offset : offset + count]
        return self.bytes[int(rest[-1])]

    def _part(self, of: Any, rest: list[str], params: dict[str, str], count: int) -> Any:
        if of is None:
            raise Refused(404, 6, "No such issue.")
        if not rest:
            return of
        if rest == ["comments"]:
            least = int(params.get("minId", 0))
            found = [c for c in self.comments.get(of["id"], []) if c["id"] >= least]
            return (found if params.get("order") == "asc" else found[::-1])[:count]
        if int(rest[1]) not in [one["id"] for one in of.get("attachments") or []]:
            raise Refused(404, 6, "No such attachment.")
        return self.bytes[int(rest[1])]

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("X-RateLimit-Limit", "600")
        handler.send_header("X-RateLimit-Remaining", self.left)
        handler.send_header("X-RateLimit-Reset", str(self.reset or int(time.time()) + 60))
        handler.end_headers()
        handler.wfile.write(body)
