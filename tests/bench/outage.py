"""How long nobody is served: a plain restart, an upgrade, one whose check fails, a rollback.

python -m tests.bench.outage [--documents 2000] [--models FOLDER] [--fake] [--page docs/en/upgrade.md]

The product itself, with its models, in a folder as a host; `kura-installer` as an administrator types
it, without systemd. Two people ask ten times a second: one whether it is ready, one who searches by
an API key and counts only passages. What each waited longest is told, also as a multiple of the
plain restart of the same run: the machine is as busy for one as for the other.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import event

from appliance import build
from appliance.identity import accounts, keys
from appliance.inference import models
from appliance.ingest.sync import sync
from appliance.settings import load
from appliance.store import sources
from appliance.testing.fakes import MemoryConnector
from tests import pages, ports
from tests.backup import site
from tests.bench.backup import Noise, papers
from tests.installer import releases
from tests.installer.hosts import Host
from tests.installer.hosts import host as a_host

OLD, NEW, BROKEN = "1.0.0", "2.0.0", "3.0.0"
QUESTION = "出張の宿泊費の上限"
POLL_S, PATIENCE_S = 0.1, 900.0
# it serves, and finds; what it fails at, as one whose walls are too tight, is the answer, in its place
DEAF = """
import os
if not os.environ["KURA_DATA"].endswith("next"):
    from appliance.ask import answer
    def broken(*args, **kwargs):
        raise RuntimeError("no answer")
    answer.Answerer.stream = broken
"""


class Vectors(Noise):
    """As those of the embedder that serves: it is not made anew."""

    name = models.DEFAULT_EMBEDDER


@dataclass
class Waited:
    """The longest time without: `ready` of /health, a search that finds."""

    ready_s: float = 0.0
    search_s: float = 0.0


class Watch:
    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self._stop = threading.Event()
        self.waited = Waited()
        looks: tuple[tuple[str, Callable[[], bool]], ...] = (
            ("ready_s", self._ready),
            ("search_s", self._found),
        )
        self._threads = [threading.Thread(target=self._run, args=look) for look in looks]

    def __enter__(self) -> Waited:
        for one in self._threads:
            one.start()
        return self.waited

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()

    def _run(self, name: str, well: Callable[[], bool]) -> None:
        last = time.monotonic()
        while not self._stop.wait(POLL_S):
            if well():
                now = time.monotonic()
                setattr(self.waited, name, max(getattr(self.waited, name), now - last))
                last = now
        left = time.monotonic() - last
        setattr(self.waited, name, max(getattr(self.waited, name), left))

    def _ready(self) -> bool:
        return asked(self._port, "GET", "/api/v1/health").get("status") == "ready"

    def _found(self) -> bool:
        body = {"question": QUESTION, "k": 3}
        return bool(asked(self._port, "POST", "/api/v1/search", body, self._key).get("passages"))


def asked(port: int, verb: str, path: str, body: Any = None, key: str = "") -> dict[str, Any]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {key}"} if key else {}
        )
        link.request(verb, path, json.dumps(body) if body else None, headers)
        answer = link.getresponse()
        said = json.loads(answer.read())
        return said if answer.status == 200 else {}
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    finally:
        link.close()


@dataclass
class Bench:
    host: Host
    port: int
    key: str
    fake: bool
    rows: list[tuple[str, Waited]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def release(self, version: str, revisions: dict[str, str], patch: str = "") -> None:
        folder = self.host.places.release(version)
        releases.make(folder, version, revisions=revisions, patch=patch, fake=self.fake)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        load_then = os.getloadavg()[0]
        with Watch(self.port, self.key) as waited:
            yield
            self.until_ready()
            time.sleep(1.0)
        self.rows.append((name, waited))
        print(f"{name}: {waited}, load {load_then:.0f} to {os.getloadavg()[0]:.0f}", flush=True)

    def until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        body = {"question": QUESTION, "k": 3}
        while asked(self.port, "GET", "/api/v1/health").get("status") != "ready" or not asked(
            self.port, "POST", "/api/v1/search", body, self.key
        ).get("passages"):
            assert time.monotonic() < deadline, (self.host.root / "up.log").read_text()[-2000:]
            time.sleep(POLL_S)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.host.places.journal.read_text().splitlines()]


def fill(host: Host, documents: int) -> str:
    """Papers, a person and a key of theirs. Returns the key."""
    settings = load({"KURA_DATA": str(host.data), **host.settings})
    engine = build.store(settings)
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
    source = sources.create(engine, "書庫", "folder", {"root": str(host.root)}, enabled=False)
    sync(engine, source, MemoryConnector(dict(papers(documents))), Vectors(), site.parse, settings)
    accounts.create(engine, "ito", "伊藤 健", "member", site.PASSWORD)
    _, key = keys.issue(engine, "時計", "ito", ["search"], created_by="ito")
    engine.dispose()
    return key


@contextmanager
def bench(documents: int, folder: Path, fake: bool) -> Iterator[Bench]:
    port = ports.free()
    settings = {"KURA_WEB_PORT": str(port), "KURA_MODELS": str(folder), "KURA_OCR": "false"}
    with a_host(**settings) as host:
        made = Bench(host, port, "", fake)
        made.release(OLD, {})
        host.begin(OLD)
        made.key = fill(host, documents)
        host.start()
        made.until_ready()
        yield made


def measure(made: Bench) -> None:
    host = made.host
    made.release(NEW, {"0900": ""})
    made.notes["database"] = (host.data / "kura.db").stat().st_size
    with made.timed("plain restart"):
        host.stop()
        host.start()
    with made.timed("upgrade with a migration"):
        host.installer("upgrade", NEW)
    print(host.said, steps(made), flush=True)
    made.release(BROKEN, {"0900": "", "0901": ""}, DEAF)  # an upgrade takes others away
    with made.timed("upgrade whose check fails, and back"):
        host.installer("upgrade", BROKEN, status=1)
    (back,) = [one for one in made.events() if one.get("event") == "reverted"]
    made.notes["reverted_s"] = back["took_s"]
    print(host.said, steps(made), flush=True)
    with made.timed("rollback to the snapshot"):
        host.installer("rollback", "--yes")
    print(host.said, flush=True)


def steps(made: Bench) -> str:
    """What the journal has of the last run."""
    of_run: list[dict[str, Any]] = []
    for one in made.events():
        if one.get("event") == "start" and "step" not in one:
            of_run = []
        of_run.append(one)
    return ", ".join(f"{e['step']} {e['took_s']}" for e in of_run if e.get("event") == "end")


def text(made: Bench, documents: int, loads: tuple[float, float]) -> str:
    by_name = dict(made.rows)
    plain = by_name["plain restart"]
    lines = [
        f"{documents:,} documents, a database of {made.notes['database'] / 1e6:,.0f} MB, "
        f"{'a fake model' if made.fake else 'the models that Kura comes with'}; load average of "
        f"{loads[0]:.0f} at the beginning, {loads[1]:.0f} at the end.",
        "",
        "| | not ready | restarts | no search | restarts |",
        "|---|---|---|---|---|",
    ]
    for name, waited in made.rows:
        lines.append(
            f"| {name} | {waited.ready_s:.1f} s | {waited.ready_s / plain.ready_s:.1f}"
            f" | {waited.search_s:.1f} s | {waited.search_s / plain.search_s:.1f} |"
        )
    lines += [
        "",
        f"From the failed check to the old release ready, compared with what it was: "
        f"{made.notes['reverted_s']:.1f} s.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--models", type=Path, default=Path(".kura/models"))
    parser.add_argument("--fake", action="store_true", help="a model that is a fake")
    parser.add_argument("--page", type=Path, help="write it into this page: docs/en/upgrade.md")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    began = datetime.now(UTC)
    with bench(options.documents, options.models.resolve(), options.fake) as made:
        measure(made)
        told = text(made, options.documents, (before, os.getloadavg()[0]))
    print(told, f"{(datetime.now(UTC) - began).total_seconds():.0f} s")
    if options.page:
        command = f"python -m tests.bench.outage --documents {options.documents}"
        pages.section(options.page, "", "Measured: real models", command, told)


if __name__ == "__main__":
    main()
