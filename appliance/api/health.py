"""Is the appliance up? Anybody may ask, and learns nothing else."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

import appliance as package
from appliance.api import closed
from appliance.api.deps import OPEN, ApplianceDep
from appliance.api.shapes import Shape

router = APIRouter(tags=["health"])


class Health(Shape):
    status: Literal["ready", "starting", "degraded"]
    version: str
    maintenance: closed.Maintenance | None = Field(
        None, description="Only administrators may come in."
    )


@router.get("/health", dependencies=[OPEN], response_model_exclude_none=True)
def health(machine: ApplianceDep) -> Health:
    """`starting`: indexes are loading. `degraded`: search answers, the model does not."""
    state: Literal["ready", "starting", "degraded"] = "starting"
    if machine.follower.ready:
        state = "ready" if machine.model_answers() else "degraded"
    return Health(status=state, version=package.__version__, maintenance=closed.shown(machine))
