"""A backup becomes a data folder, and where there is one its database in PostgreSQL.

All is made ready in a folder beside, with a marker in it; the switch is one step of the kernel.
Killed before it, the old state stands and the next restore clears up; killed after it, the new one
does. A database in PostgreSQL is filled in one transaction, which leaves a mark there: from then on
until the switch no Kura starts on it (`pending`), and the same restore, run again, goes on.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
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
from appliance.backup.files import MADE_ANEW, UNFINISHED
from appliance.backup.read import Backup, check_version
from appliance.backup.vault import told
from appliance.errors import BackupProblem, Conflict
from appliance.store import database, site, transfer

PENDING = (
    "restore.pending"  # in `site`: the data folder that belongs to this database is not there yet
)
_EXCHANGE = 2
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
    _check_place(folder)
    check_version(backup)
    inside = url.startswith("sqlite:")
    path = Path(url.removeprefix("sqlite:///"))
    if inside and not path.is_relative_to(folder):
        raise BackupProblem(
            f"SQLite のデータベース {path} がデータフォルダの外にあります。{folder} の中に変えてください。"
        )
    with _alone(folder), plain(folder):
        engine = None if inside else database.connect(url)
        try:
            if done := _go_on(folder, engine):
                return done
            held = [] if engine is None else ours(engine)
            if not replace and (not is_bare(folder) or held):
                what = f"データフォルダ {folder}" if not is_bare(folder) else "データベース"
                raise BackupProblem(
                    f"{what} は空ではありません。空のところを KURA_DATA などで指すか、"
                    "いまのものを脇に置いて入れ替えるなら --replace を付けてください。"
                )
            token = f"{backup.manifest.name}-{secrets.token_hex(4)}"
            staging = _beside(folder, f"restore-{token}")
            schema = f"kura_before_{token.replace('-', '_').lower()}" if held else ""
            try:
                stage(backup, staging, folder, url, actor)
                if engine is not None:
                    _fill(backup, engine, folder, token, schema, actor)
            except BaseException:
                if engine is None or _pending(engine) != token:
                    _take_away(staging)
                raise
            aside = _switch(staging, folder)
            _end(folder, engine)
            return Restored(backup.manifest.name, folder, aside, schema)
        finally:
            if engine is not None:
                engine.dispose()


def stage(backup: Backup, staging: Path, folder: Path, url: str, actor: str) -> None:
    """A whole data folder as it will lie in `folder`, on the disk for sure."""
    staging.mkdir(mode=0o700)
    (staging / UNFINISHED).write_text(backup.manifest.name, "utf-8")
    backup.write_files(staging)
    inside = url.startswith("sqlite:")
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


def is_bare(folder: Path) -> bool:
    """Nothing of a site is in it: at most locks, a log, models."""
    if not folder.is_dir():
        return True
    names = {p.name for p in folder.iterdir()}
    return all(
        name in MADE_ANEW or name.endswith((".lock", ".sock")) or ".log" in name for name in names
    )


# --- steps --------------------------------------------------------------------------


def _check_place(folder: Path) -> None:
    if folder.is_symlink():
        raise BackupProblem(
            f"データフォルダ {folder} はリンクです。KURA_DATA に、リンクではない本当の場所を書いてください。"
        )
    if folder.exists() and not folder.is_dir():
        raise BackupProblem(f"{folder} はフォルダーではありません。")
    if folder.is_mount():
        raise BackupProblem(
            f"データフォルダ {folder} はボリュームそのものなので、一度に入れ替えられません。"
            f"KURA_DATA を {folder}/kura のように、その中のフォルダーにしてください。"
        )
    if not folder.parent.is_dir():
        raise BackupProblem(f"{folder.parent} がありません。作ってからやり直してください。")


def _go_on(folder: Path, engine: Engine | None) -> Restored | None:
    """Bring an earlier restore to its end where it had come to its switch; else clear up after it."""
    token = _pending(engine)
    if (folder / UNFINISHED).exists():  # switched, not cleared up
        aside = _put_aside(folder)
        _end(folder, engine)
        return Restored("", folder, aside, "")
    for left in folder.parent.glob(f".{folder.name}.restore-*"):
        if left.name == f".{folder.name}.restore-{token}":
            aside = _switch(left, folder)
            _end(folder, engine)
            return Restored("", folder, aside, "")
        if (left / UNFINISHED).exists() or not any(left.iterdir()):
            _take_away(left)
    for left in folder.parent.glob(f".{folder.name}.gone-*"):
        shutil.rmtree(left)
    _put_aside(folder)
    return None


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


def _switch(staging: Path, folder: Path) -> Path | None:
    """One step, after which `folder` is the new one. Returns where the old one lies."""
    if not folder.exists():
        staging.rename(folder)
        sync(folder.parent)
        return None
    bare = is_bare(folder)
    if _exchange(staging, folder):
        sync(folder.parent)
        if bare:
            _take_away(staging)
            return None
        return _put_aside(folder)
    if not bare:
        raise BackupProblem(
            f"{folder} のファイルシステムは、フォルダーを一度に入れ替えられません。"
            f"Kura を止め、{folder} の名前を変えてから、--replace を付けずに戻してください。"
        )
    _take_away(folder)
    staging.rename(folder)
    sync(folder.parent)
    return None


def _end(folder: Path, engine: Engine | None) -> None:
    if engine is not None and _pending(engine):
        site.put(engine, PENDING, None)
    (folder / UNFINISHED).unlink(missing_ok=True)


def _put_aside(folder: Path) -> Path | None:
    """What was exchanged is the old data folder: it gets a name that people see."""
    aside = None
    for left in folder.parent.glob(f".{folder.name}.restore-*"):
        if left.is_dir() and not (left / UNFINISHED).exists():
            aside = left.with_name(f"{folder.name}.before-{left.name.rpartition('restore-')[2]}")
            left.rename(aside)
    return aside


# --- helpers ------------------------------------------------------------------------


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _take_away(folder: Path) -> None:
    """By another name first: half of it must not look like a whole."""
    if folder.exists():
        name = folder.name.lstrip(".").partition(".restore-")[0]
        gone = folder.with_name(f".{name}.gone-{secrets.token_hex(4)}")
        folder.rename(gone)
        shutil.rmtree(gone)


def _exchange(one: Path, other: Path) -> bool:
    """False where this file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    at = -100  # paths are whole
    if libc.renameat2(at, os.fsencode(one), at, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EXDEV):
        return False
    raise OSError(code, os.strerror(code), str(other))


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


def sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with plain(folder):
        handle = os.open(_beside(folder, "restore.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("ほかの「kura restore」が進んでいます。") from None
        try:
            yield
        finally:
            _beside(folder, "restore.lock").unlink(missing_ok=True)
    finally:
        os.close(handle)


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
