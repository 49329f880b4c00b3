"""What is known beside the text, on both databases."""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import Engine, text

from appliance.store import about, access, catalog, sources
from appliance.testing.fakes import PUBLIC
from appliance.types import EVERYONE, NOBODY, Principal, Viewer

ANYBODY = Viewer("ito", frozenset({EVERYONE}))
RULE = "社外秘\n旅費規程\n第3版\n改定 2024年4月1日\n電話 03-1234-5678"


def test_a_list_says_what_each_document_says(engine: Engine, put, source) -> None:
    put("旅費規程.txt", RULE)
    put("b.txt", "本文です。")
    put("c.txt", "だれにも見えない本文です。", NOBODY)
    found, total = access.documents(engine, ANYBODY)
    assert ([one.title for one in found], total) == (["b.txt", "旅費規程.txt"], 2)
    said = found[1].metadata
    assert said.version is not None
    assert said.version.span is not None
    assert RULE[said.version.span.start : said.version.span.end] == said.version.text == "第3版"
    assert access.documents(engine, ANYBODY, text="旅費")[1] == 1
    assert access.documents(engine, ANYBODY, page=2, size=1)[0] == found[1:]
    assert access.documents(engine, Viewer("x", frozenset({Principal("user:x")}))) == ((), 0)


def test_a_new_name_says_something_new(engine: Engine, put, source) -> None:
    put("規程.txt", "本文です。")
    catalog.move(
        engine, source, "規程.txt", "【極秘】規程_第2版.txt", "【極秘】規程_第2版.txt", PUBLIC
    )
    (one,) = catalog.documents(engine).documents
    assert one.confidentiality == "極秘"
    assert access.documents(engine, ANYBODY)[0][0].metadata.version is not None


@pytest.mark.parametrize("handling", ["mask", "quarantine"])
def test_what_shows_is_withheld_in_blocks(engine: Engine, put, source, handling) -> None:
    for n in range(3):
        put(f"{n}.txt", f"個人番号 123456789018 {n}", counts={"my_number": 1})
    put("plain.txt", "本文です。")
    put("phone.txt", "電話 03-1234-5678", counts={"phone": 1})
    kept, sources.FORGET_AT_ONCE = sources.FORGET_AT_ONCE, 2
    try:
        changed = sources.update(engine, source, personal_data=handling)
    finally:
        sources.FORGET_AT_ONCE = kept
    assert changed.personal_data == handling
    found = {d.title: d for d in catalog.documents(engine).documents}
    hidden = {title for title, d in found.items() if not d.searchable}
    assert hidden == {"0.txt", "1.txt", "2.txt"} | ({"phone.txt"} if handling == "mask" else set())
    assert found["0.txt"].personal == {"my_number": 1}
    assert access.documents(engine, ANYBODY)[1] == 5 - len(hidden)


def test_a_document_can_be_withheld_and_taken_in_again(engine: Engine, put, source) -> None:
    sources.update(engine, source, personal_data="quarantine")
    catalog.withhold(engine, source, put.raw("a", "旅券番号 TK1234567"), {"passport": 2}, "hash")
    (one,) = catalog.documents(engine).documents
    assert (one.personal, one.searchable, one.status) == ({"passport": 2}, False, "problem")
    assert [s.personal_data for s in catalog.stored(engine, source)] == ["quarantine"]
    put("a", "本文です。", personal_data="quarantine")
    (again,) = catalog.documents(engine).documents
    assert dataclasses.astuple(again)[5:7] == ("ready", None)
    assert (again.id, again.personal) == (one.id, {})


def test_older_documents_are_looked_at_once(engine: Engine, put) -> None:
    put("旅費規程.txt", RULE)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM metadata"))
    assert list(about.fill(engine)) == [1]
    assert list(about.fill(engine)) == []
    (one,) = catalog.documents(engine).documents
    assert (one.confidentiality, one.personal) == ("社外秘", {"phone": 1})
