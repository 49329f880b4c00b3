"""Files inside a document, on both databases: in one transaction with it, and never apart from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from appliance.errors import Conflict
from appliance.ingest import inside as matching
from appliance.store import access, catalog, rows, sources
from appliance.store.inside import Inner
from appliance.testing.fakes import PUBLIC, HashEmbedder
from appliance.types import (
    EVERYONE,
    Access,
    Child,
    Chunk,
    Document,
    Layer,
    Passage,
    Principal,
    Viewer,
)

FOR_ITO = (Layer(frozenset({Principal("user:ito")})),)
Hold = Callable[..., str]


@pytest.fixture
def hold(engine: Engine, source: int, put) -> Hold:
    """An archive that now holds exactly these: path → text, or None for what cannot be read."""

    def hold(uri: str, files: dict[str, str | None], access: Access = PUBLIC) -> str:
        known = catalog.find(engine, source, uri)
        held = catalog.held(engine, known.document_id) if known else []
        children = [
            Child(path, Document(said)) if said else Child(path, problem="読めません")
            for path, said in files.items()
        ]
        wanted = []
        for child, digest, old in matching.matched(children, held):
            kept, same = old and old.document_id, bool(old and digest and old.digest == digest)
            if child.document is None or same:
                wanted.append(Inner(child, digest, kept, same, child.problem))
                continue
            chunks = [Chunk(0, len(child.document.text), 0, len(child.document.text))]
            vectors = HashEmbedder().embed([child.document.text], "passage")
            wanted.append(Inner(child, digest, kept, chunks=chunks, vectors=vectors))
        none = HashEmbedder().embed([], "passage")
        file = put.raw(uri, "", access)
        return catalog.replace(
            engine, source, file, Document(""), [], none, "hash", children=wanted
        )

    return hold


def passages(engine: Engine, *principals: str) -> list[Passage]:
    viewer = Viewer("x", frozenset({EVERYONE, *map(Principal, principals)}))
    wanted = [(i, 0.0) for i, _ in catalog.chunk_accesses(engine)]
    return access.passages(engine, viewer, wanted)


def seen(engine: Engine, *principals: str) -> dict[str, str]:
    return {p.uri: p.text for p in passages(engine, *principals)}


def whole(engine: Engine) -> None:
    with engine.connect() as connection:
        apart = connection.execute(
            text(
                "SELECT c.uri FROM document c JOIN document p ON p.id = c.parent_id WHERE"
                " c.access_id != p.access_id OR c.uri != p.uri || ' › ' || c.inside"
            )
        )
        assert apart.all() == []


def test_they_follow_in_everything(engine: Engine, source: int, hold: Hold, put) -> None:
    hold("a.zip", {"一.txt": "一番", "二/二.txt": "二番", "三.png": None})
    assert seen(engine) == {"a.zip › 一.txt": "一番", "a.zip › 二/二.txt": "二番"}
    assert catalog.set_access(engine, source, "a.zip", FOR_ITO)
    assert seen(engine) == {} and len(seen(engine, "user:ito")) == 2
    assert catalog.move(engine, source, "a.zip", "b.zip", "b.zip", PUBLIC)
    assert set(seen(engine)) == {"b.zip › 一.txt", "b.zip › 二/二.txt"}
    head = catalog.head(engine)
    assert catalog.renew(engine, source, put.raw("b.zip", "", FOR_ITO))
    told = catalog.changes(engine, head)
    assert {e.access_id for e in told.added} == {e for _, e in catalog.chunk_accesses(engine)}
    assert len(told.added) == 2 and seen(engine) == {}
    whole(engine)
    assert catalog.forget(engine, source, "b.zip")
    assert catalog.documents(engine).total == catalog.counts(engine).chunks == 0
    assert len(catalog.changes(engine, head).removed) == 2


def test_two_that_take_each_others_name_stay_who_they_are(engine: Engine, hold: Hold) -> None:
    parent = hold("a.zip", {"甲": "一番", "乙": "二番", "丙": "三番", "丁": None})
    before = {one.path: one.document_id for one in catalog.held(engine, parent)}
    hold("a.zip", {"乙": "一番", "甲": "二番", "丁": "四番", "丙": "新しい"})
    after = {one.path: one.document_id for one in catalog.held(engine, parent)}
    assert after == {"乙": before["甲"], "甲": before["乙"], "丙": before["丙"], "丁": before["丁"]}
    assert seen(engine)["a.zip › 丁"] == "四番" and seen(engine)["a.zip › 丙"] == "新しい"
    whole(engine)


@pytest.mark.parametrize("step", ["drop_chunks", "set_texts", "add_chunks", "log"])
def test_half_of_a_change_is_none_of_it(
    engine: Engine, hold: Hold, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    hold("a.zip", {"一.txt": "一番", "二.txt": "二番"})
    real, calls = getattr(rows, step), []

    def broken(*args: object) -> object:
        calls.append(step)
        if len(calls) == 2 or step == "log":  # the second time it is what is inside
            raise RuntimeError(step)
        return real(*args)

    with monkeypatch.context() as m:
        m.setattr(rows, step, broken)
        with pytest.raises(RuntimeError):
            hold("a.zip", {"一.txt": "変わった", "三.txt": "三番", "四.txt": "四番"}, FOR_ITO)
    assert seen(engine) == {"a.zip › 一.txt": "一番", "a.zip › 二.txt": "二番"}
    whole(engine)


def test_one_that_was_to_be_kept_and_is_gone_is_said(
    engine: Engine, source: int, put, hold: Hold
) -> None:
    hold("a.zip", {"一.txt": "一番"})
    gone = Inner(Child("一.txt", Document("一番")), "d", kept="0" * 32, same=True)
    none = HashEmbedder().embed([], "passage")
    with pytest.raises(Conflict):
        catalog.replace(
            engine, source, put.raw("a.zip", ""), Document(""), [], none, "hash", children=[gone]
        )
    assert seen(engine) == {"a.zip › 一.txt": "一番"}


def test_a_source_goes_with_all_that_is_inside(
    engine: Engine, source: int, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FORGET_AT_ONCE", 4)
    for uri in ("a.zip", "b.zip", "c.zip"):
        hold(uri, {f"{n}.txt": f"{uri} の {n} 番" for n in range(5)})
    head = catalog.head(engine)
    assert sources.delete(engine, source) == 18
    assert len(catalog.changes(engine, head).removed) == 15
    assert catalog.documents(engine).total == 0


def test_problems_inside_make_what_holds_them_due(engine: Engine, source: int, hold: Hold) -> None:
    hold("a.zip", {"一.txt": "一番", "二.png": None})
    hold("b.zip", {"一.txt": "一番"})
    assert catalog.retry_with(engine, "next") == 2  # the file inside, and what holds it
    due = {one.uri for one in catalog.stored(engine, source) if one.next_attempt_at}
    assert due == {"a.zip"}


def test_one_that_shows_what_it_must_not_any_more_is_emptied_and_what_holds_it_due(
    engine: Engine, source: int, put
) -> None:
    def inner(path: str, said: str, counts: dict[str, int]) -> Inner:
        vectors = HashEmbedder().embed([said], "passage")
        chunks = [Chunk(0, len(said), 0, len(said))]
        return Inner(
            Child(path, Document(said)), "d", counts=counts, chunks=chunks, vectors=vectors
        )

    wanted = [inner("一.txt", "電話", {"phone": 1}), inner("二.txt", "規程", {})]
    none = HashEmbedder().embed([], "passage")
    file = put.raw("a.zip", "")
    catalog.replace(engine, source, file, Document(""), [], none, "hash", children=wanted)
    before = {c.uri: c.chunk_id for c in passages(engine)}
    head = catalog.head(engine)
    sources.update(engine, source, personal_data="mask")
    assert set(seen(engine)) == {"a.zip › 二.txt"}
    assert list(catalog.changes(engine, head).removed) == [before["a.zip › 一.txt"]]
    found = {d.uri: d for d in catalog.documents(engine).documents}
    assert found["a.zip"].next_attempt_at and found["a.zip"].status == "ready"
    assert found["a.zip › 一.txt"].problem == catalog.READ_AGAIN
    assert found["a.zip › 二.txt"].problem is None
    known = catalog.find(engine, source, "a.zip")
    assert known and known.embedder == "hash"
    with pytest.raises(Conflict):  # read while the source still showed it
        catalog.replace(engine, source, file, Document(""), [], none, "hash", children=wanted)


def test_who_is_let_in_is_not_let_in_to_what_cannot_be_read_any_more(
    engine: Engine, source: int, hold: Hold
) -> None:
    hold("a.zip", {"報酬": "役員報酬は三千万円。", "旅費": "日当は千円。"}, FOR_ITO)
    hold("a.zip", {"報酬": None, "旅費": "日当は千円。"}, FOR_ITO)
    assert "a.zip › 報酬" in seen(engine, "user:ito")
    catalog.set_access(engine, source, "a.zip", PUBLIC)
    assert seen(engine) == {"a.zip › 旅費": "日当は千円。"}
    hold("a.zip", {"報酬": "公開した。", "旅費": "日当は千円。"}, PUBLIC)
    assert set(seen(engine)) == {"a.zip › 報酬", "a.zip › 旅費"}
    whole(engine)


def test_nor_where_the_archive_itself_cannot_be_read(
    engine: Engine, source: int, hold: Hold
) -> None:
    hold("a.zip", {"報酬": "役員報酬は三千万円。"}, FOR_ITO)
    fail = {"transient": False, "version": "next"}
    catalog.fail(engine, source, "a.zip", "a", "壊れています", access=FOR_ITO, **fail)
    assert seen(engine, "user:ito")
    catalog.fail(engine, source, "a.zip", "a", "壊れています", access=PUBLIC, **fail)
    assert seen(engine, "user:ito") == {}
    whole(engine)
