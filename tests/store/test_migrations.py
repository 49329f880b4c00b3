"""The schema is the sum of its migrations, on both databases."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlmodel import SQLModel

from appliance.errors import SettingsError
from appliance.store import database, tables


def test_the_sum_of_migrations_is_the_schema(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
        made = set(engine.dialect.get_table_names(connection)) - {"alembic_version"}
    assert made == set(SQLModel.metadata.tables)


def test_the_comparison_sees_a_missing_column(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE site ADD COLUMN forgotten TEXT"))
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, SQLModel.metadata) != []


def test_ids_of_chunks_and_changes_count_beyond_32_bits(engine: Engine) -> None:
    with database.writing(engine) as s:
        s.add(tables.ChangeRow(sequence=2**40, document_id="d"))
    with database.reading(engine) as s:
        assert s.get(tables.ChangeRow, 2**40) is not None


def test_several_processes_may_migrate_an_empty_database_at_once(
    request: pytest.FixtureRequest, engine: Engine
) -> None:
    with engine.begin() as connection:
        for table in reversed(SQLModel.metadata.sorted_tables):
            connection.execute(text(f'DROP TABLE "{table.name}"'))
        connection.execute(text("DROP TABLE alembic_version"))
    errors: list[BaseException] = []
    url = engine.url.render_as_string(hide_password=False)

    def start() -> None:
        mine = database.connect(url)
        try:
            database.migrate(mine)
        except BaseException as error:
            errors.append(error)
        finally:
            mine.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    test_the_sum_of_migrations_is_the_schema(engine)


def test_a_database_of_a_newer_version_is_left_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match="newer"):
        database.migrate(engine)
