"""Compound files (OLE2): the folders of streams in which Office saved until 2007."""

from __future__ import annotations

import io
import struct
from functools import cached_property
from typing import Any, BinaryIO

import olefile

from appliance.errors import TooLarge, Unreadable
from appliance.formats import charset

_STREAM_BYTES = 300_000_000
_SECTORS = (b"\x09\0\x06\0", b"\x0c\0\x06\0")  # 512 or 4096 bytes, and 64 ([MS-CFB] 2.2)
_DEPTH = 100  # folders in one another
_CODEPAGE, _TITLE = 1, 2  # of the summary's properties ([MS-OLEPS])
_SHORT, _LETTERS, _WIDE = 2, 30, 31  # what they are
_PROPERTIES = 1000


class Compound:
    """The streams of a compound file. Raises Unreadable and TooLarge."""

    def __init__(self, stream: BinaryIO) -> None:
        data = stream.read()
        if data[30:34] not in _SECTORS:  # read in blocks of that size, however large
            raise Unreadable("ファイルが壊れています (ブロックの大きさが正しくありません)")
        try:
            self._file: Any = olefile.OleFileIO(io.BytesIO(data))
            # it holds the short streams, and that list their blocks: no more than the file, though
            # a ring of blocks has no end
            self._file.root.size = min(self._file.root.size, len(data))
            blocks = len(data) // self._file.sector_size
            self._file.num_mini_fat_sectors = min(self._file.num_mini_fat_sectors, blocks)
        except (OSError, ValueError, IndexError, struct.error, AttributeError, TypeError) as error:
            raise Unreadable(f"ファイルが壊れています ({error})") from None
        except RecursionError:
            raise Unreadable("ファイルが壊れています (フォルダーの入れ子が深すぎます)") from None

    @cached_property
    def names(self) -> list[str]:
        """Of all streams. A folder that lies in itself, or in two others, is looked through once."""
        found: list[str] = []
        seen: set[int] = set()
        waiting = [(self._file.root, "", 0)]
        while waiting:
            folder, path, depth = waiting.pop()
            if folder.sid in seen or depth > _DEPTH:
                continue
            seen.add(folder.sid)
            for entry in folder.kids:
                if entry.entry_type == olefile.STGTY_STREAM:
                    found.append(path + entry.name)
                elif entry.entry_type == olefile.STGTY_STORAGE:
                    waiting.append((entry, f"{path}{entry.name}/", depth + 1))
        return found

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
            found = _summary(self.read("\x05SummaryInformation"))
        except (Unreadable, TooLarge, struct.error):
            return None  # a title is not worth a document
        title = found.get(_TITLE)
        if isinstance(title, bytes):
            page = int(found.get(_CODEPAGE) or 1252) & 0xFFFF
            title = title.decode(charset.known(f"cp{page}", "cp932"), "replace")
        return str(title).replace("\0", "").strip() or None if title else None


def _summary(data: bytes) -> dict[int, int | bytes | str]:
    """Its code page and title. The rest stays unread: a list in it may say that it has a thousand
    million members. Raises struct.error."""
    (start,) = longs(data, 44)
    _, count = longs(data, start, 2)
    found: dict[int, int | bytes | str] = {}
    for n in range(min(count, _PROPERTIES)):
        number, at = longs(data, start + 8 + 8 * n, 2)
        if number not in (_CODEPAGE, _TITLE):
            continue
        kind = longs(data, start + at)[0] & 0xFFFF
        at += start + 4
        if kind == _SHORT:
            found[number] = shorts(data, at)[0]
        elif kind in (_LETTERS, _WIDE):
            size = longs(data, at)[0] * (2 if kind == _WIDE else 1)
            said = data[at + 4 : at + 4 + size]
            found[number] = said.decode("utf-16-le", "replace") if kind == _WIDE else said
    return found


def shorts(data: bytes, at: int, count: int = 1) -> tuple[int, ...]:
    """Little-endian numbers of 16 bits; struct.error where the data ends."""
    return struct.unpack_from(f"<{count}H", data, at)


def longs(data: bytes, at: int, count: int = 1) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}I", data, at)
