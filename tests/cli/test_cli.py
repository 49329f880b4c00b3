"""The command line as a person types it: real processes, their output and their exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance import up
from appliance.ingest.sync import sync
from appliance.settings import Settings
from appliance.store import database, sources
from appliance.testing.fakes import HashEmbedder, MemoryConnector
from appliance.types import Document, Layer, Principal, RawFile
from tests import forked, ports

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a data folder and a port of its own, where nothing runs yet."""
    port = ports.free()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KURA_")}
    return kept | {
        "KURA_DATA": str(tmp_path / "data"),
        "KURA_WEB_PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }


def kura(
    home: dict[str, str], *words: str, status: int = 0, given: str = ""
) -> subprocess.CompletedProcess[str]:
    done = forked.kura(*words, env=home, given=given)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def told(home: dict[str, str], *words: str, status: int = 0) -> Any:
    return json.loads(kura(home, *words, "--json", status=status).stdout)


def only_for(home: dict[str, str], principal: str) -> sources.Source:
    """A source whose one document nobody else may read, taken in."""
    engine = database.connect(f"sqlite:///{home['KURA_DATA']}/kura.db")
    source = sources.create(engine, "棚", "memory", {})
    files = MemoryConnector(
        {"規程/旅費.txt": ("宿泊費の上限。", (Layer(frozenset({Principal(principal)})),))}
    )

    def parse(file: RawFile) -> tuple[Document, str]:
        return Document("宿泊費の上限。"), "text/plain"

    sync(engine, source, files, HashEmbedder(), parse, Settings())
    engine.dispose()
    return source


def imported(home: dict[str, str], code: str) -> set[str]:
    show = "; import sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + show], capture_output=True, text=True, env=home, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_help_loads_nothing_heavy(home: dict[str, str]) -> None:
    loaded = imported(home, "import appliance.cli")
    assert not loaded & {"torch", "faiss", "tantivy", "fastapi", "sqlalchemy", "numpy", "httpx2"}
    assert "work" in kura(home, "--help").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stats",), "stats というコマンドはありません（近いのは status、"),
        (("user", "add"), "user_id を指定してください。使い方は `kura user add --help` "),
        (
            ("user", "add", "ito", "--nmae", "x"),
            "--nmae というオプションはありません（近いのは --name）。使い方は `kura user add --help` ",
        ),
        (("user", "add", "ito", "--name"), "--name には値を続けて書いてください"),
        (("audit", "-n", "多め"), "--limit に書けるのは、1 から 100000 までの整数です"),
        (("audit", "--before", "-1"), "--before に書けるのは、0 以上の整数です"),
        (("status", "--json=1"), "--json には値を書けません"),
        (("user", "list", "ito", "sato"), "余分な言葉があります（ito sato）"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    home: dict[str, str], words: tuple[str, ...], said: str
) -> None:
    refused = kura(home, *words, status=2).stderr
    assert refused.startswith(f"kura: {said}")
    assert refused.count("\n") == 1 and "rror" not in refused


def test_kura_alone_shows_the_commands_and_its_version(home: dict[str, str]) -> None:
    assert "アカウントの一覧" in kura(home, "user", status=2).stderr
    assert kura(home, "--version").stdout.startswith("Kura 0.")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("web_prot = 8401", "web_prot という設定はありません"),
        ('web_port = "八千"', "設定 web_port に書けるのは整数です（いまは '八千'）"),
        ("ocr = 3", "設定 ocr に書けるのは true か false です"),
        ("web_port = = 1", "TOML として読めません"),
        ('time_zone = "日本"', "time_zone の 日本 を、このマシンは知りません"),
        ('tls_key = "a.pem"', "tls_certificate と tls_key は、両方書くか"),
        ('database_url = "mysql://db/kura"', "database_url の mysql は使えません"),
        ('sealed_resolvers = "dns.example"', "DNS サーバーの IP アドレスです"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(
    home: dict[str, str], written: str, said: str
) -> None:
    data = Path(home["KURA_DATA"])
    data.mkdir(mode=0o700)
    (data / "kura.toml").write_text(f"{written}\n", "utf-8")
    home.pop("KURA_WEB_PORT")
    refused = kura(home, "status", status=78).stderr
    assert said in refused and refused.count("\n") == 1
    assert refused.startswith("kura: ") and refused.endswith("。\n")


def test_work_loads_no_index_and_no_model(home: dict[str, str]) -> None:
    code = "from appliance import build, settings, worker; build.work(settings.load())"
    assert not imported(home, code) & {"torch", "faiss", "tantivy", "llama_cpp", "fastapi"}


def test_accounts_groups_and_sources(home: dict[str, str], tmp_path: Path) -> None:
    made = told(home, "user", "add", "admin", "--administrator")
    assert len(made["password"]) >= 16
    kura(home, "group", "set", "総務部", "user:ito")
    words = ("user", "add", "ito", "--name", "伊藤", "--group", "総務部", "--password-stdin")
    shown = kura(home, *words, given="正しいパスワード99\n")
    assert "正しいパスワード99" not in shown.stdout
    assert [u["id"] for u in told(home, "user", "list")["users"]] == ["admin", "ito"]
    kura(home, "user", "disable", "ito")
    assert told(home, "user", "list")["users"][1]["disabled"]
    refused = kura(home, "user", "disable", "admin", status=1)
    assert "管理者" in refused.stderr
    kura(home, "user", "add", "ito", status=1)

    root = tmp_path / "share"
    root.mkdir()
    words = ("source", "add", "総務", "folder", "--set", f"root={root}")
    kura(home, *words, "--set", 'allow=["everyone"]')
    names = [s["name"] for s in told(home, "source", "list")["sources"]]
    assert "総務" in names
    kura(home, "source", "add", "壊れ", "folder", status=1)
    kura(home, "sync", "総務", "--no-wait")
    for word in ("pause", "run", "resync"):
        kura(home, "source", word, "総務")
    kura(home, "sync", "総務", "--no-wait", status=78)  # it is paused
    kura(home, "source", "resume", "総務")
    timing = ("source", "timing", "総務", "--cron")
    kura(home, *timing, "0 3 * * *", "--quiet", "08:30-18:00", "--days", "月火水木金")
    kura(home, *timing, "三時", status=1)
    (shown,) = (s for s in told(home, "source", "list")["sources"] if s["name"] == "総務")
    assert (shown["enabled"], shown["withheld"], shown["fresh_at"]) == (True, False, None)
    assert (
        "確認を待っている削除はありません"
        in kura(home, "source", "accept", "総務", status=1).stderr
    )
    engine = database.connect(Settings(data=Path(home["KURA_DATA"])).database_url)
    one = sources.by_name(engine, "総務")
    sources.set_held(engine, one.id, sources.Held(missing=40, of=50, confirmed=0))
    assert "50 件のうち 40 件" in kura(home, "source", "accept", "総務").stdout
    assert sources.get(engine, one.id).held.accepted
    engine.dispose()
    kura(home, "source", "remove", "総務")
    assert "総務" not in [s["name"] for s in told(home, "source", "list")["sources"]]


def test_who_sees_a_document_and_by_which_rule(home: dict[str, str]) -> None:
    kura(home, "user", "add", "ito", "--name", "伊藤")
    kura(home, "user", "add", "sato", "--name", "佐藤")
    kura(home, "group", "set", "総務一課", "user:ito")
    kura(home, "group", "set", "総務部", "group:総務一課")
    only_for(home, "group:総務部")

    shown = kura(home, "who-sees", "棚/規程/旅費.txt").stdout
    assert "○ ito\t伊藤" in shown and "user:ito → group:総務一課 → group:総務部" in shown
    assert "sato" not in shown
    refused = kura(home, "who-sees", "棚/規程/旅費.txt", "--user", "sato").stdout
    assert "× sato" in refused and "当てはまりません" in refused
    thought = told(home, "who-sees", "棚/規程/旅費.txt", "--user", "sato", "--also", "総務部")
    assert thought["verdicts"][0]["reads"] and "宿泊費" not in json.dumps(thought)
    assert "棚\t1 件中 1 件" in kura(home, "user", "sees", "ito").stdout
    (shelf,) = (s for s in told(home, "user", "sees", "sato")["sources"] if s["source"] == "棚")
    assert (shelf["documents"], shelf["seen"]) == (1, 0)
    assert "資料が見つかりません" in kura(home, "who-sees", "棚/ない", status=1).stderr


def test_settings_are_shown_without_their_secrets(home: dict[str, str]) -> None:
    url = {"KURA_DATABASE_URL": "postgresql+psycopg://kura:KANARIA@db.example/kura"}
    for words in (("settings",), ("settings", "--json")):
        assert "KANARIA" not in kura(home | url, *words).stdout
    rows = {r["name"]: r for r in told(home, "settings")["settings"]}
    assert rows["web_port"]["value"] == home["KURA_WEB_PORT"]
    assert all(len(row["sentence"]) > 10 for row in rows.values())


@pytest.mark.parametrize("bad", [{"KURA_WEB_PORT": "abc"}, {"KURA_CONFIG": "/nowhere/kura.toml"}])
def test_a_bad_setting_is_named_and_final(home: dict[str, str], bad: dict[str, str]) -> None:
    for command in ("status", "work", "up"):
        refused = kura(home | bad, command, status=78)
        assert re.search("web_port|KURA_CONFIG", refused.stderr)


def test_data_that_others_may_read_is_not_served(home: dict[str, str]) -> None:
    data = Path(home["KURA_DATA"])
    data.mkdir(mode=0o700)
    data.chmod(0o755)
    for command in ("up", "web", "work"):
        assert "chmod 700" in kura(home, command, status=78).stderr
    checks = {c["name"]: c for c in told(home, "doctor", status=1)["checks"]}
    assert not checks["データフォルダー"]["ok"] and not checks["モデル"]["ok"]


def test_nothing_runs_and_everybody_says_so(home: dict[str, str]) -> None:
    kura(home, "user", "add", "ito")
    assert told(home, "status", status=1)["web"] == "stopped"
    assert "kura up" in kura(home, "ask", "質問", "--as", "ito", status=78).stderr
    assert "nobody" in kura(home, "ask", "質問", "--as", "nobody", status=78).stderr


def test_what_is_being_started_is_not_called_stopped(home: dict[str, str]) -> None:
    kura(home, "user", "add", "ito")
    data = Path(home["KURA_DATA"])
    with up.held(data, "up"), up.held(data, "infer"):
        state = told(home, "status", status=1)
        assert [state[name] for name in ("web", "work", "infer")] == ["starting"] * 3
        assert not state["concerns"] and not state["well"]
        os.utime(data / "up.lock")  # a busy machine takes a minute for one command
        assert kura(home, "status", status=1).stdout.startswith("起動中です。")
        for name in ("up", "infer"):
            os.utime(data / f"{name}.lock", (1, 1))
        state = told(home, "status", status=1)
        assert [state[name] for name in ("web", "work", "infer")] == ["stopped", "stopped", "stuck"]
        assert {"web", "work", "model"} <= {one["key"] for one in state["concerns"]}


def test_the_description_is_written(home: dict[str, str], tmp_path: Path) -> None:
    kura(home, "openapi", str(tmp_path / "openapi.json"))
    written = json.loads((tmp_path / "openapi.json").read_text("utf-8"))
    assert "/api/v1/query" in written["paths"]


def test_the_web_alone_serves_shows_its_code_and_stops(home: dict[str, str]) -> None:
    serving = subprocess.Popen(
        [sys.executable, "-m", "appliance.cli", "web"], stderr=subprocess.PIPE, text=True, env=home
    )
    try:
        assert serving.stderr is not None
        assert re.search(r"([A-Z2-9]{4}-){3}[A-Z2-9]{4}", serving.stderr.readline())
        deadline = time.monotonic() + 60
        while told_status(home) not in ("ready", "degraded"):
            assert time.monotonic() < deadline and serving.poll() is None
            time.sleep(0.2)
        assert str(serving.pid) in kura(home, "web", status=1).stderr  # a second one

        kura(home, "user", "add", "ito", "--administrator")
        assert told(home, "search", "宿泊費は?", "--as", "ito") == {
            "passages": [],
            "partial": False,
        }
        assert told(home, "reindex")["chunks"] == 0
        source = only_for(home, "user:ito")
        engine = database.connect(f"sqlite:///{home['KURA_DATA']}/kura.db")
        sources.hold(engine, source.id, datetime(2026, 1, 1, tzinfo=UTC))
        engine.dispose()
        deadline = time.monotonic() + 60
        while "探していません" not in kura(home, "search", "宿泊費は?", "--as", "ito").stdout:
            assert time.monotonic() < deadline  # until the index has followed
            time.sleep(0.2)
        kura(home, "user", "add", "sato")
        searched = kura(home, "search", "宿泊費は?", "--as", "sato").stdout
        assert "探していません" not in searched and "見つかりません" in searched
    finally:
        serving.send_signal(signal.SIGTERM)
        log = serving.communicate(timeout=30)[1]
    assert serving.returncode == 0
    assert all(json.loads(line) for line in log.splitlines())


def test_an_evaluation_says_what_it_cannot_read(home: dict[str, str], tmp_path: Path) -> None:
    asked = tmp_path / "質問.jsonl"
    assert "質問.jsonl" in kura(home, "eval", str(asked), status=1).stderr
    asked.write_text('{"question": "a"}\n{}', "utf-8")
    assert "2 行目" in kura(home, "eval", str(asked), status=1).stderr
    asked.write_text('{"question": "a", "viewer": "nobody"}', "utf-8")
    assert "KURA_DATA" in kura(home, "eval", str(asked), status=1).stderr
    kura(home, "user", "add", "ito")
    assert "nobody" in kura(home, "eval", str(asked), status=78).stderr
    asked.write_text('{"question": "a", "viewer": "ito"}', "utf-8")
    assert "kura up" in kura(home, "eval", str(asked), status=78).stderr


def told_status(home: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "appliance.cli", "status", "--json"],
        capture_output=True,
        text=True,
        env=home,
    )
    return str(json.loads(done.stdout)["web"])
