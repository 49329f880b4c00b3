"""Which source is looked at next, by whom, and when again.

A worker that looks at a source holds its lease and renews it; a worker that
died renews nothing, and the source is somebody else's after `LEASE_S`. Who
pauses a source takes the lease away at its next renewal.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as but
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine

from appliance.errors import (
    ApplianceError,
    NotVisible,
    Permanent,
    SourceMisconfigured,
    Transient,
    no_room,
)
from appliance.ingest.grants import Grants
from appliance.ingest.running import Parse
from appliance.ingest.sync import Report, sync
from appliance.ingest.tally import Tally
from appliance.ingest.wrong import sentence
from appliance.ports import Connector, Embedder, Networked
from appliance.settings import Settings
from appliance.store import maintenance, runs, sources
from appliance.store.runs import Outcome
from appliance.store.sources import Source
from appliance.types import ALONE, Site

log = logging.getLogger(__name__)

LEASE_S = 60.0
CLOSED_S = 2.0  # between two looks whether maintenance began
LONGEST_BACKOFF_S = 900.0

Connect = Callable[[Source], Connector]  # raises SourceMisconfigured


def look(
    engine: Engine,
    owner: str,
    connect: Connect,
    embedder: Embedder,
    parse: Parse,
    settings: Settings,
    stop: threading.Event,
    kind: str | None = None,
) -> bool:
    """Look at one due source, of `kind` if given. False if there was none. Raises NotReady."""
    source = sources.lease(engine, owner, LEASE_S, kind, settings.zone)
    if source is None:
        return False
    began = time.monotonic()
    try:
        with _held(engine, source, owner, stop, settings.zone) as over:
            run_id = runs.start(engine, source.id)
            end = _run(engine, source, connect, embedder, parse, settings, over, run_id)
            report = end.report
            runs.finish(engine, run_id, report.outcome, report.counts, report.problem, end.told)
    except NotVisible:
        return True  # deleted while we looked at it
    sources.release(
        engine,
        source.id,
        owner,
        end.due_at,
        problem=report.problem,
        failures=end.failures,
        fresh_at=end.fresh_at,
        access_until=end.access_until,
    )
    _tell(source, report, time.monotonic() - began)
    return True


def connector(
    connectors: Mapping[str, type[Connector]], source: Source, site: Site = ALONE
) -> Connector:
    """The connector of a source, its settings checked. Raises SourceMisconfigured."""
    return made(connectors, source.kind, source.settings, site)


def made(
    connectors: Mapping[str, type[Connector]], kind: str, own: Mapping[str, Any], site: Site
) -> Connector:
    """Of settings as they are stored. Raises SourceMisconfigured."""
    if (connects := connectors.get(kind)) is None:
        raise SourceMisconfigured(f"種類 {kind} のコネクタはありません。")
    try:
        settings = connects.Settings.model_validate(site.unseal(own))
    except ValidationError as error:
        said = sentence(error, connects.Settings)
        raise SourceMisconfigured(f"取り込み元の設定が正しくありません。{said}") from None
    one = connects(settings)  # type: ignore[call-arg]  # a connector is made of its Settings
    if isinstance(one, Networked):
        one.site = site
    return one


@dataclass(frozen=True, slots=True)
class _End:
    """How a run ended, and what follows from it."""

    report: Report
    told: Sequence[Outcome]  # that has not been written down
    due_at: datetime
    failures: int  # in a row
    fresh_at: datetime | None
    access_until: datetime | None


def _run(
    engine: Engine,
    source: Source,
    connect: Connect,
    embedder: Embedder,
    parse: Parse,
    settings: Settings,
    over: threading.Event,
    run_id: int,
) -> _End:
    began_at, grants = datetime.now(UTC), None

    def write(counts: Mapping[str, int], outcomes: Sequence[Outcome]) -> None:
        runs.progress(engine, run_id, counts, outcomes)
        if grants:
            grants.answered()

    tally, again_s, failures = Tally(write), 0.0, 0
    try:
        connector = connect(source)
        grants = Grants(engine, source, connector, settings)
        report = sync(engine, source, connector, embedder, parse, settings, over, tally, grants)
    except NotVisible:
        raise
    except Exception as error:  # noqa: BLE001  one source never stops the others
        report, again_s = _failure(source, error, settings, tally.counts)
        failures = source.failures + 1
    told = report.outcome == "complete" and not report.problem
    if report.outcome == "complete":
        due_at = source.timing.next(datetime.now(UTC), settings.zone, settings.sync_seconds)
    else:
        later = datetime.now(UTC) + timedelta(seconds=again_s)
        due_at = source.timing.free(later, settings.zone)
    if report.outcome == "stopped":
        report, failures = but(report, problem=source.problem), source.failures
    return _End(
        report,
        tally.rest(),
        due_at,
        failures,
        began_at if report.whole else None,
        grants.after(report.outcome, told, due_at) if grants else source.access_until,
    )


@contextmanager
def _held(
    engine: Engine, source: Source, owner: str, stop: threading.Event, zone: tzinfo
) -> Iterator[threading.Event]:
    """Renews the lease until done.

    The event is set once the lease is lost, `stop` is, or quiet hours or maintenance begin.
    """
    over, done = threading.Event(), threading.Event()

    def beat() -> None:
        renewed = looked = time.monotonic()
        while not done.wait(0.1):
            if stop.is_set() or source.timing.quiet_until(datetime.now(UTC), zone):
                over.set()
            if time.monotonic() - looked > CLOSED_S:
                looked = time.monotonic()
                if closed(engine):
                    over.set()
            if time.monotonic() - renewed < LEASE_S / 3:
                continue
            try:
                if not sources.renew(engine, source.id, owner, LEASE_S):
                    log.warning("source %s is paused, or its lease is lost", source.name)
                    over.set()
                renewed = time.monotonic()
            except ApplianceError as error:  # the database is away: try until the lease is over
                log.warning("cannot renew the lease of source %s: %s", source.name, error)
                if time.monotonic() - renewed > LEASE_S:
                    over.set()

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield over
    finally:
        done.set()
        thread.join()


def closed(engine: Engine) -> bool:
    """Maintenance: nothing new is begun. Where the database is away, whatever is next says so."""
    try:
        return maintenance.state(engine) is not None
    except ApplianceError:
        return False


def _failure(
    source: Source, error: Exception, settings: Settings, counts: Mapping[str, int]
) -> tuple[Report, float]:
    """What the administrator is told, and in how many seconds to look again."""
    interval_s = source.timing.interval_s or settings.sync_seconds
    backoff_s = min(interval_s * 2 ** min(source.failures, 10), LONGEST_BACKOFF_S)
    match no_room(error, tempfile.gettempdir()) or error:
        case Transient() as error:
            again_s, problem = max(error.retry_after_s, backoff_s), str(error)
        case Permanent():
            again_s, problem = max(60.0, backoff_s), str(error)
        case _:
            log.exception("source %s", source.name, exc_info=error)
            again_s, problem = backoff_s, f"内部エラーが起きました（{type(error).__name__}）。"
    return Report("failed", counts, problem or type(error).__name__), again_s


def _tell(source: Source, report: Report, took_s: float) -> None:
    done = {name: n for name, n in report.counts.items() if n and name != "unchanged"}
    level = logging.WARNING if report.problem else logging.INFO if done else logging.DEBUG
    log.log(
        level,
        "source %s: %s in %.1f s %s %s",
        source.name,
        report.outcome,
        took_s,
        done,
        report.problem or "",
    )
