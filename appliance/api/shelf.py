"""Uploaded files on disk: `uploads/<id>/{content,meta.json}` in the data folder.

A folder appears under its final name only when both files are on the disk for
good. The name a person gave is kept for showing, never used as a path.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from appliance.errors import NotReady, NotVisible, TooLarge

BLOCK = 1 << 20
NAME_BYTES = 255
_ID = re.compile(r"[0-9a-f]{32}")
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Item:
    id: str
    name: str
    owner: str  # user id
    allow: tuple[str, ...]
    uploaded_at: datetime
    size_bytes: int


def put(
    folder: Path,
    content: BinaryIO,
    name: str,
    owner: str,
    allow: Sequence[str],
    limit_bytes: int,
    media_type: str | None = None,
) -> Item:
    """Keep a file. Raises TooLarge, and NotReady when the disk is full; then nothing is kept."""
    id = secrets.token_hex(16)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    half = folder / f".{id}.tmp"
    half.mkdir(mode=0o700)
    try:
        size, digest = _copy(content, half / "content", limit_bytes)
        item = Item(id, clean_name(name), owner, tuple(allow), datetime.now(UTC), size)
        meta = {
            "name": item.name,
            "owner": owner,
            "allow": list(allow),
            "uploaded_at": item.uploaded_at.isoformat(),
            "sha256": digest,
            "media_type": media_type,
            "size_bytes": size,
        }
        _write(half / "meta.json", json.dumps(meta, ensure_ascii=False).encode())
        _sync_folder(half)
        half.rename(folder / id)
        _sync_folder(folder)
    except OSError as error:
        raise NotReady(f"アップロードを保存できません: {error.strerror}", 30.0) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return item


def of(folder: Path, owner: str) -> list[Item]:
    """One person's uploads, latest first."""
    mine = [item for item in _all(folder) if item.owner == owner]
    return sorted(mine, key=lambda item: item.uploaded_at, reverse=True)


def delete(folder: Path, owner: str, id: str) -> Item:
    """Raises NotVisible for what is absent or somebody else's."""
    item = _item(folder / id) if _ID.fullmatch(id) else None
    if item is None or item.owner != owner:
        raise NotVisible("資料が見つかりません。")
    gone = folder / f".{id}.gone"
    (folder / id).rename(gone)
    _sync_folder(folder)
    shutil.rmtree(gone, ignore_errors=True)
    return item


def owner(folder: Path, id: str) -> str | None:
    """Whose upload it is; None where there is none of that id."""
    item = _item(folder / id) if _ID.fullmatch(id) else None
    return item.owner if item else None


def clean_name(name: str) -> str:
    """A name to show: one line, NFC, no path, nothing that turns the text around, 255 bytes."""
    name = unicodedata.normalize("NFC", _CONTROL.sub("", name))
    name = re.split(r"[/\\]", name)[-1].strip().lstrip(".").strip()
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > 16:
        stem, suffix = name, ""
    tail = f".{suffix}" if suffix else ""
    while len(f"{stem}{tail}".encode()) > NAME_BYTES:
        stem = stem[:-1]
    return f"{stem}{tail}" or "無題"


def sweep(folder: Path) -> None:
    """Take away what an interrupted upload or deletion left. Only while nothing uploads."""
    for left in folder.glob(".*"):
        if left.suffix in (".tmp", ".gone"):
            shutil.rmtree(left, ignore_errors=True)


def _copy(content: BinaryIO, path: Path, limit_bytes: int) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    with path.open("xb") as out:
        while block := content.read(BLOCK):
            if (size := size + len(block)) > limit_bytes:
                raise TooLarge(f"ファイルは {limit_bytes // 1_000_000} MB までです。")
            digest.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return size, digest.hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _all(folder: Path) -> Iterator[Item]:
    if folder.is_dir():
        for place in folder.iterdir():
            if _ID.fullmatch(place.name) and (item := _item(place)):
                yield item


def _item(place: Path) -> Item | None:
    try:
        meta = json.loads((place / "meta.json").read_text("utf-8"))
        return Item(
            place.name,
            str(meta["name"]),
            str(meta["owner"]),
            tuple(map(str, meta["allow"])),
            datetime.fromisoformat(meta["uploaded_at"]),
            int(meta.get("size_bytes", 0)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
