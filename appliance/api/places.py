"""Where words of a document stand on the picture of its page, and a page's text as it was read twice."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from appliance.api.deps import ApplianceDep, DocumentsCaller
from appliance.api.dossier import PageState
from appliance.api.shapes import Id, Shape
from appliance.errors import BadRequest
from appliance.store import access

router = APIRouter(tags=["documents"], prefix="/documents/{document_id}")

MOST_CHARS = 20_000  # of a span that is drawn


class Box(Shape):
    """In ten-thousandths of the page's width and height, from its top left corner."""

    page: int
    left: int
    top: int
    right: int
    bottom: int


class Boxes(Shape):
    boxes: list[Box] = Field(
        description="One for each line. None where nothing is known of the place: a document"
        " without pages, or one that was read before places were kept."
    )


class Texts(Shape):
    """Both texts of a page that was read from its picture."""

    state: PageState
    own: str = Field(description="What the file itself says there.")
    read: str = Field(description="What was read from the picture (OCR).")


@router.get("/boxes")
def boxes(
    document_id: Id,
    machine: ApplianceDep,
    caller: DocumentsCaller,
    start: Annotated[int, Query(ge=0, le=2**31)] = 0,
    end: Annotated[int | None, Query(ge=0, le=2**31 + MOST_CHARS)] = None,
) -> Boxes:
    """Where the characters [start, end) of its text stand on its pages; without an end, as many as may be."""
    end = start + MOST_CHARS if end is None else end
    if not start < end <= start + MOST_CHARS:
        raise BadRequest(f"範囲は 1 文字から {MOST_CHARS:,} 文字までです。")
    found = access.boxes(machine.engine, caller.viewer, document_id, start, end)
    return Boxes(boxes=[Box.model_validate(run) for run in found])


@router.get("/pages/{number}/texts")
def texts(
    document_id: Id,
    number: Annotated[int, Path(ge=1, le=10_000_000)],
    machine: ApplianceDep,
    caller: DocumentsCaller,
) -> Texts:
    """The file's own text of a page beside what was read from its picture."""
    page = access.page(machine.engine, caller.viewer, document_id, number)
    own = access.own_text(machine.engine, caller.viewer, document_id, number)
    state = page.state or PageState(number=number, state="fine", sure=1.0, read="text")
    was_read = state.read == "ocr"
    return Texts(
        state=PageState.model_validate(state),
        own=own if state.read != "text" else page.text,
        read=page.text if was_read else "",
    )
