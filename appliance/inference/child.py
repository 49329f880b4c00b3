"""The native child of `kura infer`: llama.cpp and torch live here, and may die here.

    python -m appliance.inference.child FD [FOLDER OF COUNTS]

One line of JSON each way on a socket. The parent says first what to load, then starts and cancels
requests and calls functions; the child answers, streams pieces, and says every half second how it
is. When the parent goes, the socket ends, and so does the child.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from appliance import logs
from appliance.errors import ApplianceError, ModelUnreachable
from appliance.inference.cores import Cores
from appliance.inference.local import Local
from appliance.inference.prompts import Part
from appliance.inference.work import End, Piece, Sampling, Work
from appliance.sovereignty import egress

BEAT_S = 0.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Child:
    def __init__(self, wire: socket.socket) -> None:
        self._lines = wire.makefile("r", encoding="utf-8")
        self._wire = wire
        self._sending = threading.Lock()
        self._cores = Cores()
        self._calls = ThreadPoolExecutor(8, "call")
        self._encoders: dict[str, Any] = {}  # by what they do
        self._beside: dict[str, Any] = {}  # embedders that serve for a while, by name
        self._loading = threading.Lock()
        self._encoders_error = ""
        self._encoders_loaded = threading.Event()

    def run(self) -> None:
        """Until the parent hangs up."""
        told: Future[dict[str, Any]] = Future()
        threading.Thread(target=self._load_encoders, args=(told,), daemon=True).start()
        line = self._lines.readline()
        if not line:
            return
        spec = json.loads(line)
        told.set_result(spec)
        try:
            self._local = Local(
                Path(spec["path"]),
                [Path(p) for p in spec["adapters"]],
                self._cores,
                context_tokens=spec["context_tokens"],
                slots=spec["slots"],
                threads=spec["threads"],
                gpu_layers=spec["gpu_layers"],
            )
        except ApplianceError as error:
            self._send({"failed": _said(error)})
            return
        self._local.listen(self._hear, lambda: None)
        self._send({"ready": True})
        threading.Thread(target=self._beat, daemon=True).start()
        for line in self._lines:
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        match message:
            case {"start": work}:
                sampling = Sampling(**work.pop("sampling"))
                biases = {int(t): b for t, b in sampling.logit_bias.items()}
                object.__setattr__(sampling, "logit_bias", biases)  # JSON has no numbers for keys
                stop = tuple(work.pop("stop"))
                self._local.start(Work(**work, stop=stop, sampling=sampling))
            case {"cancel": id}:
                self._local.cancel(id)
            case {"call": name, "id": id, "with": arguments}:
                self._calls.submit(self._call, id, _CALLS[name], arguments)

    def _call(self, id: int, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        try:
            self._send({"id": id, "result": function(self, **arguments)})
        except ApplianceError as error:
            self._send({"id": id, "error": _said(error)})
        except Exception as error:
            self._send(
                {"id": id, "error": {"type": "", "message": f"{type(error).__name__}: {error}"}}
            )
            raise

    def tokenize(self, parts: list[tuple[str, bool]], begin: bool) -> list[int]:
        return self._local.tokenize([Part(text, special) for text, special in parts], begin=begin)

    def grammar(self, source: str, schema: bool) -> str:
        return self._local.grammar(source, schema)

    def settle(self) -> None:
        self._encoders_loaded.wait()

    def embed(self, texts: list[str], role: Any, beside: Any = None) -> dict[str, Any]:
        embedder = self._one_beside(**beside) if beside else self._encoder("embedder")
        rows = embedder.embed(texts, role)
        return {"dim": embedder.dim, "rows": base64.b64encode(_little(rows)).decode()}

    def rerank(self, question: str, texts: list[str]) -> list[float]:
        return list(self._encoder("reranker").scores(question, texts))

    def read(self, question: str, texts: list[str]) -> list[dict[str, Any]]:
        return [asdict(reading) for reading in self._encoder("reader").read(question, texts)]

    def _one_beside(self, folder: str, change: str, name: str, threads: int) -> Any:
        """An embedder that serves until another has made all vectors: one at a time is kept."""
        self._encoders_loaded.wait()
        with self._loading:
            if name not in self._beside:
                from appliance.inference.embed import LocalEmbedder

                self._beside.clear()
                made = LocalEmbedder(Path(folder), name, self._cores, threads)
                if change:
                    made.adapt(Path(change))
                made.settle()
                self._beside[name] = made
            return self._beside[name]

    def _encoder(self, role: str) -> Any:
        self._encoders_loaded.wait()
        if role not in self._encoders:
            raise ModelUnreachable(self._encoders_error)
        return self._encoders[role]

    def _load_encoders(self, told: Future[dict[str, Any]]) -> None:
        """The libraries take seconds: they are loaded before it is told which models."""
        role = "libraries"
        try:
            from appliance.inference.embed import LocalEmbedder, with_threads
            from appliance.inference.rerank import LocalReranker

            with_threads(1)  # to load: small products, for which threads only wait for each other
            kinds = {"embedder": LocalEmbedder, "reranker": LocalReranker}
            spec = told.result()
            for role, kind in kinds.items():
                if (wanted := spec[role])["folder"]:
                    folder, name, threads = wanted["folder"], wanted["name"], wanted["threads"]
                    self._encoders[role] = kind(Path(folder), name, self._cores, threads)
            if (wanted := spec["reader"])["adapter"]:
                role = "reader"
                self._encoders[role] = self._reader(**wanted)
            if spec["change"]:  # not before: the reader is a change of the embedder as it was
                role = "embedder"
                self._encoders[role].adapt(Path(spec["change"]))
            if own := self._encoders.get("embedder"):
                own.settle()
            egress.assert_off()
        except Exception as error:
            self._encoders_error = f"モデル（{role}）を読み込めません（{error}）。"
            self._encoders.pop(role, None)  # an embedder without its change gives other vectors
            raise
        finally:
            self._encoders_loaded.set()
            gc.freeze()  # what was loaded stays: nobody need look through it again
            gc.enable()

    def _reader(self, adapter: str, name: str, threads: int) -> Any:
        from appliance.inference.crossreader import LocalReader, Tokens

        embedder = self._encoders["embedder"]
        tokens = Tokens(embedder.tokenizer)
        return LocalReader(Path(adapter), embedder.bert, tokens, name, self._cores, threads)

    def _hear(self, id: int, event: Piece | End) -> None:
        kind = "piece" if isinstance(event, Piece) else "end"
        self._send({"id": id, kind: asdict(event)})

    def _beat(self) -> None:
        while True:
            self._send({"stats": self._local.stats()})
            threading.Event().wait(BEAT_S)

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message, ensure_ascii=False).encode() + b"\n"
        with self._sending:
            try:
                self._wire.sendall(data)
            except OSError:
                os._exit(0)  # the parent is gone


_CALLS: dict[str, Callable[..., Any]] = {
    "settle": Child.settle,
    "tokenize": Child.tokenize,
    "grammar": Child.grammar,
    "embed": Child.embed,
    "rerank": Child.rerank,
    "read": Child.read,
}


def _little(rows: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(rows, "<f4").tobytes()


def _said(error: ApplianceError) -> dict[str, str]:
    return {"type": type(error).__name__, "message": str(error)}


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    gc.disable()  # until all is loaded: looking for rubbish takes a fifth of the time
    logs.to(sys.stderr)
    egress.guard_child("infer-child", Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    wire = socket.socket(fileno=int(sys.argv[1]))
    Child(wire).run()
    os._exit(0)  # native threads may still be in the middle of something


if __name__ == "__main__":
    main()
