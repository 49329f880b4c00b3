"""An upgrade of the real appliance, with a model that is a fake: real database, real HTTP, three processes.

What may go wrong between two steps is in test_switch.py.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from installer.upgrade import files, record
from tests.installer import releases
from tests.installer.hosts import Host
from tests.installer.hosts import host as a_host

pytestmark = pytest.mark.slow

OLD, NEW = "1.0.0", "2.0.0"
DEAF = """
def _deaf() -> None:  # what a release does that cannot answer
    from appliance.ask import answer
    def broken(*args, **kwargs):
        raise RuntimeError("no answer")
    answer.Answerer.stream = broken
_deaf()
"""


@pytest.fixture
def host() -> Iterator[Host]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with a_host(KURA_WEB_PORT=str(port), KURA_OCR="false", KURA_FOLLOW_SECONDS="0.1") as made:
        releases.make(made.places.release(OLD), OLD)
        made.begin(OLD)
        done = made.kura("user", "add", "ito", "--name", "伊藤 健")
        assert done.returncode == 0, done.stderr
        began = time.monotonic()
        made.start()
        until(lambda: health(made) == (OLD, "ready"), 300)
        made.booted_s = time.monotonic() - began
        yield made


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def health(host: Host) -> tuple[str, str]:
    """Version and state; two empty ones where nothing answers."""
    try:
        url = f"http://127.0.0.1:{host.settings['KURA_WEB_PORT']}/api/v1/health"
        with urlopen(url, timeout=2) as answer:
            told = json.loads(answer.read())
            return told["version"], told["status"]
    except (URLError, OSError, ValueError):
        return "", ""


class Watch:
    """Asks ten times a second; `gap` is the longest time without an answer that Kura is ready."""

    def __init__(self, host: Host) -> None:
        self._host, self._stop = host, threading.Event()
        self.gap = 0.0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.1):
            if health(self._host)[1] == "ready":
                now = time.monotonic()
                self.gap, last = max(self.gap, now - last), now

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def people(host: Host) -> list[str]:
    done = host.kura("user", "list", "--json")
    return [one["id"] for one in json.loads(done.stdout)["users"]]


def test_an_upgrade_and_a_rollback_of_the_real_thing(host: Host) -> None:
    releases.make(host.places.release(NEW), NEW, revisions={"0900": "", "0901": ""})
    with Watch(host) as watch:
        host.installer("upgrade", NEW)
    print(host.said, f"without service: {watch.gap:.1f} s")
    assert watch.gap < max(30, 3 * host.booted_s)  # a machine that others use starts slowly
    assert health(host) == (NEW, "ready") and host.revision() == "0901"
    assert people(host) == ["ito"], "nothing of the check is left"
    assert not any((host.data / "uploads").glob("[!.]*"))
    assert host.kura("user", "add", "sato", "--name", "佐藤").returncode == 0
    with Watch(host) as watch:
        host.installer("rollback", "--yes")
    print(host.said, f"without service: {watch.gap:.1f} s")
    assert watch.gap < max(30, 3 * host.booted_s) and "+1" in host.said
    assert health(host) == (OLD, "ready") and host.revision() != "0901"
    assert people(host) == ["ito"]
    assert host.kura("doctor", "--json").stdout


def test_a_migration_that_fails_is_found_while_the_old_release_serves(host: Host) -> None:
    releases.make(host.places.release(NEW), NEW, revisions={"0900": "", "0901": releases.BREAKS})
    with Watch(host) as watch:
        host.installer("upgrade", NEW, status=1)
    assert "Traceback" not in host.said and "migrate" in host.said, host.said
    assert health(host) == (OLD, "ready") and watch.gap < max(10, host.booted_s)
    assert not (host.data / "upgrade/next").exists() and record.read(host.places) is None


def test_a_release_that_cannot_answer_is_found_on_the_copy(host: Host) -> None:
    releases.make(host.places.release(NEW), NEW, revisions={"0900": ""}, patch=DEAF)
    host.installer("upgrade", NEW, status=1)
    assert "回答と出典" in host.said, host.said
    assert health(host) == (OLD, "ready") and host.version == OLD


def test_a_release_that_fails_after_the_switch_goes_by_itself_within_a_minute(host: Host) -> None:
    """It answers on the copy and not in its place: as one does that its walls are too tight for."""
    patch = DEAF.rsplit("_deaf()", 1)[0] + (
        "import os\nif not os.environ['KURA_DATA'].endswith('next'):\n    _deaf()\n"
    )
    releases.make(host.places.release(NEW), NEW, revisions={"0900": ""}, patch=patch)
    host.installer("upgrade", NEW, status=1)
    print(host.said)
    assert "回答と出典" in host.said and "バイト単位で同じ" in host.said
    events = [json.loads(line) for line in host.places.journal.read_text("utf-8").splitlines()]
    (compared,) = [e for e in events if e.get("event") == "compared"]
    assert compared["sha256"] == compared["wanted"]
    (reverted,) = [e for e in events if e.get("event") == "reverted"]
    assert reverted["took_s"] < max(60, 3 * host.booted_s)
    assert health(host) == (OLD, "ready") and people(host) == ["ito"]
    (aside,) = (host.data / "upgrade/after").iterdir()
    assert (aside / "kura.db").exists()


def test_the_real_thing_does_not_start_half_switched(host: Host) -> None:
    host.stop()
    (host.data / files.SWITCHING).touch()
    for words in (("up",), ("web",), ("work",), ("infer",), ("user", "list"), ("backup", "create")):
        done = host.kura(*words)
        assert done.returncode == 78 and "kura-installer recover" in done.stderr, words
        assert len(done.stderr.strip().splitlines()) == 1
