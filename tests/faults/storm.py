"""Faults, one after the other, each of a kind and at a place that a seed decides.

    python -m tests.faults.storm [--faults 1000] [--seed 1] [--seconds 3600] [--page docs/en/faults.md]

Six kinds of sources on their real servers, behind a proxy that breaks what passes. Before each fault a
document or two change at the source; then `kura work`'s own turn looks at it while the fault lasts, and
again when it is over. While it lasts nothing that was there is gone, nothing there twice, and whoever
administers is told in the API, in Japanese, what to do, unless Kura got by. Afterwards the catalogue
says what the source says.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, text

from appliance import build, worker
from appliance.api import create_app
from appliance.identity import accounts
from appliance.ingest import schedule
from appliance.settings import Settings
from appliance.store import database, sources
from appliance.store.timing import Timing
from appliance.system import Workshop
from appliance.testing.fakes import HashEmbedder, MemoryIndex, ScriptedGenerator
from appliance.types import Document, RawFile, Site
from connectors import databases, http, sftp
from connectors.kinds import CONNECTORS
from connectors.s3 import S3Connector
from tests import whole
from tests.api.conftest import ORIGIN, PASSWORD, Person
from tests.faults import record
from tests.faults.between import Fault
from tests.faults.places import PLACES, Place

DOCUMENTS = 26  # more than may vanish at once without a doubt
PATIENCE_S = 2.0
OF_KURA = ("kill -9", "disk full: database", "disk full: copies")
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")
WHAT_TO_DO = re.compile("ください|次の確認|また確認|やり直|続きは")
NUMBER = re.compile(r"KB-\d+-\d+")


@dataclass
class Outcome:
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # (fault, what came of it)
    wrong: list[str] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)  # sentences, without their numbers

    def add(self, other: Outcome) -> None:
        self.counts.update(other.counts)
        self.wrong += other.wrong
        self.told.update(other.told)


class Storm:
    """One source, its catalogue, and an administrator who looks at it."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        data = folder / "data"
        data.mkdir(mode=0o700)
        self.settings = Settings(data=data)
        self.engine = build.store(self.settings)
        own = place.settings | {"allow": ["everyone"]}
        self.source = sources.create(self.engine, "棚", place.kind, own, Timing(3600))
        self.site = Site(place.ca_file, near=frozenset({place.near}))
        self.admin = self._administrator()
        self.truth: dict[int, str] = {}
        self.next, self.edition = 0, 0
        self.index = MemoryIndex()
        self.took_s = 0.5

    def _administrator(self) -> Person:
        made = build.web(
            self.settings,
            engine=self.engine,
            embedder=HashEmbedder(),
            generator=ScriptedGenerator(),
        )
        accounts.create(self.engine, "admin", "admin", "administrator", PASSWORD)
        one = Person(TestClient(create_app(made), base_url=ORIGIN), "admin")
        assert one.sign_in().status_code == 200
        return one

    # --- the source ---------------------------------------------------------------

    def fill(self) -> None:
        for _ in range(DOCUMENTS):
            self._come()
        assert self.calm() == "", "it works without a fault"

    def _come(self) -> None:
        self._write(self.next)
        self.next += 1

    def _write(self, number: int) -> None:
        self.edition += 1
        words = f"KB-{number}-{self.edition}"
        self.place.put(number, f"文書番号 {words}。" + "出張旅費は部長が承認する。" * 20)
        self.truth[number] = words

    def happen(self, dice: random.Random) -> set[str]:
        """What changes at the source; the words that may or may not be there until it was seen."""
        loose = set[str]()
        for what in dice.sample(("come", "change", "go"), dice.randint(1, 2)):
            number = dice.choice(sorted(self.truth))
            if what == "come" or len(self.truth) <= DOCUMENTS - 4:
                self._come()
                loose.add(self.truth[self.next - 1])
                continue
            loose.add(self.truth[number])
            if what == "change":
                self._write(number)
                loose.add(self.truth[number])
            else:
                self.place.drop(number)
                del self.truth[number]
        return loose

    # --- Kura ---------------------------------------------------------------------

    def work(self, engine: Engine | None = None) -> None:
        """One turn of `kura work`."""
        sources.run_now(self.engine, self.source.id)
        turn(self.settings, engine or self.engine, self.site)

    def killed(self, after_s: float) -> None:
        """The same in a process that is killed in the middle."""
        sources.run_now(self.engine, self.source.id)
        url = self.engine.url.render_as_string(hide_password=False)
        if (child := os.fork()) == 0:
            with suppress(BaseException):
                turn(self.settings, database.connect(url), self.site)
            os._exit(0)
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def free(self) -> None:
        """A dead worker's lease is over."""
        with self.engine.begin() as connection:
            connection.execute(text("UPDATE source SET lease_owner = NULL, lease_until = NULL"))

    def calm(self) -> str:
        """Works without a fault until nothing is wrong; what is, if it stays."""
        said = ""
        for _ in range(4):
            self.free()
            sources.run_now(self.engine, self.source.id, retry=True)
            began = time.monotonic()
            self.work()
            self.took_s = 0.8 * self.took_s + 0.2 * (time.monotonic() - began)
            now = sources.get(self.engine, self.source.id)
            said = self.difference() or now.problem or ""
            if not said and now.last_run and now.last_run.outcome == "complete":
                return ""
        return said or "no run was complete"

    # --- what is there ------------------------------------------------------------

    def held(self) -> Counter[str]:
        query = "SELECT w.text FROM body b JOIN wording w ON w.id = b.wording_id"
        with self.engine.connect() as connection:
            texts = [row[0] for row in connection.execute(text(query))]
        return Counter(words for said in texts for words in NUMBER.findall(said))

    def difference(self) -> str:
        there, wanted = self.held(), Counter(self.truth.values())
        if there == wanted:
            return ""
        return f"lost {sorted(wanted - there)}, and there are {sorted(there - wanted)}"

    def whole(self) -> None:
        whole.check(self.engine, self.index)

    def told(self) -> tuple[str, list[str]]:
        """What an administrator reads of the source, and of its documents."""
        one = self.admin.http.get(f"/api/v1/admin/sources/{self.source.id}").json()
        asked = {"status": "problem"}
        listed = self.admin.http.get("/api/v1/admin/documents", params=asked).json()["documents"]
        run = one["last_run"] or {}
        return " ".join(filter(None, [one["problem"], run.get("problem")])), [
            d["problem"] for d in listed if d["source"] == "棚"
        ]

    def outcomes(self) -> list[str]:
        query = "SELECT outcome FROM run ORDER BY id DESC LIMIT 3"
        with self.engine.connect() as connection:
            return [str(row[0]) for row in connection.execute(text(query))]


def turn(settings: Settings, engine: Engine, site: Site) -> None:
    kinds = {one.kind: one for one in CONNECTORS}
    workshop = Workshop(settings, engine, HashEmbedder(), kinds, site)
    while worker.once(workshop, parse, threading.Event()):
        pass  # uploads are a source too, and may be due first


def parse(file: RawFile) -> tuple[Document, str]:
    with file.open() as stream:
        return Document(stream.read().decode("utf-8", "replace")), "text/plain"


# --- one fault --------------------------------------------------------------------


def befall(storm: Storm, number: int, seed: int, outcome: Outcome) -> str:
    """In a line, what happened; what is wrong is added to the outcome."""
    dice = random.Random(f"{seed}:{storm.place.kind}:{number}")
    kind = dice.choice(storm.place.faults + OF_KURA)
    loose = storm.happen(dice)
    before = storm.held()
    name = f"{storm.place.kind} {number}: {kind}"
    told_by_log = Recorder()
    with told_by_log:
        met = FAULTS.get(kind, through_the_proxy)(storm, kind, dice)
    missing = [one for one, n in before.items() if one not in loose and storm.held()[one] != n]
    if missing:
        outcome.wrong.append(f"{name}: {sorted(missing)} lost or twice")
    try:
        storm.whole()
    except AssertionError as error:
        outcome.wrong.append(f"{name}: {error}")
    problem, documents = storm.told()
    said = problem or (documents[0] if documents else "")
    if not storm.difference() and not said:
        what = "got by"
    elif said:
        what = "told" if problem else "told by document"
        outcome.told[re.sub(r"[\d./:]+", "…", said)[:160]] += 1
        if not JAPANESE.search(said):
            outcome.wrong.append(f"{name}: {said!r} is no Japanese")
        if not WHAT_TO_DO.search(said):
            outcome.wrong.append(f"{name}: {said!r} does not say what to do")
    elif kind == "kill -9":
        what = "interrupted"
    elif told_by_log.said:
        what = "told by the log"
        outcome.told[told_by_log.said[0][:160]] += 1
    else:
        what = "silent"
        outcome.wrong.append(
            f"{name}, met {met}: {storm.difference()}, and nobody was told; {storm.outcomes()}"
        )
    outcome.counts[kind, what] += 1
    if wrong := storm.calm():
        outcome.wrong.append(f"{name} is over: {wrong}")
    if "running" in storm.outcomes():
        outcome.wrong.append(f"{name} is over: a run goes on for ever")
    return f"{name}, met {met}: {what} {said[:120]}"


class Recorder(logging.Handler):
    """What is said in the log while it lasts."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def __enter__(self) -> Recorder:
        logging.getLogger("appliance").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("appliance").removeHandler(self)


def through_the_proxy(storm: Storm, kind: str, dice: random.Random) -> int:
    assert storm.place.proxy
    fault = Fault(kind, share=dice.uniform(0, 0.98), lasting=dice.random() < 0.6)
    fault.at = dice.randrange(storm.place.answers)
    if storm.place.kind in ("sftp", "sql"):
        fault.at = dice.randrange(storm.place.answers * 1000)
    storm.place.proxy.begin(fault)
    try:
        storm.work()
    finally:
        storm.place.proxy.end()
    return fault.met


def nothing_shown(storm: Storm, _: str, dice: random.Random) -> int:
    storm.place.hide()
    try:
        storm.work()
    finally:
        storm.place.show()
    return 1


def kill(storm: Storm, _: str, dice: random.Random) -> int:
    storm.killed(dice.uniform(0, 1.2 * storm.took_s))
    return 1


def database_full(storm: Storm, _: str, dice: random.Random) -> int:
    """SQLite itself finds no page any more."""
    engine = database.connect(storm.engine.url.render_as_string(hide_password=False))
    with storm.engine.connect() as connection:
        used = int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())
        free = int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())

    @event.listens_for(engine, "connect")
    def narrow(connection: Any, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {max(1, used - free + dice.randrange(4))}")

    try:
        storm.work(engine)
    finally:
        engine.dispose()
    return 1


def copies_full(storm: Storm, _: str, dice: random.Random) -> int:
    """The folder for copies has no room: the kernel's own device says so."""
    left = dice.randrange(2)
    real: Callable[..., Any] = tempfile.TemporaryFile

    def made(*args: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        return Path("/dev/full").open("r+b", buffering=0) if left < 0 else real(*args, **more)

    with mock.patch("tempfile.TemporaryFile", made):
        storm.work()
    return 1


FAULTS: dict[str, Callable[[Storm, str, random.Random], int]] = {
    "nothing shown": nothing_shown,
    "kill -9": kill,
    "disk full: database": database_full,
    "disk full: copies": copies_full,
}


# --- a thousand -------------------------------------------------------------------


@contextmanager
def impatient() -> Iterator[None]:
    """What is waited for on a site is not waited for here."""
    client = tuple(
        PATIENCE_S if one == 30.0 else one for one in http.Http.__init__.__defaults__ or ()
    )
    with ExitStack() as stack:
        for owner, name, value in (
            (http.Http.__init__, "__defaults__", client),
            (http, "ATTEMPTS", 2),
            (http, "_backoff", lambda attempt: 0.0),
            (S3Connector._page, "__defaults__", ("", 10)),
            (sftp, "CONNECT_S", 5.0),
            (sftp, "SILENT_S", 5.0),
            (databases, "CONNECT_S", 5.0),
            (databases, "ANSWER_S", 5.0),
            (worker, "AWAY_S", 0.0),
            (schedule, "LEASE_S", 20.0),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def run(
    kind: str,
    numbers: range,
    seed: int,
    folder: Path,
    each: Callable[[str, Outcome, float], bool] = lambda said, one, took_s: True,
) -> Outcome:
    """Faults of one kind of source, in an empty folder. `each` is told of them, and may end it."""
    outcome = Outcome()
    place = PLACES[kind](folder)
    try:
        with impatient():
            storm = Storm(place, folder)
            storm.fill()
            for number in numbers:
                one, began = Outcome(), time.monotonic()
                said = befall(storm, number, seed, one)
                outcome.add(one)
                if not each(said, one, time.monotonic() - began):
                    break
            storm.engine.dispose()
    finally:
        place.close()
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.faults.storm")
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(PLACES))
    parser.add_argument("--seconds", type=float, default=0, help="stop after, 0: never")
    parser.add_argument("--page", type=Path, help="goes on where this page's last run ended")
    chosen = parser.parse_args()
    kinds = chosen.kinds.split(",")
    logging.getLogger("appliance").setLevel(logging.WARNING)
    logging.getLogger("appliance").propagate = False
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    began, total, seed, page = time.monotonic(), Outcome(), chosen.seed, chosen.page
    for place, kind in enumerate(kinds):
        until = began + chosen.seconds * (place + 1) / len(kinds)  # each kind has its part

        def each(
            said: str, one: Outcome, took_s: float, kind: str = kind, until: float = until
        ) -> bool:
            print(f"{took_s:6.1f} s  {said}", *one.wrong, sep="\n", flush=True)
            if page:
                record.add(page, kind, seed, took_s, one.counts, one.wrong, one.told)
            return not chosen.seconds or time.monotonic() < until

        first = 0
        if page:
            with record.adding(page) as so_far:
                first = so_far.done(seed, kind)
        many = chosen.faults // len(kinds) + (place < chosen.faults % len(kinds))
        if first < many:
            with tempfile.TemporaryDirectory() as folder:
                total.add(run(kind, range(first, many), seed, Path(folder), each))
    print(*total.wrong, sep="\n")
    done = sum(total.counts.values())
    print(f"{done:,} faults in {time.monotonic() - began:,.0f} s, {len(total.wrong)} wrong")
    sys.exit(bool(total.wrong))


if __name__ == "__main__":
    main()
