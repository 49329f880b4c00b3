"""What stands between Kura and a real server, and does to an answer what networks and servers do.

A *half body* breaks off before the length that was promised; a *half page* promises its own. A *repeated
page* is the one before, of the same listing. `HttpProxy` understands what it hands on, so that it can answer itself; `Pipe` hands on bytes.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HTTP = ("timeout", "429", "500", "502", "503", "half body", "dropped")
TCP = ("timeout", "dropped", "refused")


@dataclass
class Fault:
    """`kind` befalls the request number `at` (of an HttpProxy) or byte `at` of the answers (of a Pipe)."""

    kind: str
    at: int = 0
    share: float = 0.5  # of an answer that is let through
    lasting: bool = True  # all that follow too
    met: int = 0  # how often it befell one


class Proxy:
    """Broken while `fault` is set."""

    fault: Fault | None = None

    def __init__(self) -> None:
        self.over = threading.Event()  # nobody waits any longer

    def begin(self, fault: Fault) -> None:
        self.over.clear()
        self.fault = fault

    def end(self) -> None:
        self.fault = None
        self.over.set()


def reset(connection: socket.socket) -> None:
    """As a machine that lost its power answers: no goodbye."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


class HttpProxy(Proxy):
    def __init__(self, port: int, pem: Path | None = None, stranger: Path | None = None) -> None:
        super().__init__()
        self.seen, self._before = 0, dict[str, tuple[int, list[tuple[str, str]], bytes]]()
        self._lock, self._upstream = threading.Lock(), port
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.answer(self, body)

            do_GET = do_POST = do_HEAD = do_PROPFIND = _any

            def log_message(self, *_: object) -> None:
                pass

        class Served(ThreadingHTTPServer):
            daemon_threads = True

            def finish_request(self, request: socket.socket, address: object) -> None:  # type: ignore[override]
                if pem and stranger:
                    wrong = outer.fault is not None and outer.fault.kind == "wrong TLS"
                    if wrong and outer.fault:
                        outer.fault.met += 1
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(stranger if wrong else pem)
                    try:
                        request = context.wrap_socket(request, server_side=True)
                    except (ssl.SSLError, OSError):
                        return
                with suppress(OSError, ssl.SSLError):
                    super().finish_request(request, address)  # type: ignore[arg-type]

            def handle_error(self, request: object, client_address: object) -> None:
                """Whoever asked hung up."""

        self.server = Served(("127.0.0.1", 0), Handler)
        self.port = int(self.server.server_address[1])
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def begin(self, fault: Fault) -> None:
        self.seen = 0
        self._before.clear()  # a page that another run was given is none of this one
        super().begin(fault)

    def close(self) -> None:
        self.end()
        self.server.shutdown()
        self.server.server_close()

    def _met(self) -> Fault | None:
        """What befalls this request."""
        with self._lock:
            number, fault = self.seen, self.fault
            self.seen += 1
            if fault is None or number < fault.at or (number > fault.at and not fault.lasting):
                return None
            fault.met += 1
            return fault

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        fault = self._met()
        kind = fault.kind if fault else ""
        if kind == "timeout":
            self.over.wait(60)
        if kind in ("timeout", "dropped"):
            handler.close_connection = True
            reset(handler.connection)
            return
        if fault and kind.isdecimal():
            headers = [("Retry-After", "120" if fault.lasting else "0")] if kind == "429" else []
            self._send(handler, int(kind), headers, b"<html>busy</html>")
            return
        status, headers, said = self._asked(handler, body)
        known = handler.command + handler.path.partition("?")[0]
        if kind == "repeated page":
            status, headers, said = self._before.get(known, (status, headers, said))
        self._before[known] = status, headers, said
        if fault and kind == "half page":
            said = said[: int(len(said) * fault.share)]
        if fault and kind == "half body":
            self._send(handler, status, headers, said, int(len(said) * fault.share))
            handler.close_connection = True
        else:
            self._send(handler, status, headers, said)

    def _asked(
        self, handler: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=60)
        try:
            upstream.putrequest(
                handler.command, handler.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in handler.headers.items():
                if name.lower() not in ("connection", "content-length"):
                    upstream.putheader(name, value)
            upstream.putheader("Content-Length", str(len(body)))
            upstream.putheader("Connection", "close")
            upstream.endheaders(body)
            told = upstream.getresponse()
            return told.status, told.getheaders(), told.read()
        finally:
            upstream.close()

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        shown: int | None = None,
    ) -> None:
        """`shown`: so many bytes of it, and no more comes."""
        handler.send_response(status)
        for name, value in headers:
            if name.lower() not in (
                "connection",
                "content-length",
                "transfer-encoding",
                "date",
                "server",
            ):
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:shown] if shown is not None else body)
        handler.wfile.flush()


class Pipe(Proxy):
    """Hands bytes on to a port, both ways."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._upstream, self._given = port, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self.listener.getsockname()[1])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def begin(self, fault: Fault) -> None:
        self._given = 0
        super().begin(fault)

    def close(self) -> None:
        self.end()
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join()

    def _listen(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.fault and self.fault.kind == "refused":
                self.fault.met += 1
                reset(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._upstream), 30)
            except OSError:
                reset(near)
                continue
            far.settimeout(None)
            for target, ends in ((self._ask, (near, far)), (self._tell, (far, near))):
                threading.Thread(target=target, args=ends, daemon=True).start()

    def _ask(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while block := near.recv(1 << 16):
                far.sendall(block)
        with suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    def _tell(self, far: socket.socket, near: socket.socket) -> None:
        try:
            while block := far.recv(1 << 14):
                fault = self.fault
                if fault and self._given + len(block) > fault.at:
                    near.sendall(block[: max(0, fault.at - self._given)])
                    self._given += len(block)
                    fault.met += 1
                    if not fault.lasting:
                        fault.at = 1 << 60
                    if fault.kind == "timeout":
                        self.over.wait(60)
                    reset(near)
                    break
                self._given += len(block)
                near.sendall(block)
        except OSError:
            pass
        with suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)
        near.close()
        far.close()
