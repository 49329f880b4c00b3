"""Which chunks belong to documents that somebody means. Says nothing of who may read them."""

from __future__ import annotations

from typing import Any

from pyroaring import BitMap64
from sqlalchemy import Engine, or_
from sqlmodel import col, select

from appliance.store.database import reading
from appliance.store.tables import ChunkRow, DocumentRow, SourceRow
from appliance.types import Filter

_OFFICE = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."
# What people call them, and their media types.
FAMILIES = {
    "pdf": ("application/pdf",),
    "word": (
        f"{_OFFICE}wordprocessingml.document",
        "application/msword",
        f"{_ODF}text",
        "application/x-js-taro",
        "application/rtf",
    ),
    "excel": (
        f"{_OFFICE}spreadsheetml.sheet",
        "application/vnd.ms-excel",
        f"{_ODF}spreadsheet",
    ),
    "powerpoint": (
        f"{_OFFICE}presentationml.presentation",
        "application/vnd.ms-powerpoint",
        f"{_ODF}presentation",
    ),
    "web": ("text/html",),
    "book": ("application/epub+zip",),
    "markdown": ("text/markdown",),
    "csv": ("text/csv",),
    "data": ("application/json", "application/xml", "application/x-ipynb+json"),
    "archive": (
        "application/zip",
        "application/x-tar",
        "application/gzip",
        "application/x-7z-compressed",
        "application/x-lzh",
    ),
    "image": ("image/png", "image/jpeg", "image/tiff"),
    "text": ("text/plain",),
    "mail": ("message/rfc822", "application/mbox", "application/vnd.ms-outlook"),
}


def family(media_type: str | None) -> str | None:
    return next((name for name, held in FAMILIES.items() if media_type in held), None)


def chunks(engine: Engine, wanted: Filter) -> BitMap64:
    found: Any = select(ChunkRow.id).join(
        DocumentRow, col(DocumentRow.id) == col(ChunkRow.document_id)
    )
    if wanted.sources:
        found = found.join(SourceRow, col(SourceRow.id) == col(DocumentRow.source_id)).where(
            col(SourceRow.name).in_(wanted.sources)
        )
    if wanted.media_types:
        found = found.where(_of_type(wanted.media_types))
    if wanted.since:
        found = found.where(col(DocumentRow.modified_at) >= wanted.since)
    if wanted.before:
        found = found.where(col(DocumentRow.modified_at) < wanted.before)
    with reading(engine) as s:
        return BitMap64(s.exec(found))


def _of_type(media_types: frozenset[str]) -> Any:
    """A file of that type; and whatever lies in an archive, which has no text of its own."""
    own = col(DocumentRow.media_type).in_(media_types)
    archives = media_types.intersection(FAMILIES["archive"])
    if not archives:
        return own
    holders = select(DocumentRow.id).where(col(DocumentRow.media_type).in_(archives))
    return or_(own, col(DocumentRow.parent_id).in_(holders))


def chunks_of(engine: Engine, source_ids: frozenset[int]) -> BitMap64:
    """Of all documents of these sources."""
    query: Any = select(ChunkRow.id)
    query = query.join(DocumentRow, col(DocumentRow.id) == col(ChunkRow.document_id))
    with reading(engine) as s:
        return BitMap64(s.exec(query.where(col(DocumentRow.source_id).in_(source_ids))))


def offered(
    engine: Engine, admitted: frozenset[int], withheld: frozenset[int] = frozenset()
) -> tuple[list[str], list[str]]:
    """Names of the sources, and families, of the documents that these accesses belong to, sorted.

    Sources that are withheld have none.
    """
    query = (
        select(DocumentRow.access_id, SourceRow.name, DocumentRow.media_type)
        .join(SourceRow, col(SourceRow.id) == col(DocumentRow.source_id))
        .where(col(DocumentRow.source_id).not_in(withheld))
        .distinct()
    )
    with reading(engine) as s:
        seen = [(name, kind) for access, name, kind in s.exec(query) if access in admitted]
    kinds = {kind for _, kind in seen}
    families = [name for name, held in FAMILIES.items() if kinds.intersection(held)]
    return sorted({name for name, _ in seen}), families
