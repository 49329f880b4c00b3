"""What was made of the same bytes before: a parser would say the same again.

It is said of bytes, not of documents: who may read the one says nothing of the other, whose own
name, access and handling of personal data are applied to it as if a parser had just said it.
"""

from __future__ import annotations

from sqlalchemy import Engine
from sqlmodel import col, select

from appliance.store import about
from appliance.store.access import mark_from_json
from appliance.store.database import reading
from appliance.store.tables import BodyRow, DocumentRow, MetadataRow, WordingRow
from appliance.text import suspicious, where
from appliance.types import UNSAID, Document, Page


def read(engine: Engine, digest: str, read_as: str) -> tuple[Document, str] | None:
    """What a parser said of bytes with this digest, read like this, and their media type."""
    with reading(engine) as s:
        found = s.exec(
            select(DocumentRow, WordingRow, MetadataRow)
            .join(BodyRow, col(BodyRow.document_id) == col(DocumentRow.id))
            .join(WordingRow, col(WordingRow.id) == col(BodyRow.wording_id))
            .outerjoin(MetadataRow, col(MetadataRow.document_id) == col(DocumentRow.id))
            .where(
                DocumentRow.digest == digest,
                DocumentRow.read_as == read_as,
                DocumentRow.status == "ready",
                col(DocumentRow.media_type).is_not(None),
            )
            .limit(1)
        ).first()
    if found is None:
        return None
    row, body, said = found
    noted = {*suspicious.notes(body.text)}  # by whoever stores a text
    document = Document(
        body.text,
        tuple(map(mark_from_json, body.marks)),
        row.own_title,
        tuple(note for note in row.notes if note not in noted),
        tuple(Page(*page) for page in body.pages),
        about.properties(said.own) if said else UNSAID,
        runs=tuple(where.unpack(body.runs)),
        own=tuple((number, text) for number, text in body.own or ()),
    )
    return document, row.media_type or ""
