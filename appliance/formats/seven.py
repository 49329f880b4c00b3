"""Archives of 7-Zip (.7z), after the format's own description: LZMA, Deflate, BZip2 and stored.

Files lie one behind the other in a few packed streams, which are unpacked from their beginning.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, BinaryIO

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from appliance.formats import archive
from appliance.formats.archive import Member
from appliance.types import Document

_AES, _COPY, _DELTA, _LZMA2 = b"\x06\xf1\x07\x01", b"\x00", b"\x03", b"\x21"
_LZMA, _DEFLATE, _BZIP2 = b"\x03\x01\x01", b"\x04\x01\x08", b"\x04\x02\x02"
_X86 = (b"\x03\x03\x01\x03", b"\x04")
_END, _HEADER, _MAIN, _FILES, _PACK, _UNPACK, _PARTS = 0, 1, 4, 5, 6, 7, 8
_SIZE, _CRC, _FOLDER, _SIZES, _COUNT = 9, 10, 11, 12, 13
_EMPTY_STREAM, _NAMES, _TIMES, _ENCODED = 14, 17, 20, 23
_HEAD = 32
_HEADER_BYTES = 50_000_000
_ENCODED_AGAIN = 4  # times a header may be packed
_MOST = 100_000  # of anything that is counted
_BLOCK = 1 << 16
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


@dataclass
class _Folder:
    """A packed stream, what it was packed with, and how large the files in it are."""

    coders: list[tuple[bytes, bytes]]  # id and properties, in the order of unpacking
    order: list[int]  # their numbers in the header
    at: int = 0
    packed: int = 0
    parts: list[int] = field(default_factory=list)
    digests: list[int | None] = field(default_factory=list)  # of each


def parse(stream: BinaryIO) -> Document:
    try:
        folders, files = _contents(stream)
    except (IndexError, StopIteration, struct.error, EOFError, ValueError, lzma.LZMAError) as error:
        raise Unreadable(f"圧縮ファイルが壊れています ({error})") from None
    if folders and all(_is_locked(folder) for folder in folders):
        raise PasswordNeeded("パスワードが必要です")
    return archive.document(_members(stream, folders, files))


def _members(
    stream: BinaryIO, folders: Sequence[_Folder], files: Sequence[tuple[str, datetime | None]]
) -> Iterator[Member]:
    waiting = iter(files)
    for folder in folders:
        unpacked = _Unpacked(stream, folder)
        at = 0
        for size, digest in zip(folder.parts, folder.digests, strict=True):
            name, modified_at = next(waiting)
            yield Member(
                archive.shown(name), size, modified_at, partial(unpacked.read, at, size, digest)
            )
            at += size


class _Unpacked:
    """A folder's bytes, from its beginning to its end."""

    def __init__(self, stream: BinaryIO, folder: _Folder) -> None:
        self._stream, self._folder = stream, folder
        self._bytes: Iterator[bytes] | None = None
        self._at, self._left = 0, b""

    def read(self, at: int, size: int, digest: int | None, most: int) -> bytes:
        """[at, at + size), cut after `most`; each reading begins behind the last."""
        if self._bytes is None:
            self._bytes = _unpack(self._stream, self._folder)
        self._skip(at - self._at)
        out = bytearray()
        while len(out) < min(size, most):
            out += self._take(min(size, most) - len(out))
        if digest is not None and size <= most and zlib.crc32(out) != digest:
            raise EOFError("the checksum is another")
        return bytes(out)

    def _skip(self, count: int) -> None:
        while count > 0:
            count -= len(self._take(count))

    def _take(self, count: int) -> bytes:
        assert self._bytes is not None
        if not self._left:
            self._left = next(self._bytes, b"")
            if not self._left:
                raise EOFError("the packed stream ends too soon")
        taken, self._left = self._left[:count], self._left[count:]
        self._at += len(taken)
        return taken


def _unpack(stream: BinaryIO, folder: _Folder) -> Iterator[bytes]:
    blocks = _read(stream, folder.at, folder.packed)
    if _is_locked(folder):
        raise PasswordNeeded("パスワードが必要です")
    filters: list[dict[str, Any]] = []
    for coder, properties in folder.coders:
        if coder in (_LZMA, _LZMA2, _DELTA, *_X86):
            filters.insert(0, _filter(coder, properties))
        elif coder != _COPY and len(folder.coders) > 1:
            raise _unknown(coder)
    if filters:
        if filters[-1]["id"] not in (lzma.FILTER_LZMA1, lzma.FILTER_LZMA2):
            raise _unknown(folder.coders[0][0])
        return _bounded(lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters), blocks)
    match folder.coders[0][0] if folder.coders else _COPY:
        case b"\x00":
            return blocks
        case b"\x04\x02\x02":
            return _bounded(bz2.BZ2Decompressor(), blocks)
        case b"\x04\x01\x08":
            return _inflated(blocks)
        case other:
            raise _unknown(other)


def _bounded(unpacker: Any, blocks: Iterator[bytes]) -> Iterator[bytes]:
    while not unpacker.eof:
        data = next(blocks, b"") if unpacker.needs_input else b""
        out = unpacker.decompress(data, _BLOCK)
        if out:
            yield out
        elif not data and unpacker.needs_input:
            return


def _inflated(blocks: Iterator[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(-15)
    for data in blocks:
        while data:
            if out := unpacker.decompress(data, _BLOCK):
                yield out
            data = unpacker.unconsumed_tail
    yield unpacker.flush()


def _read(stream: BinaryIO, at: int, size: int) -> Iterator[bytes]:
    while size > 0:
        stream.seek(at)
        data = stream.read(min(size, _BLOCK))
        if not data:
            return
        yield data
        at, size = at + len(data), size - len(data)


def _filter(coder: bytes, properties: bytes) -> dict[str, Any]:
    if coder == _LZMA:
        position, rest = divmod(properties[0], 45)
        literal_position, literal_context = divmod(rest, 9)
        (dictionary,) = struct.unpack_from("<I", properties, 1)
        return {
            "id": lzma.FILTER_LZMA1,
            "dict_size": max(dictionary, 4096),
            "lc": literal_context,
            "lp": literal_position,
            "pb": position,
        }
    if coder == _LZMA2:
        bits = properties[0]
        if bits > 40:
            raise ValueError("a dictionary too large")
        size = 0xFFFFFFFF if bits == 40 else (2 | bits & 1) << bits // 2 + 11
        return {"id": lzma.FILTER_LZMA2, "dict_size": max(size, 4096)}
    if coder == _DELTA:
        return {"id": lzma.FILTER_DELTA, "dist": properties[0] + 1}
    return {"id": lzma.FILTER_X86}


def _is_locked(folder: _Folder) -> bool:
    return any(coder == _AES for coder, _ in folder.coders)


def _unknown(coder: bytes) -> Unreadable:
    return Unreadable(
        f"この圧縮方式の 7z には対応していません ({coder.hex()})。zip で圧縮し直してください"
    )


# --- the header -------------------------------------------------------------------


def _contents(stream: BinaryIO) -> tuple[list[_Folder], list[tuple[str, datetime | None]]]:
    """The packed streams, and the names and dates of the files in them, in one order."""
    head = stream.read(_HEAD)
    offset, size, checksum = struct.unpack_from("<QQI", head, 12)
    if not size:
        return [], []
    if size > _HEADER_BYTES:
        raise TooLarge("圧縮ファイルの目次が大きすぎます")
    data = b"".join(_read(stream, _HEAD + offset, size))
    if len(data) != size or zlib.crc32(data) != checksum:
        raise ValueError("the header is torn")
    for _ in range(_ENCODED_AGAIN):
        if data[:1] != bytes([_ENCODED]):
            break
        (folder,) = _streams(_Reader(data[1:]))
        (size,) = folder.parts
        if size > _HEADER_BYTES:
            raise TooLarge("圧縮ファイルの目次が大きすぎます")
        data = _Unpacked(stream, folder).read(0, size, folder.digests[0], size)
    reader = _Reader(data)
    folders, files = list[_Folder](), list[tuple[str, datetime | None]]()
    if reader.byte() != _HEADER:
        raise ValueError("no header")
    while (kind := reader.byte()) != _END:
        if kind == _MAIN:
            folders = _streams(reader)
        elif kind == _FILES:
            files = _files(reader)
        else:
            raise ValueError(f"property {kind}")
    if len(files) != sum(len(folder.parts) for folder in folders):
        raise ValueError("files without a stream")
    return folders, files


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def take(self, count: int) -> bytes:
        data = self._data.read(count)
        if len(data) != count:
            raise EOFError("the header ends too soon")
        return data

    def rest(self) -> bytes:
        return self._data.read()

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """As many more bytes as the first one has leading ones."""
        first = self.byte()
        more = 8 - (~first & 0xFF).bit_length()
        low = int.from_bytes(self.take(more), "little")
        return low | (first & (0x7F >> more)) << 8 * more

    def count(self) -> int:
        if (found := self.number()) > _MOST:
            raise TooLarge("圧縮ファイルのファイルが多すぎます")
        return found

    def bits(self, count: int) -> list[bool]:
        data = self.take((count + 7) // 8)
        return [bool(data[n // 8] & 0x80 >> n % 8) for n in range(count)]

    def defined(self, count: int) -> list[bool]:
        return [True] * count if self.byte() else self.bits(count)

    def digests(self, count: int) -> list[int | None]:
        known = self.defined(count)
        return [int.from_bytes(self.take(4), "little") if there else None for there in known]


def _streams(reader: _Reader) -> list[_Folder]:
    folders: list[_Folder] = []
    packed: list[int] = []
    start = 0
    while (kind := reader.byte()) != _END:
        if kind == _PACK:
            start, count = reader.number(), reader.count()
            while (part := reader.byte()) != _END:
                if part == _SIZE:
                    packed = [reader.number() for _ in range(count)]
                elif part == _CRC:
                    reader.digests(count)
        elif kind == _UNPACK:
            folders = _folders(reader)
        elif kind == _PARTS:
            _parts(reader, folders)
        else:
            raise ValueError(f"property {kind}")
    if len(packed) != len(folders):
        raise Unreadable("この圧縮方式の 7z には対応していません。zip で圧縮し直してください")
    at = _HEAD + start
    for folder, size in zip(folders, packed, strict=True):
        folder.at, folder.packed = at, size
        at += size
    return folders


def _folders(reader: _Reader) -> list[_Folder]:
    folders: list[_Folder] = []
    while (kind := reader.byte()) != _END:
        if kind == _FOLDER:
            count = reader.count()
            if reader.byte():
                raise ValueError("an external header")
            folders = [_folder(reader) for _ in range(count)]
        elif kind == _SIZES:
            for folder in folders:
                sizes = [reader.number() for _ in folder.coders]
                folder.parts, folder.digests = [sizes[folder.order[-1]]], [None]
        elif kind == _CRC:
            for folder, digest in zip(folders, reader.digests(len(folders)), strict=True):
                folder.digests = [digest]
        else:
            raise ValueError(f"property {kind}")
    return folders


def _folder(reader: _Reader) -> _Folder:
    coders: list[tuple[bytes, bytes]] = []
    for _ in range(reader.count()):
        flags = reader.byte()
        coder = reader.take(flags & 15)
        if flags & 0x10 and (reader.number(), reader.number()) != (1, 1):
            raise _unknown(coder)
        coders.append((coder, reader.take(reader.count()) if flags & 0x20 else b""))
    fed = {out: into for into, out in ((reader.count(), reader.count()) for _ in coders[1:])}
    order = [next(n for n in range(len(coders)) if n not in fed.values())]
    while order[-1] in fed and len(order) < len(coders):
        order.append(fed[order[-1]])
    return _Folder([coders[n] for n in order], order)


def _parts(reader: _Reader, folders: Sequence[_Folder]) -> None:
    counts = [1] * len(folders)
    kind = reader.byte()
    if kind == _COUNT:
        counts = [reader.count() for _ in folders]
        kind = reader.byte()
    for folder, count in zip(folders, counts, strict=True):
        sizes = [reader.number() for _ in range(count - 1)] if kind == _SIZE else []
        last = folder.parts[-1] - sum(sizes)
        if last < 0 or (count > 1 and kind != _SIZE):
            raise ValueError("files larger than their stream")
        folder.parts = [*sizes, last] if count else []
        folder.digests = folder.digests if count == 1 else [None] * count
    if kind == _SIZE:
        kind = reader.byte()
    while kind != _END:
        if kind != _CRC:
            raise ValueError(f"property {kind}")
        unknown = [folder for folder in folders if None in folder.digests]
        digests = iter(reader.digests(sum(len(folder.digests) for folder in unknown)))
        for folder in unknown:
            folder.digests = [next(digests) for _ in folder.digests]
        kind = reader.byte()


def _files(reader: _Reader) -> list[tuple[str, datetime | None]]:
    """Those that have a stream: folders and empty files have none."""
    count = reader.count()
    names, empty = [""] * count, [False] * count
    dates: list[datetime | None] = [None] * count
    while (kind := reader.byte()) != _END:
        own = _Reader(reader.take(reader.number()))
        if kind == _EMPTY_STREAM:
            empty = own.bits(count)
        elif kind == _NAMES and not own.byte():
            names = own.rest().decode("utf-16-le", "replace").split("\0")[:count]
        elif kind == _TIMES:
            known = own.defined(count)
            if not own.byte():
                dates = [_date(own.take(8)) if there else None for there in known]
    if len(names) != count:
        raise ValueError("files without a name")
    return [(n, d) for n, d, none in zip(names, dates, empty, strict=True) if not none]


def _date(data: bytes) -> datetime | None:
    """In 100 ns since 1601."""
    try:
        return _EPOCH + timedelta(microseconds=int.from_bytes(data, "little") // 10)
    except OverflowError:
        return None
