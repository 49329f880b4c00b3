"""`kura web`: the application behind uvicorn, with patience for nobody's half requests."""

from __future__ import annotations

import asyncio
import signal

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from appliance import tls
from appliance.api import create_app
from appliance.system import Appliance

HEAD_PATIENCE_S = 15.0  # from the first byte of a request, or the connection, to its last header
PROXIES = ["127.0.0.1", "::1"]  # whose X-Forwarded-For is believed


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on a request head that does not come to its end."""

    _giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forgive()
        super().connection_lost(exc)

    def _watch(self) -> None:
        waiting = self.conn.their_state is h11.IDLE
        if not waiting:
            self._forgive()
        elif self._giving_up is None:
            self._giving_up = self.loop.call_later(HEAD_PATIENCE_S, self._give_up)

    def _forgive(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _give_up(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


def server(machine: Appliance) -> uvicorn.Server:
    settings = machine.settings
    context = tls.shown(settings)
    return uvicorn.Server(
        uvicorn.Config(
            create_app(machine),
            host=settings.web_host,
            port=settings.web_port,
            loop="asyncio",  # uvloop hides connections from the egress guard
            http=PatientProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=True,
            forwarded_allow_ips=PROXIES,
            timeout_keep_alive=20,
            timeout_graceful_shutdown=5,
            limit_concurrency=1000,
            ssl_context_factory=(lambda config, default: context) if context else None,
        )
    )


def serve(machine: Appliance) -> None:
    """Follow the catalogue and answer until SIGTERM or SIGINT."""
    serving = server(machine)
    signal.signal(signal.SIGTERM, serving.handle_exit)
    machine.follower.start()
    if machine.mover:
        machine.mover.start()
    try:
        serving.run()
    finally:
        if machine.mover:
            machine.mover.close()
        machine.follower.close()
