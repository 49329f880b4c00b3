"""A person's past conversations. Nobody else's exist, not even for an administrator."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from appliance.api import render
from appliance.api.deps import ApplianceDep, QueryCaller
from appliance.api.shapes import Done, Id, Message, Shape
from appliance.store import conversations

router = APIRouter(tags=["conversations"], prefix="/conversations")


class Summary(Shape):
    id: str
    title: str
    updated_at: datetime


class Listing(Shape):
    conversations: list[Summary]


class Conversation(Shape):
    id: str
    title: str
    messages: list[Message]


class Title(Shape):
    title: str = Field(min_length=1, max_length=200)


@router.get("")
def listing(
    machine: ApplianceDep,
    caller: QueryCaller,
    before: Annotated[
        datetime | None, Query(description="Only those last used before this.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Listing:
    found = conversations.conversations(machine.engine, caller.viewer, before=before, limit=limit)
    return Listing(
        conversations=[Summary(id=c.id, title=c.title, updated_at=c.updated_at) for c in found]
    )


@router.get("/{conversation_id}")
def conversation(conversation_id: Id, machine: ApplianceDep, caller: QueryCaller) -> Conversation:
    """Citations are rendered again: what the reader may not open now is withdrawn."""
    found = conversations.get(machine.engine, caller.viewer, conversation_id)
    messages = [render.message(found.id, m) for m in found.messages]
    return Conversation(id=found.id, title=found.title, messages=messages)


@router.patch("/{conversation_id}")
def rename(conversation_id: Id, body: Title, machine: ApplianceDep, caller: QueryCaller) -> Done:
    conversations.rename(machine.engine, caller.viewer, conversation_id, body.title)
    return Done()


@router.post("/{conversation_id}/stop")
def stop(conversation_id: Id, request: Request, machine: ApplianceDep, caller: QueryCaller) -> Done:
    """Stop what is being answered in it, whoever listens; what there is of the answer is kept."""
    conversations.stop(machine.engine, caller.viewer, conversation_id)
    request.app.state.seats.stop(conversation_id)
    return Done()


@router.delete("/{conversation_id}")
def delete(
    conversation_id: Id, request: Request, machine: ApplianceDep, caller: QueryCaller
) -> Done:
    conversations.forget(machine.engine, caller.viewer, conversation_id)
    request.app.state.seats.stop(conversation_id)
    return Done()
