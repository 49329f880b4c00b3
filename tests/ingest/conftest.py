"""A machine that takes documents in: real database, a source held in memory, a plain parser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Engine

from appliance.errors import Unreadable
from appliance.ingest.sync import Report, sync
from appliance.ports import Connector
from appliance.settings import Settings
from appliance.store import access, catalog, sources
from appliance.testing.fakes import HashEmbedder, MemoryConnector
from appliance.types import EVERYONE, Change, Cursor, Document, Principal, RawFile, Viewer


def parse(file: RawFile) -> tuple[Document, str]:
    with file.open() as stream:
        data = stream.read()
    if data.startswith(b"%BROKEN"):
        raise Unreadable("壊れています")
    return Document(data.decode()), "text/plain"


class Script(MemoryConnector):
    """Says what it is told to, whatever the cursor."""

    def __init__(self, *changes: Change) -> None:
        super().__init__({})
        self.script: list[Change] = list(changes)
        self.asked: list[Cursor | None] = []

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        self.asked.append(since)
        yield from self.script


@dataclass
class Machine:
    engine: Engine
    source_id: int
    settings: Settings
    embedder: HashEmbedder = field(default_factory=HashEmbedder)
    parse: Callable[[RawFile], tuple[Document, str]] = parse
    over: threading.Event = field(default_factory=threading.Event)

    def sync(self, connector: Connector) -> Report:
        source = sources.get(self.engine, self.source_id)
        return sync(
            self.engine, source, connector, self.embedder, self.parse, self.settings, self.over
        )

    def texts(self, *principals: str) -> dict[str, str]:
        """Everything this person may find: title → text."""
        viewer = Viewer("x", frozenset({EVERYONE, *map(Principal, principals)}))
        wanted = [(i, 0.0) for i, _ in catalog.chunk_accesses(self.engine)]
        found: dict[str, str] = {}
        for passage in access.passages(self.engine, viewer, wanted):
            found[passage.title] = passage.text
        return found

    def problems(self) -> dict[str, str | None]:
        listed = catalog.documents(self.engine, status="problem", size=1000).documents
        return {d.uri: d.problem for d in listed}

    @property
    def embedded(self) -> int:
        return sum(len(texts) for _, texts in self.embedder.calls)


@pytest.fixture
def machine(sqlite_engine: Engine, tmp_path) -> Machine:
    source = sources.create(sqlite_engine, "共有", "memory", {})
    return Machine(sqlite_engine, source.id, Settings(data=tmp_path))


@pytest.fixture
def script() -> type[Script]:
    return Script
