"""Backups at their time, by a real `kura work`; and who hears of one that is late."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from appliance.backup import schedule
from appliance.settings import Settings
from appliance.store import audit, database, site
from tests.backup.site import Home

NIGHTLY = "30 2 * * *"
NIGHT = datetime(2026, 11, 27, 2, 30, tzinfo=UTC)


def noted(engine: Engine, key: str, at: datetime, ok: bool = True, said: str = "") -> None:
    site.put(engine, key, json.dumps({"at": at.isoformat(), "ok": ok, "said": said}))


def test_the_worker_makes_it_at_its_time_and_tells_of_its_failure(home: Home) -> None:
    engine = database.connect(home.settings.database_url)
    long_ago = datetime.now(UTC) - timedelta(days=3)
    noted(engine, schedule.TRIED, long_ago)
    (late,) = (c for c in doctor(home) if c["name"] == "控え")
    assert not late["ok"] and "控えがまだありません" in late["said"]

    worked(home, engine)
    made = home.told("backup", "list")["backups"]
    assert len(made) == 1 and made[0]["key"]
    entry = next(e for e in audit.entries(engine) if e.action == "backup.create")
    assert (entry.actor, entry.detail["backup"]) == ("system", made[0]["name"])
    (well,) = (c for c in doctor(home) if c["name"] == "控え")
    assert well["ok"] and "最後は" in well["said"]
    assert home.told("status", status=1)["backup"]["problem"] is None

    (home.backups / "kura-backup.json").unlink()  # the share is gone
    noted(engine, schedule.TRIED, long_ago)
    worked(home, engine)
    (bad,) = (c for c in doctor(home) if c["name"] == "控え")
    assert not bad["ok"] and "共有がつながっているか" in bad["said"]
    assert "共有がつながっているか" in home.told("status", status=1)["backup"]["problem"]
    assert "backup.fail" in [e.action for e in audit.entries(engine)]
    engine.dispose()


def doctor(home: Home) -> Any:
    return home.told("doctor", status=1)["checks"]


def worked(home: Home, engine: Engine) -> None:
    """`kura work`, until it has tried."""
    before = site.get(engine, schedule.TRIED)
    with subprocess.Popen(
        [sys.executable, "-m", "appliance.cli", "work"],
        env=home.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as work:
        deadline = time.monotonic() + 60
        while site.get(engine, schedule.TRIED) == before:
            assert time.monotonic() < deadline and work.poll() is None
            time.sleep(0.1)
        work.send_signal(signal.SIGTERM)
        assert work.wait(30) == 0


@pytest.mark.parametrize(
    ("moment", "due"),
    [(NIGHT - timedelta(minutes=1), False), (NIGHT, True), (NIGHT + timedelta(days=3), True)],
)
def test_when_it_is_due(sqlite_engine: Engine, tmp_path: Any, moment: datetime, due: bool) -> None:
    settings = Settings(backup_folder=tmp_path, backup_cron=NIGHTLY, time_zone="UTC")
    assert not schedule.due(sqlite_engine, settings, moment)  # the first comes at its time
    noted(sqlite_engine, schedule.TRIED, NIGHT - timedelta(hours=20))
    assert schedule.due(sqlite_engine, settings, moment) == due
    off = Settings(backup_folder=tmp_path, backup_cron="", time_zone="UTC")
    assert not schedule.due(sqlite_engine, off, moment)
    assert not schedule.due(sqlite_engine, Settings(time_zone="UTC"), moment)


def test_when_it_is_late(sqlite_engine: Engine, tmp_path: Any) -> None:
    settings = Settings(backup_folder=tmp_path, backup_cron=NIGHTLY, time_zone="UTC")
    assert schedule.problem(sqlite_engine, settings, NIGHT) == ""
    for key in (schedule.LAST, schedule.TRIED):
        noted(sqlite_engine, key, NIGHT)
    grace = NIGHT + timedelta(days=1, hours=6)
    assert schedule.problem(sqlite_engine, settings, grace) == ""
    assert "最後の控えは 2026-11-27 02:30" in schedule.problem(
        sqlite_engine, settings, grace + timedelta(minutes=1)
    )
    noted(sqlite_engine, schedule.TRIED, NIGHT, ok=False, said="空きがありません。")
    assert "空きがありません" in schedule.problem(sqlite_engine, settings, NIGHT)
