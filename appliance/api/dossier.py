"""The page of one document: what is known of it, its text page by page, its original.

Whoever may read it sees all but who else may. An administrator who may not read it, like the owner
of an upload, manages it: state, problems, history, access, and never a character of its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import PurePosixPath
from typing import Annotated, Literal, cast
from urllib.parse import quote

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from appliance.api import shelf
from appliance.api.deps import ApplianceDep, DocumentsCaller
from appliance.api.shapes import WITHIN, Done, Family, Id, Shape
from appliance.errors import BadRequest, Conflict, NotAllowed, NotVisible, Unreadable
from appliance.identity.callers import Caller
from appliance.ingest.originals import INSIDE, PICTURED, Original
from appliance.store import access, again, audit, catalog, dossier, editions, narrow, sources
from appliance.store.dossier import Dossier
from appliance.system import Appliance

router = APIRouter(tags=["documents"], prefix="/documents/{document_id}")

STEP = 8_000  # characters of a document without pages given at once
DOUBTFUL = 200  # pages told of
BY_HAND_CHARS = 300
MASKED = (
    "個人情報を伏せる取り込み元の資料のため、原本とページの画像は表示しません。"
    "取り込み元で開いてください。"
)

Number = Annotated[int, Path(ge=1, le=10_000_000)]
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


class PageState(Shape):
    number: int = Field(description="From 1.")
    state: Literal["fine", "rotated", "empty", "scanned", "garbled"]
    sure: float = Field(description="0 to 1, of the state.")
    read: Literal["text", "ocr", "none"] = Field(description="What its text was taken from.")


class Edition(Shape):
    document_id: str
    title: str
    on: date | None = Field(description="Since when it is in force.")
    standing: Literal["in_force", "superseded", "ahead"]


class Layer(Shape):
    allow: list[str] = Field(examples=[["group:総務部"]])
    deny: list[str]


class Event(Shape):
    at: datetime
    kind: Literal[
        "added", "changed", "reread", "moved", "access", "failed", "corrected", "restored"
    ]
    detail: str | None = Field(description="For whoever manages it.")
    actor: str | None = Field(description="For whoever manages it.", examples=["user:ito"])


class About(Shape):
    id: str
    title: str
    given_title: str | None = Field(
        description="What its source calls it, where a person corrected the title."
    )
    source: str
    uri: str
    parent_id: str | None = Field(description="Of a file inside another: that document.")
    within: str | None = WITHIN
    children: int = Field(description="How many files are inside it.")
    children_problems: int = Field(description="Those of them that could not be read.")
    media_type: str | None
    family: Family | None = Field(description="What people call that, as in a filter.")
    size_bytes: int | None
    modified_at: datetime
    added_at: datetime
    updated_at: datetime
    status: Literal["ready", "problem"]
    problem: str | None
    notes: list[str] = Field(description="What was lost or doubtful; for whoever manages it.")
    searchable: bool
    readable: bool = Field(description="Whether you may read its text.")
    manageable: bool = Field(description="Whether you may correct it and have it read again.")
    pictured: bool = Field(description="Whether its pages can be shown as pictures.")
    downloadable: bool = Field(
        description="Whether its original is given out: not where its source masks what it holds,"
        " nor of what is inside another file and no file there."
    )
    waiting: bool = Field(description="It is going to be read again.")
    length: int = Field(description="Of its text, in characters.")
    chunks: int
    page_count: int
    doubtful: list[PageState] = Field(description="Pages that are not fine, the first 200.")
    in_force: date | None = Field(description="Since when it is in force.")
    in_force_corrected: bool
    versions: list[Edition] = Field(description="Itself and its other versions, newest first.")
    access: list[Layer] | None = Field(
        description="Who may read: every layer must admit. For whoever manages it."
    )
    history: list[Event] = Field(description="Newest first.")


class TextPart(Shape):
    """The document's [start, end): one page, or so much of a document without pages."""

    text: str
    start: int
    end: int
    length: int
    page: int | None
    label: str
    state: PageState | None


class Section(Shape):
    start: int
    label: str = Field(examples=["第12条（宿泊費）"])
    kind: Literal["section", "cell", "part"]
    level: int
    page: int | None


class Sections(Shape):
    sections: list[Section]
    total: int
    page: int
    page_size: int


class Piece(Shape):
    """A chunk: what the index holds, and is found by."""

    id: int
    start: int
    end: int
    heading: str
    label: str
    page: int | None
    text: str


class Pieces(Shape):
    chunks: list[Piece]
    total: int
    page: int
    page_size: int


class Correction(Shape):
    """What a person knows better. null: as its source and its text say."""

    title: str | None = Field(
        default=None, min_length=1, max_length=BY_HAND_CHARS, examples=["出張旅費規程"]
    )
    in_force: date | None = Field(default=None, description="Since when it is in force.")


@router.get("/about")
def about(document_id: Id, machine: ApplianceDep, caller: DocumentsCaller) -> About:
    """All that is known of it beside its text; who manages it sees more than who reads it."""
    rights = _rights(machine, caller, document_id)
    return _about(machine, caller, rights, dossier.of(machine.engine, document_id))


@router.get("/text")
def text(
    document_id: Id,
    machine: ApplianceDep,
    caller: DocumentsCaller,
    page: Annotated[int | None, Query(ge=1, le=10_000_000)] = None,
    at: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    start: Annotated[int, Query(ge=0, le=2**31)] = 0,
    length: Annotated[int, Query(ge=0, le=200_000)] = STEP,
) -> TextPart:
    """One page (or slide), the one that holds a character, or `length` characters from `start` on."""
    if at is not None:
        page = access.page_at(machine.engine, caller.viewer, document_id, at)
        start = max(0, at - length // 2)
    if page is not None:
        found = access.page(machine.engine, caller.viewer, document_id, page)
    else:
        end = start + length
        found = access.part(machine.engine, caller.viewer, document_id, start, end)
    return TextPart.model_validate(found)


@router.get("/sections")
def sections(
    document_id: Id,
    machine: ApplianceDep,
    caller: DocumentsCaller,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Sections:
    """Its headings, and what else a person can open: cells, attachments."""
    found, total = access.sections(
        machine.engine, caller.viewer, document_id, (page - 1) * page_size, page_size
    )
    shown = [Section.model_validate(one) for one in found]
    return Sections(sections=shown, total=total, page=page, page_size=page_size)


@router.get("/chunks")
def chunks(
    document_id: Id,
    machine: ApplianceDep,
    caller: DocumentsCaller,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Pieces:
    """Its chunks, what search finds it by, with their text."""
    found, total = access.pieces(
        machine.engine, caller.viewer, document_id, (page - 1) * page_size, page_size
    )
    shown = [Piece.model_validate(one) for one in found]
    return Pieces(chunks=shown, total=total, page=page, page_size=page_size)


@router.get("/pages/{number}/image", response_class=Response)
def image(
    document_id: Id, number: Number, machine: ApplianceDep, caller: DocumentsCaller
) -> Response:
    """One page as PNG, 1,200 pixels wide. Drawn by `kura work`, from the original as it is now."""
    known = _open(machine, caller, document_id)
    if not _pictured(known):
        raise Unreadable("この形式のページは画像では表示できません。")
    # of a file inside another it names what was made of it, not its bytes
    digest = known.digest if known.listed.parent_id is None else None
    drawn = machine.originals.picture(document_id, digest, number)
    _open(machine, caller, document_id)  # it took a moment
    return Response(drawn, media_type="image/png")


@router.get("/original", response_class=Response)
def original(document_id: Id, machine: ApplianceDep, caller: DocumentsCaller) -> Response:
    """The file as its source has it now, to be saved: never shown by the browser."""
    _open(machine, caller, document_id)
    file = machine.originals.open(document_id)
    try:
        known = _open(machine, caller, document_id)  # it took a moment
        name = _file_name(known)
        audit.record(
            machine.engine,
            caller.actor,
            "document.download",
            {"document": document_id, "name": name},
        )
    except BaseException:
        file.close()
        raise
    ascii_name = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    disposition = f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"
    return StreamingResponse(
        _blocks(file),
        media_type="application/octet-stream",
        headers={"Content-Disposition": disposition, "Content-Length": str(file.size)},
    )


@router.post("/retake", status_code=202)
def retake(document_id: Id, machine: ApplianceDep, caller: DocumentsCaller) -> Done:
    """Read it again now, even if it has not changed. `waiting` says until when."""
    _managed(machine, caller, document_id)
    known = dossier.of(machine.engine, document_id)
    if not sources.get(machine.engine, known.listed.source_id).enabled:
        raise Conflict("取り込み元が停止中です。取り込みを有効にしてから、やり直してください。")
    if not again.ask(machine.engine, document_id):
        raise NotVisible(document_id)
    audit.record(machine.engine, caller.actor, "document.retake", {"document": document_id})
    return Done()


@router.put("/correction")
def correct(
    document_id: Id, body: Correction, machine: ApplianceDep, caller: DocumentsCaller
) -> About:
    """Title and day of coming into force, by hand: they hold until taken back."""
    rights = _managed(machine, caller, document_id)
    title = None if body.title is None else " ".join(_CONTROL.sub(" ", body.title).split())
    if title == "":
        raise BadRequest("題名を入力してください。")
    return _correct(machine, caller, rights, document_id, title, body.in_force)


@router.delete("/correction")
def restore(document_id: Id, machine: ApplianceDep, caller: DocumentsCaller) -> About:
    """Title and day are again what its source and its text say."""
    rights = _managed(machine, caller, document_id)
    return _correct(machine, caller, rights, document_id, None, None)


# --- who may what ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rights:
    reads: bool
    manages: bool
    administers: bool


def _rights(machine: Appliance, caller: Caller, document_id: str) -> _Rights:
    """Raises NotVisible for whom it does not exist."""
    reads = bool(access.visible_documents(machine.engine, caller.viewer, [document_id]))
    administers = caller.user.role == "administrator" and (
        caller.key is None or "admin" in caller.key.scopes
    )
    manages = administers or _owns(machine, caller, document_id)
    if not (reads or manages):
        raise NotVisible(document_id)
    return _Rights(reads, manages, administers)


def _owns(machine: Appliance, caller: Caller, document_id: str) -> bool:
    place = dossier.place(machine.engine, document_id)
    if sources.get(machine.engine, place.source_id).kind != "uploads":
        return False
    return shelf.owner(machine.uploads, place.uri) == caller.user.id


def _managed(machine: Appliance, caller: Caller, document_id: str) -> _Rights:
    rights = _rights(machine, caller, document_id)
    if not rights.manages:
        raise NotAllowed(f"{caller.user.id} does not manage {document_id}")
    return rights


def _open(machine: Appliance, caller: Caller, document_id: str) -> Dossier:
    """A document whose original may be seen. Raises Unreadable where it may not."""
    if not access.visible_documents(machine.engine, caller.viewer, [document_id]):
        raise NotVisible(document_id)
    known = dossier.of(machine.engine, document_id)
    if not known.alone:
        raise Unreadable(INSIDE)
    if known.masked:
        raise Unreadable(MASKED)
    return known


# --- below: shapes -----------------------------------------------------------------


def _about(machine: Appliance, caller: Caller, rights: _Rights, known: Dossier) -> About:
    one = known.listed
    seen_by = None if rights.administers else caller.viewer
    versions = editions.family(machine.engine, seen_by, one.id, datetime.now(UTC).date())
    doubtful = [p for p in known.pages if p.state != "fine" or p.read != "text"]
    manages, opens = rights.manages, known.alone and not known.masked
    return About(
        id=one.id,
        title=one.title,
        given_title=known.given_title if manages else None,
        source=one.source,
        uri=one.uri,
        parent_id=one.parent_id,
        within=one.within,
        children=one.children,
        children_problems=one.children_problems,
        media_type=one.media_type,
        family=cast(Family | None, narrow.family(one.media_type)),
        size_bytes=one.size_bytes,
        modified_at=one.modified_at,
        added_at=one.added_at,
        updated_at=one.updated_at,
        status=one.status,
        problem=one.problem if manages else known.problem,
        notes=list(one.notes) if manages else [],
        searchable=one.searchable,
        readable=rights.reads,
        manageable=manages,
        pictured=_pictured(known) and opens,
        downloadable=opens,
        waiting=known.again == "file",
        length=known.length,
        chunks=known.chunks,
        page_count=known.page_count,
        doubtful=[PageState.model_validate(p) for p in doubtful[:DOUBTFUL]],
        in_force=known.said_in_force,
        in_force_corrected=known.in_force is not None,
        versions=[Edition.model_validate(v) for v in versions],
        access=[Layer(allow=sorted(x.allow), deny=sorted(x.deny)) for x in known.access]
        if manages
        else None,
        history=[
            Event(
                at=event.at,
                kind=event.kind,
                detail=event.detail if manages else None,
                actor=event.actor if manages else None,
            )
            for event in known.history
        ],
    )


def _correct(
    machine: Appliance,
    caller: Caller,
    rights: _Rights,
    document_id: str,
    title: str | None,
    in_force: date | None,
) -> About:
    said = {"title": title, "in_force": in_force.isoformat() if in_force else None}
    if catalog.correct(machine.engine, document_id, title, in_force, caller.actor):
        audit.record(
            machine.engine, caller.actor, "document.correct", {"document": document_id, **said}
        )
    return _about(machine, caller, rights, dossier.of(machine.engine, document_id))


def _pictured(known: Dossier) -> bool:
    """One that could not be read may still be looked at: its name says what it is."""
    one = known.listed
    return one.media_type in PICTURED or (
        one.media_type is None and one.uri.lower().endswith(".pdf")
    )


def _file_name(known: Dossier) -> str:
    """As its source calls it; an upload's uri is no name."""
    own = known.given_title if known.given_title is not None else known.listed.title
    last = PurePosixPath(known.listed.uri).name if known.listed.parent_id is None else ""
    return shelf.clean_name(last if PurePosixPath(last).suffix else own)


def _blocks(file: Original) -> Iterator[bytes]:
    try:
        yield from file.blocks()
    finally:
        file.close()
