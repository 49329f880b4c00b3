"""From the nouns to the wire. History is rendered from what the reader may see now."""

from __future__ import annotations

from appliance import types
from appliance.api import shapes
from appliance.store import conversations


def passage(n: int, p: types.Passage) -> shapes.Passage:
    return shapes.Passage(
        n=n,
        document_id=p.document_id,
        chunk_id=p.chunk_id,
        source=p.source,
        uri=p.uri,
        title=p.title,
        within=p.within,
        label=p.label,
        text=p.text,
        start=p.start,
        end=p.end,
        score=round(p.score, 4),
        relevance=None if p.relevance is None else round(p.relevance, 4),
        modified_at=p.modified_at,
        version=version(p.version),
        confidentiality=p.confidentiality,
    )


def version(v: types.Version | None) -> shapes.Version | None:
    return shapes.Version.model_validate(v) if v else None


def citation(c: types.Citation) -> shapes.Citation:
    return shapes.Citation(
        marker=c.marker,
        document_id=c.passage.document_id,
        source=c.passage.source,
        uri=c.passage.uri,
        title=c.passage.title,
        within=c.passage.within,
        label=c.label or c.passage.label,
        quote=c.quote,
        span=shapes.Span(start=c.span.start, end=c.span.end) if c.span else None,
        version=version(c.passage.version),
        supported=c.supported,
        confidentiality=c.passage.confidentiality,
    )


def pointer(p: types.Pointer) -> shapes.Pointer:
    return shapes.Pointer(
        n=p.number,
        document_id=p.passage.document_id,
        source=p.passage.source,
        uri=p.passage.uri,
        title=p.passage.title,
        within=p.passage.within,
        label=p.label or p.passage.label,
        quote=p.quote,
        span=shapes.Span(start=p.span.start, end=p.span.end),
        words=shapes.Span(start=p.words.start, end=p.words.end),
        modified_at=p.passage.modified_at,
        version=version(p.passage.version),
        confidentiality=p.passage.confidentiality,
    )


def statement(t: types.Statement) -> shapes.Statement:
    return shapes.Statement(
        start=t.start,
        end=t.end,
        supported=t.supported,
        doubts=[shapes.Span(start=d.start, end=d.end) for d in t.doubts],
    )


def answer(
    a: types.Answer, *, id: str, question: str, conversation_id: str | None, audit_id: int
) -> shapes.Answer:
    return shapes.Answer(
        id=id,
        conversation_id=conversation_id,
        audit_id=audit_id,
        question=question,
        searched=a.question or question,
        answer=a.text,
        ended=a.ended,
        citations=[citation(c) for c in a.citations],
        passages=[passage(n, p) for n, p in enumerate(a.passages, 1)],
        dangling=a.dangling,
        statements=[statement(t) for t in a.statements],
        near=[pointer(p) for p in a.near],
        conflicts=[pointer(p) for p in a.conflicts],
    )


def message(conversation_id: str, m: conversations.Message) -> shapes.Message:
    """An old answer: what may no longer be read keeps its number and nothing else."""
    last = max(m.passages, default=0)
    return shapes.Message(
        id=m.id,
        conversation_id=conversation_id,
        audit_id=m.audit_id,
        question=m.question,
        searched=m.searched,
        answer=m.answer,
        ended="answering" if m.answering else m.ended,
        citations=sorted(
            [*map(citation, m.citations)]
            + [shapes.WithdrawnCitation(marker=marker) for marker in m.lost],
            key=lambda c: c.marker,
        ),
        passages=[
            passage(n, m.passages[n]) if n in m.passages else shapes.WithdrawnPassage(n=n)
            for n in range(1, last + 1)
        ],
        dangling=m.dangling,
        statements=[statement(t) for t in m.statements],
        near=[pointer(p) for p in m.near],
        conflicts=[pointer(p) for p in m.conflicts],
        rating=m.rating,
        created_at=m.created_at,
    )
