"""Who may read what Google Drive holds, from its permissions.

A permission names a person, a group, a domain or anyone. What is bound to a view (`published`,
`metadata`) shows no content; what has expired, was deleted, or has a role that nobody knows, grants
nothing. Google's groups are names only: who is in them is not asked.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from appliance.types import Principal
from connectors.gdrive_api import of

FIELDS = (
    "id,type,role,emailAddress,domain,allowFileDiscovery,expirationTime,deleted,view,"
    "inheritedPermissionsDisabled,permissionDetails(inherited,role)"
)
_ABOVE = ("owner", "organizer")  # who enters folders with limited access, too
_READ = (*_ABOVE, "fileOrganizer", "writer", "commenter", "reader")
_LINK = " link"  # of whom only a link lets in


class Grant(NamedTuple):
    """To whom, as the table of the settings calls it; until when (RFC 3339), or for ever."""

    name: str
    until: str
    above: bool  # may enter what has limited access
    direct: bool  # on the item itself


def grants(said: Any) -> list[Grant]:
    """Those of a list of permissions that let read."""
    found = []
    for one in said if isinstance(said, list) else []:
        role, until = of(one, "role"), of(one, "expirationTime")
        if role not in _READ or of(one, "view") or of(one, "deleted") is True:
            continue
        details = of(one, "permissionDetails")
        told = details if isinstance(details, list) else []
        direct = any(of(detail, "inherited") is False for detail in told)
        shut_out = of(one, "inheritedPermissionsDisabled") is True
        if shut_out and not direct and role not in _ABOVE:
            continue
        if name := _name(one):
            found.append(
                Grant(name, until if isinstance(until, str) else "", role in _ABOVE, direct)
            )
    return sorted(set(found))


def _name(one: Any) -> str:
    kind = of(one, "type")
    if kind in ("user", "group") and isinstance(address := of(one, "emailAddress"), str):
        return spelled(f"{kind}:{address}") if address.strip() else ""
    name = ""
    if kind == "domain" and isinstance(domain := of(one, "domain"), str) and domain.strip():
        name = spelled(f"domain:{domain}")
    elif kind == "anyone":
        name = "anyone"
    return name + _LINK if name and of(one, "allowFileDiscovery") is not True else name


@dataclass(frozen=True)
class People:
    """Whom a grant means in Kura: by the table, or a person by the same name. Nobody else."""

    table: Mapping[str, frozenset[Principal]]
    same_names: bool = False
    links: bool = False  # what only a link opens counts, too

    def of(self, given: Iterable[Grant]) -> frozenset[Principal]:
        found, now = set[Principal](), datetime.now(UTC)
        for grant in given:
            name = grant.name.removesuffix(_LINK)
            if _over(grant.until, now) or (name != grant.name and not self.links):
                continue
            meant = self.table.get(name)
            if meant is None and self.same_names and name.startswith("user:"):
                meant = frozenset({Principal(name)})
            found |= meant or frozenset()
        return frozenset(found)


def spelled(name: str) -> str:
    """Addresses and domains are the same in capitals."""
    return unicodedata.normalize("NFC", name.strip()).lower()


def _over(until: str, now: datetime) -> bool:
    if not until:
        return False
    try:
        end = datetime.fromisoformat(until)
    except ValueError:
        return True  # not known: it does not hold
    return (end if end.tzinfo else end.replace(tzinfo=UTC)) <= now
