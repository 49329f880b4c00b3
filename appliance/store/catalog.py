"""What documents there are. A function is a transaction, named after a change in the world.

Whatever changes what may be found writes a row of the change log in the same
transaction: an index that reads the log in order cannot miss it.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
from sqlalchemy import Engine, and_, case, delete, func, or_, update
from sqlalchemy import select as columns_of
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from appliance.errors import Conflict, NotVisible
from appliance.store import about, editions, history, inside, rows, scans
from appliance.store import access as accesses
from appliance.store.access import blocks
from appliance.store.database import reading, writing
from appliance.store.inside import Held, Inner
from appliance.store.rows import clean
from appliance.store.scans import Scan
from appliance.store.tables import (
    AccessRow,
    BodyRow,
    ChangeRow,
    ChunkRow,
    DocumentRow,
    MetadataRow,
    PersonalRow,
    PointRow,
    SiteRow,
    SourceRow,
    VectorRow,
    WordingRow,
    now,
)
from appliance.text import personal
from appliance.text.personal import Handling
from appliance.text.split import SEPARATOR
from appliance.types import (
    Access,
    Chunk,
    Document,
    Entry,
    IndexChanges,
    RawFile,
    Vectors,
)

Status = Literal["ready", "problem"]
ChangeBatch = IndexChanges

RETRY_FIRST_S, RETRY_LONGEST_S = 30.0, 3600.0
LOG_KEPT = timedelta(days=7)
QUARANTINED = (
    "個人情報（{}）が見つかったため、だれも検索できないようにしています。"
    "ファイルから取り除くか、取り込み元の「個人情報の扱い」を変えてください。"
)
READ_AGAIN = "「個人情報の扱い」が変わったため、読み直しています。終わるまで検索できません。"
BATCH_CHUNKS = 5000  # about what one batch of changes may hold in memory


def _or_inside(name: str) -> Any:
    """A column of a document; of what is inside it, where none of its own is kept."""
    child = aliased(DocumentRow)
    inner = select(func.min(getattr(child, name))).where(child.parent_id == DocumentRow.id)
    own = getattr(DocumentRow, name)
    return func.coalesce(own, inner.correlate(DocumentRow).scalar_subquery())


_STORED: dict[str, Any] = {
    "document_id": col(DocumentRow.id),
    "title": func.coalesce(DocumentRow.given_title, DocumentRow.title),
    "corrected": case((col(DocumentRow.given_title).is_not(None), col(DocumentRow.title))),
    "embedder": _or_inside("embedder"),
    "sizes": _or_inside("sizes"),
}


class Stored(NamedTuple):
    """What the catalogue knows of a file, to compare with what its source shows."""

    uri: str
    document_id: str
    version: str
    access_id: int
    title: str
    status: Status
    next_attempt_at: datetime | None
    digest: str | None
    embedder: str | None
    sizes: str | None
    personal_data: Handling | None
    modified_at: datetime
    corrected: str | None  # the title that a person gave it
    access_digest: str

    def shows(self, file: RawFile) -> bool:
        """True if access, title and date are those of the file: nothing to renew."""
        return (
            self.title == clean(file.title)
            and self.modified_at == file.modified_at
            and self.access_digest == accesses.digest_of(file.access)
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """A document as the administrator sees it: never its text."""

    id: str
    source_id: int
    source: str
    uri: str
    title: str
    status: Status
    problem: str | None
    notes: tuple[str, ...]
    searchable: bool
    attempts: int
    next_attempt_at: datetime | None
    media_type: str | None
    size_bytes: int | None
    modified_at: datetime
    added_at: datetime
    updated_at: datetime
    parent_id: str | None
    within: str | None
    children: int  # files inside it
    children_problems: int
    confidentiality: str | None = None
    personal: Mapping[str, int] = field(default_factory=dict)  # kind -> how many


@dataclass(frozen=True, slots=True)
class Page:
    documents: tuple[Listed, ...]
    total: int


class InSource(NamedTuple):
    documents: int = 0
    problems: int = 0
    inside: int = 0
    inside_problems: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    documents: int = 0  # files that sources show
    ready: int = 0
    problems: int = 0
    chunks: int = 0
    inside: int = 0  # files inside documents; they are in none of the numbers above but `chunks`
    inside_problems: int = 0
    by_source: Mapping[int, InSource] = field(default_factory=dict)


# --- changes in the world ---------------------------------------------------------


def replace(
    engine: Engine,
    source_id: int,
    file: RawFile,
    document: Document,
    chunks: Sequence[Chunk],
    vectors: Vectors,
    embedder: str,
    *,
    sizes: str | None = None,
    media_type: str | None = None,
    digest: str | None = None,
    problem: str | None = None,
    personal_data: Handling = "show",
    counts: Mapping[str, int] | None = None,
    embedded_as: str | None = None,
    new: bool = True,
    waiting: Collection[int] = (),
    children: Sequence[Inner] = (),
    said: Sequence[bytes] = (),
    read_as: str | None = None,
) -> str:
    """The file's text, chunks and vectors in place of what there was, and so those of the files
    inside it. Returns the document's id.

    `digest` names the bytes the text came from, `sizes` how it was cut, `personal_data` how the
    `counts` of it that were found were handled, `embedded_as` the title in its vectors, `waiting`
    the pages of those bytes that are still to be read, `said` what was embedded
    (`alike.of_entry`), `read_as` how the bytes were read, where others of the same may take what was
    made of them (`store/twins.py`). A `problem` is shown beside what was stored: "no text found". Raises Conflict if the source is gone, or wants personal data handled
    otherwise, or the document where it may not be `new`.
    """
    rows.check_vectors(chunks, vectors)
    for one in children:
        rows.check_vectors(one.chunks, one.vectors)
    with writing(engine) as s:
        _require_handling(s, source_id, personal_data)
        known = _row(s, source_id, file.uri, lock=True)
        if known is None and not new:
            raise Conflict("資料がなくなっています。")
        row = known or _new_row(s, source_id, file)
        event: history.Kind = (
            "failed" if problem and not waiting
            else "added" if known is None or known.digest is None
            else "reread" if known.digest == digest
            else "changed"
        )  # fmt: skip
        row.version = file.version
        _name(row, file.title)
        row.access_id = _access_id(s, file.access)
        row.attempts, row.next_attempt_at = 0, None
        row.again = row.again_at = None
        if embedded_as is not None:
            _embedded_as(row, embedded_as)
        row.media_type = media_type or file.media_type
        row.size_bytes = file.size_bytes
        row.digest = digest
        row.modified_at = file.modified_at
        s.add(row)
        s.flush()
        scans.want(s, row.id, digest, waiting)
        history.note(s, row.id, event, problem or "")
        stored = (document, chunks, vectors, embedder, sizes, problem, personal_data, counts or {})
        changed = _put(s, row, *stored, said)
        row.read_as = read_as
        s.add(row)
        changed |= inside.replace(s, row, children, embedder, sizes, personal_data)
        rows.log(s, changed)
        return row.id


def reread(
    engine: Engine,
    scan: Scan,
    document: Document,
    chunks: Sequence[Chunk],
    vectors: Vectors,
    embedder: str,
    *,
    sizes: str | None = None,
    problem: str | None = None,
    counts: Mapping[str, int] | None = None,
    made: str | None = None,
    said: Sequence[bytes] = (),
) -> None:
    """The same bytes with what was read of their pages, under the name and access of now.

    `made` names what that is, of a file inside another (`ingest/inside.py`). Raises Conflict if the bytes are no longer those, somebody else has come to read them, or
    personal data is to be handled otherwise.
    """
    rows.check_vectors(chunks, vectors)
    with writing(engine) as s:
        row = _scanned(s, scan)
        scans.close(s, scan)
        _embedded_as(row, scan.title)
        history.note(s, row.id, "failed" if problem else "reread", problem or "")
        held = dict(counts or {})
        if row.parent_id:  # whose path was looked at before it was masked
            row.digest = made
            for kind, n in about.personal_in(s, [row.id]).get(row.id, {}).items():
                held[kind] = max(n, held.get(kind, 0))
        handling = scan.personal_data
        stored = (document, chunks, vectors, embedder, sizes, problem, handling, held)
        rows.log(s, _put(s, row, *stored, said))


def withhold(
    engine: Engine,
    source_id: int,
    file: RawFile,
    counts: Mapping[str, int],
    embedder: str,
    *,
    sizes: str | None = None,
    media_type: str | None = None,
    digest: str | None = None,
    children: Sequence[Inner] = (),
) -> str:
    """A document whose personal data nobody may find: a row that says why, and none of its text.

    The files inside it are kept as each of them is. Returns the document's id. Raises Conflict like
    `replace`.
    """
    for one in children:
        rows.check_vectors(one.chunks, one.vectors)
    with writing(engine) as s:
        _require_handling(s, source_id, "quarantine")
        row = _row(s, source_id, file.uri, lock=True) or _new_row(s, source_id, file)
        _name(row, file.title)
        row.version, row.own_title = file.version, None
        row.access_id = _access_id(s, file.access)
        row.media_type, row.size_bytes = media_type or file.media_type, file.size_bytes
        row.digest, row.modified_at = digest, file.modified_at
        row.personal_data = "quarantine"
        changed = _empty(s, row, quarantined(counts))
        about.count(s, {row.id: counts})
        changed |= inside.replace(s, row, children, embedder, sizes, "quarantine")
        rows.log(s, changed)
        return row.id


def withhold_read(engine: Engine, scan: Scan, counts: Mapping[str, int]) -> None:
    """Likewise where its pages told of it: nothing that was read of them stays.

    Raises Conflict like `reread`.
    """
    with writing(engine) as s:
        row = _scanned(s, scan)
        changed = _empty(s, row, quarantined(counts))
        about.count(s, {row.id: counts})
        rows.log(s, changed)


def quarantined(counts: Mapping[str, int]) -> str:
    """What is said of a document that is withheld."""
    return QUARANTINED.format(personal.told(counts))


def showing(s: Session, source_id: int, kinds: Collection[str]) -> bool:
    """Whether documents of a source show personal data of these kinds, within a transaction."""
    shown = select(DocumentRow.id).where(*_showing(source_id, kinds))
    return s.exec(shown.limit(1)).first() is not None


def withhold_some(s: Session, source_id: int, kinds: Collection[str], limit: int) -> None:
    """Up to `limit` documents that show such data are emptied, and due again; a file inside another
    with that one, since it cannot be read alone.

    Within a transaction. What they hold is found by nobody until they are read.
    """
    shown = _showing(source_id, kinds)
    found = s.exec(select(DocumentRow.id, DocumentRow.parent_id).where(*shown).limit(limit)).all()
    own = col(DocumentRow.id).in_([parent or i for i, parent in found])
    holders = select(DocumentRow).where(own).order_by(col(DocumentRow.id))
    for row in s.exec(holders.with_for_update()).all():  # before those inside, as everywhere
        row.next_attempt_at = now()
        s.add(row)
    s.flush()
    mine = col(DocumentRow.id).in_([i for i, _ in found])
    changed: dict[str, bytes] = {}
    for row in s.exec(select(DocumentRow).where(mine, *shown).with_for_update()).all():
        row.title, row.personal_data = personal.masked(row.title), None
        row.given_title = row.given_title and personal.masked(row.given_title)
        if row.parent_id:
            inside.mask(s, row)
        else:  # which may say its name
            changed = dict.fromkeys(inside.carry(s, row), b"") | changed
        changed |= _empty(s, row, READ_AGAIN, again_at=None if row.parent_id else now())
    rows.log(s, changed)


def renew(engine: Engine, source_id: int, file: RawFile, *, digest: str | None = None) -> bool:
    """An unchanged file: its access, title and date only. True if indexes must look again.

    With `digest`, its version too: the bytes are those we know under another version.
    Raises Conflict if the document is gone.
    """
    with writing(engine) as s:
        row = _row(s, source_id, file.uri, lock=True)
        if row is None:
            raise Conflict("資料がなくなっています。")
        before, dated = (row.access_id, row.title), row.modified_at
        if digest is not None:
            row.version, row.digest, row.size_bytes = file.version, digest, file.size_bytes
        lost = _admit(s, row, file.access)
        _name(row, file.title)
        row.modified_at = file.modified_at
        s.add(row)
        s.flush()
        inside.date(s, row, dated)
        if before[0] != row.access_id:
            inside.note(s, row, "access")
        if changed := before != (row.access_id, row.title):
            _log(s, row, lost)
        if before[1] != row.title:
            _look_again(s, row)
        return changed


def set_access(engine: Engine, source_id: int, uri: str, access: Access) -> bool:
    """Who may read it, from now on. True if that is a change; False too if it is not there."""
    with writing(engine) as s:
        row = _row(s, source_id, uri, lock=True)
        if row is None or row.access_id == _access_id(s, access):
            return False
        lost = _admit(s, row, access)
        inside.note(s, row, "access")
        _log(s, row, lost)
        return True


def move(
    engine: Engine, source_id: int, old_uri: str, uri: str, title: str, access: Access
) -> bool:
    """The same document under a new uri; what was there before is gone. False if not known."""
    with writing(engine) as s:
        row = _row(s, source_id, old_uri, lock=True)
        if row is None:
            return False
        if uri != old_uri and (there := _row(s, source_id, uri, lock=True)):
            _forget(s, there)
        row.uri, row.uri_digest = uri, accesses.digest(uri)
        _name(row, title)
        lost = _admit(s, row, access)
        inside.note(s, row, "moved", old_uri)
        _log(s, row, lost)
        _look_again(s, row)
        return True


def fail(
    engine: Engine,
    source_id: int,
    uri: str,
    title: str,
    reason: str,
    *,
    transient: bool,
    access: Access,
    version: str = "",
    modified_at: datetime | None = None,
    media_type: str | None = None,
    size_bytes: int | None = None,
) -> str:
    """A file that could not be taken in: a row that says why. Returns the document's id.

    The last good text stays searchable, for those whom `access` admits; unless the file is another
    by now, and may be read by others: it may have been replaced so that they can.
    A transient problem is tried again, later each time; `version` is the one that failed.
    """
    with writing(engine) as s:
        row = _row(s, source_id, uri, lock=True)
        if row is None:
            _require_source(s, source_id)
            row = DocumentRow(
                id=uuid.uuid4().hex,
                source_id=source_id,
                uri=uri,
                uri_digest=accesses.digest(uri),
                version=version,
                title=clean(title),
                access_id=_access_id(s, access),
                status="problem",
                modified_at=modified_at or now(),
            )
            changed = False  # nothing of it can be found
            told, lost = None, dict[str, bytes]()
        else:
            before = (row.access_id, row.title)
            if version and version != row.version:
                _outdate(s, row)
            lost = _admit(s, row, access)
            _name(row, title)
            changed = before != (row.access_id, row.title)
            told = row.problem
        row.version = version or row.version
        row.media_type = media_type or row.media_type
        row.size_bytes = size_bytes if size_bytes is not None else row.size_bytes
        row.modified_at = modified_at or row.modified_at
        row.status, row.problem = "problem", clean(reason)
        row.attempts += 1
        wait = min(RETRY_FIRST_S * 2 ** min(row.attempts - 1, 16), RETRY_LONGEST_S)
        row.next_attempt_at = now() + timedelta(seconds=wait) if transient else None
        row.updated_at = now()
        if row.again == "file":
            row.again = row.again_at = None
        s.add(row)
        s.flush()
        if row.problem != told:  # the same again and again is told once
            history.note(s, row.id, "failed", row.problem)
        if changed:
            _log(s, row, lost)
        return row.id


def correct(
    engine: Engine, document_id: str, title: str | None, in_force: date | None, actor: str
) -> bool:
    """What a person says its title is, and since when it is in force; None takes it back.

    It holds for every version to come. The words are found by it at once; vectors are made anew
    (`store/again.py`). False if nothing changes. Raises NotVisible.
    """
    with writing(engine) as s:
        query = select(DocumentRow).where(DocumentRow.id == document_id).with_for_update()
        row = s.exec(query).first()
        if row is None:
            raise NotVisible("資料が見つかりません。")
        before = (row.title, row.given_title, row.in_force)
        given = row.title if row.given_title is None else row.given_title
        title = clean(title) if title else None
        row.title, row.given_title = (title, given) if title else (given, None)
        row.in_force = in_force
        if before == (row.title, row.given_title, row.in_force):
            return False
        if before[0] != row.title:
            row.again, row.again_at = row.again or "title", row.again_at or now()
        s.add(row)
        s.flush()
        _look_again(s, row)
        back = row.given_title is None and row.in_force is None
        told = " · ".join(filter(None, (title, in_force.isoformat() if in_force else "")))
        history.note(s, row.id, "restored" if back else "corrected", told, actor)
        _log(s, row)
        return True


def set_vectors(
    engine: Engine, document_id: str, embedder: str, vectors: Mapping[int, Vectors]
) -> bool:
    """Other vectors of the chunks there are. False if they are not these any more.

    What other embedders made of them is gone: it was made of the same text as those before.
    """
    with writing(engine) as s:
        mine = select(ChunkRow).where(ChunkRow.document_id == document_id)
        found = s.exec(mine.with_for_update()).all()
        document = s.get(DocumentRow, document_id)
        for block in blocks({r.id or 0 for r in found}):
            s.connection().execute(delete(VectorRow).where(col(VectorRow.chunk_id).in_(block)))
        if (
            document is None
            or document.embedder != embedder
            or {r.id for r in found} != set(vectors)
        ):
            return False
        rows.change_vectors(s, [(row, vectors[row.id or 0]) for row in found])
        rows.log(s, {document_id: b""})
        return True


def forget(engine: Engine, source_id: int, uri: str) -> bool:
    """The document, its text, chunks and vectors are gone. False if it was not there."""
    with writing(engine) as s:
        row = _row(s, source_id, uri, lock=True)
        if row is None:
            return False
        _forget(s, row)
        return True


def retry_with(engine: Engine, formats: str) -> int:
    """Once for each edition of the formats, problems are due for another attempt. Returns how many."""
    with writing(engine) as s:
        row = s.get(SiteRow, "formats") or SiteRow(key="formats", value="")
        if row.value == formats:
            return 0
        row.value = formats
        s.add(row)
        return make_due(s)


def make_due(s: Session, *wanted: Any) -> int:
    """Problems among the `wanted` documents are tried again, within a transaction; of a file inside
    another that means the other. Returns how many rows that are.
    """
    bad = col(DocumentRow.status) == "problem"
    holders = select(DocumentRow.parent_id).where(bad, col(DocumentRow.parent_id).is_not(None))
    again = or_(bad, col(DocumentRow.id).in_(holders))
    result = s.connection().execute(
        update(DocumentRow).where(again, *wanted).values(next_attempt_at=now())
    )
    return int(result.rowcount)


# --- what a source is compared with -----------------------------------------------


def stored(engine: Engine, source_id: int) -> Iterator[Stored]:
    """Every document of a source, streamed, without the files inside. No text is read."""
    own = (col(DocumentRow.source_id) == source_id, col(DocumentRow.parent_id).is_(None))
    with reading(engine) as s:
        rows = s.connection().execute(
            _stored().where(*own),
            execution_options={"yield_per": 1000},
        )
        for row in rows:
            yield Stored(*row)


def find(engine: Engine, source_id: int, uri: str) -> Stored | None:
    with reading(engine) as s:
        row = s.connection().execute(_stored().where(*_is(source_id, uri))).first()
        return Stored(*row) if row else None


def held(engine: Engine, document_id: str) -> list[Held]:
    """What the catalogue knows of the files inside a document."""
    with reading(engine) as s:
        return inside.held(s, document_id)


def sources_of(engine: Engine, chunk_ids: Iterable[int]) -> dict[int, int]:
    """The source of each chunk that exists."""
    found: dict[int, int] = {}
    with reading(engine) as s:
        for block in blocks(set(chunk_ids)):
            query = select(ChunkRow.id, DocumentRow.source_id).join(
                DocumentRow, col(DocumentRow.id) == col(ChunkRow.document_id)
            )
            found |= {int(i or 0): n for i, n in s.exec(query.where(col(ChunkRow.id).in_(block)))}
    return found


# --- what indexes follow ----------------------------------------------------------


def head(engine: Engine) -> int:
    """The change log's last number; 0 when nothing ever changed."""
    with reading(engine) as s:
        return s.exec(select(func.max(ChangeRow.sequence))).one() or 0


def changes(
    engine: Engine, after: int, limit: int = 500, embedder: str | None = None
) -> ChangeBatch:
    """What an index that is complete up to `after` must take in next, whole documents only.

    At most `limit` rows of the log, fewer where documents are large. Chunks of
    documents that were touched are removed and, where they still exist, added
    as they are now. `sequence == after` means there was nothing to do. With
    `embedder`, only vectors of that space are added.
    """
    with reading(engine) as s:
        log = s.exec(
            select(ChangeRow)
            .where(col(ChangeRow.sequence) > after)
            .order_by(col(ChangeRow.sequence))
            .limit(limit)
        ).all()
        sizes = _sizes(s, {row.document_id for row in log})
        sequence, removed, documents, total = after, [np.empty(0, np.int64)], set[str](), 0
        for row in log:
            size = 0 if row.document_id in documents else sizes.get(row.document_id, 0)
            if documents and total + size > BATCH_CHUNKS:
                break
            total += size
            documents.add(row.document_id)
            removed.append(np.frombuffer(row.removed, "<i8"))
            sequence = row.sequence or sequence
        added = _entries(s, col(ChunkRow.document_id), documents, embedder)
        removed.append(np.array([entry.chunk_id for entry in added], np.int64))
        return ChangeBatch(tuple(added), np.unique(np.concatenate(removed)), sequence)


def entries(engine: Engine, chunk_ids: Sequence[int], embedder: str | None = None) -> list[Entry]:
    """Those of these chunks that exist, by id. With `embedder`, only those of its space."""
    with reading(engine) as s:
        return _entries(s, col(ChunkRow.id), {int(i) for i in chunk_ids}, embedder)


def entries_of(engine: Engine, document_id: str, embedder: str | None = None) -> list[Entry]:
    """The document's chunks; with `embedder`, if they have vectors of that space."""
    with reading(engine) as s:
        return _entries(s, col(ChunkRow.document_id), {document_id}, embedder)


def chunk_accesses(engine: Engine, block: int = 20_000) -> Iterator[tuple[int, int]]:
    """(chunk id, access id) of every chunk, by id, read in blocks of one moment each.

    Read `head` first: what changes meanwhile follows from there.
    """
    last = 0
    while True:
        with reading(engine) as s:
            rows = s.exec(
                select(ChunkRow.id, DocumentRow.access_id)
                .join(DocumentRow, col(DocumentRow.id) == col(ChunkRow.document_id))
                .where(col(ChunkRow.id) > last)
                .order_by(col(ChunkRow.id))
                .limit(block)
            ).all()
        for chunk_id, access_id in rows:
            assert chunk_id is not None
            yield chunk_id, access_id
        if len(rows) < block:
            return
        last = rows[-1][0] or last


def trim_log(engine: Engine, keep: timedelta = LOG_KEPT) -> int:
    """Forget changes older than `keep`. Returns how many.

    An index that is further behind finds them by comparing itself with the catalogue.
    """
    with writing(engine) as s:
        last = s.exec(select(func.max(ChangeRow.sequence))).one()
        old = (
            select(ChangeRow.sequence)
            .where(col(ChangeRow.at) < now() - keep)
            .order_by(col(ChangeRow.sequence).desc())
            .limit(1)
        )
        newest_old = s.exec(old).first()
        if last is None or newest_old is None:
            return 0
        # the last row stays, whatever its age: it is where the log has come to
        gone = col(ChangeRow.sequence) <= min(newest_old, last - 1)
        return int(s.connection().execute(delete(ChangeRow).where(gone)).rowcount)


def stale(engine: Engine, embedder: str) -> int:
    """How many chunks hold a vector of another embedder: they must be made anew."""
    with reading(engine) as s:
        return s.exec(
            select(func.count())
            .select_from(ChunkRow)
            .join(DocumentRow, col(DocumentRow.id) == col(ChunkRow.document_id))
            .where(col(DocumentRow.embedder) != embedder)
        ).one()


# --- what the administrator sees --------------------------------------------------


def documents(
    engine: Engine,
    *,
    source_id: int | None = None,
    status: Status | None = None,
    text: str | None = None,
    parent_id: str | None = None,
    page: int = 1,
    size: int = 50,
) -> Page:
    """One page of documents, problems first, then by title; `text` is part of a title or uri."""
    wanted = []
    if source_id is not None:
        wanted.append(col(DocumentRow.source_id) == source_id)
    if status is not None:
        wanted.append(col(DocumentRow.status) == status)
    if parent_id is not None:
        wanted.append(col(DocumentRow.parent_id) == parent_id)
    if text:
        wanted.append(
            or_(
                col(DocumentRow.title).icontains(text, autoescape=True),
                col(DocumentRow.uri).icontains(text, autoescape=True),
            )
        )
    order = (col(DocumentRow.status), col(DocumentRow.title), col(DocumentRow.id))
    with reading(engine) as s:
        total = s.exec(select(func.count()).select_from(DocumentRow).where(*wanted)).one()
        rows = s.exec(
            _listed().where(*wanted).order_by(*order).offset((page - 1) * size).limit(size)
        ).all()
        held = about.personal_in(s, [document.id for document, *_ in rows])
        return Page(tuple(_as_listed(row, held) for row in rows), total)


def listing_of(s: Session, document_id: str) -> Listed | None:
    """One document as the administrator sees it, within a transaction."""
    row = s.exec(_listed().where(col(DocumentRow.id) == document_id)).first()
    return _as_listed(row, about.personal_in(s, [document_id])) if row else None


def listed(engine: Engine, source_id: int, uris: Sequence[str]) -> dict[str, Listed]:
    """Those of these documents that the catalogue holds, by uri."""
    found: dict[str, Listed] = {}
    with reading(engine) as s:
        for block in blocks(accesses.digest(uri) for uri in uris):
            rows = s.exec(
                _listed().where(
                    col(DocumentRow.source_id) == source_id,
                    col(DocumentRow.uri_digest).in_(block),
                )
            ).all()
            held = about.personal_in(s, [document.id for document, *_ in rows])
            found |= {one.uri: one for one in (_as_listed(row, held) for row in rows)}
    return found


def counts(engine: Engine) -> Counts:
    with reading(engine) as s:
        own = col(DocumentRow.parent_id).is_(None)
        by_source: dict[int, InSource] = {}
        for source_id, status, is_own, n in s.exec(
            select(DocumentRow.source_id, DocumentRow.status, own, func.count()).group_by(
                col(DocumentRow.source_id), col(DocumentRow.status), own
            )
        ):
            failed = n if status == "problem" else 0
            more = (n, failed, 0, 0) if is_own else (0, 0, n, failed)
            sums = zip(by_source.get(source_id, InSource()), more, strict=True)
            by_source[source_id] = InSource(*map(sum, sums))
        all_ = (
            InSource(*map(sum, zip(*by_source.values(), strict=True))) if by_source else InSource()
        )
        return Counts(
            documents=all_.documents,
            ready=all_.documents - all_.problems,
            problems=all_.problems,
            chunks=s.exec(select(func.count()).select_from(ChunkRow)).one(),
            inside=all_.inside,
            inside_problems=all_.inside_problems,
            by_source=by_source,
        )


# --- text as it is kept and as it is indexed --------------------------------------


def entry_text(
    title: str, own_title: str | None, heading: str, text: str, holder: str | None = None
) -> str:
    """What is embedded and indexed of a chunk: alone, it does not say what it is about."""
    title = f"{holder}{SEPARATOR}{title}" if holder else title
    names = [title] if not own_title or own_title in title else [title, own_title]
    return clean("\n".join([*names, *([heading] if heading else []), text]))


# --- below: helpers within one transaction ----------------------------------------


def _put(
    s: Session,
    row: DocumentRow,
    document: Document,
    chunks: Sequence[Chunk],
    vectors: Vectors,
    embedder: str,
    sizes: str | None,
    problem: str | None,
    personal_data: Handling,
    counts: Mapping[str, int],
    said: Sequence[bytes],
) -> dict[str, bytes]:
    """A text in place of the one there was. Returns the chunks it lost, to be logged."""
    changed = {row.id: b""} | rows.drop_chunks(s, [row.id])
    row.own_title = clean(document.title) if document.title else None
    row.status, row.problem = "problem" if problem else "ready", problem
    row.notes = [clean(note) for note in document.problems]
    row.embedder, row.sizes, row.personal_data = embedder, sizes, personal_data
    row.outdated, row.updated_at, row.read_as = False, now(), None
    s.add(row)
    s.flush()
    rows.set_texts(s, {row.id: rows.Text(row.title, document, counts, row.in_force)})
    if personal_data == "mask" and counts:
        scans.unlearn(s, [row.id])
    rows.add_chunks(s, row.id, document.marks, chunks, vectors, said)
    return changed


def _embedded_as(row: DocumentRow, title: str) -> None:
    if row.title != clean(title):  # a person gave it another one meanwhile
        row.again, row.again_at = row.again or "title", row.again_at or now()


def _scanned(s: Session, scan: Scan) -> DocumentRow:
    """The document whose pages are ours to read, until this transaction ends."""
    _require_handling(s, scan.source_id, scan.personal_data)
    query = select(DocumentRow).where(DocumentRow.id == scan.document_id).with_for_update()
    row = s.exec(query).first()
    scans.still(s, scan)
    if row is None:
        raise Conflict("資料がなくなっています。")
    return row


def _is(source_id: int, uri: str) -> tuple[Any, Any]:
    return (
        col(DocumentRow.source_id) == source_id,
        col(DocumentRow.uri_digest) == accesses.digest(uri),
    )


def _look_again(s: Session, row: DocumentRow) -> None:
    """Another name may make it a version of other documents."""
    if body := s.exec(accesses.said_of(WordingRow, ids=[row.id])).first():
        editions.keep(s, row.id, row.title, body.text)
        about.rename(s, row.id, row.title, body)


def _name(row: DocumentRow, title: str) -> None:
    """What its source calls it; the name that a person gave it stays."""
    if row.given_title is None:
        row.title = clean(title)
    else:
        row.given_title = clean(title)


def _row(s: Session, source_id: int, uri: str, lock: bool = False) -> DocumentRow | None:
    query = select(DocumentRow).where(*_is(source_id, uri))
    return s.exec(query.with_for_update() if lock else query).first()


def _showing(source_id: int, kinds: Collection[str]) -> tuple[Any, ...]:
    holding = select(PersonalRow.document_id).where(col(PersonalRow.kind).in_(kinds))
    # a quarantine shows what is not serious
    shown_by = ["show"] if personal.SERIOUS.issuperset(kinds) else ["show", "quarantine"]
    return (
        col(DocumentRow.source_id) == source_id,
        col(DocumentRow.personal_data).in_(shown_by),
        col(DocumentRow.id).in_(holding),
    )


def _empty(
    s: Session, row: DocumentRow, problem: str, again_at: datetime | None = None
) -> dict[str, bytes]:
    """None of its text is left; the row says why. Returns the chunks it lost, by document."""
    row.status, row.problem, row.notes = "problem", problem, []
    row.own_title = row.embedder = row.sizes = row.read_as = None
    row.outdated = False
    row.attempts, row.next_attempt_at = 0, again_at
    row.updated_at = now()
    s.add(row)
    s.flush()
    history.note(s, row.id, "failed", problem)
    return rows.empty(s, [row.id])


def _require_handling(s: Session, source_id: int, personal_data: Handling) -> None:
    """The source stays, and handles personal data like this, until this transaction ends."""
    query = select(SourceRow.personal_data).where(SourceRow.id == source_id)
    wanted = s.exec(query.with_for_update(read=True)).first()
    if wanted is None:
        raise Conflict("この資料の取り込み元は削除されています。")
    if wanted != personal_data:
        raise Conflict("取り込み元の「個人情報の扱い」が変わりました。")


def _require_source(s: Session, source_id: int) -> None:
    """The source stays until this transaction ends."""
    query = select(SourceRow.id).where(SourceRow.id == source_id)
    if s.exec(query.with_for_update(read=True, key_share=True)).first() is None:
        raise Conflict("この資料の取り込み元は削除されています。")


def _new_row(s: Session, source_id: int, file: RawFile) -> DocumentRow:
    _require_source(s, source_id)
    return DocumentRow(
        id=uuid.uuid4().hex,
        source_id=source_id,
        uri=file.uri,
        uri_digest=accesses.digest(file.uri),
        version=file.version,
        title="",
        access_id=0,
        status="ready",
        modified_at=file.modified_at,
    )


def _outdate(s: Session, row: DocumentRow) -> None:
    """Its text, and those of what is inside it, are of an earlier version now."""
    family = or_(col(DocumentRow.id) == row.id, col(DocumentRow.parent_id) == row.id)
    texts = update(DocumentRow).where(family, col(DocumentRow.embedder).is_not(None))
    s.connection().execute(texts.values(outdated=True))
    s.expire(row, ["outdated"])
    scans.want(s, row.id, row.digest, ())


def _admit(s: Session, row: DocumentRow, access: Access) -> dict[str, bytes]:
    """They may read it from now on. Returns the chunks that were lost by it."""
    before, row.access_id = row.access_id, _access_id(s, access)
    s.add(row)
    s.flush()
    return {} if row.access_id == before else inside.admitted(s, row, before)


def _access_id(s: Session, access: Access) -> int:
    layers = accesses.to_json(access)
    digest = accesses.digest(layers)
    query = select(AccessRow.id).where(AccessRow.digest == digest)
    if (known := s.exec(query).first()) is not None:
        return known
    kind = sqlite if s.get_bind().dialect.name == "sqlite" else postgresql
    with s.no_autoflush:
        s.connection().execute(
            kind.insert(AccessRow)
            .values(digest=digest, layers=layers)
            .on_conflict_do_nothing(index_elements=["digest"])
        )
        return s.exec(query).one() or 0


def _forget(s: Session, row: DocumentRow) -> None:
    rows.forget(s, [*inside.ids(s, row.id), row.id])
    s.expunge(row)


def forget_some(s: Session, source_id: int, limit: int) -> int:
    """Some `limit` documents of a source, within a transaction: fewer only if they were the last.
    Returns how many went.

    Files inside others go first. The others are locked before, as everybody does who changes both.
    """
    mine = select(DocumentRow.id).where(DocumentRow.source_id == source_id)
    first = mine.where(col(DocumentRow.parent_id).is_(None)).limit(limit)
    own = list(s.exec(first.with_for_update()))
    inner = mine.where(col(DocumentRow.parent_id).in_(own)).limit(limit)
    ids = list(s.exec(inner.with_for_update()))
    if len(ids) < limit:  # none is left inside them
        ids += own
    rows.forget(s, ids)
    return len(ids)


def _log(s: Session, row: DocumentRow, lost: Mapping[str, bytes] = {}) -> None:
    """It changed, and what is inside it with it."""
    rows.log(s, dict.fromkeys([row.id, *inside.carry(s, row)], b"") | dict(lost))


def _sizes(s: Session, ids: set[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for block in blocks(ids):
        sizes |= dict(
            s.exec(
                select(ChunkRow.document_id, func.count())
                .where(col(ChunkRow.document_id).in_(block))
                .group_by(col(ChunkRow.document_id))
            ).all()
        )
    return sizes


def _entries(s: Session, column: Any, ids: set[Any], embedder: str | None) -> list[Entry]:
    found: list[Any] = []
    beside = col(VectorRow.chunk_id) == ChunkRow.id
    other = and_(beside, col(VectorRow.space) == (embedder or ""))
    own = col(DocumentRow.embedder) == embedder
    same = and_(True) if embedder is None else or_(own, col(VectorRow.chunk_id).is_not(None))
    for block in blocks(ids):
        found += s.exec(
            select(ChunkRow, DocumentRow, PointRow.vector, VectorRow.vector)
            .join(DocumentRow, col(DocumentRow.id) == col(ChunkRow.document_id))
            .join(PointRow, col(PointRow.id) == col(ChunkRow.point_id))
            .join(VectorRow, other, isouter=True)
            .where(column.in_(block), same)
        ).all()
    texts = _texts(s, {document.id for _, document, *_ in found})
    return [
        Entry(
            chunk.id,
            d.access_id,
            entry_text(
                d.title,
                d.own_title,
                chunk.heading,
                texts[d.id][chunk.start : chunk.end],
                d.holder,
            ),
            np.frombuffer(vector if embedder in (None, d.embedder) else beside, "<f4").astype(
                np.float32
            ),
        )
        for chunk, d, vector, beside in sorted(found, key=lambda row: row[0].id)
    ]


def _texts(s: Session, ids: Collection[str]) -> dict[str, str]:
    """Document id → its text, which is read once however many have it."""
    held: dict[str, int | None] = {}
    for block in blocks(ids):
        mine = col(BodyRow.document_id).in_(block)
        held |= dict(s.exec(select(BodyRow.document_id, BodyRow.wording_id).where(mine)).all())
    texts: dict[int | None, str] = {}
    for some in blocks({*held.values()}):
        query = select(WordingRow.id, WordingRow.text).where(col(WordingRow.id).in_(some))
        texts |= dict(s.exec(query).all())
    return {i: texts[wording] for i, wording in held.items()}


def _stored() -> Any:
    columns = [_STORED[n] if n in _STORED else getattr(DocumentRow, n) for n in Stored._fields[:-1]]
    return columns_of(*columns, col(AccessRow.digest)).join(
        AccessRow, col(AccessRow.id) == col(DocumentRow.access_id)
    )


def _listed() -> Any:
    searchable = (
        select(ChunkRow.id).where(ChunkRow.document_id == DocumentRow.id).correlate(DocumentRow)
    )
    child = aliased(DocumentRow)
    children = select(func.count()).where(child.parent_id == DocumentRow.id).correlate(DocumentRow)
    bad = children.where(child.status == "problem")
    columns = (
        searchable.exists(),
        children.scalar_subquery(),
        bad.scalar_subquery(),
        col(MetadataRow.confidentiality),
    )
    return (
        columns_of(DocumentRow, col(SourceRow.name), *columns)
        .join(SourceRow, col(SourceRow.id) == col(DocumentRow.source_id))
        .outerjoin(MetadataRow, col(MetadataRow.document_id) == col(DocumentRow.id))
    )


def _as_listed(row: Any, held: Mapping[str, Mapping[str, int]]) -> Listed:
    d, source, searchable, children, bad, confidentiality = row
    return Listed(
        id=d.id,
        source_id=d.source_id,
        source=source,
        uri=d.uri,
        title=d.title,
        status="problem" if d.status == "problem" else "ready",
        problem=d.problem,
        notes=tuple(d.notes),
        searchable=searchable,
        attempts=d.attempts,
        next_attempt_at=d.next_attempt_at,
        media_type=d.media_type,
        size_bytes=d.size_bytes,
        modified_at=d.modified_at,
        added_at=d.added_at,
        updated_at=d.updated_at,
        parent_id=d.parent_id,
        within=accesses.within(d.holder, d.inside),
        children=children,
        children_problems=bad,
        confidentiality=confidentiality,
        personal=held.get(d.id, {}),
    )
