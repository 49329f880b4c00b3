"""A backup becomes a data folder, and where there is one its database in PostgreSQL.

All is made ready in a folder apart and switched in (`switch`). Killed before that, the old state
stands and the next restore clears up; killed after it, the new one does. A database in PostgreSQL is filled in one transaction, which leaves a mark there: from then on
until the switch no Kura starts on it (`pending`), and the same restore, run again, goes on.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from appliance.backup import fill
from appliance.backup.files import UNFINISHED
from appliance.backup.read import Backup, check_version
from appliance.backup.switch import Yard, is_bare, sync, take_away
from appliance.backup.vault import told
from appliance.errors import BackupProblem
from appliance.store import database, site, transfer

PENDING = (
    "restore.pending"  # in `site`: the data folder that belongs to this database is not there yet
)
_OUTSIDE = "postgresql"  # in the marker: the database is to be told of the end
_OF_THE_HOST = re.compile(r"^\s*(data|database_url|secrets_key)\s*=")


@dataclass(frozen=True)
class Restored:
    name: str  # of the backup; empty where only the end of an earlier restore was missing
    folder: Path
    aside: Path | None  # the data folder that was there
    aside_schema: str  # of PostgreSQL, with the tables that were there


def restore(
    backup: Backup, folder: Path, url: str, *, replace: bool = False, actor: str = "console"
) -> Restored:
    """Into `folder` and the database of `url`. Raises BackupProblem, DigestMismatch, Conflict."""
    yard = Yard(folder)
    check_version(backup)
    inside = url.startswith("sqlite:")
    path = Path(url.removeprefix("sqlite:///"))
    if inside and not path.is_relative_to(folder):
        raise BackupProblem(
            f"SQLite のデータベース {path} がデータフォルダーの外にあります。{folder} の中に変えてください。"
        )
    with plain(folder), yard.held():
        engine = None if inside else database.connect(url)
        try:
            if done := _go_on(yard, engine):
                return done
            held = [] if engine is None else ours(engine)
            if not replace and (not is_bare(folder) or held):
                what = f"データフォルダー {folder}" if not is_bare(folder) else "データベース"
                raise BackupProblem(
                    f"{what} は空ではありません。空のところを KURA_DATA などで指すか、"
                    "いまのものを脇に置いて入れ替えるなら --replace を付けてください。"
                )
            token = f"{backup.manifest.name}-{secrets.token_hex(4)}"
            schema = f"kura_before_{token.replace('-', '_').lower()}" if held else ""
            try:
                stage(backup, yard.staging(token), folder, url, actor)
                if engine is not None:
                    _fill(backup, engine, folder, token, schema, actor)
            except BaseException:
                if engine is None or _pending(engine) != token:
                    take_away(yard.staging(token))
                raise
            aside = yard.switch(token)
            _end(yard, engine)
            return Restored(backup.manifest.name, folder, aside, schema)
        finally:
            if engine is not None:
                engine.dispose()


def stage(backup: Backup, staging: Path, folder: Path, url: str, actor: str) -> None:
    """A whole data folder as it will lie in `folder`, on the disk for sure."""
    staging.mkdir(mode=0o700)
    inside = url.startswith("sqlite:")
    (staging / UNFINISHED).write_text(backup.manifest.name if inside else _OUTSIDE, "utf-8")
    backup.write_files(staging)
    if inside:
        place = staging / Path(url.removeprefix("sqlite:///")).relative_to(folder)
        engine = database.connect(f"sqlite:///{place}")
        try:
            with database.rebuilding(engine, scratch=True) as connection:
                fill.from_backup(backup, connection)
                fill.settled(connection, backup, str(folder / "uploads"), actor)
            fill.checked(engine)
        finally:
            engine.dispose()
    usual = url == f"sqlite:///{folder / 'kura.db'}"
    config = staging / "kura.toml"
    if config.exists() or not usual:
        before = config.read_text("utf-8") if config.exists() else ""
        config.write_text(here(before, "" if usual else url), "utf-8")
        config.chmod(0o600)
    if (folder / "models").is_dir() and not (folder / "models").is_symlink():
        shutil.copytree(folder / "models", staging / "models", copy_function=os.link)
    sync(staging)


def here(config: str, url: str) -> str:
    """The settings of the backup, less where its files and its database were."""
    lines = [line for line in config.splitlines() if not _OF_THE_HOST.match(line)]
    if url:
        quoted = url.replace("\\", "\\\\").replace('"', '\\"')
        lines.insert(0, f'database_url = "{quoted}"')
    made = "\n".join(lines) + "\n" if lines else ""
    try:
        left = tomllib.loads(made)
        wanted = tomllib.loads(config)
    except tomllib.TOMLDecodeError as error:
        raise BackupProblem(f"控えの kura.toml を読めません: {error}") from None
    kept = {name: v for name, v in wanted.items() if name not in ("data", "secrets_key")}
    kept.pop("database_url", None)
    if left != kept | ({"database_url": url} if url else {}):
        raise BackupProblem("控えの kura.toml に、書き換えられない database_url などがあります。")
    return made


def pending(engine: Engine) -> bool:
    """Whether a restore into this database has not come to its end, so that nothing may start."""
    return not database.is_sqlite(engine) and site.get(engine, PENDING) is not None


# --- steps --------------------------------------------------------------------------


def _go_on(yard: Yard, engine: Engine | None) -> Restored | None:
    """Bring an earlier restore to its end where it had come to its switch; else clear up after it."""
    token = _pending(engine)
    if yard.switched:
        aside = yard.put_aside()
    elif yard.moving or (token and yard.staging(token).exists()):
        aside = yard.switch(yard.moving or str(token))
    else:
        yard.tidy(token)
        yard.put_aside()
        return None
    _end(yard, engine)
    yard.tidy(None)
    return Restored("", yard.folder, aside, "")


def _fill(
    backup: Backup, engine: Engine, folder: Path, token: str, schema: str, actor: str
) -> None:
    """PostgreSQL: the old tables go aside and the new ones come, or nothing happens."""
    with database.rebuilding(engine) as connection:
        if schema:
            try:
                connection.execute(text(f'CREATE SCHEMA "{schema}"'))
            except ProgrammingError:
                raise BackupProblem(
                    "PostgreSQL のこの利用者はスキーマを作れず、いまの表を脇に置けません。"
                    "GRANT CREATE ON DATABASE を与えるか、空のデータベースを使ってください。"
                ) from None
            for name in ours(engine):
                connection.execute(text(f'ALTER TABLE "{name}" SET SCHEMA "{schema}"'))
        fill.from_backup(backup, connection)
        fill.settled(connection, backup, str(folder / "uploads"), actor)
        query = text("INSERT INTO site (key, value) VALUES (:key, :value)")
        connection.execute(query, {"key": PENDING, "value": token})


def _end(yard: Yard, engine: Engine | None) -> None:
    if engine is not None and _pending(engine):
        site.put(engine, PENDING, None)
    marker = yard.folder / UNFINISHED
    if engine is None and marker.exists() and marker.read_text("utf-8") == _OUTSIDE:
        raise BackupProblem(  # its settings were not there when the command began
            "データフォルダーは戻りました。データベースを終えるため、同じコマンドをもう一度実行してください。"
        )
    yard.end()


# --- helpers ------------------------------------------------------------------------


def _pending(engine: Engine | None) -> str | None:
    if engine is None or "site" not in ours(engine):
        return None
    return site.get(engine, PENDING)


def ours(engine: Engine) -> list[str]:
    """Kura's tables in PostgreSQL, as far as there are any."""
    known = {table.name for table in transfer.tables(sessions=True)} | {"alembic_version"}
    query = text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    with engine.connect() as connection:
        return sorted(known & set(connection.execute(query).scalars()))


@contextmanager
def plain(folder: Path) -> Iterator[None]:
    """What the file system and the database say, for a person."""
    try:
        yield
    except OSError as error:
        raise BackupProblem(told(error, folder)) from error
    except DBAPIError as error:
        if "full" in str(error.orig) or "No space" in str(error.orig):
            raise BackupProblem(told(OSError(errno.ENOSPC, ""), folder)) from error
        said = str(error.orig).splitlines()[0]
        raise BackupProblem(f"データベースに書き込めませんでした: {said}") from error
