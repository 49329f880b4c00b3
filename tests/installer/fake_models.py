"""Takes the place of `appliance/inference/server.py` in a release that a test makes: no model, same socket.

Vectors are bigrams in buckets, in other places for each embedder; what means the same (`MEANING`) lies
close. The reader counts what question and text share, and the answer is read off the first passage that
names an extension. While the release's folder has a file `held`, its embedder refuses texts that say
`MARKED`, but for as many as the file says. Ctrl-C and SIGTERM end it.
"""

from __future__ import annotations

import base64
import json
import re
import socketserver
import zlib
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np

from appliance.inference import models, plan
from appliance.settings import Settings
from appliance.testing.fakes import HashEmbedder, OverlapReader
from appliance.types import Vectors

MARKED = "旧館"
MEANING = (("旅費", "トラベル"), ("家賃", "レント"), ("制服", "ユニフォーム"), ("食堂", "キッチン"))
HELD = Path(__file__).parents[4] / "held"  # in the folder of the release


def budget(settings: Settings, free: int | None = None, beside: str = "") -> plan.Plan:
    """All fits, but where the release's folder says how much is lacking."""
    for name in filter(None, (models.embedder(settings.embedder).name, beside)):
        if name != "kura-e5-v1":  # of which these tests have no files
            models.network(models.named(name), settings.models)
    sizes = plan.Sizes(settings.context_tokens, 1, 2, 2)
    small = (HELD.parent / "small").exists()
    return plan.Plan((), sizes, 1, 0, 0, 0, False, "メモリーが足りません。" if small else "")


def serve(settings: Settings) -> None:
    settings.infer_socket.unlink(missing_ok=True)
    with _Server(str(settings.infer_socket), _Handler) as server:
        server.serve_forever(poll_interval=0.05)


class _Refused(Exception):
    """The message, for whoever asked."""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say({"status": "ok"} if self.path == "/health" else {"data": []})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match self.path:
            case "/v1/embeddings":
                self._embed(asked)
            case "/v1/rerank":
                self._say({"results": _read(asked)})
            case "/tokenize":
                self._say({"count": len(asked["content"])})
            case "/v1/chat/completions":
                found = re.search(r"内線番号は (\d+) 番", asked["messages"][-1]["content"])
                text = f"保守窓口の内線番号は {found[1]} 番です[1]。" if found else "はい[1]。"
                event = {"choices": [{"index": 0, "delta": {"content": text}}]}
                self._send(f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode())
            case _:
                self.send_error(404)

    def _embed(self, asked: dict[str, Any]) -> None:
        try:
            rows = _vectors(asked["model"], asked["input"], asked["input_type"])
        except _Refused as error:
            self._say({"error": {"message": str(error), "type": "_NoSuchModel"}}, 404)
            return
        coded = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]
        self._say({"data": [{"index": n, "embedding": c} for n, c in enumerate(coded)]})

    def _say(self, value: Any, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), status)

    def _send(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        """Nothing."""


_let_through = 0


def _vectors(name: str, texts: Sequence[str], role: str) -> Vectors:
    global _let_through
    model = next((m for m in models.catalogue() if (m.name, m.kind) == (name, "embedder")), None)
    if model is None:
        raise _Refused(f"no model called {name!r} is loaded")
    marked = sum(MARKED in text for text in texts) if role == "passage" else 0
    if marked and name == models.DEFAULT_EMBEDDER and HELD.exists():
        if _let_through + marked > int(HELD.read_text()):
            raise _Refused("held back by the test")
        _let_through += marked
    rows = HashEmbedder(model.dim).embed(texts, "passage")
    for row, text in zip(rows, texts, strict=True):
        for place, words in enumerate(MEANING):
            row[place] += 10 * any(word in text for word in words)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.roll(rows, zlib.crc32(name.encode()) % model.dim, axis=1)


def _read(asked: dict[str, Any]) -> list[dict[str, Any]]:
    found = OverlapReader().read(asked["query"], asked["documents"])
    return [
        {
            "index": n,
            "relevance_score": one.relevance,
            "words": [{"start": w.start, "end": w.end, "score": w.score} for w in one.words],
        }
        for n, one in enumerate(found)
    ]
