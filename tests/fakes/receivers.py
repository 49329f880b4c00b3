"""Servers on loopback that alerts may go to, and what they were told: SMTP, HTTP, syslog."""

from __future__ import annotations

import base64
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Mails:
    port: int = 0
    got: list[EmailMessage] = field(default_factory=list)
    signed_in: list[tuple[str, str]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    refuse: int = 0  # so many of the next messages, for now


@contextmanager
def smtp(
    tls: ssl.SSLContext | None = None, *, at_once: bool = False, password: str = ""
) -> Iterator[Mails]:
    """Speaks SMTP: STARTTLS where it has a certificate, AUTH PLAIN where it has a password."""
    mails = Mails()

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            safe = False
            if at_once and tls:
                try:
                    self._secure()
                except OSError:
                    return
                safe = True
            self._say("220 fake ESMTP")
            known = False
            while line := self.rfile.readline():
                text = line.decode("ascii", "replace").strip()
                word = text.split(" ")[0].upper()
                if word == "EHLO":
                    offers = ["fake", *(["STARTTLS"] if tls and not safe else [])]
                    offers += ["AUTH PLAIN"] if password else []
                    for one in offers[:-1]:
                        self._say(f"250-{one}")
                    self._say(f"250 {offers[-1]}")
                elif word == "STARTTLS":
                    self._say("220 go")
                    try:
                        self._secure()
                    except OSError:
                        return
                    safe = True
                elif word == "AUTH":
                    _, user, said = base64.b64decode(text.split(" ")[2]).decode().split("\0")
                    mails.signed_in.append((user, said))
                    known = said == password
                    self._say("235 ok" if known else "535 no")
                elif word == "DATA":
                    self._say("354 go")
                    data = b""
                    while (row := self.rfile.readline()) != b".\r\n":
                        data += row.removeprefix(b".") if row.startswith(b"..") else row
                    if mails.refuse:
                        mails.refuse -= 1
                        self._say("451 later")
                        continue
                    mails.encrypted.append(safe)
                    made = message_from_bytes(data, policy=policy.default)
                    assert isinstance(made, EmailMessage)
                    mails.got.append(made)
                    self._say("250 taken")
                elif word == "QUIT":
                    self._say("221 bye")
                    return
                else:
                    self._say("250 ok")

        def finish(self) -> None:
            super().finish()
            self.request.close()  # the one that TLS made, where there is one

        def _say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

        def _secure(self) -> None:
            assert tls
            self.request = tls.wrap_socket(self.request, server_side=True)
            self.rfile.close()
            self.rfile, self.wfile = self.request.makefile("rb"), _Writing(self.request)

    class _Writing:
        def __init__(self, line: ssl.SSLSocket) -> None:
            self._line = line
            self.closed = False

        def write(self, data: bytes) -> None:
            self._line.sendall(data)

        def flush(self) -> None: ...

        def close(self) -> None:
            self.closed = True

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk)) as port:
        mails.port = port
        yield mails


@dataclass
class Posts:
    port: int = 0
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[str], tuple[int, dict[str, str]]] = lambda path: (204, {})


@contextmanager
def hooks() -> Iterator[Posts]:
    posts = Posts()

    class Talk(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            posts.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status, headers = posts.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "content-length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: Any) -> None: ...

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Talk)) as port:
        posts.port = port
        yield posts


@contextmanager
def datagrams() -> Iterator[tuple[int, list[bytes]]]:
    got: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("127.0.0.1", 0))
        line.settimeout(0.1)
        done = threading.Event()

        def hear() -> None:
            while not done.is_set():
                try:
                    got.append(line.recv(65536))
                except TimeoutError:
                    continue

        thread = threading.Thread(target=hear)
        thread.start()
        try:
            yield line.getsockname()[1], got
        finally:
            done.set()
            thread.join()


@contextmanager
def stream(tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """What came over each connection, whole."""
    got: list[bytes] = []

    class Talk(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                line = tls.wrap_socket(self.request, server_side=True) if tls else self.request
            except OSError:
                return
            data = b""
            with line:
                while block := line.recv(65536):
                    data += block
            got.append(data)

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk)) as port:
        yield port, got


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    if isinstance(server, socketserver.ThreadingTCPServer):
        server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
