"""Maintenance, alerts, repairs and the one page that says it is well, as a person types them."""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.cli_operate import moment
from appliance.errors import BadRequest
from appliance.settings import Settings
from tests import forked
from tests.cli import test_cli
from tests.cli.test_cli import kura, told
from tests.fakes import receivers

home = test_cli.home


@pytest.mark.parametrize(
    "words",
    [
        "status", "sync", "user list", "user sees ito", "user password ito", "who-sees 規程.txt",
        "group list", "source list", "source pause 棚", "alerts list", "alerts test",
        "maintenance status", "maintenance on", "directory status", "directory check", "audit",
        "attest --out .", "doctor", "doctor --repair", "backup create",
    ],
)  # fmt: skip
def test_a_folder_by_a_wrong_name_stays_as_it_is(home: dict[str, str], words: str) -> None:
    """Of a typing error in KURA_DATA comes no empty site, and no answer about one."""
    done = forked.kura(*words.split(), env=home, given="himitsu-himitsu-1\n")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert home["KURA_DATA"] in done.stderr + done.stdout, done.stderr
    assert not Path(home["KURA_DATA"], "kura.db").exists()


def test_maintenance_is_begun_shown_and_ended_and_lasts(home: dict[str, str]) -> None:
    kura(home, "setup-code")
    kura(home, "maintenance", "on", "--message", "入れ替え", "--until", "2h")
    shown = told(home, "maintenance", "status")
    assert shown["on"] and shown["message"] == "入れ替え"
    ends = datetime.fromisoformat(shown["until"]) - datetime.now(UTC)
    assert timedelta(hours=1, minutes=55) < ends <= timedelta(hours=2)
    assert kura(home, "status", status=1).stdout.startswith("メンテナンス中です。")
    assert "--until 昨日" in kura(home, "maintenance", "on", "--until", "昨日", status=1).stderr
    assert told(home, "maintenance", "status")["message"] == "入れ替え"
    kura(home, "maintenance", "off")
    assert told(home, "maintenance", "status") == {"on": False}


def test_a_time_of_the_clock_is_the_next_such() -> None:
    settings = Settings(time_zone="Asia/Tokyo")
    now = datetime.now(settings.zone)
    for minutes in (-30, 30):
        wanted = now + timedelta(minutes=minutes)
        ends = moment(f"{wanted:%H:%M}", settings)
        assert now - timedelta(minutes=1) < ends <= now + timedelta(days=1)
        assert (ends.hour, ends.minute) == (wanted.hour, wanted.minute)
    for bad in ("", "25:00", "2020-01-01 10:00", "-2h", "2d", "99999h"):
        with pytest.raises(BadRequest):
            moment(bad, settings)


def test_a_test_of_the_alerts_says_what_arrived_and_what_did_not(home: dict[str, str]) -> None:
    kura(home, "setup-code")
    assert "送り先がありません" in kura(home, "alerts", "test", status=1).stderr
    with receivers.hooks() as posts:
        given = {
            "KURA_ALERT_WEBHOOK_URL": f"http://localhost:{posts.port}/",
            "KURA_ALERT_WEBHOOK_SECRET": "KANARIA-KANARIA-1",
            "KURA_NEAR_HOSTS": f"localhost:{posts.port}",
        }
        assert "✓ Webhook" in kura(home | given, "alerts", "test").stdout
        assert len(posts.got) == 1
        given["KURA_ALERT_SYSLOG"] = "udp://127.0.0.1:1"
        said = told(home | given, "alerts", "test", status=1)
    assert said["webhook"]["ok"] and "near_hosts" in said["syslog"]["problem"]
    for words in (("settings",), ("settings", "--json"), ("alerts", "list")):
        assert "KANARIA" not in kura(home | given, *words).stdout
    assert told(home | given, "alerts", "list")["open"] == []


def test_what_is_broken_is_told_mended_and_then_well(home: dict[str, str]) -> None:
    kura(home, "user", "add", "ito")
    data = Path(home["KURA_DATA"])
    (data / "kura.db").chmod(0o644)
    with sqlite3.connect(data / "kura.db") as raw:
        raw.execute(
            "INSERT INTO history (document_id, at, kind, detail, actor)"
            " VALUES ('gone', '2026-01-01', 'x', '', '')"
        )
    raw.close()
    checks = {c["name"]: c for c in told(home, "doctor", status=1)["checks"]}
    assert not checks["ファイル"]["ok"] and not checks["整合"]["ok"] and checks["索引"]["ok"]
    assert "history 1" in checks["整合"]["said"]

    dry = told(home, "doctor", "--repair", status=1)["repairs"]
    # SQLite's own files beside it are as open as the database is, while they are there
    assert {one["name"] for one in dry} == {"ファイルの権限", "属さない行"}
    assert not any(one["done"] for one in dry)
    assert (data / "kura.db").stat().st_mode & 0o077
    assert "2 件" not in kura(home, "doctor", "--yes", status=78).stdout
    assert kura(home, "doctor", "--repair", "--yes").stdout.count("直しました") >= 2
    assert "直すものはありません" in kura(home, "doctor", "--repair").stdout
    checks = {c["name"]: c for c in told(home, "doctor", status=1)["checks"]}  # no models here
    assert all(checks[name]["ok"] for name in ("ファイル", "整合", "データベース", "監査記録"))
    actions = [r["action"] for r in told(home, "audit")["records"]]
    assert actions.count("doctor.repair") >= 2

    (data / "kura.db").write_bytes(b"x" * 10_000)
    refused = kura(home, "doctor", "--repair", "--yes", status=1)
    assert re.search("監査記録に書けない|控えから戻して", refused.stderr)


def test_status_says_first_whether_it_is_well(home: dict[str, str]) -> None:
    kura(home, "user", "add", "ito")
    page = kura(home, "status", status=1).stdout
    assert page.startswith("✗ 見てほしいことが") and "`kura work` が動いていません" in page
    state = told(home, "status", status=1)
    assert state["well"] is False
    assert {one["key"] for one in state["concerns"]} == {"web", "work", "model"}
