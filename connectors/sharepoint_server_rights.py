"""Who may read what SharePoint Server holds: by role assignments, and the members of groups.

A role lets read where it has both the right to view items and the right to open them: limited access
has neither, and "view only" forbids what Kura would show. Who is named is known by SID, which the
directory sync and the table know; a name that nobody knows is nobody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.errors import SourceDenied, SourceMisconfigured
from appliance.types import Principal
from connectors.sharepoint_api import of
from connectors.sharepoint_server_api import NotThere, Rest, inner

# "u": a person of Windows, by SID ("" if untold) and DOMAIN\name; "g": a group of Windows, by SID and
# title; "s": a group of the site collection, by number and title; "*": everyone; "x": what the table
# alone may know, by its claim
Subject = tuple[str, ...]
Own = tuple[Subject, ...]
READING = 0x1 | 0x20  # ViewListItems and OpenItems
_GUEST = 1  # the type of the role "limited access"
_SITE_GROUP = 8
_SID = re.compile(r"s-1-5-(?:\d+-)*\d+", re.I)
_WINDOWS = re.compile(r"i:0#\.w\|(.+\\.+)")
_GROUP = re.compile(r"c:0\+\.w\|(s-1-\d+(?:-\d+)+)")
# everybody who signs in, everybody of Windows, and how Windows itself calls them
_ALL = {
    "c:0(.s|true", "c:0!.s|windows", "c:0+.w|s-1-1-0", "c:0+.w|s-1-5-11",
    "nt authority\\authenticated users", "everyone",
}  # fmt: skip
MEMBERS = {"$select": "LoginName,Title,PrincipalType,UserId"}
ASSIGNED = {"$expand": "Member,RoleDefinitionBindings"}
UNTOLD = 20  # names without a counterpart that one message tells


def subjects(assignments: Iterable[Mapping[str, Any]]) -> Own:
    """Whom role assignments let read. What is not understood names nobody."""
    found = set[Subject]()
    for one in assignments:
        roles, subject = inner(one, "RoleDefinitionBindings"), member(of(one, "Member"))
        if subject and any(map(_reads, roles)):
            found.add(subject)
    return tuple(sorted(found))


def _reads(role: dict[str, Any]) -> bool:
    try:
        low = int(of(role, "BasePermissions", "Low"))
    except (TypeError, ValueError):
        return False
    return role.get("RoleTypeKind") != _GUEST and low & READING == READING


def member(said: Any) -> Subject | None:
    login, title = nfc(of(said, "LoginName")), nfc(of(said, "Title"))
    if of(said, "PrincipalType") == _SITE_GROUP:
        id = of(said, "Id")
        return ("s", str(id), title) if isinstance(id, int) else None
    return by_login(login, title, str(of(said, "UserId", "NameId") or "")) if login else None


def by_login(login: str, title: str, name_id: str) -> Subject:
    """By the claim that SharePoint knows somebody by, or DOMAIN\\name where there are no claims."""
    low = login.lower()
    if low in _ALL:
        return ("*",)
    if found := _GROUP.fullmatch(low):
        return ("g", found[1].upper(), title.lower())
    sid = name_id.upper() if _SID.fullmatch(name_id) else ""
    if found := _WINDOWS.fullmatch(low):
        return ("u", sid, found[1])
    if "|" not in low and re.fullmatch(r"[^\\:]+\\[^\\]+", low):
        return ("u", sid, low)
    return ("x", low)


@dataclass
class Rights:
    """Those of one look: whoever was asked about is not asked about again."""

    rest: Rest
    names: Mapping[str, frozenset[Principal]]  # by SID, DOMAIN\name, claim, or title of a group
    everyone: frozenset[Principal]  # whom "everyone" means
    listed: Callable[[frozenset[str]], frozenset[str]]  # which SIDs a directory knows
    domain: str = ""  # whose people are called the same in Kura
    notes: dict[str, str] = field(default_factory=dict)  # what could not be asked, and why
    untold: set[str] = field(default_factory=set)  # who is nobody in Kura
    _met: dict[Subject, frozenset[Principal]] = field(default_factory=dict)

    def readers(self, own: Own, web: str, site: str) -> frozenset[Principal]:
        """`web` is where groups are asked about, `site` the site collection that they are of."""
        found = frozenset[Principal]()
        for one in own:
            key = (*one, site) if one[0] == "s" else one
            if key not in self._met:
                self._met[key] = frozenset()  # a group in itself ends here
                self._met[key] = self._reader(one, web, site)
            found |= self._met[key]
        return found

    def _reader(self, one: Subject, web: str, site: str) -> frozenset[Principal]:
        match one:
            case ("*",):
                if not self.everyone:
                    self.untold.add("「全員」(設定「組織の全員」が空)")
                return self.everyone
            case ("s", id, title):
                return self._site_group(id, title, web, site)
            case (("u" | "g") as kind, sid, name):
                return self._somebody(kind, sid, name)
            case ("x", claim) if claim in self.names:
                return self.names[claim]
        self.untold.add(one[-1])
        return frozenset()

    def _somebody(self, kind: str, sid: str, name: str) -> frozenset[Principal]:
        for said in filter(None, (sid, name)):
            if (meant := self.names.get(said.lower())) is not None:
                return meant
        if sid and self.listed(frozenset({sid})):
            return frozenset({Principal(f"sid:{sid}")})
        domain, _, own = name.rpartition("\\")
        if kind == "u" and self.domain and domain == self.domain.lower():  # titles may be anything
            return frozenset({Principal(f"user:{own}")})
        self.untold.add(f"{name} {sid}".strip())
        return frozenset()

    def _site_group(self, id: str, title: str, web: str, site: str) -> frozenset[Principal]:
        if (meant := self.names.get(title.lower())) is not None:
            return meant
        what = f"グループ「{title}」"
        try:
            path = f"web/sitegroups/getbyid({id})/users"
            told = [member(one) for one in self.rest.listed(web, path, MEMBERS)]
        except NotThere:
            return frozenset()
        except (SourceDenied, SourceMisconfigured) as error:
            self.notes[what] = (
                f"{what} の人を調べられないため、その許可は誰にも効きません ({error})"
            )
            return frozenset()
        return self.readers(tuple(one for one in told if one), web, site)


def nfc(said: Any) -> str:
    return unicodedata.normalize("NFC", said).strip() if isinstance(said, str) else ""
