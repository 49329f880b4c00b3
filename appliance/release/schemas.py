"""The same as `database` for PostgreSQL: a copy is a schema beside the one that serves, in the same database.

So it takes no right to make databases, no `pg_dump`, and nobody has to leave: the role must own its
tables, and may make schemas. Two schemas change places in one transaction, by renaming what they hold;
no row is touched by it. A schema named in `kura_database_schema` is looked at alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from appliance.errors import Conflict, DigestMismatch
from appliance.store import database, transfer

LOCK = 0x4B555205  # advisory: one copy or exchange at a time, also of a process that was killed
PATIENCE = "30s"  # for somebody else's statement on a table that is to move

Build = Callable[[Connection, str], None]  # the tables of that revision, in the current schema


def lacks(engine: Engine) -> tuple[list[str], list[str], int]:
    """What the role must be given, as SQL; what else lies in the schema; bytes of the schema."""
    with engine.connect() as connection:
        live = _schema(connection)
        who, where = connection.exec_driver_sql("SELECT current_user, current_database()").one()
        wanted = []
        if not _one(connection, "SELECT has_database_privilege(current_database(), 'CREATE')"):
            wanted.append(f"GRANT CREATE ON DATABASE {_q(where)} TO {_q(who)};")
        if not _one(connection, "SELECT has_schema_privilege(current_schema(), 'CREATE')"):
            wanted.append(f"GRANT CREATE ON SCHEMA {_q(live)} TO {_q(who)};")
        held = connection.execute(
            sa.text(
                "SELECT relname, relkind IN ('r', 'p'), pg_has_role(relowner, 'USAGE'),"
                " pg_total_relation_size(oid) FROM pg_class"
                " WHERE relnamespace = CAST(:live AS regnamespace)"
                " AND relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY relname"
            ),
            {"live": _q(live)},
        ).all()
    ours = {one.name for one in transfer.tables(sessions=True)} | {"alembic_version"}
    foreign = [name for name, plain, _, _ in held if not plain or name not in ours]
    wanted += [
        f"ALTER TABLE {_q(live)}.{_q(name)} OWNER TO {_q(who)};"
        for name, _, mine, _ in held
        if name in ours and not mine
    ]
    return wanted, foreign, sum(int(size) for *_, size in held)


def copy(engine: Engine, target: str, revision: str, build: Build | None = None) -> int:
    """All that the schema holds at one moment, while it is written to. Returns what `refresh` goes by."""
    isolated = engine.execution_options(isolation_level="REPEATABLE READ")
    with _plain(), isolated.connect() as connection, connection.begin():
        live = _alone(connection)
        since = int(
            _one(connection, "SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text)")
        )
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {_q(target)} CASCADE")
        connection.exec_driver_sql(f"CREATE SCHEMA {_q(target)}")
        with _within(connection, target):
            (build or database.upgrade)(connection, revision)
            with transfer.filling(connection):
                for table, columns in _shapes(connection, live, target):
                    connection.exec_driver_sql(f"DELETE FROM {_q(target)}.{_q(table)}")  # noqa: S608
                    _carry(connection, live, target, table, columns)
            _count_on(connection, live, target)
    return since


def refresh(engine: Engine, target: str, since: int) -> dict[str, Any]:
    """Make a copy that nobody has touched what the schema is now, at rest: rows written since, and
    those that are gone. Returns `mark` of the original."""
    with _plain(), engine.connect() as connection, connection.begin():
        live = _alone(connection)
        # a row version written since has a number from there on, counted round the clock of 2^32
        newer = f"mod(CAST(CAST(s.xmin AS text) AS bigint) - {since % 2**32} + {2**32}, {2**32}) < {2**31}"
        with _within(connection, target), transfer.filling(connection):
            for table, columns in _shapes(connection, live, target):
                keys = _keys(connection, target, table)
                same = " AND ".join(f"s.{_q(key)} = c.{_q(key)}" for key in keys)
                stays = f"SELECT FROM {_q(live)}.{_q(table)} s WHERE {same} AND NOT ({newer})"
                into = f"{_q(target)}.{_q(table)} c"
                connection.exec_driver_sql(f"DELETE FROM {into} WHERE NOT EXISTS ({stays})")  # noqa: S608
                _carry(connection, live, target, table, columns, newer)
        _count_on(connection, live, target)
        told = _marked(connection, live)
        for table, (rows, _) in _facts(connection, target).items():
            if told["rows"][table] != rows:
                raise DigestMismatch(f"表 {table} の写しの行数が合いません。")
        return told


def mark(engine: Engine, schema: str = "") -> dict[str, Any]:
    """`sha256` over where each row lies and which transaction wrote it, which any write would change;
    `rows` of each table."""
    with _plain(), engine.connect() as connection:
        return _marked(connection, schema or _schema(connection))


def exchange(engine: Engine, out: str, come: str, sha256: str = "") -> bool:
    """What `come` holds takes the place of what serves, which goes to `out`: all of it, or nothing.

    False where that is done already. Raises Conflict where somebody wrote since `sha256` was taken.
    """
    with _plain(), engine.connect() as connection, connection.begin():
        live = _alone(connection)
        if not _there(connection, come):
            return False
        _still(connection, live, sha256)
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {_q(out)} CASCADE")
        _shift(connection, live, out)
        _empty(connection, come, live)
        return True


def exchange_back(engine: Engine, out: str, come: str) -> bool:
    """As it was before `exchange`. False where nothing was done."""
    with _plain(), engine.connect() as connection, connection.begin():
        live = _alone(connection)
        if _there(connection, come) or not _there(connection, out):
            return False
        _still(connection, live, "")
        _shift(connection, live, come)
        _empty(connection, out, live)
        return True


def forget(engine: Engine, names: Sequence[str]) -> None:
    """Copies that nothing leads to any more; never the one that serves. Raises Conflict."""
    with _plain(), engine.connect() as connection, connection.begin():
        live = _alone(connection)
        for name in names:
            if not name.startswith(f"{live}_"):
                raise Conflict(f"{name} は {live} の写しではありません。")
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {_q(name)} CASCADE")


# --- helpers ------------------------------------------------------------------------


def _alone(connection: Connection) -> str:
    """The schema that serves. Waits for the transaction of one that was killed, whose end is not known yet."""
    live = _schema(connection)
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK}, hashtext('{live}'))")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE}'")
    return live


def _schema(connection: Connection) -> str:
    found = _one(connection, "SELECT current_schema()")
    if found is None:
        raise Conflict("データベースに、設定されたスキーマがありません。")
    return str(found)


def _there(connection: Connection, schema: str) -> bool:
    query = sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
    return connection.execute(query, {"name": schema}).first() is not None


def _tables(connection: Connection, schema: str) -> list[str]:
    query = sa.text(
        "SELECT relname FROM pg_class WHERE relnamespace = CAST(:name AS regnamespace)"
        " AND relkind IN ('r', 'p') ORDER BY relname"
    )
    return list(connection.execute(query, {"name": _q(schema)}).scalars())


def _columns(connection: Connection, schema: str, table: str) -> list[str]:
    query = sa.text(
        "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:name AS regclass)"
        " AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    name = f"{_q(schema)}.{_q(table)}"
    return list(connection.execute(query, {"name": name}).scalars())


def _keys(connection: Connection, schema: str, table: str) -> list[str]:
    query = sa.text(
        "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)"
        " WHERE indrelid = CAST(:name AS regclass) AND indisprimary"
    )
    return list(connection.execute(query, {"name": f"{_q(schema)}.{_q(table)}"}).scalars())


def _shapes(connection: Connection, live: str, target: str) -> Iterator[tuple[str, list[str]]]:
    """Each table with its columns; raises Conflict where the two schemas differ in them."""
    tables = _tables(connection, target)
    if differ := set(tables) ^ set(_tables(connection, live)):
        raise Conflict(f"データベースの表がこの版のものと違います: {', '.join(sorted(differ))}")
    for table in tables:
        columns = _columns(connection, target, table)
        if set(columns) != set(_columns(connection, live, table)):
            raise Conflict(f"表 {table} の列がこの版のものと違います。")
        yield table, columns


def _carry(
    connection: Connection, live: str, target: str, table: str, columns: list[str], only: str = ""
) -> None:
    names = ", ".join(_q(one) for one in columns)
    query = f"SELECT {names} FROM {_q(live)}.{_q(table)} s WHERE {only or 'true'}"  # noqa: S608
    connection.exec_driver_sql(f"INSERT INTO {_q(target)}.{_q(table)} ({names}) {query}")


def _count_on(connection: Connection, live: str, target: str) -> None:
    """No number is given again that was given before."""
    query = sa.text(
        "SELECT sequencename, last_value FROM pg_sequences"
        " WHERE schemaname = :live AND last_value IS NOT NULL"
    )
    for name, last in connection.execute(query, {"live": live}).all():
        into = {"name": f"{_q(target)}.{_q(name)}", "last": last}
        connection.execute(sa.text("SELECT setval(CAST(:name AS regclass), :last, true)"), into)


def _marked(connection: Connection, schema: str) -> dict[str, Any]:
    found = _facts(connection, schema)
    text = json.dumps(found, sort_keys=True)
    return {
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "rows": {name: rows for name, (rows, _) in found.items()},
    }


def _facts(connection: Connection, schema: str) -> dict[str, tuple[int, str]]:
    found = {}
    for table in _tables(connection, schema):
        place = "hashtextextended(CAST(ctid AS text) || '/' || CAST(xmin AS text), 0)"
        query = f"SELECT count(*), CAST(sum({place}) AS text) FROM {_q(schema)}.{_q(table)}"  # noqa: S608
        rows, places = connection.exec_driver_sql(query).one()
        found[table] = (int(rows), str(places))
    return found


def _still(connection: Connection, live: str, sha256: str) -> None:
    """Nobody writes there from here on, and nobody did since."""
    tables = _tables(connection, live)
    if tables:
        names = ", ".join(f"{_q(live)}.{_q(table)}" for table in tables)
        connection.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
    if sha256 and _marked(connection, live)["sha256"] != sha256:
        raise Conflict(
            "止めた後のデータベースに書き込みがありました。ほかの `kura` を終わらせてからやり直してください。"
        )


def _shift(connection: Connection, schema: str, new: str) -> None:
    """Tables with their indexes, constraints and sequences; rows stay where they are."""
    connection.exec_driver_sql(f"CREATE SCHEMA {_q(new)}")
    for table in _tables(connection, schema):
        connection.exec_driver_sql(f"ALTER TABLE {_q(schema)}.{_q(table)} SET SCHEMA {_q(new)}")


def _empty(connection: Connection, schema: str, into: str) -> None:
    for table in _tables(connection, schema):
        connection.exec_driver_sql(f"ALTER TABLE {_q(schema)}.{_q(table)} SET SCHEMA {_q(into)}")
    connection.exec_driver_sql(f"DROP SCHEMA {_q(schema)}")


@contextmanager
def _within(connection: Connection, schema: str) -> Iterator[None]:
    before = _one(connection, "SHOW search_path")
    set_path = sa.text("SELECT set_config('search_path', :path, true)")
    connection.execute(set_path, {"path": _q(schema)})
    yield
    connection.execute(set_path, {"path": before})


@contextmanager
def _plain() -> Iterator[None]:
    """What the server says, in a sentence."""
    try:
        yield
    except DBAPIError as error:
        said = str(error.orig).strip().splitlines()[0]
        raise Conflict(f"PostgreSQL が断りました: {said}") from error


def _one(connection: Connection, query: str) -> Any:
    return connection.exec_driver_sql(query).scalar_one()


def _q(name: str) -> str:
    return '"' + str(name).replace('"', '""') + '"'
