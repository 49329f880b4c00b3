"""A file's bytes, copied once from its source: what is hashed is what is parsed."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from appliance.errors import TooLarge
from appliance.ingest.throttle import BLOCK, Throttle
from appliance.types import RawFile


def fetch(
    file: RawFile, copy: BinaryIO, limit: int, throttle: Throttle | None = None
) -> tuple[int, str]:
    """Returns size and digest. Raises TooLarge, Stopped, and what the source raises."""
    size, digest = 0, hashlib.sha256()
    with file.open() as stream:
        while block := stream.read(throttle.block if throttle else BLOCK):
            if throttle:
                throttle.passed(len(block))
            size += len(block)
            if size > limit:
                raise too_large(limit)
            digest.update(block)
            copy.write(block)
    copy.flush()
    return size, digest.hexdigest()


def reopen(copy: BinaryIO) -> BinaryIO:
    return open(f"/proc/self/fd/{copy.fileno()}", "rb")  # noqa: PTH123  not a path


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"ファイルが大きすぎます（上限 {limit // 1_000_000} MB）。")
