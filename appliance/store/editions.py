"""Which documents are out of date, for one viewer: nobody learns of a version he may not read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

from sqlalchemy import Engine, delete, func, insert
from sqlmodel import Session, col, select

from appliance.store import access
from appliance.store.access import blocks
from appliance.store.database import reading, writing
from appliance.store.tables import BodyRow, DocumentRow, EditionRow, WordingRow
from appliance.text import versions
from appliance.types import Version, Viewer

Standing = Literal["in_force", "superseded", "ahead"]

SERIES = 50  # so many documents of one name are a series, not versions


@dataclass(frozen=True, slots=True)
class Edition:
    """One of the versions of a document."""

    document_id: str
    title: str
    on: date | None  # since when it is in force
    standing: Standing


def keep(s: Session, document_id: str, title: str, text: str) -> None:
    """What a document says of its version, within a transaction."""
    s.connection().execute(delete(EditionRow).where(col(EditionRow.document_id) == document_id))
    document = s.get(DocumentRow, document_id)
    row = of(document_id, title, text, document.in_force if document else None)
    s.connection().execute(insert(EditionRow), [row])


def of(document_id: str, title: str, text: str, in_force: date | None) -> dict[str, Any]:
    """The columns of its row. Since when it is `in_force`, a person knows better."""
    said = versions.edition(title, text)
    on = in_force or said.on
    return {
        "document_id": document_id,
        "stem": said.stem[:200],
        "said": asdict(said) | {"on": on.isoformat() if on else None},
        "sketch": versions.sketch(text) if said.stem else b"",
    }


def fill(engine: Engine, block: int = 200) -> Iterator[int]:
    """Look at the documents that an older release took in. Yields how many, block by block."""
    while True:
        with writing(engine) as s:
            rows = s.exec(
                select(DocumentRow.id, DocumentRow.title, WordingRow.text)
                .join(BodyRow, col(BodyRow.document_id) == col(DocumentRow.id))
                .join(WordingRow, col(WordingRow.id) == col(BodyRow.wording_id))
                .outerjoin(EditionRow, col(EditionRow.document_id) == col(DocumentRow.id))
                .where(col(EditionRow.document_id).is_(None))
                .limit(block)
            ).all()
            for document_id, title, text in rows:
                keep(s, document_id, title, text)
        if not rows:
            return
        yield len(rows)


def outdated(
    engine: Engine, viewer: Viewer, ids: Collection[str], today: date
) -> dict[str, Version]:
    """Those of `ids` that are not in force, with the version that is (or was before).

    Only documents that the viewer may read take the place of others.
    """
    if not ids:
        return {}
    with reading(engine) as s:
        families = _families(s, ids)
        visible = access.visible(s, viewer, {i for rows in families.values() for i in rows})
        found: dict[str, Version] = {}
        for rows in families.values():
            shown = {i: row for i, row in rows.items() if i in visible}
            for i in shown.keys() & set(ids):
                if version := _in_place_of(i, shown, today):
                    found[i] = version
        return found


def family(
    engine: Engine, viewer: Viewer | None, document_id: str, today: date
) -> tuple[Edition, ...]:
    """Its versions and itself, the newest first; empty where it is the only one.

    Those alone that the viewer may read; None is an administrator, who may know of all.
    """
    with reading(engine) as s:
        (rows,) = _families(s, [document_id]).values() or ({},)
        seen = set(rows) if viewer is None else access.visible(s, viewer, rows)
        if document_id not in seen:
            return ()
        sketch = rows[document_id][1]
        mine = {
            i: row
            for i, row in rows.items()
            if i in seen and (i == document_id or versions.alike(sketch, row[1]) >= versions.ALIKE)
        }
    if len(mine) < 2:
        return ()
    found = []
    for i, (said, _, title) in mine.items():
        other = _in_place_of(i, mine, today)
        found.append(Edition(i, title, said.on, other.standing if other else "in_force"))
    order = {"ahead": 0, "in_force": 1, "superseded": 2}
    return tuple(
        sorted(found, key=lambda e: (order[e.standing], -(e.on or date.min).toordinal(), e.title))
    )


def _families(s: Session, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Stem → document id → its row, of the stems that some of `ids` have."""
    stems: set[str] = set()
    for block in blocks(ids):
        stems |= set(s.exec(select(EditionRow.stem).where(col(EditionRow.document_id).in_(block))))
    counted: dict[str, int] = {}
    for block in blocks(stems - {""}):
        counted |= dict(
            s.exec(
                select(EditionRow.stem, func.count())
                .where(col(EditionRow.stem).in_(block))
                .group_by(col(EditionRow.stem))
            ).all()
        )
    families: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for block in blocks(stem for stem, n in counted.items() if 1 < n <= SERIES):
        rows = s.exec(
            select(EditionRow, DocumentRow.title)
            .join(DocumentRow, col(DocumentRow.id) == col(EditionRow.document_id))
            .where(col(EditionRow.stem).in_(block))
        )
        for row, title in rows:
            families[row.stem][row.document_id] = (_edition(row.said), row.sketch, title)
    return families


def _in_place_of(document_id: str, family: dict[str, Any], today: date) -> Version | None:
    """The version that is in force in place of this one; None where this one is."""
    said, sketch, _ = family[document_id]
    related = {
        i: (other, title)
        for i, (other, other_sketch, title) in family.items()
        if i != document_id and versions.alike(sketch, other_sketch) >= versions.ALIKE
    }
    ahead = said.on is not None and said.on > today
    for i, (other, title) in related.items():
        later = other.on is not None and other.on > today
        if ahead and not later and versions.newer(said, other):
            return Version(i, title, other.on, "ahead", said.on)
        if not ahead and not later and versions.newer(other, said):
            return Version(i, title, other.on, "superseded", said.on)
    return None


def _edition(said: dict[str, Any]) -> versions.Edition:
    on = date.fromisoformat(said["on"]) if said["on"] else None
    return versions.Edition(**said | {"on": on, "number": tuple(said["number"])})
