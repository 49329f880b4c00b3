"""The native child may die at any moment; who asked is told, who waits is served."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from appliance.errors import ApplianceError, BadRequest, ModelUnreachable, SettingsError
from appliance.inference import models, server
from appliance.inference.client import InferClient, RemoteEmbedder
from appliance.inference.native import ChildEmbedder, Native, spec
from appliance.settings import Settings

pytestmark = [pytest.mark.models, pytest.mark.slow]

LONG = {
    "messages": [
        {"role": "user", "content": "会議の議事録です。予算と日程を話し合いました。" * 20}
    ],
    "max_tokens": 200,
    "ignore_eos": True,
}
SHORT = {"messages": [{"role": "user", "content": "日本の首都は"}], "max_tokens": 4}


def native(served: server.Models) -> Native:
    backend = served.llm._backend
    assert isinstance(backend, Native)
    return backend


def test_a_kill_ends_what_ran_and_leaves_what_waits(
    served: server.Models, client: InferClient, at: Path
) -> None:
    child = native(served)
    before, restarts = child.pid, child.stats()["restarts"]
    failed: list[Exception] = []
    waited: list[str] = []

    def long() -> None:
        one = InferClient(at)
        try:
            one.post("/v1/chat/completions", LONG)
        except ModelUnreachable as error:
            failed.append(error)
        finally:
            one.close()

    def short() -> None:
        one = InferClient(at)
        try:
            answer = one.post("/v1/chat/completions", SHORT | {"user": "b"})
            waited.append(answer["choices"][0]["message"]["content"])
        finally:
            one.close()

    threads = [threading.Thread(target=long)]
    threads[0].start()
    while not client.get("/health")["running"]:
        time.sleep(0.02)
    os.kill(before, signal.SIGKILL)
    threads.append(threading.Thread(target=short))
    threads[1].start()
    for thread in threads:
        thread.join(120)
    assert len(failed) == 1 and "ask again" in str(failed[0])
    assert waited and waited[0]
    assert child.pid != before
    assert client.get("/health")["restarts"] == restarts + 1
    vectors = RemoteEmbedder(client, models.DEFAULT_EMBEDDER, 384).embed(["宿泊費"], "query")
    assert vectors.shape == (1, 384)


def test_a_grammar_holds_the_answer(client: InferClient) -> None:
    body = SHORT | {"grammar": 'root ::= "東京" | "京都"', "max_tokens": 20}
    answer = client.post("/v1/chat/completions", body)["choices"][0]
    assert answer["message"]["content"] in ("東京", "京都")
    schema = {
        "type": "object",
        "properties": {"都市": {"enum": ["東京", "大阪"]}},
        "required": ["都市"],
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = SHORT | {"response_format": wanted, "max_tokens": 40}
    assert "都市" in client.post("/v1/chat/completions", body)["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "bad",
    [
        {"grammar": "root ::= ((("},
        {"grammar": "no rule called root"},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nope"}}}},
        {"logit_bias": {"1": 1000}},
        {"top_logprobs": 99},
    ],
)
def test_a_bad_grammar_is_refused_and_harms_nothing(client: InferClient, bad: dict) -> None:
    before = client.get("/health")["restarts"]
    with pytest.raises(BadRequest):
        client.post("/v1/chat/completions", SHORT | bad)
    assert client.get("/health")["restarts"] == before


def test_log_probabilities(client: InferClient) -> None:
    body = SHORT | {"logprobs": True, "top_logprobs": 3}
    rows = client.post("/v1/chat/completions", body)["choices"][0]["logprobs"]["content"]
    assert 1 <= len(rows) <= 4
    for row in rows:
        assert row["logprob"] <= 0 and len(row["top_logprobs"]) == 3
        assert row["logprob"] == row["top_logprobs"][0]["logprob"]  # greedy takes the likeliest


def test_the_same_seed_gives_the_same_answer(client: InferClient) -> None:
    def ask(seed: int) -> str:
        body = SHORT | {"temperature": 1.0, "top_k": 0, "seed": seed, "max_tokens": 12}
        return client.post("/v1/chat/completions", body)["choices"][0]["message"]["content"]

    answers = [ask(seed) for seed in (1, 2, 3, 1, 2, 3)]
    assert answers[:3] == answers[3:]
    assert len(set(answers)) > 1


def test_a_model_that_cannot_be_loaded_is_named_at_start(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    child = Native()
    child.load(spec(broken, [], tmp_path, "none", context_tokens=512, slots=2, threads=1))
    with pytest.raises(SettingsError, match=r"broken\.gguf"):
        child.wait_ready(60)
    child.close()


def test_an_embedder_whose_change_cannot_be_loaded_embeds_nothing(
    model_settings: Settings, tmp_path: Path
) -> None:
    save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors", {"scale": "1"})
    wanted = server._wanted(model_settings, 1 << 34)
    child = Native()
    child.load(wanted | {"change": str(tmp_path / "other.safetensors")})
    try:
        child.wait_ready(60)
        with pytest.raises(ApplianceError, match=r"embedder.*other\.safetensors"):
            ChildEmbedder(child, models.DEFAULT_EMBEDDER, 384).embed(["宿泊費"], "passage")
    finally:
        child.close()


def test_encoders_that_load_longer_than_a_call_may_take_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a machine that has much else to do: torch's libraries alone take minutes there."""
    import socket

    from appliance.inference.child import Child

    ours, theirs = socket.socketpair()
    backend = Native.__new__(Native)
    asked: list[float] = []
    monkeypatch.setattr(backend, "call", lambda name, within_s: asked.append(within_s), False)
    backend.settle(server.LOADING_S)
    assert asked == [server.LOADING_S]
    child = Child(theirs)
    done = threading.Thread(target=child.settle, daemon=True)
    done.start()
    done.join(0.2)
    assert done.is_alive()
    child._encoders_loaded.set()
    done.join(5)
    assert not done.is_alive()
    child._calls.shutdown()
    ours.close()
    theirs.close()
