"""How well each text answers a question: a cross-encoder reads both together.

`POST /v1/rerank` in the shape that Cohere, Jina, vLLM and llama-server share:
`answer` is the server's side of it, `RemoteReader` the client's. Kura's own reader
(`appliance.inference.crossreader`) answers there too, and points at words where that is wanted.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from appliance.errors import ModelUnreachable, SettingsError
from appliance.inference.batcher import Batcher
from appliance.inference.client import InferClient
from appliance.inference.cores import Cores
from appliance.inference.embed import check_unicode, computing, has_bfloat16, with_threads
from appliance.ports import Reader, Reranker
from appliance.types import Reading, Role, Words

TEXTS, CHARS = 16, 1600  # of a batch
GPU_TEXTS, GPU_CHARS = 128, 65_536
READS = 1024  # tokens of question and text at most, so that no text holds the cores for long
CHARS_A_TOKEN = 2  # of Japanese, at most
DOCUMENTS = 1000  # of one request
TEXT_CHARS = 20_000

Pair = tuple[str, str]
Text = Annotated[str, Field(max_length=TEXT_CHARS)]


class LocalReranker:
    """A cross-encoder inside `kura infer`. `folder` is verified; its model has one score.

    Scores are between 0 and 1. As in LocalEmbedder, only products are bfloat16: the
    last layer is float32, or the best texts would all have the same score.
    """

    def __init__(self, folder: Path, name: str, cores: Cores, threads: int = 0) -> None:
        _check_head(folder)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch
        from sentence_transformers import CrossEncoder
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._threads = threads or os.cpu_count() or 1
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = CrossEncoder(
            str(folder),
            device=self._device,
            local_files_only=True,
            trust_remote_code=False,
            num_labels=1,
            activation_fn=torch.nn.Identity(),
            model_kwargs={"dtype": torch.float32},
        )
        reads = min(self._model.max_seq_length or READS, READS)
        self._model.max_seq_length = reads
        self._model.set_keep_in_fp32_modules(
            [
                where
                for where, layer in self._model.named_modules()
                if type(layer) is torch.nn.Linear and layer.out_features == 1
            ]
        )
        self._fast = has_bfloat16(self._device)
        self._name = name
        gpu = self._device == "cuda"
        self._batches: Batcher[Pair, float] = Batcher(
            self._forward,
            lambda pair: min(len(pair[0]) + len(pair[1]), reads * CHARS_A_TOKEN),
            texts=GPU_TEXTS if gpu else TEXTS,
            chars=GPU_CHARS if gpu else CHARS,
            turn=lambda patient: cores.turn(patient=patient()),
            name="reranker",
        )
        self.scores("準備", ["準備"])  # the first forward pass is slow; nobody waits for this one

    @property
    def name(self) -> str:
        return self._name

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """Where both are longer than the model reads, the longer of the two is cut at its end.

        Raises ModelBusy, ModelUnreachable, and BadRequest for what is no Unicode.
        """
        check_unicode([question, *texts])
        return self._batches.rows([(question, text) for text in texts], "query")

    def close(self) -> None:
        self._batches.close()

    def _forward(self, role: Role, pairs: list[Pair]) -> list[float]:
        with_threads(self._threads)
        with computing(self._device, fast=self._fast):
            logits = self._model.predict(pairs, batch_size=len(pairs), show_progress_bar=False)
        return [sigmoid(float(logit)) for logit in logits]


def sigmoid(logit: float) -> float:
    """In float64, where scores near 1 stay apart; without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))


def _check_head(folder: Path) -> None:
    """A model without a trained score would load, with random weights in its place."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    made_for = " ".join(config.get("architectures") or ())
    labels = len(config.get("id2label") or "1")
    if not (folder / "modules.json").exists() and (
        not made_for.endswith("ForSequenceClassification") or labels != 1
    ):
        raise SettingsError(
            f"{folder.name} is {made_for or 'of no known kind'} with {labels} labels, "
            "not a reranker with one score"
        )


# --- POST /v1/rerank ---------------------------------------------------------------


class RerankIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: Text = ""
    query: Annotated[Text, Field(min_length=1)]
    documents: list[Text] = Field(min_length=1, max_length=DOCUMENTS)
    top_n: int | None = Field(None, ge=1)
    words: bool = False  # of ours: whether the words that answer are wanted too


class FoundWords(BaseModel):
    """[start, end) of the document, in characters; log-odds against "nowhere"."""

    start: int
    end: int
    score: float


class RerankResult(BaseModel):
    index: int
    relevance_score: float
    words: list[FoundWords] | None = None  # best first; none from a mere cross-encoder


class RerankOut(BaseModel):
    model: str
    results: list[RerankResult]  # best first; where two are alike, in the order they came


def answer(reranker: Reranker, body: RerankIn, reader: Reader | None = None) -> dict[str, Any]:
    """The body of the response. `reader`: the reranker, where it points at words as well.

    Raises ModelBusy, ModelUnreachable, BadRequest.
    """
    if reader and body.words:
        readings = reader.read(body.query, body.documents)
    else:
        readings = [Reading(score) for score in reranker.scores(body.query, body.documents)]
    best = sorted(range(len(readings)), key=lambda n: -readings[n].relevance)[: body.top_n]
    results = [_result(n, readings[n], pointing=bool(reader and body.words)) for n in best]
    return RerankOut(model=body.model, results=results).model_dump(exclude_none=True)


def _result(n: int, reading: Reading, *, pointing: bool) -> RerankResult:
    words = [FoundWords(start=w.start, end=w.end, score=w.score) for w in reading.words]
    return RerankResult(
        index=n, relevance_score=reading.relevance, words=words if pointing else None
    )


class RemoteReader:
    """The Reader port over HTTP. A call is one request, so that its scores can be compared.

    A server with a mere cross-encoder points at no words.
    """

    def __init__(self, client: InferClient, name: str) -> None:
        self._client = client
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """Raises ModelBusy, ModelUnreachable, BadRequest."""
        return [reading.relevance for reading in self._asked(question, texts, words=False)]

    def read(self, question: str, texts: Sequence[str]) -> list[Reading]:
        """Raises ModelBusy, ModelUnreachable, BadRequest."""
        return self._asked(question, texts, words=True)

    def _asked(self, question: str, texts: Sequence[str], *, words: bool) -> list[Reading]:
        if not texts:
            return []
        body = {"model": self._name, "query": question, "documents": list(texts)}
        results = self._client.post("/v1/rerank", body | ({"words": True} if words else {}))
        found = {int(row["index"]): _reading(row) for row in results["results"]}
        if found.keys() != set(range(len(texts))):
            raise ModelUnreachable(
                f"{self._name} が {len(texts)} 個の文のうち {len(found)} 個しか採点しません。"
            )
        return [found[n] for n in range(len(texts))]


def _reading(row: dict[str, Any]) -> Reading:
    words = (Words(int(w["start"]), int(w["end"]), float(w["score"])) for w in row.get("words", ()))
    return Reading(float(row["relevance_score"]), tuple(words))
