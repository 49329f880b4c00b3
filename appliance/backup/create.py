"""One backup: the database as it is at one moment, then the files.

Files come second: one that was uploaded meanwhile is then in the backup without its document, and
is taken in after a restore; the other way round its document would have lost it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, Field
from sqlalchemy import Connection, Engine

from appliance import host
from appliance.backup import files
from appliance.backup.seal import Sealer, fingerprint, sealer
from appliance.backup.vault import Manifest, Parts, Vault, told
from appliance.errors import BackupProblem, DigestMismatch
from appliance.settings import Settings
from appliance.store import database, secrets, signing, site, transfer
from appliance.store.transfer import Column, Table

PLACE = "backup.place"  # the folder that was used last, in `site`


class TableIndex(BaseModel):
    name: str
    columns: list[tuple[str, str]]
    key: list[str]
    counts: str
    rows: int
    sha256: str
    parts: list[str] = Field(default_factory=list)

    @property
    def shape(self) -> Table:
        columns = tuple(Column(name, kind) for name, kind in self.columns)
        return Table(self.name, columns, tuple(self.key), self.counts)

    @property
    def facts(self) -> transfer.Facts:
        return transfer.Facts(self.rows, self.sha256)


class FileIndex(BaseModel):
    path: str
    mode: int
    mtime_ns: int
    sha256: str
    parts: list[str]


class Index(BaseModel):
    """What is where in a backup. A part itself, sealed like the others."""

    tables: list[TableIndex]
    counters: dict[str, int]
    files: list[FileIndex]


@dataclass
class _Made:
    """The parts of the backup that is being made."""

    vault: Vault
    sealer: Sealer
    known: Parts
    parts: Parts
    plain_bytes: int = 0
    new_bytes: int = 0

    def keep(self, plain: bytes, text: int | None = None) -> str:
        """What is there already is read once more: a damaged part is written anew."""
        name = self.sealer.name(plain)
        self.plain_bytes += len(plain)
        if name in self.parts:
            return name
        if (known := self.known.get(name)) and self._sound(name, known):
            self.parts[name] = known
            return name
        self.parts[name] = self.vault.put(name, self.sealer.seal(plain, text))
        self.new_bytes += self.parts[name][1]
        return name

    def _sound(self, name: str, known: tuple[str, int]) -> bool:
        try:
            self.vault.part(name, known)
        except DigestMismatch:
            return False
        return True


def create(
    settings: Settings,
    engine: Engine,
    config: Path,
    *,
    sealed: bool = True,
    new_place: bool = False,
) -> Manifest:
    """Make a backup in `backup_folder`. Raises BackupProblem, Conflict, SettingsError, NotReady.

    `new_place`: the folder may be another than the one before, which is else taken for a share
    that is not there.
    """
    if settings.backup_folder == Path():
        raise BackupProblem(
            "控えを置くフォルダーが決まっていません。kura.toml に backup_folder を書いてください。"
        )
    if settings.backup_folder.resolve().is_relative_to(settings.data.resolve()):
        raise BackupProblem(
            f"控えのフォルダー {settings.backup_folder} がデータフォルダーの中にあります。"
            "別のディスクか共有の上に変えてください。"
        )
    if sealed and not settings.backup_recipient:
        raise BackupProblem(
            "控えを暗号化する公開鍵がありません。`kura backup key` で鍵を作り、backup_recipient を "
            "kura.toml に書いてください。暗号化しないと分かって取るなら --plain を付けます。"
        )
    with engine.connect() as connection:
        revision = database.revision(connection)
    if revision != database.head():
        raise BackupProblem(
            "データベースが、この版の Kura のものではありません。"
            f"`{host.start()}` で一度起動してください。"
        )
    machine_key = secrets.keyring(settings.secrets_key).key
    try:
        site_key = signing.key(settings.data / signing.FOLDER)
    except OSError as error:
        raise BackupProblem(told(error, settings.data)) from error
    whose = signing.fingerprint(site_key.public_key())
    made_by = sealer(machine_key, settings.backup_recipient if sealed else "", whose)
    vault = Vault(settings.backup_folder)
    before = site.get(engine, PLACE)
    if before and not new_place and vault.id != before:
        raise BackupProblem(
            f"{vault.folder} は前回の控えのフォルダーではありません。共有がつながっているか"
            "確かめてください。新しいフォルダーに替えたのなら --new-folder を付けます。"
        )
    with vault.held():
        vault.sweep()
        name = _name(vault)
        made = _Made(vault, made_by, vault.known(whose), {})
        tables, counters = _database(engine, made)
        kept = list(_files(settings, config, made, keys=sealed))
        index = Index(tables=tables, counters=counters, files=kept)
        where = made.keep(index.model_dump_json().encode())
        facts = {
            "name": name,
            "made_at": datetime.now(UTC),
            "kura": metadata.version("kura"),
            "revision": revision,
            "database": engine.dialect.name,
            "key": fingerprint(made_by.recipient),
            "rows": {table.name: table.rows for table in tables},
            "files": len(kept),
            "bytes": made.plain_bytes,
            "new_bytes": made.new_bytes,
            "index": where,
        }
        manifest = vault.publish(made.parts, facts, site_key)
    site.put(engine, PLACE, vault.id)
    return manifest


def _name(vault: Vault) -> str:
    """The second that it is made in, which is nobody else's."""
    while (name := f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}") in vault.names():
        time.sleep(0.1)
    return name


def _database(engine: Engine, made: _Made) -> tuple[list[TableIndex], dict[str, int]]:
    with database.reading(engine) as session:
        connection = session.connection()
        tables = transfer.tables()
        found = [_table(connection, table, made) for table in tables]
        return found, transfer.counters(connection, tables)


def _table(connection: Connection, table: Table, made: _Made) -> TableIndex:
    digest, rows, parts = hashlib.sha256(), 0, []
    for block, held in transfer.blocks(connection, table):
        digest.update(hashlib.sha256(block).digest())
        rows += held
        parts.append(made.keep(block, transfer.head(block)))
    return TableIndex(
        name=table.name,
        columns=[(c.name, c.kind) for c in table.columns],
        key=list(table.key),
        counts=table.counts,
        rows=rows,
        sha256=digest.hexdigest(),
        parts=parts,
    )


def _files(settings: Settings, config: Path, made: _Made, *, keys: bool) -> Iterator[FileIndex]:
    for file in files.wanted(settings, config, keys=keys):
        digest, parts = hashlib.sha256(), []
        try:
            about = file.at.stat()
            for piece in files.pieces(file):
                digest.update(piece)
                parts.append(made.keep(piece))
        except FileNotFoundError:
            continue  # taken away meanwhile, as uploads are
        except OSError as error:
            raise BackupProblem(f"{file.at} を読めません: {error.strerror}") from error
        yield FileIndex(
            path=file.path,
            mode=about.st_mode & 0o777,
            mtime_ns=about.st_mtime_ns,
            sha256=digest.hexdigest(),
            parts=parts,
        )
