"""The same bytes many times: read once, kept once, and each copy for its own readers alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlmodel import func, select

from appliance.errors import Unreadable
from appliance.formats import kinds
from appliance.ingest.sync import Report, sync, take_again
from appliance.settings import Settings
from appliance.store import access, alike, catalog, database, repair, sources, spaces
from appliance.store.sources import Source, Tuning
from appliance.store.tables import BodyRow, ChunkRow, DocumentRow, PointRow, WordingRow
from appliance.testing.fakes import HashEmbedder, MemoryConnector, ScriptedPages
from appliance.text.personal import Handling
from appliance.types import (
    EVERYONE,
    Access,
    Child,
    Document,
    Layer,
    Mark,
    Principal,
    RawFile,
    Viewer,
)
from tests import whole
from tests.ingest import test_pages as paged

RULE = "第1条 出張の宿泊費は一泊一万円を上限とする。\n第2条 日当は二千円とする。"
NUMBER = "123456789018"
SECRET = f"個人番号 {NUMBER} の者の宿泊費"


def only(name: str) -> Access:
    return (Layer(frozenset({Principal(f"user:{name}")})),)


@dataclass
class Site:
    """Sources of one catalogue, and how often a parser and an embedder were asked."""

    engine: Engine
    settings: Settings
    embedder: HashEmbedder = field(default_factory=HashEmbedder)
    parsed: list[str] = field(default_factory=list)
    made: Callable[[bytes], Document] = lambda data: Document(data.decode(), problems=("要確認",))
    lock: Any = field(default_factory=threading.Lock)

    def source(
        self, name: str = "共有", handling: Handling = "show", kind: str = "memory"
    ) -> Source:
        found = sources.by_name(self.engine, name)
        return found or sources.create(self.engine, name, kind, {}, personal_data=handling)

    def parse(self, file: RawFile) -> tuple[Document, str]:
        with self.lock:
            self.parsed.append(file.uri)
        with file.open() as stream:
            data = stream.read()
        if data.startswith(b"%BROKEN"):
            raise Unreadable("壊れています")
        return self.made(data), "text/plain"

    def sync(self, files: dict[str, Any], name: str = "共有", **more: Any) -> Report:
        source = self.source(name, **more)
        connector = MemoryConnector(files)
        return sync(self.engine, source, connector, self.embedder, self.parse, self.settings)

    def found(self, who: str) -> dict[str, str]:
        """All that somebody may find: uri → text."""
        viewer = Viewer(who, frozenset({EVERYONE, Principal(f"user:{who}")}))
        wanted = [(i, 0.0) for i, _ in catalog.chunk_accesses(self.engine)]
        return {p.uri: p.text for p in access.passages(self.engine, viewer, wanted)}

    def count(self, table: type) -> int:
        with database.reading(self.engine) as s:
            return s.exec(select(func.count()).select_from(table)).one()

    @property
    def kept(self) -> tuple[int, int]:
        """Texts and vectors."""
        return self.count(WordingRow), self.count(PointRow)

    @property
    def embedded(self) -> int:
        return sum(len(texts) for _, texts in self.embedder.calls)


@pytest.fixture
def site(engine: Engine, tmp_path: Path) -> Iterator[Site]:
    made = Site(engine, Settings(data=tmp_path))
    yield made
    whole.check(engine)


# --- once ---------------------------------------------------------------------------


def test_a_hundred_copies_are_read_and_kept_once_and_each_has_its_own_readers(site: Site) -> None:
    """More than are on their way together; every one in a folder of somebody else."""
    files = {f"{n:03}/規程.txt": (RULE, only(f"u{n:03}")) for n in range(100)}
    assert site.sync(files).counts == {"added": 100}
    assert len(site.parsed) == 1 and site.embedded == 1
    assert site.count(DocumentRow) == 100 and site.kept == (1, 1)
    for n in (0, 56, 99):
        assert site.found(f"u{n:03}") == {f"{n:03}/規程.txt": RULE}
    assert site.found("nobody") == {}
    listed = catalog.documents(site.engine, size=100).documents
    assert {d.notes for d in listed} == {("要確認",)}
    assert {(d.status, d.media_type, d.size_bytes) for d in listed} == {
        ("ready", "text/plain", len(RULE.encode()))
    }


def test_copies_in_several_sources_share_what_was_made_of_the_first(site: Site) -> None:
    site.sync({"規程.txt": (RULE, only("ito"))}, "総務")
    site.sync({"写し/規程.txt": (RULE, only("sato"))}, "人事")
    assert len(site.parsed) == 1 and site.embedded == 1 and site.kept == (1, 1)
    assert site.found("ito") == {"規程.txt": RULE}
    assert site.found("sato") == {"写し/規程.txt": RULE}


def test_under_another_name_it_is_embedded_anew_for_names_are_searched(site: Site) -> None:
    site.sync({"規程.txt": RULE, "旅費.txt": RULE})
    site.sync({"規程.txt": RULE, "旅費.txt": RULE, "写し/旅費.txt": RULE})
    assert len(site.parsed) == 1 and site.embedded == 2 and site.kept == (1, 2)
    for entry in catalog.changes(site.engine, 0).added:
        (own,) = HashEmbedder().embed([entry.text], "passage")
        assert own @ entry.vector > 0.999


def test_what_only_looks_alike_is_not_shared(site: Site) -> None:
    """Another ending, another edition of the parsers, other bytes."""
    site.sync({"規程.txt": RULE, "規程.csv": RULE, "別.txt": f"{RULE} "})
    assert len(site.parsed) == 3


def test_another_edition_of_the_formats_reads_it_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.sync({"規程.txt": RULE}, "総務")
    monkeypatch.setattr("appliance.ingest.once.EDITION", kinds.EDITION + "+")
    site.sync({"規程.txt": RULE}, "人事")
    assert len(site.parsed) == 2 and site.kept == (1, 1)


def test_read_anew_is_read_anew(site: Site) -> None:
    files = {"規程.txt": RULE, "写し/規程.txt": RULE}
    site.sync(files)
    file = MemoryConnector(dict(files)).file("写し/規程.txt")
    take_again(
        site.engine, site.source(), file, site.embedder, site.parse, site.settings,
        threading.Event(),
    )  # fmt: skip
    assert site.parsed[1:] == ["写し/規程.txt"] and site.embedded == 2
    assert site.kept == (1, 1)


def test_other_sizes_cut_it_anew_without_a_parser(site: Site) -> None:
    long = "\n".join(f"第{n}条 出張の宿泊費は一泊{n}千円を上限とする。" for n in range(1, 60))
    files = {f"{n}/規程.txt": long for n in range(3)}
    site.sync(files)
    before = site.count(ChunkRow)
    sources.update(site.engine, site.source().id, tuning=Tuning(chunk_chars=100))
    site.sync(files)
    assert len(site.parsed) == 1 and site.count(ChunkRow) > before
    assert site.kept == (1, site.count(ChunkRow) // 3)


def test_a_file_that_cannot_be_read_is_each_ones_own_problem(site: Site) -> None:
    assert site.sync({f"{n}.txt": "%BROKEN" for n in range(3)}).counts == {"failed": 3}
    assert len(site.parsed) == 3 and site.kept == (0, 0)


# --- the end of one is not the end of the others --------------------------------------


def test_the_last_one_takes_the_text_along_and_no_other_does(site: Site) -> None:
    files = {f"{n}/規程.txt": (RULE, only(f"u{n}")) for n in range(3)}
    site.sync(files)
    for n in range(2):  # the first of all is the first to go
        del files[f"{n}/規程.txt"]
        site.sync(files)
        assert site.found(f"u{n}") == {} and site.kept == (1, 1)
    assert site.found("u2") == {"2/規程.txt": RULE}
    site.sync({})
    assert site.kept == (0, 0) and site.count(BodyRow) == 0


def test_one_that_changes_leaves_the_others_as_they_are(site: Site) -> None:
    site.sync({"a/規程.txt": (RULE, only("ito")), "b/規程.txt": (RULE, only("sato"))})
    site.sync({"a/規程.txt": ("改定", only("ito")), "b/規程.txt": (RULE, only("sato"))})
    assert site.found("ito") == {"a/規程.txt": "改定"}
    assert site.found("sato") == {"b/規程.txt": RULE}
    assert site.kept == (2, 2)


def test_one_that_is_closed_leaves_the_others_open(site: Site) -> None:
    both = {"a/規程.txt": (RULE, only("ito")), "b/規程.txt": (RULE, only("sato"))}
    site.sync(both)
    assert site.sync(both | {"a/規程.txt": (RULE, ())}).counts["renewed"] == 1
    assert site.found("ito") == {} and site.found("sato") == {"b/規程.txt": RULE}


def test_two_that_let_go_at_the_same_moment_leave_nothing(site: Site) -> None:
    """On PostgreSQL neither sees what the other has not yet ended."""
    source = site.source()
    files = {f"{n}/規程.txt": RULE for n in range(8)}
    site.sync(files)
    with ThreadPoolExecutor(8) as some:
        gone = list(some.map(lambda uri: catalog.forget(site.engine, source.id, uri), files))
    assert all(gone) and site.kept == (0, 0)


def test_one_that_comes_while_the_last_one_goes_has_its_text(site: Site) -> None:
    for n in range(5):
        site.sync({"規程.txt": RULE}, f"前{n}")
        old = site.source(f"前{n}")
        with ThreadPoolExecutor(2) as two:
            gone = two.submit(catalog.forget, site.engine, old.id, "規程.txt")
            site.sync({"規程.txt": RULE}, f"後{n}")
            assert gone.result()
        assert site.found("x")["規程.txt"] == RULE
        assert catalog.forget(site.engine, site.source(f"後{n}").id, "規程.txt")
    assert site.kept == (0, 0)


# --- personal data --------------------------------------------------------------------


def test_a_source_that_withholds_is_let_in_by_no_copy_of_one_that_shows(site: Site) -> None:
    site.sync({"届.txt": SECRET}, "公開")
    site.sync({"写し/届.txt": SECRET}, "人事", handling="quarantine")
    assert site.found("x") == {"届.txt": SECRET}
    row = catalog.listed(site.engine, site.source("人事").id, ["写し/届.txt"])["写し/届.txt"]
    assert row.status == "problem" and not row.searchable and row.personal == {"my_number": 1}


def test_a_source_that_masks_hides_what_its_twin_shows(site: Site) -> None:
    site.sync({"届.txt": SECRET}, "公開")
    site.sync({"写し/届.txt": SECRET}, "総務", handling="mask")
    assert site.found("x")["届.txt"] == SECRET
    hidden = site.found("x")["写し/届.txt"]
    assert NUMBER not in hidden and "＊" in hidden
    row = catalog.listed(site.engine, site.source("総務").id, ["写し/届.txt"])["写し/届.txt"]
    assert row.personal == {"my_number": 1}


def test_what_was_masked_is_nobodys_twin(site: Site) -> None:
    site.sync({"届.txt": SECRET}, "総務", handling="mask")
    site.sync({"写し/届.txt": SECRET}, "公開")
    assert len(site.parsed) == 2 and site.found("x")["写し/届.txt"] == SECRET


# --- nobody learns of another's copy ---------------------------------------------------


def test_what_a_person_brings_is_read_as_if_nobody_had_it(site: Site) -> None:
    """Else the time it takes would tell. It is kept once all the same, which nobody sees."""
    site.sync({"a/規程.txt": (RULE, only("ito"))}, "総務")
    site.sync({"b/規程.txt": (RULE, only("sato"))}, "アップロード", kind="uploads")
    assert len(site.parsed) == 2 and site.embedded == 2 and site.kept == (1, 1)
    assert site.found("sato") == {"b/規程.txt": RULE}


def test_pages_of_what_a_person_brings_wait_as_anybodys(
    sqlite_engine: Engine, tmp_path: Path
) -> None:
    reader = ScriptedPages({1: "一枚目", 2: "二枚目"})
    site = paged.Site(sqlite_engine, tmp_path, reader)
    site.sync(a=f"{paged.SCAN[1:]}{paged.SCAN}")
    site.read()
    assert site.asked == [1, 2]
    site.source = sources.create(site.engine, "アップロード", "uploads", {})
    site.sync(a=f"{paged.SCAN[1:]}{paged.SCAN}")
    assert site.listed().problem == "p. 1–2 は文字の読み取り (OCR) を待っています"
    site.read()
    assert site.asked == [1, 2, 1, 2] and site.listed().status == "ready"


# --- pages that are pictures -------------------------------------------------------------


def test_pages_are_read_once_for_copies_that_come_later_and_for_those_that_wait(
    sqlite_engine: Engine, tmp_path: Path
) -> None:
    reader = ScriptedPages({1: "一枚目", 2: "二枚目"})
    site = paged.Site(sqlite_engine, tmp_path, reader)
    scan = f"{paged.SCAN[1:]}{paged.SCAN}"
    site.sync(a=scan, b=scan)
    assert site.listed("b").problem == "p. 1–2 は文字の読み取り (OCR) を待っています"
    site.read()
    site.sync(a=scan, b=scan, c=scan)
    assert site.asked == [1, 2]
    for name in "abc":
        assert site.listed(name).status == "ready" and site.listed(name).searchable
    assert site.text().count("一枚目") == 3
    with database.reading(site.engine) as s:
        assert s.exec(select(func.count()).select_from(WordingRow)).one() == 1


# --- files inside ------------------------------------------------------------------------


def test_what_is_inside_copies_is_kept_once_and_read_by_whoever_reads_the_copy(site: Site) -> None:
    def box(data: bytes) -> Document:
        inside = Document(data.decode())
        return Document("目次", (Mark(0, "目次"),), children=(Child("規程.txt", inside),))

    site.made = box
    site.sync({f"{n}/箱.zip": (RULE, only(f"u{n}")) for n in range(3)})
    assert site.embedded == 2, "the box and what is in it"
    assert site.count(DocumentRow) == 6 and site.kept == (2, 2)
    assert site.found("u1") == {"1/箱.zip": "目次", "1/箱.zip › 規程.txt": RULE}
    site.sync({"1/箱.zip": (RULE, only("u1"))})
    assert site.found("u0") == {} and len(site.found("u1")) == 2 and site.kept == (2, 2)


# --- other rooms ----------------------------------------------------------------------------


def test_another_embedder_keeps_vectors_of_copies_once(site: Site) -> None:
    site.sync({f"{n}/規程.txt": RULE for n in range(3)})
    new = HashEmbedder(name="new")
    for document in catalog.documents(site.engine).documents:
        entries = catalog.entries_of(site.engine, document.id)
        made = new.embed([e.text for e in entries], "passage")
        vectors = {e.chunk_id: row for e, row in zip(entries, made, strict=True)}
        assert spaces.put(site.engine, document.id, "new", vectors, log=False)
    assert spaces.fold(site.engine, "new") == 3
    assert site.kept == (1, 1) and site.count(ChunkRow) == 3


def test_copies_are_known_by_their_place_and_by_their_vector(site: Site) -> None:
    site.sync({"a/規程.txt": RULE, "b/規程.txt": RULE, "旅費.txt": RULE, "別.txt": "別のこと"})
    entries = {e.chunk_id: e.text for e in catalog.changes(site.engine, 0).added}
    rules = {i for i, said in entries.items() if RULE in said}
    named = {i for i in rules if entries[i].startswith("規程")}
    places = alike.places(site.engine, entries)
    assert len({places[i] for i in rules}) == 1 and len(set(places.values())) == 2
    assert set(alike.same(site.engine, [min(named)])) == named


def test_a_text_that_nobody_has_is_found_and_taken_away(site: Site) -> None:
    site.sync({"規程.txt": RULE})
    with database.writing(site.engine) as s:
        s.add(WordingRow(digest=b"x" * 32, text="だれのものでもない", marks=[]))
        s.add(PointRow(digest=b"x" * 32, vector=b"\0" * 4))
    assert repair.orphans(site.engine) == {"wording": 1, "point": 1}
    repair.drop_orphans(site.engine)
    assert repair.orphans(site.engine) == {} and site.kept == (1, 1)


def test_a_broken_vector_is_made_anew_for_each(site: Site) -> None:
    files = {f"{n}/規程.txt": RULE for n in range(3)}
    site.sync(files)
    with database.writing(site.engine) as s:
        s.connection().execute(text("UPDATE point SET vector = :zero"), {"zero": b"\0" * 4 * 64})
    dim = site.embedder.dim
    broken = repair.broken_texts(site.engine, dim)
    assert len(broken) == 3 and set(broken.values()) == {"vector"}
    repair.read_again(site.engine, broken)
    for uri in files:
        take_again(
            site.engine, site.source(), MemoryConnector(dict(files)).file(uri), site.embedder,
            site.parse, site.settings, threading.Event(),
        )  # fmt: skip
    assert repair.broken_texts(site.engine, dim) == {} and site.kept == (1, 1)
