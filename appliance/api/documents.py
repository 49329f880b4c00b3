"""A document's text, for whoever may read it now."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from appliance.api.deps import ApplianceDep, DocumentsCaller
from appliance.api.shapes import Id, Shape
from appliance.store import access

router = APIRouter(tags=["documents"], prefix="/documents")

WINDOW = 200_000  # characters given at once


class Mark(Shape):
    start: int
    label: str
    kind: Literal["page", "cell", "section", "slide", "part"]
    page: int | None
    level: int


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
    )
