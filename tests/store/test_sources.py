"""Sources: when each is due, and who looks at it."""

from __future__ import annotations

import datetime as dt
import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from appliance.errors import Conflict, NotVisible
from appliance.store import runs, sources
from appliance.store.tables import now
from appliance.store.timing import Quiet, Timing
from appliance.types import Cursor

LATER = timedelta(hours=1)


def test_a_new_source_is_due_at_once_and_leased_once(engine: Engine) -> None:
    made = sources.create(engine, "共有", "folder", {"root": "/srv"}, Timing(60))
    leased = sources.lease(engine, "a", 60)
    assert leased is not None
    assert (leased.id, leased.settings, leased.timing) == (made.id, {"root": "/srv"}, Timing(60))
    assert sources.lease(engine, "b", 60) is None
    assert sources.get(engine, made.id).leased_by == "a"


def test_a_released_source_waits_until_it_is_due(engine: Engine) -> None:
    made = sources.create(engine, "共有", "folder", {})
    sources.lease(engine, "a", 60)
    sources.release(engine, made.id, "a", now() + LATER, problem="届きません", failures=2)
    kept = sources.get(engine, made.id)
    assert (kept.problem, kept.failures, kept.leased_by) == ("届きません", 2, None)
    assert sources.lease(engine, "b", 60) is None
    sources.run_now(engine, made.id)
    assert sources.lease(engine, "b", 60) is not None


def test_a_wish_during_a_run_is_granted_after_it(engine: Engine) -> None:
    made = sources.create(engine, "共有", "folder", {})
    sources.lease(engine, "a", 60)
    sources.run_now(engine, made.id)
    sources.release(engine, made.id, "a", now() + LATER)
    assert sources.lease(engine, "a", 60) is not None


def test_a_lease_that_ran_out_is_taken_over_and_its_old_owner_changes_nothing(
    engine: Engine,
) -> None:
    made = sources.create(engine, "共有", "folder", {})
    sources.lease(engine, "dead", 0.05)
    sources.run_now(engine, made.id)
    time.sleep(0.1)
    assert sources.lease(engine, "alive", 60) is not None
    assert not sources.renew(engine, made.id, "dead", 60)
    sources.release(engine, made.id, "dead", now())
    assert sources.get(engine, made.id).leased_by == "alive"
    assert sources.renew(engine, made.id, "alive", 60)


def test_a_died_worker_leaves_its_source_due(engine: Engine) -> None:
    sources.create(engine, "共有", "folder", {})
    sources.lease(engine, "dead", 0.05)
    time.sleep(0.1)
    assert sources.lease(engine, "alive", 60) is not None


def test_many_workers_lease_each_source_once(engine: Engine) -> None:
    made = {sources.create(engine, f"s{n}", "folder", {}).id for n in range(8)}
    got: list[int] = []

    def work(owner: str) -> None:
        while (leased := sources.lease(engine, owner, 60)) is not None:
            got.append(leased.id)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) <= sorted(made)
    while (leased := sources.lease(engine, "last", 60)) is not None:
        got.append(leased.id)  # SKIP LOCKED may pass one by; it stays due
    assert sorted(got) == sorted(made)


def test_of_many_workers_one_looks_at_a_source(engine: Engine) -> None:
    made = sources.create(engine, "共有", "folder", {})
    at_once, got = threading.Barrier(4), []

    def work(owner: str) -> None:
        at_once.wait()
        if sources.lease(engine, owner, 60):
            got.append(owner)

    for _ in range(5):
        threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        assert sources.get(engine, made.id).leased_by == got[0]
        sources.release(engine, made.id, got.pop(), now())


def test_a_timing_is_kept_as_it_was_given(engine: Engine) -> None:
    quiet = Quiet(dt.time(22, 0), dt.time(6, 30), frozenset({4, 5}))
    made = sources.create(engine, "共有", "folder", {}, Timing(None, "0 3 * * *", quiet, 50_000))
    assert sources.get(engine, made.id).timing == made.timing
    assert sources.update(engine, made.id, timing=Timing()).timing == Timing()


def test_a_disabled_source_is_not_looked_at(engine: Engine) -> None:
    made = sources.create(engine, "共有", "folder", {})
    sources.update(engine, made.id, enabled=False)
    assert sources.lease(engine, "a", 60) is None


def test_a_lane_takes_only_its_kind(engine: Engine) -> None:
    sources.create(engine, "共有", "folder", {})
    assert sources.lease(engine, "a", 60, "uploads") is None
    mine = sources.create(engine, "アップロード", "uploads", {})
    leased = sources.lease(engine, "a", 60, "uploads")
    assert leased is not None
    assert leased.id == mine.id


def test_new_settings_start_from_the_beginning(engine: Engine) -> None:
    made = sources.create(engine, "共有", "folder", {"root": "/a"})
    sources.save_cursor(engine, made.id, Cursor("7"))
    sources.update(engine, made.id, name="共有2", settings={"root": "/a"})
    assert sources.get(engine, made.id).cursor == "7"
    assert sources.update(engine, made.id, settings={"root": "/b"}).cursor is None
    sources.save_cursor(engine, made.id, Cursor("8"))  # by a run that is under way
    leased = sources.lease(engine, "a", 60)
    assert leased and leased.cursor is None


def test_names_are_unique_and_absence_is_said(engine: Engine) -> None:
    sources.create(engine, "共有", "folder", {})
    with pytest.raises(Conflict):
        sources.create(engine, "共有", "folder", {})
    assert sources.by_name(engine, "共有") is not None
    assert sources.by_name(engine, "ない") is None
    for act in (sources.get, sources.delete, sources.run_now):
        with pytest.raises(NotVisible):
            act(engine, 999)


def test_runs_are_kept_and_an_unfinished_one_was_interrupted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "RUNS_KEPT", 3)
    made = sources.create(engine, "共有", "folder", {})
    runs.start(engine, made.id)
    for n in range(4):
        run = runs.start(engine, made.id)
        runs.progress(engine, run, {"added": n})
        assert runs.of(engine, made.id, 1)[0].counts == {"added": n}
        runs.finish(engine, run, "complete", {"added": n + 1})
    kept = runs.of(engine, made.id)
    assert [(r.outcome, r.counts) for r in kept] == [("complete", {"added": n}) for n in (4, 3, 2)]
    unfinished = runs.start(engine, made.id)
    runs.start(engine, made.id)
    outcomes = {r.id: r.outcome for r in runs.of(engine, made.id)}
    assert outcomes[unfinished] == "interrupted"
    last = sources.get(engine, made.id).last_run
    assert last is not None
    assert last.outcome == "running"
