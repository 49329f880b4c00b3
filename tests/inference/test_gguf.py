"""Damaged model files never reach llama.cpp: each kind of damage is named, none is a surprise."""

from __future__ import annotations

import ctypes
import random
import struct
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from appliance.inference import gguf, models
from appliance.inference.gguf import ModelFileInvalid, Tensor, read
from appliance.settings import load

ADAPTER = models.ADAPTERS / "kura-answer-v3.gguf"

Value = tuple[int, bytes]  # number of the type, the value as written
Weights = tuple[str, tuple[int, ...], int, int]  # name, shape, type, offset


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def string(value: str | bytes) -> Value:
    return 8, text(value)


def u32(value: int) -> Value:
    return 4, struct.pack("<I", value)


def f32(value: float) -> Value:
    return 6, struct.pack("<f", value)


def array(kind: int, items: Iterable[bytes], count: int | None = None) -> Value:
    listed = list(items)
    length = len(listed) if count is None else count
    return 9, struct.pack("<IQ", kind, length) + b"".join(listed)


MODEL: dict[str | bytes, Value] = {
    "general.architecture": string("tiny"),
    "tiny.block_count": u32(1),
    "tiny.context_length": u32(128),
    "tiny.embedding_length": u32(32),
    "general.name": string("小さいモデル"),
    "general.flag": (7, b"\x01"),
    "tokenizer.ggml.tokens": array(8, [text("a"), text("い"), text("")]),
    "tokenizer.ggml.scores": array(6, [struct.pack("<f", 1.0)] * 3),
    "tiny.attention.head_count_kv": array(5, [struct.pack("<i", 2)]),
}
LORA: dict[str | bytes, Value] = {
    "general.architecture": string("tiny"),
    "general.type": string("adapter"),
    "adapter.type": string("lora"),
    "adapter.lora.alpha": f32(32.0),
}
WEIGHTS: list[Weights] = [
    ("token_embd.weight", (32, 3), 8, 0),  # 102 bytes of q8_0
    ("blk.0.attn_k.weight", (32,), 0, 128),
]
PAIR: list[Weights] = [("a.lora_a", (4, 2), 0, 0), ("a.lora_b", (2, 4), 0, 32)]


def made(
    keys: dict[str | bytes, Value] | list[tuple[str | bytes, Value]] = MODEL,
    tensors: list[Weights] = WEIGHTS,
    *,
    data: int = 256,
    align: int = 32,
    magic: bytes = b"GGUF",
    version: int = 3,
    counts: tuple[int | None, int | None] = (None, None),
) -> bytes:
    pairs = list(keys.items()) if isinstance(keys, dict) else keys
    out = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if counts[0] is None else counts[0],
        len(pairs) if counts[1] is None else counts[1],
    )
    for key, (kind, value) in pairs:
        out += text(key) + struct.pack("<I", kind) + value
    for name, shape, number, offset in tensors:
        out += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        out += struct.pack("<IQ", number, offset)
    out += bytes(-len(out) % align)
    return out + bytes(range(256)) * (data // 256) + bytes(data % 256)


def changed(**more: Value) -> dict[str | bytes, Value]:
    return MODEL | {name.replace("__", "."): value for name, value in more.items()}


def lacking(name: str) -> dict[str | bytes, Value]:
    return {key: value for key, value in MODEL.items() if key != name}


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return path


def test_a_small_model_is_read(tmp_path: Path) -> None:
    data = made()
    header = read(written(tmp_path, data))
    assert (header.architecture, header.kind, header.size) == ("tiny", "model", len(data))
    assert header.scalars["general.name"] == "小さいモデル"
    assert header.scalars["general.flag"] is True
    assert header.number("block_count") == 1
    assert header.arrays["tokenizer.ggml.tokens"] == ("str", 3)
    assert header.numbers == {"tiny.attention.head_count_kv": (2,)}
    begin = len(data) - 256
    assert header.tensors == (
        Tensor("token_embd.weight", (32, 3), "q8_0", begin, 102),
        Tensor("blk.0.attn_k.weight", (32,), "f32", begin + 128, 128),
    )


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("align", [8, 64])
def test_versions_and_alignments(tmp_path: Path, version: int, align: int) -> None:
    keys = changed(general__alignment=u32(align))
    tensors = [WEIGHTS[0], (*WEIGHTS[1][:3], 128 if align == 64 else 104)]
    assert read(written(tmp_path, made(keys, tensors, align=align, version=version))).tensors


def test_a_small_adapter_is_read(tmp_path: Path) -> None:
    header = read(written(tmp_path, made(LORA, PAIR)))
    assert (header.kind, header.scalars["adapter.lora.alpha"]) == ("adapter", 32.0)


HUGE = 2**62
ONE: Weights = WEIGHTS[0]
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is no GGUF file"),
    "magic": (made(magic=b"GGML"), "is no GGUF file"),
    "version 1": (made(version=1), "version 1"),
    "version 4": (made(version=4), "version 4"),
    "big-endian": (made(version=3 << 24), "big-endian"),
    "key count": (made(counts=(None, 2**63)), "claims 9223372036854775808 keys"),
    "many keys": (made(counts=(None, 5000), data=1 << 20), "claims 5000 keys"),
    "keys for the size": (made({}, [], counts=(0, 30), data=0), "claims 30 keys"),
    "tensor count": (made(counts=(2**40, None)), "claims 1099511627776 tensors"),
    "empty key": (made(MODEL | {"": u32(1)}), "name of 0 bytes"),
    "long key": (made(MODEL | {"k" * 257: u32(1)}), "name of 257 bytes"),
    "key beyond the file": (
        made({"k" * 200: u32(1)}, [], data=0, align=1)[:100],
        "ends before key 1",
    ),
    "key with a line break": (made(MODEL | {"a\nb": u32(1)}), "not plain ASCII"),
    "key twice": (made([*MODEL.items(), ("tiny.block_count", u32(1))]), "tiny.block_count twice"),
    "value type": (made(changed(x=(13, b""))), "unknown type 13 under x"),
    "truth value": (made(changed(x=(7, b"\x02"))), "truth value of 2"),
    "text too long": (
        made(changed(x=(8, struct.pack("<Q", HUGE)))),
        "text of 4611686018427387904 bytes",
    ),
    "text beyond the file": (made(changed(x=(8, struct.pack("<Q", 5000)))), "ends before x"),
    "text not UTF-8": (made(changed(x=string(b"\xff\xfe"))), "not UTF-8 under x"),
    "array of arrays": (made(changed(x=array(9, []))), "array of arrays under x"),
    "array type": (made(changed(x=array(99, []))), "unknown type 99 under x"),
    "numbers beyond the file": (made(changed(x=array(10, [], HUGE))), "ends before x"),
    "few numbers beyond the file": (made(changed(x=array(10, [], 400))), "ends before x"),
    "texts beyond the file": (made(changed(x=array(8, [], HUGE))), "ends before x"),
    "one text beyond the file": (
        made(changed(x=array(8, [struct.pack("<Q", HUGE)]))),
        "ends before x",
    ),
    "alignment no power": (made(changed(general__alignment=u32(24))), "general.alignment of 24"),
    "alignment zero": (made(changed(general__alignment=u32(0))), "general.alignment of 0"),
    "alignment large": (made(changed(general__alignment=u32(1 << 30))), "no small power of two"),
    "alignment a text": (made(changed(general__alignment=string("32"))), "that is no number"),
    "alignment an array": (
        made(changed(general__alignment=array(4, [struct.pack("<I", 32)]))),
        "that is no number",
    ),
    "tensor name": (made(tensors=[("t" * 64, (32,), 0, 0)]), "name of 64 bytes"),
    "tensor twice": (made(tensors=[ONE, (ONE[0], (32,), 0, 128)]), "token_embd.weight twice"),
    "no dimension": (made(tensors=[("t", (), 0, 0)]), "0 dimensions in t"),
    "five dimensions": (made(tensors=[("t", (1,) * 5, 0, 0)]), "5 dimensions in t"),
    "zero": (made(tensors=[("t", (32, 0), 0, 0)]), "impossible shape in t"),
    "negative": (made(tensors=[("t", (2**64 - 1,), 0, 0)]), "impossible shape in t"),
    "overflow": (made(tensors=[("t", (2**32, 2**31), 0, 0)]), "impossible shape in t"),
    "larger than the file": (made(tensors=[("t", (2**40,), 0, 0)]), "weights of t"),
    "weight type": (made(tensors=[("t", (32,), 4, 0)]), "unknown type 4 in t"),
    "row and block": (made(tensors=[("t", (33,), 8, 0)]), "no whole blocks of q8_0"),
    "unaligned": (made(tensors=[ONE, ("t", (32,), 0, 104)]), "alignment of 32 does not allow"),
    "overlap": (made(tensors=[ONE, ("t", (32,), 0, 96)]), "t inside another tensor"),
    "same place": (made(tensors=[ONE, ("t", (32,), 0, 0)]), "t inside another tensor"),
    "gap": (made(tensors=[ONE, ("t", (32,), 0, 160)]), "t behind a gap"),
    "offset beyond": (made(tensors=[("t", (32,), 0, HUGE)]), "t behind a gap"),
    "weights cut off": (made(data=255), "weights of blk.0.attn_k.weight"),
    "no architecture": (made(lacking("general.architecture")), "general.architecture"),
    "architecture a number": (made(changed(general__architecture=u32(1))), "short name"),
    "architecture a path": (made(changed(general__architecture=string("../x"))), "short name"),
    "architecture long": (made(changed(general__architecture=string("x" * 65))), "short name"),
    "other kind": (made(changed(general__type=string("mmproj"))), "neither a model"),
    "kind a number": (made(changed(general__type=u32(1))), "neither a model"),
    "no layers": (made(lacking("tiny.block_count")), "lacks the key tiny.block_count"),
    "no context": (made(lacking("tiny.context_length")), "lacks the key tiny.context_length"),
    "no width": (made(lacking("tiny.embedding_length")), "lacks the key tiny.embedding_length"),
    "zero layers": (made(changed(tiny__block_count=u32(0))), "number from 1 to 512"),
    "many layers": (made(changed(tiny__block_count=u32(513))), "number from 1 to 512"),
    "layers a text": (made(changed(tiny__block_count=string("1"))), "number from 1 to 512"),
    "layers a truth value": (made(changed(tiny__block_count=(7, b"\1"))), "number from 1 to 512"),
    "one of parts": (made(changed(split__count=(2, b"\2\0"))), "one of several parts"),
    "no weights": (made(tensors=[]), "has no weights"),
    "vocabulary of numbers": (
        made(changed(tokenizer__ggml__tokens=array(0, [b"\0"] * 3))),
        "no list of texts",
    ),
    "few scores": (made(changed(tokenizer__ggml__scores=array(6, [bytes(4)] * 2))), "each of its"),
    "scores of another type": (
        made(changed(tokenizer__ggml__scores=array(5, [bytes(4)] * 3))),
        "one f32 for each of its tokens",
    ),
    "token types": (
        made(changed(tokenizer__ggml__token_type=array(5, [bytes(4)] * 4))),
        "one i32 for each of its tokens",
    ),
    "adapter not lora": (made(LORA | {"adapter.type": string("x")}, PAIR), "not lora"),
    "adapter without alpha": (
        made({k: v for k, v in LORA.items() if k != "adapter.lora.alpha"}, PAIR),
        "adapter.lora.alpha",
    ),
    "alpha not finite": (
        made(LORA | {"adapter.lora.alpha": f32(float("nan"))}, PAIR),
        "adapter.lora.alpha",
    ),
    "alpha zero": (made(LORA | {"adapter.lora.alpha": f32(0.0)}, PAIR), "adapter.lora.alpha"),
    "alpha a text": (made(LORA | {"adapter.lora.alpha": string("1")}, PAIR), "adapter.lora.alpha"),
    "half a pair": (made(LORA, PAIR[:1]), "a.lora_a without a.lora_b"),
    "no half": (made(LORA, [*PAIR, ("extra", (32,), 0, 64)]), "extra, which is no half"),
    "flat half": (
        made(LORA, [("a.lora_a", (8,), 0, 0), ("a.lora_b", (2, 4), 0, 32)]),
        "1 dimensions in a.lora_a",
    ),
    "empty adapter": (made(LORA, []), "has no weights"),
}


@pytest.mark.parametrize(("data", "fault"), DAMAGED.values(), ids=DAMAGED.keys())
def test_each_kind_of_damage_is_named(tmp_path: Path, data: bytes, fault: str) -> None:
    path = written(tmp_path, data)
    with pytest.raises(ModelFileInvalid, match=fault) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "写し直してください" in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.gguf"):
        with pytest.raises(ModelFileInvalid, match="is not there or is no file"):
            read(path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for data in (made(), made(LORA, PAIR, data=64)):
        read(written(tmp_path, data))
        for size in range(len(data)):
            with pytest.raises(ModelFileInvalid):
                read(written(tmp_path, data[:size]))


def test_random_bytes_in_the_header_give_a_header_or_a_refusal(tmp_path: Path) -> None:
    """Seeded; never another exception, and never memory for what a number only claims."""
    rng = random.Random(3)
    wholes = made(), made(LORA, PAIR)
    outcomes = {"read": 0, "refused": 0}
    peak = 0
    for n in range(4000):
        damaged = bytearray(wholes[n % 2])
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(len(damaged) - 256)] = rng.randrange(256)
        path = written(tmp_path, bytes(damaged))
        if n < 500:
            tracemalloc.start()
        try:
            read(path)
            outcomes["read"] += 1
        except ModelFileInvalid:
            outcomes["refused"] += 1
        if n < 500:
            peak = max(peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert min(outcomes.values()) > 200
    assert 0 < peak < 1 << 20


def test_a_long_list_of_texts_is_walked_not_kept(tmp_path: Path) -> None:
    """Texts of every length, also across the blocks that are read at once."""
    words = [text(b"x" * (n % 300)) for n in range(20_000)] + [text(b"y" * 700_000), text(b"")]
    path = written(tmp_path, made(lacking("tokenizer.ggml.scores") | {"x": array(8, words)}))
    tracemalloc.start()
    header = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.arrays["x"] == ("str", 20_002)
    assert peak < 2 << 20


def test_a_header_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "HEADER_BYTES", 1000)
    with pytest.raises(ModelFileInvalid, match="header of more than 1000 bytes"):
        read(written(tmp_path, made(changed(x=array(0, [bytes(1000)], 1000)))))


def test_the_table_of_types_is_that_of_llama_cpp() -> None:
    from llama_cpp._ggml import libggml

    libggml.ggml_type_name.restype = ctypes.c_char_p
    libggml.ggml_blck_size.restype = ctypes.c_int64
    libggml.ggml_type_size.restype = ctypes.c_size_t
    known: dict[int, Any] = {
        n: (libggml.ggml_type_name(n).decode(), size, libggml.ggml_type_size(n))
        for n in range(43)
        if (size := libggml.ggml_blck_size(n))
    }
    assert known == gguf._TYPES


def test_the_adapter_of_this_release() -> None:
    header = read(ADAPTER)
    assert (header.architecture, header.kind) == ("gemma3", "adapter")
    assert header.scalars["adapter.lora.alpha"] == 64.0
    assert len(header.tensors) == 252
    assert header.tensors[-1].offset + header.tensors[-1].nbytes <= header.size


class _Params(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p))


def theirs(path: Path) -> list[tuple[str, int, int]] | None:
    """Name, offset and size of each tensor by llama.cpp's own reader; None if it refuses."""
    from llama_cpp._ggml import libggml

    pointer, size, index = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
    for name, arguments, result in (
        ("gguf_init_from_file", [ctypes.c_char_p, _Params], pointer),
        ("gguf_free", [pointer], None),
        ("gguf_get_n_tensors", [pointer], index),
        ("gguf_get_data_offset", [pointer], size),
        ("gguf_get_tensor_name", [pointer, index], ctypes.c_char_p),
        ("gguf_get_tensor_offset", [pointer, index], size),
        ("gguf_get_tensor_size", [pointer, index], size),
    ):
        function = getattr(libggml, name)
        function.argtypes, function.restype = arguments, result
    context = libggml.gguf_init_from_file(str(path).encode(), _Params(True, None))
    if not context:
        return None
    begin = libggml.gguf_get_data_offset(context)
    found = [
        (
            libggml.gguf_get_tensor_name(context, n).decode(),
            begin + libggml.gguf_get_tensor_offset(context, n),
            libggml.gguf_get_tensor_size(context, n),
        )
        for n in range(libggml.gguf_get_n_tensors(context))
    ]
    libggml.gguf_free(context)
    return found


def places(header: gguf.Header) -> list[tuple[str, int, int]]:
    return [(t.name, t.offset, t.nbytes) for t in header.tensors]


def test_llama_cpp_reads_the_same() -> None:
    assert places(read(ADAPTER)) == theirs(ADAPTER)


def test_what_is_accepted_llama_cpp_reads_too(tmp_path: Path) -> None:
    """Seeded damage again: a Header that we give is the one that llama.cpp will find."""
    rng = random.Random(5)
    wholes = made(), made(LORA, PAIR)
    accepted = 0
    for n in range(1000):
        damaged = bytearray(wholes[n % 2])
        damaged[rng.randrange(len(damaged) - 256)] = rng.randrange(256)
        path = written(tmp_path, bytes(damaged))
        try:
            header = read(path)
        except ModelFileInvalid:
            continue
        accepted += 1
        assert places(header) == theirs(path)
    assert accepted > 50


@pytest.mark.models
@pytest.mark.parametrize("name", ["gemma-3-270m", "kura-270m"])
def test_the_models_of_this_release(name: str) -> None:
    root = load({}).models
    models.unpack(root)
    path = root / name / next(iter(models.named(name).files))
    header = read(path)
    assert header.arrays["tokenizer.ggml.tokens"] == ("str", 262_144)
    assert (header.number("block_count"), len(header.tensors)) == (18, 236)
    assert places(header) == theirs(path)
