"""The looks at a source: how far one has come, and what became of each document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.shapes import Shape
from appliance.ports import Connector, ListsAll
from appliance.store import runs, sources

router = APIRouter(tags=["admin: sources"], prefix="/admin/sources/{source_id}/runs")


class Run(Shape):
    id: int
    started_at: datetime
    finished_at: datetime | None
    outcome: runs.Ended = Field(examples=["complete"])
    counts: dict[str, int] = Field(examples=[{"added": 60}])
    problem: str | None
    per_minute: float = Field(description="Documents, so far.", examples=[120.0])
    left_s: float | None = Field(
        default=None,
        description="About how long it will take yet, by the documents that the last complete run "
        "saw; null where that tells nothing.",
    )


class Runs(Shape):
    runs: list[Run]


class Outcome(Shape):
    kind: runs.Kind
    uri: str
    title: str
    reason: str = Field(description="Why it failed.")


class Outcomes(Shape):
    documents: list[Outcome]
    total: int


@router.get("")
def listing(
    source_id: int,
    machine: ApplianceDep,
    caller: AdminCaller,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> Runs:
    """The latest first. Of those in which nothing happened, one after the other, the last is kept."""
    sources.get(machine.engine, source_id)
    return Runs(runs=[shown(run) for run in runs.of(machine.engine, source_id, limit)])


@router.get("/{run_id}/documents")
def documents(
    source_id: int,
    run_id: int,
    machine: ApplianceDep,
    caller: AdminCaller,
    kind: runs.Kind | None = None,
    page: Annotated[int, Query(ge=1)] = 1,
    size: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Outcomes:
    """What became of each document that did not stay as it was."""
    sources.get(machine.engine, source_id)
    found, total = runs.outcomes(machine.engine, source_id, run_id, kind, page, size)
    return Outcomes(documents=[Outcome.model_validate(one) for one in found], total=total)


def last(source: sources.Source, connectors: Mapping[str, type[Connector]]) -> Run | None:
    if source.last_run is None:
        return None
    # other connectors tell of what is new alone, so nobody knows how much that will be
    lists_all = isinstance(connectors.get(source.kind), ListsAll)
    return shown(source.last_run, source.known if lists_all else None)


def shown(run: runs.Run, known: int | None = None) -> Run:
    took_s = ((run.finished_at or datetime.now(UTC)) - run.started_at).total_seconds()
    per_minute = 60 * run.seen / max(took_s, 1.0)
    left = (known or 0) - run.seen
    return Run(
        id=run.id,
        started_at=run.started_at,
        finished_at=run.finished_at,
        outcome=run.outcome,
        counts=dict(run.counts),
        problem=run.problem,
        per_minute=round(per_minute, 1),
        left_s=60 * left / per_minute if run.outcome == "running" and left > 0 < run.seen else None,
    )
