"""Archives of LHA (.lzh): stored, and what LHA 2 and its successors pack (-lh4- to -lh7-).

A window that slides over what was unpacked, and two static Huffman codes of each block. Files are
packed one by one, so one that is torn costs no other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import BinaryIO

from appliance.errors import TooLarge, Unreadable
from appliance.formats import archive, attached, charset
from appliance.formats.archive import Member
from appliance.formats.package import is_bomb
from appliance.types import Document

_STORED = (b"-lh0-", b"-lz4-")
_FOLDER = b"-lhd-"
# the window's size as a power of two; how many bits say how many lengths the code of distances has
_WINDOWS = {b"-lh4-": (12, 4), b"-lh5-": (13, 4), b"-lh6-": (15, 5), b"-lh7-": (16, 5)}
_CODES, _CODE_BITS = 510, 9  # 256 letters, and 254 lengths from 3 to 256
_LENGTHS, _LENGTH_BITS = 19, 5  # of the code in which the first one is written
_LONGEST = 16  # bits of a code
_HEADER_BYTES = 1_000_000


@dataclass
class _Header:
    method: bytes
    packed: int
    size: int
    crc: int
    name: bytes
    modified_at: datetime | None
    at: int = 0  # where its packed bytes begin
    folder: bytes = b""
    wide: str = ""  # its name in UTF-16, and its folder's, where they were written
    wide_folder: str = ""

    def path(self) -> str:
        if self.wide:
            return archive.shown(f"{self.wide_folder}/{self.wide}")
        try:
            return archive.shown(charset.decode(self.folder + b"/" + self.name).text)
        except Unreadable:
            return archive.shown((self.folder + b"/" + self.name).decode("cp932", "replace"))


def parse(stream: BinaryIO) -> Document:
    return archive.document(_members(stream))


def _members(stream: BinaryIO) -> Iterator[Member]:
    at = 0
    while header := _header(stream, at):
        if header.method != _FOLDER:
            read = partial(_read, stream, header)
            yield Member(header.path(), header.size, header.modified_at, read)
        at = header.at + header.packed


def _read(stream: BinaryIO, header: _Header, most: int) -> bytes:
    if header.method not in (*_STORED, *_WINDOWS):
        raise Unreadable(
            f"この圧縮方式の lzh には対応していません ({header.method.decode('ascii', 'replace')})。"
            "zip で圧縮し直してください"
        )
    if is_bomb(header.size, header.packed):
        raise TooLarge("圧縮率が異常です")
    if header.size >= most:  # as declared; nothing is unpacked for it
        raise TooLarge("展開後の大きさが上限を超えています")
    stream.seek(header.at)
    data = stream.read(header.packed)
    if header.method in _STORED:
        out = data[: header.size]
    else:
        out = _unpacked(data, header.size, *_WINDOWS[header.method])
    if len(out) != header.size or len(data) != header.packed:
        raise EOFError("the packed bytes end too soon")
    if _crc(out) != header.crc:
        raise EOFError("the checksum is another")
    return out


# --- headers ----------------------------------------------------------------------


def _header(stream: BinaryIO, at: int) -> _Header | None:
    """The one at `at`, None where the archive ends. Raises EOFError, ValueError."""
    stream.seek(at)
    if at and stream.read(1) in (b"", b"\0"):
        return None
    stream.seek(at)
    head = _take(stream, 21)
    method, packed, size, when, _, level = struct.unpack_from("<5sIIIBB", head, 2)
    if level in (0, 1):
        head += _take(stream, max(3, head[0] - 19))
        (crc,) = struct.unpack_from("<H", head.ljust(280, b"\0"), 22 + head[21])
        if sum(head[2:]) & 0xFF != head[1] or len(head) < 24 + head[21]:
            raise ValueError("the checksum of a header is another")
        found = _Header(method, packed, size, crc, head[22 : 22 + head[21]], _dos_date(when))
        if level:  # what follows counts as packed
            found.packed -= _extensions(stream, found, int.from_bytes(head[-2:], "little"))
        found.at = stream.tell()
    elif level == 2:
        head += _take(stream, 5)
        crc, _, first = struct.unpack_from("<HBH", head, 21)
        found = _Header(method, packed, size, crc, b"", datetime.fromtimestamp(when, UTC))
        _extensions(stream, found, first)
        found.at = max(at + int.from_bytes(head[:2], "little"), stream.tell())
    else:
        raise ValueError(f"a header of level {level}")
    if found.packed < 0:
        raise ValueError("a header longer than its file")
    return found


def _extensions(stream: BinaryIO, found: _Header, size: int) -> int:
    """Reads what follows a header, each part with the length of the next; how long it was."""
    read = 0
    while size:
        read += size
        if size < 3 or read > _HEADER_BYTES:
            raise ValueError("a header of an impossible length")
        part = _take(stream, size)
        kind, said, size = part[0], part[1:-2], int.from_bytes(part[-2:], "little")
        if kind == 0x01:
            found.name = said
        elif kind == 0x02:
            found.folder = said.replace(b"\xff", b"/")  # no letter of CP932 holds one
        elif kind == 0x44:
            found.wide = said.decode("utf-16-le", "replace")
        elif kind == 0x45:
            found.wide_folder = said.decode("utf-16-le", "replace").replace("\uffff", "/")
    return read


def _take(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError("a header ends too soon")
    return data


def _dos_date(when: int) -> datetime | None:
    """The clock on the wall where it was packed."""
    day, time = when >> 16, when & 0xFFFF
    date = (1980 + (day >> 9), day >> 5 & 15, day & 31)
    with suppress(ValueError):
        return datetime(*date, time >> 11, time >> 5 & 63, 2 * (time & 31), tzinfo=attached.JAPAN)
    return None


# --- unpacking --------------------------------------------------------------------


class _Bits:
    """Bits from the highest on. Past the end come noughts, and a little later EOFError."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._held, self._count = 0, 0

    def peek(self, count: int) -> int:
        while self._count < count:
            if self._at > len(self._data) + 8:
                raise EOFError("the packed bytes end too soon")
            block = self._data[self._at : self._at + 8]
            self._held = (self._held << 64) | int.from_bytes(block.ljust(8, b"\0"), "big")
            self._at, self._count = self._at + 8, self._count + 64
        return self._held >> self._count - count

    def drop(self, count: int) -> None:
        self._count -= count
        self._held &= (1 << self._count) - 1

    def take(self, count: int) -> int:
        if not count:
            return 0
        found = self.peek(count)
        self.drop(count)
        return found


class _Code:
    """A canonical Huffman code: what the next bits mean, by a table of all that can come."""

    def __init__(self, lengths: Sequence[int], only: int | None = None) -> None:
        self._bits = max(lengths, default=0)
        if only is not None:  # one sign, which takes no bit
            self._table, self._bits = [only << 5], 0
            return
        self._table = []
        for length in range(1, self._bits + 1):
            span = 1 << self._bits - length
            for sign, own in enumerate(lengths):
                if own == length:
                    self._table += [sign << 5 | length] * span
        if not self._bits or len(self._table) != 1 << self._bits:
            raise ValueError("a code that is none")

    def take(self, bits: _Bits) -> int:
        found = self._table[bits.peek(self._bits) if self._bits else 0]
        bits.drop(found & 31)
        return found >> 5


def _unpacked(data: bytes, size: int, window: int, count_bits: int) -> bytes:
    bits = _Bits(data)
    start = 1 << window
    out = bytearray(b" " * start)  # what a distance may reach before the first letter
    end = start + size
    left = 0
    while len(out) < end:
        if not left:
            left = bits.take(16)
            lengths = _few(bits, _LENGTHS, _LENGTH_BITS, special=True)
            codes = _many(bits, lengths)
            distances = _few(bits, window + 1, count_bits)
            if not left:
                raise ValueError("an empty block")
        left -= 1
        sign = codes.take(bits)
        if sign < 256:
            out.append(sign)
            continue
        length, power = sign - 253, distances.take(bits)
        distance = 1 + (power and (1 << power - 1) + bits.take(power - 1))
        begin = len(out) - distance
        if begin < len(out) - start:
            raise ValueError("a distance beyond the window")
        piece = out[begin : begin + length]
        while len(piece) < length:  # it reaches into what it writes
            piece += piece[: length - len(piece)]
        out += piece
    del out[end:], out[:start]
    return bytes(out)


def _few(bits: _Bits, most: int, count_bits: int, special: bool = False) -> _Code:
    """A code whose lengths are written as they are; `special`: noughts may follow the third."""

    def lengths(so_far: int) -> list[int]:
        length = bits.take(3)
        while length >= 7 and bits.take(1):
            length += 1
        return [length] + [0] * (bits.take(2) if special and so_far == 2 else 0)

    return _code(bits, most, count_bits, lengths)


def _many(bits: _Bits, written: _Code) -> _Code:
    """The code of letters and lengths, its own lengths written in another."""

    def lengths(so_far: int) -> list[int]:
        match written.take(bits):
            case 0:
                return [0]
            case 1:
                return [0] * (bits.take(4) + 3)
            case 2:
                return [0] * (bits.take(_CODE_BITS) + 20)
            case sign:
                return [sign - 2]

    return _code(bits, _CODES, _CODE_BITS, lengths)


def _code(bits: _Bits, most: int, count_bits: int, more: Callable[[int], list[int]]) -> _Code:
    count = bits.take(count_bits)
    if not count:
        return _Code((), only=bits.take(count_bits))
    lengths: list[int] = []
    while len(lengths) < count:
        lengths += more(len(lengths))
    if len(lengths) > most or max(lengths) > _LONGEST:
        raise ValueError("a code that is none")
    return _Code(lengths)


def _crc(data: bytes) -> int:
    """CRC-16, two bytes at a time."""
    table, crc = _crc_table(), 0
    for (pair,) in struct.iter_unpack("<H", data[: len(data) & ~1]):
        crc = table[crc ^ pair]
    if len(data) & 1:  # a nought before the last one, taken out again
        crc = table[(crc ^ data[-1]) << 8 & 0xFFFF] ^ crc >> 8
    return crc


@cache
def _crc_table() -> list[int]:
    table = list(range(1 << 16))
    for _ in range(16):
        table = [crc >> 1 ^ (0xA001 if crc & 1 else 0) for crc in table]
    return table
