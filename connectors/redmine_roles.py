"""Who may read what in a Redmine: members of a project, by what their roles permit.

A role permits issues, wiki pages and files apart. Of issues it shows all, those that are not private,
or only one's own (as author, or assigned to oneself or one's group). A role may also be kept to some
trackers, of which the REST API says nothing: so Redmine is asked, in the name of somebody who has that
role alone (X-Redmine-Switch-User), which trackers there are for him. What was not seen is not granted.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import EVERYONE, NOBODY, Access, Layer, Principal
from connectors.redmine_api import Api, Row

Right = Literal["issue", "wiki", "file"]
_PERMISSION = {"issue": "view_issues", "wiki": "view_wiki_pages", "file": "view_files"}
_LEVELS = ("own", "default", "all")  # of issues, narrowest first
_NON_MEMBER = 1  # the role that Redmine makes first


class Facts(NamedTuple):
    """What decides who may read something."""

    right: Right
    project: int
    tracker: int = 0
    private: bool = False
    author: int = 0
    assigned: int = 0


@dataclass(frozen=True, slots=True)
class _Role:
    permissions: frozenset[str] = frozenset()
    level: int = -1  # a place in _LEVELS; -1: no issue


@dataclass(frozen=True, slots=True)
class _Member:
    id: int  # of the user or the group; -1: of everyone
    principal: Principal
    roles: frozenset[int]


@dataclass
class Roles:
    """As they are now, of some projects. Raises what `Api` raises, where nothing can be said."""

    api: Api
    projects: Collection[Row]
    groups_by_name: bool
    public: bool  # what everybody who signs in reads there, everyone reads
    failed: dict[int, ApplianceError] = field(default_factory=dict)  # projects that do not say

    def __post_init__(self) -> None:
        users = self.api.rows("users", "users", status=1)
        self._logins = {user["id"]: str(user["login"]) for user in users}
        # who administers Redmine sees every tracker, whatever his roles say
        self._plain = {user["id"] for user in users if user.get("admin") is False}
        self._trackers = {p["id"]: {t["id"] for t in p.get("trackers", ())} for p in self.projects}
        self._members: dict[int, list[_Member]] = {}
        self._seen: dict[tuple[int, str], frozenset[int]] = {}
        self._groups: dict[int, frozenset[int]] = {}
        self._known: dict[Facts, Access] = {}
        for project in self.projects:
            try:
                self._members[project["id"]] = self._of(project)
            except SourceUnreachable:
                raise
            except ApplianceError as error:
                self.failed[project["id"]] = error
        met = {role for some in self._members.values() for one in some for role in one.roles}
        self._roles = {role: self._role(role) for role in met}
        self._shown: dict[int, set[int]] = defaultdict(set)  # by role: trackers it shows
        self._hidden: dict[int, set[int]] = defaultdict(set)
        for project_id in self._members:
            self._try_roles(project_id)

    def access(self, of: Facts) -> Access:
        """NOBODY, where that is what is known."""
        if of not in self._known:
            admitted = frozenset(
                one.principal for one in self._members.get(of.project, ()) if self._admits(one, of)
            )
            self._known[of] = (Layer(admitted),) if admitted else NOBODY
        return self._known[of]

    def _admits(self, one: _Member, of: Facts) -> bool:
        if of.right != "issue":
            return any(_PERMISSION[of.right] in self._roles[r].permissions for r in one.roles)
        level = self._level(one, of.project, of.tracker)
        if level < 0 or _LEVELS[level] == "all":
            return level >= 0
        if _LEVELS[level] == "default" and not of.private:
            return True
        return one.id in (of.author, of.assigned) or one.id in self._group(of.assigned)

    def _level(self, one: _Member, project: int, tracker: int) -> int:
        roles = [r for r in one.roles if self._roles[r].level >= 0]
        if shown := [self._roles[r].level for r in roles if tracker in self._shown[r]]:
            return max(shown)
        unsure = [self._roles[r].level for r in roles if tracker not in self._hidden[r]]
        if unsure and tracker in self._visible(project, one.roles):
            return min(unsure)  # one of them shows it, and nothing says which
        return -1

    # --- what Redmine says --------------------------------------------------------

    def _of(self, project: Row) -> list[_Member]:
        found = []
        outside: set[int] | None = None
        for row in self.api.rows(f"projects/{project['id']}/memberships", "memberships"):
            roles = frozenset(role["id"] for role in row.get("roles", ()))
            if (who := row.get("user")) and (login := self._logins.get(who["id"])):
                found.append(_Member(who["id"], _principal("user", login.strip().lower()), roles))
            elif (who := row.get("group")) and self.groups_by_name:
                found.append(_Member(who["id"], _principal("group", who["name"]), roles))
            elif "group_non_member" in row:
                outside = set(roles)
        if self.public and project.get("is_public") is True:
            found.append(_Member(-1, EVERYONE, frozenset(outside or {_NON_MEMBER})))
        return found

    def _role(self, role: int) -> _Role:
        """Nothing, where it is not there: the one of non-members is none that can be given."""
        if role == _NON_MEMBER and any(
            one["id"] == role for one in self.api.get("roles").get("roles", ())
        ):
            return _Role()
        try:
            said = self.api.get(f"roles/{role}")["role"]
            permissions = frozenset(map(str, said["permissions"]))
            views = _PERMISSION["issue"] in permissions
            return _Role(permissions, _LEVELS.index(said["issues_visibility"]) if views else -1)
        except (NotVisible, KeyError, ValueError, TypeError):
            return _Role()

    def _try_roles(self, project: int) -> None:
        """Which trackers each role shows, from somebody who has that role alone."""
        for roles in {one.roles for one in self._members[project] if len(one.roles) == 1}:
            (role,) = roles
            unknown = self._trackers[project] - self._shown[role] - self._hidden[role]
            if self._roles[role].level >= 0 and unknown and self._sample(project, roles):
                seen = self._visible(project, roles)
                self._shown[role] |= seen
                self._hidden[role] |= unknown - seen

    def _visible(self, project: int, roles: frozenset[int]) -> frozenset[int]:
        """Trackers in a project, for somebody with these roles."""
        login = self._sample(project, roles)
        if login and (project, login) not in self._seen:
            try:
                said = self.api.get(f"projects/{project}", {"include": "trackers"}, login)[
                    "project"
                ]
                seen = frozenset(tracker["id"] for tracker in said.get("trackers", ()))
            except (NotVisible, SourceDenied, SourceMisconfigured, KeyError, TypeError):
                seen = frozenset()
            self._seen[project, login] = seen
        return self._seen.get((project, login), frozenset())

    def _sample(self, project: int, roles: frozenset[int]) -> str:
        """Who has them and no others there; empty where nobody does."""
        here = self._members[project]
        if any(one.principal == EVERYONE and one.roles == roles for one in here):
            inside = {one.id for one in here}
            return next((self._logins[u] for u in sorted(self._plain - inside)), "")
        users = (one.id for one in here if one.roles == roles and one.id in self._plain)
        return next(map(self._logins.__getitem__, users), "")

    def _group(self, group: int) -> frozenset[int]:
        """Who is in it; nobody, if it is none."""
        if not group or group in self._logins:
            return frozenset()
        if group not in self._groups:
            try:
                users = self.api.get(f"groups/{group}", {"include": "users"})["group"].get(
                    "users", ()
                )
                self._groups[group] = frozenset(user["id"] for user in users)
            except (NotVisible, SourceDenied, KeyError, TypeError):
                self._groups[group] = frozenset()
        return self._groups[group]


def _principal(kind: str, name: str) -> Principal:
    form: Literal["NFKC", "NFC"] = "NFKC" if kind == "user" else "NFC"  # as accounts are named
    return Principal(f"{kind}:{unicodedata.normalize(form, name)}")
