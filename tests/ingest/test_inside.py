"""Files inside files, taken in: each can be found, and follows the file that holds it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from appliance.store import access, catalog, sources
from appliance.testing.fakes import PUBLIC, MemoryConnector
from appliance.types import (
    EVERYONE,
    NOBODY,
    Access,
    AccessChanged,
    Document,
    Failed,
    Layer,
    Moved,
    Principal,
    RawFile,
    Remove,
    Upsert,
    Viewer,
)

FOR_ITO = (Layer(frozenset({Principal("user:ito")})),)
GIF = b"GIF89a"


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[RawFile], Any]]:
    with Sandbox(Settings(data=tmp_path_factory.mktemp("data"))) as sandbox:
        yield sandbox.parse


@pytest.fixture
def site(machine, parse) -> Any:
    machine.parse = parse
    return machine


def packed(files: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def file(uri: str, data: bytes, version: str = "1", access: Access = PUBLIC) -> RawFile:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return RawFile(uri, version, partial(io.BytesIO, data), access, uri, moment)


def listed(site: Any, **wanted: Any) -> dict[str, catalog.Listed]:
    return {d.uri: d for d in catalog.documents(site.engine, size=200, **wanted).documents}


def inside(site: Any) -> dict[str, catalog.Listed]:
    """By the path in the one file there is."""
    found = listed(site).values()
    return {str(d.within).split(" › ", 1)[1]: d for d in found if d.parent_id}


FILES: dict[str, str | bytes] = {
    "手引き/蔵の手引き.txt": "蔵の鍵は守衛室で受け取る。",
    "図.gif": GIF,
    "内.zip": packed({"規程/日当.csv": "区分,日当\n課長,三千円"}),
}


def test_each_file_of_an_archive_is_a_document(site) -> None:
    assert site.sync(MemoryConnector({"資料.zip": packed(FILES)})).counts == {"added": 1}
    assert site.texts() == {
        "蔵の手引き.txt": "蔵の鍵は守衛室で受け取る。",
        "日当.csv": "区分 | 日当\n課長 | 三千円",
    }
    found = listed(site)
    holder = found["資料.zip"]
    assert (holder.status, holder.searchable, holder.problem) == ("ready", False, None)
    assert (holder.children, holder.children_problems, holder.parent_id) == (4, 1, None)
    guide = found["資料.zip › 手引き/蔵の手引き.txt"]
    assert (guide.title, guide.media_type) == ("蔵の手引き.txt", "text/plain")
    assert (guide.parent_id, guide.within) == (holder.id, "資料.zip › 手引き/蔵の手引き.txt")
    assert guide.modified_at == holder.modified_at and guide.size_bytes == 39
    assert found["資料.zip › 内.zip › 規程/日当.csv"].media_type == "text/csv"
    assert site.problems() == {"資料.zip › 図.gif": "この形式には対応していません (image/gif)"}
    counts = catalog.counts(site.engine)
    assert (counts.documents, counts.ready, counts.problems) == (1, 1, 0)
    assert (counts.inside, counts.inside_problems) == (4, 1)
    assert catalog.documents(site.engine, parent_id=holder.id).total == 4


def test_what_holds_for_the_archive_holds_for_what_is_in_it(site, script) -> None:
    site.sync(script(Upsert(file("a.zip", packed(FILES)))))
    embedded, ids = site.embedded, {d.id for d in listed(site).values()}
    everything = site.texts()
    site.sync(script(AccessChanged("a.zip", FOR_ITO)))
    assert site.texts() == {} and site.texts("user:ito") == everything
    site.sync(script(Upsert(file("a.zip", packed(FILES), access=PUBLIC))))
    assert site.texts() == everything
    site.sync(script(Moved("a.zip", "b/新.zip", "新.zip", FOR_ITO)))
    assert site.texts() == {} and site.texts("user:ito") == everything
    moved = listed(site)
    assert {d.id for d in moved.values()} == ids and all(u.startswith("b/新.zip") for u in moved)
    assert moved["b/新.zip › 図.gif"].within == "新.zip › 図.gif"
    site.sync(script(Failed("b/新.zip", "新.zip", "使用中", True, PUBLIC)))
    assert site.texts() == everything and site.embedded == embedded  # the last good text
    site.sync(script(Failed("b/新.zip", "新.zip", "権限がありません", False, NOBODY)))
    assert site.texts() == site.texts("user:ito") == {}
    assert site.sync(script(Remove("b/新.zip"))).counts == {"removed": 1}
    assert listed(site) == {}


def test_an_archive_that_lost_a_file_and_won_another(site) -> None:
    site.sync(MemoryConnector({"a.zip": packed({"一.txt": "一番目の規程", "二.txt": "二番目"})}))
    before = inside(site)
    embedded = site.embedded
    changed = {"三.txt": "三番目", "改名/二.txt": "二番目"}
    assert site.sync(MemoryConnector({"a.zip": packed(changed)})).counts == {"updated": 1}
    after = inside(site)
    assert site.texts() == {"三.txt": "三番目", "二.txt": "二番目"}
    assert after["改名/二.txt"].id == before["二.txt"].id  # its history goes with it
    assert set(after) == {"三.txt", "改名/二.txt"} and site.embedded == embedded + 1
    site.sync(MemoryConnector({"a.zip": packed({"二.txt": "三番目", "三.txt": "二番目"})}))
    swapped = inside(site)
    assert swapped["三.txt"].id == before["二.txt"].id  # each under the other's name
    assert swapped["二.txt"].id == after["三.txt"].id and site.embedded == embedded + 1


def test_an_unchanged_file_keeps_the_citations_of_conversations(site) -> None:
    site.sync(MemoryConnector({"a.zip": packed({"一.txt": "変わらない", "二.txt": "古い"})}))
    viewer = Viewer("x", frozenset({EVERYONE}))
    (chunk,) = [
        p
        for p in access.passages(
            site.engine, viewer, [(i, 0.0) for i, _ in catalog.chunk_accesses(site.engine)]
        )
        if p.title == "一.txt"
    ]
    site.sync(MemoryConnector({"a.zip": packed({"一.txt": "変わらない", "二.txt": "新しい"})}))
    reference = access.Reference(chunk.chunk_id, chunk.start, chunk.end)
    (again,) = access.recall(site.engine, viewer, [reference])
    assert again and again.text == "変わらない" and again.within == "a.zip › 一.txt"
    assert site.sync(MemoryConnector({"a.zip": packed({})})).counts == {"failed": 1}
    assert site.texts() == {"一.txt": "変わらない", "二.txt": "新しい"}


def test_the_same_archive_again_costs_nothing(site, script) -> None:
    site.sync(script(Upsert(file("a.zip", packed(FILES), "1"))))
    embedded, head, site.parse = site.embedded, catalog.head(site.engine), None
    assert site.sync(script(Upsert(file("a.zip", packed(FILES), "2")))).counts == {"renewed": 1}
    assert site.sync(script(Upsert(file("a.zip", packed(FILES), "2")))).counts == {"unchanged": 1}
    assert (site.embedded, catalog.head(site.engine)) == (embedded, head)


def test_what_is_inside_is_not_missing_from_the_source(site) -> None:
    connector = MemoryConnector({"a.zip": packed({f"{n}.txt": f"{n} 番" for n in range(30)})})
    site.sync(connector)
    assert site.sync(connector).counts == {"unchanged": 1}
    assert len(listed(site)) == 31
    assert site.sync(MemoryConnector({})).counts == {"removed": 1}
    assert listed(site) == {}


def test_a_file_inside_that_could_not_be_read_is_tried_again_with_its_archive(site) -> None:
    connector = MemoryConnector({"a.zip": packed({"図.gif": GIF, "一.txt": "一番"})})
    site.sync(connector)
    assert site.sync(connector).counts == {"unchanged": 1}
    good, ids, embedded = site.parse, {u: d.id for u, d in inside(site).items()}, site.embedded

    for again in (
        lambda: sources.run_now(site.engine, site.source_id, retry=True),
        lambda: catalog.retry_with(site.engine, "another edition"),
    ):
        again()
        assert site.sync(connector).counts == {"updated": 1}
        assert inside(site)["図.gif"].attempts > 1
        assert site.sync(connector).counts == {"unchanged": 1}
    site.parse = lambda raw: _with_text(good(raw))
    catalog.retry_with(site.engine, "yet another")
    site.sync(connector)
    assert site.texts() == {"一.txt": "一番", "図.gif": "図の文字"}
    assert {u: d.id for u, d in inside(site).items()} == ids and site.problems() == {}
    assert site.embedded == embedded + 1


def test_what_cannot_be_read_any_more_keeps_its_last_good_text(site) -> None:
    site.sync(MemoryConnector({"a.zip": packed({"一.txt": "良い版", "二.txt": "二番"})}))
    site.sync(MemoryConnector({"a.zip": packed({"一.txt": b"", "二.txt": "二番"})}))
    assert site.texts() == {"一.txt": "良い版", "二.txt": "二番"}
    assert site.problems() == {"a.zip › 一.txt": "中身が空です"}
    site.sync(MemoryConnector({"a.zip": packed({"一.txt": "良い版", "二.txt": "二番"})}))
    assert site.problems() == {}


def test_another_size_of_chunks_cuts_what_is_inside_anew(site) -> None:
    connector = MemoryConnector({"a.zip": packed({"一.txt": "規程の本文である。" * 200})})
    site.sync(connector)
    before, ids = catalog.counts(site.engine).chunks, set(inside(site))
    sources.update(site.engine, site.source_id, tuning=sources.Tuning(chunk_chars=100))
    site.sync(connector)
    assert catalog.counts(site.engine).chunks > 2 * before and set(inside(site)) == ids


def test_two_thousand_files_come_in_and_go_in_one_step(site) -> None:
    many = {f"{n // 100}/{n:04}.txt": f"規程 {n} 号の本文" for n in range(2_000)}
    connector = MemoryConnector({"a.zip": packed(many)})
    assert site.sync(connector).counts == {"added": 1}
    counts = catalog.counts(site.engine)
    assert (counts.documents, counts.inside, counts.chunks) == (1, 2_000, 2_000)
    many["0/0007.txt"] = "第七号だけが変わった"
    embedded = site.embedded
    site.sync(MemoryConnector({"a.zip": packed(many)}))
    assert site.embedded == embedded + 1
    assert sources.delete(site.engine, site.source_id) == 2_001
    assert catalog.counts(site.engine).chunks == 0


def test_a_source_may_have_a_file_of_the_name_that_one_inside_has(site) -> None:
    files = {"a.zip": packed({"一.txt": "書庫の中"}), "a.zip › 一.txt": "外"}
    assert site.sync(MemoryConnector(files)).counts == {"added": 2}
    assert len(listed(site)) == 2  # of three, two with the same uri
    assert catalog.documents(site.engine).total == 3
    site.sync(MemoryConnector({"a.zip": files["a.zip"]}))
    assert site.texts() == {"一.txt": "書庫の中"}


def test_access_is_the_same_at_every_moment(site, script) -> None:
    site.sync(script(Upsert(file("a.zip", packed(FILES), access=FOR_ITO))))
    with site.engine.connect() as connection:
        astray = connection.execute(
            text(
                "SELECT c.uri FROM document c JOIN document p ON p.id = c.parent_id"
                " WHERE c.access_id != p.access_id OR c.source_id != p.source_id"
            )
        )
        assert astray.all() == []


def _with_text(parsed: Any) -> Any:
    """As if pictures could be read."""
    document, kind = parsed
    children = tuple(
        replace(c, document=Document("図の文字"), problem=None) if c.problem else c
        for c in document.children
    )
    return replace(document, children=children), kind
