"""Who may read what Box holds: by collaborations, ownership and shared links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from appliance.errors import SourceMisconfigured
from appliance.types import Failed, Principal
from connectors.box_api import FIELDS, ID, Api, Gone, Shut, nfc, of, when

Readers = frozenset[Principal]
# an uploader sees no content
READING = frozenset(
    ("owner", "co-owner", "editor", "viewer", "viewer uploader", "previewer", "previewer uploader")
)
_NONE: Readers = frozenset()


@dataclass
class Rights:
    """Those of one look: whoever was asked about is not asked about again."""

    api: Api
    people: Mapping[str, Readers]  # by what Box calls them: user:login, group:name
    same_names: bool = False  # whoever is not among `people` is called the same in Kura
    domain: str = ""  # of logins whose first half is the name in Kura
    group_members: bool = False  # a group that is not among `people` is its members
    links: Readers = _NONE  # who may read what a shared link opens to the company
    failures: list[Failed] = field(default_factory=list)
    _groups: dict[str, Readers] = field(default_factory=dict)
    _folders: dict[str, Readers] = field(default_factory=dict)

    def above(self, folders: Iterable[str]) -> Readers:
        """Who reads by any of these. One that does not open (it is not shared with us) admits nobody."""
        found = _NONE
        for id in folders:
            if id not in self._folders and id != "0":
                try:
                    said = self.api.get(f"folders/{id}", fields=FIELDS)
                    self._folders[id] = self.own(said)
                except (Shut, SourceMisconfigured):
                    self._folders[id] = _NONE
            found |= self._folders.get(id, _NONE)
        return found

    def own(self, said: dict[str, Any], *, invited: bool = True) -> Readers:
        """Who reads a file or folder by what is said of itself; nobody where that is not to be had."""
        kind, id = str(said.get("type")), str(said.get("id"))
        if id == "0" or kind not in ("file", "folder") or not ID.fullmatch(id):
            return _NONE  # all that an account sees is shared with nobody
        found = self._called("user", of(said, "owned_by", "login")) | self._linked(said)
        if invited and said.get("has_collaborations") is not False:
            try:
                found |= self.collaborators(f"{kind}s", id)
            except Gone:
                pass  # it went while we looked
            except (Shut, SourceMisconfigured) as error:
                uri = f"https://app.box.com/{kind}/{id}#collaborations"
                reason = f"招待された人を読めないため、その人たちには見えません ({error})"
                self.failures.append(Failed(uri, nfc(str(said.get("name") or id)), reason, False))
        return found

    def collaborators(self, kind: str, id: str) -> Readers:
        """Raises what is wrong where Box does not say."""
        found = _NONE
        query = {"fields": "role,status,expires_at,accessible_by"}
        for said in self.api.marked(f"{kind}/{id}/collaborations", **query):
            until = of(said, "expires_at")
            if of(said, "status") != "accepted" or of(said, "role") not in READING:
                continue
            if until and not ((end := when(until)) and end > datetime.now(UTC)):
                continue
            who = of(said, "accessible_by")
            if of(who, "type") == "group":
                found |= self._group(str(of(who, "id") or ""), of(who, "name"))
            elif of(who, "type") == "user" and of(who, "is_active") is not False:
                found |= self._called("user", of(who, "login"))
        return found

    def _linked(self, said: dict[str, Any]) -> Readers:
        """By a link that anybody of the company may open without a password."""
        link = said.get("shared_link")
        until = of(link, "unshared_at")
        if (
            of(link, "effective_access") not in ("open", "company")
            or of(link, "effective_permission") not in ("can_edit", "can_download", "can_preview")
            or of(link, "is_password_enabled") is not False
            or (until and not ((end := when(until)) and end > datetime.now(UTC)))
        ):
            return _NONE
        return self.links

    def _group(self, id: str, name: Any) -> Readers:
        listed = f"group:{nfc(str(name))}" in self.people
        if not self.group_members or not ID.fullmatch(id) or listed:
            return self._called("group", name)
        if id not in self._groups:
            found = _NONE
            try:
                for said in self.api.counted(f"groups/{id}/memberships"):
                    found |= self._called("user", of(said, "user", "login"))
            except (Shut, SourceMisconfigured) as error:
                found = _NONE
                uri = f"https://app.box.com/groups/{id}"
                reason = f"グループのメンバーを読めないため、その人たちには見えません ({error})"
                self.failures.append(Failed(uri, nfc(str(name or id)), reason, False))
            self._groups[id] = found
        return self._groups[id]

    def _called(self, kind: str, name: Any) -> Readers:
        """Whom Kura calls so: by the table, or by the same name where that may be. Nobody else."""
        if not isinstance(name, str) or not nfc(name):
            return _NONE
        name = nfc(name).lower() if kind == "user" else nfc(name)
        if (spelled := f"{kind}:{name}") in self.people:
            return self.people[spelled]
        first, _, domain = name.rpartition("@")
        if kind == "user" and first and self.domain and domain == self.domain:
            return frozenset({Principal(f"user:{first}")})
        return frozenset({Principal(spelled)}) if self.same_names else _NONE
