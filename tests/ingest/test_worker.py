"""The loop of `kura work`, with a real folder and real uploads where it matters."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine

from appliance import worker
from appliance.errors import NotReady, SourceUnreachable, Unreadable
from appliance.formats import kinds
from appliance.ingest import schedule
from appliance.ocr.reader import ConfinedReader
from appliance.settings import Settings
from appliance.store import catalog, sources
from appliance.store.tables import now
from appliance.store.timing import Timing
from appliance.system import Workshop
from appliance.testing.fakes import PUBLIC, HashEmbedder, MemoryConnector
from appliance.types import Change, Cursor, Document, Failed, RawFile
from connectors.folder import FolderConnector
from connectors.uploads import UploadsConnector

CORPUS = Path(__file__).parents[1] / "corpus"


class NamedSettings(BaseModel):
    name: str
    password: int = 0


class Named(MemoryConnector):
    """Reads the dictionary of its name; `hooks` run before the listing."""

    kind: ClassVar[str] = "named"
    Settings: ClassVar[type[BaseModel]] = NamedSettings
    worlds: ClassVar[dict[str, dict[str, str]]] = {}
    hooks: ClassVar[dict[str, Callable[[], None]]] = {}

    def __init__(self, settings: NamedSettings) -> None:
        super().__init__(dict(self.worlds.get(settings.name, {})))
        self.name = settings.name

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        self.hooks.get(self.name, lambda: None)()
        yield from super().changes(since)


@pytest.fixture
def workshop(sqlite_engine: Engine, tmp_path: Path) -> Iterator[Workshop]:
    kinds = {c.kind: c for c in (Named, FolderConnector, UploadsConnector)}
    yield Workshop(Settings(data=tmp_path), sqlite_engine, HashEmbedder(), kinds)
    Named.worlds.clear()
    Named.hooks.clear()


@dataclass
class Running:
    stop: threading.Event
    thread: threading.Thread

    def end(self, within_s: float) -> None:
        self.stop.set()
        self.thread.join(within_s)
        assert not self.thread.is_alive(), "the worker did not stop"


@pytest.fixture
def start(workshop: Workshop) -> Iterator[Callable[[], Running]]:
    started: list[Running] = []

    def start() -> Running:
        stop = threading.Event()
        thread = threading.Thread(target=worker.run, args=(workshop, stop))
        thread.start()
        started.append(Running(stop, thread))
        return started[-1]

    yield start
    for running in started:
        running.end(30)


def eventually(true: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def titles(engine: Engine) -> set[str]:
    return {d.title for d in catalog.documents(engine).documents}


def uris(engine: Engine, source_id: int) -> set[str]:
    return {d.uri for d in catalog.documents(engine, source_id=source_id).documents}


def plain(file: RawFile) -> tuple[Document, str]:
    with file.open() as stream:
        return Document(stream.read().decode()), "text/plain"


def once(workshop: Workshop, stop: threading.Event | None = None) -> bool:
    return worker.once(workshop, plain, stop or threading.Event())


# --- the whole of it --------------------------------------------------------------


def test_files_and_uploads_come_in_through_the_sandbox_and_follow_their_changes(
    workshop: Workshop, start, tmp_path: Path
) -> None:
    share, shelf = tmp_path / "share", tmp_path / "uploads"
    share.mkdir()
    (share / "旅費規程.txt").write_text("宿泊費は一泊一万円とする。", encoding="cp932")
    (share / "壊れた.pdf").write_bytes(b"%PDF-1.7 broken")
    folder = sources.create(
        workshop.engine, "共有", "folder", {"root": str(share), "allow": ["everyone"]}, Timing(1)
    )
    sources.create(workshop.engine, "アップロード", "uploads", {"root": str(shelf)}, Timing(3600))
    start()
    eventually(lambda: catalog.counts(workshop.engine).documents == 2)
    counts = catalog.counts(workshop.engine)
    assert (counts.ready, counts.problems) == (1, 1)

    (shelf / "u1").mkdir(parents=True)
    (shelf / "u1" / "content").write_text("見積は百万円です。", "utf-8")
    meta = {"name": "見積.txt", "owner": "ito", "allow": [], "sha256": "x"}
    meta |= {"uploaded_at": "2026-04-01T00:00:00+00:00"}
    (shelf / "u1" / "meta.json").write_text(json.dumps(meta), "utf-8")
    uploads = sources.by_name(workshop.engine, "アップロード")
    assert uploads is not None
    sources.run_now(workshop.engine, uploads.id)
    eventually(lambda: "見積.txt" in titles(workshop.engine))

    (share / "旅費規程.txt").rename(share / "新旅費規程.txt")
    (share / "壊れた.pdf").unlink()
    eventually(lambda: uris(workshop.engine, folder.id) == {"新旅費規程.txt"})
    assert catalog.counts(workshop.engine).problems == 0


def test_a_scanned_page_in_a_folder_is_found_by_its_words(
    workshop: Workshop, start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "ConfinedReader", partial(ConfinedReader, idle=False))
    share = tmp_path / "share"
    share.mkdir()
    shutil.copy(CORPUS.parent / "ocr" / "pages" / "二ページ.tif", share / "規程.tif")
    sources.create(workshop.engine, "共有", "folder", {"root": str(share), "allow": ["everyone"]})
    running = start()
    eventually(lambda: catalog.counts(workshop.engine).ready == 1, 120)
    (entry,) = catalog.changes(workshop.engine, 0).added
    assert "出張旅費規程" in entry.text
    running.end(10)


def test_a_release_that_reads_more_tries_again_what_could_not_be_read(
    workshop: Workshop, start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    (share / "手引き.odt").write_bytes((CORPUS / "手引き.odt").read_bytes())
    sources.create(
        workshop.engine, "共有", "folder", {"root": str(share), "allow": ["everyone"]}, Timing(1)
    )

    def refused(file: RawFile) -> tuple[Document, str]:
        raise Unreadable("この形式には対応していません")

    assert worker.once(workshop, refused, threading.Event())
    assert catalog.counts(workshop.engine).problems == 1
    first = start()
    eventually(lambda: catalog.counts(workshop.engine).ready == 1)
    first.end(30)
    assert catalog.retry_with(workshop.engine, kinds.EDITION) == 0
    assert catalog.retry_with(workshop.engine, "another") == 0  # nothing is wrong now


def test_an_upload_does_not_wait_for_a_large_folder(workshop: Workshop, start, tmp_path) -> None:
    release = threading.Event()
    Named.worlds["large"] = {}
    Named.hooks["large"] = lambda: release.wait(60) and None
    sources.create(workshop.engine, "大きい", "named", {"name": "large"})
    start()
    eventually(lambda: sources.by_name(workshop.engine, "大きい").leased_by is not None)
    sources.create(workshop.engine, "アップロード", "uploads", {"root": str(tmp_path / "u")})
    try:
        eventually(
            lambda: (
                (run := sources.by_name(workshop.engine, "アップロード").last_run) is not None
                and run.outcome == "complete"
            )
        )
    finally:
        release.set()


# --- what goes wrong with a source ------------------------------------------------


def test_a_source_that_is_set_up_wrongly_shows_it_and_stops_no_other(workshop: Workshop) -> None:
    Named.worlds["good"] = {"a.txt": "本文"}
    wrong = {
        "種類": sources.create(workshop.engine, "種類", "unknown", {}),
        "設定": sources.create(
            workshop.engine, "設定", "named", {"name": "x", "password": "hunter2"}
        ),
        "場所": sources.create(workshop.engine, "場所", "folder", {"root": "/does/not/exist"}),
    }
    sources.create(workshop.engine, "良い", "named", {"name": "good"})
    for _ in range(4):
        assert once(workshop)
    assert not once(workshop)
    problems = {s.name: s.problem for s in sources.all(workshop.engine)}
    assert problems["良い"] is None
    assert titles(workshop.engine) == {"a.txt"}
    assert "unknown" in str(problems["種類"])
    assert "password" in str(problems["設定"])
    assert "hunter2" not in str(problems)
    assert "/does/not/exist" in str(problems["場所"])
    for source in wrong.values():
        kept = sources.get(workshop.engine, source.id)
        assert kept.failures == 1
        assert kept.last_run is not None
        assert kept.last_run.outcome == "failed"
        assert kept.leased_by is None


def test_a_source_that_is_away_is_looked_at_less_and_less_until_it_is_back(
    workshop: Workshop,
) -> None:
    away = True

    def hook() -> None:
        if away:
            raise SourceUnreachable("届きません", retry_after_s=1)

    Named.worlds["nas"] = {"a.txt": "本文"}
    Named.hooks["nas"] = hook
    source = sources.create(workshop.engine, "NAS", "named", {"name": "nas"}, Timing(10))
    waits = []
    for _ in range(9):
        sources.run_now(workshop.engine, source.id)
        assert once(workshop)
        kept = sources.get(workshop.engine, source.id)
        waits.append(round((kept.due_at - now()).total_seconds(), -1))
        assert kept.problem == "届きません"
    assert waits == [10, 20, 40, 80, 160, 320, 640, 900, 900]
    away = False
    sources.run_now(workshop.engine, source.id)
    assert once(workshop)
    kept = sources.get(workshop.engine, source.id)
    assert (kept.problem, kept.failures) == (None, 0)
    assert titles(workshop.engine) == {"a.txt"}


def test_an_error_of_our_own_is_shown_and_backs_off(workshop: Workshop) -> None:
    def hook() -> None:
        raise ZeroDivisionError

    Named.hooks["bug"] = hook
    source = sources.create(workshop.engine, "虫", "named", {"name": "bug"})
    assert once(workshop)
    kept = sources.get(workshop.engine, source.id)
    assert "ZeroDivisionError" in str(kept.problem)
    assert not once(workshop)


def test_a_database_that_is_away_is_waited_for(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "AWAY_S", 0.01)
    Named.worlds["w"] = {"a.txt": "本文"}
    source = sources.create(workshop.engine, "共有", "named", {"name": "w"})
    with monkeypatch.context() as m:

        def away(*_: object, **__: object) -> None:
            raise NotReady("データベースが応答しません。")

        m.setattr(catalog, "replace", away)
        assert once(workshop)
        assert sources.get(workshop.engine, source.id).problem == "データベースが応答しません。"
        m.setattr(sources, "lease", away)
        assert not once(workshop)
    assert catalog.documents(workshop.engine).total == 0
    sources.run_now(workshop.engine, source.id)
    assert once(workshop)
    assert titles(workshop.engine) == {"a.txt"}


# --- stopping and leases ----------------------------------------------------------


def test_a_stop_finishes_the_file_at_hand_and_gives_the_source_back(workshop: Workshop) -> None:
    stop = threading.Event()
    Named.worlds["w"] = {f"{n}.txt": f"本文{n}" for n in range(200)}
    source = sources.create(workshop.engine, "共有", "named", {"name": "w"})
    threading.Timer(0.3, stop.set).start()
    assert once(workshop, stop)
    kept = sources.get(workshop.engine, source.id)
    assert kept.leased_by is None
    assert kept.last_run is not None
    assert kept.last_run.outcome == "stopped"
    taken = catalog.counts(workshop.engine)
    assert 0 < taken.ready < 200
    assert taken.problems == 0
    assert once(workshop)  # due at once
    assert catalog.counts(workshop.engine).ready == 200


def test_a_lease_is_renewed_while_a_long_run_lasts(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "LEASE_S", 0.6)
    stolen: list[object] = []

    def long() -> None:
        for _ in range(8):
            time.sleep(0.2)
            stolen.append(sources.lease(workshop.engine, "thief", 60))

    Named.hooks["w"] = long
    Named.worlds["w"] = {"a.txt": "本文"}
    source = sources.create(workshop.engine, "共有", "named", {"name": "w"})
    sources.run_now(workshop.engine, source.id)
    assert once(workshop)
    assert stolen == [None] * 8
    assert titles(workshop.engine) == {"a.txt"}


def test_a_run_whose_lease_is_lost_ends_and_leaves_the_source_to_its_new_owner(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "LEASE_S", 0.3)

    def lose() -> None:
        with workshop.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE source SET lease_owner = 'other', lease_until = '2099-01-01 00:00:00.0'"
            )
        time.sleep(0.8)

    Named.hooks["w"] = lose
    Named.worlds["w"] = {"a.txt": "本文"}
    source = sources.create(workshop.engine, "共有", "named", {"name": "w"})
    assert once(workshop)
    assert catalog.counts(workshop.engine).documents == 0
    assert sources.get(workshop.engine, source.id).leased_by == "other"


def test_a_source_with_problems_to_retry_shows_them(workshop: Workshop) -> None:
    class Fails(Named):
        def changes(self, since: Cursor | None) -> Iterator[Change]:
            yield Failed("a", "a.xlsx", "ほかの人が編集中です", True, PUBLIC)

    shop = Workshop(workshop.settings, workshop.engine, workshop.embedder, {"named": Fails})
    source = sources.create(workshop.engine, "共有", "named", {"name": "w"})
    assert once(shop)
    run = sources.get(workshop.engine, source.id).last_run
    assert run is not None
    assert (run.outcome, run.counts) == ("complete", {"failed": 1})
