"""A backup of an older Kura comes back in this one; one of a newer is refused (`test_backup.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import MetaData, Table, text

from appliance.backup import create, read, restore
from appliance.settings import file, load
from appliance.store import audit, database, transfer
from appliance.store.tables import PointRow, WordingRow
from tests.backup.site import Home
from tests.store.test_migrations import CONFIG, REVISIONS, filled


@pytest.mark.parametrize("revision", [REVISIONS[0], REVISIONS[len(REVISIONS) // 2], REVISIONS[-2]])
@pytest.mark.parametrize(
    "after", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def test_an_older_backup_is_brought_up_to_this_version(
    revision: str,
    after: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres: Callable[[], str],
) -> None:
    old = Home(tmp_path, name="古い")
    old.data.mkdir()
    old.backups.mkdir()
    (old.data / "kura.toml").write_text(f'backup_folder = "{old.backups}"\n', "utf-8")
    settings = load(old.environment)
    engine = database.connect(settings.database_url)
    with engine.execution_options(kura_write=True).begin() as connection:
        CONFIG.attributes["connection"] = connection
        command.upgrade(CONFIG, revision)
    before = filled(engine)
    with database.writing(engine) as s:
        s.connection().execute(text("DELETE FROM audit"))  # made up, it is no chain
    found = MetaData()
    found.reflect(engine)
    then = tuple(
        replace(t, columns=columns(t, found.tables[t.name]))
        for t in transfer.tables()
        if t.name in found.tables
    )
    with monkeypatch.context() as older:
        older.setattr(database, "head", lambda: revision)
        older.setattr(transfer, "tables", lambda: then)
        made = create.create(settings, engine, file(old.environment), sealed=False)
    engine.dispose()
    assert made.revision == revision

    url = postgres() if after == "postgresql" else ""
    new = Home(tmp_path, name="新しい", url=url)
    restore.restore(read.find(old.backups), new.data, new.settings.database_url)
    engine = database.connect(new.settings.database_url)
    with engine.connect() as connection:
        assert database.revision(connection) == database.head()
        for name, rows in before.items():
            if name not in ("session", "try", "audit", "site"):
                count = text(f'SELECT count(*) FROM "{name}"')
                assert connection.execute(count).scalar_one() == rows, name
    assert [entry.action for entry in audit.entries(engine)] == ["backup.restore"]
    with database.writing(engine) as s:  # numbers go on where they were
        s.add(PointRow(digest=b"new", vector=b"new"))
        s.add(WordingRow(digest=b"new", text="新しい", marks=[]))
    engine.dispose()


_TEXT = {"text": "text", "marks": "json", "pages": "json", "runs": "bytes", "own": "json"}
# columns that this version dropped
GONE = {"source": {"shrunk": "flag"}, "body": _TEXT, "chunk": {"vector": "bytes"}}


def columns(table: transfer.Table, held: Table) -> tuple[transfer.Column, ...]:
    """Those that the table had then."""
    gone = (transfer.Column(*one) for one in GONE.get(table.name, {}).items())
    return tuple(c for c in (*table.columns, *gone) if c.name in held.columns)
