"""A small site of an intranet: pages that are put and taken away, and what the server was asked."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote

from appliance.types import Site
from connectors.web import WebConnector, WebSettings

MODIFIED = "Wed, 01 Apr 2026 00:00:00 GMT"
PASSWORD = "himitsu-0451"
HTML = "text/html"


def html(body: str, head: str = "", title: str = "頁") -> str:
    return (
        f"<!DOCTYPE html><html><head><title>{title}</title>{head}</head><body>{body}</body></html>"
    )


class Intranet:
    """Answers with an ETag, and 304 to who has it. `guarded`: only to who signed in by its form."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.asked: list[str] = []
        self.counts: Counter[int] = Counter()
        self.guarded = self.basic = ""
        self.away = False  # takes a connection and says nothing
        self.sessions: set[str] = set()
        self.posted: list[dict[str, list[str]]] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # one packet an answer

            def do_GET(self) -> None:
                outer.get(self)

            def do_POST(self) -> None:
                outer.post(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.near = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.near}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def put(self, path: str, text: str | bytes, media_type: str = HTML, **headers: str) -> None:
        data = text.encode() if isinstance(text, str) else text
        said = {"Content-Type": media_type, "Last-Modified": MODIFIED}
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = (200, data, {"ETag": f'"{hashlib.md5(data).hexdigest()}"'} | said)

    def say(self, path: str, status: int, **headers: str) -> None:
        self.pages[path] = (status, b"", {k: quote(v, safe="/:%?=#") for k, v in headers.items()})

    def delete(self, path: str) -> None:
        del self.pages[path]

    def address(self, path: str) -> str:
        return self.url + quote(path)

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        if self.away:
            handler.close_connection = True
            return
        path = unquote(handler.path)
        self.asked.append(path)
        self.headers.append({k.lower(): v for k, v in handler.headers.items()})
        cookie = SimpleCookie(handler.headers.get("cookie", ""))
        signed_in = "sid" in cookie and cookie["sid"].value in self.sessions
        if path.partition("?")[0] == "/login":
            form = (
                '<form action="/search"><input name="q"></form>'
                '<form method="post" action="/session"><input type="hidden" name="csrf" value="t&amp;1">'
                '<input name="account"><input type="password" name="pin"></form>'
            )
            self._send(handler, 200, html(form).encode(), {"Content-Type": HTML})
        elif self.guarded and path.startswith(self.guarded) and not signed_in:
            self._send(handler, 302, b"", {"Location": "/login?next=/"})
        elif self.basic and handler.headers.get("authorization") != self.basic:
            self._send(handler, 401, b"", {})
        else:
            status, body, headers = self.pages.get(path, (404, b"", {}))
            if status == 200 and handler.headers.get("if-none-match") == headers.get("ETag"):
                status, body = 304, b""
            self._send(handler, status, body, headers)

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        said = parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
        self.posted.append(said)
        right = (said.get("account"), said.get("pin"), said.get("csrf"))
        headers = {"Location": "/elsewhere/home"}
        if right == (["ito"], [PASSWORD], ["t&1"]):
            sid = f"s{len(self.posted)}"
            self.sessions.add(sid)
            headers["Set-Cookie"] = f"sid={sid}; Path=/; HttpOnly"
        self._send(handler, 302, b"", headers)

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        self.counts[status] += 1
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    @property
    def settings(self) -> dict[str, object]:
        return {"start": [f"{self.url}/"], "allow": ["group:営業部"], "per_second": 0}

    def connector(self, **more: object) -> WebConnector:
        site = Site(near=frozenset({self.near}))
        return WebConnector(WebSettings.model_validate(self.settings | more), site)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
