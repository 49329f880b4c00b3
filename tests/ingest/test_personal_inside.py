"""Personal data in files inside files: each is handled by itself, as its source wants it."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from appliance.errors import Unreadable
from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from appliance.store import about, access, catalog, sources
from appliance.testing.fakes import HashEmbedder, MemoryConnector
from appliance.types import EVERYONE, RawFile, Viewer

NUMBER, OTHER = "123456789018", "987654321093"
HIDDEN = "＊" * 12
FORM = f"社外秘\n扶養控除等申告書\n個人番号 {NUMBER}\n連絡先 090-1234-5678"
PLAIN = "旅費規程。宿泊費は一泊一万円を上限とする。"
FILES: dict[str, str | bytes] = {
    "人事/申告書.txt": FORM,
    "旅費規程.txt": PLAIN,
    "図.png": b"\x89PNG\r\n\x1a\n",
}
ANYBODY = Viewer("x", frozenset({EVERYONE}))


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[RawFile], Any]]:
    with Sandbox(Settings(data=tmp_path_factory.mktemp("data"))) as sandbox:
        yield sandbox.parse


@pytest.fixture
def site(machine, parse) -> Any:
    machine.parse = parse
    return machine


def archive(files: Mapping[str, str | bytes] = FILES, name: str = "資料.zip") -> MemoryConnector:
    return MemoryConnector({name: packed(files)})


def packed(files: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as one:
        for path, said in files.items():
            one.writestr(zipfile.ZipInfo(path), said)
    return out.getvalue()


def handle(site, handling: str) -> None:
    sources.update(site.engine, site.source_id, personal_data=handling)


def listed(site) -> dict[str, catalog.Listed]:
    """The archive under "", those in it by their paths."""
    found = catalog.documents(site.engine, size=200).documents
    return {d.uri.partition(" › ")[2]: d for d in found}


def stored(site, *wanted: str) -> bool:
    """In any byte of the database's files, free pages too, once the log is folded in."""
    with site.engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    files = [Path(f"{site.engine.url.database}{end}") for end in ("", "-wal")]
    data = b"".join(f.read_bytes() for f in files if f.exists())
    return any(one.encode() in data for one in wanted)


def test_each_is_counted_by_itself_and_says_what_it_is(site) -> None:
    site.sync(archive())
    found = listed(site)
    assert found["人事/申告書.txt"].personal == {"my_number": 1, "phone": 1}
    assert found["人事/申告書.txt"].confidentiality == "社外秘"
    assert found["旅費規程.txt"].personal == found[""].personal == {}
    assert about.personal_by_source(site.engine)[site.source_id] == {"my_number": 1, "phone": 1}
    said = access.document(site.engine, ANYBODY, found["人事/申告書.txt"].id).metadata
    assert said.confidentiality and said.confidentiality.text == "社外秘"


def test_what_is_masked_never_enters_the_database(site) -> None:
    handle(site, "mask")
    files: dict[str, str | bytes] = FILES | {
        f"{NUMBER}/{OTHER}.txt": "一",
        f"{OTHER}/{NUMBER}.txt": "二",
    }
    files |= {"内.zip": packed({f"{NUMBER}.txt": FORM})}
    site.sync(archive(files))
    assert not stored(site, NUMBER, OTHER)
    assert not [t for texts, _ in site.embedder.calls for t in texts if NUMBER in t]
    found = listed(site)
    form = access.document(site.engine, ANYBODY, found["人事/申告書.txt"].id)
    assert form.text.splitlines()[2] == f"個人番号 {HIDDEN}" and len(form.text) == len(FORM)
    assert found["人事/申告書.txt"].personal == {"my_number": 1, "phone": 1}
    one = found[f"{HIDDEN}/{HIDDEN}.txt"]  # its place in the archive is hidden, too
    assert (one.title, one.within) == (f"{HIDDEN}.txt", f"資料.zip › {HIDDEN}/{HIDDEN}.txt")
    assert one.personal == {"my_number": 2}
    assert f"{HIDDEN}/{HIDDEN}.txt (2)" in found
    before = {path: d.id for path, d in found.items()}, site.embedded
    site.sync(archive(files | {"新.txt": "新しい規程"}))
    after = {path: d.id for path, d in listed(site).items() if path != "新.txt"}
    assert (after, site.embedded) == (before[0], before[1] + 1)


def test_a_place_that_cannot_be_hidden_is_told_of(site) -> None:
    handle(site, "mask")
    site.sync(archive({"規程.txt": PLAIN}, name=f"{NUMBER}.zip"))
    one = listed(site)["規程.txt"]
    assert "伏せられません" in "".join(one.notes)
    assert NUMBER not in str(one.within) and one.personal == {"my_number": 1}


def test_one_that_is_quarantined_takes_no_other_with_it(site) -> None:
    handle(site, "quarantine")
    site.sync(archive(FILES | {f"{NUMBER}.txt": "名前だけ", "電話.txt": "電話 03-1234-5678"}))
    assert set(site.texts()) == {"旅費規程.txt", "電話.txt"}
    assert not stored(site, NUMBER)
    found = listed(site)
    form = found["人事/申告書.txt"]
    assert (form.status, form.searchable, form.personal["my_number"]) == ("problem", False, 1)
    assert "マイナンバー 1 件" in str(form.problem) and form.confidentiality is None
    assert (found[""].status, found[""].children_problems) == ("ready", 3)
    shown = {c.id: c.problem for c in access.inside(site.engine, ANYBODY, found[""].id)[0]}
    assert shown[form.id] == access.WITHHELD  # how much was found is for administrators
    assert found[f"{HIDDEN}.txt"].status == "problem"
    handle(site, "show")
    site.sync(archive(FILES))
    assert site.texts()["申告書.txt"] == FORM
    assert listed(site)["人事/申告書.txt"].id == form.id


def test_one_that_is_put_right_comes_back(site) -> None:
    handle(site, "quarantine")
    site.sync(archive())
    site.sync(archive(FILES | {"人事/申告書.txt": "扶養控除等申告書"}))
    assert site.texts()["申告書.txt"] == "扶養控除等申告書"
    assert listed(site)["人事/申告書.txt"].personal == {}
    site.sync(archive())
    assert "申告書.txt" not in site.texts() and not stored(site, NUMBER)


def test_what_is_attached_stays_where_what_holds_it_is_quarantined(site) -> None:
    handle(site, "quarantine")
    parsed = site.parse
    site.parse = lambda file: (dataclasses.replace(parsed(file)[0], text=FORM), "message/rfc822")
    site.sync(archive({"旅費規程.txt": PLAIN}))
    assert site.texts() == {"旅費規程.txt": PLAIN}
    assert "マイナンバー 1 件" in str(listed(site)[""].problem)
    assert site.sync(archive({"旅費規程.txt": PLAIN})).counts == {"unchanged": 1}
    site.embedder = HashEmbedder(name="other")  # whose vectors are made in the background
    assert site.sync(archive({"旅費規程.txt": PLAIN})).counts == {"unchanged": 1}


@pytest.mark.parametrize("handling", ["mask", "quarantine"])
def test_a_stricter_handling_holds_at_once_and_takes_in_again(site, handling: str) -> None:
    files = FILES | {f"個人番号 {NUMBER}.txt": "名前だけ"}
    site.sync(archive(files))
    ids = {d.id for d in listed(site).values()}
    handle(site, handling)
    assert set(site.texts()) == {"旅費規程.txt"}  # before any worker has looked
    assert not stored(site, NUMBER)
    found = listed(site)
    assert "読み直しています" in str(found["人事/申告書.txt"].problem)
    assert found[""].next_attempt_at and found["人事/申告書.txt"].next_attempt_at is None
    assert f"個人番号 {HIDDEN}.txt" in found

    def gone(file):
        raise Unreadable("壊れています")

    parse, site.parse = site.parse, gone
    site.sync(archive(files))  # and even where the archive cannot be read any more
    assert set(site.texts()) == {"旅費規程.txt"}
    site.parse = parse
    site.sync(archive(files))
    assert {d.id for d in listed(site).values()} == ids
    assert ("申告書.txt" in site.texts()) == (handling == "mask")
    assert not stored(site, NUMBER)
    assert site.sync(archive(files)).counts == {"unchanged": 1}


def test_a_source_that_stops_to_hide_shows_them_again(site) -> None:
    handle(site, "mask")
    site.sync(archive())
    handle(site, "show")
    site.sync(archive())  # the same archive, and the same files in it
    assert site.texts()["申告書.txt"] == FORM


def test_files_read_under_the_old_handling_are_not_stored_under_the_new(site) -> None:
    plain = site.parse

    def meanwhile(file):
        handle(site, "mask")
        return plain(file)

    site.parse = meanwhile
    assert site.sync(archive()).counts == {"skipped": 1}
    assert listed(site) == {}


def test_one_that_was_emptied_meanwhile_is_not_taken_for_what_it_was(site, monkeypatch) -> None:
    site.sync(archive())
    found = catalog.held

    def meanwhile(engine, document_id):
        held = found(engine, document_id)
        handle(site, "mask")
        handle(site, "show")
        return held

    monkeypatch.setattr(catalog, "held", meanwhile)
    again = archive(FILES | {"新.txt": "新しい規程"})
    assert site.sync(again).counts == {"skipped": 1}
    monkeypatch.undo()
    site.sync(again)
    assert site.texts()["申告書.txt"] == FORM


def test_all_of_it_goes_with_the_archive(site) -> None:
    site.sync(archive())
    catalog.forget(site.engine, site.source_id, "資料.zip")
    with site.engine.connect() as connection:
        for table in ("document", "personal", "metadata", "edition", "body", "chunk"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0
