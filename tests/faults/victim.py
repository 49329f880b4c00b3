"""A worker that dies on request.

Reads `<url> <folder> <point> <nth>` from stdin, a line a life: forks, looks at
every due source once, and kills itself with SIGKILL the nth time it has come to
`point`. Answers each line with how the life ended.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from appliance import worker
from appliance.formats import archive
from appliance.ingest import prepare, schedule
from appliance.ingest import sync as ingest
from appliance.settings import Settings
from appliance.store import catalog, database, rows, runs, sources
from appliance.system import Workshop
from appliance.testing.fakes import HashEmbedder
from appliance.types import Document, RawFile
from connectors.folder import FolderConnector


class Reader:
    """Stands in for the sandbox, which has tests of its own."""

    def parse(self, file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            if stream.read(2) == b"PK":
                stream.seek(0)
                return archive.parse_zip(stream), "application/zip"
            stream.seek(0)
            return Document(stream.read().decode()), "text/plain"


# Every step of a document's way in, in its order. `rows.…` lie inside a transaction.
POINTS: dict[str, tuple[Any, str]] = {
    "leased": (sources, "lease"),
    "run started": (runs, "start"),
    "catalogue compared": (ingest, "_due"),
    "fetched": (ingest, "fetch"),
    "parsed": (Reader, "parse"),
    "split": (prepare, "split"),
    "embedded": (HashEmbedder, "embed"),
    "old chunks dropped, not committed": (rows, "drop_chunks"),
    "new chunks added, not committed": (rows, "add_chunks"),
    "logged, not committed": (rows, "log"),
    "replaced": (catalog, "replace"),
    "renewed": (catalog, "renew"),
    "moved": (catalog, "move"),
    "failure kept": (catalog, "fail"),
    "forgotten, not committed": (rows, "forget"),
    "forgotten": (catalog, "forget"),
    "cursor saved": (sources, "save_cursor"),
    "run finished": (runs, "finish"),
    "released": (sources, "release"),
}
LEASE_S = 0.3


def live(url: str, folder: str, stop: threading.Event | None = None) -> None:
    """Look at every source that is due."""
    schedule.LEASE_S = LEASE_S
    engine = database.connect(url)
    kinds = {"folder": FolderConnector}
    workshop = Workshop(Settings(data=Path(folder)), engine, HashEmbedder(), kinds)
    try:
        while worker.once(workshop, Reader().parse, stop or threading.Event()):
            pass
    finally:
        engine.dispose()


def die_after(owner: Any, name: str, nth: int) -> None:
    real: Callable[..., Any] = getattr(owner, name)
    calls = count(1)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        out = real(*args, **kwargs)
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return out

    setattr(owner, name, deadly)


def main() -> None:
    for line in sys.stdin:
        url, folder, point, nth = line.rstrip("\n").split("\t")
        if (child := os.fork()) == 0:
            try:
                tempfile.tempdir = folder
                if point in POINTS:
                    die_after(*POINTS[point], int(nth))
                live(url, folder)
                os._exit(0)
            except BaseException:  # noqa: BLE001  the parent is told
                traceback.print_exc()
                os._exit(1)
        if point == "at random":
            dead = threading.Timer(int(nth) / 1000, os.kill, (child, signal.SIGKILL))
            dead.start()
            _, status = os.waitpid(child, 0)
            dead.cancel()
        else:
            _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else "broke" if status else "lived", flush=True)


if __name__ == "__main__":
    main()
