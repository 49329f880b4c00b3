"""Files harmed at random, the same for the same seed: what fuzz.py puts through the sandbox."""

from __future__ import annotations

import io
import random
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_NUMBER = re.compile(rb"\d{1,10}")
_LARGEST = 2_000_000
_STAMP = (2026, 4, 1, 0, 0, 0)

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], bytes | bytearray]


def mutated(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """`data` harmed once or a few times; `others` give what is spliced in."""
    out: bytes | bytearray = data
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        # most harm to a zip's own bytes only meets its checksums
        inside = out[:2] == b"PK" and rng.random() < 0.6
        how = _edited_member if inside else rng.choice(MUTATIONS)
        if out:
            out = how(bytearray(out), rng, others)
    return bytes(out[:_LARGEST])


def _flipped(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _random_bytes(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    at = rng.randrange(len(data))
    data[at : at + rng.randrange(1, 32)] = rng.randbytes(rng.randrange(1, 32))
    return data


def _cut(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    return data[: rng.randrange(len(data))]


def _holed(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, max(2, len(data) // 8))]
    return data


def _doubled(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    at = rng.randrange(len(data))
    chunk = data[at : at + rng.randrange(1, max(2, len(data) // 8))]
    data[at:at] = chunk * rng.choice((1, 1, 3, 20))
    return data


def _moved(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    at, to = rng.randrange(len(data)), rng.randrange(len(data))
    size = rng.randrange(1, 512)
    data[to : to + size] = data[at : at + size]
    return data


def _spliced(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    other = rng.choice(others)
    start, at = rng.randrange(len(other)), rng.randrange(len(data))
    data[at : at + rng.randrange(64)] = other[start : start + rng.randrange(1, 4096)]
    return data


def _lying_length(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytearray:
    """Two, four or eight bytes that might be a length say something extreme."""
    for _ in range(rng.choice((1, 2, 5))):
        width = rng.choice((1, 2, 4, 8))
        value = rng.choice(_EXTREMES) % (1 << 8 * width)
        # headers lie at the beginning, and in zips at the end
        near = min(len(data), rng.choice((64, 1024, len(data))))
        at = rng.randrange(near) if rng.random() < 0.7 else len(data) - 1 - rng.randrange(near)
        data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return data


def _lying_number(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """A number written in digits becomes another."""
    for _ in range(rng.choice((1, 3))):
        found = _NUMBER.search(data, rng.randrange(len(data))) or _NUMBER.search(data)
        if not found:
            break
        value = rng.choice((0, -1, 1, 2**31 - 1, 2**31, 2**32, 2**63, 10**18, rng.randrange(1000)))
        start, end = found.span()
        del found  # it holds the bytes as they are
        data[start:end] = str(value).encode()
    return bytes(data)


def _edited_member(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """A zip whose member is harmed and packed again: past the checksums, into the parsers."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            small = [i for i in old.infolist() if 0 < i.file_size <= _LARGEST]
            parts = {i.filename: old.read(i) for i in small if i.filename}
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, NotImplementedError, RuntimeError,
            zlib.error, EOFError, MemoryError):  # fmt: skip
        return bytes(_flipped(data, rng, others))
    if not parts:
        return data
    for name in rng.sample(sorted(parts), min(len(parts), rng.choice((1, 1, 3)))):
        if parts[name]:
            parts[name] = bytes(rng.choice(_WITHIN)(bytearray(parts[name]), rng, others))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in parts.items():
            info = zipfile.ZipInfo(name, _STAMP)
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, content, compresslevel=1)
    return out.getvalue()


_WITHIN: tuple[Mutation, ...] = (
    _flipped, _random_bytes, _cut, _holed, _doubled, _moved, _spliced, _lying_number,
)  # fmt: skip
MUTATIONS: tuple[Mutation, ...] = (*_WITHIN, _lying_length, _edited_member)
