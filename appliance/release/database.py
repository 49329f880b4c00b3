"""The database of a release, for the one that comes after it: copied, at rest, brought up to date."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pysqlite3
import sqlalchemy as sa
from sqlalchemy import Engine

from appliance.errors import Conflict, DigestMismatch, SettingsError
from appliance.release import schemas
from appliance.settings import Settings
from appliance.store import database, spaces, transfer

_COUNTED = ("document", "chunk", "conversation", "message", "user", "audit")
_GONE = ("session", "api_key", "try")  # in a copy that is tried: nobody else gets in


def path_of(settings: Settings) -> Path | None:
    """The file of SQLite; None for PostgreSQL."""
    if not settings.database_url.startswith("sqlite:"):
        return None
    return Path(settings.database_url.removeprefix("sqlite:///"))


def state(settings: Settings) -> dict[str, Any]:
    """The revision that it has, how many rows of what people made, and whose vectors are searched ("":
    there are none). Asking makes no database.
    """
    path = path_of(settings)
    if path and not path.exists():
        return {"revision": None, "rows": {}, "searched_by": ""}
    engine = database.connect(settings.database_url)
    told: dict[str, Any] = {}
    try:
        if path is None:
            wanted, foreign, size = schemas.lacks(engine)
            with engine.connect() as connection:
                live = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
            told = {"schema": live, "lacks": wanted, "foreign": foreign, "bytes": size}
        with engine.connect() as connection:
            tables = set(sa.inspect(connection).get_table_names())
            there = tables & set(_COUNTED)
            rows = {
                name: connection.execute(
                    sa.select(sa.func.count()).select_from(sa.table(name))
                ).scalar_one()
                for name in sorted(there)
            }
            told |= {"revision": database.revision(connection), "rows": rows}
        return told | {"searched_by": spaces.searched(engine) if "site" in tables else ""}
    finally:
        engine.dispose()


def copy(settings: Settings, target: Path) -> int:
    """The database of one moment, while it is written to, by SQLite's backup. Returns its bytes.

    Raises OSError, as on a full disk; then there is no `target`.
    """
    source = _file(settings)
    half = target.with_name(f"{target.name}.half")
    half.unlink(missing_ok=True)
    half.touch(mode=0o600)
    try:
        reading = pysqlite3.dbapi2.connect(f"file:{source}?mode=ro", uri=True, timeout=60)
        writing = pysqlite3.dbapi2.connect(str(half))
        try:
            reading.backup(writing)  # in one step: who writes meanwhile does not start it anew
        except pysqlite3.dbapi2.OperationalError as error:
            raise OSError(f"{half}: {error}") from error
        finally:
            writing.close()
            reading.close()
        _synced(half)
        half.rename(target)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    return target.stat().st_size


def copy_schema(settings: Settings, target: str) -> int:
    """PostgreSQL's way of `copy`, into a schema of that name. Returns what `schemas.refresh` goes by."""
    engine = database.connect(settings.database_url)
    try:
        with engine.connect() as connection:
            revision = database.revision(connection)
        if revision is None:
            raise Conflict("データベースに表がありません。")
        return schemas.copy(engine, target, revision)
    finally:
        engine.dispose()


def settle(settings: Settings) -> int:
    """All of the database in its one file, when Kura is stopped. Returns its bytes. Raises Conflict.

    Whoever opens it later, if only to read, must settle it again.
    """
    path = _file(settings)
    connection = pysqlite3.dbapi2.connect(str(path), timeout=10)
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()  # the last one takes the log away
    if busy or path.with_name(f"{path.name}-wal").exists():
        raise Conflict(
            f"ほかのプログラムが {path} を開いています。終わらせてからやり直してください。"
        )
    _synced(path)
    return path.stat().st_size


def prepare() -> None:
    """Load what `migrate` needs, before anybody waits for it."""
    import_module("appliance.store.tables")
    database.revisions()


def migrate(settings: Settings, *, look: bool = True) -> str:
    """Up to this release, looked through, and at rest. Returns the revision.

    `look` False: the same was looked through a moment ago, and reading all of it takes its time.
    """
    engine = database.connect(settings.database_url)
    try:
        database.migrate(engine)
        if look and database.is_sqlite(engine):
            with engine.connect() as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check").scalars().all()
            if found != ["ok"]:
                raise DigestMismatch(f"移行したデータベースが壊れています: {found[0]}")
    finally:
        engine.dispose()
    if path_of(settings):
        settle(settings)
    return database.head()


def isolate(engine: Engine, uploads: Path) -> None:
    """Of a copy that is tried: it reaches for no source, and nobody is signed in."""
    with database.rebuilding(engine) as connection:
        transfer.settle(connection, str(uploads))
        connection.execute(
            sa.text("UPDATE source SET enabled = :no WHERE kind <> 'uploads'"), {"no": False}
        )
        connection.execute(sa.text("UPDATE document SET again_at = NULL"))
        there = set(sa.inspect(connection).get_table_names())
        for name in there & set(_GONE):
            connection.execute(sa.delete(sa.table(name)))


def _file(settings: Settings) -> Path:
    path = path_of(settings)
    if path is None:
        raise SettingsError("PostgreSQL のデータベースは、ファイルとしては写せません。")
    return path


def _synced(path: Path) -> None:
    for place, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        handle = os.open(place, flags)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
