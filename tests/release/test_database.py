"""What a release does with a database that the next one is to have."""

from __future__ import annotations

import shutil
from pathlib import Path

import pysqlite3
import pytest

from appliance import build
from appliance.errors import Conflict, SettingsError
from appliance.release import database as of
from appliance.settings import Settings
from appliance.store import database, guard, sources


@pytest.fixture
def settings(tmp_path: Path, sqlite_template: Path) -> Settings:
    data = tmp_path / "データ"
    data.mkdir(mode=0o700)
    shutil.copy(sqlite_template, data / "kura.db")
    return Settings(data=data)


def test_a_copy_is_of_one_moment_and_the_database_stays_as_it_is(settings: Settings) -> None:
    engine = database.connect(settings.database_url)
    sources.create(engine, "総務部", "folder", {"root": "/srv"})
    with database.writing(engine) as session:  # somebody who has not come to the end
        session.connection().exec_driver_sql("UPDATE source SET name = '途中'")
        of.copy(settings, settings.data / "写し.db")
        session.rollback()
    copied = database.connect(f"sqlite:///{settings.data / '写し.db'}")
    assert [one.name for one in sources.all(copied)] == ["総務部"]
    for one in (engine, copied):
        one.dispose()


def test_a_copy_that_the_disk_has_no_room_for_is_none(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(of, "_synced", full)
    with pytest.raises(OSError, match="No space"):
        of.copy(settings, settings.data / "写し.db")
    assert not list(settings.data.glob("写し*"))


def test_at_rest_all_is_in_one_file_and_nobody_has_it_open(settings: Settings) -> None:
    path = settings.data / "kura.db"
    other = pysqlite3.dbapi2.connect(str(path), isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("UPDATE site SET value = value")
    other.execute("BEGIN")
    other.execute("SELECT * FROM source").fetchall()
    with pytest.raises(Conflict, match="開いています"):
        of.settle(settings)
    other.close()
    assert of.settle(settings) == path.stat().st_size
    assert not list(settings.data.glob("kura.db-*"))


def test_a_copy_that_is_tried_reaches_for_nothing(settings: Settings) -> None:
    engine = database.connect(settings.database_url)
    sources.create(engine, "総務部", "folder", {"root": "/srv"})
    sources.create(engine, "アップロード", "uploads", {"root": "/old"})
    of.isolate(engine, settings.data / "uploads")
    found = {one.kind: one for one in sources.all(engine)}
    assert not found["folder"].enabled and found["uploads"].enabled
    assert found["uploads"].settings["root"] == str(settings.data / "uploads")
    engine.dispose()


def test_asking_makes_no_database(tmp_path: Path) -> None:
    assert of.state(Settings(data=tmp_path / "none")) == {
        "revision": None,
        "rows": {},
        "searched_by": "",
    }
    assert not (tmp_path / "none").exists()


def test_nothing_starts_between_two_releases(settings: Settings) -> None:
    (settings.data / guard.SWITCHING).touch()
    with pytest.raises(SettingsError, match="kura-installer recover"):
        build.store(settings)
    (settings.data / guard.SWITCHING).unlink()
    build.store(settings).dispose()
