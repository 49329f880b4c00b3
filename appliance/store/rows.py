"""What a change of a document does to its rows, within a transaction that somebody else began."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import delete, insert
from sqlmodel import Session, col, select

from appliance.store import about, alike, editions
from appliance.store import access as accesses
from appliance.store.access import blocks
from appliance.store.database import CHANGE_LOCK, lock
from appliance.store.tables import (
    BodyRow,
    ChangeRow,
    ChunkRow,
    DocumentRow,
    EditionRow,
    HistoryRow,
    MetadataRow,
    PersonalRow,
    PointRow,
    ScanPageRow,
    ScanRow,
    WordingRow,
    now,
)
from appliance.text import places, where
from appliance.types import Chunk, Document, Mark, Vectors

_OF_TEXT = (BodyRow, EditionRow, MetadataRow)  # what a text brings with it
_OF_PAGES = (ScanPageRow, ScanRow)  # and the pictures it is read from
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # no database keeps these


def clean(text: str) -> str:
    """Text a database can keep, of the same length, so that offsets hold."""
    return _UNSTORABLE.sub("\ufffd", text)


class Text(NamedTuple):
    """What is kept of a document beside its chunks."""

    title: str
    document: Document
    personal: Mapping[str, int]  # kind -> how many were found in it
    in_force: date | None  # since when, as a person said


def set_texts(s: Session, wanted: Mapping[str, Text]) -> None:
    """Document id → what takes the place of what there was."""
    _drop_texts(s, wanted)
    texts, said, known = [], [], []
    for i, (title, document, _, in_force) in wanted.items():
        text = clean(document.text)
        marks = [accesses.mark_to_json(mark) for mark in document.marks]
        pages = [[p.number, p.state, p.sure, p.read] for p in document.pages]
        own = [[n, clean(words)] for n, words in document.own] or None
        rest = {"runs": where.pack(document.runs), "own": own}
        texts.append({"text": text, "marks": marks, "pages": pages} | rest)
        said.append(editions.of(i, title, text, in_force))
        known.append(about.of(i, title, document))
    if wanted:
        kept = zip(wanted, alike.wordings(s, texts), strict=True)
        bodies = [{"document_id": i, "wording_id": wording} for i, wording in kept]
        s.connection().execute(insert(BodyRow), bodies)
        s.connection().execute(insert(EditionRow), said)
        s.connection().execute(insert(MetadataRow), known)
    about.count(s, {i: one.personal for i, one in wanted.items()})


def empty(s: Session, ids: Sequence[str]) -> dict[str, bytes]:
    """None of the texts of these documents is left. Returns, of each that had chunks, which."""
    removed = drop_chunks(s, ids)
    _drop_texts(s, ids)
    _delete(s, ids, *_OF_PAGES)
    return removed


def _drop_texts(s: Session, ids: Iterable[str]) -> None:
    for block in blocks(ids):
        mine = col(BodyRow.document_id).in_(block)
        alike.let_go(s, WordingRow, s.exec(select(col(BodyRow.wording_id)).where(mine)))
    _delete(s, ids, *_OF_TEXT)


def _delete(s: Session, ids: Iterable[str], *tables: Any) -> None:
    for block in blocks(ids):
        for table in tables:
            s.connection().execute(delete(table).where(col(table.document_id).in_(block)))


def check_vectors(chunks: Sequence[Chunk], vectors: Vectors) -> None:
    if len(vectors) != len(chunks):
        raise ValueError(f"{len(chunks)} chunks and {len(vectors)} vectors")
    if len(vectors):
        lengths = np.linalg.norm(vectors, axis=1)
        if not np.allclose(lengths, 1.0, atol=1e-2):  # NaN is not close to anything either
            raise ValueError("a vector is not of length 1")


def add_chunks(
    s: Session,
    document_id: str,
    marks: Sequence[Mark],
    chunks: Sequence[Chunk],
    vectors: Vectors,
    said: Sequence[bytes] = (),
) -> None:
    """`said`: the digest of what was embedded of each (`alike.of_entry`), where that is known."""
    if not chunks:
        return
    labels = places.of_chunks(marks, chunks)
    points = keep_vectors(s, vectors, said)
    rows = [
        {
            "document_id": document_id,
            "start": c.start,
            "end": c.end,
            "parent_start": c.parent_start,
            "parent_end": c.parent_end,
            "heading": clean(c.heading),
            "label": clean(place),
            "point_id": point,
        }
        for c, point, place in zip(chunks, points, labels, strict=True)
    ]
    s.connection().execute(insert(ChunkRow), rows)


def keep_vectors(s: Session, vectors: Iterable[Vectors], said: Sequence[bytes] = ()) -> list[int]:
    """The points of these vectors."""
    stored = [vector.astype("<f4").tobytes() for vector in vectors]
    names = said or [alike.of_vector(vector) for vector in stored]
    return alike.points(s, [*zip(names, stored, strict=True)])


def change_vectors(s: Session, wanted: Sequence[tuple[ChunkRow, Vectors]]) -> None:
    """Each of these chunks has this vector from now on."""
    alike.let_go(s, PointRow, (chunk.point_id for chunk, _ in wanted))
    points = keep_vectors(s, [vector for _, vector in wanted])
    for (chunk, _), point in zip(wanted, points, strict=True):
        chunk.point_id = point
        s.add(chunk)
    s.flush()


def drop_chunks(s: Session, ids: Iterable[str]) -> dict[str, bytes]:
    """The chunks of these documents go. Returns, of each that had any, which."""
    removed: dict[str, list[int]] = {}
    for block in blocks(ids):
        mine = col(ChunkRow.document_id).in_(block)
        columns = (col(ChunkRow.document_id), col(ChunkRow.id), col(ChunkRow.point_id))
        found = s.exec(select(*columns).where(mine)).all()
        for document_id, chunk_id, _ in found:
            removed.setdefault(document_id, []).append(chunk_id or 0)
        alike.let_go(s, PointRow, (point for *_, point in found))
        s.connection().execute(delete(ChunkRow).where(mine))
    return {i: np.array(sorted(gone), "<i8").tobytes() for i, gone in removed.items()}


def forget(s: Session, ids: Sequence[str]) -> None:
    """These documents are gone. A file inside another comes before that one."""
    removed = empty(s, ids)
    _delete(s, ids, PersonalRow, HistoryRow)
    for block in blocks(ids):
        s.connection().execute(delete(DocumentRow).where(col(DocumentRow.id).in_(block)))
    log(s, removed)


def log(s: Session, removed: Mapping[str, bytes]) -> None:
    """Documents that changed, with the chunks they lost. Comes last: numbers of the log become
    visible in their order, gaps and all; and what nobody has any more goes.
    """
    if not removed and not alike.loose(s):
        return
    lock(s, CHANGE_LOCK)
    alike.sweep(s)
    if not removed:
        return
    at = now()
    rows = [{"document_id": i, "removed": gone, "at": at} for i, gone in removed.items()]
    s.connection().execute(insert(ChangeRow), rows)
