"""Another embedder: the old index answers, by the old embedder, until everything has new vectors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from sqlmodel import col, func, select

from appliance import build
from appliance.api import create_app
from appliance.errors import ModelUnreachable
from appliance.identity import accounts
from appliance.ingest.again import _embed
from appliance.ingest.anew import Anew
from appliance.ingest.vectors import Stopped
from appliance.settings import Settings
from appliance.store import catalog, repair, sources, spaces
from appliance.store.database import reading, writing
from appliance.store.tables import ChunkRow, DocumentRow, VectorRow
from appliance.system import Appliance
from appliance.testing.fakes import HashEmbedder, ScriptedGenerator
from tests.api.conftest import FILES, ORIGIN, PASSWORD, PUBLIC, Model, Person, take_in

QUESTION = "宿泊費の上限は"
MORE = {f"細則/{n}.txt": (f"第{n}条 {n}号室の鍵は{n}番の棚に置く。", PUBLIC) for n in range(30)}


class Site:
    """The same site with one embedder after another."""

    def __init__(self, engine: Engine, settings: Settings, model: Model) -> None:
        self.engine, self.settings, self.model = engine, settings, model
        self.old, self.new = HashEmbedder(64, "old"), HashEmbedder(32, "new")
        self.machine: Appliance | None = None
        for user_id, role in (("admin", "administrator"), ("ito", "member")):
            accounts.create(engine, user_id, user_id, role, PASSWORD)  # type: ignore[arg-type]
        sources.create(engine, "共有フォルダ", "memory", {})

    def start(self, embedder: HashEmbedder, *others: HashEmbedder) -> Appliance:
        self.stop()
        self.machine = build.web(
            self.settings,
            engine=self.engine,
            embedder=embedder,
            others=others,
            generator=ScriptedGenerator(script=self.model),
        )
        self.machine.follower.reconcile()
        client = TestClient(create_app(self.machine), base_url=ORIGIN)
        self.people = {}
        for name in ("ito", "admin"):
            self.people[name] = Person(TestClient(client.app, base_url=ORIGIN), name)
            assert self.people[name].sign_in().status_code == 200
        return self.machine

    def stop(self) -> None:
        if self.machine:
            self.machine.follower.close()

    def anew(self, *others: HashEmbedder) -> Anew:
        named = {one.name: one for one in (self.new, self.old, *others)}
        return Anew(self.engine, self.new, named.get, threading.Event())

    def asked(self, embedder: HashEmbedder) -> bool:
        """Whether a question, answered with its source, is embedded by it."""
        before = len(embedder.calls)
        answer = self.people["ito"].ask(QUESTION).json()
        assert answer["citations"], answer
        return any(role == "query" for role, _ in embedder.calls[before:])

    def status(self) -> Any:
        return self.people["admin"].http.get("/api/v1/admin/status").json()

    def count(self, table: Any) -> int:
        with reading(self.engine) as s:
            return s.exec(select(func.count()).select_from(table)).one()

    def spaces(self) -> set[str | None]:
        with reading(self.engine) as s:
            return set(s.exec(select(DocumentRow.embedder)).all())


@pytest.fixture
def site(sqlite_engine: Engine, settings: Settings, model: Model) -> Iterator[Site]:
    yield from opened(sqlite_engine, settings, model)


@pytest.fixture
def either(engine: Engine, settings: Settings, model: Model) -> Iterator[Site]:
    """On SQLite and on PostgreSQL."""
    yield from opened(engine, settings, model)


def opened(engine: Engine, settings: Settings, model: Model) -> Iterator[Site]:
    made = Site(engine, settings, model)
    take_in(made.start(made.old), FILES | MORE)
    yield made
    made.stop()


def until_done(turn: Callable[[], bool]) -> None:
    for _ in range(200):
        if not turn():
            return
    raise AssertionError("it does not end")


def test_the_old_index_serves_until_the_last_new_vector_is_there(either: Site) -> None:
    site = either
    machine = site.start(site.new, site.old)
    assert machine.mover and site.asked(site.old)
    assert not any(role == "query" for role, _ in site.new.calls)
    assert site.anew().turn()  # and is killed: another goes on
    move = site.status()["embedding_anew"]
    assert (move["origin"], move["target"], move["complete"]) == ("old", "new", False)
    assert 0 < move["done"] < move["total"] == site.count(ChunkRow)
    assert site.asked(site.old) and not machine.mover.turn()
    done = len(site.new.calls)
    until_done(site.anew().turn)
    again = {t for _, texts in site.new.calls[:done] for t in texts} & {
        t for role, texts in site.new.calls[done:] if role == "passage" for t in texts
    }
    assert not again, "nothing is made twice"
    move = site.status()["embedding_anew"]
    assert move["complete"] and move["done"] == move["total"]
    assert site.asked(site.old) and site.status()["embedder"] == "old"
    assert site.spaces() == {"old"}
    index = site.settings.data / "index"
    assert machine.mover.turn()
    assert site.asked(site.new) and not site.asked(site.old)
    assert site.status()["embedder"] == "new" and site.status()["embedding_anew"] is None
    assert {p.name for p in index.iterdir()} == {"dense-new", "keyword"}
    assert len(machine.indexes[0].ids()) == site.count(ChunkRow)
    until_done(site.anew().turn)  # what is left of the old one goes
    assert site.spaces() == {"new"} and site.count(VectorRow) == 0
    assert site.asked(site.new)
    report = machine.follower.reconcile()
    assert (report.added, report.removed, report.waiting) == (0, 0, 0)
    site.new.calls.clear()
    machine = site.start(site.new)  # the old one is not there any more
    assert machine.mover is None and site.asked(site.new)
    assert not any(role == "passage" for role, _ in site.new.calls)


def test_what_comes_in_meanwhile_is_found_by_the_old_one_and_stays(site: Site) -> None:
    machine = site.start(site.new, site.old)
    late = {"規程/賃貸.txt": ("社宅の家賃は月三万円とする。", PUBLIC)}
    stays = FILES | dict([*MORE.items()][2:])
    take_in(machine, stays | late)
    assert repair.broken_texts(site.engine, 64, space="old") == {}, (
        "the other's are no broken vectors"
    )
    assert site.spaces() == {"old", "new"} and len(machine.indexes[0].ids()) == len(stays)
    until_done(site.anew().turn)
    machine.follower.catch_up()
    assert len(machine.indexes[0].ids()) == len(stays) + 1 == site.count(ChunkRow)
    assert machine.mover and machine.mover.turn()
    assert len(machine.indexes[0].ids()) == len(stays) + 1
    until_done(site.anew().turn)
    assert site.spaces() == {"new"} and site.count(VectorRow) == 0
    answer = site.people["ito"].ask("社宅の家賃は").json()
    assert any("賃貸" in c["title"] for c in answer["citations"])


def test_a_kill_at_each_write_leaves_one_embedder_or_the_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every transaction of the move fails once; whoever starts next goes on, and questions are answered."""
    real = writing
    machine = site.start(site.new, site.old)
    for nth in range(1, 200):
        calls = iter(range(1, 10_000))

        def deadly(engine: Engine) -> Any:
            if next(calls) == nth:  # noqa: B023
                raise KeyboardInterrupt
            return real(engine)

        monkeypatch.setattr(spaces, "writing", deadly)
        try:
            until_done(site.anew().turn)
            if machine.mover:
                machine.mover.turn()
            until_done(site.anew().turn)
            break
        except KeyboardInterrupt:
            monkeypatch.setattr(spaces, "writing", real)
            if nth % 7 == 0 or machine.mover is None:
                machine = site.start(site.new, site.old)
            serving = site.new if site.status()["embedder"] == "new" else site.old
            assert site.asked(serving)
    assert nth > 3 and site.asked(site.new)
    assert site.spaces() == {"new"} and site.count(VectorRow) == 0


def test_an_embedder_that_is_away_is_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ingest.vectors.MODEL_PATIENCE_S", 0.0)

    class Away(HashEmbedder):
        def embed(self, texts: Any, role: Any) -> Any:
            raise ModelUnreachable("応答がありません", retry_after_s=0.01)

    site.start(site.new, site.old)
    anew = Anew(site.engine, Away(32, "new"), {"old": site.old}.get, threading.Event())
    with pytest.raises(ModelUnreachable):
        anew.turn()
    assert site.asked(site.old) and site.count(VectorRow) == 0
    move = site.status()["embedding_anew"]
    assert (move["origin"], move["target"], move["done"]) == ("old", "new", 0), "it is seen"


def test_one_that_no_release_knows_any_more_gives_way_at_once(site: Site) -> None:
    machine = site.start(site.new)
    assert machine.mover is None and site.status()["embedder"] == "new"
    assert site.people["ito"].ask(QUESTION).json()["citations"], "by words"
    anew = Anew(site.engine, site.new, {"new": site.new}.get, threading.Event())
    assert anew.turn()
    move = site.status()["embedding_anew"]
    assert (move["origin"], move["target"]) == ("", "new") and 0 < move["done"] < move["total"]
    until_done(anew.turn)
    assert site.status()["embedding_anew"] is None
    machine.follower.catch_up()
    assert len(machine.indexes[0].ids()) == site.count(ChunkRow)
    assert site.spaces() == {"new"} and site.asked(site.new)


def test_a_release_from_before_the_new_one_has_only_words_until_all_is_its_own_again(
    site: Site,
) -> None:
    machine = site.start(site.new, site.old)
    until_done(site.anew().turn)
    assert machine.mover and machine.mover.turn()
    until_done(site.anew().turn)
    index = site.settings.data / "index"
    assert {p.name for p in index.iterdir()} == {"dense-new", "keyword"}
    machine = site.start(site.old)  # it has never heard of the new one
    assert machine.mover is None and site.status()["embedder"] == "old"
    assert {p.name for p in index.iterdir()} == {"keyword"}, "nothing leads back to it"
    assert len(machine.indexes[0].ids()) == 0
    assert site.people["ito"].ask(QUESTION).json()["citations"], "by words"
    anew = Anew(site.engine, site.old, {"old": site.old}.get, threading.Event())
    until_done(anew.turn)
    machine.follower.catch_up()
    assert len(machine.indexes[0].ids()) == site.count(ChunkRow)
    assert site.spaces() == {"old"} and site.count(VectorRow) == 0 and site.asked(site.old)
    machine = site.start(site.new, site.old)  # and to the new one once more
    until_done(site.anew().turn)
    assert machine.mover and machine.mover.turn() and site.asked(site.new)


def test_an_index_that_a_kill_left_behind_goes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = site.start(site.new, site.old)
    until_done(site.anew().turn)
    monkeypatch.setattr("appliance.search.move.shutil.rmtree", lambda *a, **k: None)
    assert machine.mover and machine.mover.turn()
    index = site.settings.data / "index"
    assert {p.name for p in index.iterdir()} == {"dense", "dense-new", "keyword"}
    monkeypatch.undo()
    site.start(site.new, site.old)
    assert {p.name for p in index.iterdir()} == {"dense-new", "keyword"} and site.asked(site.new)


def test_an_index_that_was_saved_before_the_log_begins_lacks_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = site.start(site.new, site.old)
    until_done(site.anew().turn)

    def killed(engine: Engine, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(spaces, "serve", killed)
    with pytest.raises(KeyboardInterrupt):
        assert machine.mover and machine.mover.turn()
    monkeypatch.undo()
    late = {f"規程/{n}.txt": (f"第{n}倉庫の当番は{n}班とする。", PUBLIC) for n in range(3)}
    take_in(machine, FILES | MORE | late)
    until_done(site.anew().turn)
    assert catalog.trim_log(site.engine, timedelta(days=-1)) > 0
    machine = site.start(site.new, site.old)
    assert machine.mover and machine.mover.turn()
    assert len(machine.indexes[0].ids()) == site.count(ChunkRow)


def test_a_stop_in_the_middle_is_not_the_end(site: Site) -> None:
    """`kura work` is stopped before `kura web`, which must not take half for all."""
    machine = site.start(site.new, site.old)
    over = threading.Event()

    class Stopping(HashEmbedder):
        def embed(self, texts: Any, role: Any) -> Any:
            over.set()
            return super().embed(texts, role)

    with pytest.raises(Stopped):
        Anew(site.engine, Stopping(32, "new"), {"old": site.old}.get, over).turn()
    assert site.count(VectorRow) == 1
    assert machine.mover and not machine.mover.turn() and site.asked(site.old)


def test_who_changes_his_mind_has_the_old_one_as_before(site: Site) -> None:
    site.start(site.new, site.old)
    site.anew().turn()
    assert site.count(VectorRow) > 0
    machine = site.start(site.old, site.new)
    assert machine.mover is None and site.asked(site.old)
    back = Anew(site.engine, site.old, {"old": site.old, "new": site.new}.get, threading.Event())
    until_done(back.turn)
    assert site.count(VectorRow) == 0 and site.spaces() == {"old"}
    assert site.status()["embedding_anew"] is None


def test_a_title_that_is_corrected_meanwhile_is_in_the_new_vectors(site: Site) -> None:
    site.start(site.new, site.old)
    until_done(site.anew().turn)
    with reading(site.engine) as s:
        document = s.exec(
            select(DocumentRow.id).where(col(DocumentRow.title).contains("旅費規程"))
        ).one()
    catalog.correct(site.engine, document, "出張旅費のきまり", None, "admin")
    _embed(site.engine, document, site.new, threading.Event())  # what `kura work` does of it
    until_done(site.anew().turn)
    made = [t for _, texts in site.new.calls for t in texts if "出張旅費のきまり" in t]
    assert made
