"""The same answers for whatever speaks to OpenAI: /v1/chat/completions and /v1/models.

The last message is the question, earlier ones are its conversation. System
messages and sampling parameters change nothing: the answer comes from the
documents. What the protocol has no place for is in the extra field `kura`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from appliance.api import errors, shapes, sse
from appliance.api.deps import ApplianceDep, QueryCaller
from appliance.api.running import TURNS, Asking, Failed
from appliance.api.shapes import Shape
from appliance.ask.answer import Piece
from appliance.errors import BadRequest
from appliance.types import Turn

router = APIRouter(tags=["openai"], prefix="/v1")

MODEL = "kura"
FINISH = {"complete": "stop", "no_evidence": "stop", "cut": "length", "cancelled": "length"}


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore")
    type: Literal["text"]
    text: str = Field(max_length=20_000)


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=20_000)] | Annotated[list[Part], Field(max_length=50)]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class ChatRequest(BaseModel):
    """What is not named here is ignored, as the protocol's own servers do."""

    model_config = ConfigDict(
        extra="ignore",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"model": MODEL, "messages": [{"role": "user", "content": "宿泊費の上限は?"}]}
            ]
        },
    )
    model: str = Field(default=MODEL, max_length=200)
    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    stream: bool = False
    n: int = Field(default=1, ge=1, le=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)


class Extra(Shape):
    audit_id: int
    ended: shapes.Ended
    citations: list[shapes.AnyCitation]
    passages: list[shapes.AnyPassage]
    statements: list[shapes.Statement]
    near: list[shapes.Pointer]
    conflicts: list[shapes.Pointer]


class ReplyMessage(Shape):
    role: Literal["assistant"] = "assistant"
    content: str


class Choice(Shape):
    index: int = 0
    message: ReplyMessage
    finish_reason: Literal["stop", "length"]


class Completion(Shape):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str = MODEL
    choices: list[Choice]
    kura: Extra


class Model(Shape):
    id: str = MODEL
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "kura"


class Models(Shape):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models")
def models(caller: QueryCaller) -> Models:
    return Models(data=[Model()])


@router.post("/chat/completions", response_model=Completion)
async def complete(
    body: ChatRequest, request: Request, machine: ApplianceDep, caller: QueryCaller
) -> Completion | Response:
    question, history = _asked(body.messages)
    asking = Asking(machine, request.app.state.seats, caller, question, history=history)
    await run_in_threadpool(asking.begin)
    if body.stream:
        return sse.EventStream(_chunks(asking, request))
    answer = await asking.whole(request)
    return Completion(
        id=f"chatcmpl-{answer.audit_id}",
        created=int(time.time()),
        choices=[
            Choice(message=ReplyMessage(content=answer.answer), finish_reason=_finish(answer))
        ],
        kura=_extra(answer),
    )


async def _chunks(asking: Asking, request: Request) -> AsyncGenerator[str, None]:
    id, created, said = f"chatcmpl-{errors.request_id(request)}", int(time.time()), ""

    def chunk(delta: dict[str, str], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        kind = {"id": id, "object": "chat.completion.chunk", "created": created, "model": MODEL}
        return f"data: {json.dumps(kind | {'choices': [choice]} | more, ensure_ascii=False)}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    async with contextlib.aclosing(asking.items(request)) as items:
        async for item in items:
            if item is None:
                yield sse.KEEP_ALIVE
            elif isinstance(item, Piece):
                said += item.text
                yield chunk({"content": item.text})
            elif isinstance(item, Failed):
                body = errors.openai_body(item.error, errors.request_id(request))
                yield f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
                return
            elif isinstance(item, shapes.Answer):
                if not said:
                    yield chunk({"content": item.answer})
                extra = _extra(item).model_dump(mode="json")
                yield chunk({}, _finish(item), kura=extra)
                yield "data: [DONE]\n\n"


def _asked(messages: list[ChatMessage]) -> tuple[str, list[Turn]]:
    """The question, and the exchanges before it. Raises BadRequest."""
    spoken = [m for m in messages if m.role in ("user", "assistant")]
    if not spoken or spoken[-1].role != "user" or not spoken[-1].text.strip():
        raise BadRequest("最後のメッセージは user の質問にしてください。")
    if len(spoken[-1].text) > 4000:
        raise BadRequest("質問は 4000 文字までです。")
    turns, question = [], ""
    for message in spoken[:-1]:
        if message.role == "user":
            question = message.text
        elif question:
            turns.append(Turn(question, message.text))
            question = ""
    return spoken[-1].text, turns[-TURNS:]


def _finish(answer: shapes.Answer) -> Any:
    return FINISH[answer.ended]


def _extra(answer: shapes.Answer) -> Extra:
    return Extra(
        audit_id=answer.audit_id,
        ended=answer.ended,
        citations=answer.citations,
        passages=answer.passages,
        statements=answer.statements,
        near=answer.near,
        conflicts=answer.conflicts,
    )
