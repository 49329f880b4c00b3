"""Files inside a file, within the transaction that changes it: what holds for it holds for them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import case, insert, literal, or_, update
from sqlmodel import Session, col, select

from appliance.errors import Conflict
from appliance.store import about, history, rows, scans
from appliance.store import access as accesses
from appliance.store.rows import clean
from appliance.store.tables import DocumentRow, HistoryRow, now
from appliance.text import personal
from appliance.text.personal import Handling
from appliance.text.split import SEPARATOR
from appliance.types import Child, Chunk, Document, Vectors

OTHERS = "新しい内容を読めないうちに、閲覧できる人が変わりました。読めるまで検索できません。"
_UNREAD: dict[str, Any] = {
    "own_title": None,
    "embedder": None,
    "sizes": None,
    "notes": [],
    "outdated": False,
    "read_as": None,
}
_MADE = ("digest", "embedder", "sizes", "personal_data")  # of what, and how, a text was made


class Held(NamedTuple):
    """What the catalogue knows of a file inside another."""

    document_id: str
    path: str
    digest: str | None
    embedder: str | None
    sizes: str | None
    personal_data: Handling | None
    corrected: str | None  # the title that a person gave it

    def is_of(self, digest: str | None, sizes: str, handling: Handling) -> bool:
        """True if it was made of that, and is kept as it would be now, by whichever embedder."""
        made = (self.digest, self.sizes, self.personal_data)
        return self.embedder is not None and made == (digest, sizes, handling)


@dataclass(frozen=True, slots=True)
class Inner:
    """A file inside another, as it is to be kept."""

    child: Child  # as its source lets it be shown
    digest: str | None  # of what was made of it
    kept: str | None = None  # the document it was until now
    same: bool = False  # and its text, chunks and vectors are those
    problem: str | None = None
    withheld: bool = False  # for its personal data: none of its text is kept
    counts: Mapping[str, int] = field(default_factory=dict)  # of personal data, by kind
    embedded_as: str = ""  # the title in its vectors
    chunks: Sequence[Chunk] = ()
    vectors: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))
    said: Sequence[bytes] = ()  # what was embedded: `alike.of_entry`
    waiting: Collection[int] = ()  # pages of it that are still to be read
    bytes_digest: str | None = None  # of its bytes, which the pages are of


def title_of(path: str) -> str:
    """The name alone of a file inside another."""
    return path.split(SEPARATOR)[-1].split("/")[-1] or path


def holder_of(uri: str, title: str) -> str:
    """What a file is called by those inside it: by its name with the ending, where that is known."""
    name = uri.rsplit("/", 1)[-1]
    return name if name.startswith(f"{title}.") else title


def held(s: Session, document_id: str) -> list[Held]:
    columns = (
        DocumentRow.id,
        DocumentRow.inside,
        DocumentRow.digest,
        DocumentRow.embedder,
        DocumentRow.sizes,
        DocumentRow.personal_data,
        case((col(DocumentRow.given_title).is_not(None), col(DocumentRow.title))),
    )
    query = select(*columns).where(DocumentRow.parent_id == document_id)  # type: ignore[call-overload]
    return [Held(*row) for row in s.exec(query)]


def ids(s: Session, document_id: str) -> list[str]:
    return list(s.exec(select(DocumentRow.id).where(DocumentRow.parent_id == document_id)))


def carry(s: Session, parent: DocumentRow) -> list[str]:
    """They are where it is, and whoever may read it may read them. Returns which they are."""
    found = ids(s, parent.id)
    if found:
        s.connection().execute(
            update(DocumentRow)
            .where(col(DocumentRow.parent_id) == parent.id)
            .values(
                access_id=parent.access_id,
                holder=holder_of(parent.uri, parent.title),
                uri=literal(parent.uri + SEPARATOR) + col(DocumentRow.inside),
            )
        )
    return found


def admitted(s: Session, parent: DocumentRow, before: int) -> dict[str, bytes]:
    """Others may read it now than `before`. Returns the chunks that it and those inside it lost.

    Whoever is let in is not let in to what a file was before: such a text goes.
    """
    family = or_(col(DocumentRow.id) == parent.id, col(DocumentRow.parent_id) == parent.id)
    found = list(s.exec(select(DocumentRow.id).where(family, DocumentRow.outdated)))
    if not found or accesses.narrows(s, before, parent.access_id):
        return {}
    mine = col(DocumentRow.id).in_(found)
    s.connection().execute(update(DocumentRow).where(mine).values(**_UNREAD))
    s.connection().execute(
        update(DocumentRow)
        .where(mine, col(DocumentRow.status) == "ready")
        .values(status="problem", problem=OTHERS)
    )
    s.expire(parent)
    return rows.empty(s, found)


def note(s: Session, parent: DocumentRow, kind: history.Kind, detail: str = "") -> None:
    """What happened to a document happened to those inside it; `detail` is a place of it."""
    mine = select(DocumentRow.id, DocumentRow.inside).where(DocumentRow.parent_id == parent.id)
    told = [(i, kind, detail and f"{detail}{SEPARATOR}{path}") for i, path in s.exec(mine)]
    history.note_each(s, [(parent.id, kind, detail), *told])


def date(s: Session, parent: DocumentRow, before: datetime) -> None:
    """Those that have no date of their own have the parent's."""
    if parent.modified_at != before:
        s.connection().execute(
            update(DocumentRow)
            .where(col(DocumentRow.parent_id) == parent.id, col(DocumentRow.modified_at) == before)
            .values(modified_at=parent.modified_at)
        )


def mask(s: Session, row: DocumentRow) -> None:
    """Its places may show what must not be seen any more; the next reading names it anew."""
    for event in s.exec(select(HistoryRow).where(HistoryRow.document_id == row.id)):
        event.detail = quiet(event.detail)
        s.add(event)
    path = quiet(row.inside or "")
    if path != row.inside:
        row.uri = f"{row.uri.removesuffix(row.inside or '')}{path}"
        row.inside, row.uri_digest = path, row.id


def quiet(path: str) -> str:
    """The path without personal data, and of the same length: in it or in its name alone."""
    path = personal.masked(path)
    name = title_of(path)
    return path[: len(path) - len(name)] + personal.masked(name)


def replace(
    s: Session,
    parent: DocumentRow,
    wanted: Sequence[Inner],
    embedder: str,
    sizes: str | None,
    handling: Handling,
) -> dict[str, bytes]:
    """These and no others are inside it. Returns those that changed, with the chunks they lost.

    One that cannot be read keeps its last good text. Raises Conflict where one that is to be kept
    is gone, or is not what it was.
    """
    mine = select(DocumentRow).where(DocumentRow.parent_id == parent.id)
    there = {row.id: row for row in s.exec(mine.with_for_update())}
    kept = {one.kept for one in wanted if one.kept}
    if kept - there.keys():
        raise Conflict("中のファイルがなくなっています。")
    gone = [i for i in there if i not in kept]
    for i in gone:
        s.expunge(there[i])
    rows.forget(s, gone)
    _let_change_places(s, parent, there, wanted)
    changed: dict[str, bytes] = {}
    new: list[dict[str, Any]] = []
    fresh: list[tuple[str, Inner, Document]] = []
    texts: dict[str, rows.Text] = {}
    withheld: dict[str, Mapping[str, int]] = {}
    paged: list[tuple[str, Inner]] = []
    told: list[tuple[str, history.Kind, str]] = []
    had_pages = scans.of_those_inside(s, parent.id)
    lost: dict[str, bytes] = {}
    for one in wanted:
        values = _values(parent, one, embedder, sizes, handling)
        document_id, document = one.kept or uuid.uuid4().hex, one.child.document
        failed = document is None and not one.withheld
        renamed, in_force = False, None
        if one.kept:
            row = there[one.kept]
            if one.same and row.embedder:
                values["embedder"] = row.embedder
            if one.same and any(getattr(row, name) != values[name] for name in _MADE):
                raise Conflict("中のファイルが変わっています。")
            renamed, in_force = row.inside != values["inside"], row.in_force
            values["attempts"] = row.attempts + 1 if failed else 0
            values["outdated"] = failed and row.embedder is not None
            if values["outdated"] and not accesses.narrows(s, row.access_id, parent.access_id):
                values |= _UNREAD
                lost |= rows.empty(s, [row.id])
            _keep_what_was_corrected(row, one, values)
            told += [(row.id, *event) for event in _events(row, one, values, handling)]
            if _changed(row, values):
                changed[row.id] = b""
        else:
            told += [(document_id, *_first(one, values))]
            values |= {"id": document_id, "attempts": int(failed)}
            values |= {"added_at": now(), "updated_at": now()}
            new.append(values)
        if one.withheld:
            withheld[document_id] = one.counts
        elif document is not None:
            if one.waiting or document_id in had_pages:
                paged.append((document_id, one))
            if not one.same:
                fresh.append((document_id, one, document))
            if not one.same or renamed:  # a name may say something too
                texts[document_id] = rows.Text(values["title"], document, one.counts, in_force)
    s.flush()
    if new:
        s.connection().execute(insert(DocumentRow), new)
    changed |= {i: b"" for i, *_ in fresh}
    changed |= rows.drop_chunks(s, [i for i, one, _ in fresh if one.kept])
    changed |= lost | rows.empty(s, [*withheld])
    about.count(s, withheld)
    rows.set_texts(s, texts)
    for i, one, document in fresh:
        rows.add_chunks(s, i, document.marks, one.chunks, one.vectors, one.said)
    for i, one in paged:
        scans.want(s, i, one.bytes_digest, one.waiting)
    if handling == "mask":
        scans.unlearn(s, [i for i, one in paged if one.counts])
    history.note_each(s, told)
    return changed


def _keep_what_was_corrected(row: DocumentRow, one: Inner, values: dict[str, Any]) -> None:
    """The title that a person gave it stays, also in its vectors."""
    if row.given_title is not None:
        values["given_title"], values["title"] = values["title"], row.title
    if one.child.document is not None and not one.same:
        late = values["title"] != clean(one.embedded_as)  # corrected meanwhile
        values["again"], values["again_at"] = ("title", now()) if late else (None, None)


def _first(one: Inner, values: Mapping[str, Any]) -> tuple[history.Kind, str]:
    """What its history begins with."""
    return ("failed", values["problem"]) if one.problem and not one.waiting else ("added", "")


def _events(
    row: DocumentRow, one: Inner, values: Mapping[str, Any], handling: Handling
) -> list[tuple[history.Kind, str]]:
    """What happens to one that was there before."""
    found: list[tuple[history.Kind, str]] = []
    if row.inside != values["inside"]:
        found.append(("moved", row.uri if handling == "show" else quiet(row.uri)))
    if row.access_id != values["access_id"]:
        found.append(("access", ""))
    if one.problem and not one.waiting:
        if one.problem != row.problem:  # the same again and again is told once
            found.append(("failed", values["problem"]))
    elif one.child.document is not None and not one.same:
        known: history.Kind = "reread" if row.digest == one.digest else "changed"
        found.append((known if row.digest else "added", ""))
    return found


def _changed(row: DocumentRow, values: dict[str, Any]) -> bool:
    """Takes them over. True if what may be found is another."""
    if others := {k: v for k, v in values.items() if getattr(row, k) != v}:
        for key, value in others.items():
            setattr(row, key, value)
        row.updated_at = now()
    return bool(others.keys() & {"access_id", "holder", "title", "uri"})


def _let_change_places(
    s: Session, parent: DocumentRow, there: dict[str, DocumentRow], wanted: Sequence[Inner]
) -> None:
    """Two may have taken each other's name, and no two rows may have one at any moment."""
    for one in wanted:
        if one.kept and there[one.kept].inside != one.child.path:
            there[one.kept].uri_digest = one.kept
            s.add(there[one.kept])
    s.flush()


def _values(
    parent: DocumentRow, one: Inner, embedder: str, sizes: str | None, handling: Handling
) -> dict[str, Any]:
    """Columns of its row. What cannot be read leaves those of its text as they were."""
    child, document, path = one.child, one.child.document, clean(one.child.path)
    values = {
        "source_id": parent.source_id,
        "parent_id": parent.id,
        "holder": holder_of(parent.uri, parent.title),
        "inside": path,
        "at": [*child.at] or None,
        "uri": f"{parent.uri}{SEPARATOR}{path}",
        # no uri of a source has this digest: what is stored of one has no such character in it
        "uri_digest": accesses.digest(f"{parent.id}\0{path}"),
        "version": parent.version,
        "title": title_of(path),
        "access_id": parent.access_id,
        "status": "problem" if one.problem else "ready",
        "problem": clean(one.problem) if one.problem else None,
        "next_attempt_at": None,
        "media_type": child.media_type,
        "size_bytes": child.size_bytes,
        "modified_at": child.modified_at or parent.modified_at,
    }
    text = {
        "own_title": clean(document.title) if document and document.title else None,
        "notes": [clean(note) for note in document.problems] if document else [],
        "digest": one.digest,
        "embedder": embedder if document else None,
        "sizes": sizes if document else None,
        "personal_data": handling if document or one.withheld else None,
    }
    if document or one.withheld or not one.kept:
        values |= text
    return values
