"""POST /likelihoods: how likely the language model holds each of some answers to one prompt.

An extension of ours. The prompt is read once, or taken from the cache where it has just been answered,
and each answer costs about one step.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.inference import host, prompts, work
from appliance.types import ANSWER_CHARS, ANSWERS

Text = Annotated[str, Field(max_length=2_000_000)]


class Message(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant"]
    content: Text


class WeighIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: Text = ""
    messages: list[Message] = Field(min_length=1, max_length=200)
    answers: list[Annotated[str, Field(min_length=1, max_length=ANSWER_CHARS)]] = Field(
        min_length=1, max_length=ANSWERS
    )
    user: str = Field("", max_length=256)


class Likelihood(BaseModel):
    index: int
    logprob: float  # natural logarithm, of the whole answer


class WeighOut(BaseModel):
    model: str
    data: list[Likelihood]


def asked(body: WeighIn, prompt_format: str) -> host.Request:
    messages = [prompts.Message(m.role, m.content) for m in body.messages]
    prompt = prompts.FORMATS[prompt_format](messages)
    return host.Request(prompt, limit=1, owner=body.user, answers=tuple(body.answers))


class Weighing:
    """Hears a job to its end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[work.End] = self._loop.create_future()

    def hear(self, event: work.Event) -> None:
        if isinstance(event, work.End):
            self._loop.call_soon_threadsafe(self._ended, event)

    async def end(self, seconds: float) -> work.End | None:
        """None where it has not ended by then."""
        done, _ = await asyncio.wait({self._end}, timeout=seconds)
        return self._end.result() if done else None

    def _ended(self, event: work.End) -> None:
        if not self._end.done():
            self._end.set_result(event)


def answer(body: WeighIn, end: work.End) -> dict[str, Any]:
    rows = [Likelihood(index=n, logprob=value) for n, value in enumerate(end.likelihoods)]
    return WeighOut(model=body.model, data=rows).model_dump()
