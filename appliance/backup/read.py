"""A backup as it is read: every part by its digest, every table and file by its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from appliance.backup import files
from appliance.backup.create import Index, TableIndex
from appliance.backup.seal import Opener, opener
from appliance.backup.vault import Manifest, Parts, Vault
from appliance.errors import BackupProblem, DigestMismatch
from appliance.store import database


@dataclass(frozen=True)
class Backup:
    vault: Vault
    manifest: Manifest
    parts: Parts
    opener: Opener | None = None  # None: it is sealed, and nobody has brought the key

    def plain(self, name: str) -> bytes:
        """Raises DigestMismatch."""
        assert self.opener is not None, "nobody reads a sealed backup without its key"
        if (known := self.parts.get(name)) is None:
            raise DigestMismatch(
                f"控え {self.manifest.name} の目録に、部品 {name[:12]}… がありません。"
            )
        return self.opener.open(self.vault.part(name, known))

    @cached_property
    def index(self) -> Index:
        try:
            return Index.model_validate_json(self.plain(self.manifest.index))
        except ValidationError:
            raise DigestMismatch(f"控え {self.manifest.name} の目次が壊れています。") from None

    def blocks(self, table: TableIndex) -> Iterator[bytes]:
        """The rows of a table. Raises DigestMismatch, at the end if they are not all of it."""
        digest = hashlib.sha256()
        for name in table.parts:
            block = self.plain(name)
            digest.update(hashlib.sha256(block).digest())
            yield block
        if digest.hexdigest() != table.sha256:
            raise DigestMismatch(f"表 {table.name} の控えが、取ったときのものと違います。")

    def write_files(self, folder: Path) -> None:
        """Into a folder that is new, and nobody else's. Raises DigestMismatch, OSError."""
        for file in self.index.files:
            path = files.place(folder, file.path)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            digest = hashlib.sha256()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(path, flags, 0o600), "wb") as out:
                for name in file.parts:
                    piece = self.plain(name)
                    digest.update(piece)
                    out.write(piece)
            if digest.hexdigest() != file.sha256:
                raise DigestMismatch(f"ファイル {file.path} の控えが、取ったときのものと違います。")
            path.chmod(file.mode & 0o700)
            os.utime(path, ns=(file.mtime_ns, file.mtime_ns))


def find(folder: Path, name: str = "") -> Backup:
    """The backup of that name, or the latest, without its key. Raises BackupProblem."""
    vault = Vault(folder)
    names = vault.names()
    if not names:
        raise BackupProblem(f"{folder} に控えはありません。")
    manifest = vault.manifest(name or names[-1])
    return Backup(vault, manifest, vault.parts(manifest), None if manifest.sealed else Opener())


def unlocked(backup: Backup, key: Callable[[], str]) -> Backup:
    """`key` gives the text of a key file, and is asked only where one is needed."""
    if backup.opener is not None:
        return backup
    return Backup(backup.vault, backup.manifest, backup.parts, opener(key(), backup.manifest.key))


def check_version(backup: Backup) -> None:
    """Raises BackupProblem for a backup that a newer Kura made."""
    if backup.manifest.revision not in database.revisions():
        raise BackupProblem(
            f"控え {backup.manifest.name} は、より新しい Kura ({backup.manifest.kura}) のものです。"
            "その版か、それより新しい版で戻してください。"
        )
