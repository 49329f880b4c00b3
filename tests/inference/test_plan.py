"""The memory budget: what is counted, what lies where, what to change when it does not fit."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.inference import models
from appliance.inference import plan as planning
from appliance.inference.gguf import Header, ModelFileInvalid, Tensor
from appliance.inference.plan import GPU_RUNTIME, MIB, Encoder, Parts, Plan, Sizes, fit
from appliance.inference.work import PREFILL_TOKENS
from appliance.settings import load

ENCODER = Encoder("encoder", weights=1_000_000, hidden=128, inner=512, tokenizer_bytes=10_000)
SIZES = Sizes(8192, slots=8, sequences=16, outputs=16, chunks=1000, least_context=2048)
PLENTY = 1 << 40


def header(*, layers: int = 4, tied: bool = False, words: int = 1000, **more: int) -> Header:
    """A model whose layers have 10 MiB each, embeddings 20, output 30."""
    tensors = [Tensor("token_embd.weight", (1024, words), "f16", 0, 20 * MIB)]
    tensors += [Tensor(f"blk.{n}.w", (1024,), "f16", 0, 10 * MIB) for n in range(layers)]
    if not tied:
        tensors.append(Tensor("output.weight", (1024, words), "f16", 0, 30 * MIB))
    scalars = {
        "block_count": layers,
        "embedding_length": 1024,
        "feed_forward_length": 4096,
        "attention.head_count": 16,
        "attention.head_count_kv": 4,
    } | {name.replace("__", "."): value for name, value in more.items()}
    return Header(
        "tiny",
        "model",
        {f"tiny.{name}": value for name, value in scalars.items()},
        {"tokenizer.ggml.tokens": ("str", words)},
        {},
        tuple(tensors),
        0,
    )


def parts(llm: Header | None = None, reranker: Encoder | None = None) -> Parts:
    return Parts("tiny", llm or header(), None, ENCODER, reranker)


def row(plan: Plan, name: str) -> planning.Row:
    return next(r for r in plan.rows if r.name == name)


@pytest.mark.parametrize(
    ("llm", "layer"),
    [
        (header(), 8192 * 4 * (64 + 64) * 2),  # head length: 1024 / 16
        (header(attention__key_length=256, attention__value_length=128), 8192 * 4 * 384 * 2),
        (header(attention__key_length=64, attention__key_length_swa=96), 8192 * 4 * 160 * 2),
        (header(attention__head_count_kv=1), 8192 * 128 * 2),
    ],
)
def test_the_cache_of_a_layer(llm: Header, layer: int) -> None:
    assert planning.kv_bytes(llm, 8192) == [layer] * 4


def test_the_cache_when_layers_differ_or_say_nothing() -> None:
    llm = header()
    del llm.scalars["tiny.attention.head_count_kv"]
    assert planning.kv_bytes(llm, 256) == [256 * 16 * 128 * 2] * 4  # as many as heads
    llm.numbers["tiny.attention.head_count_kv"] = (1, 0, 2, 4)
    assert planning.kv_bytes(llm, 200) == [n * 256 * 128 * 2 for n in (1, 0, 2, 4)]


def test_without_a_gpu_everything_is_on_the_host() -> None:
    plan = fit(parts(), SIZES, host=PLENTY)
    assert row(plan, "weights").host == 90 * MIB
    assert row(plan, "kv").host == 4 * 8192 * 4 * 128 * 2
    assert row(plan, "index").host == 1000 * 128 * 4
    assert (plan.gpu_need, plan.gpu_layers, plan.refusal) == (0, 0, "")


def test_a_gpu_with_room_takes_every_layer_and_the_output() -> None:
    plan = fit(parts(), SIZES, host=PLENTY, gpu=64 << 30, torch_on_gpu=True)
    assert plan.gpu_layers == 5
    assert (row(plan, "weights").gpu, row(plan, "weights").host) == (70 * MIB, 20 * MIB)
    assert (row(plan, "kv").gpu, row(plan, "kv").host) == (32 * MIB, 0)
    assert plan.encoders_on_gpu
    assert row(plan, "embedder").gpu > ENCODER.model_bytes > 0
    assert row(plan, "embedder").host == ENCODER.table_bytes


def test_an_embedder_that_searches_until_another_is_done_counts() -> None:
    alone = fit(parts(), SIZES, host=PLENTY)
    both = fit(replace(parts(), beside=ENCODER), SIZES, host=PLENTY)
    more = row(both, "beside").host
    assert more == row(alone, "embedder").host > ENCODER.model_bytes
    assert both.host_need == alone.host_need + more
    assert not fit(parts(), SIZES, host=alone.host_need).refusal
    assert fit(replace(parts(), beside=ENCODER), SIZES, host=alone.host_need).refusal
    gpu = fit(replace(parts(), beside=ENCODER), SIZES, host=PLENTY, gpu=64 << 30, torch_on_gpu=True)
    assert row(gpu, "beside").gpu > 0


def test_tied_embeddings_are_on_both_sides() -> None:
    weights = row(fit(parts(header(tied=True)), SIZES, host=PLENTY, gpu=64 << 30), "weights")
    assert (weights.gpu, weights.host) == (60 * MIB, 20 * MIB)
    weights = row(fit(parts(header(tied=True)), SIZES, host=PLENTY), "weights")
    assert (weights.gpu, weights.host) == (0, 60 * MIB)


@pytest.mark.parametrize(
    ("room", "gpu_layers"),
    [(29 * MIB, 0), (30 * MIB, 1), (47 * MIB, 1), (48 * MIB, 2), (84 * MIB, 4), (102 * MIB, 5)],
)
def test_some_layers_fit_the_output_first_then_from_the_last(room: int, gpu_layers: int) -> None:
    """A layer takes 10 MiB of weights and 8 of cache; what is not there is on the host."""
    scratch = planning.scratch_bytes(header(), SIZES)
    plan = fit(parts(), SIZES, host=PLENTY, gpu=GPU_RUNTIME + scratch + room)
    assert plan.gpu_layers == gpu_layers
    assert plan.gpu_need <= plan.gpu
    assert row(plan, "weights").host + row(plan, "weights").gpu == 90 * MIB
    assert row(plan, "kv").host + row(plan, "kv").gpu == 32 * MIB
    assert not plan.encoders_on_gpu


def test_encoders_without_room_on_the_gpu_stay_on_the_host() -> None:
    gpu = GPU_RUNTIME + planning.scratch_bytes(header(), SIZES) + 30 * MIB
    plan = fit(parts(), SIZES, host=PLENTY, gpu=gpu, torch_on_gpu=True)
    assert not plan.encoders_on_gpu
    assert row(plan, "embedder").gpu == 0
    assert row(plan, "embedder").host > ENCODER.model_bytes


def test_a_gpu_too_small_for_anything_is_not_used() -> None:
    plan = fit(parts(), SIZES, host=PLENTY, gpu=100 * MIB, torch_on_gpu=True)
    assert (plan.gpu_layers, plan.gpu_need, plan.refusal) == (0, 0, "")


def test_a_reranker_is_counted_as_an_embedder_is() -> None:
    with_it = fit(parts(reranker=ENCODER), SIZES, host=PLENTY)
    assert row(with_it, "reranker").host == row(with_it, "embedder").host
    assert with_it.host_need > fit(parts(), SIZES, host=PLENTY).host_need


def need(llm: Header, sizes: Sizes) -> int:
    return fit(parts(llm), sizes, host=PLENTY).host_need


LARGE = header(words=250_000)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (need(LARGE, SIZES), []),
        (need(LARGE, SIZES) - 1, ["context_tokens を 8192 から 7936 以下に"]),
        (
            need(LARGE, replace(SIZES, context_tokens=4096)),
            ["context_tokens を 8192 から 4096 以下に", "lower context_tokens from 8192 to 4096"],
        ),
        (
            need(LARGE, replace(SIZES, context_tokens=2048, slots=3, sequences=6, outputs=6)),
            ["context_tokens を 8192 から 2048", "infer_slots を 8 から 3 以下に"],
        ),
        (need(LARGE, replace(SIZES, context_tokens=2048)) // 2, ["設定では収まりません", "add"]),
    ],
)
def test_a_refusal_names_the_setting_and_by_how_much(host: int, said: list[str]) -> None:
    plan = fit(parts(LARGE), SIZES, host=host)
    assert bool(plan.refusal) == bool(said)
    for words in said:
        assert words in plan.refusal
    if said:
        assert "足りません" in plan.refusal
        assert "host memory is short by" in plan.refusal


def test_doing_what_the_refusal_says_helps() -> None:
    host = need(LARGE, SIZES) - 20 * MIB
    found = fit(parts(LARGE), SIZES, host=host)
    context = int(found.refusal.split("8192 から ")[1].split(" ")[0])
    assert fit(parts(LARGE), replace(SIZES, context_tokens=context), host=host).refusal == ""
    more = replace(SIZES, context_tokens=context + 256)
    assert fit(parts(LARGE), more, host=host).refusal != ""


def test_a_gpu_saves_the_host() -> None:
    host = need(header(), SIZES) - 40 * MIB
    assert fit(parts(), SIZES, host=host).refusal
    assert fit(parts(), SIZES, host=host, gpu=64 << 30).refusal == ""


def test_the_table_is_aligned_and_says_what_there_is() -> None:
    plan = fit(parts(), SIZES, host=PLENTY, gpu=64 << 30, torch_on_gpu=True)
    table = planning.render(plan)
    assert all(r.title in table and r.why in table for r in plan.rows)
    assert table.endswith("収まります。")
    lines = table.splitlines()
    ends = {planning._width(line[: line.index("MiB") + 3]) for line in lines if "MiB" in line}
    assert len(ends) == 1
    small = fit(parts(), SIZES, host=1)
    assert planning.render(small).endswith(small.refusal)
    assert "GPU" not in planning.render(small)


def test_a_program_gets_the_same_figures() -> None:
    plan = fit(parts(), SIZES, host=PLENTY, gpu=64 << 30)
    said = json.loads(json.dumps(planning.as_json(plan)))
    assert said["fits"] is True
    assert said["host"] == {"need": sum(r["host"] for r in said["rows"]), "available": PLENTY}
    assert said["gpu"]["need"] == plan.gpu_need
    assert planning.as_json(fit(parts(), SIZES, host=1))["gpu"] is None


# --- the machine ----------------------------------------------------------------


def machine(root: Path, files: dict[str, str]) -> Path:
    named = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"} | files
    for name, content in named.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
KERNEL = 8000 * 1024


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, KERNEL),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, KERNEL),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}/a/b/memory.max": "max",
                f"{V2}/a/b/memory.current": "7",
                f"{V2}/a/memory.max": "5000000\n",
                f"{V2}/a/memory.current": "2000000\n",
                f"{V2}/a/memory.stat": "anon 1\ninactive_file 500000\nactive_file 9\n",
            },
            3_500_000,
        ),
        (
            {  # a container sees its own limit at the top, and a path that is not there
                "proc/self/cgroup": "0::/../host/path\n",
                f"{V2}/memory.max": "4000000",
                f"{V2}/memory.current": "1000000",
            },
            3_000_000,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n",
                f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
                f"{V1}/memory.usage_in_bytes": "1",
                f"{V1}/x/memory.limit_in_bytes": "6000000\n",
                f"{V1}/x/memory.usage_in_bytes": "2000000\n",
                f"{V1}/x/memory.stat": "inactive_file 1\ntotal_inactive_file 100000\n",
            },
            4_100_000,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n",
                f"{V1}/x/memory.limit_in_bytes": "1000",
                f"{V1}/x/memory.usage_in_bytes": "2000",
            },
            0,
        ),
        (
            {
                "proc/self/cgroup": "0::/\n",
                f"{V2}/memory.max": "99000000000",
                f"{V2}/memory.current": "1",
            },
            KERNEL,
        ),
    ],
)
def test_host_memory_is_the_least_of_kernel_and_cgroups(
    tmp_path: Path, files: dict[str, str], left: int
) -> None:
    assert planning.host_memory(machine(tmp_path, files)) == left


def test_this_machine_says_something() -> None:
    assert 0 < planning.host_memory() < 1 << 50
    assert (planning.gpu_memory() or 1) > 0


# --- files ----------------------------------------------------------------------


def encoder_folder(folder: Path, header: bytes) -> Path:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "config.json").write_text('{"hidden_size": 4, "intermediate_size": 16}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_an_encoder_is_counted_by_its_shapes(tmp_path: Path) -> None:
    tensors = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F16", "shape": [3, 4]},
        "b": {"dtype": "F32", "shape": [5]},
    }
    found = planning.encoder(encoder_folder(tmp_path, json.dumps(tensors).encode()))
    assert (found.weights, found.hidden, found.inner, found.tokenizer_bytes) == (17, 4, 16, 2)
    assert found.model_bytes == 68


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"a": 1}', b'{"a": {"shape": "x"}}', b"\xff"])
def test_an_encoder_that_cannot_be_read_is_named(tmp_path: Path, damage: bytes) -> None:
    with pytest.raises(ModelFileInvalid, match="sentence-transformers の形"):
        planning.encoder(encoder_folder(tmp_path, damage))


def test_an_encoder_that_claims_a_large_header_is_refused(tmp_path: Path) -> None:
    encoder_folder(tmp_path, b"{}")
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(ModelFileInvalid):
        planning.encoder(tmp_path)


@pytest.mark.models
def test_the_default_models_with_little_memory_and_with_enough(tmp_path: Path) -> None:
    root = load({}).models
    models.unpack(root)
    settings = load(data=tmp_path, models=root, context_tokens=8192)
    assert planning.plan(settings, slots=8, host=16 << 30, gpu=0).refusal == ""
    enough = planning.plan(settings, slots=8, host=1 << 40, gpu=0).host_need
    assert row(planning.plan(settings, slots=8, host=enough, gpu=0), "kv").host == 144 * MIB
    small = planning.plan(settings, slots=8, host=enough - 20 * MIB, gpu=0)
    assert "context_tokens" in small.refusal
    assert planning.plan(settings, slots=8, host=1 << 30, gpu=0).refusal != ""


LOAD = """
import sys, llama_cpp as api
path, context, prefill = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
api.llama_backend_init()
model = api.llama_model_load_from_file(path.encode(), api.llama_model_default_params())
for tokens, sequences in ((context, 16), (prefill, 17)):
    params = api.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = tokens, 256, 256
    params.n_seq_max, params.n_outputs_max = sequences, sequences
    params.kv_unified = params.swa_full = True
    made = api.llama_init_from_model(model, params)
    batch = api.llama_batch_init(256, 0, 1)
    for step in range(4):
        batch.n_tokens = 256
        for i in range(256):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = 1000 + i, (step * 256 + i) // 16, 1
            batch.seq_id[i][0], batch.logits[i] = i % 16, i >= 240
        assert api.llama_decode(made, batch) == 0
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.mark.models
@pytest.mark.parametrize("context", [2048, 8192])
def test_the_estimate_is_above_the_real_process_and_not_far(context: int) -> None:
    """llama.cpp loads the default model and answers 16 sequences: what did it take at most?"""
    root = load({}).models
    models.unpack(root)
    llm = models.named(models.DEFAULT_LLM)
    path = root / llm.name / next(iter(llm.files))
    ran = subprocess.run(
        [sys.executable, "-c", LOAD, str(path), str(context), str(PREFILL_TOKENS)],
        capture_output=True,
        text=True,
        check=True,
    )
    real = int(ran.stdout.split()[-1])
    settings = load(models=root, context_tokens=context)
    plan = planning.plan(settings, slots=8, host=PLENTY, gpu=0)
    names = ("weights", "vocabulary", "kv", "compute", "prefill")
    estimate = sum(row(plan, name).host for name in names) + planning.CHILD
    assert real <= estimate <= math.floor(1.4 * real)
