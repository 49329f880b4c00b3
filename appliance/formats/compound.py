"""Compound files (OLE2): the folders of streams in which Office saved until 2007."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

import olefile

from appliance.errors import TooLarge, Unreadable
from appliance.formats import charset

_STREAM_BYTES = 300_000_000
_CODEPAGE, _TITLE = 1, 2  # of the summary's properties ([MS-OLEPS])


class Compound:
    """The streams of a compound file. Raises Unreadable and TooLarge."""

    def __init__(self, stream: BinaryIO) -> None:
        try:
            self._file: Any = olefile.OleFileIO(io.BytesIO(stream.read()))
        except (OSError, ValueError, IndexError, struct.error, AttributeError, TypeError) as error:
            raise Unreadable(f"ファイルが壊れています ({error})") from None

    @property
    def names(self) -> list[str]:
        return ["/".join(path) for path in self._file.listdir()]

    def has(self, name: str) -> bool:
        return bool(self._file.exists(name))

    def read(self, name: str) -> bytes:
        try:
            if not self.has(name):
                raise Unreadable(f"部品 {name} がありません")
            if self._file.get_size(name) > _STREAM_BYTES:
                raise TooLarge(f"部品 {name} が大きすぎます")
            return bytes(self._file.openstream(name).read())
        except (OSError, ValueError, IndexError, struct.error, TypeError) as error:
            raise Unreadable(f"部品 {name} が壊れています ({error})") from None

    def title(self) -> str | None:
        if not self.has("\x05SummaryInformation"):
            return None
        try:
            found = self._file.getproperties("\x05SummaryInformation")
        except (OSError, ValueError, IndexError, struct.error, TypeError, KeyError):
            return None  # a title is not worth a document
        title = found.get(_TITLE)
        if isinstance(title, bytes):
            page = int(found.get(_CODEPAGE) or 1252) & 0xFFFF
            title = title.decode(charset.known(f"cp{page}", "cp932"), "replace")
        return str(title).strip("\x00 ") or None if title else None


def shorts(data: bytes, at: int, count: int = 1) -> tuple[int, ...]:
    """Little-endian numbers of 16 bits; struct.error where the data ends."""
    return struct.unpack_from(f"<{count}H", data, at)


def longs(data: bytes, at: int, count: int = 1) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}I", data, at)
