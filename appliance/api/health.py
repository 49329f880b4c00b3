"""Is the appliance up? Anybody may ask, and learns nothing else."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

import appliance as package
from appliance.api.deps import OPEN, ApplianceDep
from appliance.api.shapes import Shape

router = APIRouter(tags=["health"])


class Health(Shape):
    status: Literal["ready", "starting", "degraded"]
    version: str


@router.get("/health", dependencies=[OPEN])
def health(machine: ApplianceDep) -> Health:
    """`starting`: indexes are loading. `degraded`: search answers, the model does not."""
    if not machine.follower.ready:
        return Health(status="starting", version=package.__version__)
    state: Literal["ready", "degraded"] = "ready" if machine.model_answers() else "degraded"
    return Health(status=state, version=package.__version__)
