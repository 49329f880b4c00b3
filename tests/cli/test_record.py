"""No command of an administrator, and no call, is done without a word in the audit chain."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from appliance import cli, cli_record
from appliance.sovereignty import egress
from appliance.store import audit, database
from appliance.store.audit import Record
from tests.cli import test_cli
from tests.cli.test_cli import kura, told

home = test_cli.home

COMMANDS = dict(cli_record.leaves(typer.main.get_command(cli.app)))
SECRET = re.compile("password|secret|setting|origin|target|key$|question|query")


def rows(home: dict[str, str]) -> list[Record]:
    engine = database.connect(f"sqlite:///{home['KURA_DATA']}/kura.db")
    try:
        return audit.entries(engine, limit=1000)[::-1]
    finally:
        engine.dispose()


def test_every_command_says_whether_it_changes_or_reveals() -> None:
    assert set(COMMANDS) == set(cli_record.KNOWN)
    for path, entry in cli_record.KNOWN.items():
        given = {p.name for p in COMMANDS[path].params}
        assert set(entry.told) <= given and ({entry.when} - {""}) <= given, path
        assert not any(SECRET.search(name) for name in entry.told), path


@pytest.mark.parametrize("path", COMMANDS)
def test_each_is_recorded_before_it_runs_and_after(
    path: str, sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = cli_record.KNOWN[path]
    for name in ("guard", "reach"):  # it would stay with this process
        monkeypatch.setattr(egress, name, lambda *_: None)
    (tmp_path / "kura.db").write_bytes(sqlite_template.read_bytes())
    monkeypatch.setenv("KURA_DATA", str(tmp_path))
    engine = database.connect(f"sqlite:///{tmp_path / 'kura.db'}")
    seen: list[str] = []

    def run(**_: object) -> None:
        seen.extend(r.action for r in audit.entries(engine))
        raise RuntimeError("in the middle")

    given = {p.name: "x" for p in COMMANDS[path].params if p.name and p.name != "scheduled"}
    with pytest.raises(RuntimeError):
        cli_record._recording(path, run)(**given)
    after = audit.entries(engine)
    engine.dispose()
    if entry.what == "neither" or entry.own:
        assert after == []
        return
    assert seen == ["command"]
    end, begin = after
    assert begin.detail["command"] == path and set(begin.detail["given"]) == set(entry.told)
    assert end.detail["of"] == begin.sequence and "RuntimeError" in end.detail["outcome"]


def test_who_did_what_when_and_with_which_end(home: dict[str, str]) -> None:
    home |= {"LOGNAME": "somebody-else", "USER": "somebody-else"}  # anybody can say that
    kura(home, "user", "add", "ito", "--password-stdin", given="KANARIA-秘密の言葉\n")
    kura(home, "user", "disable", "nobody", status=1)
    kura(home, "user", "list")
    kura(home, "status", status=1)
    me = pwd.getpwuid(os.getuid()).pw_name
    found = rows(home)
    assert {r.actor for r in found} == {f"console:{me}"}
    told = [(r.action, r.detail.get("command"), r.detail.get("outcome")) for r in found]
    assert told == [
        ("user.create", None, None),
        ("command.end", "user add", "ok"),  # before it there was no chain
        ("command", "user disable", None),
        ("command.end", "user disable", "refused: NotVisible"),
        ("command", "user list", None),
        ("command.end", "user list", "ok"),
    ]
    assert "KANARIA" not in str([r.detail for r in found])


def test_it_is_read_by_kura_audit_and_no_terminal_obeys_it(home: dict[str, str]) -> None:
    kura(home, "group", "set", "総務部", "user:ito")
    kura(home, "maintenance", "on", "--message", "赤\x1b[31m\u202e文字")
    shown = kura(home, "audit", "--verify").stdout
    assert "group.set" in shown and "総務部" in shown and "つながっています" in shown
    assert "\x1b" not in shown and "\u202e" not in shown
    assert all(
        r["action"] == "command" for r in told(home, "audit", "--action", "command")["records"]
    )
    only = told(home, "audit", "-n", "1", "--before", "3")
    assert [r["sequence"] for r in only["records"]] == [2]

    import sqlite3

    with sqlite3.connect(f"{home['KURA_DATA']}/kura.db") as raw:
        raw.execute("UPDATE audit SET actor = 'console:nobody' WHERE sequence = 2")
    raw.close()
    bad = kura(home, "audit", "--verify", status=1)
    assert "2 番から書き換えられています" in bad.stdout


def test_what_cannot_be_recorded_is_not_done(home: dict[str, str]) -> None:  # E9
    kura(home, "user", "add", "ito")
    import sqlite3

    with sqlite3.connect(f"{home['KURA_DATA']}/kura.db") as raw:
        raw.execute(
            "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    raw.close()
    refused = kura(home, "user", "disable", "ito", status=1)
    assert "監査記録に書けないため、実行しません" in refused.stderr
    with sqlite3.connect(f"{home['KURA_DATA']}/kura.db") as raw:
        assert raw.execute("SELECT disabled FROM user").fetchall() == [(0,)]
    raw.close()
    helped = kura(home, "support")
    assert "監査記録に書けません" in helped.stderr and "== machine.json" in helped.stdout


def test_one_that_is_killed_has_left_its_beginning(home: dict[str, str]) -> None:
    kura(home, "user", "add", "ito")
    asking = subprocess.Popen(
        [sys.executable, "-m", "appliance.cli", "user", "add", "sato", "--password-stdin"],
        env=home,
        stdin=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while rows(home)[-1].action != "command":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    asking.send_signal(signal.SIGKILL)
    asking.communicate()
    last = rows(home)[-1]
    assert (last.action, json.dumps(last.detail["given"])) == ("command", '{"user_id": "sato"}')
