"""A run of one source: what its steps share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from appliance.ingest.handling import quiet
from appliance.ingest.tally import Tally
from appliance.ingest.throttle import Throttle
from appliance.ports import Embedder
from appliance.settings import Settings
from appliance.shelf import Shelf
from appliance.store.catalog import Stored
from appliance.store.sources import Source
from appliance.types import Cursor, Document, RawFile

Parse = Callable[[RawFile], tuple[Document, str]]  # the document and its media type


@dataclass
class Run:
    """What a run of a source needs, and what it knows so far."""

    engine: Engine
    source: Source
    embedder: Embedder
    parse: Parse
    settings: Settings
    over: threading.Event
    tally: Tally
    throttle: Throttle
    # marked: its source mentioned it
    known: Shelf[Stored] = field(default_factory=lambda: Shelf(Stored._make))
    left: set[str] = field(default_factory=set)  # digests of bytes that nobody may wait for
    forced: bool = False  # taken in though it may be unchanged
    partial: bool = False  # not all of the source could be listed
    relist: bool = False  # something was said about a file we do not know
    cursor: Cursor | None = None  # as it is stored
    problem: str | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Of chunks and parents, in characters."""
        own = self.source.tuning
        return (
            own.chunk_chars or self.settings.chunk_chars,
            own.parent_chars or self.settings.parent_chars,
        )

    @property
    def made(self) -> str:
        """How the catalogue names them."""
        return "/".join(map(str, self.sizes))

    def quiet(self, text: str) -> str:
        """A name or a reason as this source lets it be shown."""
        return quiet(text, self.source.personal_data)
