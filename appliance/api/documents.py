"""A document's text, for whoever may read it now."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from appliance.api.deps import ApplianceDep, DocumentsCaller
from appliance.api.shapes import WITHIN, Id, Shape, Span
from appliance.store import access

router = APIRouter(tags=["documents"], prefix="/documents")

WINDOW = 200_000  # characters given at once


class Mark(Shape):
    start: int
    label: str
    kind: Literal["page", "cell", "section", "slide", "part"]
    page: int | None
    level: int


class Said(Shape):
    """What the document says, and where; without a span in its name or beside its text."""

    text: str = Field(description="A day as 2024-04-01.", examples=["第3版"])
    span: Span | None


class Metadata(Shape):
    """What the document says of itself; null where it does not."""

    title: Said | None
    author: Said | None
    department: Said | None
    number: Said | None = Field(description="文書番号")
    version: Said | None
    confidentiality: Said | None = Field(description="秘密区分")
    created: Said | None
    revised: Said | None
    in_force: Said | None


class Document(Shape):
    id: str
    title: str
    source: str
    uri: str
    media_type: str | None
    modified_at: datetime | None
    text: str
    offset: int
    length: int
    marks: list[Mark]
    metadata: Metadata
    parent_id: str | None = Field(description="Of a file inside another: that document.")
    within: str | None = WITHIN
    children: int = Field(description="How many files are inside it.")


class DocumentSummary(Shape):
    id: str
    title: str
    source: str
    uri: str
    media_type: str | None
    modified_at: datetime
    metadata: Metadata
    within: str | None = WITHIN


class DocumentSummaries(Shape):
    documents: list[DocumentSummary]
    total: int
    page: int
    page_size: int


@router.get("")
def listing(
    machine: ApplianceDep,
    caller: DocumentsCaller,
    q: Annotated[str, Query(max_length=200, description="Part of a title or place.")] = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DocumentSummaries:
    """What the caller may read now and find, by title, with what each says of itself."""
    found, total = access.documents(
        machine.engine, caller.viewer, text=q, page=page, size=page_size
    )
    return DocumentSummaries(
        documents=[DocumentSummary.model_validate(one) for one in found],
        total=total,
        page=page,
        page_size=page_size,
    )


class Inside(Shape):
    id: str
    title: str
    within: str
    status: Literal["ready", "problem"]
    problem: str | None
    media_type: str | None
    size_bytes: int | None
    modified_at: datetime


class Children(Shape):
    children: list[Inside]
    total: int
    page: int
    page_size: int


@router.get("/{document_id}")
def document(
    document_id: Id,
    machine: ApplianceDep,
    caller: DocumentsCaller,
    start: Annotated[int, Query(ge=0, le=2**31)] = 0,
    end: Annotated[int | None, Query(ge=0, le=2**31)] = None,
) -> Document:
    """A window of the text: `text` is the document's [offset, offset + its length)."""
    view = access.document(machine.engine, caller.viewer, document_id)
    length = len(view.text)
    start = min(start, length)
    stop = min(length if end is None else max(end, start), start + WINDOW)
    return Document(
        id=view.id,
        title=view.title,
        source=view.source,
        uri=view.uri,
        media_type=view.media_type,
        modified_at=view.modified_at,
        text=view.text[start:stop],
        offset=start,
        length=length,
        marks=[Mark.model_validate(mark) for mark in view.marks],
        metadata=Metadata.model_validate(view.metadata),
        parent_id=view.parent_id,
        within=view.within,
        children=view.children,
    )


@router.get("/{document_id}/children")
def children(
    document_id: Id,
    machine: ApplianceDep,
    caller: DocumentsCaller,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Children:
    """The files inside: members of an archive, what is attached to a mail; by their paths."""
    found, total = access.inside(machine.engine, caller.viewer, document_id, page, page_size)
    return Children(
        children=[Inside.model_validate(one) for one in found],
        total=total,
        page=page,
        page_size=page_size,
    )
