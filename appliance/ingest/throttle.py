"""Files are read no faster than their source may be."""

from __future__ import annotations

import threading
import time

from appliance.ingest.vectors import Stopped

BLOCK = 1 << 20  # bytes read at once


class Throttle:
    """One a run. `passed` waits until so many bytes may have come, or raises Stopped."""

    def __init__(self, bytes_per_s: int | None, over: threading.Event) -> None:
        self._bytes_per_s, self._over = bytes_per_s, over
        self._free_at = 0.0  # when what came until now may have come
        self.block = min(BLOCK, bytes_per_s or BLOCK)

    def passed(self, size: int) -> None:
        if self._bytes_per_s is None:
            return
        moment = time.monotonic()
        self._free_at = max(self._free_at, moment) + size / self._bytes_per_s
        if self._over.wait(self._free_at - moment):
            raise Stopped
