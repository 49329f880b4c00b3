"""Files parsed, embedded and stored beside each other, as if each came before the next."""

from __future__ import annotations

import io
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import BadRequest, ModelUnreachable, NotVisible, SourceUnreachable
from appliance.ingest import flow, vectors
from appliance.store import catalog, sources
from appliance.testing.fakes import PUBLIC, HashEmbedder, MemoryConnector
from appliance.types import (
    AccessChanged,
    Checkpoint,
    Cursor,
    Failed,
    Layer,
    Moved,
    Principal,
    RawFile,
    Remove,
    Upsert,
)

FOR_ITO = (Layer(frozenset({Principal("user:ito")})),)
MANY = {f"規程{n:03}.txt": f"第{n}号 宿泊費は{n}千円。" for n in range(40)}


def file(uri: str, body: str, version: str = "1") -> RawFile:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return RawFile(uri, version, partial(io.BytesIO, body.encode()), PUBLIC, uri, moment)


def slowly(parse, wanted: str, seconds: float = 0.3):
    def slow(file: RawFile):
        if file.uri == wanted:
            time.sleep(seconds)
        return parse(file)

    return slow


# --- beside each other ------------------------------------------------------------


def test_the_next_files_are_parsed_while_one_is_embedded(machine) -> None:
    parsed, parse = threading.Semaphore(0), machine.parse

    def counting(file: RawFile):
        try:
            return parse(file)
        finally:
            parsed.release()

    class Waiting(HashEmbedder):
        def embed(self, texts, role):
            if not self.calls:  # the first call ends when two more files were parsed
                assert all(parsed.acquire(timeout=20) for _ in range(3)), "nothing was parsed"
            return super().embed(texts, role)

    machine.parse, machine.embedder = counting, Waiting()
    assert machine.sync(MemoryConnector(dict(list(MANY.items())[:5]))).counts == {"added": 5}


def test_several_are_parsed_at_once(machine, monkeypatch) -> None:
    monkeypatch.setattr(flow, "PARSERS", 3)
    meet, parse = threading.Barrier(3, timeout=20), machine.parse

    def together(file: RawFile):
        meet.wait()
        return parse(file)

    machine.parse = together
    files = {name: MANY[name] for name in list(MANY)[:6]}
    assert machine.sync(MemoryConnector(files)).counts == {"added": 6}
    assert machine.texts() == files


def test_small_files_are_embedded_together_and_each_keeps_its_own_vectors(
    machine, monkeypatch
) -> None:
    monkeypatch.setattr(flow, "PARSERS", 2)  # one has the first file, the other all the others
    monkeypatch.setattr(flow, "FILES", len(MANY))
    begun, parse, first = threading.Semaphore(0), machine.parse, next(iter(MANY))

    def behind_the_first(file: RawFile):
        if file.uri != first:
            begun.release()
        else:  # when one more begins, as many as are embedded at once are parsed
            others = range(vectors.EMBED_AT_ONCE + 1)
            assert all(begun.acquire(timeout=20) for _ in others), "nothing was parsed"
        return parse(file)

    machine.parse = behind_the_first
    assert machine.sync(MemoryConnector(MANY)).counts == {"added": 40}
    sizes = [len(texts) for _, texts in machine.embedder.calls]
    assert sum(sizes) == 40 and max(sizes) == vectors.EMBED_AT_ONCE
    for entry in catalog.changes(machine.engine, 0).added:
        (own,) = HashEmbedder().embed([entry.text], "passage")
        assert np.allclose(entry.vector, own)


def test_the_source_is_spoken_to_by_one_thread_and_the_catalogue_written_in_its_order(
    machine, script
) -> None:
    opened = set()

    def open_(body: str):
        opened.add(threading.get_ident())
        return io.BytesIO(body.encode())

    files = [
        RawFile(name, "1", partial(open_, text), PUBLIC, name, datetime(2026, 1, 1, tzinfo=UTC))
        for name, text in MANY.items()
    ]
    machine.parse = slowly(machine.parse, files[0].uri)
    machine.sync(script(*map(Upsert, files)))
    assert opened == {threading.get_ident()}
    stored = [entry.text.split("\n")[0] for entry in catalog.changes(machine.engine, 0).added]
    assert stored == list(MANY)


def test_what_is_on_its_way_is_bounded(machine, script, monkeypatch) -> None:
    monkeypatch.setattr(flow, "ROOM", 5000)
    on_its_way, most, waiting = 0, 0, threading.Event()
    big = "あ" * 400  # 1,200 bytes, and 400 characters when it is parsed

    def opened(body: str):
        nonlocal on_its_way, most
        on_its_way = 1 + on_its_way
        most = max(most, on_its_way - catalog.counts(machine.engine).documents)
        return io.BytesIO(body.encode())

    parse = machine.parse
    machine.parse = lambda one: (waiting.wait(0.05), parse(one))[1]
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    files = [RawFile(f"{n}", "1", partial(opened, big), PUBLIC, f"{n}", moment) for n in range(20)]
    assert machine.sync(script(*map(Upsert, files))).counts == {"added": 20}
    assert 2 <= most <= 5
    large = file("large", "い" * 20_000)  # alone it may be larger than the room
    assert machine.sync(script(Upsert(files[0]), Upsert(large))).counts["added"] == 1


def test_a_run_without_news_starts_no_thread(machine, monkeypatch) -> None:
    connector = MemoryConnector({"a.txt": "本文"})
    machine.sync(connector)
    monkeypatch.setattr(flow.threading, "Thread", None)
    assert machine.sync(connector).counts == {"unchanged": 1}


# --- as if one came after the other -----------------------------------------------


def test_what_is_said_of_a_file_on_its_way_holds_when_it_is_there(machine, script) -> None:
    machine.parse = slowly(machine.parse, "slow")
    shown = Upsert(file("slow", "前の版"))
    machine.sync(script(shown, Remove("slow")))
    assert machine.texts() == {}
    machine.sync(script(shown, AccessChanged("slow", FOR_ITO)))
    assert machine.texts() == {} and machine.texts("user:ito") == {"slow": "前の版"}
    machine.sync(script(Remove("slow"), shown, Moved("slow", "new", "new", PUBLIC)))
    assert machine.texts() == {"new": "前の版"}
    machine.sync(script(shown, Upsert(file("slow", "次の版", "2"))))
    assert machine.texts() == {"new": "前の版", "slow": "次の版"}
    machine.sync(script(Upsert(file("slow", "三版", "3")), Failed("slow", "slow", "使用中", True)))
    assert machine.texts() == {"new": "前の版"} and machine.problems() == {"slow": "使用中"}


def test_a_checkpoint_waits_for_all_before_it(machine, script, monkeypatch) -> None:
    machine.parse = slowly(machine.parse, "slow")
    there, save = [], sources.save_cursor

    def saved(engine, source_id, cursor):
        there.append(set(machine.texts()))
        save(engine, source_id, cursor)

    monkeypatch.setattr(sources, "save_cursor", saved)
    machine.sync(
        script(
            Upsert(file("slow", "一番")),
            Upsert(file("b", "二番")),
            Checkpoint(Cursor("1")),
            Upsert(file("c", "三番")),
        )
    )
    assert there == [{"slow", "b"}]
    assert set(machine.texts()) == {"slow", "b", "c"}


# --- failures ---------------------------------------------------------------------


def test_a_text_that_no_model_takes_fails_alone(machine) -> None:
    class Picky(HashEmbedder):
        def embed(self, texts, role):
            if any("毒" in text for text in texts):
                raise BadRequest("a text is not taken")
            return super().embed(texts, role)

    files = MANY | {"規程030.txt": "毒"}
    machine.parse, machine.embedder = slowly(machine.parse, "規程000.txt"), Picky()
    assert machine.sync(MemoryConnector(files)).counts == {"added": 39, "failed": 1}
    assert machine.problems() == {"規程030.txt": "a text is not taken"}
    del files["規程030.txt"]
    assert machine.texts() == files


def test_a_model_that_goes_away_keeps_what_came_before_and_the_cursor(machine, monkeypatch) -> None:
    class Going(HashEmbedder):
        def embed(self, texts, role):
            if len(self.calls) == 1:
                raise ModelUnreachable("応答がありません", retry_after_s=0.01)
            return super().embed(texts, role)

    monkeypatch.setattr(vectors, "MODEL_PATIENCE_S", 0.05)
    machine.embedder = Going()
    before = open_files()
    with pytest.raises(ModelUnreachable):
        machine.sync(MemoryConnector(MANY))
    assert open_files() == before
    assert machine.problems() == {}
    there = sorted(machine.texts())
    assert there == sorted(MANY)[: len(there)] and 0 < len(there) < 40
    assert sources.get(machine.engine, machine.source_id).cursor is None
    machine.embedder = HashEmbedder()
    machine.sync(MemoryConnector(MANY))
    assert machine.texts() == MANY


def test_a_source_that_is_deleted_with_files_on_their_way_blames_none_of_them(
    machine, script
) -> None:
    class Deletes(script):
        def changes(self, since):
            for n, (name, text) in enumerate(MANY.items()):
                if n == 5:
                    sources.delete(machine.engine, machine.source_id)
                yield Upsert(file(name, text))

    machine.parse = slowly(machine.parse, "規程000.txt")
    before = open_files()
    with pytest.raises(NotVisible):
        machine.sync(Deletes())
    assert catalog.documents(machine.engine).total == 0
    assert open_files() == before


def test_a_source_that_breaks_off_keeps_all_that_came(machine, script) -> None:
    class Breaks(script):
        def changes(self, since):
            yield from self.script
            raise SourceUnreachable("共有フォルダに届きません")

    machine.parse = slowly(machine.parse, "規程000.txt")
    with pytest.raises(SourceUnreachable):
        machine.sync(Breaks(*(Upsert(file(name, text)) for name, text in MANY.items())))
    assert machine.texts() == MANY


def test_a_stop_waits_for_no_long_embedding(machine, monkeypatch) -> None:
    monkeypatch.setattr(flow, "STOP_PATIENCE_S", 0.2)
    released = threading.Event()

    class Slow(HashEmbedder):
        def embed(self, texts, role):
            if self.calls:
                machine.over.set()
                released.wait(1.0)
            return super().embed(texts, role)

    machine.embedder = Slow()
    before = open_files()
    assert machine.sync(MemoryConnector(MANY)).outcome == "stopped"
    assert len(machine.texts()) < 40 and open_files() == before


def open_files() -> int:
    """Copies without a name are what must not be left."""
    places = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            places.append(str(one.readlink()))
    return sum(place.endswith("(deleted)") for place in places)
