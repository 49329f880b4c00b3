"""The one database: SQLite in the data folder, or PostgreSQL by its URL.

`reading` and `writing` are the only ways to a session. A reading session sees
one moment; a writing session is one transaction, and on SQLite the only one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pysqlite3
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    TimeoutError,
)
from sqlmodel import Session

from appliance.errors import Conflict, NotReady, SettingsError

OLDEST_SQLITE = (3, 51, 3)  # older ones can lose a transaction when the WAL is reset
BUSY_S = 60.0  # longest a writer waits for its turn

# Keys of PostgreSQL's advisory locks, which SQLite's single writer makes unnecessary.
MIGRATION_LOCK, CHANGE_LOCK, AUDIT_LOCK = 0x4B555201, 0x4B555202, 0x4B555203
ALERT_LOCK, TRIES_LOCK = 0x4B555204, 0x4B555205

_turns: dict[str, threading.Lock] = {}  # SQLite's own waiting is not fair among threads


def connect(url: str) -> Engine:
    """An engine for `sqlite:///path` or `postgresql+psycopg://…`. Raises SettingsError."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError(
            "database_url をデータベースの URL として読めません（例: postgresql+psycopg://kura@db.example.co.jp/kura）。"
        ) from None
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed)
        case "postgresql":
            return create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_pre_ping=True,
                pool_size=10,
                max_overflow=40,
                pool_timeout=BUSY_S,
                connect_args={"connect_timeout": 10, "application_name": "kura"},
            )
        case other:
            raise SettingsError(
                f"database_url の {other} は使えません。sqlite か postgresql+psycopg にしてください。"
            )


def migrate(engine: Engine) -> None:
    """Bring the schema up to date; several processes may start at once.

    Raises SettingsError if the database was made by a newer Kura.
    """
    with _plain_errors(), engine.connect() as connection:
        if revision(connection) == head():
            return
    with _turn(engine), _plain_errors(), rebuilding(engine) as connection:
        if not is_sqlite(engine):
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        upgrade(connection)


def upgrade(connection: Connection, to: str = "head") -> None:
    """`migrate`, in the transaction of a caller, who has turned foreign keys off on SQLite."""
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise SettingsError(
            f"データベースは、いまより新しい版の Kura のものです（{error}）。その版の Kura で起動してください。"
        ) from None


def revision(connection: Connection) -> str | None:
    """Of the schema as it is; None for a database without tables."""
    return MigrationContext.configure(connection).get_current_revision()


def revisions() -> list[str]:
    """Every revision that this version knows, the newest first."""
    return [one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions()]


def head() -> str:
    """The revision that this version works with."""
    return revisions()[0]


@contextmanager
def rebuilding(engine: Engine, *, scratch: bool = False) -> Iterator[Connection]:
    """A transaction in which a table may be made anew.

    `scratch`: of a database that nobody knows yet and that is thrown away when this fails, which
    spares SQLite its journal.

    SQLite changes a column by copying the table and dropping the old one, and with foreign keys
    on, dropping it deletes whatever points at its rows. They can be turned off between
    transactions only; at the end all of them are looked through.
    """
    with engine.execution_options(kura_write=True).connect() as connection:
        raw: Any = connection.connection.driver_connection
        if is_sqlite(engine):
            raw.execute("PRAGMA foreign_keys=OFF")
            for mode in ("DELETE", "OFF") if scratch else ():
                raw.execute(f"PRAGMA journal_mode={mode}")
                raw.execute("PRAGMA synchronous=OFF")
        try:
            with connection.begin():
                yield connection
                if is_sqlite(engine):
                    astray = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                    if astray:  # nothing is committed
                        raise SettingsError(f"rows that point nowhere: {astray[:3]}")
        finally:
            if is_sqlite(engine):
                raw.execute("PRAGMA foreign_keys=ON")
            if is_sqlite(engine) and scratch:
                connection.invalidate()  # the next one sets its journal up again


def dispose(engine: Engine) -> None:
    """Close every connection of this process."""
    engine.dispose()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """One moment of the database, however many questions are put to it. Raises NotReady."""
    options = {} if is_sqlite(engine) else {"isolation_level": "REPEATABLE READ"}
    with _plain_errors(), Session(engine.execution_options(**options)) as session:
        yield session


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """One transaction: all of it, or nothing. Raises NotReady, Conflict."""
    with _turn(engine), _plain_errors():
        writer = engine.execution_options(kura_write=True)
        with Session(writer, expire_on_commit=False) as session:
            yield session
            session.commit()


def lock(session: Session, key: int) -> None:
    """Hold `key` until the transaction ends. SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.connection().execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def is_sqlite(engine: Engine) -> bool:
    return engine.dialect.name == "sqlite"


def _sqlite(url: URL) -> Engine:
    if pysqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise SettingsError(
            f"SQLite {pysqlite3.sqlite_version} はデータを失うことがあります。{wanted} 以上の pysqlite3 を入れてください。"
        )
    if not url.database or url.database == ":memory:":
        raise SettingsError(
            "database_url には、いくつものプロセスが使うファイルの場所を書いてください。"
        )
    path = Path(url.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"),
        module=pysqlite3.dbapi2,
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
        pool_size=10,
        max_overflow=40,
        pool_timeout=BUSY_S,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where `begin` below says
        _until_free(connection, "PRAGMA journal_mode=WAL")
        for pragma in (
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "cell_size_check=ON",
            "secure_delete=ON",  # text that is taken away is not left in free pages
            "journal_size_limit=67108864",
            "cache_size=-16000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        writes = connection.get_execution_options().get("kura_write")
        # A reader that turns writer in mid-transaction fails at once, without waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _until_free(connection: Any, statement: str) -> None:
    """Run what SQLite refuses, without waiting, while another process does the same."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute(statement)
            return
        except pysqlite3.dbapi2.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    if not is_sqlite(engine):
        yield
        return
    turn = _turns.setdefault(str(engine.url.database), threading.Lock())
    if not turn.acquire(timeout=BUSY_S):
        raise NotReady("データベースが混み合っています。少し待ってからやり直してください。")
    try:
        yield
    finally:
        turn.release()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What the database says, in our words: who reads it learns what to do next."""
    try:
        yield
    except IntegrityError as error:
        raise Conflict("ほかの人が先に同じものを変更しました。") from error
    except (OperationalError, InterfaceError) as error:
        if "no such " in str(error.orig):
            raise
        if "full" in str(error.orig) or "No space" in str(error.orig):
            raise NotReady(
                "ディスクに空きがないため、書き込めません。空けるか、ディスクを足してください。",
                30.0,
            ) from error
        raise NotReady("データベースが応答しません。少し待ってからやり直してください。") from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise NotReady("データベースとの接続が切れました。") from error
    except TimeoutError as error:
        raise NotReady("データベースが混み合っています。") from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
