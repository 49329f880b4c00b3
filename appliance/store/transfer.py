"""The rows of every table, carried out of one database and into another, of whatever kind.

A row travels as plain values: None, numbers, text, bytes; moments as text in UTC, JSON as the text
that it is kept as. Rows go in the order of their keys, in blocks whose ends the rows choose
themselves: what is added or changed between two looks changes only the block that it lies in.

Sessions are left out unless asked for: nobody is to be signed in by a copy, nor locked out by one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlmodel import SQLModel

from appliance.errors import DigestMismatch
from appliance.store.tables import SessionRow, TryRow, Utc

BLOCK_BYTES = 128 * 1024  # of a block, on average
LONGEST_BYTES = 32 * BLOCK_BYTES  # of a block of more than one row
_READ_ROWS = 200
_HEAD = 8  # bytes that say how long the text of a block is

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: str  # a key of _TYPES


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    counts: str = ""  # the column that numbers its rows and never gives a number twice


@dataclass(frozen=True, slots=True)
class Facts:
    """What two copies of a table must have in common."""

    rows: int
    sha256: str


_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "moment": Utc(),
    "day": sa.Date(),
    "json": sa.Text(),
    "flag": sa.Boolean(),
    "bytes": sa.LargeBinary(),
    "int": sa.BigInteger(),
    "float": sa.Float(),
    "text": sa.Text(),
}


def tables(*, sessions: bool = False) -> tuple[Table, ...]:
    """Every table of this version, those that others point at first."""
    return tuple(
        Table(
            one.name,
            tuple(Column(c.name, _kind(c.type)) for c in one.columns),
            tuple(c.name for c in one.primary_key.columns),
            next(iter(one.primary_key.columns)).name
            if one.kwargs.get("sqlite_autoincrement")
            else "",
        )
        for one in SQLModel.metadata.sorted_tables
        if sessions or one.name not in (SessionRow.__tablename__, TryRow.__tablename__)
    )


# --- out ----------------------------------------------------------------------------


def blocks(connection: Connection, table: Table) -> Iterator[tuple[bytes, int]]:
    """The table in packed blocks, each with its number of rows."""
    batch: list[Row] = []
    held = 0
    for row in rows(connection, table):
        size = _size(row)
        if batch and held + size > LONGEST_BYTES:
            yield pack(table, batch), len(batch)
            batch, held = [], 0
        batch.append(row)
        held += size
        if _ends(table, row, size):
            yield pack(table, batch), len(batch)
            batch, held = [], 0
    if batch:
        yield pack(table, batch), len(batch)


def rows(connection: Connection, table: Table) -> Iterator[Row]:
    """Every row, by the order of its key, which is the same in every database."""
    postgres = connection.dialect.name == "postgresql"
    named = {c.name: sa.column(c.name, _TYPES[c.kind]) for c in table.columns}
    wanted = [
        sa.cast(named[c.name], sa.Text) if postgres and c.kind == "json" else named[c.name]
        for c in table.columns
    ]
    text = {c.name for c in table.columns if c.kind == "text"}
    order = [
        sa.collate(named[name], "C") if postgres and name in text else named[name]
        for name in table.key
    ]
    query = sa.select(*wanted).select_from(sa.table(table.name)).order_by(*order)
    moments = [n for n, c in enumerate(table.columns) if c.kind in ("moment", "day")]
    streamed = {"stream_results": True, "yield_per": _READ_ROWS}
    for row in connection.execute(query, execution_options=streamed):
        if not moments:
            yield tuple(row)
            continue
        plain = list(row)
        for n in moments:
            plain[n] = _said(plain[n])
        yield tuple(plain)


def facts(connection: Connection, table: Table) -> Facts:
    """Reads all of it."""
    digest, count = hashlib.sha256(), 0
    for block, held in blocks(connection, table):
        digest.update(hashlib.sha256(block).digest())
        count += held
    return Facts(count, digest.hexdigest())


def counters(connection: Connection, tables: Iterable[Table]) -> dict[str, int]:
    """The last number that each counting table has given, of rows that are gone too."""
    if connection.dialect.name == "sqlite":
        found: dict[str, Any] = dict(
            connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence").all()
        )
        return {t.name: int(found.get(t.name) or 0) for t in tables if t.counts}
    last: dict[str, int] = {}
    for table in tables:
        if table.counts:
            query = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {_sequence(connection, table)}"  # noqa: S608 - PostgreSQL's own name
            last[table.name] = int(connection.exec_driver_sql(query).scalar_one())
    return last


# --- in -----------------------------------------------------------------------------


@contextmanager
def filling(connection: Connection) -> Iterator[None]:
    """Rows may come in any order meanwhile; at the end all of them must point at something."""
    if connection.dialect.name == "sqlite":  # whoever connected has turned foreign keys off
        yield
        if astray := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
            raise DigestMismatch(f"控えの表に、参照先のない行があります: {astray[0][0]}")
        return
    query = (
        "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) "
        "FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace"
    )
    references = connection.exec_driver_sql(query).all()
    for table, name, _ in references:
        connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    yield
    for table, name, definition in references:
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


def fill(connection: Connection, table: Table, blocks: Iterable[bytes]) -> None:
    """Put the rows of packed blocks into a table that has none."""
    found = chain.from_iterable(unpack(table, block) for block in blocks)
    raw: Any = connection.connection.driver_connection
    names = ", ".join(f'"{c.name}"' for c in table.columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" for _ in table.columns)
        moments = [n for n, c in enumerate(table.columns) if c.kind == "moment"]
        kept = (_kept(row, moments) for row in found)
        raw.executemany(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', kept)  # noqa: S608
        return
    with raw.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
        for row in found:
            copy.write_row(row)


def count_on(connection: Connection, tables: Iterable[Table], last: dict[str, int]) -> None:
    """No number is given again that was given before."""
    for table in (t for t in tables if t.counts):
        given = last.get(table.name, 0)
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
            connection.exec_driver_sql(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, given)
            )
        elif given:
            name = _sequence(connection, table)
            connection.execute(
                sa.text("SELECT setval(CAST(:name AS regclass), :given, true)"),
                {"name": name, "given": given},
            )


def settle(connection: Connection, uploads: str) -> None:
    """After a restore: uploads lie here now, and every source is looked at again at once."""
    names = (Column("id", "int"), Column("kind", "text"), Column("settings", "json"))
    for number, kind, settings in list(rows(connection, Table("source", names, ("id",)))):
        if kind == "uploads":
            text = json.dumps(json.loads(settings) | {"root": uploads}, ensure_ascii=False)
            place = "CAST(:text AS json)" if connection.dialect.name == "postgresql" else ":text"
            connection.execute(
                sa.text(f"UPDATE source SET settings = {place} WHERE id = :id"),  # noqa: S608
                {"text": text, "id": number},
            )
    connection.execute(
        sa.text("UPDATE source SET wanted = :yes, lease_owner = NULL, lease_until = NULL"),
        {"yes": True},
    )


# --- a block ------------------------------------------------------------------------


def pack(table: Table, rows: Sequence[Row]) -> bytes:
    """The text of the rows as JSON, with the length of each value of bytes; then the bytes."""
    places = [n for n, c in enumerate(table.columns) if c.kind == "bytes"]
    data: list[bytes] = []
    if not places:
        head = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
    else:
        plain = []
        for row in rows:
            values = list(row)
            for n in places:
                if values[n] is not None:
                    data.append(bytes(values[n]))
                    values[n] = len(data[-1])
            plain.append(values)
        head = json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()
    return b"".join((len(head).to_bytes(_HEAD, "big"), head, *data))


def head(block: bytes) -> int:
    """How many bytes of a block are text, which can be made smaller."""
    return _HEAD + int.from_bytes(block[:_HEAD], "big")


def unpack(table: Table, block: bytes) -> Iterator[Row]:
    """Raises DigestMismatch for what `pack` has not made."""
    places = [n for n, c in enumerate(table.columns) if c.kind == "bytes"]
    at = head(block)
    try:
        for values in json.loads(block[_HEAD:at]):
            if len(values) != len(table.columns):
                raise ValueError
            for n in places:
                if values[n] is not None:
                    size = int(values[n])
                    values[n], at = block[at : at + size], at + size
                    if len(values[n]) != size:
                        raise ValueError
            yield tuple(values)
    except (ValueError, TypeError):
        raise DigestMismatch(f"表 {table.name} の控えが壊れています。") from None


# --- helpers ------------------------------------------------------------------------


def _kind(made: sa.types.TypeEngine[Any]) -> str:
    if isinstance(made, Utc):
        return "moment"
    if isinstance(made, sa.types.TypeDecorator):
        made = made.impl_instance
    for kind, known in (
        ("json", sa.JSON),
        ("flag", sa.Boolean),
        ("day", sa.Date),
        ("bytes", sa.LargeBinary),
        ("int", sa.Integer),
        ("float", sa.Float),
        ("text", sa.String),
    ):
        if isinstance(made, known):
            return kind
    raise TypeError(f"no backup knows columns of {made!r}")


def _said(value: Any) -> str | None:
    if value is None:
        return None
    return str(value.isoformat(timespec="microseconds") if hasattr(value, "hour") else value)


def _kept(row: Row, moments: Sequence[int]) -> Row:
    """As SQLAlchemy keeps moments in SQLite."""
    if not moments:
        return row
    values = list(row)
    for n in moments:
        if values[n] is not None:
            values[n] = f"{values[n][:10]} {values[n][11:26]}"
    return tuple(values)


def _size(row: Row) -> int:
    return sum(len(v) if isinstance(v, (str, bytes)) else 8 for v in row)


def _ends(table: Table, row: Row, size: int) -> bool:
    """Whether this row is the last of its block: the larger it is, the likelier."""
    key = repr(tuple(v for v, c in zip(row, table.columns, strict=True) if c.name in table.key))
    drawn = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
    return drawn * BLOCK_BYTES < size << 64


def _sequence(connection: Connection, table: Table) -> str:
    query = sa.text("SELECT pg_get_serial_sequence(:table, :column)")
    names = {"table": f'"{table.name}"', "column": table.counts}
    return str(connection.execute(query, names).scalar_one())
