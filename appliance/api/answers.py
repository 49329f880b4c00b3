"""What people think of an answer."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from appliance.api.deps import ApplianceDep, QueryCaller
from appliance.api.shapes import Done, Id, Shape
from appliance.store import conversations

router = APIRouter(tags=["answers"], prefix="/answers")


class Rating(Shape):
    value: Literal[-1, 0, 1]
    comment: str | None = Field(default=None, max_length=2000)


@router.put("/{answer_id}/rating")
def rate(answer_id: Id, body: Rating, machine: ApplianceDep, caller: QueryCaller) -> Done:
    conversations.rate(machine.engine, caller.viewer, answer_id, body.value, body.comment)
    return Done()
