"""Many at once: nobody is told that the database is locked."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pysqlite3
import pytest
from sqlalchemy import Engine, text

from appliance.errors import NotReady, SettingsError
from appliance.store import audit, catalog, conversations, database, people, site, sources
from appliance.types import EVERYONE, Answer, Principal, Viewer

INGEST = """
import io, sys
from datetime import UTC, datetime
from appliance.store import catalog, database
from appliance.testing.fakes import PUBLIC, HashEmbedder
from appliance.types import Chunk, Document, RawFile
engine, source = database.connect(sys.argv[1]), int(sys.argv[2])
text = "宿泊費は一万円とする。" * 200
chunks = [Chunk(a, a + 11, 0, len(text)) for a in range(0, len(text), 11)]
vectors = HashEmbedder(384).embed(["宿泊費"] * len(chunks), "passage")
for n in range(15):
    file = RawFile(f"{n % 5}", f"{n}", io.BytesIO, PUBLIC, "題", datetime.now(UTC))
    catalog.replace(engine, source, file, Document(text), chunks, vectors, "hash")
"""


def test_web_and_work_share_a_database_without_waiting_in_vain(engine: Engine) -> None:
    source = sources.create(engine, "s", "memory", {}).id
    people.create(engine, "ito", "伊藤")
    ito = Viewer("ito", frozenset({EVERYONE, Principal("user:ito")}))
    url = engine.url.render_as_string(hide_password=False)
    work = subprocess.Popen([sys.executable, "-c", INGEST, url, str(source)])
    errors: list[Exception] = []
    answer = Answer("答え", (), (), "complete")

    def ask() -> None:
        try:
            while work.poll() is None:
                conversations.begin(engine, ito, "質問", answer)
                audit.record(engine, "ito", "ask", {})
                catalog.counts(engine)
                catalog.changes(engine, 0, limit=5)
        except Exception as error:  # noqa: BLE001  shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert work.wait(60) == 0
    assert errors == []
    assert catalog.counts(engine).documents == 5
    assert catalog.counts(engine).chunks == 1000
    assert audit.verify(engine) is None


def test_a_reader_sees_one_moment_while_somebody_writes(engine: Engine) -> None:
    site.put(engine, "a", "1")
    with database.reading(engine) as s:
        query = text("SELECT value FROM site")
        before = s.connection().execute(query).scalar_one()
        site.put(engine, "a", "2")
        assert s.connection().execute(query).scalar_one() == before == "1"
    assert site.get(engine, "a") == "2"
    site.put(engine, "a", None)
    assert site.get(engine, "a") is None


def test_a_failed_transaction_leaves_nothing_and_blocks_nobody(engine: Engine) -> None:
    with pytest.raises(RuntimeError), database.writing(engine) as s:
        s.connection().execute(text("INSERT INTO site (key, value) VALUES ('a', '1')"))
        raise RuntimeError
    assert site.get(engine, "a") is None
    site.put(engine, "a", "2")


def test_a_writer_that_waited_too_long_is_told_to_try_again(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    impatient = database.connect(str(sqlite_engine.url))
    blocker = pysqlite3.connect(str(sqlite_engine.url.database), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotReady, match="データベース"):
        site.put(impatient, "a", "1")
    blocker.execute("ROLLBACK")
    blocker.close()
    site.put(impatient, "a", "1")
    impatient.dispose()


def test_sqlite_is_kept_safely(sqlite_engine: Engine) -> None:
    with sqlite_engine.connect() as connection:

        def pragma(name: str) -> object:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2
        assert pragma("foreign_keys") == 1
        assert pragma("integrity_check") == "ok"


def test_a_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kura.db"
    engine = database.connect(f"sqlite:///{path}")
    database.migrate(engine)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()} == {0o600}
    engine.dispose()


def test_an_sqlite_that_can_lose_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pysqlite3, "sqlite_version_info", (3, 51, 2))
    with pytest.raises(SettingsError, match=r"3\.51\.3"):
        database.connect(f"sqlite:///{tmp_path / 'kura.db'}")


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite://", "mysql://h/d", "sqlite:///:memory:"])
def test_a_url_that_cannot_be_used_is_named(url: str) -> None:
    with pytest.raises(SettingsError, match="database_url"):
        database.connect(url)


def test_a_database_that_is_away_is_said_to_be_away(tmp_path: Path) -> None:
    engine = database.connect(f"postgresql+psycopg://x@/nothing?host={tmp_path}")
    with pytest.raises(NotReady):
        site.get(engine, "a")
    engine.dispose()


def test_a_restarted_database_is_found_again(engine: Engine) -> None:
    site.put(engine, "a", "1")
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
            )
    else:
        engine.dispose()
    assert site.get(engine, "a") == "1"
    site.put(engine, "a", "2")
