"""Server-sent events: the answer while it is being written."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api import errors, render, shapes
from appliance.api.running import Asking, Begun, Failed
from appliance.ask.answer import Found, Piece, Stage

KEEP_ALIVE = ": まだ考えています\n\n"


class EventStream(Response):
    """Sends as it comes. Watching for the reader's leaving is the source's own business."""

    media_type = "text/event-stream"

    def __init__(self, source: AsyncGenerator[str, None]) -> None:
        self.source = source
        self.status_code = 200
        self.background = None
        # no-transform and X-Accel-Buffering: a proxy that waits for the end helps nobody
        self.init_headers({"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        async with contextlib.aclosing(self.source) as source:
            async for text in source:
                part = {"body": text.encode(), "more_body": True}
                await send({"type": "http.response.body", **part})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def answer(asking: Asking, request: Request) -> AsyncGenerator[str, None]:
    """The events of `/query`: begun, stage, passages, piece … and last answer or error."""
    async with contextlib.aclosing(asking.items(request)) as items:
        async for item in items:
            match item:
                case None:
                    yield KEEP_ALIVE
                case Begun():
                    yield event("begun", shapes.Begun.model_validate(item))
                    asking.may_leave()
                case Stage():
                    position = getattr(item, "position", None)
                    yield event("stage", shapes.Stage(name=item.name, position=position))
                case Found():
                    shown = [render.passage(n, p) for n, p in enumerate(item.passages, 1)]
                    yield event("passages", shown)
                case Piece():
                    yield event("piece", shapes.Piece(text=item.text))
                case Failed():
                    yield failed(item, errors.request_id(request))
                case _:
                    yield event("answer", item)


def event(name: str, data: BaseModel | list[shapes.Passage] | dict[str, object]) -> str:
    if isinstance(data, BaseModel):
        text = data.model_dump_json()
    elif isinstance(data, dict):
        text = json.dumps(data, ensure_ascii=False)
    else:
        text = f"[{','.join(one.model_dump_json() for one in data)}]"
    return f"event: {name}\ndata: {text}\n\n"


def failed(item: Failed, request_id: str) -> str:
    """Why it broke off, and under which conversation the beginning was kept."""
    data = errors.body(item.error, request_id)
    if item.kept is not None:
        data |= {"id": item.kept.id, "conversation_id": item.kept.conversation_id}
    return event("error", data)
