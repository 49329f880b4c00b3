"""The looks at each source: how far one has come, how it ended, and what became of each document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Engine, func, insert
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlmodel import Session, col, select

from appliance.store.database import reading, writing
from appliance.store.rows import clean
from appliance.store.tables import OutcomeRow, RunRow, now

Ended = Literal["running", "complete", "stopped", "failed", "interrupted"]
Kind = Literal["added", "updated", "renewed", "removed", "failed"]

RUNS_KEPT = 100  # of each source
OUTCOMES_KEPT = 100_000  # of each source, the newest


@dataclass(frozen=True, slots=True)
class Run:
    """One look at a source. `counts`: added, updated, renewed, unchanged, removed, failed."""

    id: int
    source_id: int
    started_at: datetime
    finished_at: datetime | None
    outcome: Ended
    counts: Mapping[str, int]
    problem: str | None

    @property
    def seen(self) -> int:
        """Documents that the source told of."""
        return sum(n for name, n in self.counts.items() if name not in ("removed", "held"))

    @property
    def idle(self) -> bool:
        """Nothing had happened."""
        happened = any(n for name, n in self.counts.items() if name != "unchanged")
        return self.outcome == "complete" and not self.problem and not happened


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a document."""

    kind: Kind
    uri: str
    title: str
    reason: str = ""  # why it failed


def start(engine: Engine, source_id: int) -> int:
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


def progress(
    engine: Engine, run_id: int, counts: Mapping[str, int], outcomes: Sequence[Outcome] = ()
) -> None:
    """How far a run has come, and what became of documents since this was last told."""
    with writing(engine) as s:
        found = s.connection().execute(
            sql_update(RunRow).where(col(RunRow.id) == run_id).values(counts=dict(counts))
        )
        if found.rowcount:
            _tell(s, run_id, outcomes)


def finish(
    engine: Engine,
    run_id: int,
    outcome: Ended,
    counts: Mapping[str, int],
    problem: str | None = None,
    outcomes: Sequence[Outcome] = (),
) -> None:
    """Ends a run. Of runs in which nothing happened, one after the other, the last is kept."""
    with writing(engine) as s:
        row = s.get(RunRow, run_id)
        if row is None:
            return  # the source was deleted meanwhile
        row.outcome, row.counts, row.finished_at = outcome, dict(counts), now()
        row.problem = clean(problem) if problem else None
        s.add(row)
        s.flush()
        _tell(s, run_id, outcomes)
        mine = col(RunRow.source_id) == row.source_id
        newest = select(RunRow).where(mine).order_by(col(RunRow.id).desc())
        before = s.exec(newest.where(col(RunRow.id) < run_id).limit(1)).first()
        if before and _run(before).idle and _run(row).idle:
            s.delete(before)
        oldest = s.exec(newest.offset(RUNS_KEPT).limit(1)).first()
        if oldest is not None:
            s.connection().execute(sql_delete(RunRow).where(mine, col(RunRow.id) <= oldest.id))
        if not _run(row).idle:
            _forget(s, row.source_id)


def of(engine: Engine, source_id: int, limit: int = 20) -> list[Run]:
    """The latest runs, newest first."""
    with reading(engine) as s:
        query = select(RunRow).where(RunRow.source_id == source_id)
        return [_run(row) for row in s.exec(query.order_by(col(RunRow.id).desc()).limit(limit))]


def outcomes(
    engine: Engine, source_id: int, run_id: int, kind: Kind | None, page: int, size: int
) -> tuple[list[Outcome], int]:
    """A page of what became of documents in a run of that source, in order, and how many there are."""
    mine = [col(RunRow.source_id) == source_id, col(OutcomeRow.run_id) == run_id]
    if kind:
        mine.append(col(OutcomeRow.kind) == kind)
    joined = select(OutcomeRow).join(RunRow, col(RunRow.id) == col(OutcomeRow.run_id)).where(*mine)
    with reading(engine) as s:
        total = s.exec(select(func.count()).select_from(joined.subquery())).one()
        rows = s.exec(joined.order_by(col(OutcomeRow.id)).offset((page - 1) * size).limit(size))
        return [Outcome(r.kind, r.uri, r.title, r.reason) for r in rows], total  # type: ignore[arg-type]


# --- below: within one transaction ------------------------------------------------


def last(s: Session, source_id: int | None) -> tuple[Run | None, int | None]:
    """The last run, and how many documents the last complete one saw."""
    query = select(RunRow).where(RunRow.source_id == source_id).order_by(col(RunRow.id).desc())
    row = s.exec(query.limit(1)).first()
    complete = s.exec(query.where(RunRow.outcome == "complete").limit(1)).first()
    return _run(row) if row else None, _run(complete).seen if complete else None


def _tell(s: Session, run_id: int, told: Sequence[Outcome]) -> None:
    if told:
        rows = [{"run_id": run_id, **asdict(one)} for one in told]
        s.connection().execute(insert(OutcomeRow), rows)


def _forget(s: Session, source_id: int) -> None:
    """The oldest beyond `OUTCOMES_KEPT`."""
    runs = select(RunRow.id).where(RunRow.source_id == source_id)
    mine = col(OutcomeRow.run_id).in_(runs)
    newest = select(OutcomeRow.id).where(mine).order_by(col(OutcomeRow.id).desc())
    if (oldest := s.exec(newest.offset(OUTCOMES_KEPT).limit(1)).first()) is not None:
        s.connection().execute(sql_delete(OutcomeRow).where(mine, col(OutcomeRow.id) <= oldest))


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
