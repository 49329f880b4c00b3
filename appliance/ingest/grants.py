"""How long what a source said of who may read holds.

A source that does not answer may have taken rights away since. What it said holds until
`access_max_age_seconds` after it should have been asked again; from then on `store/access.py` gives
its documents to nobody, until it has told of all of them once more. Where the administrator said who
may read, as of uploads, a source that is away changes nothing. Unless the administrator said it anew:
what was said before holds for as long again, while the source cannot be asked what it has.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from appliance.ports import Connector, Granting
from appliance.settings import Settings
from appliance.store import sources
from appliance.store.runs import Ended
from appliance.store.sources import Source

RENEWED = 0.25  # of their age, in a long run


class Grants:
    """Those of one source, during one run."""

    def __init__(
        self, engine: Engine, source: Source, connector: Connector, settings: Settings
    ) -> None:
        self._engine, self._source_id = engine, source.id
        self._its_own = isinstance(connector, Granting)
        self._age = timedelta(seconds=settings.access_max_age_seconds)
        self._until, self._fresh_at = source.access_until, source.fresh_at
        self._anew = source.cursor is None  # by settings that may be others
        self._known = bool(source.known)
        self._held_at = time.monotonic()

    @property
    def doubtful(self) -> bool:
        """Too old: nobody finds the documents now."""
        return self._until is not None and self._until <= datetime.now(UTC)

    @property
    def left_out(self) -> bool:
        """So are those of what is not told of this time: it was told of too long ago, or by other settings."""
        old = self._fresh_at is None or self._fresh_at + self._age <= datetime.now(UTC)
        return self._anew or (self._its_own and old)

    def verified(self) -> None:
        """The source has just told of all of them."""
        self._until = datetime.now(UTC) + self._age
        sources.hold(self._engine, self._source_id, self._until)

    def answered(self) -> None:
        """It is being read: a run that takes days must not outlast what it is telling."""
        due = time.monotonic() - self._held_at > RENEWED * self._age.total_seconds()
        if self._its_own and due and not self.doubtful:
            # not remembered: a run that fails in the end has verified nothing
            sources.hold(self._engine, self._source_id, datetime.now(UTC) + self._age)
            self._held_at = time.monotonic()

    def after(self, ended: Ended, told: bool, due_at: datetime) -> datetime | None:
        """Until when they hold after a run. `told`: of all it can; it is due again then."""
        if told or (self._its_own and ended == "stopped" and not self.doubtful):
            return due_at + self._age if self._its_own else None
        if self._its_own or (self._anew and self._known):
            return self._until or datetime.now(UTC) + self._age
        return self._until
