"""Slack, as its public API documentation has it: the Web API's reading methods, and the host of files.

Checked: path, the token in the header, parameters by name, limits, cursors, scopes, membership. What is
refused is 200 with `{"ok": false, "error"}`, but too many requests are 429 with Retry-After; a file is
shown to whom the token says, others get a page for signing in. Two ports stand for the two hosts.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from appliance.types import Site
from connectors.slack import SlackConnector, SlackSettings

TOKEN = "xoxb-himitsu-0451"
_PAGED = {"cursor", "limit"}
_SPAN = {"channel", "oldest", "latest", "inclusive", "include_all_metadata"} | _PAGED
_METHODS: dict[str, set[str]] = {
    "auth.test": set(),
    "conversations.list": {"types", "exclude_archived", "team_id"} | _PAGED,
    "conversations.info": {"channel", "include_locale", "include_num_members"},
    "conversations.history": _SPAN,
    "conversations.replies": {"ts"} | _SPAN,
    "conversations.members": {"channel"} | _PAGED,
    "users.list": {"include_locale", "team_id"} | _PAGED,
    "files.info": {"file", "page", "count"} | _PAGED,
}
_SCOPES = {"users.list": "users:read", "files.info": "files:read"}


class Refused(Exception):
    def __init__(self, error: str, **more: str) -> None:
        self.said: dict[str, Any] = {"ok": False, "error": error} | more


def user(id_: str, name: str, mail: str = "", **more: Any) -> dict[str, Any]:
    profile = {"display_name": name, "real_name": name, "email": mail}
    return {
        "id": id_,
        "team_id": "T1",
        "name": id_.lower(),
        "deleted": False,
        "profile": profile,
    } | more


class Slack:
    """A workspace in this process."""

    def __init__(self) -> None:
        self.channels: dict[str, dict[str, Any]] = {}
        self.members: dict[str, list[str]] = {}
        self.messages: dict[str, dict[str, dict[str, Any]]] = {}  # by channel, then ts
        self.users = [
            user("U1", "伊藤", "ito@example.co.jp"),
            user("U2", "佐藤", "sato@example.co.jp"),
        ]
        self.files: dict[str, dict[str, Any]] = {}
        self.bytes: dict[str, bytes] = {}
        self.scopes = {"channels:read", "channels:history", "groups:read", "groups:history"}
        self.scopes |= {"users:read", "users:read.email", "files:read"}
        self.page = 999  # Slack may give fewer than were asked for
        self.asked: list[str] = []
        self.refused: list[str] = []
        self.cut: Callable[[str, int], str | int | None] = lambda method, count: None
        self.server, self.thread = _serve(self._api)
        self.store, self.storing = _serve(self._file)
        self.near = f"127.0.0.1:{self.server.server_address[1]}"
        self.files_near = f"127.0.0.1:{self.store.server_address[1]}"
        self.url, self.files_url = f"http://{self.near}", f"http://{self.files_near}"

    def connector(self, **more: object) -> SlackConnector:
        said: dict[str, object] = {"url": self.url, "files_url": self.files_url, "token": TOKEN}
        said |= {"allow": ["everyone"]} | more
        near = frozenset({self.near, self.files_near})
        return SlackConnector(SlackSettings.model_validate(said), Site(near=near))

    def channel(
        self, id_: str, name: str, *members: str, private: bool = False, **more: Any
    ) -> None:
        self.channels[id_] = {"id": id_, "name": name, "is_channel": True, "is_private": private}
        self.channels[id_] |= {"is_archived": False, "is_member": True, "is_im": False} | more
        self.members[id_] = ["UBOT", *members]
        self.messages.setdefault(id_, {})

    def say(
        self, channel: str, ts: str, text: str, user: str = "U1", **more: Any
    ) -> dict[str, Any]:
        row = {"type": "message", "user": user, "text": text, "ts": ts} | more
        self.messages[channel][ts] = row
        return row

    def reply(
        self, channel: str, thread: str, ts: str, text: str, user: str = "U2", **more: Any
    ) -> None:
        self.messages[channel][thread]["thread_ts"] = thread
        self.say(channel, ts, text, user, thread_ts=thread, **more)

    def upload(self, channel: str, id_: str, name: str, data: bytes, **more: Any) -> dict[str, Any]:
        shared = "groups" if self.channels[channel]["is_private"] else "channels"
        self.bytes[id_] = data
        self.files[id_] = {
            "id": id_,
            "name": name,
            "title": name,
            "mode": "hosted",
            "size": len(data),
        }
        self.files[id_] |= {"created": 1775000000, "timestamp": 1775000000, "is_external": False}
        self.files[id_] |= {
            "mimetype": "text/plain",
            "channels": [],
            "groups": [],
            shared: [channel],
        }
        self.files[id_] |= {"url_private": f"{self.files_url}/files-pri/T1-{id_}/{id_}"} | more
        return self.files[id_]

    def close(self) -> None:
        for server, thread in ((self.server, self.thread), (self.store, self.storing)):
            server.shutdown()
            server.server_close()
            thread.join()

    # --- what is answered ---------------------------------------------------------

    def _file(self, handler: BaseHTTPRequestHandler) -> None:
        id_ = handler.path.rpartition("/")[2]
        self.asked.append(f"file {id_}")
        if handler.path != f"/files-pri/T1-{id_}/{id_}" or id_ not in self.bytes:
            _send(handler, 404, b"", "text/html")
        elif (
            handler.headers.get("Authorization") != f"Bearer {TOKEN}"
            or "files:read" not in self.scopes
        ):
            _send(handler, 200, b"<!DOCTYPE html><title>Slack</title>", "text/html; charset=utf-8")
        else:
            _send(handler, 200, self.bytes[id_], "text/plain")

    def _api(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        method = unquote(parts.path).removeprefix("/api/")
        self.asked.append(method)
        fault = self.cut(method, self.asked.count(method))
        if fault == "drop":
            handler.close_connection = True
            return
        if isinstance(fault, int):
            said: dict[str, Any] = {
                "ok": False,
                "error": "ratelimited" if fault == 429 else "internal_error",
            }
            _send(handler, fault, json.dumps(said).encode(), retry="40" if fault == 429 else "")
            return
        try:
            if fault and fault not in ("half", "repeat", "short"):
                raise Refused(fault)
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
            if fault == "repeat":
                pairs = [(n, v) for n, v in pairs if n != "cursor"]
            said = self._said(handler, method, dict(pairs))
        except Refused as error:
            self.refused.append(str(error.said["error"]))
            said = error.said
        if fault == "short":
            said |= {"response_metadata": {"next_cursor": ""}, "has_more": True}
        data = json.dumps(said).encode()
        _send(handler, 200, data[: len(data) // 2] if fault == "half" else data)

    def _said(
        self, handler: BaseHTTPRequestHandler, method: str, params: dict[str, str]
    ) -> dict[str, Any]:
        if method not in _METHODS or not handler.path.startswith("/api/"):
            raise Refused("unknown_method")
        token = handler.headers.get("Authorization", "")
        if token != f"Bearer {TOKEN}":
            raise Refused("invalid_auth" if token else "not_authed")
        if params.keys() - _METHODS[method]:
            raise Refused("invalid_arguments")
        if (scope := _SCOPES.get(method)) and scope not in self.scopes:
            raise Refused("missing_scope", needed=scope, provided=",".join(sorted(self.scopes)))
        if not 1 <= int(params.get("limit", 100)) <= 999:
            raise Refused("invalid_limit")
        match method:
            case "auth.test":
                return {
                    "ok": True,
                    "url": "https://aoyama.slack.com/",
                    "team_id": "T1",
                    "user_id": "UBOT",
                }
            case "users.list":
                return self._page(self.users, "members", params)
            case "conversations.list":
                return self._list(params)
            case "files.info":
                if params.get("file") not in self.files:
                    raise Refused("file_not_found")
                return {"ok": True, "file": self.files[params["file"]]}
        channel = self.channels.get(params.get("channel", ""))
        if channel is None or (channel.get("is_private", True) and not channel["is_member"]):
            raise Refused("channel_not_found")
        self._scope(
            channel.get("is_private", True),
            "read" if method[14:] in ("info", "members") else "history",
        )
        if method == "conversations.info":
            return {"ok": True, "channel": channel}
        if method == "conversations.members":
            return self._page(self.members[channel["id"]], "members", params)
        if not channel["is_member"]:
            raise Refused("not_in_channel")
        rows = self.messages[channel["id"]]
        if method == "conversations.replies":
            return self._replies(rows, params)
        low, high = float(params.get("oldest", 0)), float(params.get("latest", 9e9))
        found = [
            r for r in rows.values() if r.get("thread_ts", r["ts"]) == r["ts"] or _broadcast(r)
        ]
        found = [r for r in found if low <= float(r["ts"]) <= high]
        if params.get("inclusive") != "true":
            found = [r for r in found if float(r["ts"]) not in (low, high)]
        newest = "latest" in params or "oldest" not in params  # by the oldest alone: oldest first
        found.sort(key=lambda r: float(r["ts"]), reverse=newest)
        return self._page(self._shown(rows, found), "messages", params)

    def _replies(self, rows: dict[str, dict[str, Any]], params: dict[str, str]) -> dict[str, Any]:
        ts = params.get("ts", "")
        if ts not in rows:
            raise Refused("thread_not_found")
        found = [r for r in rows.values() if r["ts"] == ts or r.get("thread_ts") == ts]
        found.sort(key=lambda r: float(r["ts"]))
        return self._page(self._shown(rows, found), "messages", params)

    def _shown(
        self, rows: dict[str, dict[str, Any]], found: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """With what is told of a thread where it begins."""
        replies = dict[str, list[str]]()
        for row in rows.values():
            if row.get("thread_ts", row["ts"]) != row["ts"]:
                replies.setdefault(row["thread_ts"], []).append(row["ts"])
        told = {
            t: {"reply_count": len(r), "latest_reply": max(r, key=float)}
            for t, r in replies.items()
        }
        return [row | told.get(row["ts"], {}) for row in found]

    def _list(self, params: dict[str, str]) -> dict[str, Any]:
        types = params.get("types", "public_channel").split(",")
        if set(types) - {"public_channel", "private_channel", "mpim", "im"}:
            raise Refused("invalid_types")
        for private in {one == "private_channel" for one in types}:
            self._scope(private, "read")
        found = [
            c
            for c in self.channels.values()
            if ("private_channel" if c.get("is_private", True) else "public_channel") in types
            and (c["is_member"] or not c.get("is_private", True))
            and not (params.get("exclude_archived") == "true" and c["is_archived"])
        ]
        return self._page(found, "channels", params)

    def _scope(self, private: bool, what: str) -> None:
        scope = f"{'groups' if private else 'channels'}:{what}"
        if scope not in self.scopes:
            raise Refused("missing_scope", needed=scope, provided=",".join(sorted(self.scopes)))

    def _page(self, rows: list[Any], name: str, params: dict[str, str]) -> dict[str, Any]:
        cursor = params.get("cursor", "at:0")
        if not cursor.startswith("at:") or not cursor[3:].isdecimal():
            raise Refused("invalid_cursor")
        start = int(cursor[3:])
        end = start + min(int(params.get("limit", 100)), self.page)
        more = f"at:{end}" if end < len(rows) else ""
        said = {"ok": True, name: rows[start:end], "response_metadata": {"next_cursor": more}}
        return said | ({"has_more": bool(more)} if name == "messages" else {})


def _broadcast(row: dict[str, Any]) -> bool:
    return row.get("subtype") == "thread_broadcast"


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

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    return server, thread
