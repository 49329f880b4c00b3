"""Whether a source or a directory can be reached with settings that are not kept yet. Nothing is changed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from appliance.errors import SourceBusy
from appliance.ingest import directory as following
from appliance.ingest import schedule
from appliance.ports import Connector
from appliance.types import Site

DIRECTORY = "directory"  # where others have a kind of source
REACHED = "つながりました。設定を保存できます。"
BUSY = "ほかの接続を確かめています。少し待って、もう一度お試しください。"
AT_ONCE = 4


class Trial:
    """For `kura work`, the one process that reaches out."""

    def __init__(self, connectors: Mapping[str, type[Connector]], site: Site) -> None:
        self._connectors, self._site = connectors, site
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def __call__(self, kind: str, settings: Mapping[str, Any]) -> str:
        """What was found, in a sentence. `settings`: sealed. Raises what the source raises."""
        if not self._turns.acquire(blocking=False):
            raise SourceBusy(BUSY, 5.0)
        try:
            if kind == DIRECTORY:
                with following.connected(settings, self._site) as server:
                    return server.check()
            schedule.made(self._connectors, kind, settings, self._site).check()
            return REACHED
        finally:
            self._turns.release()
