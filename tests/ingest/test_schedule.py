"""When a source is looked at, how it is stopped, and what a run leaves behind."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ClassVar

import pytest
from pydantic import BaseModel

from appliance.errors import SourceUnreachable
from appliance.ingest import schedule, tally, throttle
from appliance.store import catalog, runs, sources
from appliance.store.runs import Outcome
from appliance.store.timing import Quiet, Timing
from appliance.testing.fakes import MemoryConnector
from appliance.types import Change, Cursor
from tests.ingest.conftest import Machine


class Nothing(BaseModel):
    """Settings."""


class World(MemoryConnector):
    Settings: ClassVar[type[BaseModel]] = Nothing
    files_now: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[Cursor | None]] = []
    away: ClassVar[bool] = False
    full: ClassVar[bool] = False

    def __init__(self, settings: BaseModel) -> None:
        super().__init__(dict(self.files_now))

    def check(self) -> None:
        if World.away:
            raise SourceUnreachable("届きません")
        if World.full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        self.asked.append(since)
        yield from super().changes(since)


@pytest.fixture(autouse=True)
def world() -> Iterator[None]:
    World.files_now = {"規程.txt": "宿泊費は一万円。", "壊れ.pdf": "%BROKEN"}
    World.asked.clear()
    World.away = World.full = False
    yield


def look(machine: Machine, **more: object) -> bool:
    return schedule.look(
        *(machine.engine, "w", partial(schedule.connector, {"memory": World})),
        *(machine.embedder, more.get("parse", machine.parse), machine.settings),  # type: ignore[arg-type]
        threading.Event(),
    )


def wanted(machine: Machine) -> None:
    sources.run_now(machine.engine, machine.source_id)


def source(machine: Machine) -> sources.Source:
    return sources.get(machine.engine, machine.source_id)


def around(moment: datetime) -> Quiet:
    """Quiet hours which it lies in, in UTC."""
    hour, moment = timedelta(hours=1), moment.replace(second=0, microsecond=0)
    return Quiet((moment - hour).time(), (moment + hour).time())


@pytest.fixture
def machine(machine: Machine) -> Machine:
    object.__setattr__(machine.settings, "time_zone", "UTC")
    return machine


def test_in_quiet_hours_nothing_is_read_whoever_wants_it(machine: Machine) -> None:
    timing = Timing(quiet=around(datetime.now(UTC)))
    sources.update(machine.engine, machine.source_id, timing=timing)
    assert source(machine).timing == timing
    assert not look(machine)
    wanted(machine)
    assert not look(machine)
    sources.update(machine.engine, machine.source_id, timing=Timing())
    assert look(machine)


def test_when_quiet_hours_begin_a_run_stops_and_goes_on_at_their_end(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    World.files_now = {f"{n}.txt": f"本文 {n}" for n in range(50)}
    begun = threading.Event()
    end = datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setattr(Timing, "quiet_until", lambda *_: end if begun.is_set() else None)
    waited = threading.Event()

    def parse(file):  # type: ignore[no-untyped-def]
        if not begun.is_set():
            begun.set()
            waited.wait(0.5)  # the beat looks ten times a second
        return machine.parse(file)

    assert look(machine, parse=parse)
    after = source(machine)
    assert after.last_run and after.last_run.outcome == "stopped"
    assert (after.due_at, after.problem, after.failures) == (end, None, 0)
    assert 0 < catalog.counts(machine.engine).documents < 50
    assert not look(machine)
    begun.clear()
    wanted(machine)
    assert look(machine)
    assert catalog.counts(machine.engine).documents == 50


def test_a_cron_expression_goes_before_the_interval(machine: Machine) -> None:
    sources.update(machine.engine, machine.source_id, timing=Timing(cron="30 4 * * *"))
    assert look(machine)
    due_at = source(machine).due_at
    assert (due_at.hour, due_at.minute, due_at > datetime.now(UTC)) == (4, 30, True)


def test_who_pauses_a_source_stops_its_run(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "LEASE_S", 0.3)
    World.files_now = {f"{n}.txt": f"本文 {n}" for n in range(50)}
    waited = threading.Event()

    def parse(file):  # type: ignore[no-untyped-def]
        if source(machine).enabled:
            sources.update(machine.engine, machine.source_id, enabled=False)
            waited.wait(1.0)
        return machine.parse(file)

    assert look(machine, parse=parse)
    after = source(machine)
    assert after.last_run and after.last_run.outcome == "stopped"
    assert after.leased_by is None and catalog.counts(machine.engine).documents < 50
    assert not look(machine)
    sources.update(machine.engine, machine.source_id, enabled=True)
    assert look(machine)
    assert catalog.counts(machine.engine).documents == 50


def test_a_resync_lists_everything_anew_and_documents_stay_who_they_are(machine: Machine) -> None:
    look(machine)
    before = {d.uri: d.id for d in catalog.documents(machine.engine).documents}
    wanted(machine)
    look(machine)
    sources.run_now(machine.engine, machine.source_id, anew=True)
    look(machine)
    wanted(machine)
    look(machine)
    assert World.asked == [None, "1", None, "1"], "once"
    assert {d.uri: d.id for d in catalog.documents(machine.engine).documents} == before


def test_a_resync_that_is_wanted_during_a_run_is_not_lost_by_it(machine: Machine) -> None:
    def parse(file):  # type: ignore[no-untyped-def]
        sources.run_now(machine.engine, machine.source_id, anew=True)
        return machine.parse(file)

    look(machine)
    World.files_now["新しい.txt"] = "新しい本文"
    wanted(machine)
    look(machine, parse=parse)
    look(machine)
    assert World.asked == [None, "1", None]


def test_a_run_tells_of_each_document_that_did_not_stay_as_it_was(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[tuple[str, str]]:
        last = source(machine).last_run
        assert last
        found, total = runs.outcomes(machine.engine, machine.source_id, last.id, None, 1, 50)
        assert total == len(found)
        return [(one.kind, one.uri) for one in found]

    look(machine)
    assert told() == [("added", "規程.txt"), ("failed", "壊れ.pdf")]
    first = source(machine).last_run
    assert first
    assert runs.outcomes(machine.engine, machine.source_id, first.id, "failed", 1, 50)[0] == [
        Outcome("failed", "壊れ.pdf", "壊れ.pdf", "壊れています")
    ]
    monkeypatch.setattr(tally, "WRITE_S", 0.0)  # the same when it is written as it goes
    World.files_now = {"規程.txt": "宿泊費は二万円。", "覚書.txt": "新しい。"}
    wanted(machine)
    look(machine)
    assert told() == [("updated", "規程.txt"), ("added", "覚書.txt"), ("removed", "壊れ.pdf")]
    for _ in range(3):
        wanted(machine)
        look(machine)
    assert told() == []
    kept = runs.of(machine.engine, machine.source_id)
    assert [run.counts.get("unchanged", 0) for run in kept] == [2, 0, 0], "one that was idle"
    monkeypatch.setattr(runs, "OUTCOMES_KEPT", 3)
    World.files_now["又.txt"] = "又"
    wanted(machine)
    look(machine)
    total = sum(
        runs.outcomes(machine.engine, machine.source_id, run.id, None, 1, 50)[1]
        for run in runs.of(machine.engine, machine.source_id)
    )
    assert total == 3


def test_how_fresh_a_source_is(machine: Machine) -> None:
    assert source(machine).fresh_at is None
    began = datetime.now(UTC)
    look(machine)
    fresh_at = source(machine).fresh_at
    assert fresh_at and began <= fresh_at <= datetime.now(UTC)
    World.away = True
    wanted(machine)
    look(machine)
    assert source(machine).fresh_at == fresh_at, "nobody knows what changed since"
    assert source(machine).known == 2


def test_a_disk_of_ours_that_is_full_is_told_with_what_to_do(machine: Machine) -> None:
    World.full = True
    look(machine)
    assert "ディスクを足してください" in (source(machine).trouble or "")


def test_a_file_comes_no_faster_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Over(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return False

    monkeypatch.setattr(throttle.time, "monotonic", lambda: 100.0)
    limited = throttle.Throttle(1000, Over())
    assert limited.block == 1000
    limited.passed(1000)
    limited.passed(500)
    assert waits == [1.0, 1.5]
    throttle.Throttle(None, Over()).passed(10**9)
    assert len(waits) == 2


def test_a_slow_file_does_not_hold_up_a_stop(machine: Machine) -> None:
    sources.update(machine.engine, machine.source_id, timing=Timing(bytes_per_s=1000))
    World.files_now = {"大きい.txt": "あ" * 100_000}
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    assert schedule.look(
        *(machine.engine, "w", partial(schedule.connector, {"memory": World})),
        *(machine.embedder, machine.parse, machine.settings, stop),
    )
    last = source(machine).last_run
    assert last and last.outcome == "stopped"
    assert catalog.counts(machine.engine).documents == 0
