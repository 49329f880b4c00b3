"""Changes in the world, as whoever reads the catalogue sees them."""

from __future__ import annotations

import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pyroaring import BitMap64
from sqlalchemy import Engine, event, text

from appliance.errors import Conflict
from appliance.store import access, catalog, sources
from appliance.store import rows as store_rows
from appliance.store.database import writing
from appliance.store.tables import DocumentRow, now
from appliance.testing.fakes import PUBLIC, HashEmbedder, MemoryIndex
from appliance.text import places
from appliance.types import (
    EVERYONE,
    NOBODY,
    Access,
    Chunk,
    Document,
    Layer,
    Mark,
    Principal,
    Query,
    Scope,
    Viewer,
)

ITO = Viewer("ito", frozenset({Principal("user:ito"), EVERYONE}))
FOR_ITO = (Layer(frozenset({Principal("user:ito")})),)
FOR_SATO = (Layer(frozenset({Principal("user:sato")})),)


def chunk_ids(engine: Engine) -> list[int]:
    return [chunk_id for chunk_id, _ in catalog.chunk_accesses(engine)]


def rows(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()
            for name in ("document", "body", "chunk", "change", "access")
        }


def follow(engine: Engine, index: MemoryIndex) -> MemoryIndex:
    while (batch := catalog.changes(engine, index.sequence)).sequence != index.sequence:
        index.apply(batch)
    return index


# --- replace, forget --------------------------------------------------------------


def test_a_document_keeps_its_id_and_never_its_chunk_ids(engine: Engine, put) -> None:
    first = put("a.txt", "宿泊費は一万円とする。")
    before = chunk_ids(engine)
    assert put("a.txt", "宿泊費は二万円とする。") == first
    assert min(chunk_ids(engine)) > max(before)
    assert rows(engine)["document"] == rows(engine)["body"] == 1


def test_a_chunk_id_is_not_used_again_after_everything_was_deleted(
    engine: Engine, put, source
) -> None:
    put("a.txt", "宿泊費は一万円とする。")
    last = max(chunk_ids(engine))
    catalog.forget(engine, source, "a.txt")
    put("b.txt", "日当は二千円とする。")
    assert min(chunk_ids(engine)) > last


def test_forgetting_takes_text_chunks_and_vectors_along(engine: Engine, put, source) -> None:
    put("a.txt", "宿泊費は一万円とする。")
    assert catalog.forget(engine, source, "a.txt")
    assert not catalog.forget(engine, source, "a.txt")
    left = rows(engine)
    assert (left["document"], left["body"], left["chunk"]) == (0, 0, 0)


@pytest.mark.parametrize("step", ["drop_chunks", "add_chunks", "log"])
def test_a_replacement_that_fails_half_way_changed_nothing(
    engine: Engine, put, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    put("a.txt", "宿泊費は一万円とする。")
    before, entries = rows(engine), catalog.changes(engine, 0)

    def broken(*_: object) -> None:
        raise RuntimeError(step)

    with monkeypatch.context() as m:
        m.setattr(store_rows, step, broken)
        with pytest.raises(RuntimeError):
            put("a.txt", "宿泊費は二万円とする。")
    assert rows(engine) == before
    assert [e.text for e in catalog.changes(engine, 0).added] == [e.text for e in entries.added]


def test_vectors_that_cannot_rank_are_not_taken(engine: Engine, source, put) -> None:
    for bad in (np.zeros((1, 64)), np.full((1, 64), np.nan), np.ones((2, 64)) / 8):
        with pytest.raises(ValueError, match="vector"):
            catalog.replace(
                engine,
                source,
                put.raw("a.txt", "あ"),
                Document("あ"),
                [Chunk(0, 1, 0, 1)],
                bad.astype(np.float32),
                "hash",
            )
    assert rows(engine)["document"] == 0


def test_a_deleted_source_takes_no_more_documents(engine: Engine, put, source) -> None:
    put("a.txt", "宿泊費は一万円とする。")
    assert sources.delete(engine, source) == 1
    assert {**rows(engine), "change": 0, "access": 0} == dict.fromkeys(rows(engine), 0)
    with pytest.raises(Conflict):
        put("a.txt", "宿泊費は一万円とする。")
    with pytest.raises(Conflict):
        catalog.fail(engine, source, "b", "b", "壊れている", transient=False, access=PUBLIC)


def test_a_large_source_is_deleted_in_steps_that_let_others_write(
    engine: Engine, put, source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FORGET_AT_ONCE", 3)
    other = sources.create(engine, "別", "memory", {}).id
    put("keep", "残る文書", source_id=other)
    index = MemoryIndex()
    for n in range(7):
        put(f"{n}", f"文書{n}" * 9)
    follow(engine, index)
    assert sources.delete(engine, source) == 7
    assert [s.id for s in sources.all(engine)] == [other]
    assert rows(engine)["document"] == rows(engine)["body"] == 1
    assert sorted(follow(engine, index).entries) == chunk_ids(engine)


def test_what_no_database_keeps_is_replaced_and_offsets_hold(engine: Engine, put) -> None:
    put("a.txt", "前\0後\ud83d終わり", title="題\0名", size=2)
    batch = catalog.changes(engine, 0)
    assert [e.text.rsplit("\n", 1)[1] for e in batch.added] == [
        "前\ufffd",
        "後\ufffd",
        "終わ",
        "り",
    ]
    assert catalog.documents(engine).documents[0].title == "題\ufffd名"


def test_a_very_long_uri_is_kept_whole(engine: Engine, put, source) -> None:
    uri = "/".join(["とても長い名前のフォルダ"] * 300)
    put(uri, "本文")
    assert catalog.find(engine, source, uri).uri == uri
    assert catalog.forget(engine, source, uri)


# --- failures ---------------------------------------------------------------------


def test_a_failed_version_keeps_the_last_good_text_and_shows_the_problem(
    engine: Engine, put, source
) -> None:
    put("a.txt", "宿泊費は一万円とする。", version="1")
    ids = chunk_ids(engine)
    catalog.fail(
        engine,
        source,
        "a.txt",
        "a.txt",
        "壊れています",
        transient=False,
        access=PUBLIC,
        version="2",
    )
    assert chunk_ids(engine) == ids
    (one,) = catalog.documents(engine, status="problem").documents
    assert (one.problem, one.searchable) == ("壊れています", True)
    assert access.passages(engine, ITO, [(ids[0], 1.0)])[0].text == "宿泊費は一万円とする。"
    assert catalog.find(engine, source, "a.txt").version == "2"


def test_a_failed_version_is_read_by_those_whom_its_access_admits(
    engine: Engine, put, source
) -> None:
    put("a.txt", "役員報酬は三千万円。")
    wanted = [(i, 1.0) for i in chunk_ids(engine)]
    assert access.passages(engine, ITO, wanted)
    catalog.fail(engine, source, "a.txt", "a.txt", "?", transient=True, access=NOBODY)
    assert access.passages(engine, ITO, wanted) == []


def fails(engine: Engine, source: int, access: Access, version: str = "") -> None:
    catalog.fail(engine, source, "a.txt", "a", "?", transient=False, access=access, version=version)


def test_who_is_let_in_to_a_file_is_not_let_in_to_what_it_was(engine: Engine, put, source) -> None:
    put("a.txt", "役員報酬は三千万円。", version="1", access=FOR_SATO)
    wanted = [(i, 1.0) for i in chunk_ids(engine)]
    fails(engine, source, PUBLIC, version="2")
    assert access.passages(engine, ITO, wanted) == []
    assert chunk_ids(engine) == []
    (one,) = catalog.documents(engine, status="problem").documents
    assert not one.searchable
    put("a.txt", "社内報。", version="3")
    assert access.passages(engine, ITO, [(i, 1.0) for i in chunk_ids(engine)])


def test_nor_is_who_is_let_in_later(engine: Engine, put, source) -> None:
    put("a.txt", "役員報酬は三千万円。", version="1", access=FOR_SATO)
    fails(engine, source, FOR_SATO, version="2")
    assert chunk_ids(engine)
    fails(engine, source, NOBODY)  # narrower: its text waits
    assert chunk_ids(engine)
    assert catalog.set_access(engine, source, "a.txt", PUBLIC)
    assert chunk_ids(engine) == []


def test_a_file_that_is_as_it_was_may_be_shown_to_others(engine: Engine, put, source) -> None:
    put("a.txt", "宿泊費は一万円とする。", version="1", access=FOR_SATO)
    fails(engine, source, NOBODY)  # its permissions could not be read for a while
    assert catalog.set_access(engine, source, "a.txt", PUBLIC)
    assert access.passages(engine, ITO, [(i, 1.0) for i in chunk_ids(engine)])


def test_a_transient_problem_is_tried_again_later_each_time(engine: Engine, source) -> None:
    waits = []
    for _ in range(10):
        catalog.fail(engine, source, "a", "a", "使用中", transient=True, access=PUBLIC)
        wait = catalog.find(engine, source, "a").next_attempt_at - now()
        waits.append(round(wait.total_seconds(), -1))
    assert waits == sorted(waits)
    assert (waits[0], waits[1], waits[-1]) == (30, 60, 3600)


def test_success_clears_the_problem(engine: Engine, put, source) -> None:
    catalog.fail(engine, source, "a.txt", "a", "使用中", transient=True, access=PUBLIC)
    put("a.txt", "宿泊費は一万円とする。")
    (one,) = catalog.documents(engine).documents
    assert (one.status, one.problem, one.attempts, one.next_attempt_at) == ("ready", None, 0, None)


def test_an_administrator_may_ask_for_another_attempt(engine: Engine, source) -> None:
    catalog.fail(engine, source, "a", "a", "壊れています", transient=False, access=PUBLIC)
    assert catalog.find(engine, source, "a").next_attempt_at is None
    sources.run_now(engine, source, retry=True)
    assert catalog.find(engine, source, "a").next_attempt_at <= now()


# --- access, title, place ---------------------------------------------------------


def test_access_alone_costs_no_vector_and_holds_at_once(engine: Engine, put, source) -> None:
    put("a.txt", "役員報酬は三千万円。", FOR_SATO)
    ids = chunk_ids(engine)
    wanted = [(i, 1.0) for i in ids]
    assert access.passages(engine, ITO, wanted) == []
    assert catalog.set_access(engine, source, "a.txt", FOR_ITO)
    assert access.passages(engine, ITO, wanted)
    assert chunk_ids(engine) == ids
    assert not catalog.set_access(engine, source, "a.txt", FOR_ITO)
    assert catalog.set_access(engine, source, "a.txt", FOR_SATO)
    assert access.passages(engine, ITO, wanted) == []


def test_the_same_access_is_kept_once_however_it_is_written(engine: Engine, put) -> None:
    a, b = Layer(frozenset({EVERYONE})), Layer(frozenset({Principal("group:x")}), frozenset())
    put("1", "一", (a, b))
    put("2", "二", (b, a, a))
    assert (
        len(access.admitted(engine, Viewer("x", frozenset({EVERYONE, Principal("group:x")})))) == 1
    )
    assert len({kept for _, kept in catalog.chunk_accesses(engine)}) == 1


def test_renewal_writes_to_the_log_only_what_can_be_found_differently(
    engine: Engine, put, source
) -> None:
    put("a.txt", "本文です", version="1")
    head = catalog.head(engine)
    assert not catalog.renew(engine, source, put.raw("a.txt", "本文です", version="1"))
    assert catalog.head(engine) == head
    assert catalog.renew(engine, source, put.raw("a.txt", "本文です", FOR_ITO, version="1"))
    assert catalog.renew(engine, source, put.raw("a.txt", "本文です", FOR_ITO, title="新しい題"))
    assert catalog.head(engine) > head
    assert catalog.find(engine, source, "a.txt").version == "1"
    catalog.renew(engine, source, put.raw("a.txt", "", version="2"), digest="d")
    assert catalog.find(engine, source, "a.txt").version == "2"
    with pytest.raises(Conflict):
        catalog.renew(engine, source, put.raw("gone.txt", ""))


def test_moving_keeps_document_and_vectors_and_drops_what_was_there(
    engine: Engine, put, source
) -> None:
    moved = put("old.txt", "宿泊費は一万円とする。")
    put("new.txt", "上書きされる。")
    assert catalog.move(engine, source, "old.txt", "new.txt", "新", FOR_ITO)
    assert not catalog.move(engine, source, "old.txt", "x", "x", PUBLIC)
    (one,) = catalog.documents(engine).documents
    assert (one.id, one.uri, one.title) == (moved, "new.txt", "新")
    index = follow(engine, MemoryIndex())
    assert [e.text.splitlines()[0] for e in index.entries.values()] == ["新", "新"]


# --- what indexes follow ----------------------------------------------------------


def test_an_index_that_follows_holds_what_one_built_anew_holds(engine: Engine, put, source) -> None:
    index = MemoryIndex()
    put("a", "一番目の文書です。宿泊費。")
    put("b", "二番目の文書です。日当。")
    follow(engine, index)
    put("a", "改訂された文書です。宿泊費は変わった。")
    catalog.set_access(engine, source, "b", FOR_ITO)
    put("c", "三番目")
    follow(engine, index)
    catalog.forget(engine, source, "c")
    catalog.move(engine, source, "a", "z", "改名", PUBLIC)
    put("d", "四番目")
    follow(engine, index)
    fresh = follow(engine, MemoryIndex())
    held = [{i: (e.access_id, e.text) for i, e in x.entries.items()} for x in (index, fresh)]
    assert held[0] == held[1]
    assert sorted(index.entries) == chunk_ids(engine)
    assert {i: e.access_id for i, e in index.entries.items()} == dict(
        catalog.chunk_accesses(engine)
    )


def test_changes_come_in_whole_documents_however_small_the_batch(engine: Engine, put) -> None:
    for n in range(5):
        put(f"{n}", f"文書{n}" * 20)
    index, batches = MemoryIndex(), 0
    while (batch := catalog.changes(engine, index.sequence, limit=1)).sequence != index.sequence:
        titles = {e.text.splitlines()[0] for e in batch.added}
        assert len(titles) == 1
        index.apply(batch)
        batches += 1
    assert batches == 5
    assert sorted(index.entries) == chunk_ids(engine)


def test_a_batch_stays_small_when_documents_are_large(
    engine: Engine, put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "BATCH_CHUNKS", 6)
    for n in range(4):
        put(f"{n}", "あ" * 40)  # 4 chunks each
    assert [len(catalog.changes(engine, n).added) for n in range(5)] == [4, 4, 4, 4, 0]


def test_nothing_to_follow_says_so(engine: Engine) -> None:
    batch = catalog.changes(engine, 0)
    assert (batch.sequence, batch.added, len(batch.removed)) == (0, (), 0)
    assert catalog.head(engine) == 0


def test_old_changes_are_forgotten_and_the_last_one_is_kept(engine: Engine, put) -> None:
    for n in range(4):
        put(f"{n}", f"文書{n}")
    head = catalog.head(engine)
    assert catalog.trim_log(engine) == 0
    assert catalog.trim_log(engine, timedelta(seconds=-1)) == 3
    assert catalog.head(engine) == head
    assert catalog.trim_log(engine, timedelta(seconds=-1)) == 0
    put("5", "文書5")
    assert [e.text.splitlines()[0] for e in catalog.changes(engine, head).added] == ["5"]


def test_vectors_of_another_space_are_counted_and_left_out(engine: Engine, put) -> None:
    put("a", "古い埋め込み", embedder="old")
    put("b", "新しい埋め込み", embedder="new")
    assert catalog.stale(engine, "new") == 1
    assert {e.text.splitlines()[0] for e in catalog.changes(engine, 0, embedder="new").added} == {
        "b"
    }
    assert {e.text.splitlines()[0] for e in catalog.entries(engine, chunk_ids(engine), "old")} == {
        "a"
    }


def test_what_is_stored_can_be_searched(engine: Engine, put) -> None:
    put("a", "出張の宿泊費は一泊一万円とする。", size=20)
    put("b", "今日の献立はカレーです。", size=20)
    index = follow(engine, MemoryIndex())
    scope = Scope(BitMap64(index.entries), frozenset(access.admitted(engine, ITO)))
    query = Query("宿泊費", HashEmbedder().embed(["宿泊費"], "query"))
    best = index.search(query, 1, scope)
    (passage,) = access.passages(engine, ITO, [(hit.chunk_id, hit.score) for hit in best])
    assert passage.title == "a"


# --- what the administrator sees --------------------------------------------------


def test_documents_are_listed_by_page_status_source_and_text(engine: Engine, put, source) -> None:
    for n in range(7):
        put(f"規程/{n}.txt", "本文", title=f"規程{n} 100%")
    catalog.fail(
        engine, source, "壊.pdf", "壊れた資料", "読めません", transient=False, access=PUBLIC
    )
    first = catalog.documents(engine, size=3)
    assert first.total == 8
    assert [d.title for d in first.documents] == ["壊れた資料", "規程0 100%", "規程1 100%"]
    assert len(catalog.documents(engine, size=3, page=3).documents) == 2
    assert catalog.documents(engine, status="problem").total == 1
    assert catalog.documents(engine, text="100%").total == 7
    assert catalog.documents(engine, text="%%").total == 0
    assert catalog.documents(engine, text="規程/3").total == 1
    assert catalog.documents(engine, source_id=source + 1).total == 0
    assert set(catalog.listed(engine, source, ["壊.pdf", "ない"])) == {"壊.pdf"}
    counts = catalog.counts(engine)
    assert (counts.documents, counts.ready, counts.problems) == (8, 7, 1)
    assert (counts.chunks, counts.by_source) == (7, {source: (8, 1, 0, 0)})


def test_labels_name_the_place_of_the_chunk(engine: Engine, put) -> None:
    marks = (
        Mark(0, "p. 1", "page", 1),
        Mark(0, "第1条", "section"),
        Mark(10, "p. 2", "page", 2),
        Mark(15, "第2条", "section"),
    )
    put("a", "あ" * 30, marks=marks)
    wanted = [(i, 0.0) for i in chunk_ids(engine)]
    labels = [p.label for p in access.passages(engine, ITO, wanted)]
    assert labels == ["p. 1 · 第1条", "p. 2 · 第1条", "p. 2 · 第2条"]
    assert labels == [places.at(marks, start) for start in (0, 10, 20)]


# --- size -------------------------------------------------------------------------


def test_a_document_of_two_thousand_chunks_is_one_statement(engine: Engine, put) -> None:
    statements: list[tuple[str, bool]] = []
    event.listen(
        engine,
        "before_cursor_execute",
        lambda c, cursor, statement, parameters, context, many: statements.append(
            (statement, many)
        ),
    )
    put("long", "あ" * 20_000)
    put("long", "い" * 20_000)
    inserts = [many for statement, many in statements if "INTO chunk" in statement]
    assert inserts == [True, True]
    assert len(statements) < 70
    assert rows(engine)["chunk"] == 2000


@pytest.mark.slow
def test_listing_many_documents_streams(engine: Engine, source) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    with writing(engine) as s:
        access_id = catalog._access_id(s, PUBLIC)
        s.connection().execute(
            DocumentRow.__table__.insert(),  # type: ignore[attr-defined]
            [
                {
                    "id": f"{n:032}",
                    "source_id": source,
                    "uri": f"{n}",
                    "uri_digest": access.digest(f"{n}"),
                    "version": "1",
                    "title": "題",
                    "access_id": access_id,
                    "status": "ready",
                    "notes": [],
                    "attempts": 0,
                    "modified_at": moment,
                    "added_at": moment,
                    "updated_at": moment,
                }
                for n in range(100_000)
            ],
        )
    began = time.monotonic()
    tracemalloc.start()
    assert sum(1 for _ in catalog.stored(engine, source)) == 100_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert time.monotonic() - began < 60
