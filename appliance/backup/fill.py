"""A database filled from a backup, compared with it, and brought up to this version: all, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import Connection, Engine
from sqlmodel import Session

from appliance.backup import proof
from appliance.backup.read import Backup
from appliance.errors import DigestMismatch
from appliance.store import audit, database, transfer
from appliance.store.transfer import Facts, Table

Blocks = Callable[[Table], Iterable[bytes]]


def from_backup(backup: Backup, connection: Connection) -> None:
    """In one transaction of the caller, into a database without tables. Raises DigestMismatch."""
    index = backup.index
    by_name = {table.name: table for table in index.tables}
    database.upgrade(connection, backup.manifest.revision)
    tables(
        connection,
        [table.shape for table in index.tables],
        lambda table: backup.blocks(by_name[table.name]),
        index.counters,
        {table.name: table.facts for table in index.tables},
    )
    database.upgrade(connection)


def tables(
    connection: Connection,
    shapes: Iterable[Table],
    blocks: Blocks,
    counters: dict[str, int],
    expected: dict[str, Facts],
) -> None:
    """Every row in, and every row read again: raises DigestMismatch unless they are the same."""
    shapes = list(shapes)
    with transfer.filling(connection):
        for table in shapes:
            transfer.fill(connection, table, blocks(table))
        transfer.count_on(connection, shapes, counters)
    for table in shapes:
        found = transfer.facts(connection, table)
        if found != expected[table.name]:
            raise DigestMismatch(
                f"表 {table.name} が写しと一致しません"
                f"（{expected[table.name].rows} 行のはずが {found.rows} 行、または内容の違い）。"
            )


def settled(connection: Connection, backup: Backup, uploads: str, actor: str) -> None:
    """What is different here than where the backup was made."""
    transfer.settle(connection, uploads)
    made_at = backup.manifest.made_at.isoformat(timespec="seconds")
    detail = {
        "backup": backup.manifest.name,
        "made_at": made_at,
        "kura": backup.manifest.kura,
        "signed_by": proof.maker(backup.manifest) or "nobody",
    }
    with Session(connection) as session:
        audit.append(session, actor, "backup.restore", detail)
        session.flush()


def checked(engine: Engine) -> None:
    """Raises DigestMismatch where SQLite finds its own file damaged."""
    with engine.connect() as connection:
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    if found != ["ok"]:
        raise DigestMismatch(f"戻したデータベースが壊れています: {found[0]}")
    if (bad := audit.verify(engine)) is not None:
        raise DigestMismatch(f"戻した監査記録が、{bad} 番からつながっていません。")
