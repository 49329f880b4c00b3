"""Asking and searching: the query API, and what the UI itself uses."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from appliance.api import render, running, sse
from appliance.api.deps import ApplianceDep, QueryCaller, SearchCaller
from appliance.api.shapes import Answer, Error, Id, Passage, Piece, Question, Shape, Stage

router = APIRouter(tags=["query"])


class Ask(Shape):
    question: Question
    conversation_id: Id | None = Field(
        default=None, description="Continue this conversation; its earlier turns are understood."
    )


class Search(Shape):
    question: Question
    k: int = Field(default=5, ge=1, le=50)
    rerank: bool = Field(
        default=False,
        description="Have the best passages read and ordered as for an answer: better, and slower.",
    )


class Found(Shape):
    passages: list[Passage]


EVENTS = (
    "`stage` {name, position?}, `passages` [Passage], `piece` {text}, and last `answer` Answer "
    "or `error` Error. A comment line keeps the connection alive."
)


@router.post(
    "/query",
    response_model=Answer,
    responses={
        200: {
            "description": f"The answer; with `Accept: text/event-stream`, events: {EVENTS}",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'event: piece\ndata: {"text": "一泊一万円"}\n\n',
                }
            },
        }
    },
)
async def query(
    body: Ask, request: Request, machine: ApplianceDep, caller: QueryCaller
) -> Answer | Response:
    """Answer from the documents the caller may read, each claim with its citation.

    A question asked in the UI belongs to a conversation, made when none is named;
    one asked with a key only when `conversation_id` is given. Hanging up cancels.
    """
    asking = running.Asking(
        machine,
        request.app.state.seats,
        caller,
        body.question,
        conversation_id=body.conversation_id,
        keep=caller.key is None or body.conversation_id is not None,
    )
    await run_in_threadpool(asking.begin)
    if "text/event-stream" in request.headers.get("accept", ""):
        return sse.EventStream(sse.answer(asking, request))
    return await asking.whole(request)


@router.post("/search")
def search(body: Search, machine: ApplianceDep, caller: SearchCaller) -> Found:
    """Passages that speak of the question, without asking the model."""
    found = machine.retriever.retrieve(body.question, caller.viewer, body.k, rerank=body.rerank)
    return Found(passages=[render.passage(n, p) for n, p in enumerate(found.passages, 1)])


class Events(Shape):
    """The data of each event of `/query`, so that clients can generate types for them."""

    stage: Stage
    passages: list[Passage]
    piece: Piece
    answer: Answer
    error: Error
