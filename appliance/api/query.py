"""Asking and searching: the query API, and what the UI itself uses."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from appliance.api import render, running, sse
from appliance.api.deps import ApplianceDep, QueryCaller, SearchCaller
from appliance.api.shapes import (
    Answer,
    Begun,
    Error,
    Family,
    Id,
    Passage,
    Piece,
    Question,
    Shape,
    Stage,
)
from appliance.identity.callers import Caller
from appliance.search.retrieve import Retrieval
from appliance.store import access, narrow
from appliance.store.narrow import FAMILIES
from appliance.system import Appliance
from appliance.types import Filter as Meant

router = APIRouter(tags=["query"])


Day = Annotated[date, Field(ge=date(1900, 1, 1), le=date(2999, 12, 31))]


class Filter(Shape):
    """Which documents are meant: all that is given must hold. It never shows more than one may read."""

    sources: list[Annotated[str, Field(max_length=200)]] = Field(
        default=[],
        max_length=100,
        description="Names of sources.",
        examples=[["総務部 共有フォルダー"]],
    )
    types: list[Family] = Field(default=[], max_length=len(FAMILIES))
    modified_from: Day | None = Field(default=None, description="Changed on that day, or later.")
    modified_to: Day | None = Field(default=None, description="Changed on that day, or earlier.")

    def meant(self) -> Meant:
        """Days are those of the machine's time zone."""
        first, last = self.modified_from, self.modified_to
        return Meant(
            frozenset(self.sources),
            frozenset(m for family in self.types for m in FAMILIES[family]),
            datetime.combine(first, time.min).astimezone() if first else None,
            datetime.combine(last + timedelta(1), time.min).astimezone() if last else None,
        )


class Filters(Shape):
    """What a question can be narrowed by: only of documents the caller may read."""

    sources: list[str] = Field(examples=[["総務部 共有フォルダー"]])
    types: list[Family]


class Ask(Shape):
    question: Question
    filter: Filter = Filter()
    conversation_id: Id | None = Field(
        default=None, description="Continue this conversation; its earlier turns are understood."
    )


class Search(Shape):
    question: Question
    filter: Filter = Filter()
    k: int = Field(default=5, ge=1, le=50)
    rerank: bool = Field(
        default=False,
        description="Have the best passages read and ordered as for an answer: better, and slower.",
    )


PARTIAL = "Not all that the caller may read was searched: who may read one of its sources is not known now."


class Found(Shape):
    passages: list[Passage]
    partial: bool = Field(description=PARTIAL)


class Considered(Shape):
    """A candidate as it was weighed. Only what the caller may read is here at all."""

    passage: Passage
    dense: float = Field(description="Similarity of its vector to the question's, -1 to 1.")
    keyword: float = Field(description="BM25 of its words, bigrams and codes; 0: none of them.")
    fused: float = Field(description="Both, each standardised over the candidates, weighted.")
    dropped: Literal["superseded", "ahead", "copy", "crowded", "beyond"] | None = Field(
        description="superseded, ahead: another version is in force. copy: a passage before it "
        "has the same text. crowded: enough of its document. beyond: after the last of k."
    )


class Weighed(Shape):
    question: str = Field(description="As searched for, with the site's own words put in.")
    relevance: float = Field(description="0 to 1: how surely the best passage speaks of it.")
    threshold: float = Field(description="Below it, there is nothing to answer from.")
    considered: list[Considered] = Field(description="Best first, those dropped among them.")
    partial: bool = Field(description=PARTIAL)


EVENTS = (
    "`begun` {id, conversation_id} where it belongs to a conversation, `stage` {name, position?}, "
    "`passages` [Passage], `piece` {text}, and last `answer` Answer or `error` Error. "
    "A comment line keeps the connection alive."
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
    one asked with a key only when `conversation_id` is given. Hanging up cancels, but for
    who is signed in and was told by `begun` where the answer will be: it is finished and kept.
    """
    asking = running.Asking(
        machine,
        request.app.state.seats,
        caller,
        body.question,
        conversation_id=body.conversation_id,
        keep=caller.key is None or body.conversation_id is not None,
        within=body.filter.meant(),
    )
    await run_in_threadpool(asking.begin)
    if "text/event-stream" in request.headers.get("accept", ""):
        return sse.EventStream(sse.answer(asking, request))
    return await asking.whole(request)


@router.get("/filters")
def filters(machine: ApplianceDep, caller: QueryCaller) -> Filters:
    """The sources and kinds of document that `filter` can name for this caller."""
    admitted = access.admitted(machine.engine, caller.viewer)
    withheld = access.withheld(machine.engine)
    names, families = narrow.offered(machine.engine, admitted, withheld)
    return Filters(sources=names, types=cast(list[Family], families))


@router.post("/search")
def search(body: Search, machine: ApplianceDep, caller: SearchCaller) -> Found:
    """Passages that speak of the question, without asking the model."""
    found = _retrieved(body, machine, caller)
    passages = [render.passage(n, p) for n, p in enumerate(found.passages, 1)]
    return Found(passages=passages, partial=found.withheld)


@router.post("/search/candidates")
def candidates(body: Search, machine: ApplianceDep, caller: SearchCaller) -> Weighed:
    """Every candidate of a search with its scores, and why it was dropped: to test retrieval with."""
    found = _retrieved(body, machine, caller, trace=True)
    scores = {c.chunk_id: c for c in found.candidates}
    return Weighed(
        question=found.question,
        relevance=found.relevance,
        threshold=found.threshold,
        considered=[
            Considered(
                passage=render.passage(n, one.passage),
                dense=scores[one.passage.chunk_id].dense,
                keyword=scores[one.passage.chunk_id].keyword,
                fused=scores[one.passage.chunk_id].score,
                dropped=one.dropped,
            )
            for n, one in enumerate(found.considered, 1)
        ],
        partial=found.withheld,
    )


def _retrieved(
    body: Search, machine: Appliance, caller: Caller, *, trace: bool = False
) -> Retrieval:
    return machine.retriever.retrieve(
        body.question,
        caller.viewer,
        body.k,
        within=body.filter.meant(),
        rerank=body.rerank,
        trace=trace,
    )


class Events(Shape):
    """The data of each event of `/query`, so that clients can generate types for them."""

    begun: Begun
    stage: Stage
    passages: list[Passage]
    piece: Piece
    answer: Answer
    error: Error
