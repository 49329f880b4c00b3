"""Who the entries of directories are in Kura: by a rule, or as an administrator says.

A person is the account whose id is their name (or address) there; two of one name are nobody. A group
has the name it had when it was first seen, unless that is another's: nobody who may name groups in a
directory gets into a group that was made here. What is said by hand goes before all of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Engine, func, or_
from sqlmodel import Session, col, select

from appliance.errors import BadRequest, Conflict, NotVisible
from appliance.store import directories
from appliance.store.database import lock, reading, writing
from appliance.store.people import PEOPLE_LOCK
from appliance.store.tables import (
    DirectoryRow,
    EntryRow,
    GroupRow,
    LinkRow,
    MappingRow,
    SourceRow,
    UserRow,
    now,
)

NOBODY = "nobody"
_ID = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_GROUP = re.compile(r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff,]{1,100}")
_MEANS = re.compile(r"(user|group):.+|nobody")
_AT_ONCE = 500  # entries in one transaction


@dataclass(frozen=True, slots=True)
class Entry:
    """A person or group of a directory, and who that is here."""

    guid: str
    directory: str
    kind: str
    dn: str
    node: str
    sid: str
    name: str
    mail: str
    title: str
    disabled: bool
    principal: str | None
    by_hand: bool
    problem: str | None  # why it is nobody, or only in part


@dataclass(frozen=True, slots=True)
class Around:
    """An entry, who is in it, and what it is in. `total`: of members, seen by the directory or not."""

    entry: Entry
    members: list[Entry]
    total: int
    groups: list[Entry]


@dataclass(frozen=True, slots=True)
class Suspension:
    """An account that the directory switches off, or on again."""

    user_id: str
    disabled: bool
    entries: tuple[int, ...]


def join(engine: Engine) -> int:
    """Decide for all entries who they are. How many are somebody else than before."""
    with reading(engine) as s:
        decided = _decided(s)
        links = defaultdict[int, set[tuple[str, str]]](set)
        query = select(LinkRow.entry_id, LinkRow.principal, LinkRow.counts_as)
        for entry_id, one, after in s.exec(query.where(col(LinkRow.own))):
            links[entry_id].add((one, after))
        standing = {
            entry_id: (principal, problem)
            for entry_id, principal, problem in s.exec(
                select(EntryRow.id, EntryRow.principal, EntryRow.problem)
            )
        }
    changed = [
        (entry_id, *meant)
        for entry_id, meant in decided.items()
        if standing[entry_id] != meant[:2] or links[entry_id] != meant[2]
    ]
    # who loses something goes first
    changed.sort(key=lambda one: not links[one[0]] - one[3])
    for start in range(0, len(changed), _AT_ONCE):
        with writing(engine) as s:
            for entry_id, principal, problem, wanted in changed[start : start + _AT_ONCE]:
                if (row := s.get(EntryRow, entry_id)) is None:
                    continue
                row.principal, row.problem = principal, problem
                s.add(row)
                s.flush()
                directories.relink(s, row, wanted)
    return len(changed)


def suspensions(engine: Engine) -> list[Suspension]:
    """Accounts that are not as their people in the directories are. Administrators' stay as they are."""
    moment, found = now(), list[Suspension]()
    with reading(engine) as s:
        wanted = {
            i
            for i, own in s.exec(select(DirectoryRow.id, DirectoryRow.settings))
            if own.get("suspend", True)
        }
        by_user = defaultdict[str, list[EntryRow]](list)
        query = select(EntryRow).where(
            EntryRow.kind == "person", col(EntryRow.principal).startswith("user:"),
            or_(col(EntryRow.disabled), col(EntryRow.suspended), col(EntryRow.expires_at) <= moment),
        )  # fmt: skip
        for row in s.exec(query):
            if row.directory_id in wanted and row.principal:
                by_user[row.principal].append(row)
        for principal, rows in by_user.items():
            user = s.get(UserRow, principal.removeprefix("user:"))
            if user is None or user.role == "administrator":
                continue
            every = s.exec(
                select(EntryRow).where(EntryRow.kind == "person", EntryRow.principal == principal)
            )
            off = all(_off(one, moment) for one in every)
            ids = tuple(row.id for row in rows if row.id)
            if off and not user.disabled and not any(row.suspended for row in rows):
                found.append(Suspension(user.id, True, ids))
            elif not off and any(row.suspended for row in rows):
                found.append(Suspension(user.id, False, ids))
    return found


def mark(engine: Engine, entries: tuple[int, ...], *, suspended: bool) -> None:
    with writing(engine) as s:
        for entry_id in entries:
            if row := s.get(EntryRow, entry_id):
                row.suspended = suspended
                s.add(row)


# --- what an administrator sees and says ------------------------------------------


def entries(
    engine: Engine,
    search: str = "",
    *,
    problems: bool = False,
    kind: str = "",
    limit: int = 100,
    offset: int = 0,
) -> list[Entry]:
    """By their names; `search` is a part of a name, DN, SID, address, or of who they are here."""
    query = select(EntryRow, DirectoryRow.name).join(
        DirectoryRow, col(DirectoryRow.id) == col(EntryRow.directory_id)
    )
    query = query.where(*_wanted(search, problems, kind))
    order = (col(EntryRow.kind), col(EntryRow.name), col(EntryRow.id))
    with reading(engine) as s:
        said = _said(s)
        rows = s.exec(query.order_by(*order).limit(limit).offset(offset))
        return [_entry(row, name, said) for row, name in rows]


def count(engine: Engine, search: str = "", *, problems: bool = False, kind: str = "") -> int:
    query = select(func.count()).select_from(EntryRow).where(*_wanted(search, problems, kind))
    with reading(engine) as s:
        return s.exec(query).one()


def around(engine: Engine, guid: str, limit: int = 200) -> Around:
    """Who is in a group, and in which groups somebody is, each told directly. Raises NotVisible."""
    with reading(engine) as s:
        said = _said(s)
        row = s.exec(select(EntryRow).where(EntryRow.guid == guid)).first()
        if row is None:
            raise NotVisible("ディレクトリにありません。消されたか、別のものになっています。")
        name = s.get_one(DirectoryRow, row.directory_id).name
        mine = LinkRow.directory_id == row.directory_id, ~col(LinkRow.own)
        below = select(LinkRow.principal).where(*mine, LinkRow.counts_as == row.node)
        above = select(LinkRow.counts_as).where(*mine, LinkRow.principal == row.node)
        total = s.exec(select(func.count()).select_from(below.distinct().subquery())).one()
        found = [
            [
                _entry(one, name, said)
                for one in s.exec(
                    select(EntryRow)
                    .where(EntryRow.directory_id == row.directory_id, col(EntryRow.node).in_(nodes))
                    .order_by(col(EntryRow.kind), col(EntryRow.name))
                    .limit(limit)
                )
            ]
            for nodes in (below, above)
        ]
        return Around(_entry(row, name, said), found[0], total, found[1])


def _wanted(search: str, problems: bool, kind: str) -> list[Any]:
    told: list[Any] = []
    if search:
        part = unicodedata.normalize("NFC", search).casefold()
        told.append(
            or_(
                *(
                    func.lower(column).contains(part, autoescape=True)
                    for column in (
                        col(EntryRow.name), col(EntryRow.dn), col(EntryRow.mail),
                        col(EntryRow.sid), col(EntryRow.title), col(EntryRow.guid),
                        col(EntryRow.principal),
                    )
                )
            )
        )  # fmt: skip
    if problems:
        told.append(col(EntryRow.problem).is_not(None))
    if kind:
        told.append(EntryRow.kind == kind)
    return told


def names(engine: Engine, nodes: Collection[str]) -> dict[str, str]:
    """What people call those of them that are entries of directories."""
    left = sorted(one for one in nodes if not one.startswith(("user:", "group:", "everyone")))
    found: dict[str, str] = {}
    with reading(engine) as s:
        for start in range(0, len(left), _AT_ONCE):
            query = select(EntryRow.node, EntryRow.title, EntryRow.name).where(
                col(EntryRow.node).in_(left[start : start + _AT_ONCE])
            )
            found |= {node: title or name for node, title, name in s.exec(query)}
    return found


def find(engine: Engine, named: str) -> Entry:
    """One entry by its id, DN, SID, name or address, exactly. Raises NotVisible, Conflict."""
    spelled = unicodedata.normalize("NFC", named).strip()
    folded = spelled.casefold()
    same = [
        one
        for one in entries(engine, spelled, limit=1000)
        if folded in (one.guid, one.sid.casefold(), one.dn.casefold(), one.name.casefold(), one.mail.casefold())
    ]  # fmt: skip
    if not same:
        raise NotVisible(f"「{named}」という人もグループも、ディレクトリにありません。")
    if len(same) > 1:
        which = "、".join(one.dn for one in same[:5])
        raise Conflict(f"「{named}」は {len(same)} 件あります。DN で指定してください: {which}")
    return same[0]


def meant(engine: Engine, named: str) -> str:
    """What `say` is told of: a name that a source uses, else an entry. Raises NotVisible, Conflict."""
    if named.startswith(("user:", "group:", "entry:")):
        return named
    return f"entry:{find(engine, named).guid}"


def mappings(engine: Engine) -> dict[str, str]:
    """All that was said by hand."""
    with reading(engine) as s:
        return _said(s)


def say(engine: Engine, who: str, means: str | None) -> None:
    """`who`: "entry:<guid>", or a name that a source uses ("user:…", "group:…"). None takes it back.

    Every source is due afterwards. Raises BadRequest, Conflict.
    """
    who = unicodedata.normalize("NFC", who).strip()
    means = unicodedata.normalize("NFC", means).strip() if means is not None else None
    kind, _, rest = who.partition(":")
    if kind not in ("entry", "user", "group") or not rest or len(who) > 300:
        raise BadRequest(f"「{who}」は user:… でも group:… でもありません。")
    if means is not None and (not _MEANS.fullmatch(means) or len(means) > 110 or means == who):
        raise BadRequest(f"「{means}」は user:… でも group:… でも nobody でもありません。")
    with writing(engine) as s:
        lock(s, PEOPLE_LOCK)
        if means is not None:
            _free(s, who)
        row = s.get(MappingRow, who)
        if means is None:
            if row is None:
                raise NotVisible(f"「{who}」の対応はありません。")
            s.delete(row)
        else:
            row = row or MappingRow(who=who, means=means)
            row.means = means
            s.add(row)
        for source in s.exec(select(SourceRow).where(SourceRow.kind == "smb")):
            source.wanted = True  # an entry may be known now
            s.add(source)


# --- below: the rule --------------------------------------------------------------


def free(engine: Engine, who: str) -> None:
    """Raises Conflict if a name that a source uses is somebody's here already."""
    with reading(engine) as s:
        _free(s, who)


def _free(s: Session, who: str) -> None:
    kind, _, rest = who.partition(":")
    if kind == "user" and s.get(UserRow, rest) is not None:
        raise Conflict(f"{who} は Kura の利用者です。ほかの人にはできません。")
    if kind == "group" and s.get(GroupRow, rest) is not None:
        raise Conflict(f"{who} は Kura のグループです。構成員に加えてください。")


Meant = tuple[str | None, str | None, set[tuple[str, str]]]  # principal, problem, links


class _Row(NamedTuple):
    """What is decided by: a hundred thousand of these stay small."""

    id: int
    directory_id: int
    guid: str
    kind: str
    node: str
    name: str
    upn: str
    mail: str
    disabled: bool
    expires_at: datetime | None
    principal: str | None


def _decided(s: Session) -> dict[int, Meant]:
    moment, said = now(), _said(s)
    settings: dict[int, Mapping[str, Any]] = {}
    names: dict[int, str] = {}
    for one in s.exec(select(DirectoryRow)):
        settings[one.id or 0], names[one.id or 0] = one.settings, one.name
    columns = (getattr(EntryRow, name) for name in _Row._fields)
    found = s.connection().execute(sa.select(*columns).order_by(col(EntryRow.id)))
    rows = [_Row(*one) for one in found]
    people = [row for row in rows if row.kind == "person"]
    hands = {row.id: said.get(f"entry:{row.guid}") for row in rows}
    wanted = {row.id: hands[row.id] or _account(row, settings[row.directory_id]) for row in people}
    active = [row for row in people if not _off(row, moment)]
    claims = Counter(wanted[row.id] for row in active if not hands[row.id])
    by_hand = {means for means in hands.values() if means}
    addresses = Counter[str]()
    for row in active:
        if settings[row.directory_id].get("mails", True):
            addresses.update(_addresses(row))
    made: dict[int, Meant] = {}
    for row in people:
        means, problem = wanted[row.id], None
        if means == NOBODY:
            means = None
        elif means is None:
            problem = "Kura の利用者 ID に使えない名前です。対応を手で決めてください"
        elif not hands[row.id] and means in by_hand:
            means, problem = None, f"{means} は、手で決めたほかの人です"
        elif not hands[row.id] and claims[means] > 1 and not _off(row, moment):
            means, problem = (
                None,
                f"{means} に当たる人が {claims[means]} 人います。対応を手で決めてください",
            )
        links = set[tuple[str, str]]()
        if means and not _off(row, moment):
            links.add((means, row.node))
            own = _addresses(row) if settings[row.directory_id].get("mails", True) else set()
            twice = {one for one in own if addresses[one] > 1}
            if twice:
                problem = f"{'、'.join(sorted(twice))} は、ほかの人のアドレスでもあります"
            links |= {(means, f"user:{one}") for one in own - twice if f"user:{one}" != means}
        made[row.id] = means, problem, links
    made.update(_groups(s, [row for row in rows if row.kind == "group"], hands, settings, names))
    return made


def _groups(
    s: Session,
    rows: list[_Row],
    hands: Mapping[int, str | None],
    settings: Mapping[int, Mapping[str, Any]],
    names: Mapping[int, str],
) -> dict[int, Meant]:
    taken = {f"group:{name}" for name in s.exec(select(GroupRow.name))}
    taken |= {means for means in hands.values() if means}
    taken |= {row.principal for row in rows if row.principal and not hands[row.id]}
    addresses = Counter(row.mail.lower() for row in rows if row.mail)
    made: dict[int, Meant] = {}
    for row in rows:
        means, problem = hands[row.id] or row.principal, None
        if means == NOBODY:
            made[row.id] = None, None, set()
            continue
        if not hands[row.id] and (means is None or means.startswith("user:")):
            means = f"group:{row.name}"
            if not _GROUP.fullmatch(row.name):
                means = None
            elif means in taken:
                means = f"group:{row.name}@{names[row.directory_id]}"
                means = None if means in taken or len(means) > 106 else means
            if means:
                taken.add(means)
        if means is None:
            problem = (
                "Kura のグループ名に使えないか、ほかのグループの名前です。対応を手で決めてください"
            )
        elif not hands[row.id] and means != f"group:{row.name}":
            problem = (
                f"グループ {row.name} はほかにもあるため、{means.partition(':')[2]} としています"
            )
        links = {(row.node, means)} if means else set()
        mail = f"group:{row.mail.lower()}"
        alone = addresses[row.mail.lower()] == 1 and mail not in taken
        if row.mail and alone and settings[row.directory_id].get("mails", True):
            links.add((row.node, mail))
        made[row.id] = means, problem, links
    return made


def _account(row: _Row, settings: Mapping[str, Any]) -> str | None:
    said = {"upn": row.upn, "mail": row.mail}.get(settings.get("match", "name"), row.name)
    spelled = unicodedata.normalize("NFKC", said).strip().lower()
    return f"user:{spelled}" if _ID.fullmatch(spelled) else None


def _addresses(row: _Row) -> set[str]:
    return {one.lower() for one in (row.mail, row.upn) if "@" in one}


def _off(row: _Row | EntryRow, moment: datetime) -> bool:
    return row.disabled or (row.expires_at is not None and row.expires_at <= moment)


def _said(s: Session) -> dict[str, str]:
    return dict(s.exec(select(MappingRow.who, MappingRow.means)).all())


def _entry(row: EntryRow, directory: str, said: Mapping[str, str]) -> Entry:
    return Entry(
        row.guid, directory, row.kind, row.dn, row.node, row.sid, row.name, row.mail, row.title,
        _off(row, now()), row.principal, f"entry:{row.guid}" in said, row.problem,
    )  # fmt: skip
