"""What is remembered of GitLab between two runs: of each project, its documents and the last change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.types import NOBODY, Access, Cursor

MOVED = "moved"  # the version of an issue that is another now: no document, but GitLab counts it


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a document; the rest is its project's."""

    same: str  # "issue/12": what a move keeps
    title: str
    version: str
    at: str
    between: tuple[str, ...] | None = None  # of what is confidential, who it is between
    project: int = 0
    access: Access = NOBODY
    media_type: str | None = "text/markdown"  # None: its bytes are a file's

    @property
    def saved(self) -> list[Any]:
        return [self.same, self.title, self.version, self.at, self.between, self.media_type]


@dataclass(slots=True)
class Known:
    """A project."""

    path: str = ""
    synced: dict[str, str] = field(default_factory=dict)  # by kind, the last change that was seen
    whole_at: float = 0.0
    entries: dict[str, Entry] = field(default_factory=dict)  # by "issues/12", "wikis/手順"
    readers: str = ""  # a digest of who may read which kind

    def of(self, kind: str) -> dict[str, Entry]:
        return {tail: e for tail, e in self.entries.items() if tail.startswith(f"{kind}/")}


def save(cursor: Cursor, known: Mapping[int, Known], shape: str) -> Cursor:
    """Beside what a listing remembers. `shape`: the settings that the entries depend on."""
    said = json.loads(cursor) | {"shape": shape}
    said["projects"] = {
        str(id_): {
            "path": one.path,
            "synced": one.synced,
            "whole_at": one.whole_at,
            "entries": {tail: entry.saved for tail, entry in one.entries.items()},
            "readers": one.readers,
        }
        for id_, one in known.items()
    }
    return Cursor(json.dumps(said, ensure_ascii=False, separators=(",", ":")))


def load(cursor: Cursor | None, shape: str) -> dict[int, Known]:
    try:
        said = json.loads(cursor or "{}")
        if said.get("shape") != shape:
            return {}
        return {
            int(id_): Known(
                str(one["path"]),
                dict(one["synced"]),
                float(one["whole_at"]),
                {tail: _entry(saved) for tail, saved in one["entries"].items()},
                str(one["readers"]),
            )
            for id_, one in said["projects"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # another version's: everything is listed anyway


def _entry(saved: list[Any]) -> Entry:
    same, title, version, at, between, media_type = saved
    who = None if between is None else tuple(between)
    return Entry(same, title, version, at, who, media_type=media_type)
