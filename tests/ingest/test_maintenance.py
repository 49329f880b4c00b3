"""Maintenance ends a run between two documents, and the next begins when it is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ClassVar

from pydantic import BaseModel
from sqlalchemy import Engine

from appliance import worker
from appliance.settings import Settings
from appliance.store import catalog, maintenance, sources
from appliance.system import Workshop
from appliance.testing.fakes import HashEmbedder, MemoryConnector
from appliance.types import Access, Document, Layer, Principal, RawFile

OPEN = (Layer(frozenset({Principal("everyone")})),)
FILES: dict[str, str | bytes | tuple[str | bytes, Access]] = {
    f"{n:03}.txt": f"規程 {n}" for n in range(400)
}


class Nothing(BaseModel):
    """Settings."""


class Shelf(MemoryConnector):
    Settings: ClassVar[type[BaseModel]] = Nothing

    def __init__(self, _: object = None) -> None:
        super().__init__(dict(FILES), OPEN)


def test_the_document_in_hand_is_finished_and_the_rest_waits(sqlite_engine: Engine) -> None:
    def held_by() -> str | None:
        source = sources.by_name(sqlite_engine, "棚")
        assert source
        return source.leased_by

    sources.create(sqlite_engine, "棚", "memory", {})
    stop = threading.Event()

    def parse(file: RawFile) -> tuple[Document, str]:
        time.sleep(0.02)
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    kinds = {"memory": Shelf}
    shop = Workshop(Settings(sync_seconds=1), sqlite_engine, HashEmbedder(), kinds)
    lane = threading.Thread(target=worker._lane, args=(shop, parse, stop, None))
    lane.start()

    def count() -> int:
        return catalog.counts(sqlite_engine).ready

    try:
        _until(lambda: count() > 3)
        maintenance.begin(sqlite_engine, "", None, "console:root")
        _until(lambda: held_by() is None)
        held = count()
        assert 3 < held < len(FILES)
        time.sleep(1.5)
        assert count() == held
        source = sources.by_name(sqlite_engine, "棚")
        assert source and source.last_run and source.last_run.outcome == "stopped"
        maintenance.end(sqlite_engine)
        _until(lambda: count() > held)
    finally:
        stop.set()
        lane.join()


def _until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
