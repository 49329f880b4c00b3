"""The files inside a file, each taken in as a document of its own.

What is there already is not embedded again. Pages of them that are pictures wait as all pages do,
with the bytes of the file inside that they are of.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Engine

from appliance.errors import TooLarge, Unreadable
from appliance.formats.answers import told_apart
from appliance.ingest import inside, kept
from appliance.ingest.handling import handled
from appliance.ingest.handling import quiet as as_shown
from appliance.ingest.pages import lost, waits
from appliance.ingest.vectors import STOP_PATIENCE_S, Part, Stopped
from appliance.settings import Settings
from appliance.store import catalog
from appliance.store.inside import Held, Inner, quiet, title_of
from appliance.text import readings
from appliance.text.personal import Handling
from appliance.text.split import SEPARATOR, split
from appliance.types import Child, Document


@dataclass(frozen=True)
class Taker:
    """What taking in the files inside one file needs."""

    engine: Engine
    settings: Settings
    over: threading.Event
    handling: Handling
    sizes: tuple[int, int]  # of chunks and parents
    uri: str  # of the file
    holder: str  # and what those inside call it
    anew: bool  # though they may be unchanged

    def take(
        self, children: Sequence[Child], document_id: str | None, had: Mapping[str, str]
    ) -> list[tuple[Inner, Part | None]]:
        """As they are kept in the document of the file, which `had` pages inside, of such bytes;
        with what of them is to be embedded first. Raises Stopped.
        """
        known = catalog.held(self.engine, document_id) if document_id and children else []
        began = time.monotonic()
        found: list[tuple[Inner, Part | None]] = []
        for there, (child, digest, old) in zip(
            children, inside.matched(self._shown(children), known), strict=True
        ):
            if self.over.is_set() and time.monotonic() - began > STOP_PATIENCE_S:
                raise Stopped
            if child.document is None:
                before = old and old.document_id
                found.append((Inner(child, None, before, problem=child.problem), None))
            else:
                paged = had.get(old.document_id) if old else None
                found.append(self._one(there, child, child.document, digest, old, paged))
        return found

    def _one(
        self,
        there: Child,
        child: Child,
        document: Document,
        digest: str | None,
        old: Held | None,
        paged: str | None,
    ) -> tuple[Inner, Part | None]:
        place, before = f"{self.uri}{SEPARATOR}", old and old.document_id
        document, counts, withheld = handled(
            document, place + there.path, self.handling, place + child.path
        )
        if withheld:
            child = replace(child, document=None)
            why = catalog.quarantined(counts)
            return Inner(child, digest, before, problem=why, withheld=True, counts=counts), None
        child = replace(child, document=document)
        waiting, problem, bytes_digest = self._pages(there, document, paged)
        one = Inner(
            child,
            digest,
            before,
            problem=problem,
            counts=counts,
            waiting=waiting,
            bytes_digest=bytes_digest,
        )
        sizes = "/".join(map(str, self.sizes))
        if old and not self.anew and old.is_of(digest, sizes, self.handling):
            return replace(one, same=True), None
        chunks = split(document, *self.sizes)
        title = (old and old.corrected) or title_of(child.path)
        part = Part(title, document, chunks, self.holder)
        return replace(one, embedded_as=title, chunks=chunks), part

    def _pages(
        self, child: Child, document: Document, paged: str | None
    ) -> tuple[tuple[int, ...], str | None, str | None]:
        """Which of them wait, what is said of that, and of which bytes they are."""
        waiting = readings.unread(document) if self.settings.ocr else ()
        if not waiting:
            return (), None, child.digest
        if paged and paged == child.digest and kept.path(self.settings, paged).is_file():
            return waiting, waits(waiting), paged
        try:
            if child.read is None:
                raise Unreadable("中のファイルを取り出せません")
            data = child.read()
        except (Unreadable, TooLarge) as error:
            reason = lost(dict.fromkeys(waiting, str(error)))
            return (), as_shown(reason, self.handling), child.digest
        # a parser that lies must not have other documents' bytes read
        digest = hashlib.sha256(data).hexdigest()
        kept.keep(self.settings, digest, io.BytesIO(data))
        return waiting, waits(waiting), digest

    def _shown(self, children: Sequence[Child]) -> Sequence[Child]:
        """As they may be shown, but for their texts."""
        if self.handling == "show":
            return children
        return told_apart(
            [
                replace(
                    c,
                    path=quiet(c.path),
                    problem=as_shown(c.problem, self.handling) if c.problem else None,
                )
                for c in children
            ]
        )
