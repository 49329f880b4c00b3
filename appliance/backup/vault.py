"""The folder of backups. A part is whole or not there, and so is a backup."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, Field, ValidationError

from appliance.backup import proof
from appliance.errors import BackupProblem, Conflict, DigestMismatch

FORMAT = 1
NAME = re.compile(r"\d{8}T\d{6}Z")
_PART = re.compile(r"[0-9a-f]{64}")
Parts = dict[str, tuple[str, int]]  # name → SHA-256 of the file, bytes of it


class Manifest(BaseModel):
    """What everybody may know of a backup."""

    format: int
    name: str = Field(pattern=f"^{NAME.pattern}$")
    made_at: datetime
    kura: str
    revision: str  # of the schema
    database: str
    key: str  # seal.fingerprint of the recipient; empty: it is not sealed
    rows: dict[str, int]  # of each table
    files: int
    bytes: int  # of rows and files, before they are made smaller
    stored_bytes: int
    new_bytes: int  # of these, what no backup before had
    parts: int
    parts_sha256: str
    index: str = Field(pattern=f"^{_PART.pattern}$")
    signed_by: str = ""  # `proof`; backups of older versions have none
    signature: str = ""

    @property
    def sealed(self) -> bool:
        return bool(self.key)


class Vault:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts, self._backups = folder / "parts", folder / "backups"
        self._unfinished = folder / "unfinished"

    @property
    def id(self) -> str:
        """Which folder this is; empty for one that never held a backup."""
        with _plain(self.folder):
            try:
                return str(json.loads((self.folder / "kura-backup.json").read_text("utf-8"))["id"])
            except FileNotFoundError:
                return ""
            except (ValueError, KeyError, TypeError):
                raise BackupProblem(
                    f"{self.folder}/kura-backup.json が壊れています。控えのフォルダーか確かめてください。"
                ) from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """One at a time; makes the folders. Raises Conflict, BackupProblem."""
        with _plain(self.folder):
            if not self.folder.is_dir():
                raise BackupProblem(
                    f"控えのフォルダー {self.folder} がありません。"
                    "共有がつながっているか確かめ、なければ作ってください。"
                )
            for one in (self._parts, self._backups, self._unfinished):
                if one.is_symlink():
                    raise BackupProblem(
                        f"{one} はリンクです。リンクのないフォルダーを使ってください。"
                    )
                one.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    f"{self.folder} では、ほかの控えの作業が進んでいます。終わってからやり直してください。"
                ) from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                    raise
            if not self.id:
                about = json.dumps({"format": FORMAT, "id": secrets.token_hex(16)})
                self._write(self.folder / "kura-backup.json", about.encode())
            yield
        finally:
            os.close(handle)

    # --- parts ----------------------------------------------------------------------

    def put(self, name: str, sealed: bytes) -> tuple[str, int]:
        """On the disk for sure only after `sync`. Raises BackupProblem."""
        self._write(self._place(name), sealed, sure=False)
        return hashlib.sha256(sealed).hexdigest(), len(sealed)

    def part(self, name: str, known: tuple[str, int]) -> bytes:
        """Raises DigestMismatch if it is missing or not what was written."""
        sha256, size = known
        with _plain(self.folder):
            try:
                handle = os.open(self._place(name), os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                raise DigestMismatch(
                    f"控えの部品 {name[:12]}… がありません。ほかの日の控えを使ってください。"
                ) from None
            with os.fdopen(handle, "rb") as file:
                data = file.read(size + 1)
        if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
            raise DigestMismatch(
                f"控えの部品 {name[:12]}… が壊れています。ほかの日の控えを使ってください。"
            )
        return data

    def sweep(self) -> int:
        """Take away what no backup names, and what a killed one left. Returns how many files.

        As long as a manifest cannot be read no part goes: it may be one of that backup.
        """
        with _plain(self.folder):
            gone = 0
            for left in self._unfinished.iterdir():
                left.unlink()
            names, (found, unread) = set(self.names()), self.sound()
            for file in self._backups.glob("*.parts"):
                if NAME.fullmatch(file.stem) and file.stem not in names:
                    file.unlink()
            wanted: set[str] = set()
            for _, parts in found:
                wanted |= parts.keys()
            for shelf in self._parts.iterdir():
                if shelf.is_symlink():  # what it points at is not ours to take away
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(shelf))
                for part in shelf.iterdir():
                    if _PART.fullmatch(part.name) and part.name not in wanted and not unread:
                        part.unlink()
                        gone += 1
            return gone

    # --- backups --------------------------------------------------------------------

    def names(self) -> list[str]:
        """Of all backups, the oldest first."""
        with _plain(self.folder):
            try:
                found = [p.stem for p in self._backups.iterdir() if p.suffix == ".json"]
            except FileNotFoundError:
                raise BackupProblem(f"{self.folder} に控えはありません。") from None
        return sorted(name for name in found if NAME.fullmatch(name))

    def manifest(self, name: str) -> Manifest:
        """Raises BackupProblem, also for one that a newer Kura wrote."""
        path = self._backups / f"{name}.json"
        with _plain(self.folder):
            try:
                text = path.read_bytes()
            except FileNotFoundError:
                raise BackupProblem(
                    f"控え {name} はありません。`kura backup list` で確かめてください。"
                ) from None
        try:
            found = json.loads(text)
            if int(found["format"]) > FORMAT:
                raise BackupProblem(
                    f"控え {name} は、より新しい Kura ({found['kura']}) のものです。その版で戻してください。"
                )
            made = Manifest.model_validate(found)
        except (ValueError, KeyError, TypeError, ValidationError):
            raise BackupProblem(f"控え {name} の目録 {path} が壊れています。") from None
        if made.name != name:
            raise BackupProblem(f"控え {name} の目録 {path} は、ほかの控えのものです。")
        if not proof.holds(found):
            raise BackupProblem(f"控え {name} の目録 {path} が、署名した後で書き換えられています。")
        return made

    def parts(self, manifest: Manifest) -> Parts:
        """Raises DigestMismatch."""
        path = self._backups / f"{manifest.name}.parts"
        with _plain(self.folder):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                raise DigestMismatch(f"控え {manifest.name} の {path} がありません。") from None
        if hashlib.sha256(data).hexdigest() != manifest.parts_sha256:
            raise DigestMismatch(f"控え {manifest.name} の {path} が壊れています。")
        return {name: (known[0], known[1]) for name, known in json.loads(unzip(data)).items()}

    def sound(self) -> tuple[list[tuple[Manifest, Parts]], list[str]]:
        """The backups whose manifest can be read, the oldest first; and why each other cannot."""
        found, unread = [], []
        for name in self.names():
            try:
                manifest = self.manifest(name)
                found.append((manifest, self.parts(manifest)))
            except (BackupProblem, DigestMismatch) as error:
                unread.append(str(error))
        return found, unread

    def known(self, site: str) -> Parts:
        """Every part that a backup of that site names: what others lay here is not built upon."""
        found = (parts for made, parts in self.sound()[0] if proof.maker(made) == site)
        return {name: known for parts in found for name, known in parts.items()}

    def publish(self, parts: Parts, facts: Mapping[str, Any], key: Ed25519PrivateKey) -> Manifest:
        """The backup is there when this returns, and not before its last step."""
        data = zlib.compress(json.dumps(parts, sort_keys=True).encode(), 6)
        made = Manifest(
            format=FORMAT,
            parts=len(parts),
            parts_sha256=hashlib.sha256(data).hexdigest(),
            stored_bytes=sum(size for _, size in parts.values()),
            **facts,
        )
        self._write(self._backups / f"{made.name}.parts", data)
        self.sync()
        stated = proof.signed(made.model_dump(mode="json"), key)
        text = json.dumps(stated, ensure_ascii=False, indent=1).encode()
        self._write(self._backups / f"{made.name}.json", text)
        return Manifest.model_validate(stated)

    def remove(self, names: Collection[str]) -> None:
        """Their manifests go; `sweep` takes the parts that nobody else names."""
        with _plain(self.folder):
            for name in names:
                (self._backups / f"{name}.json").unlink(missing_ok=True)

    def sync(self) -> None:
        """All that was written so far is on the disk. Raises BackupProblem."""
        with _plain(self.folder):
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if ctypes.CDLL(None, use_errno=True).syncfs(handle):
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
            finally:
                os.close(handle)

    # --- helpers --------------------------------------------------------------------

    def _place(self, name: str) -> Path:
        if not _PART.fullmatch(name):
            raise DigestMismatch("控えの目録に、部品の名前ではないものがあります。")
        return self._parts / name[:2] / name

    def _write(self, path: Path, data: bytes, *, sure: bool = True) -> None:
        fresh = self._unfinished / secrets.token_hex(8)
        with _plain(self.folder):
            try:
                handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    if sure:
                        os.fsync(file.fileno())
                try:
                    fresh.replace(path)
                except FileNotFoundError:
                    path.parent.mkdir(mode=0o700, exist_ok=True)
                    fresh.replace(path)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise
            if sure:
                _sync_folder(path.parent)


def unzip(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        raise DigestMismatch("控えの目録が壊れています。") from None


def space(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _plain(folder: Path) -> Iterator[None]:
    """What the file system says, for a person."""
    try:
        yield
    except OSError as error:
        raise BackupProblem(told(error, folder)) from error


def told(error: OSError, folder: Path) -> str:
    place = error.filename or folder
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"{folder} に空きがありません。空けるか、大きいところに変えてください。"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{place} を読み書きできません。Kura のアカウントの権限を確かめてください。"
        case errno.ELOOP:
            return f"{place} はリンクです。リンクのないフォルダーを使ってください。"
        case _:
            return f"{place}: {error.strerror}。ディスクか共有を確かめてください。"
