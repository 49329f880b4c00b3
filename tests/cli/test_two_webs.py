"""Two `kura web` on one database: guessing passwords at both is worth no more than at one."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.cli.test_cli import home, told

__all__ = ["home"]

ATTEMPTS = 4


@pytest.fixture
def webs(home: dict[str, str], tmp_path: Path) -> Iterator[list[str]]:
    shared = home | {
        "KURA_DATABASE_URL": f"sqlite:///{tmp_path / 'shared.db'}",
        "KURA_SECRETS_KEY": str(tmp_path / "secrets.key"),
        "KURA_LOCKOUT_ATTEMPTS": str(ATTEMPTS),
    }
    told(shared, "user", "add", "ito", "--administrator")
    port = int(home["KURA_WEB_PORT"])
    with contextlib.ExitStack() as ended:
        for n in range(2):
            own = {"KURA_DATA": str(tmp_path / f"data{n}"), "KURA_WEB_PORT": str(port + n)}
            started = subprocess.Popen(
                [sys.executable, "-m", "appliance.cli", "web"], env=shared | own
            )
            ended.callback(started.wait, 30)
            ended.callback(started.send_signal, signal.SIGTERM)
        found = [f"http://127.0.0.1:{port + n}" for n in range(2)]
        for url in found:
            until_answers(url)
        yield [*found]


def until_answers(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urlopen(f"{url}/api/v1/health").close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def signs_in(url: str, password: str) -> int:
    request = Request(
        f"{url}/api/v1/session",
        json.dumps({"user_id": "ito", "password": password}).encode(),
        {"content-type": "application/json", "origin": url},
    )
    try:
        with urlopen(request) as answer:
            return int(answer.status)
    except HTTPError as refused:
        return refused.code


def test_both_count_together(webs: list[str], home: dict[str, str]) -> None:
    for n in range(ATTEMPTS):
        assert signs_in(webs[n % 2], "まちがったパスワード") == 401
    assert [signs_in(url, "まちがったパスワード") for url in webs] == [429, 429]
