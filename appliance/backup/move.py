"""The whole database into another, of either kind: every row, compared; all, or nothing.

Kura must not run meanwhile: what is written after the first row was read would be lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlmodel import Session

from appliance import host
from appliance.backup import fill, restore, switch
from appliance.errors import BackupProblem
from appliance.store import audit, database, transfer
from appliance.store.transfer import Facts, Table


def move(origin: str, target: str, actor: str) -> dict[str, int]:
    """Rows of each table. Raises BackupProblem, DigestMismatch, SettingsError, NotReady."""
    place = _path(target)
    if place is not None and (place.exists() or place.is_symlink()):
        raise BackupProblem(f"移す先 {place} がもうあります。まだないファイルを指してください。")
    if (held := _path(origin)) is not None and not held.is_file():
        raise BackupProblem(f"移す元 {held} がありません。")
    source = database.connect(origin)
    try:
        with restore.plain(place or Path("PostgreSQL")), _target(target, place) as engine:
            with database.reading(source) as session, restore.plain(place or Path("PostgreSQL")):
                found = _copy(session.connection(), engine, place is not None, actor)
            if place is not None:
                fill.checked(engine)
        return found
    finally:
        source.dispose()


def _copy(origin: Connection, engine: Engine, scratch: bool, actor: str) -> dict[str, int]:
    if database.revision(origin) != database.head():
        raise BackupProblem(
            "移す元が、この版の Kura のデータベースではありません。"
            f"`{host.start()}` で一度起動してください。"
        )
    shapes = transfer.tables(sessions=True)
    expected: dict[str, Facts] = {}

    def blocks(table: Table) -> Iterator[bytes]:
        digest, rows = hashlib.sha256(), 0
        for block, held in transfer.blocks(origin, table):
            digest.update(hashlib.sha256(block).digest())
            rows += held
            yield block
        expected[table.name] = Facts(rows, digest.hexdigest())

    with database.rebuilding(engine, scratch=scratch) as connection:
        database.upgrade(connection)
        fill.tables(connection, shapes, blocks, transfer.counters(origin, shapes), expected)
        with Session(connection) as session:
            kinds = {"from": origin.dialect.name, "to": connection.dialect.name}
            audit.append(session, actor, "database.move", kinds)
            session.flush()
    return {name: one.rows for name, one in expected.items()}


@contextmanager
def _target(url: str, place: Path | None) -> Iterator[Engine]:
    """A database without tables; a file of SQLite gets its name at the end."""
    if place is None:
        engine = database.connect(url)
        try:
            if restore.ours(engine):
                raise BackupProblem(
                    "移す先のデータベースに Kura の表がもうあります。空のデータベースを作って指してください。"
                )
            yield engine
        finally:
            engine.dispose()
        return
    fresh = place.with_name(f"{place.name}.unfinished")
    fresh.unlink(missing_ok=True)
    engine = database.connect(f"sqlite:///{fresh}")
    try:
        yield engine
        engine.dispose()
        switch.sync(place.parent)
        fresh.rename(place)
        switch.sync(place.parent)
    finally:
        engine.dispose()
        for end in ("", "-wal", "-shm", "-journal"):
            Path(f"{fresh}{end}").unlink(missing_ok=True)


def _path(url: str) -> Path | None:
    return Path(url.removeprefix("sqlite:///")).absolute() if url.startswith("sqlite:") else None
