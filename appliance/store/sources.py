"""Where documents come from, when each is due, and who is looking at it now.

A source is leased by one worker at a time. A lease that is not renewed runs
out, so that a worker that died holds nobody up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Engine, or_
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlmodel import Session, col, select

from appliance.errors import NotVisible
from appliance.store import catalog
from appliance.store.database import reading, writing
from appliance.store.rows import clean
from appliance.store.secrets import Keyring
from appliance.store.tables import DocumentRow, RunRow, SourceRow, now
from appliance.text import personal
from appliance.text.personal import Handling
from appliance.types import Cursor

Outcome = Literal["running", "complete", "stopped", "failed", "interrupted"]

FORGET_AT_ONCE = 200  # documents in one transaction
# what a source does not let be found of documents that were read when it showed everything
_HIDDEN: Mapping[str, frozenset[str]] = {
    "mask": frozenset(personal.KINDS),
    "quarantine": personal.SERIOUS,
}
RUNS_KEPT = 100  # of each source


@dataclass(frozen=True, slots=True)
class Run:
    """One look at a source. `counts`: added, updated, renewed, unchanged, removed, failed."""

    id: int
    source_id: int
    started_at: datetime
    finished_at: datetime | None
    outcome: Outcome
    counts: Mapping[str, int]
    problem: str | None


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a source has of its own for retrieval; None: the appliance's own."""

    dense_weight: float | None = None  # of dense scores in fusion, 0 to 1
    chunk_chars: int | None = None
    parent_chars: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    id: int
    name: str
    kind: str
    settings: Mapping[str, Any]
    enabled: bool
    interval_s: int | None  # None: the appliance's own
    cursor: Cursor | None
    due_at: datetime
    failures: int  # runs in a row that could not finish
    problem: str | None
    shrunk: bool  # the last complete listing lost most documents
    leased_by: str | None
    last_run: Run | None = None
    tuning: Tuning = Tuning()
    personal_data: Handling = "show"


def create(
    engine: Engine,
    name: str,
    kind: str,
    settings: Mapping[str, Any],
    interval_s: int | None = None,
    enabled: bool = True,
    tuning: Tuning = Tuning(),
    personal_data: Handling = "show",
) -> Source:
    """A source, due at once. Raises Conflict if the name is taken."""
    with writing(engine) as s:
        row = SourceRow(
            name=name,
            kind=kind,
            settings=dict(settings),
            interval_s=interval_s,
            enabled=enabled,
            personal_data=personal_data,
            **asdict(tuning),
        )
        s.add(row)
        s.flush()
        return _source(row)


def get(engine: Engine, source_id: int) -> Source:
    """Raises NotVisible."""
    with reading(engine) as s:
        return _source(_row(s, source_id), _last_run(s, source_id))


def by_name(engine: Engine, name: str) -> Source | None:
    with reading(engine) as s:
        row = s.exec(select(SourceRow).where(SourceRow.name == name)).first()
        return _source(row, _last_run(s, row.id)) if row else None


def all(engine: Engine) -> list[Source]:
    """Every source, by name, with its last run."""
    with reading(engine) as s:
        rows = s.exec(select(SourceRow).order_by(col(SourceRow.name))).all()
        return [_source(row, _last_run(s, row.id)) for row in rows]


def update(
    engine: Engine,
    source_id: int,
    *,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    enabled: bool | None = None,
    interval_s: int | None = None,
    tuning: Tuning | None = None,
    personal_data: Handling | None = None,
) -> Source:
    """Change what is given. New settings start from the beginning: the cursor is forgotten.

    An interval of 0 is the appliance's own again. Documents that were cut by other sizes, or whose
    personal data was handled otherwise, are read again by the next run; those known to show what
    now must not be are found by nobody until then.
    """
    changed = _change(engine, source_id, name, settings, enabled, interval_s, tuning, personal_data)
    withhold(engine, changed)
    return changed


def _change(
    engine: Engine,
    source_id: int,
    name: str | None,
    settings: Mapping[str, Any] | None,
    enabled: bool | None,
    interval_s: int | None,
    tuning: Tuning | None,
    personal_data: Handling | None,
) -> Source:
    with writing(engine) as s:
        row = _row(s, source_id, lock=True)
        if name is not None:
            row.name = name
        if settings is not None and dict(settings) != row.settings:
            row.settings, row.cursor = dict(settings), None
        if enabled is not None:
            row.enabled = enabled
        if interval_s is not None:
            row.interval_s = interval_s or None
        if tuning is not None:
            for name, value in asdict(tuning).items():
                setattr(row, name, value)
        if personal_data is not None:
            row.personal_data = personal_data
        row.wanted, row.failures = True, 0
        s.add(row)
        s.flush()
        return _source(row, _last_run(s, source_id))


def withhold(engine: Engine, source: Source) -> None:
    """What is known to show personal data that the source now hides is found by nobody.

    In several transactions, so that nobody else has to wait; a run does what a crash left undone.
    """
    kinds = _HIDDEN.get(source.personal_data, frozenset())
    while kinds:
        with reading(engine) as s:
            if not catalog.showing(s, source.id, kinds):
                return
        with writing(engine) as s:
            catalog.withhold_some(s, source.id, kinds, FORGET_AT_ONCE)


def seal(engine: Engine, keyring: Keyring) -> None:
    """What an older release stored as it was given is sealed from now on."""
    with writing(engine) as s:
        for row in s.exec(select(SourceRow).with_for_update()).all():
            if (sealed := keyring.seal(row.settings)) != row.settings:
                row.settings = sealed
                s.add(row)


def dense_weights(engine: Engine) -> dict[int, float]:
    """Of the sources that have one of their own."""
    query = select(SourceRow.id, SourceRow.dense_weight)
    with reading(engine) as s:
        rows = s.exec(query.where(col(SourceRow.dense_weight).is_not(None)))
        return {int(i or 0): float(weight or 0.0) for i, weight in rows}


def delete(engine: Engine, source_id: int) -> int:
    """The source and all its documents are gone. Returns how many there were.

    Large ones go in several transactions, so that nobody else has to wait;
    cut short, the source is left disabled, and may be deleted again.
    """
    forgotten = 0
    while True:
        with writing(engine) as s:
            row = _row(s, source_id, lock=True)
            row.enabled, row.lease_owner, row.lease_until = False, None, None
            s.add(row)
            s.flush()
            forgotten += (some := catalog.forget_some(s, source_id, FORGET_AT_ONCE))
            if some < FORGET_AT_ONCE:
                s.connection().execute(sql_delete(RunRow).where(col(RunRow.source_id) == source_id))
                s.delete(row)
                return forgotten


def run_now(engine: Engine, source_id: int, retry: bool = False) -> None:
    """Due at once, even if a run is under way. `retry`: its problem documents too."""
    with writing(engine) as s:
        row = _row(s, source_id, lock=True)
        row.wanted = True
        s.add(row)
        if retry:
            catalog.make_due(s, col(DocumentRow.source_id) == source_id)


# --- leases -----------------------------------------------------------------------


def lease(engine: Engine, owner: str, ttl_s: float, kind: str | None = None) -> Source | None:
    """A due source (of `kind`) that nobody looks at, now ours for `ttl_s`; None if none is."""
    moment = now()
    due = or_(col(SourceRow.wanted), col(SourceRow.due_at) <= moment)
    free = or_(col(SourceRow.lease_until).is_(None), col(SourceRow.lease_until) < moment)
    query = (
        select(SourceRow)
        .where(col(SourceRow.enabled), due, free)
        .order_by(col(SourceRow.wanted).desc(), col(SourceRow.due_at))
        .limit(1)
    )
    if kind is not None:
        query = query.where(SourceRow.kind == kind)
    with reading(engine) as s:  # asking costs no writer its turn
        if s.exec(query).first() is None:
            return None
    with writing(engine) as s:
        row = s.exec(query.with_for_update(skip_locked=True)).first()
        if row is None:
            return None
        row.lease_owner, row.lease_until = owner, moment + timedelta(seconds=ttl_s)
        row.wanted = False  # whoever wants it from now on wants another run
        s.add(row)
        s.flush()
        return _source(row, _last_run(s, row.id))


def renew(engine: Engine, source_id: int, owner: str, ttl_s: float) -> bool:
    """Still ours for `ttl_s` from now. False if it ran out and somebody else has it."""
    with writing(engine) as s:
        result = s.connection().execute(
            sql_update(SourceRow)
            .where(col(SourceRow.id) == source_id, col(SourceRow.lease_owner) == owner)
            .values(lease_until=now() + timedelta(seconds=ttl_s))
        )
        return bool(result.rowcount)


def release(
    engine: Engine,
    source_id: int,
    owner: str,
    due_at: datetime,
    *,
    problem: str | None = None,
    failures: int = 0,
) -> None:
    """Done for now. Changes nothing if the lease is no longer ours."""
    with writing(engine) as s:
        s.connection().execute(
            sql_update(SourceRow)
            .where(col(SourceRow.id) == source_id, col(SourceRow.lease_owner) == owner)
            .values(
                lease_owner=None,
                lease_until=None,
                due_at=due_at,
                problem=clean(problem) if problem else None,
                failures=failures,
            )
        )


def set_shrunk(engine: Engine, source_id: int, shrunk: bool) -> None:
    """Remember whether the last complete listing lost most documents."""
    with writing(engine) as s:
        s.connection().execute(
            sql_update(SourceRow).where(col(SourceRow.id) == source_id).values(shrunk=shrunk)
        )


# --- progress ---------------------------------------------------------------------


def cursor(engine: Engine, source_id: int) -> Cursor | None:
    return get(engine, source_id).cursor


def save_cursor(engine: Engine, source_id: int, value: Cursor | None) -> None:
    with writing(engine) as s:
        s.connection().execute(
            sql_update(SourceRow).where(col(SourceRow.id) == source_id).values(cursor=value)
        )


def start_run(engine: Engine, source_id: int) -> int:
    """A new run. One that never finished was interrupted. Raises Conflict if the source is gone."""
    with writing(engine) as s:
        s.connection().execute(
            sql_update(RunRow)
            .where(col(RunRow.source_id) == source_id, col(RunRow.outcome) == "running")
            .values(outcome="interrupted", finished_at=now())
        )
        row = RunRow(source_id=source_id, started_at=now())
        s.add(row)
        s.flush()
        assert row.id is not None
        return row.id


def progress(engine: Engine, run_id: int, counts: Mapping[str, int]) -> None:
    """How far a run has come."""
    with writing(engine) as s:
        s.connection().execute(
            sql_update(RunRow).where(col(RunRow.id) == run_id).values(counts=dict(counts))
        )


def finish_run(
    engine: Engine,
    run_id: int,
    outcome: Outcome,
    counts: Mapping[str, int],
    problem: str | None = None,
) -> None:
    """Ends a run, and drops the oldest beyond `RUNS_KEPT`."""
    with writing(engine) as s:
        row = s.get(RunRow, run_id)
        if row is None:
            return  # the source was deleted meanwhile
        row.outcome, row.counts, row.finished_at = outcome, dict(counts), now()
        row.problem = clean(problem) if problem else None
        s.add(row)
        s.flush()
        old = (
            select(RunRow.id)
            .where(RunRow.source_id == row.source_id)
            .order_by(col(RunRow.id).desc())
            .offset(RUNS_KEPT)
            .limit(1)
        )
        if (oldest := s.exec(old).first()) is not None:
            s.connection().execute(
                sql_delete(RunRow).where(
                    col(RunRow.source_id) == row.source_id, col(RunRow.id) <= oldest
                )
            )


def runs(engine: Engine, source_id: int, limit: int = 20) -> list[Run]:
    """The latest runs, newest first."""
    with reading(engine) as s:
        query = select(RunRow).where(RunRow.source_id == source_id)
        return [_run(row) for row in s.exec(query.order_by(col(RunRow.id).desc()).limit(limit))]


# --- below: helpers within one transaction ----------------------------------------


def _row(s: Session, source_id: int, lock: bool = False) -> SourceRow:
    query = select(SourceRow).where(SourceRow.id == source_id)
    row = s.exec(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotVisible("取り込み元が見つかりません。")
    return row


def _last_run(s: Session, source_id: int | None) -> Run | None:
    query = select(RunRow).where(RunRow.source_id == source_id).order_by(col(RunRow.id).desc())
    row = s.exec(query.limit(1)).first()
    return _run(row) if row else None


def _run(row: RunRow) -> Run:
    assert row.id is not None
    return Run(
        row.id,
        row.source_id,
        row.started_at,
        row.finished_at,
        row.outcome,  # type: ignore[arg-type]
        row.counts,
        row.problem,
    )


def _source(row: SourceRow, last_run: Run | None = None) -> Source:
    assert row.id is not None
    leased = row.lease_owner if row.lease_until and row.lease_until > now() else None
    return Source(
        id=row.id,
        name=row.name,
        kind=row.kind,
        settings=row.settings,
        enabled=row.enabled,
        interval_s=row.interval_s,
        cursor=Cursor(row.cursor) if row.cursor is not None else None,
        due_at=row.due_at,
        failures=row.failures,
        problem=row.problem,
        shrunk=row.shrunk,
        leased_by=leased,
        last_run=last_run,
        tuning=Tuning(row.dense_weight, row.chunk_chars, row.parent_chars),
        personal_data=row.personal_data,  # type: ignore[arg-type]
    )
