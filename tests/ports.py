"""Ports for the servers that tests start."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

_DRAWN = random.Random(os.urandom(8))
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free() -> int:
    """A port of 127.0.0.1 where nobody listens, outside of what the kernel gives to connections.

    One that the kernel chose itself can be somebody's outgoing connection by the time
    the server wants it.
    """
    lowest = min(int(_RANGE.read_text().split()[0]), 32768)
    for _ in range(100):
        port = _DRAWN.randrange(lowest // 2, lowest)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
