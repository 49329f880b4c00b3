"""What every request passes before any route: right host, right origin, patience, headers.

* Host: only names this appliance goes by, so that a foreign name that is made to
  resolve to this machine is no way in.
* Origin: a browser says where an unsafe request comes from; it must be here.
* Patience: a body that is too large or stops coming is given up.
* Range is ignored: nothing here is worth resuming.
* Whatever breaks inside becomes one sentence and a request id.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api import errors
from appliance.errors import BadRequest, NotAllowed, TooLarge
from appliance.settings import Settings

log = logging.getLogger("kura.api")

BODY_PATIENCE_S = 30.0
JSON_BYTES = 1_000_000  # largest body that is not a file
FORM_BYTES = 1_000_000  # what an upload may have around its file
UPLOADS = "/api/v1/uploads"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ANY = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - recognised, not listened on

CSP = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Wall:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.names = Names(settings)
        self.file_bytes = settings.file_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.monotonic(), 0
        scope["kura.request_id"] = request_id = secrets.token_hex(8)
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"range"]

        async def finished(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(scope, message, request_id)
            await send(message)

        try:
            self.names.check(scope)
            limit = self.file_bytes + FORM_BYTES if scope["path"] == UPLOADS else JSON_BYTES
            await self.app(scope, _measured(scope, receive, limit), finished)
        except Exception as error:  # noqa: BLE001 - nobody is shown a stack trace
            errors.report(error, request_id)
            if status == 0:
                await errors.response(error, request_id)(scope, receive, finished)
        finally:
            route = scope.get("route")
            log.info(
                "request",
                extra={
                    "fields": {
                        "method": scope["method"],
                        # The template, not the address: ids and questions stay out of the log.
                        "path": getattr(route, "path", "-"),
                        "status": status,
                        "ms": round((time.monotonic() - began) * 1000),
                        "request_id": request_id,
                    }
                },
            )


class Names:
    """The names people reach this appliance by."""

    def __init__(self, settings: Settings) -> None:
        self.public = settings.public_origin.rstrip("/").lower()
        self.hosts = set(LOOPBACK) | {settings.web_host.lower()}
        if self.public:
            self.hosts.add(urlsplit(self.public).hostname or "")
        self.everywhere = settings.web_host in ANY
        if self.everywhere and not self.public:
            self.hosts |= {socket.gethostname().lower()}

    def check(self, scope: Scope) -> None:
        """Raises BadRequest for a foreign host, NotAllowed for a foreign origin."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if not self._ours(host):
            raise BadRequest(
                "この名前では利用できません。settings の public_origin を確かめてください。"
            )
        if scope["method"] in SAFE:
            return
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise NotAllowed("cross-site request")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._origins(scope, host):
            raise NotAllowed("foreign origin")

    def _ours(self, host: str) -> bool:
        name = _hostname(host)
        if name in self.hosts:
            return True
        # Only names can be rebound; an address is what it says.
        return self.everywhere and _is_address(name)

    def _origins(self, scope: Scope, host: str) -> Iterable[str]:
        yield f"{scope.get('scheme', 'http')}://{host}"
        if self.public:
            yield self.public


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "") if host else ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _measured(scope: Scope, receive: Receive, limit: int) -> Receive:
    """Gives a body up that is too large or stops coming. After the body, waiting is what one does."""
    whole, size = False, 0
    said = Headers(scope=scope).get("content-length", "0")
    if not (said.isascii() and said.isdecimal()):
        raise BadRequest("Content-Length が正しくありません。")
    if int(said) > limit:
        raise TooLarge(f"{limit // 1_000_000} MB までです。")

    async def limited() -> Message:
        nonlocal whole, size
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BODY_PATIENCE_S)
        except TimeoutError:
            raise BadRequest("本文が届きません。") from None
        if (size := size + len(message.get("body", b""))) > limit:
            raise TooLarge(f"{limit // 1_000_000} MB までです。")
        whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    return limited


def _add_headers(scope: Scope, message: Message, request_id: str) -> None:
    headers = MutableHeaders(raw=message.setdefault("headers", []))
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    headers["X-Request-Id"] = request_id
    headers.setdefault("Cache-Control", "no-store")
    if scope.get("scheme") == "https":
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
