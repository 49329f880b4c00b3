"""What IIS does before a web application is asked: signing in by NTLM, one connection at a time.

The messages are real: this side of the handshake is pyspnego's acceptor, with a file of users. What a
client sends in its first two steps must have no body of its own, as IIS would have it.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

DOMAIN, USER, PASSWORD = "EXAMPLE", "svc-kura", "ひみつ-Pa55"
_REFUSED = b"<!DOCTYPE html><html><head><title>401 - Unauthorized</title></head></html>"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Windows

    def setup(self) -> None:
        super().setup()
        self.who, self.served = "", 0
        self._context: Any = None
        self.server.opened += 1

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self._signs_in(body):
            self.served += 1
            self.server.answer(self, body)
            if 0 < self.server.forgets_after <= self.served:
                self.who, self.served = "", 0

    def _signs_in(self, body: bytes) -> bool:
        said = self.headers.get("authorization", "")
        if not said:
            if not self.who:
                self._again()
            return bool(self.who)
        scheme, _, text = said.partition(" ")
        self.who = ""
        try:
            token = base64.b64decode(text, validate=True)
        except binascii.Error:
            token = b""
        if scheme not in self.server.schemes or not token:
            self._again()
            return False
        if scheme == "NTLM" and token[:8] + token[8:9] == b"NTLMSSP\0\x01":
            assert not body, "the first step carries what is posted"
            self.server.steps += 1
            self._context = None
        try:
            if self._context is None:
                protocol = "ntlm" if scheme == "NTLM" else "negotiate"
                self._context = spnego.server(hostname="sp", service="HTTP", protocol=protocol)
            given = self._context.step(token, channel_bindings=self.server.bindings)
        except SpnegoError:
            self.server.failed += 1
            self._context = None
            self._again()
            return False
        if not self._context.complete:
            self._again(scheme, given)
            return False
        self.who = str(self._context.client_principal)
        return True

    def _again(self, scheme: str = "", token: bytes | None = None) -> None:
        self.send_response(401)
        if token:
            said = base64.b64encode(token).decode()
            self.send_header("WWW-Authenticate", f"{scheme} {said}")
        else:
            for one in self.server.schemes:
                self.send_header("WWW-Authenticate", one)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(_REFUSED)))
        if self.server.hangs_up:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(_REFUSED)

    def log_message(self, *_: object) -> None:
        pass


class Windows(ThreadingHTTPServer):
    """On loopback. `tls`: certificate and key, and its channel binding that clients must bring."""

    daemon_threads = True
    request_queue_size = 50

    def __init__(self, tls: tuple[Path, Path, GssChannelBindings] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        self.near = f"127.0.0.1:{self.port}"
        self.schemes = ["Negotiate", "NTLM"]
        self.bindings = tls[2] if tls else None
        self.opened = self.steps = self.failed = 0  # connections, sign-ins, refusals
        self.forgets_after = 0  # requests on a connection; 0: never
        self.hangs_up = False  # amid a sign-in
        self.url = f"{'https' if tls else 'http'}://{self.near}"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls[:2])
            self.socket = context.wrap_socket(self.socket, server_side=True)
        with tempfile.NamedTemporaryFile("w", suffix=".users", delete=False) as users:
            users.write(f"{DOMAIN}:{USER}:{PASSWORD}\n")
        self._users, self._before = users.name, os.environ.get("NTLM_USER_FILE")
        os.environ["NTLM_USER_FILE"] = users.name
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, to: Handler, body: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        Path(self._users).unlink(missing_ok=True)
        if self._before is None:
            os.environ.pop("NTLM_USER_FILE", None)
        else:
            os.environ["NTLM_USER_FILE"] = self._before
