"""robots.txt as RFC 9309 reads it: the longest rule that fits decides, and * and $ mean something.

The standard library's reading takes the first rule, and * by the letter: it would go where it may not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from connectors.urls import escaped

ROBOTS_BYTES = 500_000
_NAME = "kura"


@dataclass(frozen=True)
class Robots:
    rules: tuple[tuple[str, bool], ...] = ()  # path pattern, and whether it may be asked

    def allows(self, url: str) -> bool:
        """Of a canonical URL."""
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        fitting = [(len(rule), may) for rule, may in self.rules if _fits(path, rule)]
        return max(fitting)[1] if fitting else True  # of two as long the one that allows


def parse(body: bytes) -> Robots:
    """The rules for Kura, or else for everybody. What is no rule is passed over."""
    groups: dict[str, list[tuple[str, bool]]] = {}
    names: list[str] = []
    naming = False
    for line in body[:ROBOTS_BYTES].decode("utf-8-sig", "replace").splitlines():
        field, _, value = line.partition("#")[0].partition(":")
        field, value = field.strip().lower(), value.strip()
        if field == "user-agent":
            names = [*names, value.lower()] if naming else [value.lower()]
            naming = True
        elif field in ("allow", "disallow"):
            naming = False
            for name in names:
                rules = groups.setdefault(name, [])
                if value:
                    rules.append((escaped(value, "!$&'()*+,;=:@/?-._~%"), field == "allow"))
    ours = [name for name in groups if name.partition("/")[0] == _NAME] or ["*"]
    return Robots(tuple(rule for name in ours for rule in groups.get(name, [])))


def _fits(path: str, rule: str) -> bool:
    """One piece after the other: a pattern with many * costs no more than a long one."""
    end = rule.endswith("$")
    first, *rest = re.sub(r"\*+", "*", rule.removesuffix("$")).split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    for number, piece in enumerate(rest, 1):
        if end and number == len(rest):
            return path.endswith(piece) and len(path) - len(piece) >= at
        if (found := path.find(piece, at)) < 0:
            return False
        at = found + len(piece)
    return not end or at == len(path)
