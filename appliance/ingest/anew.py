"""Everything is embedded anew, in the background, when the embedder has changed: from the text that is
kept, without reading a source. The old vectors serve until the last new one is there.

What comes in meanwhile is embedded by the new one, and by the old one too, so that it is found.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from appliance.errors import ApplianceError
from appliance.ingest.vectors import Stopped, embed
from appliance.ports import Embedder
from appliance.store import catalog, spaces

NOTED_S = 5.0  # between two looks at how far it is
AGAIN_S = 30.0  # until it is looked whether there is anything to do


@dataclass
class Anew:
    """Work of one thread; what a kill leaves is found by the next."""

    engine: Engine
    target: Embedder
    named: Callable[[str], Embedder | None]  # those that this release can load
    over: threading.Event
    _after: dict[tuple[str, bool], str] = field(default_factory=dict)
    _noted: float = -NOTED_S

    def turn(self) -> bool:
        """A few documents. False if there is nothing to do now. Raises as `embed` does; Stopped where
        the stop came before the end."""
        target = self.target.name
        known = self.named
        serving = spaces.serving(self.engine, target, lambda name: known(name) is not None)
        if serving == target:
            if self._made("", log=True):
                return True
            if spaces.fold(self.engine, target):
                return True
            spaces.forget_move(self.engine)
            return bool(spaces.sweep(self.engine, ()))
        old = known(serving)
        assert old is not None  # else it would not serve
        if self._some(old, log=True):  # came in since: to be found as the others are
            return True
        if self._made(serving, log=False):
            return True
        now = spaces.move(self.engine)
        if now is None or not now.complete or now.done < now.total:
            spaces.note(self.engine, serving, target, complete=True)
        return bool(spaces.sweep(self.engine, {serving, target}))

    def _made(self, origin: str, *, log: bool) -> bool:
        """Vectors of the target. How far it is, is noted; where it cannot go on, too."""
        try:
            some = self._some(self.target, log=log)
        except ApplianceError:
            self._note(origin)
            raise
        if some:
            self._note(origin)
        return some

    def _some(self, by: Embedder, *, log: bool) -> bool:
        """A pass over all documents, some at a time; False once one has found none."""
        key = (by.name, log)
        after = self._after.get(key, "")
        found = spaces.lacking(self.engine, by.name, after)
        for document_id in found:
            if self.over.is_set():
                raise Stopped  # False would say that all is done
            entries = catalog.entries_of(self.engine, document_id)
            made = embed([entry.text for entry in entries], by, self.over)
            again = catalog.entries_of(self.engine, document_id)
            if not spaces.texts_same(entries, again):
                continue  # its title was corrected meanwhile, or it was read again: the next pass
            vectors = {e.chunk_id: row for e, row in zip(entries, made, strict=True)}
            spaces.put(self.engine, document_id, by.name, vectors, log=log)
        self._after[key] = found[-1] if found else ""
        return bool(found) or after != ""

    def _note(self, origin: str) -> None:
        if time.monotonic() - self._noted >= NOTED_S:
            self._noted = time.monotonic()
            spaces.note(self.engine, origin, self.target.name)
