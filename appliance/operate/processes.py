"""Whether the processes beside this one live, and where they are asked.

`python -m appliance.operate.processes NAME` ends with 0 where it does: a container's health check.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import socket
import sys
import time
from pathlib import Path

from appliance import settings as settings_of
from appliance import tls
from appliance.settings import Settings

BEGINNING_S = 120.0  # from the start of `kura up` until a process has its own lock
STARTING_S = 660.0  # `kura infer` gives up loading before that


def web_status(settings: Settings) -> str:
    """What `kura web` says of itself; "" where it says nothing."""
    host, port = local_host(settings), settings.web_port
    context = tls.believed(settings)
    link = (
        http.client.HTTPSConnection(host, port, timeout=2, context=context)
        if context
        else http.client.HTTPConnection(host, port, timeout=2)
    )
    try:
        # whatever name it is reached by: from the container beside it, that is none of people's
        link.request("GET", "/api/v1/health", headers={"Host": "localhost"})
        return str(json.loads(link.getresponse().read())["status"])
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return ""
    finally:
        link.close()


def local_host(settings: Settings) -> str:
    """Where this machine itself finds `kura web`."""
    every = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
    return every.get(settings.web_host, settings.web_host)


def runs(data: Path, name: str) -> bool:
    """Whether somebody holds the lock of `up.held`. Takes it for no longer than a look."""
    try:
        with (data / f"{name}.lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def answers_on_socket(path: Path) -> bool:
    """Whether `kura infer` has loaded its models."""
    try:
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(2.0)
            wire.connect(str(path))
            wire.sendall(b"GET /health HTTP/1.1\r\nHost: infer\r\nConnection: close\r\n\r\n")
            return b" 200 " in wire.recv(64)
    except OSError:
        return False


def state(settings: Settings, name: str) -> str:
    """Of `web`, `work`, `infer`: "starting" from its start until it is of use, then "ready", or
    "running" for `work`, or "degraded"; "stopped" where nobody starts it.
    """
    if name == "web" and (said := web_status(settings)):
        return said
    if name == "infer" and answers_on_socket(settings.infer_socket):
        return "ready"
    if runs(settings.data, name):
        if name == "work":
            return "running"
        return "starting" if _held_s(settings.data, name) < STARTING_S else "stuck"
    if not runs(settings.data, "up"):
        return "stopped"
    if name == "work":  # `kura up` starts it when the models are loaded
        return "starting" if state(settings, "infer") == "starting" else "stopped"
    return "starting" if _held_s(settings.data, "up") < BEGINNING_S else "stopped"


def _held_s(data: Path, name: str) -> float:
    """How long the lock of that name has been held: its holder writes into it."""
    try:
        return time.time() - (data / f"{name}.lock").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def well(settings: Settings, name: str) -> bool:
    if name == "web":
        return web_status(settings) in ("ready", "degraded")
    if name == "infer":
        return answers_on_socket(settings.infer_socket)
    return runs(settings.data, name)


if __name__ == "__main__":
    sys.exit(not well(settings_of.load(), sys.argv[1]))
