"""As what somebody counts: groups made here, and what directories and administrators say besides."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping

from sqlmodel import Session, col, select

from appliance.store.tables import DirectoryRow, LinkRow, MappingRow, MemberRow, UserRow, now
from appliance.types import EVERYONE, Principal

Way = tuple[Principal, ...]  # from the person on, each counting as the next
Held = Mapping[Principal, Way]  # all that somebody counts as, and why

_BLOCK = 400  # names in one question


class Counting:
    """What is next to what, within one transaction; asked of the database once."""

    def __init__(self, s: Session) -> None:
        self._s = s
        self._known: dict[Principal, list[Principal]] = {}
        # what a directory said long ago says nothing: who may read is then not known
        self._live = s.exec(
            select(DirectoryRow.id).where(
                col(DirectoryRow.enabled), col(DirectoryRow.valid_until) > now()
            )
        ).all()

    def of(self, user_id: str, also: Collection[Principal] = ()) -> dict[Principal, Way]:
        """The shortest way to each. `also`: what they are thought to count as besides."""
        me = Principal(f"user:{user_id}")
        held: dict[Principal, Way] = {me: (me,), EVERYONE: (me, EVERYONE)}
        held |= {one: (me, one) for one in also if one not in held}
        waiting = deque(held)
        while waiting:
            level = list(waiting)
            waiting.clear()
            self._learn(level)
            for one in level:
                for after in self._known[one]:
                    if after not in held:
                        held[after] = (*held[one], after)
                        waiting.append(after)
        return held

    def _learn(self, level: Iterable[Principal]) -> None:
        new = [one for one in level if one not in self._known]
        if not new:
            return
        found = defaultdict[Principal, list[Principal]](list)
        for one, after in self._edges(new):
            found[one].append(after)
        claimed = {after for some in found.values() for after in some if after.startswith("user:")}
        taken = self._accounts(claimed)
        for one in new:  # nobody becomes another account because two names are alike
            self._known[one] = sorted({x for x in found[one] if x not in taken})

    def _edges(self, new: list[Principal]) -> Iterator[tuple[Principal, Principal]]:
        for start in range(0, len(new), _BLOCK):
            some = new[start : start + _BLOCK]
            groups = select(MemberRow.principal, MemberRow.group_name)
            for one, name in self._s.exec(groups.where(col(MemberRow.principal).in_(some))):
                yield Principal(one), Principal(f"group:{name}")
            said = select(MappingRow.means, MappingRow.who).where(
                col(MappingRow.means).in_(some), ~col(MappingRow.who).startswith("entry:")
            )
            for one, who in self._s.exec(said):
                yield Principal(one), Principal(who)
            if self._live:
                links = select(LinkRow.principal, LinkRow.counts_as).where(
                    col(LinkRow.principal).in_(some), col(LinkRow.directory_id).in_(self._live)
                )
                for one, after in self._s.exec(links):
                    yield Principal(one), Principal(after)

    def _accounts(self, claimed: Collection[Principal]) -> set[str]:
        ids, found = sorted(one.removeprefix("user:") for one in claimed), set[str]()
        for start in range(0, len(ids), _BLOCK):
            some = select(UserRow.id).where(col(UserRow.id).in_(ids[start : start + _BLOCK]))
            found |= {f"user:{one}" for one in self._s.exec(some)}
        return found
