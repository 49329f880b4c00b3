"""All that is known of one document beside its text: for its page. Who may see it, the API decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Engine, case, func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from appliance.errors import NotVisible
from appliance.store import access, history
from appliance.store.catalog import Listed, listing_of
from appliance.store.database import reading
from appliance.store.tables import (
    AccessRow,
    BodyRow,
    ChunkRow,
    DocumentRow,
    EditionRow,
    PersonalRow,
    SourceRow,
    WordingRow,
)
from appliance.text import personal, places
from appliance.types import Access, Page


@dataclass(frozen=True, slots=True)
class Dossier:
    listed: Listed
    given_title: str | None  # what its source calls it, where a person has corrected that
    in_force: date | None  # as a person said
    said_in_force: date | None  # since when it is in force, whoever said so
    again: str | None  # "file" while it waits to be read again
    digest: str | None  # of the bytes the text came from
    length: int  # characters
    chunks: int
    pages: tuple[Page, ...]
    page_count: int  # pages, or slides
    access: Access
    history: tuple[history.Event, ...]
    problem: str | None  # as a reader is told
    masked: bool  # its original may show what its source does not let be shown
    alone: bool  # its own bytes can be had: it is a file, or one inside another


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document's file is, and what is known of it: of a file inside another, that one's."""

    source_id: int
    uri: str
    digest: str | None
    access_digest: str
    holder: str | None  # what the file is called that the document is inside of
    at: tuple[int, ...] | None  # and which of the files inside it is, where it is one


def of(engine: Engine, document_id: str) -> Dossier:
    """Raises NotVisible."""
    with reading(engine) as s:
        listed = listing_of(s, document_id)
        row = s.get(DocumentRow, document_id)
        if listed is None or row is None:
            raise NotVisible("資料が見つかりません。")
        holder = s.get(DocumentRow, row.parent_id) if row.parent_id else None
        columns = (func.length(WordingRow.text), WordingRow.pages, WordingRow.marks)
        body = s.exec(access.said_of(*columns, ids=[document_id])).first()
        length, pages, marks = body or (0, [], [])
        leaves = places.leaves(map(access.mark_from_json, marks))
        chunks = select(func.count()).where(col(ChunkRow.document_id) == document_id)
        edition = s.get(EditionRow, document_id)
        on = edition.said.get("on") if edition else None
        reads = s.get(AccessRow, row.access_id)
        assert reads is not None
        return Dossier(
            listed,
            row.given_title,
            row.in_force,
            date.fromisoformat(on) if on else None,
            "file" if (holder or row).again == "file" else None,
            row.digest,
            length,
            s.exec(chunks).one(),
            tuple(Page(*page) for page in pages),
            max(len(pages), leaves[-1].page or 0 if leaves else 0),
            access.parse(reads.digest, reads.layers),
            history.of(s, document_id),
            access.problem_of(row),
            _masked(s, row, listed, pages),
            row.parent_id is None or row.at is not None,
        )


def _masked(s: Session, row: DocumentRow, listed: Listed, pages: Sequence[Sequence[Any]]) -> bool:
    """Also while it waits to be read, as a whole or a page of it: nobody knows what it holds.

    And as soon as anything inside it is: they come with it.
    """
    source = s.get(SourceRow, row.source_id)
    if source is None or source.personal_data == "show":
        return False
    kinds = personal.SERIOUS if source.personal_data == "quarantine" else frozenset(personal.KINDS)
    if _hides(row.personal_data, source.personal_data, pages) or kinds & listed.personal.keys():
        return True
    inside = col(DocumentRow.parent_id) == row.id
    held = select(PersonalRow.kind).join(
        DocumentRow, col(DocumentRow.id) == col(PersonalRow.document_id)
    )
    if s.exec(held.where(inside, col(PersonalRow.kind).in_(kinds)).limit(1)).first():
        return True
    read = (
        select(DocumentRow.personal_data, WordingRow.pages)
        .outerjoin(BodyRow, col(BodyRow.document_id) == col(DocumentRow.id))
        .outerjoin(WordingRow, col(WordingRow.id) == col(BodyRow.wording_id))
        .where(inside)
    )
    return any(_hides(handled, source.personal_data, of or []) for handled, of in s.exec(read))


def _hides(handled: str | None, wanted: str, pages: Sequence[Sequence[Any]]) -> bool:
    """True if nobody knows what it holds."""
    unread = any(state in ("scanned", "garbled") and read != "ocr" for _, state, _, read in pages)
    return handled != wanted or unread


def place(engine: Engine, document_id: str) -> Place:
    """Raises NotVisible."""
    file: Any = aliased(DocumentRow)
    with reading(engine) as s:
        found = s.exec(
            select(  # type: ignore[call-overload]
                DocumentRow.source_id,
                func.coalesce(file.uri, DocumentRow.uri),
                case((file.id.is_not(None), file.digest), else_=col(DocumentRow.digest)),
                AccessRow.digest,
                DocumentRow.holder,
                DocumentRow.at,
            )
            .join(AccessRow, col(AccessRow.id) == col(DocumentRow.access_id))
            .outerjoin(file, file.id == DocumentRow.parent_id)
            .where(DocumentRow.id == document_id)
        ).first()
        if found is None:
            raise NotVisible("資料が見つかりません。")
        source_id, uri, digest, access_digest, holder, at = found
        return Place(source_id, uri, digest, access_digest, holder, tuple(at) if at else None)
