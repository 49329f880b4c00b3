"""The schema is the sum of its migrations, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, text
from sqlmodel import SQLModel

from appliance.errors import SettingsError
from appliance.store import database, tables


@pytest.fixture
def migrated(bare_url: str) -> Iterator[Engine]:
    engine = database.connect(bare_url)
    database.migrate(engine)
    yield engine
    engine.dispose()


def test_the_sum_of_migrations_is_the_schema(migrated: Engine) -> None:
    assert_schema(migrated)


def assert_schema(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
        made = set(engine.dialect.get_table_names(connection)) - {"alembic_version"}
    assert made == set(SQLModel.metadata.tables)


def test_the_comparison_sees_a_missing_column(migrated: Engine) -> None:
    with migrated.begin() as connection:
        connection.execute(text("ALTER TABLE site ADD COLUMN forgotten TEXT"))
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, SQLModel.metadata) != []


def test_ids_of_chunks_and_changes_count_beyond_32_bits(engine: Engine) -> None:
    with database.writing(engine) as s:
        s.add(tables.ChangeRow(sequence=2**40, document_id="d"))
    with database.reading(engine) as s:
        assert s.get(tables.ChangeRow, 2**40) is not None


def test_several_processes_may_migrate_an_empty_database_at_once(bare_url: str) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        mine = database.connect(bare_url)
        try:
            database.migrate(mine)
        except Exception as error:  # noqa: BLE001  shown by the assertion
            errors.append(error)
        finally:
            mine.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    engine = database.connect(bare_url)
    assert_schema(engine)
    engine.dispose()


def test_a_database_of_a_newer_version_is_left_alone(migrated: Engine) -> None:
    with migrated.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match="新しい版"):
        database.migrate(migrated)


def test_every_table_whose_ids_must_not_return_counts_on(sqlite_engine: Engine) -> None:
    counting = {
        name for name, t in SQLModel.metadata.tables.items() if t.kwargs.get("sqlite_autoincrement")
    }
    with sqlite_engine.connect() as connection:
        rows = connection.execute(text("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINC%'"))
        assert set(rows.scalars()) == counting
    assert {"chunk", "access", "change", "wording", "point"} <= counting


CONFIG = Config()
CONFIG.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
REVISIONS = sorted(s.revision for s in ScriptDirectory.from_config(CONFIG).walk_revisions())


def filled(engine: Engine) -> dict[str, int]:
    """One row and more in every table; how many each has."""
    found = MetaData()
    found.reflect(engine)
    held: dict[str, int] = {}
    with engine.begin() as connection:
        made: dict[str, dict[str, Any]] = {}
        for table in found.sorted_tables:
            if table.name == "alembic_version":
                continue
            if (row := connection.execute(table.select()).mappings().first()) is None:
                values = {column.name: _value(column, made) for column in table.columns}
                connection.execute(table.insert().values(values))
                row = connection.execute(table.select()).mappings().one()
            made[table.name] = dict(row)
            held[table.name] = len(connection.execute(table.select()).all())
    return held


def _value(column: Any, made: dict[str, dict[str, Any]]) -> object:
    for key in column.foreign_keys:
        if key.column.table is column.table:  # a row of its own kind, of which there is none yet
            return None
        return made[key.column.table.name][key.column.name]
    plain = {bool: True, int: 1, float: 0.5, str: "x", bytes: b"x", object: []}
    plain[date] = date(2026, 4, 1)
    kind = column.type.python_type
    return datetime.now(UTC) if kind is datetime else plain[kind]


def test_what_held_others_in_its_own_text_is_read_once_more(bare_url: str) -> None:
    engine = database.connect(bare_url)
    with engine.execution_options(kura_write=True).begin() as connection:
        CONFIG.attributes["connection"] = connection
        command.upgrade(CONFIG, "0005")
    filled(engine)
    found = MetaData()
    found.reflect(engine)
    part, page = [[0, "添付: 見積.xlsx", "part", None, None, 0]], [[0, "p. 1", "page", 1, None, 0]]
    pdf, mail, archive = "application/pdf", "message/rfc822", "application/zip"
    of = {"zip": (archive, []), "mail": (mail, part), "bare": (mail, []), "pdf": (pdf, page)}
    with engine.begin() as connection:
        first = dict(connection.execute(found.tables["document"].select()).mappings().one())
        for name, (media_type, marks) in of.items():
            own = {"id": name, "uri_digest": name, "media_type": media_type, "sizes": "400/1500"}
            connection.execute(found.tables["document"].insert().values(first | own))
            body = {"document_id": name, "text": "x", "marks": marks}
            connection.execute(found.tables["body"].insert().values(body))
    database.migrate(engine)
    with engine.connect() as connection:
        again = connection.execute(text("SELECT id FROM document WHERE sizes = ''"))
        assert set(again.scalars()) == {"zip", "mail"}
    engine.dispose()


def test_what_is_alike_already_becomes_one(bare_url: str) -> None:
    engine = database.connect(bare_url)
    with engine.execution_options(kura_write=True).begin() as connection:
        CONFIG.attributes["connection"] = connection
        command.upgrade(CONFIG, "0017")
    filled(engine)
    found = MetaData()
    found.reflect(engine)
    with engine.begin() as connection:
        document, body, chunk = (found.tables[name] for name in ("document", "body", "chunk"))
        first = dict(connection.execute(document.select()).mappings().one())
        part = dict(connection.execute(chunk.select()).mappings().one())
        for n in range(500):
            i, text_ = f"d{n:03}", "同じ" if n % 2 else f"別の {n}"
            connection.execute(document.insert().values(first | {"id": i, "uri_digest": i}))
            said = {"marks": [[0, "p. 1", "page", 1, None, 0]], "pages": [], "own": [[1, "x"]]}
            connection.execute(body.insert().values(document_id=i, text=text_, runs=b"r", **said))
            own = {"id": 1000 + n, "document_id": i, "vector": text_.encode()}
            connection.execute(chunk.insert().values(part | own))
    database.migrate(engine)
    with engine.connect() as connection:
        kept = connection.execute(
            text(
                "SELECT d.id, w.text, w.marks, w.own, w.runs, p.vector, c.id FROM document d"
                " JOIN body b ON b.document_id = d.id JOIN wording w ON w.id = b.wording_id"
                " JOIN chunk c ON c.document_id = d.id JOIN point p ON p.id = c.point_id"
                " WHERE d.id LIKE 'd%' ORDER BY d.id"
            )
        ).all()
        assert len(kept) == 500
        for n, row in enumerate(kept):
            text_ = "同じ" if n % 2 else f"別の {n}"
            assert (row.id, row.text, bytes(row.runs)) == (1000 + n, text_, b"r")
            assert bytes(row.vector) == text_.encode()
        for table, rows in (("wording", 252), ("point", 252)):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == rows
    with database.writing(engine) as s:  # numbers go on where they were
        s.add(tables.PointRow(digest=b"new", vector=b"new"))
    engine.dispose()


@pytest.mark.parametrize("revision", REVISIONS)
def test_no_migration_loses_a_row(bare_url: str, revision: str) -> None:
    engine = database.connect(bare_url)
    with engine.execution_options(kura_write=True).begin() as connection:
        CONFIG.attributes["connection"] = connection
        command.upgrade(CONFIG, revision)
    before = filled(engine)
    assert {"document", "chunk", "body", "message"} <= before.keys()
    database.migrate(engine)
    found = MetaData()
    found.reflect(engine)
    with engine.connect() as connection:
        after = {
            name: len(connection.execute(found.tables[name].select()).all()) for name in before
        }
        assert after == before
        if database.is_sqlite(engine):
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    engine.dispose()
