"""What is known of one document, what a person said of it, and what is to be read again."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from sqlalchemy import Engine

from appliance.errors import Conflict, NotVisible
from appliance.store import access, again, catalog, dossier, history
from appliance.store.database import writing
from appliance.testing.fakes import PUBLIC, HashEmbedder
from appliance.types import EVERYONE, Chunk, Document, Mark, Page, Viewer
from tests.store.conftest import Put, raw

ANYBODY = Viewer("ito", frozenset({EVERYONE}))


def test_pages_and_what_happened_are_kept(engine: Engine, source: int, put: Put) -> None:
    id = put("規程.pdf", "第1条 目的", marks=(Mark(0, "p. 1", "page", 1),))
    file = raw("規程.pdf", "第1条 目的である。", version="2")
    document = Document("第1条", pages=(Page(1, "fine"), Page(2, "scanned", 0.8, "none")))
    vectors = HashEmbedder().embed(["第1条"], "passage")
    chunk = Chunk(0, 3, 0, 3)
    catalog.replace(engine, source, file, document, [chunk], vectors, "hash", digest="other")
    catalog.move(engine, source, "規程.pdf", "旧/規程.pdf", "規程.pdf", PUBLIC)
    for _ in range(3):
        catalog.fail(
            engine, source, "旧/規程.pdf", "規程.pdf", "壊れています", transient=True, access=PUBLIC
        )
    known = dossier.of(engine, id)
    assert known.pages == document.pages and known.page_count == 2
    told = [(event.kind, event.detail) for event in known.history]
    assert told == [
        ("failed", "壊れています"),
        ("moved", "規程.pdf"),
        ("changed", ""),
        ("added", ""),
    ]
    assert known.listed.status == "problem" and known.access == PUBLIC
    with writing(engine) as s:
        for n in range(history.KEPT + 5):
            history.note(s, id, "access", str(n))
    kept = dossier.of(engine, id).history
    assert len(kept) == history.KEPT and kept[0].detail == str(history.KEPT + 4)
    assert catalog.forget(engine, source, "旧/規程.pdf")
    with pytest.raises(NotVisible):
        dossier.of(engine, id)


def test_what_a_person_said_outlives_every_change(engine: Engine, source: int, put: Put) -> None:
    id = put("a.txt", "本文である", title="scan12")
    assert catalog.correct(engine, id, "旅費規程", date(2026, 4, 1), "user:admin")
    assert not catalog.correct(engine, id, "旅費規程", date(2026, 4, 1), "user:admin")
    stored = catalog.find(engine, source, "a.txt")
    assert stored is not None
    assert (stored.title, stored.corrected) == ("scan12", "旅費規程")
    assert stored.shows(raw("a.txt", "本文である", title="scan12"))
    catalog.renew(engine, source, raw("a.txt", "本文である", title="scan13"))
    put("a.txt", "別の本文", title="scan14")
    catalog.move(engine, source, "a.txt", "b.txt", "scan15", PUBLIC)
    catalog.fail(engine, source, "b.txt", "scan16", "壊れた", transient=False, access=PUBLIC)
    known = dossier.of(engine, id)
    assert (known.listed.title, known.given_title) == ("旅費規程", "scan16")
    assert known.in_force == known.said_in_force == date(2026, 4, 1)
    assert {e.text.split("\n")[0] for e in catalog.entries_of(engine, id, "hash")} == {"旅費規程"}
    assert catalog.correct(engine, id, None, None, "user:admin")
    assert dossier.of(engine, id).listed.title == "scan16"
    assert dossier.of(engine, id).history[0].kind == "restored"
    with pytest.raises(NotVisible):
        catalog.correct(engine, "0" * 32, "x", None, "user:admin")


def test_what_is_wanted_again_stays_wanted_until_done(
    engine: Engine, source: int, put: Put
) -> None:
    id = put("a.txt", "本文である")
    assert again.lease(engine, 60) is None
    assert again.ask(engine, id) and not again.ask(engine, "0" * 32)
    wanted = again.lease(engine, 60)
    assert wanted == again.Wanted(id, source, "a.txt", "file")
    assert again.lease(engine, 60) is None, "somebody is at it"
    assert dossier.of(engine, id).again == "file"
    again.put_off(engine, wanted, 0)
    assert again.lease(engine, 0) == wanted, "whoever had it is gone"
    assert again.lease(engine, 60) == wanted
    put("a.txt", "新しい本文")
    assert dossier.of(engine, id).again is None, "it was read meanwhile"
    # a title by hand while the file is being read with the old one
    catalog.correct(engine, id, "旅費規程", None, "user:admin")
    again.done(engine, wanted)
    wanted = again.lease(engine, 60)
    assert wanted is not None and wanted.what == "title", "another thing than what was done"
    again.failed(engine, wanted, "だめ")
    assert again.lease(engine, 60) is None
    assert dossier.of(engine, id).history[0].detail == "だめ"


def test_a_document_that_went_is_not_brought_back(engine: Engine, source: int) -> None:
    chunk, vectors = Chunk(0, 2, 0, 2), HashEmbedder().embed(["本文"], "passage")
    with pytest.raises(Conflict):
        catalog.replace(
            engine,
            source,
            raw("gone.txt", "本文"),
            Document("本文"),
            [chunk],
            vectors,
            "hash",
            new=False,
        )
    assert catalog.counts(engine).documents == 0


def test_vectors_of_chunks_that_are_others_by_now_are_not_taken(engine: Engine, put: Put) -> None:
    id = put("a.txt", "本文である")
    (entry,) = catalog.entries_of(engine, id, "hash")
    other = HashEmbedder().embed(["何か別のもの"], "passage")[0]
    assert catalog.set_vectors(engine, id, "hash", {entry.chunk_id: other})
    (after,) = catalog.entries_of(engine, id, "hash")
    assert np.allclose(after.vector, other)
    put("a.txt", "新しい本文")
    assert not catalog.set_vectors(engine, id, "hash", {entry.chunk_id: other})
    assert not catalog.set_vectors(engine, id, "another", {})


def test_chunks_come_in_order_and_in_pages(engine: Engine, put: Put) -> None:
    marks = (Mark(0, "p. 1", "page", 1), Mark(15, "p. 2", "page", 2))
    id = put("a.pdf", "𠮷".join("0123456789" * 4)[:45], marks=marks)
    found, total = access.pieces(engine, ANYBODY, id, 1, 2)
    assert total == 5 and [(p.start, p.page) for p in found] == [(10, 1), (20, 2)]
    assert found[0].text == access.part(engine, ANYBODY, id, 10, 20).text
    assert access.page_at(engine, ANYBODY, id, 15) == 2
    for call in (
        lambda who: access.pieces(engine, who, id, 0, 1),
        lambda who: access.sections(engine, who, id, 0, 1),
        lambda who: access.part(engine, who, id, 0, 1),
        lambda who: access.page(engine, who, id, 1),
        lambda who: access.page_at(engine, who, id, 0),
    ):
        call(ANYBODY)
        with pytest.raises(NotVisible):
            call(Viewer("sato", frozenset()))
