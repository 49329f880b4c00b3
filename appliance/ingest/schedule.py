"""Which source is looked at next, by whom, and when again.

A worker that looks at a source holds its lease and renews it; a worker that
died renews nothing, and the source is somebody else's after `LEASE_S`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace as but
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError
from sqlalchemy import Engine

from appliance.errors import ApplianceError, NotVisible, Permanent, SourceMisconfigured, Transient
from appliance.ingest.sync import Parse, Report, sync
from appliance.ports import Connector, Embedder, Networked
from appliance.settings import Settings
from appliance.store import sources
from appliance.store.sources import Source
from appliance.types import ALONE, Site

log = logging.getLogger(__name__)

LEASE_S = 60.0
PROGRESS_S = 2.0  # how often a run's counts are written
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
    source = sources.lease(engine, owner, LEASE_S, kind)
    if source is None:
        return False
    began = time.monotonic()
    try:
        with _held(engine, source, owner, stop) as over:
            run_id = sources.start_run(engine, source.id)
            report, again_s, failures = _run(
                engine, source, connect, embedder, parse, settings, over, run_id
            )
            sources.finish_run(engine, run_id, report.outcome, report.counts, report.problem)
    except NotVisible:
        return True  # deleted while we looked at it
    due_at = datetime.now(UTC) + timedelta(seconds=again_s)
    sources.release(engine, source.id, owner, due_at, problem=report.problem, failures=failures)
    _tell(source, report, time.monotonic() - began)
    return True


def connector(
    connectors: Mapping[str, type[Connector]], source: Source, site: Site = ALONE
) -> Connector:
    """The connector of a source, its settings checked. Raises SourceMisconfigured."""
    if (kind := connectors.get(source.kind)) is None:
        raise SourceMisconfigured(f"種類 {source.kind} のコネクタはありません。")
    try:
        settings = kind.Settings.model_validate(site.unseal(source.settings))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]  # what was put in may be a secret
        place = ".".join(map(str, first["loc"])) or "settings"
        raise SourceMisconfigured(
            f"取り込み元の設定「{place}」が正しくありません: {first['msg']}"
        ) from None
    made = kind(settings)  # type: ignore[call-arg]  # a connector is made of its Settings
    if isinstance(made, Networked):
        made.site = site
    return made


def _run(
    engine: Engine,
    source: Source,
    connect: Connect,
    embedder: Embedder,
    parse: Parse,
    settings: Settings,
    over: threading.Event,
    run_id: int,
) -> tuple[Report, float, int]:
    """What came of it, in how many seconds to look again, and failures in a row."""
    try:
        connector, progress = connect(source), _progress(engine, run_id)
        report = sync(engine, source, connector, embedder, parse, settings, over, progress)
    except NotVisible:
        raise
    except Exception as error:  # noqa: BLE001  one source never stops the others
        return *_failure(source, error, settings), source.failures + 1
    if report.outcome == "stopped":
        return but(report, problem=source.problem), 0.0, source.failures
    return report, _interval(source, settings), 0


@contextmanager
def _held(
    engine: Engine, source: Source, owner: str, stop: threading.Event
) -> Iterator[threading.Event]:
    """Renews the lease until done. The event is set once the lease is lost or `stop` is."""
    over, done = threading.Event(), threading.Event()

    def beat() -> None:
        renewed = time.monotonic()
        while not done.wait(0.1):
            if stop.is_set():
                over.set()
            if time.monotonic() - renewed < LEASE_S / 3:
                continue
            try:
                if not sources.renew(engine, source.id, owner, LEASE_S):
                    log.warning("the lease of source %s is lost", source.name)
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


def _progress(engine: Engine, run_id: int) -> Callable[[Mapping[str, int]], None]:
    written = time.monotonic()

    def progress(counts: Mapping[str, int]) -> None:
        nonlocal written
        if time.monotonic() - written >= PROGRESS_S:
            sources.progress(engine, run_id, counts)
            written = time.monotonic()

    return progress


def _failure(source: Source, error: Exception, settings: Settings) -> tuple[Report, float]:
    """What the administrator is told, and when to look again."""
    backoff_s = min(_interval(source, settings) * 2 ** min(source.failures, 10), LONGEST_BACKOFF_S)
    match error:
        case Transient():
            again_s, problem = max(error.retry_after_s, backoff_s), str(error)
        case Permanent():
            again_s, problem = max(60.0, backoff_s), str(error)
        case _:
            log.exception("source %s", source.name, exc_info=error)
            again_s, problem = backoff_s, f"内部エラーが起きました（{type(error).__name__}）。"
    return Report("failed", {}, problem or type(error).__name__), again_s


def _interval(source: Source, settings: Settings) -> float:
    return float(source.interval_s or settings.sync_seconds)


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
