"""Who may read what Confluence holds: by the view permission of a space, and by read restrictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from appliance.errors import SourceDenied, SourceMisconfigured
from appliance.types import EVERYONE, NOBODY, Access, Layer, Principal
from connectors.confluence_rest import Rest, nfc, of, whole

MANY = 250  # of what is small
ANSWERS = 500  # on one restriction
Rule = tuple[Layer, ...] | None  # a page's own restriction: (): none; None: nobody knows


@dataclass
class Rights:
    """Those of one look: whoever was asked about is not asked about again."""

    rest: Rest
    people: Mapping[str, frozenset[Principal]]  # by what Confluence calls them: user:…, group:…
    spaces: Mapping[str, Access]  # for those that do not say
    anonymous: bool = False  # everyone may read what needs no name
    same_names: bool = False  # whoever is not among `people` is called the same in Kura
    _met: dict[tuple[str, str], frozenset[Principal]] = field(default_factory=dict)

    def space(self, key: str, space: dict[str, Any]) -> Access:
        """Who may view it. Raises what is wrong where the server does not say, and nobody else did."""
        given = self.spaces.get(key, NOBODY)
        try:
            found = self._space_readers(key, space)
        except (SourceDenied, SourceMisconfigured):
            if given:
                return given
            raise
        return (Layer(found),)

    def _space_readers(self, key: str, space: dict[str, Any]) -> frozenset[Principal]:
        if self.rest.cloud:
            told = list(
                self.rest.listed(f"/api/v2/spaces/{space['id']}/permissions", {"limit": MANY})
            )
        else:
            answer = self.rest.json(f"{self.rest.base}/rest/api/space/{key}/permissions", list)
            if answer is None:
                raise SourceDenied(
                    f"スペース {key} の権限を読めません。Confluence が古いか、アカウントがスペースの"
                    "管理者ではありません。管理者権限を与えるか「スペースを閲覧できる人」に書いてください。"
                )
            told = answer
        found = frozenset[Principal]()
        for one in told:
            operation = of(one, "operation")
            verb = of(operation, "key") or of(operation, "operationKey")
            if verb == "read" and of(operation, "targetType") == "space":
                found |= self._reader(one)
        return found

    def _reader(self, one: Any) -> frozenset[Principal]:
        if self.rest.cloud:
            kind, id = (str(of(one, "principal", name) or "") for name in ("type", "id"))
            return self._by_id(kind.lower(), id)
        subject = of(one, "subject")
        kind = str(of(subject, "type") or "").lower()
        if kind == "anonymous":
            return frozenset({EVERYONE} if self.anonymous else ())
        return self._principals("group" if kind == "group" else "user", subject)

    def _by_id(self, kind: str, id: str) -> frozenset[Principal]:
        """Cloud names people and groups by ids. A role, or what is no longer there, is nobody."""
        if kind not in ("user", "group") or not id:
            return frozenset()
        if (kind, id) not in self._met:
            path = "group/by-id?" + urlencode({"id": id})
            if kind == "user":
                path = "user?" + urlencode({"accountId": id})
            said = self.rest.json(f"{self.rest.base}/rest/api/{path}")
            self._met[kind, id] = self._principals(kind, said) if said else frozenset()
        return self._met[kind, id]

    def own(self, said: dict[str, Any]) -> Rule:
        """What a content says of itself; asked for where it does not say all."""
        read = of(said, "restrictions", "read", "restrictions")
        user, group = of(read, "user"), of(read, "group")
        if not (whole(user) and whole(group)):
            return self.asked(str(said["id"]))
        return self._layer(user["results"], group["results"])

    def asked(self, id: str) -> Rule:
        """A content's restriction, however long. What does not end is not known."""
        users, groups, start = list[Any](), list[Any](), 0
        for _ in range(ANSWERS):
            query = urlencode({"expand": "restrictions.user,restrictions.group", "start": start, "limit": 200})  # fmt: skip
            url = f"{self.rest.base}/rest/api/content/{id}/restriction/byOperation/read?{query}"
            try:
                said = self.rest.json(url)
            except (SourceDenied, SourceMisconfigured):
                return None
            both = [of(said, "restrictions", who) for who in ("user", "group")]
            if not all(isinstance(of(one, "results"), list) for one in both):
                return None
            users += both[0]["results"]
            groups += both[1]["results"]
            if all(map(whole, both)):
                return self._layer(users, groups)
            if not (more := max(len(one["results"]) for one in both)):
                return None
            start += more
        return None

    def _layer(self, users: list[Any], groups: list[Any]) -> Rule:
        if not users and not groups:
            return ()
        named = [self._principals("user", one) for one in users]
        named += [self._principals("group", one) for one in groups]
        return (Layer(frozenset().union(*named)),)

    def _principals(self, kind: str, said: Any) -> frozenset[Principal]:
        """Whom Kura calls so: by the table, or by the same name where that may be. Nobody else."""
        called = ("accountId", "email") if self.rest.cloud else ("username",)
        found = set[Principal]()
        for name in [of(said, one) for one in (("name",) if kind == "group" else called)]:
            if isinstance(name, str) and name.strip():
                spelled = nfc(f"{kind}:{name.strip()}")
                found |= self.people.get(
                    spelled, {Principal(spelled)} if self.same_names else set()
                )
        return frozenset(found)
