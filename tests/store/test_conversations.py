"""History: its owner's alone, and of its sources only what may be read now."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from appliance.errors import NotVisible
from appliance.store import access, catalog, conversations, people
from appliance.testing.fakes import PUBLIC
from appliance.types import (
    EVERYONE,
    NOBODY,
    Answer,
    Citation,
    Principal,
    Span,
    Turn,
    Viewer,
)

ITO = Viewer("ito", frozenset({EVERYONE, Principal("user:ito")}))
SATO = Viewer("sato", frozenset({EVERYONE, Principal("user:sato")}))
SECRET = "宿泊費は一万円とする。"


@pytest.fixture(autouse=True)
def users(engine: Engine) -> None:
    for user_id in ("ito", "sato"):
        people.create(engine, user_id, user_id)


@pytest.fixture
def answer(engine: Engine, put) -> Answer:
    put("b.txt", "日当は二千円", size=30)
    put("a.txt", SECRET, size=30)
    ids = [(i, 0.5) for i, _ in catalog.chunk_accesses(engine)]
    passages = tuple(access.passages(engine, ITO, ids))
    cited = Citation(2, passages[1], Span(4, 7), "一万円", True)
    return Answer("一万円です[2]。", (cited,), passages, "complete", "出張の宿泊費は", 1)


def test_an_exchange_comes_back_as_it_was(engine: Engine, answer: Answer) -> None:
    conversation, message = conversations.begin(engine, ITO, "宿泊費は？", answer, audit_id=7)
    kept = conversations.get(engine, ITO, conversation)
    assert kept.title == "宿泊費は？"
    (one,) = kept.messages
    assert (one.id, one.question, one.searched) == (message, "宿泊費は？", "出張の宿泊費は")
    assert (one.answer, one.ended, one.dangling, one.audit_id) == (
        "一万円です[2]。",
        "complete",
        1,
        7,
    )
    assert one.citations == answer.citations
    assert one.passages == {1: answer.passages[0], 2: answer.passages[1]}
    assert one.lost == frozenset()


def test_a_question_is_kept_before_its_answer(engine: Engine, answer: Answer) -> None:
    nothing = Answer("", (), (), "cut", "宿泊費は？")
    conversation, message = conversations.begin(
        engine, ITO, "宿泊費は？", nothing, message_id="f" * 32
    )
    (one,) = conversations.get(engine, ITO, conversation).messages
    assert (one.id, one.question, one.answer, one.ended) == (message, "宿泊費は？", "", "cut")
    with pytest.raises(NotVisible):
        conversations.finish(engine, SATO, message, answer)
    conversations.finish(engine, ITO, message, answer, audit_id=7)
    (one,) = conversations.get(engine, ITO, conversation).messages
    assert (one.id, one.question, one.searched) == ("f" * 32, "宿泊費は？", "出張の宿泊費は")
    assert (one.answer, one.ended, one.audit_id) == ("一万円です[2]。", "complete", 7)
    assert one.citations == answer.citations
    conversations.forget(engine, ITO, conversation)
    with pytest.raises(NotVisible):
        conversations.finish(engine, ITO, message, answer)


def test_history_holds_no_text_of_its_sources(engine: Engine, answer: Answer) -> None:
    conversations.begin(engine, ITO, "宿泊費は？", answer)
    with engine.connect() as connection:
        (row,) = connection.execute(text("SELECT passages, citations FROM message")).all()
    kept = str(row).encode().decode("unicode-escape", "ignore") + str(row)
    for word in ("宿泊費", "一万円", "日当", "a.txt"):
        assert word not in kept


@pytest.mark.parametrize("what", ["withdrawn", "deleted", "changed"])
def test_an_old_answer_shows_nothing_of_a_source_that_is_lost(
    engine: Engine, answer: Answer, put, source, what: str
) -> None:
    conversation, _ = conversations.begin(engine, ITO, "宿泊費は？", answer)
    match what:
        case "withdrawn":
            catalog.set_access(engine, source, "a.txt", NOBODY)
        case "deleted":
            catalog.forget(engine, source, "a.txt")
        case "changed":
            put("a.txt", "まったく別の内容になった。", PUBLIC)
    (message,) = conversations.get(engine, ITO, conversation).messages
    assert message.citations == ()
    assert message.lost == frozenset({2})
    assert set(message.passages) == {1}


def test_another_persons_conversation_is_as_absent_as_one_that_never_was(
    engine: Engine, answer: Answer
) -> None:
    conversation, message = conversations.begin(engine, ITO, "宿泊費は？", answer)
    for name in (conversation, "0" * 32):
        for act in (
            lambda name=name: conversations.get(engine, SATO, name),
            lambda name=name: conversations.turns(engine, SATO, name),
            lambda name=name: conversations.stop(engine, SATO, name),
            lambda name=name: conversations.append(engine, SATO, name, "?", answer),
            lambda name=name: conversations.rename(engine, SATO, name, "盗"),
            lambda name=name: conversations.forget(engine, SATO, name),
        ):
            with pytest.raises(NotVisible, match="会話が見つかりません"):
                act()
    for name in (message, "0" * 32):
        with pytest.raises(NotVisible):
            conversations.rate(engine, SATO, name, 1)
    assert conversations.conversations(engine, SATO) == []
    assert len(conversations.get(engine, ITO, conversation).messages) == 1


def test_exchanges_are_told_oldest_first(engine: Engine, answer: Answer) -> None:
    conversation, _ = conversations.begin(engine, ITO, "質問0", answer)
    for n in range(1, 4):
        conversations.append(engine, ITO, conversation, f"質問{n}", answer)
    assert [m.question for m in conversations.get(engine, ITO, conversation).messages] == [
        f"質問{n}" for n in range(4)
    ]
    assert conversations.turns(engine, ITO, conversation, 2) == [
        Turn("質問2", answer.text),
        Turn("質問3", answer.text),
    ]


def test_a_conversation_is_renamed_rated_listed_and_forgotten(
    engine: Engine, answer: Answer
) -> None:
    first, _ = conversations.begin(engine, ITO, "一", answer)
    second, _ = conversations.begin(engine, ITO, "二", answer)
    message = conversations.append(engine, ITO, first, "?", answer)
    assert [c.id for c in conversations.conversations(engine, ITO)] == [first, second]
    newest = conversations.conversations(engine, ITO, limit=1)
    older = conversations.conversations(engine, ITO, before=newest[0].updated_at)
    assert [c.id for c in older] == [second]
    conversations.rename(engine, ITO, first, "  新しい\n名前 ")
    conversations.rate(engine, ITO, message, -1, "違います")
    kept = conversations.get(engine, ITO, first)
    assert (kept.title, kept.messages[1].rating, kept.messages[1].comment) == (
        "新しい 名前",
        -1,
        "違います",
    )
    conversations.forget(engine, ITO, first)
    assert [c.id for c in conversations.conversations(engine, ITO)] == [second]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT conversation_id FROM message")).all() == [(second,)]
