"""The audit chain, for administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.shapes import Shape
from appliance.store import audit

router = APIRouter(tags=["admin: audit"], prefix="/admin/audit")


class Record(Shape):
    sequence: int
    at: datetime
    actor: str
    action: str
    detail: dict[str, Any]


class Records(Shape):
    records: list[Record]
    first_bad: int | None = None


@router.get("")
def listing(
    machine: ApplianceDep,
    caller: AdminCaller,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    verify: Annotated[bool, Query(description="Check the whole chain: `first_bad`.")] = False,
) -> Records:
    """Latest first."""
    found = audit.entries(machine.engine, before=before, limit=limit)
    return Records(
        records=[Record.model_validate(entry) for entry in found],
        first_bad=audit.verify(machine.engine) if verify else None,
    )
