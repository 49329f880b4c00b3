"""The one client for models: `kura infer` on its socket, or any OpenAI-compatible server."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from appliance.errors import (
    BadRequest,
    ModelBusy,
    ModelUnreachable,
    PromptTooLong,
    SettingsError,
)
from appliance.types import Prompt, Role, Vectors, Waiting

WATCH_S = 0.1  # how often a cancelled question is noticed
EMBED_TEXTS = 32  # texts a request, so that a busy server can serve others between


class InferClient:
    """Speaks to one server. Raises ModelBusy, ModelUnreachable, PromptTooLong, BadRequest."""

    def __init__(self, at: Path | str, api_key: str = "", timeout_s: float = 120.0) -> None:
        self.at = at
        uds = str(at) if isinstance(at, Path) else None
        self._http = httpx2.Client(
            base_url="http://infer" if uds else str(at),
            transport=httpx2.HTTPTransport(
                uds=uds, verify=not uds
            ),  # nothing is encrypted on a socket
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(timeout_s, connect=5.0),
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        with _errors(self.at):
            return _checked(self._http.get(path)).json()

    def text(self, path: str) -> str:
        with _errors(self.at):
            return _checked(self._http.get(path)).text

    def post(self, path: str, body: dict[str, Any]) -> Any:
        with _errors(self.at):
            return _checked(self._http.post(path, json=body)).json()

    def events(
        self, path: str, body: dict[str, Any], cancelled: Callable[[], bool]
    ) -> Iterator[dict[str, Any]]:
        """The JSON of each server-sent event. Hangs up within WATCH_S of `cancelled()`."""
        done = threading.Event()
        hung_up = threading.Event()
        with _errors(self.at, hung_up), self._http.stream("POST", path, json=body) as response:
            if response.is_error:
                response.read()
                _checked(response)
            watcher = threading.Thread(
                target=_hang_up, args=(response, cancelled, done, hung_up), daemon=True
            )
            watcher.start()
            try:
                for line in response.iter_lines():
                    if not line.startswith("data: "):
                        continue
                    if (data := line.removeprefix("data: ")) == "[DONE]" or cancelled():
                        return
                    yield json.loads(data)
                if not hung_up.is_set():
                    raise ModelUnreachable("モデルのプロセスが、答えの途中で終わりました。")
            finally:
                done.set()
                watcher.join()


def _hang_up(
    response: httpx2.Response,
    cancelled: Callable[[], bool],
    done: threading.Event,
    hung_up: threading.Event,
) -> None:
    while not done.wait(WATCH_S):
        if cancelled():
            hung_up.set()
            stream = response.extensions["network_stream"]
            wire = stream.get_extra_info("socket")
            try:
                wire.shutdown(socket.SHUT_RDWR)  # wakes the reader; closing would not
            except OSError:
                return  # the server was quicker
            return


@contextmanager
def _errors(at: Path | str, hung_up: threading.Event | None = None) -> Iterator[None]:
    try:
        yield
    except (httpx2.HTTPError, json.JSONDecodeError) as error:
        if hung_up is not None and hung_up.is_set():
            return
        raise ModelUnreachable(
            f"モデルのプロセス（kura infer）が応答しません（{type(error).__name__}）。"
        ) from error


def _checked(response: httpx2.Response) -> httpx2.Response:
    if not response.is_error:
        return response
    try:
        error = response.json()["error"]
        message = str(error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        error, message = {}, f"HTTP {response.status_code}"
    if response.status_code == 429:
        raise ModelBusy(message, float(response.headers.get("Retry-After") or 2))
    if response.status_code >= 500:
        raise ModelUnreachable(message)
    if error.get("type") == "PromptTooLong":
        raise PromptTooLong(int(error["tokens"]), int(error["limit"]))
    raise BadRequest(message)


class RemoteEmbedder:
    """The Embedder port over HTTP. What the model is, is asked once and remembered."""

    def __init__(self, client: InferClient, name: str, dim: int) -> None:
        self._client = client
        self._name = name
        self._dim = dim

    @property
    def name(self) -> str:
        return self._name

    @property
    def dim(self) -> int:
        return self._dim

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        out = np.empty((len(texts), self._dim), np.float32)
        for start in range(0, len(texts), EMBED_TEXTS):
            part = list(texts[start : start + EMBED_TEXTS])
            body = {
                "model": self._name,
                "input": part,
                "input_type": role,
                "encoding_format": "base64",
            }
            rows = self._client.post("/v1/embeddings", body)["data"]
            for row in rows:
                vector = np.frombuffer(base64.b64decode(row["embedding"]), "<f4")
                if vector.shape != (self._dim,):
                    raise SettingsError(
                        f"{self._name} gives vectors of {vector.size}, not {self._dim}"
                    )
                out[start + int(row["index"])] = vector
        return out


class RemoteGenerator:
    """The Generator port over HTTP: one system and one user message, streamed."""

    def __init__(self, client: InferClient, model: str, context_tokens: int) -> None:
        self._client = client
        self._model = model
        self._context_tokens = context_tokens
        self._secret = secrets.token_bytes(32)

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    def count_tokens(self, text: str) -> int:
        """Exact where the server counts; else one a character, which is never too few in Japanese."""
        try:
            return int(self._client.post("/tokenize", {"content": text})["count"])
        except (BadRequest, KeyError):
            return len(text)

    def stream(
        self, prompt: Prompt, limit: int, cancelled: Callable[[], bool], asker: str = ""
    ) -> Iterator[str | Waiting]:
        body = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": prompt.system},
                {"role": "user", "content": prompt.user},
            ],
            "max_tokens": limit,
            "temperature": 0,
            "stream": True,
        }
        if asker:  # the server learns that two questions are of one person, not whose they are
            mark = hashlib.blake2b(asker.encode(), key=self._secret, digest_size=16)
            body["user"] = mark.hexdigest()
        for event in self._client.events("/v1/chat/completions", body, cancelled):
            if "error" in event:
                raise ModelUnreachable(str(event["error"].get("message", "")))
            if "waiting" in event.get("kura", {}):
                yield Waiting(int(event["kura"]["waiting"]))
            for choice in event.get("choices", ()):
                if piece := choice.get("delta", {}).get("content"):
                    yield piece
