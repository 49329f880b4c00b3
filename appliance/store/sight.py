"""What somebody may read, and by which rule: for an administrator who is asked why.

Decided by the same `Layer.admits` as every look at text; here it is told who was meant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Engine, func
from sqlmodel import Session, col, select

from appliance.errors import NotVisible
from appliance.store import access
from appliance.store.counting import Counting, Held, Way
from appliance.store.database import reading
from appliance.store.tables import AccessRow, DocumentRow, SourceRow, UserRow
from appliance.types import Access, Layer, Principal, admits


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    display_name: str
    disabled: bool  # who is, may read nothing
    held: Held


@dataclass(frozen=True, slots=True)
class Shelf:
    """A source, as somebody sees it."""

    source: str
    documents: int
    seen: int
    withheld: bool  # nobody knows now who may read it, so nobody may


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a layer says of somebody: allowed and not denied, it admits."""

    layer: Layer
    allowed: tuple[Way, ...]
    denied: tuple[Way, ...]

    @property
    def admits(self) -> bool:
        return bool(self.allowed) and not self.denied


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reads`: of the document, now."""

    person: Person
    reads: bool
    rulings: tuple[Ruling, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """A document, and what every layer of its access says of each person; disabled ones left out."""

    id: str
    source: str
    title: str
    withheld: bool
    access: Access
    verdicts: tuple[Verdict, ...]


def person(engine: Engine, user_id: str, also: Collection[Principal] = ()) -> Person:
    """`also`: groups they are thought to be in, to see what that would change. Raises NotVisible."""
    with reading(engine) as s:
        row = s.get(UserRow, user_id)
        if row is None:
            raise NotVisible("利用者が見つかりません。")
        return _person(row, Counting(s), also)


def shelves(engine: Engine, who: Person) -> list[Shelf]:
    """Every source, by name."""
    mine = frozenset(who.held)
    with reading(engine) as s:
        shut = access.shut(s)
        counted = s.exec(
            select(DocumentRow.source_id, DocumentRow.access_id, func.count()).group_by(
                col(DocumentRow.source_id), col(DocumentRow.access_id)
            )
        ).all()
        known = _accesses(s, {access_id for _, access_id, _ in counted})
        total, seen = defaultdict[int, int](int), defaultdict[int, int](int)
        for source_id, access_id, count in counted:
            total[source_id] += count
            if not who.disabled and source_id not in shut and admits(known[access_id], mine):
                seen[source_id] += count
        named = s.exec(select(SourceRow.id, SourceRow.name).order_by(col(SourceRow.name)))
        return [Shelf(name, total[i or 0], seen[i or 0], i in shut) for i, name in named]


def watched(
    engine: Engine, document: str, user_id: str = "", also: Collection[Principal] = ()
) -> Watched:
    """A document by its id, or by "source/uri"; of all people, or of one.

    Raises NotVisible where there is no such document or user.
    """
    with reading(engine) as s:
        row = _document(s, document)
        source = s.get_one(SourceRow, row.source_id)
        given = _accesses(s, {row.access_id})[row.access_id]
        shut = row.source_id in access.shut(s)
        counting = Counting(s)
        query = select(UserRow).order_by(col(UserRow.id))
        query = (
            query.where(UserRow.id == user_id) if user_id else query.where(~col(UserRow.disabled))
        )
        people = [_person(one, counting, also) for one in s.exec(query)]
        if user_id and not people:
            raise NotVisible("利用者が見つかりません。")
        verdicts = tuple(_verdict(one, given, shut=shut) for one in people)
        return Watched(row.id, source.name, row.title, shut, given, verdicts)


def _verdict(who: Person, given: Access, *, shut: bool) -> Verdict:
    reads = not who.disabled and not shut and admits(given, frozenset(who.held))
    rulings = tuple(
        Ruling(layer, _ways(layer.allow, who.held), _ways(layer.deny, who.held)) for layer in given
    )
    return Verdict(who, reads, rulings)


def _ways(named: Collection[Principal], held: Held) -> tuple[Way, ...]:
    return tuple(held[one] for one in sorted(named) if one in held)


def _person(row: UserRow, counting: Counting, also: Collection[Principal]) -> Person:
    return Person(row.id, row.display_name, row.disabled, counting.of(row.id, also))


def _document(s: Session, named: str) -> DocumentRow:
    if row := s.get(DocumentRow, named):
        return row
    at = named.find("/")
    while at >= 0:  # a source's name may hold a slash too
        found = s.exec(
            select(DocumentRow)
            .join(SourceRow, col(SourceRow.id) == col(DocumentRow.source_id))
            .where(
                SourceRow.name == named[:at],
                DocumentRow.uri_digest == access.digest(named[at + 1 :]),
            )
        ).first()
        if found:
            return found
        at = named.find("/", at + 1)
    raise NotVisible("資料が見つかりません。")


def _accesses(s: Session, ids: Collection[int]) -> dict[int, Access]:
    return {
        row.id or 0: access.parse(row.digest, row.layers)
        for block in access.blocks(ids)
        for row in s.exec(select(AccessRow).where(col(AccessRow.id).in_(block)))
    }
