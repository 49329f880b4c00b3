"""The desk: one worker serves it, files are fetched once for many pages, and whoever hangs up hangs up."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.errors import Conflict, Transient, Unreadable
from appliance.ingest.desk import Desk
from appliance.ingest.originals import Originals
from appliance.store import catalog
from appliance.testing.fakes import MemoryConnector
from appliance.types import RawFile
from tests.ingest.conftest import Machine


class Counting(MemoryConnector):
    """Counts how often a file is fetched."""

    fetched = 0

    def file(self, uri: str) -> RawFile:
        one = super().file(uri)

        def opened() -> io.BytesIO:
            self.fetched += 1
            return io.BytesIO(one.open().read())

        return RawFile(one.uri, one.version, opened, one.access, one.title, one.modified_at)


def draw(file: RawFile, page: int) -> bytes:
    with file.open() as stream:
        data = stream.read()
    if page > 3:
        raise Unreadable("そのページはありません")
    return b"%d:" % page + data


@pytest.fixture
def connector(machine: Machine) -> Counting:
    made = Counting({"a.pdf": "旅費規程" * 3_000})
    machine.sync(made)
    return made


Start = Callable[[], threading.Event]


@pytest.fixture
def start(machine: Machine, connector: Counting, tmp_path: Path) -> Iterator[Start]:
    running: list[tuple[threading.Event, threading.Thread]] = []

    def start() -> threading.Event:
        stop = threading.Event()
        desk = Desk(
            machine.engine,
            lambda source: connector,
            draw,
            lambda file, wanted: {},
            tmp_path / "desk.sock",
            10_000_000,
            lambda kind, settings: f"{kind}: {settings}",
        )
        running.append((stop, threading.Thread(target=desk.run, args=(stop,))))
        running[-1][1].start()
        return stop

    yield start
    for stop, _ in running:
        stop.set()
    for _, thread in running:
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def originals(tmp_path: Path) -> Originals:
    return Originals(tmp_path / "desk.sock")


def document(machine: Machine) -> tuple[str, str | None]:
    stored = catalog.find(machine.engine, machine.source_id, "a.pdf")
    assert stored is not None
    return stored.document_id, stored.digest


def patiently(call: Callable[[], bytes]) -> bytes:
    """Until the desk is open."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return call()
        except Transient:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_pages_of_one_file_fetch_it_once(
    machine: Machine, connector: Counting, start: Start, originals: Originals, tmp_path: Path
) -> None:
    start()
    id, digest = document(machine)
    fetched = connector.fetched
    whole = ("旅費規程" * 3_000).encode()
    assert patiently(lambda: originals.picture(id, digest, 1)) == b"1:" + whole
    assert originals.picture(id, digest, 2) == b"2:" + whole
    assert b"".join(originals.open(id).blocks()) == whole
    assert connector.fetched == fetched + 1
    with pytest.raises(Unreadable, match="そのページはありません"):
        originals.picture(id, digest, 4)
    assert oct((tmp_path / "desk.sock").stat().st_mode)[-3:] == "600"
    connector.files["a.pdf"] = "別の内容"
    with pytest.raises(Conflict, match="原本が変わっています"):
        originals.picture(id, digest, 3)


def test_whoever_hangs_up_or_talks_nonsense_hurts_nobody(
    machine: Machine, start: Start, originals: Originals, tmp_path: Path
) -> None:
    start()
    id, digest = document(machine)
    patiently(lambda: originals.picture(id, digest, 1))
    originals.open(id).close()
    for said in (
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"\xff\n",
        b'{"document": 1, "page": "x"}\n',
        b"x" * 9999,
    ):
        with socket.socket(socket.AF_UNIX) as wire:
            wire.connect(str(tmp_path / "desk.sock"))
            wire.sendall(said)
    assert originals.picture(id, None, 1).startswith(b"1:")


def test_another_worker_takes_the_desk_over(
    machine: Machine, start: Start, originals: Originals
) -> None:
    first = start()
    id, _ = document(machine)
    assert patiently(lambda: originals.picture(id, None, 1))
    start()
    first.set()
    time.sleep(0.2)
    assert patiently(lambda: originals.picture(id, None, 2))
