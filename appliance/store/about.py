"""What is known about documents beside their text: what they say of themselves, and how much
personal data they hold. Counts are for administrators; what a document says is text, and reaches
a person through `access` alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date
from typing import Any

from sqlalchemy import Engine, delete, func, insert
from sqlmodel import Session, col, select

from appliance.store.access import blocks, mark_from_json
from appliance.store.database import reading, writing
from appliance.store.tables import BodyRow, DocumentRow, MetadataRow, PersonalRow, WordingRow
from appliance.text import metadata, personal
from appliance.types import UNSAID, Document, Metadata, Properties


def of(document_id: str, name: str, document: Document) -> dict[str, Any]:
    """The columns of its row."""
    return _row(document_id, metadata.read(name, document), document.properties)


def rename(s: Session, document_id: str, name: str, body: WordingRow) -> None:
    """A name may say something too."""
    mine = col(MetadataRow.document_id) == document_id
    own = s.exec(select(MetadataRow.own).where(mine)).first()
    document = _document(body, properties(own) if own else UNSAID)
    s.connection().execute(delete(MetadataRow).where(mine))
    s.connection().execute(insert(MetadataRow), [of(document_id, name, document)])


def count(s: Session, wanted: Mapping[str, Mapping[str, int]]) -> None:
    """Document id → how much personal data of each kind it holds, within a transaction."""
    for block in blocks(wanted):
        s.connection().execute(delete(PersonalRow).where(col(PersonalRow.document_id).in_(block)))
    found = [
        {"document_id": i, "kind": kind, "count": n}
        for i, counts in wanted.items()
        for kind, n in counts.items()
    ]
    if found:
        s.connection().execute(insert(PersonalRow), found)


def fill(engine: Engine, block: int = 50) -> Iterator[int]:
    """Look at the documents that an older release took in. Yields how many, block by block."""
    while True:
        with reading(engine) as s:
            rows = s.exec(
                select(DocumentRow.id, DocumentRow.title, WordingRow)
                .join(BodyRow, col(BodyRow.document_id) == col(DocumentRow.id))
                .join(WordingRow, col(WordingRow.id) == col(BodyRow.wording_id))
                .outerjoin(MetadataRow, col(MetadataRow.document_id) == col(DocumentRow.id))
                .where(col(MetadataRow.document_id).is_(None))
                .limit(block)
            ).all()
        if not rows:
            return
        # looked at outside of a transaction: a writer would have to wait
        looked = [
            (i, metadata.read(title, _document(body, UNSAID)), personal.counted(body.text, title))
            for i, title, body in rows
        ]
        with writing(engine) as s:
            for document_id, said, counts in looked:
                if s.get(MetadataRow, document_id) or not s.get(DocumentRow, document_id):
                    continue  # taken in again, or gone meanwhile
                s.add(MetadataRow(**_row(document_id, said, UNSAID)))
                count(s, {document_id: counts})
        yield len(rows)


def personal_in(s: Session, ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Document id → kind → how many, of those that hold any."""
    found: dict[str, dict[str, int]] = {}
    for some in blocks(ids):
        for row in s.exec(select(PersonalRow).where(col(PersonalRow.document_id).in_(some))):
            found.setdefault(row.document_id, {})[row.kind] = row.count
    return {i: _ordered(counts) for i, counts in found.items()}


def personal_by_source(engine: Engine) -> dict[int, dict[str, int]]:
    """Source → kind → how many of its documents hold any."""
    found: dict[int, dict[str, int]] = {}
    with reading(engine) as s:
        for source_id, kind, n in s.exec(
            select(DocumentRow.source_id, PersonalRow.kind, func.count())
            .join(DocumentRow, col(DocumentRow.id) == col(PersonalRow.document_id))
            .group_by(col(DocumentRow.source_id), col(PersonalRow.kind))
        ):
            found.setdefault(source_id, {})[kind] = n
    return {i: _ordered(counts) for i, counts in found.items()}


def _row(document_id: str, said: Metadata, own: Properties) -> dict[str, Any]:
    return {
        "document_id": document_id,
        "said": {
            field.name: [
                one.text[:300],
                *((one.span.start, one.span.end) if one.span else (None, None)),
            ]
            for field in fields(said)
            if (one := getattr(said, field.name)) is not None
        },
        "own": [own.author, own.created and own.created.isoformat(), list(own.edges)],
        "confidentiality": said.confidentiality.text if said.confidentiality else None,
    }


def _document(body: WordingRow, own: Properties) -> Document:
    return Document(body.text, tuple(map(mark_from_json, body.marks)), properties=own)


def properties(own: Sequence[Any]) -> Properties:
    author, created, edges = own
    return Properties(author, created and date.fromisoformat(created), tuple(edges))


def _ordered(counts: dict[str, int]) -> dict[str, int]:
    return {kind: counts[kind] for kind in personal.KINDS if kind in counts}
