"""The company's own words, for administrators: what means the same when somebody asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.shapes import Shape
from appliance.store import audit, synonyms
from appliance.text.synonyms import CHARS, EXPRESSIONS, GROUPS

router = APIRouter(tags=["admin: synonyms"], prefix="/admin/synonyms")

Expression = Annotated[str, Field(max_length=2 * CHARS)]
Group = Annotated[list[Expression], Field(max_length=2 * EXPRESSIONS)]


class Synonyms(Shape):
    groups: list[list[str]] = Field(examples=[[["就規", "就業規則"], ["VPN", "社外接続"]]])
    revision: str = Field(description="Send it back with a change.")


class NewSynonyms(Shape):
    groups: list[Group] = Field(max_length=2 * GROUPS, examples=[[["就規", "就業規則"]]])
    revision: str = Field(max_length=64, description="Of the list that was edited.")


@router.get("")
def listing(machine: ApplianceDep, caller: AdminCaller) -> Synonyms:
    return _shown(synonyms.read(machine.engine))


@router.put("")
def replace(body: NewSynonyms, machine: ApplianceDep, caller: AdminCaller) -> Synonyms:
    """Replaces the whole list; in effect with the next question. 409 if somebody else did so first."""
    kept = synonyms.replace(machine.engine, body.groups, body.revision)
    audit.record(
        machine.engine,
        caller.actor,
        "synonyms.replace",
        {"groups": len(kept.groups), "revision": kept.revision, "before": body.revision},
    )
    return _shown(kept)


def _shown(kept: synonyms.Synonyms) -> Synonyms:
    return Synonyms(groups=[list(group) for group in kept.groups], revision=kept.revision)
