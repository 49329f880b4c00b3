"""What `upgrade` and `rollback` have in common: how one begins to be without service, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from installer.steps import Context, Step
from installer.upgrade import record, switch
from installer.upgrade.record import Record
from installer.upgrade.site import Site


@dataclass
class Change(Context):
    """What the steps hand on to each other. Each is done once in a run: what they make is thrown away
    when one fails."""

    site: Site | None = None
    went: frozenset[str] = frozenset()
    going: Record | None = None
    stopped_at: float = 0.0
    out_s: float = 0.0  # without service

    def did(self, name: str) -> None:
        self.went |= {name}

    def begin(self) -> None:
        """From here on a crash is one of a change, which `going` tells of."""
        assert self.site and self.going
        switch.keep_settings(self.site)
        record.write(self.site.places, self.going)
        self.stopped_at = time.monotonic()
        self.site.stop()


def went(name: str) -> Callable[[Change], bool]:
    return lambda work: name in work.went


def _switch(work: Change) -> None:
    assert work.site and work.going
    work.going = switch.move(work.site, work.going)
    work.did("switch")


def _serve(work: Change) -> None:
    assert work.site and work.going
    if work.going.running:
        served_s = switch.try_out(work.site, work.going)
        work.out_s = time.monotonic() - work.stopped_at - served_s
    switch.finish(work.site, work.going)
    work.did("serve")


END = (
    Step("switch", "入れ替える", "switch", went("switch"), _switch),
    Step("serve", "起動して点検する", "start and check", went("serve"), _serve),
)
