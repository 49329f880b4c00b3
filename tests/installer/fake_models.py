"""Takes the place of `appliance/inference/server.py` in a release that a test makes: no model, same socket.

Vectors are bigrams in buckets, the reader counts what question and text share, and the answer is
read off the first passage that names an extension. Ctrl-C and SIGTERM end it.
"""

from __future__ import annotations

import base64
import json
import re
import socketserver
from http.server import BaseHTTPRequestHandler
from typing import Any

from appliance.inference import models
from appliance.settings import Settings
from appliance.testing.fakes import HashEmbedder, OverlapReader

DIM = models.named(models.DEFAULT_EMBEDDER).dim


def serve(settings: Settings) -> None:
    settings.infer_socket.unlink(missing_ok=True)
    with _Server(str(settings.infer_socket), _Handler) as server:
        server.serve_forever(poll_interval=0.05)


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
                rows = HashEmbedder(DIM).embed(asked["input"], asked["input_type"])
                coded = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]
                self._say({"data": [{"index": n, "embedding": c} for n, c in enumerate(coded)]})
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

    def _say(self, value: Any) -> None:
        self._send(json.dumps(value).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        """Nothing."""


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
