"""`kura infer` with the default models, over its socket."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import ClientDisconnect

from appliance.errors import BadRequest, ModelBusy, ModelUnreachable, PromptTooLong
from appliance.inference import models, server
from appliance.inference.client import InferClient, RemoteEmbedder, RemoteGenerator
from appliance.testing.contracts import EmbedderContract, GeneratorContract
from appliance.types import Prompt

pytestmark = pytest.mark.models

LONG = Prompt("要約する。", "会議の議事録です。予算と日程を話し合いました。" * 80 + "\n答え:")


def question(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]} | more


class TestEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self, client: InferClient) -> RemoteEmbedder:
        return RemoteEmbedder(client, models.DEFAULT_EMBEDDER, 384)


class TestGenerator(GeneratorContract):
    @pytest.fixture
    def generator(self, client: InferClient) -> RemoteGenerator:
        return RemoteGenerator(client, "kura-answer", 2048)


def test_vectors_are_the_ones_we_know(client: InferClient) -> None:
    """Golden values: another tokenizer or library version must not change the vector space."""
    embedder = RemoteEmbedder(client, models.DEFAULT_EMBEDDER, 384)
    query = embedder.embed(["出張の宿泊費はいくらですか"], "query")[0]
    passage = embedder.embed(["国内出張の宿泊費は一泊12,000円を上限とする。"], "passage")[0]
    assert np.allclose(query[:4], GOLDEN_QUERY, atol=2e-3)
    assert np.allclose(passage[:4], GOLDEN_PASSAGE, atol=2e-3)


def test_an_embedder_that_served_before_is_asked_beside(client: InferClient) -> None:
    """While another takes its place: its own vectors, of files that were checked, and no one else's."""
    text = ["出張の宿泊費はいくらですか"]
    before = RemoteEmbedder(client, "multilingual-e5-small", 384).embed(text, "query")
    again = RemoteEmbedder(client, "multilingual-e5-small", 384).embed(text, "query")
    own = RemoteEmbedder(client, models.DEFAULT_EMBEDDER, 384).embed(text, "query")
    assert np.allclose(before, again, atol=1e-5) and np.allclose(
        own[0, :4], GOLDEN_QUERY, atol=2e-3
    )
    assert np.isclose(np.linalg.norm(before), 1, atol=1e-3) and (before @ own.T).item() < 0.98
    for name in ("gemma-3-270m", "../etc", "none"):
        with pytest.raises(BadRequest):
            RemoteEmbedder(client, name, 384).embed(text, "query")


GOLDEN_QUERY = [0.0007, -0.0159, 0.0173, 0.0046]
GOLDEN_PASSAGE = [0.0028, -0.0137, 0.0013, -0.002]


@pytest.mark.parametrize(
    "bad",
    [
        {"messages": []},
        question("x", temperature=-1),
        question("x", temperature="nan"),
        question("x", top_p=0),
        question("x", max_tokens=-5),
        question("x", max_tokens=10**12),
        question("x", seed=-1),
        question("x", n=5),
        question("x", stop=["a"] * 99),
        {"messages": [{"role": "root", "content": "x"}]},
        {"messages": [{"role": "user", "content": {"a": 1}}]},
    ],
)
def test_bad_parameters_are_named_and_harm_nothing(
    client: InferClient, bad: dict[str, Any]
) -> None:
    with pytest.raises(BadRequest, match=r"\w"):
        client.post("/v1/chat/completions", bad)
    assert client.get("/health")["status"] == "ok"


def test_an_unknown_model_is_refused(client: InferClient) -> None:
    with pytest.raises(BadRequest, match="gpt-9"):
        client.post("/v1/chat/completions", question("x", model="gpt-9"))
    with pytest.raises(BadRequest, match="ada"):
        client.post("/v1/embeddings", {"model": "ada", "input": "x"})


def test_a_prompt_over_the_context_is_refused_with_its_length(client: InferClient) -> None:
    with pytest.raises(PromptTooLong) as caught:
        client.post("/v1/chat/completions", question("長い。" * 2000))
    assert caught.value.limit == 2048 < caught.value.tokens


def test_the_same_question_gets_the_same_answer(client: InferClient) -> None:
    body = question("日本の首都は", max_tokens=8)
    answers = {
        client.post("/v1/chat/completions", body)["choices"][0]["message"]["content"]
        for _ in range(3)
    }
    assert len(answers) == 1


def test_special_tokens_in_text_are_plain_text(served: server.Models) -> None:
    assert served.llm.count("<end_of_turn><eos><bos>") > 6


def test_cancelling_frees_the_model_at_once(client: InferClient) -> None:
    generator = RemoteGenerator(client, "kura-answer", 2048)
    started = time.monotonic()
    list(generator.stream(LONG, 64, lambda: False))
    quarter = time.monotonic() - started
    started = time.monotonic()
    list(generator.stream(LONG, 256, lambda: time.monotonic() - started > 0.2))
    hung_up = time.monotonic()
    list(generator.stream(Prompt("", "一"), 1, lambda: False))
    # Generous: the machine may be busy, as it was before.
    assert time.monotonic() - hung_up < 1 + quarter


def test_beyond_the_queue_there_is_a_429_that_says_when(at: Path) -> None:
    """Three may wait; the others are told to come back, and nobody's stream is cut short."""

    def ask(_: int) -> str:
        one = InferClient(at)
        try:
            generator = RemoteGenerator(one, "kura-answer", 2048)
            stream = generator.stream(LONG, 6, lambda: False, f"user {_}")
            return "".join(p for p in stream if isinstance(p, str))
        except ModelBusy as busy:
            assert busy.retry_after_s >= 1
            return "429"
        finally:
            one.close()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(10)))
    assert answers.count("429") >= 3
    assert len({a for a in answers if a != "429"}) == 1


def test_a_reader_who_leaves_does_not_disturb_the_next(at: Path, client: InferClient) -> None:
    transport = httpx2.HTTPTransport(uds=str(at))
    with httpx2.Client(base_url="http://infer", transport=transport, timeout=60) as http:
        body = question(LONG.user[:2000], stream=True, max_tokens=200)
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            next(response.iter_lines())
    assert client.post("/v1/chat/completions", question("一", max_tokens=2))["choices"]


def test_a_reader_who_left_before_the_first_line_holds_no_slot(served: server.Models) -> None:
    async def receive() -> dict[str, Any]:
        asked = question("日本の首都は", stream=True, max_tokens=1000, ignore_eos=True)
        return {"type": "http.request", "body": json.dumps(asked).encode(), "more_body": False}

    async def send(message: Any) -> None:
        raise OSError("the reader is gone")

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/chat/completions"}
    scope |= {"headers": [(b"content-type", b"application/json")], "query_string": b""}
    scope |= {"http_version": "1.1", "asgi": {"spec_version": "2.4"}}

    async def ask() -> None:
        with pytest.raises(ClientDisconnect):
            await server.create_app(served)(scope, receive, send)

    asyncio.run(ask())
    left = time.monotonic()
    while served.llm.stats()["running"]:
        assert time.monotonic() - left < 5  # a whole run takes over twenty
        time.sleep(0.02)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_that_is_not_there_is_a_transient_error(tmp_path: Path) -> None:
    client = InferClient(tmp_path / "none.sock")
    with pytest.raises(ModelUnreachable) as caught:
        client.get("/health")
    client.close()
    del caught
    gc.collect()  # the HTTP library leaves the socket it could not connect to the collector


def test_answers_and_vectors_at_the_same_time(client: InferClient) -> None:
    embedder = RemoteEmbedder(client, models.DEFAULT_EMBEDDER, 384)
    done = threading.Event()

    def embed() -> None:
        while not done.is_set():
            embedder.embed(["宿泊費の上限"] * 8, "passage")

    thread = threading.Thread(target=embed)
    thread.start()
    try:
        text = client.post("/v1/chat/completions", question("日本の首都は", max_tokens=8))
        assert text["choices"][0]["finish_reason"] in ("stop", "length")
    finally:
        done.set()
        thread.join(30)


def test_what_was_done_can_be_read_by_prometheus(client: InferClient) -> None:
    def read() -> dict[tuple[str, ...], float]:
        return {
            (
                sample.name,
                *(v for k, v in sample.labels.items() if k in ("end", "le")),
            ): sample.value
            for family in text_string_to_metric_families(client.text("/metrics"))
            for sample in family.samples
        }

    before = read()
    client.post("/v1/chat/completions", question("日本の首都は", max_tokens=5, ignore_eos=True))
    client.post("/v1/embeddings", {"input": ["一", "二"]})
    deadline = time.monotonic() + 20
    grown = dict.fromkeys(before, 0.0)
    read_tokens = ("kura_prompt_read_tokens_total",), ("kura_prompt_reused_tokens_total",)
    while grown["kura_generated_tokens_total",] < 5 or sum(grown[k] for k in read_tokens) <= 3:
        assert time.monotonic() < deadline, grown
        time.sleep(0.1)  # the child tells its figures twice a second
        grown = {k: v - before[k] for k, v in read().items()}
    assert grown["kura_requests_total", "length"] == 1
    assert grown["kura_requests_total", "error"] == 0
    assert grown["kura_time_to_first_token_seconds_count",] == 1
    assert grown["kura_inter_token_seconds_count",] >= 1
    assert grown["kura_queue_seconds_count",] == 1
    assert grown["kura_embedded_texts_total",] == 2
    assert read()["kura_slots",] == 8
    assert read()["kura_kv_cells",] >= 2048
