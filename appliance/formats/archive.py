"""Archives (.zip, .tar, .gz): every file in them a document of its own, whatever format it is in.

Nothing is written anywhere, so a name leads nowhere: it is only shown. What is declared is checked
before unpacking, what comes while it does.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from appliance.formats import attached, charset, kinds
from appliance.formats.package import is_bomb, open_zip
from appliance.types import Child, Document

_MEMBERS = 2_000
_MEMBER_BYTES = 100_000_000
_TOTAL_BYTES = 500_000_000
_NAME_CHARS = 200
_BLOCK = 512  # of a tar
_ASIDE = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")
_LOCKED = "パスワードが必要です"
_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError,
    OverflowError, NotImplementedError, RuntimeError, OSError,
)  # fmt: skip


class Member(NamedTuple):
    path: str
    size_bytes: int | None  # as declared
    modified_at: datetime | None
    read: Callable[[int], bytes]  # no more than so much


def parse_zip(stream: BinaryIO) -> Document:
    archive = open_zip(stream, whole=False)
    files = [info for info in archive.infolist() if not info.filename.endswith("/")]
    if files and all(info.flag_bits & 1 for info in files):
        raise PasswordNeeded(_LOCKED)
    return document(
        Member(_zip_name(i), i.file_size, _zip_date(i), partial(_zip_read, archive, i))
        for i in files
    )


def parse_tar(stream: BinaryIO) -> Document:
    """Also packed by bzip2 or xz."""
    return document(_tar(stream))


def parse_gzip(stream: BinaryIO) -> Document:
    """One file, or a tar."""
    try:
        with gzip.GzipFile(fileobj=stream) as packed:
            tar = kinds.detect(packed.read(_BLOCK)) == kinds.TAR
    except _BROKEN as error:
        raise _broken(error) from None
    stream.seek(0)
    if tar:
        return parse_tar(stream)
    return document(iter([Member(_gzip_name(stream), None, None, partial(_gzip_read, stream))]))


def document(members: Iterator[Member]) -> Document:
    """Of an archive: no text, but children. Raises Unreadable where there is nothing at all."""
    children: list[Child] = []
    problems: list[str] = []
    left, count = _TOTAL_BYTES, 0

    def read(member: Member) -> bytes:
        nonlocal left
        if (member.size_bytes or 0) > _MEMBER_BYTES:
            raise _too_large()
        most = min(_MEMBER_BYTES, left)
        try:
            data = member.read(most + 1)
        except _BROKEN as error:
            raise _broken(error) from None
        left -= min(len(data), left)
        if len(data) > most:
            raise _too_large()
        return data

    try:
        for member in members:
            if any(aside in member.path for aside in _ASIDE):
                continue
            if count == _MEMBERS or left <= 0:
                problems.append(
                    f"ファイルが多すぎるか大きすぎるため、「{member.path}」から後を読んでいません "
                    f"(上限 {_MEMBERS:,} 個、展開後 {_TOTAL_BYTES // 1_000_000} MB)"
                )
                break
            count += 1
            attached.add(
                children,
                member.path,
                partial(read, member),
                size_bytes=member.size_bytes,
                modified_at=member.modified_at,
            )
    except _BROKEN as error:
        if not count:
            raise _broken(error) from None
        problems.append(f"圧縮ファイルが途中で壊れています ({error})")
    if not count:
        raise Unreadable("圧縮ファイルにファイルがありません")
    return Document("", problems=tuple(problems), children=tuple(children))


def _broken(error: BaseException) -> Unreadable:
    return Unreadable(f"圧縮ファイルが壊れています ({error})")


def _too_large() -> TooLarge:
    return TooLarge("展開後の大きさが上限を超えています")


# --- zip --------------------------------------------------------------------------


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Windows writes names in its own code page, and does not say so."""
    if info.flag_bits & 0x800:
        return shown(info.filename)
    try:
        return shown(charset.decode(info.filename.encode("cp437")).text)
    except (UnicodeError, Unreadable):
        return shown(info.filename)


def _zip_date(info: zipfile.ZipInfo) -> datetime | None:
    """The clock on the wall where it was packed; the first day there is means that nobody said."""
    with suppress(ValueError):
        if info.date_time > (1980, 1, 1, 0, 0, 0):
            return datetime(*info.date_time, tzinfo=attached.JAPAN)
    return None


def _zip_read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    if info.flag_bits & 1:
        raise PasswordNeeded(_LOCKED)
    if is_bomb(info.file_size, info.compress_size):
        raise TooLarge("圧縮率が異常です")
    with archive.open(info) as member:
        return member.read(most)


# --- tar and gzip -----------------------------------------------------------------


def _tar(stream: BinaryIO) -> Iterator[Member]:
    with tarfile.open(fileobj=_unpacked(stream), mode="r|") as archive:
        for info in archive:
            if info.isfile():
                yield Member(
                    _tar_name(info.name),
                    info.size,
                    _tar_date(info.mtime),
                    partial(_tar_read, archive, info),
                )


def _unpacked(stream: BinaryIO) -> Any:
    head = stream.read(6)
    stream.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    return lzma.LZMAFile(stream) if head.startswith(b"\xfd7zXZ") else stream


def _tar_name(name: str) -> str:
    try:
        return shown(charset.decode(name.encode("utf-8", "surrogateescape")).text)
    except Unreadable:
        return shown(name)


def _tar_date(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def _tar_read(archive: tarfile.TarFile, info: tarfile.TarInfo, most: int) -> bytes:
    member = archive.extractfile(info)
    return member.read(most) if member else b""


def _gzip_name(stream: BinaryIO) -> str:
    """As it was called before it was packed, else as the packed one is called."""
    head = stream.read(1024)
    stream.seek(0)
    if len(head) > 10 and head[3] & 0x0C == 0x08 and b"\0" in head[10:]:
        return _tar_name(head[10 : head.index(b"\0", 10)].decode("utf-8", "surrogateescape"))
    path = PurePosixPath(attached.holder())
    return shown(path.stem if path.suffix.lower() == ".gz" else path.name)


def _gzip_read(stream: BinaryIO, most: int) -> bytes:
    with gzip.GzipFile(fileobj=stream) as packed:
        return packed.read(most)


def shown(name: str) -> str:
    """A path as people read it: no way up, no root, no signs that turn it around."""
    parts = name.replace("\\", "/").split("/")
    parts = [attached.file_name(p) for p in parts if p.strip(". ") and not p.endswith(":")]
    return "/".join(p for p in parts if p)[-_NAME_CHARS:] or "名前のないファイル"
