"""What was read and what was not, for administrators: titles and problems, never text."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.shapes import WITHIN, Shape
from appliance.store import catalog

router = APIRouter(tags=["admin: documents"], prefix="/admin/documents")


class Listed(Shape):
    id: str
    source_id: int
    source: str
    uri: str
    title: str
    status: Literal["ready", "problem"]
    problem: str | None
    notes: list[str]
    searchable: bool
    attempts: int
    next_attempt_at: datetime | None
    media_type: str | None
    size_bytes: int | None
    modified_at: datetime
    updated_at: datetime
    parent_id: str | None
    within: str | None = WITHIN
    children: int = Field(description="Files inside it.")
    children_problems: int
    confidentiality: str | None = Field(description="秘密区分", examples=["社外秘"])
    personal: dict[str, int] = Field(
        description="Personal data that was found: how many of each kind, never the values.",
        examples=[{"my_number": 2, "phone": 1}],
    )


class Page(Shape):
    documents: list[Listed]
    total: int
    page: int
    page_size: int


@router.get("")
def listing(
    machine: ApplianceDep,
    caller: AdminCaller,
    source: int | None = None,
    status: Literal["ready", "problem"] | None = None,
    q: Annotated[str, Query(max_length=200, description="Part of a title or place.")] = "",
    parent: Annotated[str | None, Query(max_length=64, description="What is inside it.")] = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page:
    found = catalog.documents(
        machine.engine,
        source_id=source,
        status=status,
        text=q or None,
        parent_id=parent,
        page=page,
        size=page_size,
    )
    return Page(
        documents=[Listed.model_validate(d) for d in found.documents],
        total=found.total,
        page=page,
        page_size=page_size,
    )
