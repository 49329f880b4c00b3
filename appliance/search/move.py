"""From the vectors of one embedder to those of another, while questions are answered.

The old index and the old embedder serve until `store/spaces.py` says that all there is has the new
vectors. Then the new index is made beside, saved, and takes the place in one assignment.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from appliance.ports import Embedder, Index
from appliance.search.follow import Follower
from appliance.store import spaces

log = logging.getLogger(__name__)

LOOK_S = 2.0


def tidy(indexes: Path, keep: Collection[Path]) -> None:
    """Indexes of vectors that nothing leads back to: of a move that was killed at its end, or of an
    embedder that only another release knows."""
    for folder in indexes.glob("dense*"):
        if folder not in keep:
            shutil.rmtree(folder, ignore_errors=True)
            log.info("%s was left by another embedder; it is gone", folder)


@dataclass
class Serving:
    """What a question is embedded by and looked for in; the two belong together."""

    pair: tuple[Embedder, Index]


@dataclass
class Mover:
    """`make` gives the new index, or what was saved of it; `folder` is where the old one lies."""

    engine: Engine
    follower: Follower
    serving: Serving
    target: Embedder
    make: Callable[[], Index]
    folder: Path
    look_s: float = LOOK_S
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="mover", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def turn(self) -> bool:
        """True once the new one serves."""
        move = spaces.move(self.engine)
        if not self.follower.ready or not move or not move.complete:
            return False
        if move.target != self.target.name:
            return False
        new = self.make()
        if not self.follower.fill(new):
            return False  # this process ends; what was made is made again
        new.save()
        old = self.serving.pair[1]
        with self.follower.still():
            self.follower.follow(new)  # what came since, and nothing after it
            spaces.serve(self.engine, self.target.name)
            self.serving.pair = (self.target, new)
            self.follower.exchange(old, new)
        shutil.rmtree(self.folder, ignore_errors=True)
        log.info("the vectors of %s serve now", self.target.name)
        return True

    def _run(self) -> None:
        while not self._stop.wait(self.look_s):
            try:
                if self.turn():
                    return
            except Exception:
                log.exception("the new index does not serve yet; it is tried again")
                self._stop.wait(10 * self.look_s)
