"""What administrators do and look at, in the audit chain; who may do it is `deps`' affair.

A call that changes something is written down before it is done and with its status after, and is
not done where it cannot be. Looking at something is written once an hour for a person, a key and a
thing: pages ask again every few seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.errors import ApplianceError
from appliance.identity.callers import Caller
from appliance.store import audit
from appliance.system import Appliance

log = logging.getLogger("kura.api")

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
AN_HOUR_S = 3600.0
MOST_KEPT = 10_000
# Shown even where nothing can be written: a full disk must be seen to be mended.
ALWAYS = frozenset({"/admin/status", "/admin/metrics", "/admin/alerts"})
_NUMBER = "kura.recorded"


class Looks:
    """What was looked at lately."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def first(self, *what: str) -> bool:
        """Whether it was not seen within the hour."""
        now = time.monotonic()
        with self._lock:
            if now - self._seen.get(what, -AN_HOUR_S) < AN_HOUR_S:
                return False
            if len(self._seen) >= MOST_KEPT:
                self._seen.clear()
            self._seen[what] = now
            return True

    def forget(self, *what: str) -> None:
        with self._lock:
            self._seen.pop(what, None)


def call(request: Request, machine: Appliance, caller: Caller, *, refused: bool = False) -> None:
    """Write an administrator's call down, or that of somebody who is none. Raises NotReady."""
    route = str(getattr(request.scope.get("route"), "path", "-"))
    detail: dict[str, Any] = {"method": request.method, "route": route}
    if request.path_params:
        detail["of"] = dict(request.path_params)
    looks: Looks = request.app.state.looks
    if not refused and request.method not in SAFE:
        detail["request_id"] = str(request.scope.get("kura.request_id", ""))
        number = audit.record(machine.engine, caller.actor, "admin.call", detail)
        request.scope[_NUMBER] = (number, caller.actor)
        return
    action = "admin.refused" if refused else "admin.look"
    key = (action, caller.actor, request.method, request.url.path)
    if not looks.first(*key):
        return
    try:
        audit.record(machine.engine, caller.actor, action, detail)
    except ApplianceError:
        looks.forget(*key)
        if not refused and route not in ALWAYS:
            raise
        log.error("%s cannot be recorded", action)


class Outcomes:
    """Writes with which status a recorded call ended."""

    def __init__(self, app: ASGIApp, machine: Appliance) -> None:
        self.app = app
        self.machine = machine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500  # what breaks says nothing

        async def heard(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, heard)
        finally:
            if _NUMBER in scope:
                number, actor = scope[_NUMBER]
                await run_in_threadpool(self._write, number, actor, status)

    def _write(self, number: int, actor: str, status: int) -> None:
        try:
            audit.record(self.machine.engine, actor, "admin.end", {"of": number, "status": status})
        except ApplianceError as error:
            log.error("the end of call %d cannot be recorded: %s", number, error)
