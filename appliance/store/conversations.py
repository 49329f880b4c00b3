"""What was asked and answered. A conversation is its owner's alone.

History holds references: whoever opens an old answer sees of its sources what
they may read now, and nothing of what they may not.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, delete, func, update
from sqlmodel import Session, col, select

from appliance.errors import NotVisible
from appliance.store import access, editions
from appliance.store.access import Reference
from appliance.store.database import reading, writing
from appliance.store.rows import clean
from appliance.store.tables import ConversationRow, MessageRow, now
from appliance.types import (
    Answer,
    Citation,
    Ended,
    Passage,
    Pointer,
    Span,
    Statement,
    Turn,
    Version,
    Viewer,
)

TITLE_CHARS = 40


@dataclass(frozen=True, slots=True)
class Summary:
    id: str
    title: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """One exchange as its owner may see it now.

    `passages` are by the number they had in the answer. `lost` holds markers
    whose source has changed, is gone, or may no longer be read.
    """

    id: str
    question: str
    searched: str
    answer: str
    ended: Ended
    citations: tuple[Citation, ...]
    passages: Mapping[int, Passage]
    lost: frozenset[int]
    dangling: int
    statements: tuple[Statement, ...]
    near: tuple[Pointer, ...]
    conflicts: tuple[Pointer, ...]
    audit_id: int | None
    rating: int
    comment: str | None
    created_at: datetime
    answering: bool  # the answer is being made, in whatever process


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    messages: tuple[Message, ...]


def begin(
    engine: Engine,
    viewer: Viewer,
    question: str,
    answer: Answer,
    *,
    message_id: str | None = None,
    audit_id: int | None = None,
    alive_s: float = 0,
) -> tuple[str, str]:
    """Keep the first exchange of a new conversation; the ids of both.

    The question becomes its title. Nobody ever sees a conversation without an exchange.
    `alive_s`: the answer is being made, and is not taken for broken off so long; see `keep_alive`.
    """
    with writing(engine) as s:
        row = ConversationRow(id=uuid.uuid4().hex, user_id=viewer.user_id, title=_title(question))
        s.add(row)
        s.flush()
        return row.id, _add(s, row, question, answer, message_id, audit_id, alive_s)


def append(
    engine: Engine,
    viewer: Viewer,
    conversation_id: str,
    question: str,
    answer: Answer,
    *,
    message_id: str | None = None,
    audit_id: int | None = None,
    alive_s: float = 0,
) -> str:
    """Keep an exchange; returns the message's id. Raises NotVisible if it is not the viewer's.

    `question` is as typed; `answer.question` as searched.
    """
    with writing(engine) as s:
        row = _own(s, viewer, conversation_id, lock=True)
        message_id = _add(s, row, question, answer, message_id, audit_id, alive_s)
        row.updated_at = now()
        s.add(row)
        return message_id


def finish(
    engine: Engine, viewer: Viewer, message_id: str, answer: Answer, *, audit_id: int | None = None
) -> None:
    """The answer to a question that was kept before it. Raises NotVisible if it is gone."""
    with writing(engine) as s:
        message = s.get(MessageRow, message_id)
        if message is None:
            raise NotVisible("質問が見つかりません。")
        row = _own(s, viewer, message.conversation_id, lock=True)
        end = {"audit_id": audit_id, "alive_until": None}
        message.sqlmodel_update(_columns(answer, message.question) | end)
        row.updated_at = now()
        s.add_all((row, message))


def keep_alive(engine: Engine, message_ids: Collection[str], alive_s: float) -> set[str]:
    """Their answers are still being made. Those of them that are to be: nobody stopped or deleted them."""
    wanted = (
        col(MessageRow.id).in_(message_ids),
        col(MessageRow.ended) == "cut",
        col(MessageRow.alive_until).is_not(None),  # not finished meanwhile
    )
    with writing(engine) as s:
        found = set(s.exec(select(MessageRow.id).where(*wanted)))
        s.connection().execute(
            update(MessageRow).where(*wanted).values(alive_until=now() + timedelta(seconds=alive_s))
        )
        return found


def stop(engine: Engine, viewer: Viewer, conversation_id: str) -> None:
    """Whatever is being answered in it is no longer to be, in whatever process. Raises NotVisible."""
    with writing(engine) as s:
        row = _own(s, viewer, conversation_id, lock=True)
        alive = (col(MessageRow.ended) == "cut", col(MessageRow.alive_until) > now())
        s.connection().execute(
            update(MessageRow)
            .where(col(MessageRow.conversation_id) == row.id, *alive)
            .values(ended="cancelled")
        )


def conversations(
    engine: Engine, viewer: Viewer, *, before: datetime | None = None, limit: int = 50
) -> list[Summary]:
    """The viewer's own, latest first, from before a moment."""
    query = select(ConversationRow).where(ConversationRow.user_id == viewer.user_id)
    if before is not None:
        query = query.where(col(ConversationRow.updated_at) < before)
    with reading(engine) as s:
        rows = s.exec(query.order_by(col(ConversationRow.updated_at).desc()).limit(limit))
        return [Summary(row.id, row.title, row.created_at, row.updated_at) for row in rows]


def get(engine: Engine, viewer: Viewer, conversation_id: str) -> Conversation:
    """With every message, its sources as the viewer may read them now. Raises NotVisible."""
    with reading(engine) as s:
        row = _own(s, viewer, conversation_id)
        messages = [_message(s, viewer, m) for m in _messages(s, row.id)]
    ids = {p.document_id for m in messages for p in m.passages.values()}
    today = datetime.now().astimezone().date()
    outdated = editions.outdated(engine, viewer, ids, today)
    messages = [_versioned(m, outdated) for m in messages]
    return Conversation(row.id, row.title, row.created_at, row.updated_at, tuple(messages))


def turns(engine: Engine, viewer: Viewer, conversation_id: str, limit: int = 6) -> list[Turn]:
    """The last exchanges, oldest first. Raises NotVisible."""
    with reading(engine) as s:
        row = _own(s, viewer, conversation_id)
        rows = s.exec(
            select(MessageRow.question, MessageRow.answer)
            .where(MessageRow.conversation_id == row.id)
            .order_by(col(MessageRow.position).desc())
            .limit(limit)
        ).all()
        return [Turn(question, answer) for question, answer in reversed(rows)]


def rename(engine: Engine, viewer: Viewer, conversation_id: str, title: str) -> None:
    """Raises NotVisible."""
    with writing(engine) as s:
        row = _own(s, viewer, conversation_id, lock=True)
        row.title = _title(title) or row.title
        s.add(row)


def forget(engine: Engine, viewer: Viewer, conversation_id: str) -> None:
    """The conversation and its messages are gone. Raises NotVisible."""
    with writing(engine) as s:
        row = _own(s, viewer, conversation_id, lock=True)
        s.connection().execute(delete(MessageRow).where(col(MessageRow.conversation_id) == row.id))
        s.delete(row)


def rate(
    engine: Engine, viewer: Viewer, message_id: str, value: int, comment: str | None = None
) -> None:
    """1 good, -1 bad, 0 neither. Raises NotVisible if the message is not the viewer's."""
    assert value in (-1, 0, 1)
    with writing(engine) as s:
        row = s.get(MessageRow, message_id)
        if row is None:
            raise NotVisible("回答が見つかりません。")
        _own(s, viewer, row.conversation_id, lock=True)
        row.rating, row.comment = value, clean(comment) if comment else None
        s.add(row)


# --- below: helpers within one transaction ----------------------------------------


def _own(s: Session, viewer: Viewer, conversation_id: str, lock: bool = False) -> ConversationRow:
    query = select(ConversationRow).where(
        ConversationRow.id == conversation_id, ConversationRow.user_id == viewer.user_id
    )
    row = s.exec(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotVisible("会話が見つかりません。")
    return row


def _add(
    s: Session,
    row: ConversationRow,
    question: str,
    answer: Answer,
    message_id: str | None,
    audit_id: int | None,
    alive_s: float,
) -> str:
    last = s.exec(
        select(func.max(MessageRow.position)).where(MessageRow.conversation_id == row.id)
    ).one()
    message = MessageRow(
        id=message_id or uuid.uuid4().hex,
        conversation_id=row.id,
        position=(last or 0) + 1,
        question=clean(question),
        **_columns(answer, question),
        audit_id=audit_id,
        alive_until=now() + timedelta(seconds=alive_s) if alive_s else None,
    )
    s.add(message)
    return message.id


def _columns(answer: Answer, question: str) -> dict[str, Any]:
    numbers = {passage: n for n, passage in reversed(list(enumerate(answer.passages, 1)))}
    return {
        "searched": clean(answer.question or question),
        "answer": clean(answer.text),
        "ended": answer.ended,
        "dangling": answer.dangling,
        "passages": [_reference(p) for p in answer.passages],
        "citations": [
            {
                "marker": c.marker,
                "n": numbers.get(c.passage),
                "span": [c.span.start, c.span.end] if c.span else None,
                "supported": c.supported,
            }
            for c in answer.citations
        ],
        "statements": [
            [t.start, t.end, t.supported, [[d.start, d.end] for d in t.doubts]]
            for t in answer.statements
        ],
        "near": [_pointed(p) for p in answer.near],
        "conflicts": [_pointed(p) for p in answer.conflicts],
    }


def _messages(s: Session, conversation_id: str) -> list[MessageRow]:
    query = select(MessageRow).where(MessageRow.conversation_id == conversation_id)
    return list(s.exec(query.order_by(col(MessageRow.position))))


def _message(s: Session, viewer: Viewer, row: MessageRow) -> Message:
    recalled = access.recalled(s, viewer, [Reference(*value) for value in row.passages])
    passages = {n: passage for n, passage in enumerate(recalled, 1) if passage is not None}
    citations, lost = [], set()
    for value in row.citations:
        if (passage := passages.get(value["n"])) is None:
            lost.add(value["marker"])
            continue
        span = Span(*value["span"]) if value["span"] else None
        quote = passage.text[span.start - passage.start : span.end - passage.start] if span else ""
        citations.append(Citation(value["marker"], passage, span, quote, value["supported"]))
    starts = [
        (c.passage.document_id, c.span.start if c.span else c.passage.start) for c in citations
    ]
    citations = [
        replace(c, label=label if c.span else c.passage.label)
        for c, label in zip(citations, access.labelled(s, starts), strict=True)
    ]
    near, conflicts = (_pointers(s, passages, kept) for kept in (row.near, row.conflicts))
    return Message(
        id=row.id,
        question=row.question,
        searched=row.searched,
        answer=row.answer,
        ended=row.ended,  # type: ignore[arg-type]
        citations=tuple(citations),
        passages=passages,
        lost=frozenset(lost),
        dangling=row.dangling,
        statements=tuple(
            Statement(start, end, supported, tuple(Span(*d) for d in doubts))
            for start, end, supported, doubts in row.statements
        ),
        near=near,
        conflicts=conflicts if len(conflicts) > 1 else (),
        audit_id=row.audit_id,
        rating=row.rating,
        comment=row.comment,
        created_at=row.created_at,
        answering=row.alive_until is not None and row.alive_until > now(),
    )


def _versioned(m: Message, outdated: Mapping[str, Version]) -> Message:
    """Its sources, with those marked that are not in force today."""

    def marked(p: Passage) -> Passage:
        return replace(p, version=outdated.get(p.document_id))

    return replace(
        m,
        passages={n: marked(p) for n, p in m.passages.items()},
        citations=tuple(replace(c, passage=marked(c.passage)) for c in m.citations),
        near=tuple(replace(p, passage=marked(p.passage)) for p in m.near),
        conflicts=tuple(replace(p, passage=marked(p.passage)) for p in m.conflicts),
    )


def _reference(passage: Passage) -> list[Any]:
    return [passage.chunk_id, passage.start, passage.end, passage.score]


def _pointed(p: Pointer) -> list[int]:
    return [p.number, p.span.start, p.span.end, p.words.start, p.words.end]


def _pointers(
    s: Session, passages: Mapping[int, Passage], kept: list[list[int]]
) -> tuple[Pointer, ...]:
    """Those whose passage may still be read."""
    found = [
        Pointer(n, passages[n], Span(a, b), Span(c, d)) for n, a, b, c, d in kept if n in passages
    ]
    where = access.labelled(s, [(p.passage.document_id, p.span.start) for p in found])
    return tuple(replace(p, label=label) for p, label in zip(found, where, strict=True))


def _title(text: str) -> str:
    line = " ".join(clean(text).split())
    return line if len(line) <= TITLE_CHARS else line[:TITLE_CHARS] + "…"
