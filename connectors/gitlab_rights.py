"""Who may read what of a GitLab project: by its visibility, its features, and the levels of members."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.errors import SourceMisconfigured
from appliance.types import EVERYONE, Layer, Principal
from connectors import admit
from connectors.gitlab_api import Row

GUEST, PLANNER, REPORTER = 10, 15, 20
# what a member needs: guests see no merge requests of a private project
NEEDED = {"issues": GUEST, "merge_requests": REPORTER, "wikis": GUEST}
_LEVELS = {
    "issues": "issues_access_level",
    "merge_requests": "merge_requests_access_level",
    "wikis": "wiki_access_level",
}
_ENABLED = {"issues": "issues_enabled", "merge_requests": "merge_requests_enabled"}
_ENABLED["wikis"] = "wiki_enabled"


@dataclass(frozen=True)
class People:
    """Whom of Kura a user of GitLab is."""

    table: Mapping[str, frozenset[Principal]]
    same_names: bool

    def of(self, name: str) -> frozenset[Principal]:
        name = unicodedata.normalize("NFC", name)
        if (meant := self.table.get(name)) is not None:
            return meant
        if self.same_names and name:
            return frozenset({Principal(f"user:{name}")})
        return frozenset()


def people(lines: Sequence[str], same_names: bool) -> People:
    """By lines "sato = user:sato". Raises SourceMisconfigured."""
    table = dict[str, frozenset[Principal]]()
    for line in lines:
        who, equals, name = (part.strip() for part in line.rpartition("="))
        if not equals or not who:
            raise SourceMisconfigured(
                f"対応表の「{line}」は「sato = user:sato」の形ではありません。"
            )
        try:
            meant = frozenset[Principal]() if name == "nobody" else admit.principals([name])
        except ValueError as error:
            raise SourceMisconfigured(f"対応表の{error}。") from None
        table[unicodedata.normalize("NFC", who.removeprefix("@"))] = meant
    return People(table, same_names)


def there(project: Row, kind: str) -> bool:
    """Whether a project has its issues, merge requests or wiki switched on."""
    level = project.get(_LEVELS[kind])
    return level != "disabled" if level else project.get(_ENABLED[kind]) is not False


@dataclass(frozen=True)
class Rights:
    """Of one project."""

    levels: Mapping[str, int]  # by the name of a member
    open: frozenset[str]  # kinds that everybody who may sign in sees
    who: People

    def layer(self, kind: str, between: Iterable[str] | None = None) -> Layer:
        """`between`: of what is confidential, who wrote it and who is to do it."""
        needed = NEEDED[kind] if between is None else PLANNER
        names = {name for name, level in self.levels.items() if level >= needed}
        names |= {n for n in between or () if self.levels.get(n, 0) >= GUEST}
        allowed = frozenset[Principal]().union(*map(self.who.of, names))
        if between is None and kind in self.open:
            allowed |= {EVERYONE}
        return Layer(allowed)

    def told(self, kinds: Iterable[str]) -> list[object]:
        """All that decides."""
        layers = [self.layer(kind, between) for kind in kinds for between in (None, ())]
        return [sorted(self.levels.items()), [sorted(layer.allow) for layer in layers]]


def rights(project: Row, members: Iterable[Row], who: People, *, anybody: bool) -> Rights:
    """`anybody`: what everybody who may sign in to GitLab sees, everybody in Kura may."""
    today, levels = datetime.now(UTC).date().isoformat(), dict[str, int]()
    for one in members:
        until, level = str(one.get("expires_at") or "9999")[:10], one.get("access_level")
        waiting = one.get("membership_state") not in (None, "active")
        if one.get("state") != "active" or waiting or until <= today or not isinstance(level, int):
            continue
        name = str(one.get("username") or "")
        levels[name] = max(level, levels.get(name, 0))
    visible = anybody and project.get("visibility") in ("internal", "public")
    shown = {
        k for k, key in _LEVELS.items() if visible and project.get(key) in ("enabled", "public")
    }
    if project.get("repository_access_level") not in ("enabled", "public"):
        shown.discard("merge_requests")
    return Rights(levels, frozenset(shown), who)
