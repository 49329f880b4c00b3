"""`kura directory`, as a person types it, with a directory that is real."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_cli import home, kura, told
from tests.connectors.slapd import BASE, PASSWORD, READER, Slapd, slapd

__all__ = ["home", "slapd"]  # fixtures


@pytest.fixture
def added(home: dict[str, str], slapd: Slapd) -> dict[str, str]:
    """The environment of a machine that has the directory."""
    home |= {
        "KURA_CA_FILE": str(slapd.pem),
        "KURA_NEAR_HOSTS": ",".join(sorted(slapd.site.near)),
        "KURA_DIRECTORY_SECONDS": "10",
    }
    own = ["server=localhost", f"port={slapd.ports[1]}", f"user={READER}", f"base={BASE}"]
    words = [word for one in own for word in ("--set", one)]
    kura(home, "directory", "add", "本社", *words, "--password-stdin", given=f"{PASSWORD}\n")
    return home


def test_added_checked_followed_and_mapped(added: dict[str, str], slapd: Slapd) -> None:
    ito = slapd.person("h.ito", "伊藤 花子", "ito@example.co.jp")
    slapd.group("営業部", ito)
    assert "人 1、グループ 1" in kura(added, "directory", "check").stdout
    kura(
        added,
        "user",
        "add",
        "ito",
        "--name",
        "伊藤",
        "--password-stdin",
        given="正しいパスワード99\n",
    )
    log = Path(added["KURA_DATA"]) / "work.log"
    with log.open("wb") as file:
        argv = [sys.executable, "-m", "appliance.cli", "work"]
        working = subprocess.Popen(argv, env=added, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while not (status := told(added, "directory", "status")["directories"][0])["fresh_at"]:
            assert time.monotonic() < deadline, (status, log.read_text())
            time.sleep(0.5)
    finally:
        working.send_signal(signal.SIGTERM)
        assert working.wait(30) == 0, log.read_text()
    assert status["groups"] == 1 and status["problem"] is None and status["fresh_at"]
    assert PASSWORD not in log.read_text() + str(status)

    line = kura(added, "directory", "map", "伊藤").stdout
    assert line.startswith("user:h.ito\th.ito\t伊藤 花子")
    thought = kura(added, "directory", "map", "h.ito", "user:ito", "--dry-run").stdout
    assert "→ group:営業部" in thought
    kura(added, "directory", "map", "h.ito", "user:ito")
    assert "→ group:営業部" in kura(added, "user", "sees", "ito").stdout
    kura(added, "directory", "map", "h.ito", "rule")
    assert kura(added, "directory", "map", "h.ito").stdout.startswith("user:h.ito\t")


def test_what_is_wrong_is_one_sentence(added: dict[str, str], slapd: Slapd) -> None:
    said = kura(added, "directory", "sync", "--accept", status=1).stderr
    assert "確認を待っているものはありません" in said
    kura(added, "directory", "set", "本社", "--password-stdin", given="ちがう\n")
    said = kura(added, "directory", "check", status=1).stderr
    assert "名前かパスワードが違います" in said and "ちがう" not in said
    kura(added, "directory", "set", "本社", "--set", "match=sid", status=1)
    kura(added, "directory", "remove", "本社")
    assert told(added, "directory", "status") == {"directories": []}
