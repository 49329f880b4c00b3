"""What of a source is let in, and for whom: the settings that connectors have in common."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from appliance.errors import SourceMisconfigured
from appliance.types import EVERYONE, NOBODY, Access, Layer, Principal

_LEFT_OUT = {
    "thumbs.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information",
    "dfsrprivate", "#recycle", "@recycle", "lost+found", "~snapshot",
}  # fmt: skip


def access(allow: list[str]) -> Access:
    """For a source whose documents all have the same readers. Raises SourceMisconfigured."""
    try:
        return (Layer(principals(allow)),) if allow else NOBODY
    except ValueError as error:
        raise SourceMisconfigured(f"閲覧できる人{error}。") from None


def principals(names: Any) -> frozenset[Principal]:
    """Raises ValueError naming what is not a principal."""
    if not isinstance(names, list):
        raise ValueError('allow と deny は ["group:…"] のような一覧です')
    for name in names:
        kind, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
        if name != EVERYONE and not (kind in ("user", "group") and rest.strip()):
            raise ValueError(f"「{name}」は user:… でも group:… でも everyone でもありません")
    return frozenset(Principal(unicodedata.normalize("NFC", name)) for name in names)


def rules(label: str, lines: Sequence[str], allow: list[str]) -> list[tuple[str, Access]]:
    """Lines like "人事/* = group:人事部", the first that fits; the last, *, is for all others.

    Raises SourceMisconfigured.
    """
    found = []
    for line in lines:
        place, equals, names = line.rpartition("=")
        if not equals or not place.strip():
            raise SourceMisconfigured(f"{label}「{line}」は「場所 = group:…」の形ではありません。")
        found.append((place.strip(), access([n.strip() for n in names.split(",") if n.strip()])))
    return [*found, ("*", access(allow))]


@dataclass(frozen=True)
class Readers:
    """Whom what a row says of its readers admits."""

    all: Access  # where there is no such column
    table: Mapping[str, frozenset[Principal]]
    _known: dict[str, Access] = field(default_factory=dict, repr=False)  # one value, many rows

    def of(self, value: Any) -> Access:
        """Nobody, for what is empty or unknown."""
        said = value if isinstance(value, list) else re.split(r"[;,\n、；，]", str(value or ""))
        names = "\n".join(sorted({_spelled(str(one)) for one in said if one}))
        if names not in self._known:
            admitted = frozenset[Principal]().union(*map(self._one, names.split("\n")))
            self._known[names] = (Layer(admitted),) if admitted else NOBODY
        return self._known[names]

    def _one(self, name: str) -> frozenset[Principal]:
        if name in self.table:
            return self.table[name]
        with suppress(ValueError):
            return principals([name])
        return frozenset()


def readers(allow: list[str], values: list[str]) -> Readers:
    """By lines "本社営業 = group:営業部, user:ito". Raises SourceMisconfigured."""
    return Readers(access(allow), _table(values))


def left_out(name: str) -> bool:
    """Hidden files, locks of open documents, and what systems put beside documents."""
    return name.startswith((".", "~$")) or name.lower() in _LEFT_OUT


def fits(uri: str, patterns: Sequence[str]) -> bool:
    """Patterns like *.pdf or 個人/*, of the whole name or of its last part."""
    name = _last(uri)
    return any(fnmatchcase(uri, p) or fnmatchcase(name, p) for p in patterns)


def wanted(uri: str, exclude: Sequence[str]) -> bool:
    """Of a file or a folder, what is above it left aside."""
    return not left_out(_last(uri)) and not fits(uri, exclude)


def within(uri: str, exclude: Sequence[str]) -> bool:
    """Wanted, as is every folder on the way to it."""
    parts = uri.split("/")
    return all(wanted("/".join(parts[:n]), exclude) for n in range(1, len(parts) + 1))


def _last(uri: str) -> str:
    return uri.rpartition("/")[2]  # a path would pass over a name that is only a dot


def _table(lines: list[str]) -> dict[str, frozenset[Principal]]:
    table = {}
    for line in lines:
        value, equals, names = line.rpartition("=")
        if not equals or not value.strip():
            raise SourceMisconfigured(
                f"閲覧できる人の対応表「{line}」は「値 = group:…」の形ではありません。"
            )
        named = [name.strip() for name in names.split(",") if name.strip()]
        try:
            table[_spelled(value)] = principals(named)
        except ValueError as error:
            raise SourceMisconfigured(f"閲覧できる人の対応表{error}。") from None
    return table


def _spelled(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()
