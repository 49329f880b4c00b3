"""The one door to text: what may not be seen is as if it were not there."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine, event, text

from appliance.errors import NotVisible
from appliance.store import access, catalog, database, people, sources, tables
from appliance.store.access import Reference
from appliance.testing.fakes import PUBLIC
from appliance.types import EVERYONE, NOBODY, Layer, Mark, Principal, Span, Viewer


def viewer(*principals: str) -> Viewer:
    return Viewer("x", frozenset({EVERYONE, *map(Principal, principals)}))


def allow(*names: str, deny: tuple[str, ...] = ()) -> Layer:
    return Layer(frozenset(map(Principal, names)), frozenset(map(Principal, deny)))


CASES = [
    (NOBODY, (), False),
    (PUBLIC, (), True),
    ((allow(),), ("user:a",), False),
    ((allow("user:a"),), ("user:a",), True),
    ((allow("user:a"),), ("user:b",), False),
    ((allow("everyone", deny=("group:外注",)),), ("group:外注",), False),
    ((allow("everyone", deny=("group:外注",)),), ("group:総務",), True),
    ((allow("group:総務"), allow("group:役員")), ("group:総務",), False),
    ((allow("group:総務"), allow("group:役員")), ("group:総務", "group:役員"), True),
    ((allow("group:総務"), allow("everyone", deny=("user:a",))), ("group:総務", "user:a"), False),
    ((allow("group:.*"), allow("group:%")), ("group:x",), False),
]


# what each way shows of a document, with its chunks; nothing, or NotVisible, to who may not read
WAYS: dict[str, Callable[[Engine, Viewer, str, list[int]], object]] = {
    "admitted": lambda e, who, d, ids: access.admitted(e, who),
    "passages": lambda e, who, d, ids: access.passages(e, who, [(i, 1.0) for i in ids]),
    "recall": lambda e, who, d, ids: access.recall(e, who, [Reference(ids[0], 0, 3)])[0],
    "visible_documents": lambda e, who, d, ids: access.visible_documents(e, who, [d]),
    "labels": lambda e, who, d, ids: access.labels(e, who, [(d, 0)])[0],
    "openings": lambda e, who, d, ids: access.openings(e, who, [d], 9),
    "document": lambda e, who, d, ids: access.document(e, who, d).text,
    "documents": lambda e, who, d, ids: access.documents(e, who)[1],
    "part": lambda e, who, d, ids: access.part(e, who, d, 0, 9).text,
    "page_at": lambda e, who, d, ids: access.page_at(e, who, d, 0),
    "page": lambda e, who, d, ids: access.page(e, who, d, 1).text,
    "boxes": lambda e, who, d, ids: access.boxes(e, who, d, 0, 9) == [],
    "own_text": lambda e, who, d, ids: access.own_text(e, who, d, 1) == "",
    "sections": lambda e, who, d, ids: access.sections(e, who, d, 0, 9)[0],
    "pieces": lambda e, who, d, ids: access.pieces(e, who, d, 0, 9)[0],
    "inside": lambda e, who, d, ids: access.inside(e, who, d) == ([], 0),
}


def shown(engine: Engine, who: Viewer, document: str) -> dict[str, bool]:
    """By which ways somebody sees anything of a document, the only one there is."""
    ids = [i for i, _ in catalog.chunk_accesses(engine)]

    def shows(way: Callable[[Engine, Viewer, str, list[int]], object]) -> bool:
        try:
            return bool(way(engine, who, document, ids))
        except NotVisible:
            return False

    return {name: shows(way) for name, way in WAYS.items()}


MARKS = (Mark(0, "p. 1", "page", 1), Mark(0, "第1条"))


@pytest.mark.parametrize(("rule", "principals", "seen"), CASES)
def test_every_way_to_text_asks_the_same_rule(
    engine: Engine, put, rule, principals: tuple[str, ...], seen: bool
) -> None:
    document = put("a.txt", "役員報酬は三千万円。", rule, marks=MARKS)
    assert shown(engine, viewer(*principals), document) == dict.fromkeys(WAYS, seen)


def test_no_way_shows_what_a_source_said_too_long_ago(engine: Engine, put, source: int) -> None:
    document = put("a.txt", "社内報", PUBLIC, marks=MARKS)
    sources.hold(engine, source, tables.now())
    ways = dict.fromkeys(WAYS, False) | {"admitted": True}  # the rule, of which nothing is text
    assert shown(engine, viewer(), document) == ways
    sources.hold(engine, source, tables.now() + timedelta(hours=1))
    assert shown(engine, viewer(), document) == dict.fromkeys(WAYS, True)


def test_no_way_to_text_is_left_out() -> None:
    asked = {
        name
        for name, one in vars(access).items()
        if inspect.isfunction(one)
        and not name.startswith("_")
        and {"engine", "viewer"} <= inspect.signature(one).parameters.keys()
    }
    assert asked == WAYS.keys()


def test_what_admits_somebody_is_learned_once_and_whenever_it_is_new(engine: Engine, put) -> None:
    put("a.txt", "公開", (allow("everyone"),))
    ito, sato = viewer("user:ito", "everyone"), viewer("user:sato", "everyone")
    before = access.admitted(engine, ito)
    assert access.admitted(engine, ito) is before
    put("b.txt", "佐藤だけ", (allow("user:sato"),))
    assert access.admitted(engine, ito) is before
    assert len(access.admitted(engine, sato)) == 2
    put("c.txt", "二人", (allow("user:sato", "user:ito"),))
    assert len(access.admitted(engine, ito)) == 2
    assert len(access.admitted(engine, sato)) == 3


def test_a_lower_number_that_is_seen_after_a_higher_one(engine: Engine, put) -> None:
    """As two transactions leave it, of which the first to begin ends last."""
    put("a.txt", "公開", (allow("everyone"),))
    layers = access.to_json((allow("user:ito"),))

    def insert(access_id: int, layers: str) -> None:
        with database.writing(engine) as s:
            s.add(tables.AccessRow(id=access_id, digest=access.digest(layers), layers=layers))

    insert(9, access.to_json((allow("user:sato"),)))
    ito = viewer("user:ito")
    (public,) = access.admitted(engine, ito)
    insert(5, layers)
    assert access.admitted(engine, ito) == {public, 5}


def test_hidden_and_absent_are_the_same_answer(engine: Engine, put) -> None:
    hidden = put("a.txt", "役員報酬", (allow("user:a"),))
    errors = []
    for name in (hidden, "0" * 32, ""):
        with pytest.raises(NotVisible) as caught:
            access.document(engine, viewer(), name)
        errors.append(str(caught.value))
    assert len(set(errors)) == 1
    assert access.passages(engine, viewer(), [(999, 1.0)]) == []


def test_not_a_character_of_hidden_text_is_read(engine: Engine, put) -> None:
    put("a.txt", "役員報酬", (allow("user:a"),))
    (chunk, _), *_ = catalog.chunk_accesses(engine)
    statements: list[str] = []
    event.listen(
        engine, "before_cursor_execute", lambda c, k, statement, *_: statements.append(statement)
    )
    access.passages(engine, viewer(), [(chunk, 1.0)])
    access.recall(engine, viewer(), [access.Reference(chunk, 0, 2)])
    access.visible_documents(engine, viewer(), ["x"])
    assert statements
    assert not [s for s in statements if "body" in s]


def test_passages_come_in_the_order_asked_with_place_and_score(engine: Engine, put) -> None:
    put("a.txt", "一" * 10 + "二" * 5, marks=(Mark(0, "p. 1", "page", 1), Mark(10, "第2条")))
    put("b.txt", "三" * 4)
    a1, a2, b = (i for i, _ in catalog.chunk_accesses(engine))
    found = access.passages(engine, viewer(), [(b, 0.5), (a2, 0.9), (777, 1.0), (a1, 0.1)])
    assert [(p.chunk_id, p.score) for p in found] == [(b, 0.5), (a2, 0.9), (a1, 0.1)]
    passage = found[1]
    assert passage.text == "一" * 10 + "二" * 5
    assert (passage.start, passage.end, passage.hit) == (0, 15, Span(10, 15))
    assert (passage.source, passage.uri, passage.label) == ("規程集", "a.txt", "p. 1 · 第2条")
    assert passage.modified_at is not None
    assert passage.modified_at.utcoffset() is not None


def test_offsets_count_characters_as_python_does(engine: Engine, put) -> None:
    body = "𠮷野家🍣は" + "髙島屋" + "は\u3099"
    put("a.txt", body)
    ((chunk, _),) = catalog.chunk_accesses(engine)
    for start in range(len(body)):
        (passage,) = access.recall(engine, viewer(), [access.Reference(chunk, start, len(body))])
        assert passage is not None
        assert passage.text == body[start:]


def test_an_earlier_passage_is_not_recalled_from_a_changed_text(engine: Engine, put) -> None:
    put("a.txt", "宿泊費は一万円")
    ((chunk, _),) = catalog.chunk_accesses(engine)
    put("a.txt", "全面改訂された別の文")
    assert access.recall(engine, viewer(), [access.Reference(chunk, 0, 3)]) == [None]


def test_an_access_that_was_tampered_with_admits_nobody(engine: Engine, put) -> None:
    put("a.txt", "役員報酬", (allow("user:a"),))
    assert access.admitted(engine, viewer("user:a"))
    ((chunk, _),) = catalog.chunk_accesses(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE access SET layers = '[[[\"everyone\"],[]]]'"))
    another = database.connect(engine.url.render_as_string(hide_password=False))
    assert access.admitted(engine, viewer()) == frozenset()  # it knew better
    for who in (viewer("user:a"), viewer()):
        assert access.admitted(another, who) == frozenset()
        assert access.passages(engine, who, [(chunk, 1.0)]) == []
    another.dispose()


def test_someone_in_very_many_groups_and_a_rule_with_very_many_names(engine: Engine, put) -> None:
    names = [f"group:部署{n}" for n in range(20_000)]
    put("a.txt", "一つだけ合う", (allow(*(f"group:g{n}" for n in range(50_000)), names[7]),))
    put("b.txt", "一つも合わない", (allow("group:よそ"),))
    who = viewer(*names)
    ids = [(i, 1.0) for i, _ in catalog.chunk_accesses(engine)]
    assert [p.title for p in access.passages(engine, who, ids)] == ["a.txt"]
    assert len(access.admitted(engine, who)) == 1


def test_leaving_a_group_closes_its_documents_at_once(engine: Engine, put) -> None:
    put("a.txt", "役員報酬", (allow("group:役員"),))
    ids = [(i, 1.0) for i, _ in catalog.chunk_accesses(engine)]
    people.create(engine, "ito", "伊藤")
    people.set_group(engine, "役員", [Principal("user:ito")])
    assert access.passages(engine, people.viewer(engine, "ito"), ids)
    people.set_group(engine, "役員", [])
    assert not access.passages(engine, people.viewer(engine, "ito"), ids)
