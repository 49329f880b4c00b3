"""An upgrade of the real appliance, with a model that is a fake: real database, real HTTP, three processes.

What may go wrong between two steps is in test_switch.py.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
import pytest

from installer.upgrade import files, record
from tests import ports
from tests.conftest import Cluster
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
    with running() as made:
        yield made


@contextmanager
def running(**settings: str) -> Iterator[Host]:
    port = ports.free()
    quick = {"KURA_WEB_PORT": str(port), "KURA_OCR": "false", "KURA_FOLLOW_SECONDS": "0.1"}
    with a_host(**quick, **settings) as made:
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
    with Watch(host) as restart:
        host.stop()
        host.start()
        until(lambda: health(host) == (OLD, "ready"), 300)
    with Watch(host) as watch:
        host.installer("upgrade", NEW)
    events = [json.loads(line) for line in host.places.journal.read_text("utf-8").splitlines()]
    took = {e["step"]: e["took_s"] for e in events if e.get("event") == "end"}
    print(f"without service: {watch.gap:.1f} s; a plain restart: {restart.gap:.1f} s; {took}")
    most = max(30, 3 * restart.gap)  # a machine that others use starts slowly
    assert watch.gap < most
    assert health(host) == (NEW, "ready") and host.revision() == "0901"
    assert people(host) == ["ito"], "nothing of the check is left"
    assert not any((host.data / "uploads").glob("[!.]*"))
    assert host.kura("user", "add", "sato", "--name", "佐藤").returncode == 0
    with Watch(host) as watch:
        host.installer("rollback", "--yes")
    print(host.said, f"without service: {watch.gap:.1f} s")
    assert watch.gap < most and "+1" in host.said
    assert health(host) == (OLD, "ready") and host.revision() != "0901"
    assert people(host) == ["ito"]
    assert host.kura("doctor", "--json").stdout


@pytest.mark.long
@pytest.mark.postgres
def test_an_upgrade_on_postgresql(cluster: Cluster) -> None:
    """By a role that owns its database, and may do nothing else on the server."""
    name = f"kura_{uuid.uuid4().hex[:12]}"
    cluster.execute(f"CREATE ROLE {name} LOGIN")
    cluster.execute(f"CREATE DATABASE {name} OWNER {name}")
    url = cluster.url(name).replace(f"//{cluster.user}@", f"//{name}@")

    def schemas() -> list[str]:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            query = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'public%' ORDER BY 1"
            return [row[0] for row in connection.execute(query).fetchall()]

    try:
        with running(KURA_DATABASE_URL=url) as host:
            releases.make(host.places.release(NEW), NEW, revisions={"0900": ""})
            with Watch(host) as watch:
                host.installer("upgrade", NEW)
            print(host.said, f"without service: {watch.gap:.1f} s")
            assert watch.gap < max(30, 3 * host.booted_s)
            assert health(host) == (NEW, "ready") and people(host) == ["ito"]
            assert schemas() == ["public", f"public_before_{OLD}"]
            assert not (host.data / "kura.db").exists()
            # the table that the test's migration makes is in no release's code: it is not Kura's
            host.installer("rollback", "--yes", status=1)
            assert "later_0900" in host.said and health(host) == (NEW, "ready")
    finally:
        cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")
        cluster.execute(f"DROP ROLE {name}")


@pytest.mark.long
def test_what_a_release_fails_at_leaves_the_old_one_serving(host: Host) -> None:
    """One after another on one host, whose start takes longest: a migration; an answer on the copy; an
    answer in its place, as one fails that its walls are too tight for."""
    live = DEAF.rsplit("_deaf()", 1)[0] + (
        "import os\nif not os.environ['KURA_DATA'].endswith('next'):\n    _deaf()\n"
    )
    for version, revisions, patch, said in (
        ("2.0.0", {"0900": "", "0901": releases.BREAKS}, "", "migrate"),
        ("2.0.1", {"0900": ""}, DEAF, "回答と出典"),
        ("2.0.2", {"0900": ""}, live, "回答と出典"),
    ):
        releases.make(host.places.release(version), version, revisions=revisions, patch=patch)
        with Watch(host) as watch:
            host.installer("upgrade", version, status=1)
        assert "Traceback" not in host.said and said in host.said, host.said
        assert health(host) == (OLD, "ready") and host.version == OLD and people(host) == ["ito"]
        assert not (host.data / "upgrade/next").exists() and record.read(host.places) is None
        if patch != live:
            assert watch.gap < max(10, host.booted_s), "it was found while the old release served"
    print(host.said)
    assert "バイト単位で同じ" in host.said
    events = [json.loads(line) for line in host.places.journal.read_text("utf-8").splitlines()]
    (compared,) = [e for e in events if e.get("event") == "compared"]
    assert compared["sha256"] == compared["wanted"]
    (reverted,) = [e for e in events if e.get("event") == "reverted"]
    assert reverted["took_s"] < max(60, 3 * host.booted_s)
    (aside,) = (host.data / "upgrade/after").iterdir()
    assert (aside / "kura.db").exists()
    host.stop()
    (host.data / files.SWITCHING).touch()
    for words in (("up",), ("web",), ("work",), ("infer",), ("user", "list"), ("backup", "create")):
        done = host.kura(*words)
        assert done.returncode == 78 and "kura-installer recover" in done.stderr, words
        assert len(done.stderr.strip().splitlines()) == 1
