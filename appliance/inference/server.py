"""`kura infer`: chat, embeddings, reranking and the model list, OpenAI-compatible, over a Unix socket.

Beside the protocol: `input_type` on /v1/embeddings ("query" or "passage", for
models that tell them apart), `POST /tokenize` (counts tokens), `GET /metrics` (Prometheus).
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from appliance.errors import (
    ApplianceError,
    ModelBusy,
    Permanent,
    PromptTooLong,
    SettingsError,
    Transient,
)
from appliance.inference import (
    gguf,
    host,
    local,
    metrics,
    models,
    native,
    plan,
    prompts,
    registered,
    rerank,
    work,
)
from appliance.ports import Embedder, Reader, Reranker
from appliance.settings import Settings
from appliance.sovereignty import egress
from appliance.types import Role

log = logging.getLogger("kura.infer")

TEXTS = 256  # of one embeddings request
TEXT_CHARS = 20_000
SCHEMA_CHARS = 20_000  # of a JSON schema or a grammar
ENCODINGS_WAITING = 16  # requests for vectors and for scores, together
LOADING_S = 300.0

Text = Annotated[str, Field(max_length=200_000)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text


class JsonSchema(Strict):
    name: Text = ""
    schema_: dict[str, Any] = Field({}, alias="schema")


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema = JsonSchema()

    @property
    def text(self) -> str:
        """The JSON schema an answer must follow; empty where any text will do."""
        if self.type == "text":
            return ""
        wanted = self.json_schema.schema_ if self.type == "json_schema" else {"type": "object"}
        return json.dumps(wanted, ensure_ascii=False)


class ChatIn(Strict):
    model: Text = "kura-answer"
    messages: list[Message] = Field(min_length=1, max_length=200)
    max_tokens: int | None = Field(None, ge=1, le=100_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=100_000)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(40, ge=0, le=1000)
    min_p: float = Field(0.0, ge=0, le=1)
    repeat_penalty: float = Field(1.0, ge=0.5, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    dry_multiplier: float = Field(0.0, ge=0, le=5)
    dry_base: float = Field(1.75, ge=1, le=4)
    dry_allowed_length: int = Field(2, ge=1, le=100)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    n: int = Field(1, ge=1, le=1)
    stop: Text | Annotated[list[Text], Field(max_length=8)] | None = None
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] = Field({}, max_length=300)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    response_format: ResponseFormat = ResponseFormat()
    grammar: str = Field("", max_length=SCHEMA_CHARS)
    ignore_eos: bool = False
    user: str = Field("", max_length=256)
    stream: bool = False

    @property
    def sampling(self) -> work.Sampling:
        return work.Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            dry_multiplier=self.dry_multiplier,
            dry_base=self.dry_base,
            dry_allowed_length=self.dry_allowed_length,
            seed=self.seed,
            logit_bias=self.logit_bias,
            logprobs=self.top_logprobs if self.logprobs else -1,
            ignore_eos=self.ignore_eos,
        )


class EmbeddingsIn(Strict):
    model: Text = ""
    input: (
        Annotated[str, Field(max_length=TEXT_CHARS)]
        | Annotated[
            list[Annotated[str, Field(max_length=TEXT_CHARS)]],
            Field(min_length=1, max_length=TEXTS),
        ]
    )
    input_type: Role = "passage"
    encoding_format: Literal["float", "base64"] = "float"


class TokenizeIn(Strict):
    content: Text


@dataclass(frozen=True)
class Models:
    """What one server serves."""

    llm: host.Host
    llm_names: tuple[str, ...]  # the first is its own, the others are aliases
    embedder: Embedder
    reranker: Reranker | None = None
    reader: Reader | None = None  # the reranker, where it also points at words
    prompt_format: str = "plain"
    other: Callable[[str], Embedder | None] = lambda name: None  # embedders beside, by name


def create_app(served: Models) -> FastAPI:
    app = FastAPI(title="kura infer", openapi_url=None, docs_url=None, redoc_url=None)
    encoding = threading.BoundedSemaphore(ENCODINGS_WAITING)
    reranker = served.reranker
    known = {*served.llm_names, served.embedder.name, ""} | ({reranker.name} if reranker else set())

    @app.exception_handler(ApplianceError)
    def failed(_: Request, error: ApplianceError) -> JSONResponse:
        return _error(error)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        body = {"message": message, "type": "BadRequest", "param": where or None}
        return JSONResponse({"error": body}, 422)

    def check(name: str) -> None:
        if name not in known:
            raise _NoSuchModel(f"no model called {name!r} is loaded")

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok"} | served.llm.stats()

    @app.get("/metrics")
    def metered() -> Response:
        return Response(served.llm.meter.text(), media_type=metrics.CONTENT_TYPE)

    @app.get("/v1/models")
    def list_models() -> dict[str, Any]:
        rows: list[dict[str, Any]] = [
            {"id": name, "object": "model", "owned_by": "kura", "kind": "llm"}
            | {"context_tokens": served.llm.context_tokens}
            for name in served.llm_names
        ]
        embedder = {"id": served.embedder.name, "object": "model", "owned_by": "kura"}
        rows.append(embedder | {"kind": "embedder", "dim": served.embedder.dim})
        if reranker:
            row = {"id": reranker.name, "object": "model", "owned_by": "kura"}
            rows.append(row | {"kind": "reranker"})
        return {"object": "list", "data": rows}

    @app.post("/tokenize")
    def tokenize(body: TokenizeIn) -> dict[str, Any]:
        return {"count": served.llm.count(body.content)}

    @app.post("/v1/embeddings")
    def embeddings(body: EmbeddingsIn) -> dict[str, Any]:
        embedder = served.embedder
        if body.model not in known:
            embedder = served.other(body.model) or embedder
        if embedder is served.embedder:
            check(body.model)
        texts = [body.input] if isinstance(body.input, str) else body.input
        if not encoding.acquire(blocking=False):
            raise ModelBusy(f"埋め込みの要求がすでに {ENCODINGS_WAITING} 件あります。")
        began = time.monotonic()
        try:
            vectors = embedder.embed(texts, body.input_type)
        finally:
            encoding.release()
        served.llm.meter.embedded(len(texts), time.monotonic() - began)
        rows = [
            {"object": "embedding", "index": i, "embedding": _encoded(row, body.encoding_format)}
            for i, row in enumerate(vectors)
        ]
        return {"object": "list", "model": embedder.name, "data": rows}

    @app.post("/v1/rerank")
    def reranked(body: rerank.RerankIn) -> dict[str, Any]:
        check(body.model)
        if not reranker:
            raise _NoSuchModel("no reranker is loaded: KURA_RERANKER is none")
        if not encoding.acquire(blocking=False):
            raise ModelBusy(f"埋め込みと採点の要求がすでに {ENCODINGS_WAITING} 件あります。")
        try:
            return rerank.answer(reranker, body, served.reader)
        finally:
            encoding.release()

    @app.post("/v1/chat/completions")
    async def chat(body: ChatIn, request: Request) -> Response:
        check(body.model)
        answer = _Answer(served, body)
        await answer.begin(served)
        if body.stream:
            return _Stream(answer)
        return await answer.whole(request)

    return app


class _NoSuchModel(Permanent): ...


def _error(error: ApplianceError) -> JSONResponse:
    status, headers = 400, {}
    if isinstance(error, Transient):
        status = 429 if isinstance(error, ModelBusy) else 503
        headers = {"Retry-After": str(max(1, round(error.retry_after_s)))}
    elif isinstance(error, _NoSuchModel):
        status = 404
    body: dict[str, Any] = {"message": str(error), "type": type(error).__name__}
    if isinstance(error, PromptTooLong):
        body |= {"tokens": error.tokens, "limit": error.limit}
    return JSONResponse({"error": body}, status, headers)


def _encoded(row: np.ndarray[Any, Any], kind: str) -> list[float] | str:
    if kind == "base64":
        return base64.b64encode(np.ascontiguousarray(row, "<f4").tobytes()).decode()
    return [float(x) for x in row]


class _Answer:
    """One completion: admitted by `begin`, cancelled when its reader leaves."""

    def __init__(self, served: Models, body: ChatIn) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[work.Event] = asyncio.Queue()
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._body = body
        self._job: host.Job | None = None

    async def begin(self, served: Models) -> None:
        """Raises what `Host.submit` raises. Not in the loop: a long prompt takes a while to count."""
        body = self._body
        messages = [
            prompts.Message("system" if m.role == "developer" else m.role, m.content)
            for m in body.messages
        ]
        request = host.Request(
            prompts.FORMATS[served.prompt_format](messages),
            limit=body.max_completion_tokens or body.max_tokens or 256,
            owner=body.user,
            stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
            sampling=body.sampling,
            schema=body.response_format.text,
            grammar=body.grammar,
        )
        if body.ignore_eos:
            request = replace(request, prompt=replace(request.prompt, stop=()))
        self._job = await run_in_threadpool(served.llm.submit, request, self._hear)

    def _hear(self, event: work.Event) -> None:
        with suppress(RuntimeError):  # the loop is gone: the server is stopping
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def leave(self) -> None:
        """Nobody listens any more. An answer that has ended is not disturbed."""
        if self._job:
            self._job.cancel()

    async def lines(self) -> AsyncIterator[str]:
        yield self._chunk({"role": "assistant", "content": ""})
        while True:
            event = await self._events.get()
            if isinstance(event, work.Waiting):
                yield self._waiting(event)
            elif isinstance(event, work.Piece):
                yield self._chunk({"content": event.text}, logprobs=event.logprobs)
            else:
                if event.finish == "error":
                    error = {"message": event.message, "type": "ModelUnreachable"}
                    yield f"data: {json.dumps({'error': error})}\n\n"
                else:
                    yield self._chunk({}, event)
                yield "data: [DONE]\n\n"
                return

    async def whole(self, request: Request) -> Response:
        text = ""
        details: list[Mapping[str, Any]] = []
        try:
            while True:
                try:
                    event = await asyncio.wait_for(self._events.get(), 0.5)
                except TimeoutError:
                    if await request.is_disconnected():
                        return Response(status_code=499)
                    continue
                if isinstance(event, work.End):
                    break
                if isinstance(event, work.Piece):
                    text += event.text
                    details += event.logprobs
        finally:
            self.leave()
        if event.finish == "error":
            error = {"message": event.message, "type": "ModelUnreachable"}
            return JSONResponse({"error": error}, 500)
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": event.finish,
        }
        if self._body.logprobs:
            choice["logprobs"] = {"content": details}
        return JSONResponse(self._envelope("chat.completion", choice) | {"usage": _usage(event)})

    def _waiting(self, event: work.Waiting) -> str:
        """A chunk without choices, which other clients pass over; `kura.waiting` 0: it starts."""
        body = self._envelope("chat.completion.chunk", None) | {"kura": {"waiting": event.position}}
        return f"data: {json.dumps(body)}\n\n"

    def _chunk(
        self,
        delta: dict[str, str],
        end: work.End | None = None,
        logprobs: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        choice: dict[str, Any] = {
            "index": 0,
            "delta": delta,
            "finish_reason": end.finish if end else None,
        }
        if logprobs:
            choice["logprobs"] = {"content": list(logprobs)}
        body = self._envelope("chat.completion.chunk", choice)
        if end:
            body["usage"] = _usage(end)
        return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"

    def _envelope(self, kind: str, choice: dict[str, Any] | None) -> dict[str, Any]:
        head = {"id": self._id, "object": kind, "created": self._created}
        return head | {"model": self._body.model, "choices": [choice] if choice else []}


class _Stream(StreamingResponse):
    """Lets go of the answer however it ends, also where the reader left before the first line."""

    def __init__(self, answer: _Answer) -> None:
        super().__init__(answer.lines(), media_type="text/event-stream")
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.leave()


def _usage(end: work.End) -> dict[str, Any]:
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.tokens,
        "total_tokens": end.prompt_tokens + end.tokens,
        "prompt_tokens_details": {"cached_tokens": end.reused},
    }


def budget(settings: Settings, free: int | None = None, beside: str = "") -> plan.Plan:
    """What the models will need of this machine's memory, of which `free` bytes may be taken.
    `beside`: a second embedder, which searches until all was embedded anew.

    Raises DigestMismatch, ModelFileInvalid.
    """
    # a sliding window wants two of each, and one more carries cells from context to context
    sequences = 2 * (settings.infer_slots + local.CACHED) + 1
    outputs = max(sequences, settings.infer_slots + work.GUESSES)
    return plan.plan(
        settings,
        slots=settings.infer_slots,
        sequences=sequences,
        outputs=outputs,
        host=free,
        beside=beside,
    )


def load(settings: Settings) -> Models:
    """The default models, in a child. Returns when both can be used.

    Raises DigestMismatch or ModelFileInvalid when a file is not what it should be, SettingsError
    when the machine is too small, ModelUnreachable.
    """
    free = plan.host_memory()  # before the child takes of it
    child = native.Native(settings.data / egress.FOLDER)
    try:
        child.load(_wanted(settings, free))
        child.wait_ready(LOADING_S)
        return _served(child, settings)
    except ApplianceError:
        child.close()
        raise


def _wanted(settings: Settings, free: int) -> dict[str, Any]:
    """What the child is to load, every file checked before native code sees it."""
    llm, root = registered.llm(settings)
    embedder = models.embedder(settings.embedder)
    reader = None if settings.reranker else models.named(models.DEFAULT_READER)
    folder = models.verified(llm, root)
    adapters = []
    if llm.adapter:
        row = models.named(llm.adapter)
        adapters.append(models.verified(row, settings.models) / next(iter(row.files)))
    for file in (folder / next(iter(llm.files)), *adapters):
        gguf.read(file)
    planned = budget(settings, free)
    if planned.refusal:
        raise SettingsError(planned.refusal)
    network, change = models.network(embedder, settings.models)
    return native.spec(
        folder / next(iter(llm.files)),
        adapters,
        network,
        embedder.name,
        change,
        context_tokens=settings.context_tokens,
        slots=settings.infer_slots,
        threads=settings.generator_threads,
        gpu_layers=planned.gpu_layers,
        reranker=settings.own_reranker,
        reader=models.verified(reader, settings.models) / next(iter(reader.files))
        if reader
        else None,
        reader_name=reader.name if reader else "",
    )


def _served(child: native.Native, settings: Settings) -> Models:
    """The models of a child that is ready, each used once."""
    llm, _ = registered.llm(settings)
    embedder = models.embedder(settings.embedder)
    child.settle(LOADING_S)
    vectors = native.ChildEmbedder(child, embedder.name, embedder.dim)
    vectors.embed(["準備"], "query")
    scores: Reranker | None = None
    reads: Reader | None = None
    if not settings.reranker:
        scores = reads = native.ChildReader(child, models.DEFAULT_READER)
    elif settings.own_reranker:
        scores = native.ChildReranker(child, Path(settings.own_reranker).name)
    if scores:
        scores.scores("準備", ["準備"])
    answers = host.Host(
        child,
        context_tokens=settings.context_tokens,
        queue_size=settings.infer_queue,
        share_prefixes=settings.share_prefixes,
        model=llm.name,
    )
    names = (llm.name, "kura-answer")
    beside = partial(_beside, child, settings)
    return Models(answers, names, vectors, scores, reads, llm.prompt_format, beside)


def _beside(child: native.Native, settings: Settings, name: str) -> Embedder | None:
    """One that served before: loaded when it is first asked, its files checked each time."""
    model = next((m for m in models.catalogue() if (m.name, m.kind) == (name, "embedder")), None)
    if model is None:
        return None
    folder, change = models.network(model, settings.models)
    return native.ChildEmbedder(
        child,
        model.name,
        model.dim,
        {
            "folder": str(folder),
            "change": str(change or ""),
            "name": model.name,
            "threads": settings.generator_threads,
        },
    )


def serve(settings: Settings) -> None:
    """Serve on the socket until SIGTERM or SIGINT."""
    served = load(settings)
    try:
        run(create_app(served), settings.infer_socket)
    finally:
        served.llm.close()


def run(app: FastAPI, path: Path) -> None:
    server = SocketServer(app, path)
    signal.signal(signal.SIGTERM, server.handle_exit)
    server.run()


class SocketServer(uvicorn.Server):
    """A server on a Unix socket that nobody but this user may open."""

    def __init__(self, app: FastAPI, path: Path) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
        )
        self._path = path

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening:
            before = os.umask(0o177)
            try:
                listening.bind(str(self._path))
            finally:
                os.umask(before)
            super().run([listening])
        self._path.unlink(missing_ok=True)
