"""Names that documents' access holds and nobody counts as: who should read them, and cannot.

Each is said to be somebody by a mapping (`identities.say`), or is somebody's once a directory tells so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Engine, func
from sqlmodel import Session, col, select

from appliance.store import access
from appliance.store.database import reading
from appliance.store.tables import (
    AccessRow,
    DirectoryRow,
    DocumentRow,
    EntryRow,
    GroupRow,
    LinkRow,
    MappingRow,
    SourceRow,
    UserRow,
)
from appliance.types import EVERYONE

_BLOCK = 400  # names in one question


@dataclass(frozen=True, slots=True)
class Stranger:
    """`documents`: that name it among those who may read, or may not."""

    principal: str
    documents: int
    sources: tuple[str, ...]


def strangers(engine: Engine, limit: int) -> tuple[list[Stranger], int]:
    """Those of most documents first, and how many there are in all."""
    documents, sources = defaultdict[str, int](int), defaultdict[str, set[int]](set)
    with reading(engine) as s:
        counted = s.exec(
            select(DocumentRow.source_id, DocumentRow.access_id, func.count()).group_by(
                col(DocumentRow.source_id), col(DocumentRow.access_id)
            )
        ).all()
        names = dict(s.exec(select(SourceRow.id, SourceRow.name)).all())
        used = defaultdict[int, list[tuple[int, int]]](list)
        for source_id, access_id, count in counted:
            used[access_id].append((source_id, count))
        for block in access.blocks(set(used)):
            for row in s.exec(select(AccessRow).where(col(AccessRow.id).in_(block))):
                layers = access.parse(row.digest, row.layers)
                for one in {name for layer in layers for name in (*layer.allow, *layer.deny)}:
                    for source_id, count in used[row.id or 0]:
                        documents[one] += count
                        sources[one].add(source_id)
        unknown = documents.keys() - _known(s, documents)
    order = sorted(unknown, key=lambda one: (-documents[one], one))
    found = [
        Stranger(one, documents[one], tuple(sorted(names[i] for i in sources[one])))
        for one in order[:limit]
    ]
    return found, len(order)


def _known(s: Session, named: Collection[str]) -> set[str]:
    """Those that somebody is, or could be: accounts, groups, entries, and what counts as one."""
    found, left = {str(EVERYONE)}, sorted(named)
    live = select(DirectoryRow.id).where(col(DirectoryRow.enabled))
    for start in range(0, len(left), _BLOCK):
        some = left[start : start + _BLOCK]
        bare = [one.partition(":")[2] for one in some]
        found |= {f"user:{i}" for i in s.exec(select(UserRow.id).where(col(UserRow.id).in_(bare)))}
        groups = select(GroupRow.name).where(col(GroupRow.name).in_(bare))
        found |= {f"group:{name}" for name in s.exec(groups)}
        found |= set(s.exec(select(MappingRow.who).where(col(MappingRow.who).in_(some))))
        entries = select(EntryRow.node).where(
            col(EntryRow.directory_id).in_(live), col(EntryRow.node).in_(some)
        )
        found |= set(s.exec(entries))
        links = select(LinkRow.counts_as).where(
            col(LinkRow.directory_id).in_(live), col(LinkRow.counts_as).in_(some)
        )
        found |= set(s.exec(links.distinct()))
    return found
