"""Who may read what SharePoint and OneDrive hold: by permissions of items, and members of groups.

A permission names people, groups of the directory, groups of a site, or a link. Groups are asked for
their members; a name that no table knows, and no setting believes, is nobody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from appliance.errors import SourceDenied, SourceMisconfigured
from appliance.types import Principal
from connectors.sharepoint_api import Graph, NotThere, of

# what they are ("u": a person, "g": a group's members, "o": its owners, "s": a group of a site,
# "*": everyone in the company, "l": whoever has the link), until when or "", then names
Subject = tuple[str, ...]
Own = tuple[Subject, ...]
_READ = {"read", "write", "owner"}
_GUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PERSON = re.compile(r"i:0#\.f\|membership\|(.+)")
_GROUP = re.compile(rf"c:0(?:o\.c\|federateddirectoryclaimprovider|t\.c\|tenant)\|({_GUID})(_o)?")
_ALL = re.compile(r"c:0\(\.s\|true|c:0-\.f\|rolemanager\|spo-grid-all-users/.*")
Members = Callable[[str, str], list[dict[str, Any]] | None]  # of a group of a site, if told


def subjects(permissions: Iterable[Mapping[str, Any]]) -> Own:
    """Whom an item's permissions let read. What is not understood names nobody."""
    found = set[Subject]()
    for one in permissions:
        link, scope = one.get("link"), of(one, "link", "scope")
        roles = one.get("roles")
        if not isinstance(roles, list) or not _READ & {r for r in roles if isinstance(r, str)}:
            continue
        if scope not in (None, "users", "organization", "anonymous"):
            continue  # "existingAccess" lets in nobody who is not let in otherwise
        if (until := _until(one.get("expirationDateTime"))) is None:
            continue
        if link and scope in ("organization", "anonymous"):
            found.add(("l", until))
        told = one.get("grantedToIdentitiesV2")
        for who in (one.get("grantedToV2"), *(told if isinstance(told, list) else ())):
            if subject := _subject(who):
                found.add((subject[0], until, *subject[1:]))
    return tuple(sorted(found))


def _subject(who: Any) -> tuple[str, ...] | None:
    login = _low(of(who, "siteUser", "loginName"))
    mail = _low(of(who, "user", "email") or of(who, "siteUser", "email"))
    if login and (subject := _by_login(login, mail)):
        return subject
    if login.startswith("c:"):
        return None  # a claim that nobody knows is not the group it stands beside
    if id := _low(of(who, "group", "id")):
        return ("g", id)
    if id := _low(of(who, "siteGroup", "id")):
        return ("s", id, _nfc(of(who, "siteGroup", "displayName")))
    if id := _low(of(who, "user", "id")):
        return ("u", id, "", mail)
    return None


def _by_login(login: str, mail: str) -> tuple[str, ...] | None:
    """By the claim that a site knows somebody by."""
    if found := _PERSON.fullmatch(login):
        return ("u", "", unquote(found[1]), mail)
    if found := _GROUP.fullmatch(login):
        return ("o" if found[2] else "g", found[1])
    return ("*",) if _ALL.fullmatch(login) else None


@dataclass
class Rights:
    """Those of one look: whoever was asked about is not asked about again."""

    graph: Graph
    people: Mapping[str, frozenset[Principal]]  # "user:ito@example.co.jp", "group:営業 メンバー"
    everyone: frozenset[Principal] = frozenset()  # whom "everyone in the company" means
    links: bool = False  # whoever could have a link of the company or of anybody has it
    same_names: bool = False  # who is not among `people` is called the same in Kura
    members: Members = field(default=lambda site, id: None)
    notes: dict[str, str] = field(default_factory=dict)  # what could not be asked, and why
    _met: dict[tuple[str, ...], frozenset[Principal]] = field(default_factory=dict)

    def readers(self, own: Own, site: str) -> frozenset[Principal]:
        now, found = datetime.now(UTC).isoformat(), frozenset[Principal]()
        for kind, until, *names in own:
            if until and until <= now:
                continue
            key = (kind, *names, *([site] if kind == "s" else []))
            if key not in self._met:
                self._met[key] = frozenset[Principal]()  # a group in itself ends here
                self._met[key] = self._reader(kind, names, site)
            found |= self._met[key]
        return found

    def _reader(self, kind: str, names: list[str], site: str) -> frozenset[Principal]:
        match kind, names:
            case "*", _:
                return self.everyone
            case "l", _:
                return self.everyone if self.links else frozenset()
            case "u", [id, upn, mail]:
                return self._person(id, upn, mail)
            case (("g" | "o"), [id]):
                return self._group(id, "owners" if kind == "o" else "transitiveMembers")
            case "s", [id, title]:
                return self._site_group(site, id, title)
        return frozenset()

    def _person(self, id: str, upn: str, mail: str) -> frozenset[Principal]:
        if not upn and id and f"user:{id}" not in self.people:
            path = f"/users/{quote(id)}"
            said = self._asked(
                f"user {id}", lambda: self.graph.json(path, {"$select": "userPrincipalName,mail"})
            )
            upn, mail = _low(of(said, "userPrincipalName")), _low(of(said, "mail")) or mail
        for name in filter(None, (upn, mail, id)):
            if (meant := self.people.get(f"user:{name}")) is not None:
                return meant
        return frozenset({Principal(f"user:{upn}")} if self.same_names and upn else ())

    def _group(self, id: str, which: str) -> frozenset[Principal]:
        if (meant := self.people.get(f"group:{id}")) is not None and which != "owners":
            return meant
        query = {"$select": "id,userPrincipalName,mail", "$top": "999"}
        path = f"/groups/{quote(id)}/{which}"
        found = self._asked(f"グループ {id}", lambda: list(self.graph.listed(path, query))) or []
        members = frozenset[Principal]()
        for one in found:
            if str(one.get("@odata.type", "#microsoft.graph.user")).endswith(".user"):
                upn, mail = _low(one.get("userPrincipalName")), _low(one.get("mail"))
                if not upn:
                    self.notes["User.Read.All"] = (
                        "グループの人の名前が答えにありません。User.Read.All の許可を確かめてください。"
                    )
                members |= self._person(_low(one.get("id")) if upn else "", upn, mail)
        return members

    def _site_group(self, site: str, id: str, title: str) -> frozenset[Principal]:
        if (meant := self.people.get(f"group:{title}".lower())) is not None:
            return meant
        told = self._asked(f"{site} のグループ「{title}」", lambda: self.members(site, id))
        if told is None:
            self.notes[f"s {title}"] = (
                f"サイトのグループ「{title}」の人が分からないため、その許可は誰にも効きません。"
                "証明書でサインインするか、対応表に書いてください。"
            )
            return frozenset()
        found = frozenset[Principal]()
        for one in told:
            login, mail = _low(one.get("LoginName")), _low(one.get("Email"))
            if subject := _by_login(login, mail):
                found |= self.readers(((subject[0], "", *subject[1:]),), site)
        return found

    def _asked(self, what: str, ask: Callable[[], Any]) -> Any:
        """None where it is not told; why is noted."""
        try:
            return ask()
        except NotThere:
            return None
        except (SourceDenied, SourceMisconfigured) as error:
            self.notes[what] = f"{what} を調べられないため、その許可は誰にも効きません ({error})"
            return None


def _until(said: Any) -> str | None:
    """When a permission ends, in UTC; "" for never, None where that has no sense."""
    if said is None or said == "" or str(said).startswith("0001-"):
        return ""
    try:
        moment = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def _nfc(said: Any) -> str:
    return unicodedata.normalize("NFC", said).strip() if isinstance(said, str) else ""


def _low(said: Any) -> str:
    return _nfc(said).lower()


def table(
    told: Iterable[tuple[str, frozenset[Principal]]],
) -> Iterator[tuple[str, frozenset[Principal]]]:
    """Names as answers are looked up by: case does not count."""
    for name, meant in told:
        yield _low(name), meant
