"""What `kura infer` needs of memory, where it lies, and whether there is enough: before it starts.

Sizes come from the headers of the verified files. What no header tells was measured on two cores
with the default models (CPU build of llama.cpp, torch 2.13), and each constant says so. What CUDA
itself takes is a guess on the safe side: it was not measured.

On the host a page counts when it is touched, on a GPU when it is allocated. Weights on the host
count once: those that llama.cpp repacks for the processor leave a copy in the page cache, which
the kernel takes back when it needs room.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.errors import ModelFileInvalid
from appliance.inference import gguf, models, registered
from appliance.inference.gguf import Header
from appliance.inference.work import BATCH_TOKENS, PREFILL_TOKENS
from appliance.settings import Settings

MIB = 1 << 20
CELLS = 256  # llama.cpp makes the context a multiple of this
CHUNKS = 100_000  # that the index should have room for
EMBEDDING_TOKENS = 4096  # of one batch of an encoder on the host: 8 texts of 512
GPU_EMBEDDING_TOKENS = 65_536  # and on a GPU: embed.GPU_CHARS, at a token for each character

SERVER = 480 * MIB  # python, torch, sentence-transformers: 433 measured
CHILD = 56 * MIB  # python, numpy, llama.cpp's libraries: 40 measured
TOKEN_BYTES = 200  # llama.cpp's tables, for each word of a vocabulary: 168 measured
TOKENIZER_BYTES = 36  # for each byte of tokenizer.json: 35 measured
GPU_RUNTIME = 768 * MIB  # context, libraries and scratch of CUDA: not measured
_SAFETENSORS_HEADER = 64 * MIB
_BLOCK = re.compile(r"blk\.(\d+)\.")
_UNLIMITED = 1 << 60  # cgroup v1 says "no limit" with a number above this


@dataclass(frozen=True)
class Encoder:
    """An embedder or reranker of sentence-transformers. Its weights become float32."""

    name: str
    weights: int
    hidden: int
    inner: int
    tokenizer_bytes: int

    @property
    def model_bytes(self) -> int:
        return 4 * self.weights

    @property
    def table_bytes(self) -> int:
        return TOKENIZER_BYTES * self.tokenizer_bytes

    def working_bytes(self, tokens: int) -> int:
        """Of one batch: 132 MiB for 4,096 tokens of multilingual-e5-small, 90 to 142 measured."""
        return 4 * tokens * (6 * self.hidden + 4 * self.inner)


@dataclass(frozen=True)
class Parts:
    """What is to be loaded."""

    name: str
    llm: Header
    adapter: Header | None
    embedder: Encoder
    reranker: Encoder | None = None
    beside: Encoder | None = None  # the embedder that searches until another has made all vectors


@dataclass(frozen=True)
class Sizes:
    """`sequences` hold slots and kept prefixes; `outputs` are tokens sampled or checked a step."""

    context_tokens: int
    slots: int
    sequences: int
    outputs: int
    batch_tokens: int = BATCH_TOKENS
    prefill_tokens: int = 0  # at most, of the context in which a CPU reads prompts
    chunks: int = CHUNKS
    least_context: int = CELLS  # what one question needs


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    why: str
    host: int = 0
    gpu: int = 0


@dataclass(frozen=True)
class Plan:
    """`host` and `gpu` are what is there, in bytes; without a GPU `gpu` is 0.

    `gpu_layers` is llama.cpp's n_gpu_layers, which counts the output as one more than `layers`.
    """

    rows: tuple[Row, ...]
    sizes: Sizes
    host: int
    gpu: int
    layers: int
    gpu_layers: int
    encoders_on_gpu: bool
    refusal: str = ""

    @property
    def host_need(self) -> int:
        return sum(row.host for row in self.rows)

    @property
    def gpu_need(self) -> int:
        return sum(row.gpu for row in self.rows)


def plan(
    settings: Settings,
    *,
    slots: int,
    sequences: int = 0,
    outputs: int = 0,
    host: int | None = None,
    gpu: int | None = None,
    chunks: int = CHUNKS,
    torch_on_gpu: bool | None = None,
    beside: str = "",
) -> Plan:
    """The budget of the default models. None asks the machine, `gpu=0` plans without a GPU.
    `beside`: the name of a second embedder.

    `sequences` and `outputs` are the engine's (n_seq_max, n_outputs_max); 0 takes twice the slots.
    Raises DigestMismatch, ModelFileInvalid.
    """
    sizes = Sizes(
        settings.context_tokens,
        slots,
        sequences or 2 * slots,
        outputs or 2 * slots,
        prefill_tokens=PREFILL_TOKENS,
        chunks=chunks,
        least_context=_cells(settings.prompt_tokens + settings.answer_tokens + 512),
    )
    return fit(
        parts(settings, beside),
        sizes,
        host=host_memory() if host is None else host,
        gpu=(gpu_memory() or 0) if gpu is None else gpu,
        torch_on_gpu=torch_has_cuda() if torch_on_gpu is None else torch_on_gpu,
    )


def parts(settings: Settings, beside: str = "") -> Parts:
    """The models, verified and read, and the site's reranker. Raises DigestMismatch, ModelFileInvalid."""
    llm, root = registered.llm(settings)
    embedder = models.embedder(settings.embedder)
    second = models.embedder(beside) if beside else None
    adapter = None
    if llm.adapter:
        row = models.named(llm.adapter)
        adapter = gguf.read(models.verified(row, settings.models) / next(iter(row.files)))
    return Parts(
        llm.name,
        gguf.read(models.verified(llm, root) / next(iter(llm.files))),
        adapter,
        encoder(models.network(embedder, settings.models)[0]),
        _reranker(settings),
        encoder(models.network(second, settings.models)[0]) if second else None,
    )


def _reranker(settings: Settings) -> Encoder | None:
    """Kura's own reader is a copy of the embedder's network; the table of words is shared."""
    if settings.reranker:
        return encoder(Path(settings.own_reranker)) if settings.own_reranker else None
    reader = models.named(models.DEFAULT_READER)
    base = models.verified(models.named(reader.base), settings.models)
    whole = encoder(base)
    words = json.loads((base / "config.json").read_text("utf-8"))["vocab_size"]
    return replace(whole, name=reader.name, weights=whole.weights - words * whole.hidden)


def encoder(folder: Path) -> Encoder:
    """Sizes of a sentence-transformers folder. Raises ModelFileInvalid."""
    path = folder / "model.safetensors"
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > min(_SAFETENSORS_HEADER, path.stat().st_size):
                raise ValueError(length)
            header = json.loads(stream.read(length))
        weights = sum(
            math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"
        )
        config = json.loads((folder / "config.json").read_text("utf-8"))
        return Encoder(
            folder.name,
            weights,
            int(config["hidden_size"]),
            int(config["intermediate_size"]),
            (folder / "tokenizer.json").stat().st_size,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as why:
        raise ModelFileInvalid(
            f"{folder} は sentence-transformers の形のモデルではありません（{type(why).__name__}: {why}）。"
            "`kura models unpack` を実行するか、元の場所から写し直してください。"
        ) from None


def fit(parts: Parts, sizes: Sizes, *, host: int, gpu: int = 0, torch_on_gpu: bool = False) -> Plan:
    """Lay the parts out: the encoders first on the GPU, since they are small, then layers from
    the last down, as llama.cpp does. What has no room there stays on the host."""
    found = _lay(parts, sizes, host, gpu, torch_on_gpu)
    if found.host_need <= host:
        return found
    return replace(found, refusal=_refusal(parts, found, torch_on_gpu))


# --- what each part needs -----------------------------------------------------


def _lay(parts: Parts, sizes: Sizes, host: int, gpu: int, torch_on_gpu: bool) -> Plan:
    llm = parts.llm
    encoders = [e for e in (parts.embedder, parts.reranker, parts.beside) if e]
    room = gpu - GPU_RUNTIME
    wanted = sum(e.model_bytes + e.working_bytes(GPU_EMBEDDING_TOKENS) for e in encoders)
    encoders_there = torch_on_gpu and wanted <= room
    room -= wanted if encoders_there else 0
    scratch = scratch_bytes(llm, sizes)
    kv = kv_bytes(llm, sizes.context_tokens)
    weights, output, rest = _layers(parts)
    layers = len(weights)
    gpu_weights = gpu_kv = gpu_layers = 0
    room -= scratch
    for cost, cells in [(output, 0), *reversed(list(zip(weights, kv, strict=True)))]:
        if cost + cells > room - gpu_weights - gpu_kv:
            break
        gpu_weights, gpu_kv, gpu_layers = gpu_weights + cost, gpu_kv + cells, gpu_layers + 1
    used = bool(gpu_layers)
    tied = output if used and not _has(llm, "output.weight") else 0  # both sides keep a copy
    words = vocabulary(llm)
    where = f"{min(gpu_layers, layers)} / {layers} 層をGPUに" if gpu else "すべてホストに"
    rows = [
        Row(
            "weights",
            f"言語モデル {parts.name}",
            f"ファイルの重み、{where}",
            rest + output + sum(weights) - gpu_weights + tied,
            gpu_weights,
        ),
        Row("vocabulary", "語彙の表", f"{words:,} 語 × {TOKEN_BYTES} B", TOKEN_BYTES * words),
        Row(
            "kv",
            "KVキャッシュ",
            f"{_cells(sizes.context_tokens):,} トークン（f16、{sizes.slots} 席で共有）",
            sum(kv) - gpu_kv,
            gpu_kv,
        ),
        Row(
            "compute",
            "計算用バッファ",
            f"1 回に {sizes.batch_tokens} トークン、うち出力 {sizes.outputs}",
            _output_bytes(llm, sizes) + (0 if gpu_layers > layers else scratch),
            scratch if used else 0,
        ),
    ]
    if sizes.prefill_tokens and not used:
        rows.append(
            Row(
                "prefill",
                "質問を読むための文脈",
                f"{min(sizes.prefill_tokens, sizes.context_tokens):,} トークン（ほかの質問から分けて読む）",
                _prefill_bytes(llm, sizes),
            )
        )
    for one, name, title in (
        (parts.embedder, "embedder", "埋め込みモデル"),
        (parts.reranker, "reranker", "リランカー"),
        (parts.beside, "beside", "前の埋め込みモデル"),
    ):
        if one:
            tokens = GPU_EMBEDDING_TOKENS if encoders_there else EMBEDDING_TOKENS
            body = one.model_bytes + one.working_bytes(tokens)
            rows.append(
                Row(
                    name,
                    f"{title} {one.name}",
                    f"重み {one.weights:,} 個（float32）、計算、トークナイザー",
                    one.table_bytes + (0 if encoders_there else body),
                    body if encoders_there else 0,
                )
            )
    rows += [
        Row(
            "runtime",
            "実行環境",
            "Python、torch、llama.cpp" + ("、CUDA" if used or encoders_there else ""),
            SERVER + CHILD,
            GPU_RUNTIME if used or encoders_there else 0,
        ),
        Row(
            "index",
            "索引のための余地",
            f"{sizes.chunks:,} チャンク × {parts.embedder.hidden} 次元（kura web が使う）",
            4 * parts.embedder.hidden * sizes.chunks,
        ),
    ]
    return Plan(tuple(rows), sizes, host, gpu, layers, gpu_layers, encoders_there)


def _layers(parts: Parts) -> tuple[list[int], int, int]:
    """Bytes of each layer, of the output, and of what always stays on the host."""
    layers = [0] * parts.llm.number("block_count")
    output = rest = 0
    for tensor in (*parts.llm.tensors, *(parts.adapter.tensors if parts.adapter else ())):
        found = _BLOCK.match(tensor.name)
        if found and int(found[1]) < len(layers):
            layers[int(found[1])] += tensor.nbytes
        elif tensor.name.startswith("output"):
            output += tensor.nbytes
        else:
            rest += tensor.nbytes
    if not _has(parts.llm, "output.weight"):  # tied: the GPU gets a copy of the embeddings
        embeddings = sum(t.nbytes for t in parts.llm.tensors if t.name == "token_embd.weight")
        return layers, output + embeddings, rest - embeddings
    return layers, output, rest


def _has(header: Header, name: str) -> bool:
    return any(tensor.name == name for tensor in header.tensors)


def kv_bytes(header: Header, context_tokens: int) -> list[int]:
    """Bytes of each layer's cache: keys and values of every token, in f16.

    Windows count in full, because the engine keeps the whole cache. Where a model's layers
    differ in the length of a head, the longest counts.
    """
    layers = header.number("block_count")
    heads = _per_layer(header, "attention.head_count", [1] * layers)
    cached = _per_layer(header, "attention.head_count_kv", heads)
    key, value = _head_lengths(header, heads)
    return [2 * _cells(context_tokens) * n * (key + value) for n in cached]


def _head_lengths(header: Header, heads: list[int]) -> tuple[int, int]:
    usual = header.number("embedding_length") // max(1, min([h for h in heads if h] or [1]))
    key, value = (
        max(
            header.number(f"attention.{name}_length", usual),
            header.number(f"attention.{name}_length_swa"),
        )
        for name in ("key", "value")
    )
    return key, value


def _per_layer(header: Header, name: str, default: list[int]) -> list[int]:
    """A number that a file gives once, or once for each layer."""
    layers = header.number("block_count")
    listed = header.numbers.get(f"{header.architecture}.{name}", ())
    if len(listed) >= layers:
        return [max(0, n) for n in listed[:layers]]
    one = header.number(name, -1)
    return default if one < 0 else [one] * layers


def vocabulary(header: Header) -> int:
    if "tokenizer.ggml.tokens" in header.arrays:
        return header.arrays["tokenizer.ggml.tokens"][1]
    return next((t.shape[-1] for t in header.tensors if t.name == "token_embd.weight"), 0)


def scratch_bytes(header: Header, sizes: Sizes) -> int:
    """llama.cpp's compute buffer: logits or activations, whichever is more, and two masks.

    Measured with gemma-3-270m: 17 MiB at a step of 256 in 8,192 tokens with 16 outputs (this
    says 24), 82 at 512 in 32,768 (this says 85), 137 at 256 in 131,072 (this says 144).
    Flash attention is on, so there is no matrix of every token with every other.
    """
    heads = _per_layer(header, "attention.head_count", [1] * header.number("block_count"))
    key, _ = _head_lengths(header, heads)
    inner = max(_per_layer(header, "feed_forward_length", [4 * header.number("embedding_length")]))
    width = 3 * inner + 4 * header.number("embedding_length") + 2 * max(heads) * key
    activations = 4 * sizes.batch_tokens * width
    logits = 4 * sizes.outputs * vocabulary(header)
    masks = 2 * 2 * sizes.batch_tokens * _cells(sizes.context_tokens)
    return max(activations, logits) + masks


def _output_bytes(header: Header, sizes: Sizes) -> int:
    """The logits handed to the samplers, which are on the host whatever computed them."""
    return 4 * max(sizes.sequences, sizes.outputs) * vocabulary(header)


def _prefill_bytes(header: Header, sizes: Sizes) -> int:
    """The second context: two sequences for each slot, and one that carries cells to the first."""
    lanes = 2 * sizes.slots + 1
    tokens = min(sizes.prefill_tokens, sizes.context_tokens)
    own = replace(sizes, context_tokens=tokens, sequences=lanes, outputs=lanes)
    kv = sum(kv_bytes(header, own.context_tokens))
    return kv + scratch_bytes(header, own) + _output_bytes(header, own)


def _cells(tokens: int) -> int:
    return -(-tokens // CELLS) * CELLS


# --- what to change when it does not fit --------------------------------------


def _refusal(parts: Parts, found: Plan, torch_on_gpu: bool) -> str:
    lacking = found.host_need - found.host
    sizes = found.sizes
    head = (
        f"メモリーが {_size(lacking)} 足りません"
        f"（必要 {_size(found.host_need)}、使用可能 {_size(found.host)}）。"
    )
    english = f"host memory is short by {_size(lacking)}"
    for change in _smaller(sizes):
        if _lay(parts, change, found.host, found.gpu, torch_on_gpu).host_need <= found.host:
            changes = [
                (name, before, after)
                for name, before, after in (
                    ("context_tokens", sizes.context_tokens, change.context_tokens),
                    ("infer_slots", sizes.slots, change.slots),
                )
                if before != after
            ]
            japanese = "、".join(f"{n} を {b} から {a} 以下に" for n, b, a in changes)
            lower = " and ".join(f"{n} from {b} to {a} or less" for n, b, a in changes)
            return f"{head}{japanese}してください。 / {english}; lower {lower}."
    return (
        f"{head}設定では収まりません。メモリーを {_size(lacking)} 以上増やすか、小さいモデルにしてください。"
        f" / {english}, and no setting makes it fit; add at least that much, or use a smaller model."
    )


def _smaller(sizes: Sizes) -> Iterator[Sizes]:
    """First less context, down to what one question needs; then fewer slots as well."""
    least = min(sizes.context_tokens, sizes.least_context)
    for context in range(_cells(sizes.context_tokens) - CELLS, least - 1, -CELLS):
        yield replace(sizes, context_tokens=context)
    for slots in range(sizes.slots - 1, 0, -1):
        share = slots / sizes.slots
        yield replace(
            sizes,
            context_tokens=least,
            slots=slots,
            sequences=math.ceil(sizes.sequences * share),
            outputs=math.ceil(sizes.outputs * share),
        )


# --- what the machine has -----------------------------------------------------


def host_memory(root: Path = Path("/")) -> int:
    """Bytes that may still be taken: the kernel's MemAvailable, or less by a cgroup's limit."""
    fields = dict(
        line.split(":", 1) for line in (root / "proc/meminfo").read_text("ascii").splitlines()
    )
    available = int(fields["MemAvailable"].split()[0]) * 1024
    return min([available, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    """What each cgroup above this process leaves; page cache that can go counts as free."""
    listed = root / "proc/self/cgroup"
    for line in listed.read_text("utf-8").splitlines() if listed.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inside = Path(path.lstrip("/"))
        # in a container the path may be the host's; then only the top is there
        for folder in (top / inside, *(top / above for above in inside.parents), top):
            left = _left(folder, *names)
            if left is not None:
                yield left


def _left(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    if not (folder / limit).is_file() or not (folder / usage).is_file():
        return None
    said = (folder / limit).read_text("ascii").strip()
    if said == "max" or int(said) > _UNLIMITED:
        return None
    stat = folder / "memory.stat"
    lines = stat.read_text("ascii").splitlines() if stat.is_file() else []
    free = next((int(x.split()[1]) for x in lines if x.startswith(f"{cache} ")), 0)
    return max(0, int(said) - max(0, int((folder / usage).read_text("ascii")) - free))


def gpu_memory() -> int | None:
    """Free bytes of the GPUs llama.cpp would use, together; None without one or its build."""
    import ctypes

    import llama_cpp
    from llama_cpp._ggml import libggml

    if not llama_cpp.llama_supports_gpu_offload():
        return None
    device, size = ctypes.c_void_p, ctypes.c_size_t
    libggml.ggml_backend_dev_count.restype = size
    libggml.ggml_backend_dev_get.argtypes = [size]
    libggml.ggml_backend_dev_get.restype = device
    libggml.ggml_backend_dev_type.argtypes = [device]
    libggml.ggml_backend_dev_memory.argtypes = [device, *[ctypes.POINTER(size)] * 2]
    libggml.ggml_backend_dev_memory.restype = None
    found = []
    for index in range(libggml.ggml_backend_dev_count()):
        one = libggml.ggml_backend_dev_get(index)
        if libggml.ggml_backend_dev_type(one) == 1:  # a GPU with memory of its own
            free, total = size(), size()
            libggml.ggml_backend_dev_memory(one, ctypes.byref(free), ctypes.byref(total))
            found.append(int(free.value))
    return sum(found) if found else None


def torch_has_cuda() -> bool:
    """Whether torch was built for CUDA, told by its files: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return False
    folder = Path(next(iter(spec.submodule_search_locations)))
    return (folder / "lib" / "libtorch_cuda.so").is_file()


# --- for people and programs --------------------------------------------------


def render(plan: Plan) -> str:
    """The plan as a table for a terminal."""
    head = ("項目", "ホスト", *(("GPU",) if plan.gpu else ()), "内訳")
    lines = [
        (r.title, _size(r.host), *((_size(r.gpu),) if plan.gpu else ()), r.why) for r in plan.rows
    ]
    total = ("必要", _size(plan.host_need), *((_size(plan.gpu_need),) if plan.gpu else ()), "")
    there = ("使用可能", _size(plan.host), *((_size(plan.gpu),) if plan.gpu else ()), "")
    table = [head, *lines, total, there]
    widths = [max(_width(line[n]) for line in table) for n in range(len(head))]
    out = []
    for line in table:
        cells = [_pad(line[0], widths[0])]
        cells += [_pad(c, w, right=True) for c, w in zip(line[1:-1], widths[1:-1], strict=True)]
        out.append("  ".join([*cells, line[-1]]).rstrip())
    rule = "-" * max(_width(line) for line in out)
    out[1:1] = [rule]
    out[-2:-2] = [rule]
    if plan.gpu:
        out.append(
            f"言語モデルの {min(plan.gpu_layers, plan.layers)} / {plan.layers} 層"
            f"{'と出力' if plan.gpu_layers else ''}をGPUに置きます。"
        )
    out.append(plan.refusal or "収まります。")
    return "\n".join(out)


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan for a program; sizes in bytes."""
    return {
        "fits": not plan.refusal,
        "refusal": plan.refusal,
        "host": {"need": plan.host_need, "available": plan.host},
        "gpu": {"need": plan.gpu_need, "available": plan.gpu} if plan.gpu else None,
        "layers": plan.layers,
        "gpu_layers": plan.gpu_layers,
        "encoders_on_gpu": plan.encoders_on_gpu,
        "context_tokens": plan.sizes.context_tokens,
        "slots": plan.sizes.slots,
        "rows": [
            {"name": r.name, "title": r.title, "why": r.why, "host": r.host, "gpu": r.gpu}
            for r in plan.rows
        ],
    }


def _size(count: int) -> str:
    return f"{count / MIB:,.0f} MiB" if count < 1 << 30 else f"{count / (1 << 30):,.2f} GiB"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, *, right: bool = False) -> str:
    blank = " " * (width - _width(text))
    return blank + text if right else text + blank
