"""The only door to text. What a viewer may not see is as if it were not there.

Every function asks the database what holds now. Only what can never change is remembered: the
meaning of an access, and whom it admits.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, bindparam, func, or_
from sqlmodel import Session, col, select

from appliance.errors import NotVisible
from appliance.store.database import reading
from appliance.store.tables import (
    AccessRow,
    BodyRow,
    ChunkRow,
    DocumentRow,
    MetadataRow,
    SourceRow,
    WordingRow,
    now,
)
from appliance.text import places, where
from appliance.text.split import SEPARATOR
from appliance.types import (
    Access,
    Box,
    Layer,
    Mark,
    Metadata,
    Page,
    Passage,
    Principal,
    Run,
    Said,
    Span,
    Viewer,
    admits,
    narrower,
)

T = TypeVar("T")
WITHHELD = "個人情報が見つかったため、検索できないようにしています。"
_IDS_KEPT = 1_000_000  # for all people together, some 64 bytes each
_MOST_PARAMETERS = 1000  # in one statement


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document as a person opens it. Marks are sorted by `start`."""

    id: str
    title: str
    source: str
    uri: str
    media_type: str | None
    modified_at: datetime
    text: str
    marks: tuple[Mark, ...]
    metadata: Metadata
    parent_id: str | None  # of a file inside another
    within: str | None
    children: int  # files inside it


@dataclass(frozen=True, slots=True)
class Summary:
    """A document in a list: what it says of itself, and none of its text."""

    id: str
    title: str
    source: str
    uri: str
    media_type: str | None
    modified_at: datetime
    metadata: Metadata
    within: str | None  # of a file inside another: where it lies


@dataclass(frozen=True, slots=True)
class Inside:
    """A file inside another, as somebody sees it who may read them."""

    id: str
    title: str
    within: str
    status: str
    problem: str | None
    media_type: str | None
    size_bytes: int | None
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a passage was: [start, end) of the document whose chunk this was."""

    chunk_id: int
    start: int
    end: int
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Opening:
    own_title: str  # empty where it has none
    text: str


class _Accesses:
    """Every access of one database, as far as it was read, and whom they admit.

    Rows are never changed, taken away or renumbered, so that only new ones need be read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, Access] = {}  # in the order they were read
        self._admitted: OrderedDict[frozenset[Principal], tuple[int, frozenset[int]]] = (
            OrderedDict()
        )  # of the first so many

    def admitting(self, s: Session, principals: frozenset[Principal]) -> frozenset[int]:
        """The same object as before, unless a new access admits them too."""
        count = s.exec(select(func.count()).select_from(AccessRow)).one()
        with self._lock:
            if count < len(self._known):  # another database stands in its place
                self._known.clear()
                self._admitted.clear()
            if count > len(self._known):
                self._learn(s, max(self._known, default=0))
            if count > len(self._known):  # a lower number came to be seen after a higher one
                self._learn(s, 0)
            seen, ids = self._admitted.pop(principals, (0, frozenset[int]()))
            if seen < len(self._known):
                fresh = islice(self._known.items(), seen, None)
                more = {i for i, access in fresh if admits(access, principals)}
                ids = ids | more if more else ids
            self._admitted[principals] = (len(self._known), ids)
            kept = sum(len(one) for _, one in self._admitted.values())
            while kept > _IDS_KEPT and len(self._admitted) > 1:
                kept -= len(self._admitted.popitem(last=False)[1][1])
            return ids

    def _learn(self, s: Session, after: int) -> None:
        for row in s.exec(select(AccessRow).where(col(AccessRow.id) > after)):
            if row.id not in self._known:
                self._known[row.id or 0] = parse(row.digest, row.layers)


_databases: WeakKeyDictionary[Engine, _Accesses] = WeakKeyDictionary()
_opening = threading.Lock()


def admitted(engine: Engine, viewer: Viewer) -> frozenset[int]:
    """Ids of the accesses that admit the viewer now."""
    with _opening:
        known = _databases.setdefault(engine, _Accesses())
    with reading(engine) as s:
        return known.admitting(s, viewer.principals)


def withheld(engine: Engine) -> frozenset[int]:
    """Sources of which nobody knows who may read them now: what is theirs is as if it were not there."""
    with reading(engine) as s:
        return shut(s)


def passages(engine: Engine, viewer: Viewer, wanted: Sequence[tuple[int, float]]) -> list[Passage]:
    """The parents of the chunks in `wanted` (chunk id, score), in the order asked for."""
    with reading(engine) as s:
        found = _visible_chunks(s, viewer, {chunk_id for chunk_id, _ in wanted})
        texts = _parents(s, found)
        return [
            _passage(found[i], texts[i], score, found[i].parent_start, found[i].parent_end)
            for i, score in wanted
            if i in texts
        ]


def openings(engine: Engine, viewer: Viewer, ids: Collection[str], size: int) -> dict[str, Opening]:
    """Of each of these documents that the viewer may read: what it calls itself, and how it begins."""
    with reading(engine) as s:
        seen = visible(s, viewer, ids)
        rows = s.exec(
            said_of(
                BodyRow.document_id,
                DocumentRow.own_title,
                func.substr(WordingRow.text, 1, size),
                ids=seen,
            ).join(DocumentRow, col(DocumentRow.id) == col(BodyRow.document_id))
        )
        return {i: Opening(own or "", text) for i, own, text in rows}


def recall(engine: Engine, viewer: Viewer, references: Sequence[Reference]) -> list[Passage | None]:
    """Passages of an earlier answer, one for each reference.

    None where the viewer may no longer read, or the text has changed since.
    """
    with reading(engine) as s:
        return recalled(s, viewer, references)


def recalled(s: Session, viewer: Viewer, references: Sequence[Reference]) -> list[Passage | None]:
    """`recall`, within a transaction."""
    found = _visible_chunks(s, viewer, {r.chunk_id for r in references})
    return [
        _passage(row, _text(s, row.document_id, r.start, r.end), r.score, r.start, r.end)
        if (row := found.get(r.chunk_id)) is not None
        else None
        for r in references
    ]


def labels(engine: Engine, viewer: Viewer, wanted: Sequence[tuple[str, int]]) -> list[str]:
    """The place of each (document id, offset); empty where the viewer may not read."""
    with reading(engine) as s:
        seen = visible(s, viewer, {document_id for document_id, _ in wanted})
        return labelled(s, [(i, at) if i in seen else ("", 0) for i, at in wanted])


def labelled(s: Session, wanted: Sequence[tuple[str, int]]) -> list[str]:
    """`labels` of documents that were found visible, within a transaction."""
    marks: dict[str, tuple[Mark, ...]] = {}
    for block in blocks({document_id for document_id, _ in wanted}):
        rows = s.exec(said_of(BodyRow.document_id, WordingRow.marks, ids=block))
        marks |= {i: tuple(map(mark_from_json, stored)) for i, stored in rows}
    return [places.at(marks.get(i, ()), at) for i, at in wanted]


def document(engine: Engine, viewer: Viewer, document_id: str) -> DocumentView:
    """Raises NotVisible, whether it is absent or hidden."""
    with reading(engine) as s:
        if document_id not in visible(s, viewer, [document_id]):
            raise NotVisible("資料が見つかりません。")
        row, source = s.exec(
            select(DocumentRow, SourceRow.name)
            .join(SourceRow, col(SourceRow.id) == col(DocumentRow.source_id))
            .where(DocumentRow.id == document_id)
        ).one()
        body = s.exec(said_of(WordingRow, ids=[document_id])).first()
        said = s.get(MetadataRow, document_id)
        return DocumentView(
            row.id,
            row.title,
            source,
            row.uri,
            row.media_type,
            row.modified_at,
            body.text if body else "",
            tuple(map(mark_from_json, body.marks)) if body else (),
            _metadata(said),
            row.parent_id,
            within(row.holder, row.inside),
            _count_inside(s, document_id),
        )


def documents(
    engine: Engine, viewer: Viewer, *, text: str = "", page: int = 1, size: int = 50
) -> tuple[tuple[Summary, ...], int]:
    """A page of what the viewer may read and find, by title, and how many there are in all."""
    allowed = sorted(admitted(engine, viewer))
    # numbers of our own, written out: a statement has no place for so many parameters
    ids: Any = bindparam("allowed", allowed, expanding=True, literal_execute=True)
    wanted: list[Any] = [
        col(DocumentRow.access_id).in_(ids),
        col(DocumentRow.embedder).is_not(None),
    ]
    if text:
        wanted.append(
            or_(
                col(DocumentRow.title).icontains(text, autoescape=True),
                col(DocumentRow.uri).icontains(text, autoescape=True),
            )
        )
    with reading(engine) as s:
        wanted.append(col(DocumentRow.source_id).not_in(shut(s)))
        total = s.exec(select(func.count()).select_from(DocumentRow).where(*wanted)).one()
        rows = s.exec(
            select(DocumentRow, SourceRow.name, MetadataRow)
            .join(SourceRow, col(SourceRow.id) == col(DocumentRow.source_id))
            .outerjoin(MetadataRow, col(MetadataRow.document_id) == col(DocumentRow.id))
            .where(*wanted)
            .order_by(col(DocumentRow.title), col(DocumentRow.id))
            .offset((page - 1) * size)
            .limit(size)
        ).all()
        return tuple(
            Summary(
                d.id,
                d.title,
                source,
                d.uri,
                d.media_type,
                d.modified_at,
                _metadata(said),
                within(d.holder, d.inside),
            )
            for d, source, said in rows
        ), total


@dataclass(frozen=True, slots=True)
class Part:
    """[start, end) of a document's text, and the page it is."""

    text: str
    start: int
    end: int
    length: int  # of the whole text
    page: int | None = None
    label: str = ""
    state: Page | None = None


@dataclass(frozen=True, slots=True)
class Section:
    start: int
    label: str
    kind: str
    level: int
    page: int | None  # where it begins


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk as an index holds it."""

    id: int
    start: int
    end: int
    heading: str
    label: str
    page: int | None
    text: str


def part(engine: Engine, viewer: Viewer, document_id: str, start: int, end: int) -> Part:
    """So much of the text. Raises NotVisible."""
    with reading(engine) as s:
        length = _length(s, viewer, document_id)
        start = min(start, length)
        end = max(start, min(end, length))
        return Part(_text(s, document_id, start, end) if length else "", start, end, length)


def page_at(engine: Engine, viewer: Viewer, document_id: str, offset: int) -> int | None:
    """The page that a character is on; None where there are no pages. Raises NotVisible."""
    with reading(engine) as s:
        _length(s, viewer, document_id)
        return places.leaf_at(places.leaves(_marks(s, document_id)), offset)


def page(engine: Engine, viewer: Viewer, document_id: str, number: int) -> Part:
    """The text of one page (or slide), from 1. Raises NotVisible, also where there is no such page."""
    with reading(engine) as s:
        length = _length(s, viewer, document_id)
        leaves = places.leaves(_marks(s, document_id))
        rows = s.exec(said_of(WordingRow.pages, ids=[document_id])).first() or []
        state = next((Page(*row) for row in rows if row[0] == number), None)
        at = next((n for n, mark in enumerate(leaves) if mark.page == number), None)
        if at is None:
            if state is None:
                raise NotVisible("ページが見つかりません。")
            return Part("", length, length, length, number, f"p. {number}", state)
        start = leaves[at].start
        end = leaves[at + 1].start if at + 1 < len(leaves) else length
        text = _text(s, document_id, start, end)
        return Part(text, start, end, length, number, leaves[at].label, state)


def boxes(engine: Engine, viewer: Viewer, document_id: str, start: int, end: int) -> list[Run]:
    """Where the characters [start, end) stand on its pages, line by line. Raises NotVisible."""
    with reading(engine) as s:
        _length(s, viewer, document_id)
        packed = s.exec(said_of(WordingRow.runs, ids=[document_id])).first()
        found = where.touched(where.unpack(packed), start, end)
        if not found:
            return []
        first = found[0].start
        text = _text(s, document_id, first, found[-1].end)
        return [
            where.cut(run, text[run.start - first : run.end - first], start, end) for run in found
        ]


def own_text(engine: Engine, viewer: Viewer, document_id: str, number: int) -> str:
    """What the file says on a page whose text is what was read of its picture. Raises NotVisible."""
    with reading(engine) as s:
        _length(s, viewer, document_id)
        said = s.exec(said_of(WordingRow.own, ids=[document_id])).first() or []
        return next((str(text) for page, text in said if page == number), "")


def sections(
    engine: Engine, viewer: Viewer, document_id: str, first: int, limit: int
) -> tuple[list[Section], int]:
    """Headings and the like, in order, from the `first` on (0), and how many there are."""
    with reading(engine) as s:
        _length(s, viewer, document_id)
        marks = _marks(s, document_id)
        leaves = places.leaves(marks)
        found = [mark for mark in marks if mark.kind not in places.LEAVES]
        return [
            Section(m.start, m.label, m.kind, m.level, places.leaf_at(leaves, m.start))
            for m in found[first : first + limit]
        ], len(found)


def pieces(
    engine: Engine, viewer: Viewer, document_id: str, first: int, limit: int
) -> tuple[list[Piece], int]:
    """Chunks with their text, in order, from the `first` on (0), and how many there are."""
    with reading(engine) as s:
        _length(s, viewer, document_id)
        mine = col(ChunkRow.document_id) == document_id
        total = s.exec(select(func.count()).select_from(ChunkRow).where(mine)).one()
        leaves = places.leaves(_marks(s, document_id))
        rows = s.exec(
            select(  # type: ignore[call-overload]
                ChunkRow.id,
                ChunkRow.start,
                ChunkRow.end,
                ChunkRow.heading,
                ChunkRow.label,
                func.substr(WordingRow.text, ChunkRow.start + 1, ChunkRow.end - ChunkRow.start),
            )
            .join(BodyRow, col(BodyRow.document_id) == col(ChunkRow.document_id))
            .join(WordingRow, col(WordingRow.id) == col(BodyRow.wording_id))
            .where(mine)
            .order_by(col(ChunkRow.start), col(ChunkRow.id))
            .offset(first)
            .limit(limit)
        ).all()
        return [
            Piece(i, start, end, heading, label, places.leaf_at(leaves, start), text)
            for i, start, end, heading, label, text in rows
        ], total


def inside(
    engine: Engine, viewer: Viewer, document_id: str, page: int = 1, size: int = 50
) -> tuple[list[Inside], int]:
    """A page of the files inside a document, by their paths, and how many there are in all.

    Raises NotVisible, whether it is absent or hidden.
    """
    with reading(engine) as s:
        if document_id not in visible(s, viewer, [document_id]):
            raise NotVisible("資料が見つかりません。")
        rows = s.exec(
            select(DocumentRow)
            .where(DocumentRow.parent_id == document_id)
            .order_by(col(DocumentRow.inside), col(DocumentRow.id))
            .offset((page - 1) * size)
            .limit(size)
        ).all()
        readable = visible(s, viewer, [row.id for row in rows])
        found = [
            Inside(
                row.id,
                row.title,
                within(row.holder, row.inside) or row.title,
                row.status,
                problem_of(row),
                row.media_type,
                row.size_bytes,
                row.modified_at,
            )
            for row in rows
            if row.id in readable
        ]
        return found, _count_inside(s, document_id)


def problem_of(row: DocumentRow) -> str | None:
    """As a reader is told: how much of what was found in it is for administrators."""
    withheld = row.embedder is None and row.personal_data == "quarantine"
    return WITHHELD if row.status == "problem" and withheld else row.problem


def within(holder: str | None, path: str | None) -> str | None:
    """Where a file inside another lies: 「蔵の資料.zip › 手引き/手引き.doc」."""
    return f"{holder}{SEPARATOR}{path}" if holder is not None and path is not None else None


def visible_documents(engine: Engine, viewer: Viewer, ids: Collection[str]) -> set[str]:
    """Those of `ids` that exist and that the viewer may read now."""
    with reading(engine) as s:
        return visible(s, viewer, ids)


# --- an access as it is kept ------------------------------------------------------


def to_json(access: Access) -> str:
    """Equal for accesses that mean the same: order and repetition of layers say nothing."""
    layers = {(tuple(sorted(x.allow)), tuple(sorted(x.deny))) for x in access}
    return json.dumps(sorted(layers), ensure_ascii=False, separators=(",", ":"))


def digest(layers: str) -> str:
    return hashlib.sha256(layers.encode()).hexdigest()


@lru_cache(maxsize=4096)
def digest_of(access: Access) -> str:
    return digest(to_json(access))


def parse(digest_: str, layers: str) -> Access:
    """An access from its row. One that does not match its digest admits nobody."""
    return _parse(digest_, layers) if digest(layers) == digest_ else ()


def narrows(s: Session, before: int, after: int) -> bool:
    """True if it is plain that nobody whom the one did not admit is admitted by the other."""
    if before == after:
        return True
    rows = s.exec(select(AccessRow).where(col(AccessRow.id).in_([before, after])))
    found = {row.id: parse(row.digest, row.layers) for row in rows}
    return narrower(found[before], found[after])


@lru_cache(maxsize=4096)
def _parse(_digest: str, layers: str) -> Access:
    return tuple(
        Layer(frozenset(map(Principal, allow)), frozenset(map(Principal, deny)))
        for allow, deny in json.loads(layers)
    )


def mark_to_json(mark: Mark) -> list[Any]:
    box = mark.box and [mark.box.left, mark.box.top, mark.box.right, mark.box.bottom]
    return [mark.start, mark.label, mark.kind, mark.page, box, mark.level]


def mark_from_json(value: list[Any]) -> Mark:
    start, label, kind, page, box, level = value
    return Mark(start, label, kind, page, Box(*box) if box else None, level)


# --- below: helpers within one transaction ----------------------------------------


def visible(s: Session, viewer: Viewer, ids: Collection[str]) -> set[str]:
    """`visible_documents`, within a transaction."""
    rows: list[tuple[str, int, int]] = []
    for block in blocks(ids):
        columns = (DocumentRow.id, DocumentRow.access_id, DocumentRow.source_id)
        rows += s.exec(select(*columns).where(col(DocumentRow.id).in_(block))).all()
    closed = shut(s)
    allowed = _admitting(s, viewer, {access_id for _, access_id, _ in rows})
    return {i for i, access_id, source in rows if access_id in allowed and source not in closed}


def _visible_chunks(s: Session, viewer: Viewer, ids: Collection[int]) -> dict[int, Any]:
    """Chunk id → (chunk columns, document columns), without a character of text."""
    rows: list[Any] = []
    for block in blocks(ids):
        rows += s.exec(
            select(  # type: ignore[call-overload]
                ChunkRow.id,
                ChunkRow.start,
                ChunkRow.end,
                ChunkRow.parent_start,
                ChunkRow.parent_end,
                ChunkRow.label,
                DocumentRow.id.label("document_id"),  # type: ignore[attr-defined]
                DocumentRow.access_id,
                DocumentRow.source_id,
                DocumentRow.uri,
                DocumentRow.title,
                DocumentRow.modified_at,
                DocumentRow.holder,
                DocumentRow.inside,
                SourceRow.name.label("source"),  # type: ignore[attr-defined]
                MetadataRow.confidentiality,
            )
            .join(DocumentRow, col(DocumentRow.id) == col(ChunkRow.document_id))
            .join(SourceRow, col(SourceRow.id) == col(DocumentRow.source_id))
            .outerjoin(MetadataRow, col(MetadataRow.document_id) == col(DocumentRow.id))
            .where(col(ChunkRow.id).in_(block))
        ).all()
    closed = shut(s)
    allowed = _admitting(s, viewer, {row.access_id for row in rows})
    return {row.id: row for row in rows if row.access_id in allowed and row.source_id not in closed}


def said_of(*columns: Any, ids: Collection[str]) -> Any:
    """Columns of the texts of these documents, for whoever has asked who may read them."""
    return (
        select(*columns)
        .select_from(BodyRow)
        .join(WordingRow, col(WordingRow.id) == col(BodyRow.wording_id))
        .where(col(BodyRow.document_id).in_(ids))
    )


def shut(s: Session) -> frozenset[int]:
    """`withheld`, within a transaction."""
    return frozenset(s.exec(select(SourceRow.id).where(col(SourceRow.access_until) <= now())))  # type: ignore[arg-type]


def _count_inside(s: Session, document_id: str) -> int:
    query = select(func.count()).select_from(DocumentRow)
    return s.exec(query.where(DocumentRow.parent_id == document_id)).one()


def _admitting(s: Session, viewer: Viewer, ids: Collection[int]) -> set[int]:
    allowed = set()
    for block in blocks(ids):
        for row in s.exec(select(AccessRow).where(col(AccessRow.id).in_(block))):
            if row.id and admits(parse(row.digest, row.layers), viewer.principals):
                allowed.add(row.id)
    return allowed


def _parents(s: Session, ids: Iterable[int]) -> dict[int, str]:
    """Chunk id → the text of its parent."""
    size = ChunkRow.parent_end - ChunkRow.parent_start
    texts: dict[int, str] = {}
    for block in blocks(ids):
        rows = s.exec(
            select(ChunkRow.id, func.substr(WordingRow.text, ChunkRow.parent_start + 1, size))
            .join(BodyRow, col(BodyRow.document_id) == col(ChunkRow.document_id))
            .join(WordingRow, col(WordingRow.id) == col(BodyRow.wording_id))
            .where(col(ChunkRow.id).in_(block))
        )
        texts |= {chunk_id: text for chunk_id, text in rows if chunk_id is not None}
    return texts


def _length(s: Session, viewer: Viewer, document_id: str) -> int:
    """Of the text of a document that the viewer may read. Raises NotVisible."""
    if document_id not in visible(s, viewer, [document_id]):
        raise NotVisible("資料が見つかりません。")
    return s.exec(said_of(func.length(WordingRow.text), ids=[document_id])).first() or 0


def _marks(s: Session, document_id: str) -> list[Mark]:
    marks = s.exec(said_of(WordingRow.marks, ids=[document_id])).first()
    return [mark_from_json(one) for one in marks or []]


def _text(s: Session, document_id: str, start: int, end: int) -> str:
    part = func.substr(WordingRow.text, start + 1, end - start)
    return str(s.exec(said_of(part, ids=[document_id])).one())


def _metadata(row: MetadataRow | None) -> Metadata:
    return Metadata(
        **{
            name: Said(text, Span(start, end) if start is not None else None)
            for name, (text, start, end) in (row.said if row else {}).items()
        }
    )


def _passage(row: Any, text: str, score: float, start: int, end: int) -> Passage:
    return Passage(
        chunk_id=row.id,
        document_id=row.document_id,
        source=row.source,
        uri=row.uri,
        title=row.title,
        label=row.label,
        text=text,
        start=start,
        end=end,
        score=score,
        modified_at=row.modified_at,
        hit=Span(row.start, row.end),
        confidentiality=row.confidentiality,
        within=within(row.holder, row.inside),
    )


def blocks(items: Iterable[T], size: int = _MOST_PARAMETERS) -> Iterator[list[T]]:
    """Lists short enough for one statement."""
    everything = list(items)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]
