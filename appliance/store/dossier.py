"""All that is known of one document beside its text: for its page. Who may see it, the API decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Engine, func
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
    SourceRow,
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
    masked: bool  # its original may show what its source does not let be shown


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document's file is, and what is known of it."""

    source_id: int
    uri: str
    digest: str | None
    access_digest: str


def of(engine: Engine, document_id: str) -> Dossier:
    """Raises NotVisible."""
    with reading(engine) as s:
        listed = listing_of(s, document_id)
        row = s.get(DocumentRow, document_id)
        if listed is None or row is None:
            raise NotVisible("資料が見つかりません。")
        mine = BodyRow.document_id == document_id
        columns = (func.length(BodyRow.text), BodyRow.pages, BodyRow.marks)
        length, pages, marks = s.exec(select(*columns).where(mine)).first() or (0, [], [])
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
            row.again if row.again == "file" else None,
            row.digest,
            length,
            s.exec(chunks).one(),
            tuple(Page(*page) for page in pages),
            max(len(pages), leaves[-1].page or 0 if leaves else 0),
            access.parse(reads.digest, reads.layers),
            history.of(s, document_id),
            _masked(s, row, listed, pages),
        )


def _masked(s: Session, row: DocumentRow, listed: Listed, pages: Sequence[Sequence[Any]]) -> bool:
    """Also while it waits to be read, as a whole or a page of it: nobody knows what it holds."""
    source = s.get(SourceRow, row.source_id)
    if source is None or source.personal_data == "show":
        return False
    unread = any(state in ("scanned", "garbled") and read != "ocr" for _, state, _, read in pages)
    hidden = personal.SERIOUS if source.personal_data == "quarantine" else listed.personal.keys()
    return (
        row.personal_data != source.personal_data or unread or bool(hidden & listed.personal.keys())
    )


def place(engine: Engine, document_id: str) -> Place:
    """Raises NotVisible."""
    with reading(engine) as s:
        found = s.exec(
            select(DocumentRow.source_id, DocumentRow.uri, DocumentRow.digest, AccessRow.digest)
            .join(AccessRow, col(AccessRow.id) == col(DocumentRow.access_id))
            .where(DocumentRow.id == document_id)
        ).first()
        if found is None:
            raise NotVisible("資料が見つかりません。")
        return Place(*found)
