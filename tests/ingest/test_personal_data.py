"""Personal data as each source wants it handled, from the file to what anybody may find."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from appliance.errors import Conflict, Unreadable
from appliance.store import about, access, catalog, sources
from appliance.testing.fakes import PUBLIC, MemoryConnector
from appliance.types import EVERYONE, Document, Failed, Viewer

NUMBER = "123456789018"
FORM = f"扶養控除等申告書\n個人番号 {NUMBER}\n連絡先 090-1234-5678"
PLAIN = "旅費規程。宿泊費は一泊一万円を上限とする。"
FILES = {"申告書.txt": (FORM, PUBLIC), "旅費規程.txt": (PLAIN, PUBLIC)}
ANYBODY = Viewer("x", frozenset({EVERYONE}))


def handle(machine, handling: str) -> None:
    sources.update(machine.engine, machine.source_id, personal_data=handling)


def listed(machine) -> dict[str, catalog.Listed]:
    return {d.uri: d for d in catalog.documents(machine.engine).documents}


def in_the_database(engine: Engine, what: str) -> bool:
    """In any byte of its files, free pages too, once the log is folded in."""
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    files = [Path(str(engine.url.database) + end) for end in ("", "-wal")]
    return any(what.encode() in f.read_bytes() for f in files if f.exists())


def test_by_default_it_is_shown_and_counted(machine) -> None:
    machine.sync(MemoryConnector(FILES))
    assert machine.texts()["申告書.txt"] == FORM
    assert listed(machine)["申告書.txt"].personal == {"my_number": 1, "phone": 1}
    assert listed(machine)["旅費規程.txt"].personal == {}
    assert about.personal_by_source(machine.engine) == {
        machine.source_id: {"my_number": 1, "phone": 1}
    }


def test_what_is_masked_never_enters_the_database(machine) -> None:
    handle(machine, "mask")
    files = {f"{NUMBER}_伊藤.txt": (FORM, PUBLIC), **FILES}
    machine.sync(MemoryConnector(FILES))
    assert not in_the_database(machine.engine, NUMBER)
    assert machine.texts()["申告書.txt"] == (
        "扶養控除等申告書\n個人番号 ＊＊＊＊＊＊＊＊＊＊＊＊\n連絡先 ＊＊＊＊＊＊＊＊＊＊＊＊＊"
    )
    assert not [t for texts, _ in machine.embedder.calls for t in texts if NUMBER in t]
    assert listed(machine)["申告書.txt"].personal == {"my_number": 1, "phone": 1}
    assert machine.sync(MemoryConnector(FILES)).counts == {"unchanged": 2}
    machine.sync(MemoryConnector(files))
    one = listed(machine)[f"{NUMBER}_伊藤.txt"]  # a place is what it is, and is told of
    assert (one.title, len(one.notes)) == ("＊＊＊＊＊＊＊＊＊＊＊＊_伊藤.txt", 1)


def test_a_name_is_masked_whichever_way_it_comes(machine, script) -> None:
    handle(machine, "mask")
    reason = f"{NUMBER} を読めません"
    machine.sync(
        script(Failed(f"個人番号{NUMBER}.txt", f"個人番号 {NUMBER}", reason, True, PUBLIC))
    )
    (one,) = listed(machine).values()
    assert NUMBER not in one.title + str(one.problem)


def test_a_quarantined_document_is_found_by_nobody_and_says_why(machine) -> None:
    handle(machine, "quarantine")
    report = machine.sync(MemoryConnector(FILES | {"電話.txt": ("電話 03-1234-5678", PUBLIC)}))
    assert report.counts == {"added": 3}
    assert set(machine.texts()) == {"旅費規程.txt", "電話.txt"}
    assert not in_the_database(machine.engine, NUMBER)
    one = listed(machine)["申告書.txt"]
    assert (one.status, one.searchable, one.personal["my_number"]) == ("problem", False, 1)
    assert "マイナンバー 1 件" in str(one.problem)
    assert "個人情報の扱い" in str(one.problem)
    assert machine.sync(MemoryConnector(FILES)).counts["unchanged"] == 2
    handle(machine, "show")  # released
    machine.sync(MemoryConnector(FILES))
    assert machine.texts()["申告書.txt"] == FORM
    assert listed(machine)["申告書.txt"].status == "ready"


def test_a_file_that_is_put_right_comes_back(machine) -> None:
    handle(machine, "quarantine")
    machine.sync(MemoryConnector(FILES))
    machine.sync(MemoryConnector(FILES | {"申告書.txt": ("扶養控除等申告書", PUBLIC)}))
    assert machine.texts()["申告書.txt"] == "扶養控除等申告書"
    assert (listed(machine)["申告書.txt"].problem, listed(machine)["申告書.txt"].personal) == (
        None,
        {},
    )


@pytest.mark.parametrize("handling", ["mask", "quarantine"])
def test_a_stricter_handling_holds_at_once_and_takes_in_again(machine, handling: str) -> None:
    machine.sync(MemoryConnector(FILES))
    handle(machine, handling)
    assert set(machine.texts()) == {"旅費規程.txt"}  # before any worker has looked
    assert "読み直しています" in str(listed(machine)["申告書.txt"].problem)

    def gone(file):
        raise Unreadable("壊れています")

    parse, machine.parse = machine.parse, gone
    machine.sync(MemoryConnector(FILES))  # and even where the file cannot be read any more
    assert "申告書.txt" not in machine.texts()
    machine.parse = parse
    machine.sync(MemoryConnector({uri: (f"{body} ", who) for uri, (body, who) in FILES.items()}))
    assert ("申告書.txt" in machine.texts()) == (handling == "mask")
    assert not in_the_database(machine.engine, NUMBER)


def test_what_a_quarantine_let_be_shown_is_hidden_at_once_by_a_mask(machine) -> None:
    files = {"名簿.txt": ("営業所の連絡先 090-1234-5678", PUBLIC), **FILES}
    handle(machine, "quarantine")
    machine.sync(MemoryConnector(files))
    assert set(machine.texts()) == {"名簿.txt", "旅費規程.txt"}
    handle(machine, "mask")
    assert set(machine.texts()) == {"旅費規程.txt"}
    machine.sync(MemoryConnector(files))
    assert machine.texts().keys() == files.keys()
    assert not any("1234" in text for text in machine.texts().values())


def test_a_file_read_under_the_old_handling_is_not_stored_under_the_new(machine) -> None:
    plain = machine.parse

    def meanwhile(file) -> tuple[Document, str]:
        handle(machine, "mask")
        return plain(file)

    machine.parse = meanwhile
    assert machine.sync(MemoryConnector(FILES)).counts == {"skipped": 2}
    assert not in_the_database(machine.engine, NUMBER)
    machine.parse = plain
    assert machine.sync(MemoryConnector(FILES)).counts == {"added": 2}


def test_a_quarantine_of_a_source_that_changed_its_mind_is_refused(machine) -> None:
    file = next(iter(MemoryConnector(FILES).changes(None))).file
    with pytest.raises(Conflict):
        catalog.withhold(machine.engine, machine.source_id, file, {"my_number": 1}, "hash")


def test_an_answer_that_cited_it_no_longer_shows_the_place(machine) -> None:
    machine.sync(MemoryConnector(FILES))
    ids = [i for i, _ in catalog.chunk_accesses(machine.engine)]
    cited = [
        access.Reference(p.chunk_id, p.start, p.end)
        for p in access.passages(machine.engine, ANYBODY, [(i, 0.0) for i in ids])
        if NUMBER in p.text
    ]
    assert len(cited) == 1
    handle(machine, "mask")
    assert access.recall(machine.engine, ANYBODY, cited) == [None] * len(cited)
    machine.sync(MemoryConnector(FILES))
    assert access.recall(machine.engine, ANYBODY, cited) == [None] * len(cited)


def test_no_value_is_logged(machine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for handling in ("show", "mask", "quarantine"):
        handle(machine, handling)
        machine.sync(MemoryConnector(FILES))
    assert NUMBER not in caplog.text


def test_what_an_older_release_took_in_is_looked_at_once(machine) -> None:
    machine.sync(MemoryConnector(FILES | {"社外秘.txt": ("社外秘\n旅費規程\n本文", PUBLIC)}))
    before = listed(machine)
    with machine.engine.begin() as connection:
        connection.execute(text("DELETE FROM metadata"))
        connection.execute(text("DELETE FROM personal"))
    assert listed(machine)["社外秘.txt"].confidentiality is None
    assert sum(about.fill(machine.engine, block=2)) == 3
    assert listed(machine) == before
    assert before["社外秘.txt"].confidentiality == "社外秘"
    assert list(about.fill(machine.engine)) == []


def test_what_is_known_goes_with_the_document(machine) -> None:
    machine.sync(MemoryConnector(FILES))
    catalog.forget(machine.engine, machine.source_id, "申告書.txt")
    with machine.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM personal")).scalar() == 0
        assert connection.execute(text("SELECT count(*) FROM metadata")).scalar() == 1
    assert dataclasses.asdict(catalog.counts(machine.engine))["documents"] == 1
