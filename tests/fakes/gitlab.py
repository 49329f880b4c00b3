"""GitLab, as its public API documentation has it: version 4, read only.

Checked: path, the token, parameters by name, 100 in a page. Pages are told by `Link` and `X-Total`; what
is hidden from the account is a 404, like what is not there. A refusal is `{"message": "404 …"}`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from appliance.types import Site
from connectors.gitlab import GitLabConnector, GitLabSettings

TOKEN = "glpat-himitsu"
A, B = "eigyo/mitsumori", "eigyo/kanto/nouki"
_PAGED = {"page", "per_page"}
_LISTED = _PAGED | {"order_by", "sort", "scope", "created_after", "updated_after", "state"}
_PATHS: dict[str, set[str]] = {
    r"user": set(),
    r"projects/[^/]+": {"statistics"},
    r"groups/[^/]+/projects": _PAGED
    | {"include_subgroups", "with_shared", "archived", "order_by", "sort", "simple"},
    r"projects/\d+/members/all": _PAGED | {"query", "state"},
    r"projects/\d+/(issues|merge_requests)": _LISTED,
    r"projects/\d+/(issues|merge_requests)/\d+": set(),
    r"projects/\d+/(issues|merge_requests)/\d+/notes": _PAGED | {"sort", "order_by"},
    r"projects/\d+/wikis": {"with_content"},
    r"projects/\d+/wikis/[^/]+": {"render_html", "version"},
    r"projects/\d+/uploads/[0-9a-f]{32}/[^/]+": set(),
}


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


def member(name: str, level: int = 30, **more: Any) -> dict[str, Any]:
    said = {"id": sum(map(ord, name)), "username": name, "name": name, "state": "active"}
    return said | {"access_level": level, "expires_at": None} | more


class GitLab:
    """A GitLab in this process, which a test changes as its users would."""

    def __init__(self) -> None:
        self.projects: dict[int, dict[str, Any]] = {}
        self.members: dict[int, list[dict[str, Any]]] = {}
        self.rows: dict[tuple[int, str], dict[int, dict[str, Any]]] = {}
        self.notes: dict[tuple[int, str, int], list[dict[str, Any]]] = {}
        self.wikis: dict[int, list[dict[str, Any]]] = {}
        self.uploads: dict[tuple[int, str, str], bytes] = {}
        self.paths: dict[str, int] = {}  # of before, which lead on
        self.asked: list[str] = []
        self.params: list[dict[str, str]] = []
        self.refused: list[int] = []
        self.hidden: set[str] = set()  # paths of the API that this account may not ask
        self.clock = 0
        self.left, self.reset = "1999", 0
        self.scope = True
        self.total = True  # whether it says how many there are
        self.retry_after = ""
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

    def connector(self, **more: object) -> GitLabConnector:
        said: dict[str, object] = {"url": self.url, "token": TOKEN, "groups": ["eigyo"]}
        said |= {"per_second": 0, "same_names": True} | more
        return GitLabConnector(
            GitLabSettings.model_validate(said), Site(near=frozenset({self.near}))
        )

    # --- what its users do --------------------------------------------------------

    def project(self, id_: int, path: str, **more: Any) -> None:
        said = {"id": id_, "path_with_namespace": path, "visibility": "private", "archived": False}
        said |= dict.fromkeys(("issues_access_level", "merge_requests_access_level"), "enabled")
        said |= dict.fromkeys(("wiki_access_level", "repository_access_level"), "enabled")
        said |= {"created_at": self.now(), "last_activity_at": "2026-04-01T00:00:00.000Z"}
        self.projects[id_] = said | more
        self.members.setdefault(id_, [member("ito")])

    def now(self) -> str:
        self.clock += 1
        minutes, seconds = divmod(self.clock, 60)
        hours, minutes = divmod(minutes, 60)
        return f"2026-04-01T{hours:02d}:{minutes:02d}:{seconds:02d}.123Z"

    def put(self, project: int, kind: str, iid: int, title: str, **more: Any) -> dict[str, Any]:
        """New, or written over."""
        rows, now = self.rows.setdefault((project, kind), {}), self.now()
        who = {"id": 1, "username": "sato", "name": "佐藤"}
        base = 1000 if kind == "issues" else 5000
        row = {"id": base * project + iid, "iid": iid, "project_id": project, "created_at": now}
        row |= {"state": "opened", "description": "", "author": who, "assignees": [], "labels": []}
        row |= (
            {"confidential": False}
            if kind == "issues"
            else {"source_branch": "b", "target_branch": "main"}
        )
        row |= {"user_notes_count": 0, "milestone": None, "due_date": None}
        rows[iid] = row | rows.get(iid, {}) | {"title": title, "updated_at": now} | more
        return rows[iid]

    def note(self, project: int, kind: str, iid: int, body: str, **more: Any) -> None:
        found = self.notes.setdefault((project, kind, iid), [])
        who = {"id": 2, "username": "ito", "name": "伊藤"}
        said = {"id": len(found) + 1, "body": body, "author": who, "system": False}
        found.append(said | {"internal": False, "created_at": "2026-04-01T23:00:00.000Z"} | more)
        row = self.rows[project, kind][iid]
        row |= {"updated_at": self.now(), "user_notes_count": row["user_notes_count"] + 1}

    def wiki(self, project: int, slug: str, content: str, **more: Any) -> None:
        others = [w for w in self.wikis.get(project, []) if w["slug"] != slug]
        said = {"slug": slug, "title": slug.rpartition("/")[2], "format": "markdown"}
        self.wikis[project] = [*others, said | {"content": content, "encoding": "UTF-8"} | more]

    def upload(self, project: int, name: str, data: bytes) -> str:
        secret = f"{len(self.uploads) + 1:032x}"
        self.uploads[project, secret, name] = data
        return f"/uploads/{secret}/{name}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    # --- answering ----------------------------------------------------------------

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        path, params = parts.path.removeprefix("/api/v4/"), dict(parse_qsl(parts.query))
        self.asked.append(path)
        self.params.append(params)
        fault = self.cut(path, self.asked.count(path))
        if fault == "drop":
            handler.close_connection = True
            return
        headers: dict[str, str] = {}
        try:
            if isinstance(fault, int):
                headers = {"Retry-After": self.retry_after} if self.retry_after else {}
                raise Refused(fault, f"{fault} fault")
            if not parts.path.startswith("/api/v4/"):
                self._send(handler, 404, b"<html>404</html>", {})
                return
            answer, headers = self._said(handler, path, params, fault)
        except Refused as error:
            self.refused.append(error.status)
            said = {"message": error.message}
            if error.message == "insufficient_scope":
                said = {"error": error.message, "error_description": "x", "scope": "read_api"}
            self._send(handler, error.status, json.dumps(said).encode(), headers)
            return
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self._send(handler, 200, data[: len(data) // 2] if fault == "half" else data, headers)

    def _said(
        self,
        handler: BaseHTTPRequestHandler,
        path: str,
        params: dict[str, str],
        fault: str | int | None,
    ) -> tuple[Any, dict[str, str]]:
        if handler.headers.get("PRIVATE-TOKEN") != TOKEN:
            raise Refused(401, "401 Unauthorized")
        if not self.scope:
            raise Refused(403, "insufficient_scope")
        known = next((names for one, names in _PATHS.items() if re.fullmatch(one, path)), None)
        if known is None:
            raise Refused(404, "404 Not Found")
        if odd := params.keys() - known:
            raise Refused(400, f"400 Bad request {sorted(odd)}")
        if path in self.hidden:
            raise Refused(404, "404 Project Not Found")
        match path.split("/"):
            case ["user"]:
                return {"id": 1, "username": "kura"}, {}
            case ["projects", which]:
                return self._project(unquote(which)), {}
            case ["groups", which, "projects"]:
                group = unquote(which)
                paths = {p["path_with_namespace"]: p for p in self.projects.values()}
                found = [p for at, p in paths.items() if at.startswith(f"{group}/")]
                if not found:
                    raise Refused(404, "404 Group Not Found")
                if params.get("archived") == "false":
                    found = [p for p in found if not p["archived"]]
                return self._paged(path, found, params, fault)
            case ["projects", id_, *rest]:
                self._project(id_)
                return self._in_project(path, int(id_), rest, params, fault)
        raise AssertionError(path)

    def _project(self, which: str) -> dict[str, Any]:
        by: dict[str, int] = {str(id_): id_ for id_ in self.projects} | self.paths
        by |= {p["path_with_namespace"]: id_ for id_, p in self.projects.items()}
        if which not in by:
            raise Refused(404, "404 Project Not Found")
        return self.projects[by[which]]

    def _in_project(
        self, path: str, id_: int, rest: list[str], params: dict[str, str], fault: Any
    ) -> tuple[Any, dict[str, str]]:
        match rest:
            case ["members", "all"]:
                return self._paged(path, self.members[id_], params, fault)
            case ["wikis"]:
                left_out = set() if params.get("with_content") == "1" else {"content"}
                pages = self.wikis.get(id_, [])
                return [{k: v for k, v in p.items() if k not in left_out} for p in pages], {}
            case ["wikis", slug]:
                by = {page["slug"]: page for page in self.wikis.get(id_, [])}
                if (slug := unquote(slug)) not in by:
                    raise Refused(404, "404 Wiki Page Not Found")
                return by[slug], {}
            case ["uploads", secret, name]:
                if (id_, secret, unquote(name)) not in self.uploads:
                    raise Refused(404, "404 Not found")
                return self.uploads[id_, secret, unquote(name)], {}
            case [kind]:
                return self._paged(path, [*self.rows.get((id_, kind), {}).values()], params, fault)
            case [kind, iid, *more]:
                if int(iid) not in self.rows.get((id_, kind), {}):
                    raise Refused(404, "404 Not found")
                if not more:
                    return self.rows[id_, kind][int(iid)], {}
                return self._paged(path, self.notes.get((id_, kind, int(iid)), []), params, fault)
        raise AssertionError(rest)

    def _paged(
        self, path: str, found: list[dict[str, Any]], params: dict[str, str], fault: Any
    ) -> tuple[list[dict[str, Any]], dict[str, str]]:
        size, page = int(params.get("per_page", 20)), int(params.get("page", 1))
        if not 1 <= size <= 100 or page < 1:
            raise Refused(400, "400 per_page")
        for field in ("created", "updated"):
            if after := params.get(f"{field}_after"):
                least = datetime.fromisoformat(after)
                found = [r for r in found if datetime.fromisoformat(r[f"{field}_at"]) >= least]
        if (by := params.get("order_by")) and all(by in row for row in found):
            found = sorted(found, key=lambda r: (r[by], r["id"]))
        if params.get("sort", "desc" if by else "asc") == "desc":
            found = found[::-1]
        total, shown = len(found), found[(page - 1) * size : page * size]
        more = page * size < total
        if fault == "repeat":
            shown, more = found[:size], True
            if len(self.asked) > 500:
                raise AssertionError("it never ends")
        headers = {"X-Total": str(total)} if self.total else {}
        if more:
            query = urlencode(params | {"page": page + (fault != "repeat")})
            headers["Link"] = (
                f'<http://gitlab.internal/api/v4/{path}?{query}>; rel="next", <x>; rel="last"'
            )
        return shown, headers

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        handler.send_response(status)
        said = {"Content-Length": str(len(body)), "RateLimit-Remaining": self.left}
        for name, value in (said | {"RateLimit-Reset": str(self.reset)} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


def filled() -> GitLab:
    """Two projects of a group, and one of another."""
    one = GitLab()
    one.project(1, A)
    one.project(2, B)
    one.project(3, "jinji/hyouka")
    file = one.upload(1, "見積.txt", "三万円".encode())
    words = f"八分まで。\n\n![図]({file}) と [また]({file})、/uploads/short/x"
    assigned = [{"id": 3, "username": "mori", "name": "森"}]
    one.put(1, "issues", 1, "値引きの相談", description=words, assignees=assigned, labels=["契約"])
    one.put(1, "issues", 2, "納期")
    for n in range(1, 151):
        one.note(1, "issues", 1, f"返事 {n}")
    one.note(1, "issues", 1, "社外秘の返事", internal=True)
    one.note(1, "issues", 1, "古い社外秘", confidential=True)
    one.note(1, "issues", 1, "ラベルを付けた", system=True)
    one.put(1, "merge_requests", 1, "計算を直す", description="端数", state="merged")
    one.note(1, "merge_requests", 1, "よい")
    page = one.upload(1, "図 1.txt", b"zu")
    one.wiki(1, "手順/受注", f"FAX で受ける。[図]({page.replace(' ', '%20')})")
    one.wiki(1, "home", "= Home", format="asciidoc", title="Home")
    one.put(2, "issues", 1, "遅れ")
    one.put(3, "issues", 1, "評価")
    return one
