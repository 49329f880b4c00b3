"""The indexes hold what the catalogue holds, whatever happens to either."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import numpy as np
import pysqlite3
import pytest
from sqlalchemy.exc import OperationalError

from appliance.search.dense import DenseIndex
from appliance.search.follow import Follower, Report
from appliance.search.keyword import KeywordIndex
from appliance.search.scope import ScopeMap
from appliance.settings import Settings
from appliance.store import access, catalog, database, sources
from appliance.testing.fakes import PUBLIC, HashEmbedder
from appliance.types import (
    Chunk,
    Document,
    Entry,
    IndexChanges,
    Layer,
    Principal,
    Query,
    RawFile,
    Viewer,
)

SECRET = (Layer(frozenset({Principal("user:sato")})),)
ITO = Viewer("ito", frozenset({Principal("user:ito"), Principal("everyone")}))
SATO = Viewer("sato", frozenset({Principal("user:sato"), Principal("everyone")}))


class House:
    """A catalogue with one source, and the indexes of one process."""

    def __init__(self, folder) -> None:
        self.settings = Settings(data=folder, follow_seconds=0.02, snapshot_seconds=0.2)
        folder.mkdir(exist_ok=True)
        self.engine = database.connect(self.settings.database_url)
        database.migrate(self.engine)
        known = sources.by_name(self.engine, "社内")
        self.source_id = (known or sources.create(self.engine, "社内", "memory", {})).id
        self.open()

    def open(self, space="hash") -> None:
        self.space = space
        self.dense = DenseIndex(self.settings.data / "dense", 64, space)
        self.keyword = KeywordIndex(self.settings.data / "keyword")
        self.scopes = ScopeMap()
        self.indexes = (self.dense, self.keyword)
        self.follower = Follower(self.engine, self.indexes, self.scopes, self.settings)

    def put(self, uri, text, access=PUBLIC, embedder="hash") -> None:
        chunks = [Chunk(i, min(i + 20, len(text)), 0, len(text)) for i in range(0, len(text), 20)]
        vectors = HashEmbedder().embed([text[c.start : c.end] for c in chunks], "passage")
        file = RawFile(uri, text, lambda: None, access, uri, datetime(2026, 1, 1, tzinfo=UTC))
        catalog.replace(
            self.engine, self.source_id, file, Document(text), chunks, vectors, embedder
        )

    def forget(self, uri) -> None:
        catalog.forget(self.engine, self.source_id, uri)

    def found(self, text, viewer=ITO):
        scope = self.scopes.scope(access.admitted(self.engine, viewer))
        query = Query(text, HashEmbedder().embed([text], "query"))
        hits = [[h.chunk_id for h in i.search(query, 9, scope)] for i in self.indexes]
        passages = [access.passages(self.engine, viewer, [(c, 0.0) for c in leg]) for leg in hits]
        return [sorted({p.title for p in leg}) for leg in passages]

    def equal_to_the_catalogue(self) -> None:
        truth = dict(catalog.chunk_accesses(self.engine))
        assert self.dense.ids().tolist() == sorted(truth)
        assert self.keyword.accesses() == truth
        assert len(self.scopes) == len(truth)
        for access_id in set(truth.values()):
            of_access = {i for i, a in truth.items() if a == access_id}
            assert set(self.scopes.scope(frozenset({access_id})).chunks) == of_access


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_what_comes_changes_and_goes(house):
    house.put("旅費.txt", "出張の宿泊費は一万円とする。")
    house.follower.catch_up()
    assert house.found("宿泊費") == [["旅費.txt"], ["旅費.txt"]]
    house.put("旅費.txt", "出張の日当は三千円とする。")
    house.put("献立.txt", "今日の献立はカレーです。")
    house.follower.catch_up()
    house.equal_to_the_catalogue()
    assert house.found("日当の三千円")[1] == ["旅費.txt"]
    assert house.found("一万円とする")[1] == ["旅費.txt"]  # 「とする」 still
    house.forget("旅費.txt")
    house.follower.catch_up()
    assert house.found("日当") == [["献立.txt"], []]
    house.equal_to_the_catalogue()


def test_a_right_withdrawn_narrows_the_scope(house):
    house.put("報酬.txt", "役員報酬は三千万円とする。", SECRET)
    house.follower.catch_up()
    assert house.found("役員報酬", ITO) == [[], []]
    assert house.found("役員報酬", SATO) == [["報酬.txt"], ["報酬.txt"]]
    catalog.set_access(house.engine, house.source_id, "報酬.txt", PUBLIC)
    house.follower.catch_up()
    assert house.found("役員報酬", ITO) == [["報酬.txt"], ["報酬.txt"]]
    catalog.set_access(house.engine, house.source_id, "報酬.txt", SECRET)
    house.follower.catch_up()
    assert house.found("役員報酬", ITO) == [[], []]
    house.equal_to_the_catalogue()


def test_a_start_loads_the_snapshot_and_replays_the_rest(house):
    house.put("甲.txt", "甲の文書である。")
    house.follower.catch_up()
    house.follower.save()
    house.put("乙.txt", "乙の文書である。")
    house.open()
    assert (len(house.dense.ids()), house.dense.sequence) == (1, house.keyword.sequence)
    house.follower.catch_up()
    assert house.follower.ready
    house.equal_to_the_catalogue()


def test_a_thread_follows_and_closing_saves(house):
    house.follower.start()
    assert house.follower.wait(10)
    house.put("甲.txt", "甲の文書である。")
    deadline = time.monotonic() + 10
    while not len(house.dense.ids()) or not len(house.keyword.ids()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    house.follower.close()
    house.open()
    assert len(house.dense.ids()) == len(house.keyword.ids()) == 1


@pytest.mark.parametrize("loss", ["dense", "keyword", "both"])
def test_lost_snapshots_are_made_again(house, loss):
    house.put("甲.txt", "甲の文書である。" * 30)
    house.follower.catch_up()
    house.follower.save()
    for name in ("dense", "keyword"):
        if loss in (name, "both"):
            shutil.rmtree(house.settings.data / name)
    house.open()
    house.follower.catch_up()
    house.equal_to_the_catalogue()


def test_one_wrong_byte_anywhere_makes_the_index_anew(house, caplog):
    house.put("甲.txt", "甲の文書である。" * 30)
    house.follower.catch_up()
    house.follower.save()
    kept = house.settings.data.parent / "kept"
    shutil.copytree(house.settings.data, kept)
    names = [p.relative_to(kept) for p in kept.rglob("generation-*/*") if p.stat().st_size]
    assert len(names) > 8
    for name in [*names, *(p.relative_to(kept) for p in kept.rglob("CURRENT"))]:
        raw = bytearray((kept / name).read_bytes())
        place = len(raw) // 2
        raw[place] ^= 0x10
        folder = house.settings.data / name.parts[0]
        shutil.rmtree(folder)
        shutil.copytree(kept / name.parts[0], folder)
        (house.settings.data / name).write_bytes(raw)
        caplog.clear()
        house.open()
        index = house.dense if name.parts[0] == "dense" else house.keyword
        assert index.sequence == 0, name
        assert "rebuilt" in caplog.text
        house.follower.catch_up()
        house.equal_to_the_catalogue()


def test_another_embedder_starts_empty_and_waits_for_its_vectors(house):
    house.put("甲.txt", "甲の文書である。")
    house.follower.catch_up()
    house.follower.save()
    house.open(space="other")
    report = house.follower.reconcile()
    assert (len(house.dense.ids()), report.waiting) == (0, 1)
    assert len(house.keyword.ids()) == 1
    house.put("乙.txt", "乙の文書である。", embedder="other")
    house.put("丙.txt", "丙の文書である。", embedder="hash")
    house.follower.catch_up()
    assert house.found("乙の文書") == [["乙.txt"], ["丙.txt", "乙.txt", "甲.txt"]]


def test_a_catalogue_that_went_back_in_time(house):
    house.put("甲.txt", "甲の文書である。")
    backup = house.settings.data / "backup.db"
    with contextlib.closing(pysqlite3.connect(house.settings.data / "kura.db")) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))
    house.put("乙.txt", "乙の文書である。" * 9)
    house.follower.catch_up()
    house.follower.save()
    house.engine.dispose()
    for path in house.settings.data.glob("kura.db*"):
        path.unlink()
    shutil.copy(backup, house.settings.data / "kura.db")
    house.open()
    house.follower.catch_up()
    house.equal_to_the_catalogue()
    assert house.found("文書") == [["甲.txt"], ["甲.txt"]]


def test_reconcile_repairs_both_ways(house):
    house.put("甲.txt", "甲の文書である。" * 20)
    house.put("乙.txt", "乙の文書である。", SECRET)
    house.follower.catch_up()
    truth = catalog.entries(house.engine, [i for i, _ in catalog.chunk_accesses(house.engine)])
    stranger = Entry(999, truth[0].access_id, "よそ者", truth[0].vector)
    under_a_wrong_access = Entry(
        truth[-1].chunk_id, truth[0].access_id, truth[-1].text, truth[-1].vector
    )
    for index in house.indexes:
        gone = np.array([truth[0].chunk_id], np.int64)
        sequence = index.sequence
        index.apply(IndexChanges((stranger, under_a_wrong_access), gone, sequence))
    report = house.follower.reconcile()
    assert (report.removed, report.added) == (2, 3)
    house.equal_to_the_catalogue()
    assert house.follower.reconcile() == Report(len(truth), 0, 0, 0)


def test_the_index_folder_deleted_while_running(house):
    house.put("甲.txt", "甲の文書である。")
    house.follower.start()
    assert house.follower.wait(10)
    house.follower.save()
    shutil.rmtree(house.settings.data / "dense")
    shutil.rmtree(house.settings.data / "keyword")
    assert house.found("文書") == [["甲.txt"], ["甲.txt"]]
    house.put("乙.txt", "乙の文書である。")
    deadline = time.monotonic() + 15
    while house.found("文書") != [["乙.txt", "甲.txt"]] * 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    house.follower.close()
    house.open()
    house.follower.catch_up()
    house.equal_to_the_catalogue()


def test_the_database_away_for_a_while(house, monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL)
    house.follower.start()
    assert house.follower.wait(10)
    head, broken = catalog.head, []

    def away(engine):
        broken.append(1)
        raise OperationalError("SELECT", {}, Exception("the server went away"))

    monkeypatch.setattr(catalog, "head", away)
    while len(broken) < 3:
        time.sleep(0.01)
    assert "went away" in (house.follower.problem or "")
    house.put("甲.txt", "甲の文書である。")
    monkeypatch.setattr(catalog, "head", head)
    deadline = time.monotonic() + 15
    while house.found("文書") != [["甲.txt"]] * 2 or house.follower.problem:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    house.follower.close()


VICTIM = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from tests_follow import House
house = House(Path({folder!r}))
house.follower.catch_up()
print("ready", flush=True)
n = 0
while True:
    n += 1
    house.put(f"{{n % 7}}.txt", f"第{{n}}版の文書である。" * 20)
    if n % 3 == 0:
        house.forget(f"{{(n + 2) % 7}}.txt")
    house.follower.catch_up()
    house.follower.save()
"""


def test_killed_at_any_moment_it_comes_back_equal(tmp_path):
    folder = tmp_path / "data"
    here = tmp_path / "tests_follow.py"
    shutil.copy(__file__, here)
    program = VICTIM.format(path=[str(tmp_path), *sys.path], folder=str(folder))
    dice = np.random.default_rng(3)
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as victim:
            assert victim.stdout and victim.stdout.readline() == b"ready\n"
            time.sleep(0.2 + dice.random())
            os.kill(victim.pid, signal.SIGKILL)
            victim.wait()
        house = House(folder)
        house.follower.catch_up()
        house.equal_to_the_catalogue()
        truth = [i for i, _ in catalog.chunk_accesses(house.engine)]
        for entry in catalog.entries(house.engine, truth):
            query = Query(entry.text, entry.vector[None])
            scope = house.scopes.scope(frozenset({entry.access_id}))
            for index in house.indexes:
                assert index.search(query, 1, scope)
        leftovers = [p.name for p in folder.rglob("unfinished-*")]
        house.follower.save()
        assert len(leftovers) <= 2
        assert len(list((folder / "keyword").glob("live-*"))) == 1
        house.engine.dispose()
