"""Notion, as its public API documentation has it: version 2025-09-03, read only, and its host of files.

Checked: path, token, `Notion-Version`, bodies and parameters by name, 100 in an answer, cursors. A
refusal is a status and `{"object": "error", "status", "code", "message"}`. A link to a file is signed
anew in each answer, holds once and for a while, and is refused where the token is shown. Two ports
stand for the two hosts.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from appliance.types import Site
from connectors.notion import NotionConnector, NotionSettings

TOKEN = "ntn_himitsu0451"
_ID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        self.status = status
        self.said = {"object": "error", "status": status, "code": code, "message": message}


def id_(number: int, kind: int = 0) -> str:
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


def text(said: str, href: str | None = None, code: bool = False) -> list[dict[str, Any]]:
    part = {"type": "text", "plain_text": said, "href": href, "annotations": {"code": code}}
    return [part | {"text": {"content": said}}]


class Notion:
    """A workspace in this process, of which some is shared with the integration."""

    def __init__(self) -> None:
        self.pages: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, dict[str, Any]] = {}  # data sources
        self.blocks: dict[str, dict[str, Any]] = {}
        self.inside: dict[str, list[str]] = {}  # blocks of a page or block
        self.bytes: dict[str, bytes] = {}
        self.unfound: set[str] = set()  # pages that a search does not tell of
        self.closed: set[str] = set()  # pages that are not shared
        self.page = 100  # Notion may give fewer than were asked for
        self.most = 10_000  # rows that one query tells of
        self.readable = True
        self.links = 0
        self.asked: list[str] = []
        self.refused: list[str] = []
        self.leaked = False
        self.cut: Callable[[str, int], str | int | None] = lambda path, count: None
        self.server, self.thread = _serve(self._api)
        self.store, self.storing = _serve(self._file)
        self.near = f"127.0.0.1:{self.server.server_address[1]}"
        self.files_near = f"127.0.0.1:{self.store.server_address[1]}"
        self.url, self.files_url = f"http://{self.near}", f"http://{self.files_near}"

    def connector(self, **more: object) -> NotionConnector:
        said: dict[str, object] = {"url": self.url, "files": [self.files_url], "token": TOKEN}
        said |= {"allow": ["everyone"], "per_second": 0} | more
        near = frozenset({self.near, self.files_near})
        return NotionConnector(NotionSettings.model_validate(said), Site(near=near))

    def put(self, number: int, title: str, at: str = "", table: int = 0, **properties: Any) -> str:
        """A page, or a row of a table."""
        page, revision = id_(number), self.pages.get(id_(number), {}).get("revision", 0) + 1
        parent: dict[str, Any] = {"type": "workspace", "workspace": True}
        if table:
            parent = {"type": "data_source_id", "data_source_id": id_(table, 9)}
            parent |= {"database_id": id_(table, 8)}
        self.pages[page] = {
            "object": "page",
            "id": page,
            "created_time": f"2026-03-{1 + number // 1440:02d}T{number // 60 % 24:02d}:{number % 60:02d}:00.000Z",
            "last_edited_time": at or f"2026-04-01T00:{revision:02d}:00.000Z",
            "archived": False,
            "in_trash": False,
            "parent": parent,
            "url": f"https://www.notion.so/{page.replace('-', '')}",
            "properties": {"名前": {"id": "title", "type": "title", "title": text(title)}}
            | properties,
            "revision": revision,
        }
        self.inside.setdefault(page, [])
        return page

    def table(self, number: int, name: str) -> str:
        source = id_(number, 9)
        self.tables[source] = {
            "object": "data_source",
            "id": source,
            "title": text(name),
            "last_edited_time": "2026-04-01T00:00:00.000Z",
            "archived": False,
            "in_trash": False,
            "properties": {},
        }
        return source

    def add(self, parent: str, kind: str, said: dict[str, Any] | str = "") -> str:
        block = id_(len(self.blocks) + 1, 7)
        content = {"rich_text": text(said)} if isinstance(said, str) else said
        self.blocks[block] = {"object": "block", "id": block, "type": kind, kind: content}
        self.blocks[block] |= {"has_children": False, "archived": False, "in_trash": False}
        self.inside.setdefault(parent, []).append(block)
        if parent in self.blocks:
            self.blocks[parent]["has_children"] = True
        return block

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        key = f"/space/{len(self.bytes) + 1}/{name}"
        self.bytes[key] = data
        return {
            "type": "file",
            "name": name,
            "file": {"url": key, "expiry_time": "2026-04-01T01:00:00.000Z"},
        }

    def close(self) -> None:
        for server, thread in ((self.server, self.thread), (self.store, self.storing)):
            server.shutdown()
            server.server_close()
            thread.join()

    # --- what is answered ---------------------------------------------------------

    def _file(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        self.leaked |= "Authorization" in handler.headers
        signed = dict(parse_qsl(parts.query)).get("X-Amz-Signature", "")
        if not signed.isdecimal() or int(signed) < self.links - 20:
            _send(handler, 403, b"<Error><Code>AccessDenied</Code></Error>", "application/xml")
        elif unquote(parts.path) not in self.bytes:
            _send(handler, 404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")
        else:
            _send(handler, 200, self.bytes[unquote(parts.path)], "application/octet-stream")

    def _api(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        content = handler.rfile.read(length)
        parts = urlsplit(handler.path)
        path = parts.path.removeprefix("/v1/")
        self.asked.append(path)
        fault = self.cut(path, self.asked.count(path))
        if fault == "drop":
            handler.close_connection = True
            return
        try:
            if isinstance(fault, int):
                raise Refused(
                    fault, {429: "rate_limited", 409: "conflict_error"}.get(fault, "error")
                )
            if fault == "cursor":
                raise Refused(400, "validation_error", "The start_cursor provided is invalid")
            said = self._said(handler, path, parts.query, content, repeat=fault == "repeat")
        except Refused as error:
            self.refused.append(str(error.said["code"]))
            retry = "40" if error.status == 429 else ""
            _send(handler, error.status, json.dumps(error.said).encode(), retry=retry)
            return
        if fault == "short":
            said |= {"has_more": True, "next_cursor": None}
        data = self._signed(json.dumps(said)).encode()
        _send(handler, 200, data[: len(data) // 2] if fault == "half" else data)

    def _said(
        self,
        handler: BaseHTTPRequestHandler,
        path: str,
        query: str,
        content: bytes,
        *,
        repeat: bool,
    ) -> dict[str, Any]:
        if handler.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "unauthorized", "API token is invalid.")
        if handler.headers.get("Notion-Version") != "2025-09-03":
            raise Refused(400, "missing_version")
        params: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
        if handler.command == "POST":
            if "json" not in handler.headers.get("Content-Type", "") or params:
                raise Refused(400, "invalid_json")
            params = json.loads(content)
        elif content:
            raise Refused(400, "invalid_request")
        if repeat:
            params.pop("start_cursor", None)
        post, parts = handler.command == "POST", path.split("/")
        if (post, path) == (False, "users/me"):
            return {"object": "user", "type": "bot"}
        if not self.readable:
            raise Refused(403, "restricted_resource")
        if (post, path) == (True, "search"):
            return self._search(params)
        if len(parts) < 2 or not re.fullmatch(_ID, parts[1]):
            raise Refused(400, "validation_error", "path failed validation: should be a valid uuid")
        match (post, parts):
            case (True, ["data_sources", source, "query"]):
                self._shared(self.tables, source)
                rows = [p for p in self._told() if p["parent"].get("data_source_id") == source]
                return self._query(rows, params)
            case (False, ["data_sources", source]):
                return self._shared(self.tables, source)
            case (False, ["pages", page]):
                return self._shared(self.pages, page)
            case (False, ["blocks", block, "children"]):
                if block not in self.blocks:
                    self._shared(self.pages, block)
                return self._list([self.blocks[b] for b in self.inside.get(block, [])], params)
            case (False, ["blocks", block]):
                return self._shared(self.blocks, block)
        raise Refused(400, "invalid_request_url")

    def _query(self, rows: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """One query tells of `most` at most, and says on its last page that there are more."""
        if params.get("sorts") != [{"timestamp": "created_time", "direction": "ascending"}]:
            raise Refused(400, "validation_error", "body.sorts")
        if where := params.get("filter"):
            if where["timestamp"] != "created_time":
                raise Refused(400, "validation_error", "body.filter")
            since = where["created_time"]["on_or_after"]
            rows = [row for row in rows if row["created_time"] >= since]
        rows.sort(key=lambda row: str(row["created_time"]))
        said = self._list(rows[: self.most], params, {"filter", "sorts"})
        if len(rows) > self.most and not said["has_more"]:
            reason = "query_result_limit_reached"
            said |= {"request_status": {"type": "incomplete", "incomplete_reason": reason}}
        return said

    def _shared(self, things: dict[str, dict[str, Any]], id_: str) -> dict[str, Any]:
        if id_ not in things or id_ in self.closed:
            raise Refused(404, "object_not_found", f"Could not find {id_}")
        return things[id_]

    def _told(self) -> list[dict[str, Any]]:
        return [p for i, p in self.pages.items() if i not in self.closed and not p["in_trash"]]

    def _search(self, params: dict[str, Any]) -> dict[str, Any]:
        kind = params.get("filter", {}).get("value")
        if kind not in (None, "page", "data_source"):
            raise Refused(
                400, "validation_error", "body.filter.value should be page or data_source"
            )
        found = (
            [p for p in self._told() if p["id"] not in self.unfound]
            if kind != "data_source"
            else []
        )
        found += [t for t in self.tables.values() if kind != "page" and t["id"] not in self.closed]
        if sort := params.get("sort"):
            if sort["timestamp"] != "last_edited_time":
                raise Refused(400, "validation_error", "body.sort.timestamp")
            down = sort["direction"] == "descending"
            found.sort(key=lambda one: str(one["last_edited_time"]), reverse=down)
        return self._list(found, params, {"query", "filter", "sort"})

    def _list(
        self, rows: list[dict[str, Any]], params: dict[str, Any], more: set[str] | None = None
    ) -> dict[str, Any]:
        if odd := params.keys() - {"start_cursor", "page_size"} - (more or set()):
            raise Refused(400, "validation_error", f"body failed validation: {odd}")
        size, cursor = int(params.get("page_size", 100)), str(params.get("start_cursor", id_(0, 1)))
        if (
            not 1 <= size <= 100
            or not re.fullmatch(_ID, cursor)
            or not cursor.startswith("00000001")
        ):
            raise Refused(400, "validation_error", "page_size or start_cursor")
        start = int(cursor[-12:], 16)
        end = start + min(size, self.page)
        following = id_(end, 1) if end < len(rows) else None
        said = {"object": "list", "results": rows[start:end], "has_more": following is not None}
        return said | {"next_cursor": following}

    def _signed(self, said: str) -> str:
        """As it is sent: each link to a file with a signature that no other answer has."""

        def link(found: re.Match[str]) -> str:
            self.links += 1
            path = quote(str(json.loads(found[1])))
            return f'"url": "{self.files_url}{path}?X-Amz-Signature={self.links}"'

        return re.sub(r'"url": ("/space/[^"]*")', link, said)


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    kind: str = "application/json; charset=utf-8",
    retry: str = "",
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    if retry:
        handler.send_header("Retry-After", retry)
    handler.end_headers()
    handler.wfile.write(body)


def _serve(
    answer: Callable[[BaseHTTPRequestHandler], None],
) -> tuple[ThreadingHTTPServer, threading.Thread]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536

        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    return server, thread
