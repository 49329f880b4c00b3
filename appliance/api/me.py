"""What the signed-in person may do."""

from __future__ import annotations

from fastapi import APIRouter

from appliance.api.deps import ApplianceDep, DocumentsCaller
from appliance.api.shapes import Shape

router = APIRouter(tags=["me"], prefix="/me")


class Shareable(Shape):
    principals: list[str]


@router.get("/groups")
def groups(machine: ApplianceDep, caller: DocumentsCaller) -> Shareable:
    """Principals this person may share an upload with: their own groups, and everyone."""
    return Shareable(principals=shareable(caller.viewer.principals))


def shareable(principals: frozenset[str]) -> list[str]:
    return sorted(p for p in principals if p == "everyone" or p.startswith("group:"))
