"""Examples of questions, as a site's administrators write them, for the page of a new question."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from appliance.api.deps import AdminCaller, ApplianceDep, QueryCaller
from appliance.api.shapes import Shape
from appliance.store import audit, examples

router = APIRouter(tags=["examples"])

Example = Annotated[str, Field(max_length=4000)]


class Examples(Shape):
    questions: list[Example] = Field(
        max_length=1000, examples=[["社員証をなくしました。再発行はいくらかかりますか。"]]
    )


@router.get("/examples")
def listing(machine: ApplianceDep, caller: QueryCaller) -> Examples:
    return Examples(questions=list(examples.read(machine.engine)))


@router.put("/admin/examples")
def replace(body: Examples, machine: ApplianceDep, caller: AdminCaller) -> Examples:
    """Replaces the whole list, for everybody."""
    kept = examples.replace(machine.engine, body.questions)
    audit.record(machine.engine, caller.actor, "examples.replace", {"questions": list(kept)})
    return Examples(questions=list(kept))
