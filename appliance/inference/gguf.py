"""Whether a GGUF file may be given to llama.cpp, which is native code and trusts much of what it reads.

The layout, little endian: "GGUF", version (u32), numbers of tensors and of keys (u64 each); the
keys, each a string, a type (u32) and a value; the tensors, each a name, its number of dimensions
(u32), the dimensions (u64), a type (u32) and an offset (u64) within the data; then, aligned, the
data. A string is its length (u64) and bytes; an array is a type, a length (u64) and items.

Nothing is allocated or repeated by a number of the file before the number was held against the
file's size. Of arrays only type and length are kept, so a vocabulary costs a walk over its
lengths. What llama.cpp would refuse is refused here too, in a sentence one can act on.
"""

from __future__ import annotations

import math
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from appliance.errors import ModelFileInvalid

Kind = Literal["model", "adapter"]
Scalar = int | float | bool | str

HEADER_BYTES = 64 << 20  # all that stands before the data; a vocabulary of 262,144 takes 7 MiB
KEYS = 4096
TENSORS = 65_536
KEY_BYTES = 256
TEXT_BYTES = 16 << 20  # of one string that is kept
NAME_BYTES = 63  # of a tensor; llama.cpp holds it in 64 with its end
LAYERS = 512  # llama.cpp's own limit, beyond which it aborts
ALIGNMENT = 32  # unless the file says otherwise
LARGEST_ALIGNMENT = 1 << 20

_BLOCK = 1 << 18  # bytes read at once
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PRINTABLE = re.compile(rb"[\x21-\x7e]+")
_TEXT, _LIST, _BOOL = 8, 9, 7

_VALUES = {  # number in the file: name, layout
    0: ("u8", "B"),
    1: ("i8", "b"),
    2: ("u16", "H"),
    3: ("i16", "h"),
    4: ("u32", "I"),
    5: ("i32", "i"),
    6: ("f32", "f"),
    _BOOL: ("bool", "B"),
    _TEXT: ("str", ""),
    _LIST: ("arr", ""),
    10: ("u64", "Q"),
    11: ("i64", "q"),
    12: ("f64", "d"),
}

_TYPES = {  # number in the file: name, weights in a block, bytes of a block
    0: ("f32", 1, 4),
    1: ("f16", 1, 2),
    2: ("q4_0", 32, 18),
    3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24),
    8: ("q8_0", 32, 34),
    9: ("q8_1", 32, 36),
    10: ("q2_K", 256, 84),
    11: ("q3_K", 256, 110),
    12: ("q4_K", 256, 144),
    13: ("q5_K", 256, 176),
    14: ("q6_K", 256, 210),
    15: ("q8_K", 256, 292),
    16: ("iq2_xxs", 256, 66),
    17: ("iq2_xs", 256, 74),
    18: ("iq3_xxs", 256, 98),
    19: ("iq1_s", 256, 50),
    20: ("iq4_nl", 32, 18),
    21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82),
    23: ("iq4_xs", 256, 136),
    24: ("i8", 1, 1),
    25: ("i16", 1, 2),
    26: ("i32", 1, 4),
    27: ("i64", 1, 8),
    28: ("f64", 1, 8),
    29: ("iq1_m", 256, 56),
    30: ("bf16", 1, 2),
    34: ("tq1_0", 256, 54),
    35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17),
    40: ("nvfp4", 64, 36),
    41: ("q1_0", 128, 18),
    42: ("q2_0", 64, 18),
}


@dataclass(frozen=True)
class Tensor:
    """`shape` has the length of a row first, as in the file; `offset` counts from its beginning."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself. `numbers` has the whole numbers of arrays with one per layer."""

    architecture: str
    kind: Kind
    scalars: dict[str, Scalar]
    arrays: dict[str, tuple[str, int]]  # type of the items, how many
    numbers: dict[str, tuple[int, ...]]
    tensors: tuple[Tensor, ...]
    size: int

    def number(self, name: str, default: int = 0) -> int:
        """A whole number of the architecture's own keys, such as `block_count`."""
        value = self.scalars.get(f"{self.architecture}.{name}", default)
        return value if type(value) is int else default


def read(path: Path) -> Header:
    """Read and check everything before the weights. Raises ModelFileInvalid."""
    try:
        if not path.is_file():
            raise _Bad("is not there or is no file")
        with path.open("rb", buffering=0) as stream:
            return _header(_File(stream.fileno()))
    except _Bad as why:
        fault = str(why)
    except OSError as why:
        fault = f"cannot be read ({why.strerror})"
    raise ModelFileInvalid(
        f"{path} を使えません（{fault}）。`kura models unpack` を実行するか、元の場所から写し直してください。"
    )


class _Bad(Exception):
    """What is wrong, as the end of a sentence that begins with the file's name."""


class _File:
    """A place in the file. What would pass the file's end or the header's limit raises _Bad."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.size = os.fstat(handle).st_size
        self.at = 0
        self._block = b""
        self._start = 0  # of the block

    def skip(self, count: int, what: str) -> None:
        if count > self.size - self.at:
            raise _Bad(f"ends before {what} does")
        if self.at + count > HEADER_BYTES:
            raise _Bad(f"has a header of more than {HEADER_BYTES} bytes")
        self.at += count

    def take(self, count: int, what: str) -> bytes:
        begin = self.at
        self.skip(count, what)
        if begin < self._start or self.at > self._start + len(self._block):
            self._fill(begin, max(count, _BLOCK))
            if len(self._block) < count:
                raise _Bad(f"ends before {what} does")
        return self._block[begin - self._start : self.at - self._start]

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        return int.from_bytes(self.take(8, what), "little")

    def skip_strings(self, count: int, what: str) -> None:
        if count > (self.size - self.at) // 8:
            raise _Bad(f"ends before {what} does")
        length = struct.Struct("<Q").unpack_from
        while count:
            self._fill(self.at, _BLOCK)
            block, at = self._block, 0
            if len(block) < 8:
                raise _Bad(f"ends before {what} does")
            last = len(block) - 8
            while count and at <= last:
                at += 8 + length(block, at)[0]
                count -= 1
            self.skip(at, what)

    def _fill(self, begin: int, count: int) -> None:
        self._block = os.pread(self._handle, count, begin)
        self._start = begin


def _header(file: _File) -> Header:
    if file.size < 24 or file.take(4, "its first bytes") != b"GGUF":
        raise _Bad("is no GGUF file")
    version = file.u32("its version")
    if version and not version & 0xFFFF:
        raise _Bad("is written for big-endian machines")
    if version not in (2, 3):
        raise _Bad(f"is GGUF version {version}, and only 2 and 3 can be read")
    tensor_count = file.u64("the number of tensors")
    key_count = file.u64("the number of keys")
    # the shortest key takes 14 bytes, the shortest tensor 33
    if key_count > min(KEYS, file.size // 14):
        raise _Bad(f"claims {key_count} keys")
    if tensor_count > min(TENSORS, file.size // 33):
        raise _Bad(f"claims {tensor_count} tensors")

    scalars: dict[str, Scalar] = {}
    arrays: dict[str, tuple[str, int]] = {}
    numbers: dict[str, tuple[int, ...]] = {}
    for n in range(key_count):
        key = _name(file, KEY_BYTES, f"key {n + 1}")
        if key in scalars or key in arrays:
            raise _Bad(f"has the key {key} twice")
        kind = file.u32(key)
        if kind == _LIST:
            arrays[key], values = _array(file, key)
            if values:
                numbers[key] = values
        else:
            scalars[key] = _scalar(file, kind, key)
    alignment = _alignment(scalars, arrays)
    tensors = _tensors(file, tensor_count, alignment)
    architecture, kind_of_file = _purpose(scalars)
    header = Header(architecture, kind_of_file, scalars, arrays, numbers, tuple(tensors), file.size)
    (_check_model if kind_of_file == "model" else _check_adapter)(header)
    return header


def _name(file: _File, limit: int, what: str) -> str:
    length = file.u64(what)
    if not 1 <= length <= limit:
        raise _Bad(f"has a name of {length} bytes for {what}")
    name = file.take(length, what)
    if not _PRINTABLE.fullmatch(name):
        raise _Bad(f"has a name that is not plain ASCII for {what}")
    return name.decode("ascii")


def _scalar(file: _File, kind: int, key: str) -> Scalar:
    if kind not in _VALUES:
        raise _Bad(f"has a value of the unknown type {kind} under {key}")
    if kind == _TEXT:
        length = file.u64(key)
        if length > TEXT_BYTES:
            raise _Bad(f"claims a text of {length} bytes under {key}")
        try:
            return file.take(length, key).decode("utf-8")
        except UnicodeDecodeError:
            raise _Bad(f"has a text that is not UTF-8 under {key}") from None
    layout = struct.Struct("<" + _VALUES[kind][1])
    value: Any = layout.unpack(file.take(layout.size, key))[0]
    if kind == _BOOL:
        if value > 1:
            raise _Bad(f"has a truth value of {value} under {key}")
        return bool(value)
    return value  # type: ignore[no-any-return]


def _array(file: _File, key: str) -> tuple[tuple[str, int], tuple[int, ...]]:
    kind, count = file.u32(key), file.u64(key)
    if kind == _LIST:
        raise _Bad(f"has an array of arrays under {key}")
    if kind not in _VALUES:
        raise _Bad(f"has an array of the unknown type {kind} under {key}")
    name, letter = _VALUES[kind]
    if kind == _TEXT:
        file.skip_strings(count, key)
        return (name, count), ()
    if count <= LAYERS and letter in "BbHhIiQq" and kind != _BOOL:
        layout = struct.Struct(f"<{count}{letter}")
        return (name, count), layout.unpack(file.take(layout.size, key))
    file.skip(count * struct.calcsize("<" + letter), key)
    return (name, count), ()


def _alignment(scalars: dict[str, Scalar], arrays: dict[str, tuple[str, int]]) -> int:
    value = scalars.get("general.alignment", ALIGNMENT)
    if "general.alignment" in arrays or type(value) is not int:
        raise _Bad("has a general.alignment that is no number")
    if value < 1 or value & (value - 1) or value > LARGEST_ALIGNMENT:
        raise _Bad(f"has a general.alignment of {value}, which is no small power of two")
    return value


def _tensors(file: _File, count: int, alignment: int) -> list[Tensor]:
    """llama.cpp wants them without gaps, in the order of their names; so none can overlap."""
    found = []
    seen: set[str] = set()
    for n in range(count):
        name = _name(file, NAME_BYTES, f"tensor {n + 1}")
        if name in seen:
            raise _Bad(f"has the tensor {name} twice")
        seen.add(name)
        dimensions = file.u32(name)
        if not 1 <= dimensions <= 4:
            raise _Bad(f"has {dimensions} dimensions in {name}")
        shape = struct.unpack(f"<{dimensions}Q", file.take(8 * dimensions, name))
        number, offset = file.u32(name), file.u64(name)
        if number not in _TYPES:
            raise _Bad(f"has weights of the unknown type {number} in {name}")
        kind, per_block, block_bytes = _TYPES[number]
        weights = math.prod(shape)
        if not 0 < weights < 2**63:
            raise _Bad(f"has an impossible shape in {name}")
        if shape[0] % per_block:
            raise _Bad(f"has rows in {name} that are no whole blocks of {kind}")
        found.append(Tensor(name, shape, kind, offset, weights // per_block * block_bytes))
    data = _padded(file.at, alignment)
    expected = 0
    placed = []
    for tensor in found:
        if tensor.offset % alignment:
            raise _Bad(f"has {tensor.name} where its alignment of {alignment} does not allow it")
        if tensor.offset != expected:
            fault = "inside another tensor" if tensor.offset < expected else "behind a gap"
            raise _Bad(f"has {tensor.name} {fault}")
        begin = data + tensor.offset
        if begin + tensor.nbytes > file.size:
            raise _Bad(f"ends before the weights of {tensor.name} do")
        expected += _padded(tensor.nbytes, alignment)
        placed.append(Tensor(tensor.name, tensor.shape, tensor.type, begin, tensor.nbytes))
    return placed


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _purpose(scalars: dict[str, Scalar]) -> tuple[str, Kind]:
    architecture = scalars.get("general.architecture")
    if not isinstance(architecture, str) or not _ARCHITECTURE.fullmatch(architecture):
        raise _Bad("does not say its general.architecture as a short name")
    kind = scalars.get("general.type", "model")
    if kind == "model":
        return architecture, "model"
    if kind == "adapter":
        return architecture, "adapter"
    raise _Bad("is neither a model nor an adapter by its general.type")


def _check_model(header: Header) -> None:
    for name, most in (
        ("block_count", LAYERS),
        ("context_length", 2**31 - 1),
        ("embedding_length", 2**20),
    ):
        key = f"{header.architecture}.{name}"
        if key not in header.scalars:
            raise _Bad(f"lacks the key {key}")
        value = header.scalars[key]
        if type(value) is not int or not 1 <= value <= most:
            raise _Bad(f"has a value under {key} that is no number from 1 to {most}")
    # a file in parts makes llama.cpp open neighbours that nobody has checked
    if header.scalars.get("split.count", 1) not in (0, 1):
        raise _Bad("is one of several parts, which must be merged with llama-gguf-split")
    if not header.tensors:
        raise _Bad("has no weights")
    if (tokens := header.arrays.get("tokenizer.ggml.tokens")) is not None:
        if tokens[0] != "str" or not 0 < tokens[1] < 2**31:
            raise _Bad("has a vocabulary that is no list of texts")
        for name, kind in (("scores", "f32"), ("token_type", "i32")):
            key = f"tokenizer.ggml.{name}"
            if key in header.scalars or header.arrays.get(key, (kind, tokens[1])) != (
                kind,
                tokens[1],
            ):
                raise _Bad(f"does not have one {kind} for each of its tokens under {key}")


def _check_adapter(header: Header) -> None:
    if header.scalars.get("adapter.type") != "lora":
        raise _Bad("is an adapter whose adapter.type is not lora")
    alpha = header.scalars.get("adapter.lora.alpha")
    if type(alpha) is not float or not math.isfinite(alpha) or alpha <= 0:
        raise _Bad("is an adapter without a positive adapter.lora.alpha")
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    if not shapes:
        raise _Bad("has no weights")
    for name, shape in shapes.items():
        if name.endswith("_norm.weight"):
            continue
        base, _, side = name.rpartition(".")
        other = {"lora_a": "lora_b", "lora_b": "lora_a"}.get(side)
        if other is None or not base:
            raise _Bad(f"has the tensor {name}, which is no half of an adapter")
        if f"{base}.{other}" not in shapes:
            raise _Bad(f"has {name} without {base}.{other}")
        if len(shape) != 2:
            raise _Bad(f"has {len(shape)} dimensions in {name}, and an adapter has 2")
