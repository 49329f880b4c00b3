"""Archives (.zip, .tar, .gz): every file in them as a part, whatever format it is in.

Nothing is written anywhere, so a name leads nowhere: it is only shown. What is declared is checked
before unpacking, what comes while it does.
"""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO

from appliance.errors import TooLarge, Unreadable
from appliance.formats import attached, charset, kinds
from appliance.formats.draft import Draft
from appliance.formats.package import open_zip
from appliance.types import Document

_MEMBERS = 2_000
_MEMBER_BYTES = 100_000_000
_TOTAL_BYTES = 500_000_000
_NAME_CHARS = 200
_PROBLEMS = 20  # that are told one by one
_BLOCK = 512  # of a tar
_ASIDE = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")
_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError,
    NotImplementedError, RuntimeError, OSError,
)  # fmt: skip

Member = tuple[str, Callable[[int], bytes]]  # its name, and how to read so much of it


def parse_zip(stream: BinaryIO) -> Document:
    archive = open_zip(stream)
    files = (info for info in archive.infolist() if not info.filename.endswith("/"))
    return _document((_zip_name(i), partial(_zip_read, archive, i)) for i in files)


def parse_tar(stream: BinaryIO) -> Document:
    """Also packed by bzip2 or xz."""
    return _document(_tar(stream))


def parse_gzip(stream: BinaryIO) -> Document:
    """One file, or a tar."""
    try:
        with gzip.GzipFile(fileobj=stream) as packed:
            data = packed.read(_BLOCK)
            if kinds.detect(data) == kinds.TAR:
                stream.seek(0)
                return parse_tar(stream)
            data += packed.read(_MEMBER_BYTES + 1 - len(data))
    except _BROKEN as error:
        raise Unreadable(f"書庫が壊れています ({error})") from None
    if len(data) > _MEMBER_BYTES:
        raise TooLarge("展開後の大きさが上限を超えています")
    with attached.inside():  # there is a file that holds itself
        return attached.document(data, "")


def _document(members: Iterator[Member]) -> Document:
    draft = Draft()
    left = _TOTAL_BYTES
    count = 0
    try:
        for name, read in members:
            if any(aside in name for aside in _ASIDE):
                continue
            count += 1
            if count > _MEMBERS:
                draft.problems.append(
                    f"ファイルが多すぎるため、{_MEMBERS:,} 個より後を読んでいません"
                )
                break
            try:
                data = read(min(_MEMBER_BYTES, left) + 1)
            except _BROKEN as error:  # the others may be whole
                draft.problems.append(f"「{name}」が壊れています ({error})")
                continue
            left -= len(data)
            if left < 0:
                raise TooLarge("展開後の大きさが上限を超えています")
            if len(data) > _MEMBER_BYTES:
                draft.problems.append(f"「{name}」は大きすぎるため読んでいません")
                continue
            attached.embed(draft, name, name, partial(attached.document, data, name))
    except _BROKEN as error:
        if not count:
            raise Unreadable(f"書庫が壊れています ({error})") from None
        draft.problems.append(f"書庫が途中で壊れています ({error})")
    if (more := len(draft.problems) - _PROBLEMS) > 0:
        draft.problems[_PROBLEMS:] = [f"ほかに {more:,} 件の問題があります"]
    return draft.document()


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Windows writes names in its own code page, and does not say so."""
    if info.flag_bits & 0x800:
        return _shown(info.filename)
    try:
        return _shown(charset.decode(info.filename.encode("cp437")).text)
    except (UnicodeError, Unreadable):
        return _shown(info.filename)


def _zip_read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(info) as member:
        return member.read(most)


def _tar(stream: BinaryIO) -> Iterator[Member]:
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for info in archive:
            if info.isfile():
                yield _tar_name(info.name), partial(_tar_read, archive, info)


def _tar_name(name: str) -> str:
    try:
        return _shown(charset.decode(name.encode("utf-8", "surrogateescape")).text)
    except Unreadable:
        return _shown(name)


def _tar_read(archive: tarfile.TarFile, info: tarfile.TarInfo, most: int) -> bytes:
    member = archive.extractfile(info)
    return member.read(most) if member else b""


def _shown(name: str) -> str:
    """A path as people read it: no way up, no root, no signs that turn it around."""
    parts = name.replace("\\", "/").split("/")
    parts = [attached.file_name(p) for p in parts if p.strip(". ") and not p.endswith(":")]
    return "/".join(p for p in parts if p)[-_NAME_CHARS:] or "名前のないファイル"
