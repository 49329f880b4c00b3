"""The demo, as it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance import settings
from appliance.store import sources
from appliance.types import Cursor
from installer.demo import _listening, _wait_loaded
from installer.sample import load
from tests import ports

ROOT = Path(__file__).parents[2]
RUNNING = """
from installer import demo
from appliance import settings
demo.end_with_terminal()
with demo._running(settings.load()) as up:
    print(up.pid, flush=True)
    up.wait()
"""


@pytest.mark.models
@pytest.mark.parametrize(
    "left",
    [
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        signal.SIGHUP,
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
    ],
)
def test_whoever_closes_its_terminal_leaves_nothing_running(
    tmp_path: Path, left: signal.Signals
) -> None:
    port = ports.free()
    own = {
        "KURA_DATA": str(tmp_path / "data"),
        "KURA_WEB_PORT": str(port),
        "KURA_MODELS": str(settings.load({**os.environ}).models),
    }
    demo = subprocess.Popen(
        [sys.executable, "-c", RUNNING],
        cwd=ROOT,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert demo.stdout
    with demo.stdout:
        up = int(demo.stdout.readline())
        until = time.monotonic() + 60
        while not _listening("127.0.0.1", port):
            assert time.monotonic() < until
            time.sleep(0.1)
        demo.send_signal(left)
        demo.wait(60)
    until = time.monotonic() + 20
    while Path(f"/proc/{up}").exists():
        assert time.monotonic() < until, "kura up runs on"
        time.sleep(0.1)


def test_a_source_of_which_nobody_knows_yet_is_waited_for(sqlite_engine: Engine) -> None:
    """Hours after the demo was left: its question would be answered with nothing."""
    source = sources.create(sqlite_engine, load.SOURCE, "memory", {})
    sources.save_cursor(sqlite_engine, source.id, Cursor("1"))
    sources.hold(sqlite_engine, source.id, datetime(2026, 1, 1, tzinfo=UTC))
    own = settings.Settings(database_url=sqlite_engine.url.render_as_string(), follow_seconds=0.01)
    with subprocess.Popen(["sleep", "60"]) as up:
        waiting = threading.Thread(target=_wait_loaded, args=(own, up))
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
        sources.hold(sqlite_engine, source.id, datetime.now(UTC) + timedelta(hours=1))
        waiting.join(10)
        up.kill()
    assert not waiting.is_alive()
