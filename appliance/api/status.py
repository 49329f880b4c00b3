"""How the machine is, for administrators."""

from __future__ import annotations

import shutil
from dataclasses import asdict

from fastapi import APIRouter
from pydantic import Field

import appliance as package
from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.shapes import Shape
from appliance.sovereignty import egress
from appliance.store import audit, catalog, scans, sources, spaces
from appliance.system import Appliance

router = APIRouter(tags=["admin: status"], prefix="/admin")


class Index(Shape):
    name: str
    chunks: int
    sequence: int
    behind: int


class Pages(Shape):
    """Pages that are pictures, and are read in the background (OCR)."""

    on: bool = Field(description="Whether pages are read at all.")
    waiting: int
    done: int
    failed: int = Field(description="Were given up; their documents say why.")
    per_minute: float = Field(description="Ended in the last five minutes, by the minute.")


class EmbeddingAnew(Shape):
    """One embedder takes the place of another, in the background."""

    origin: str = Field(
        description="Searches until all is done; empty where this release does not have it: words "
        "find what has no vector of `target` yet."
    )
    target: str
    done: int = Field(description="Chunks that have vectors of both.")
    total: int
    at: str = Field(description="When `done` last grew.")
    complete: bool = Field(description="All is done; the new index is being made.")


class Status(Shape):
    version: str
    ready: bool
    problem: str | None = Field(description="Why the indexes fall behind, if they do.")
    model_answers: bool
    generator: str
    embedder: str = Field(description="Whose vectors are searched.")
    embedding_anew: EmbeddingAnew | None
    documents: int
    ready_documents: int
    problems: int
    inside: int = Field(description="Files inside documents, not counted among them.")
    inside_problems: int
    withheld_sources: list[str] = Field(
        description="Nobody finds their documents, since who may read them could not be asked."
    )
    chunks: int
    pages: Pages
    indexes: list[Index]
    free_bytes: int
    blocked_connections: int


class Reindexed(Shape):
    chunks: int = Field(description="In the catalogue.")
    added: int = Field(description="Were missing from an index, or under a wrong access.")
    removed: int = Field(description="Were in an index, and not in the catalogue.")
    waiting: int = Field(description="Have no vector of this embedder yet.")


@router.get("/status")
def status(machine: ApplianceDep, caller: AdminCaller) -> Status:
    counts = catalog.counts(machine.engine)
    head = catalog.head(machine.engine)
    return Status(
        version=package.__version__,
        ready=machine.follower.ready,
        problem=machine.follower.problem,
        model_answers=machine.model_answers(),
        generator=machine.settings.generator_model,
        embedder=machine.searched_by.name,
        embedding_anew=_anew(machine),
        documents=counts.documents,
        ready_documents=counts.ready,
        problems=counts.problems,
        inside=counts.inside,
        inside_problems=counts.inside_problems,
        withheld_sources=[s.name for s in sources.all(machine.engine) if s.withheld],
        chunks=counts.chunks,
        pages=_pages(machine),
        indexes=[
            Index(
                name=type(index).__name__,
                chunks=len(index.ids()),
                sequence=index.sequence,
                behind=max(0, head - index.sequence),
            )
            for index in machine.indexes
        ],
        free_bytes=shutil.disk_usage(machine.settings.data).free,
        blocked_connections=egress.blocked(),
    )


def _anew(machine: Appliance) -> EmbeddingAnew | None:
    move = spaces.move(machine.engine)
    return EmbeddingAnew(**asdict(move)) if move else None


def _pages(machine: Appliance) -> Pages:
    found = scans.counts(machine.engine)
    return Pages(
        on=machine.settings.ocr,
        waiting=found.waiting,
        done=found.done,
        failed=found.failed,
        per_minute=found.per_minute,
    )


@router.post("/reindex")
def reindex(machine: ApplianceDep, caller: AdminCaller) -> Reindexed:
    """Compare catalogue and indexes both ways, and mend the indexes."""
    done = Reindexed.model_validate(machine.follower.reconcile())
    audit.record(machine.engine, caller.actor, "reindex", done.model_dump())
    return done
