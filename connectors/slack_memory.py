"""What is remembered of the channels of Slack between two looks: their readers and their documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from datetime import time as clock
from typing import Any, NamedTuple

from appliance.types import NOBODY, Access, AccessChanged, Change, Cursor, Layer, Principal, Remove
from connectors.listing import FEW
from connectors.slack_talk import JAPAN

DAY = re.compile(r"20\d\d-[01]\d-[0-3]\d")


class Entry(NamedTuple):
    """What is kept of a document. `of`: of a thread, its mark; of a file, the document it is shown in."""

    version: str
    title: str  # without the channel, which may be renamed
    at: float
    size_bytes: int | None
    of: str = ""


@dataclass
class Known:
    """A channel as it was last told of. Documents by what follows the channel in their uri."""

    read_at: float = 0.0  # when all of it was; 0: never
    access: Access = NOBODY
    docs: dict[str, Entry] = field(default_factory=dict)


def midnight(day: date) -> float:
    return datetime.combine(day, clock(), JAPAN).timestamp()


def older(holder: str, first: date) -> bool:
    """Whether a day or a thread began before those that are read again."""
    return holder < first.isoformat() if DAY.fullmatch(holder) else float(holder) < midnight(first)


def removals(before: Mapping[str, Known], after: dict[str, Known]) -> Iterator[Change]:
    """One channel that does not open must not keep alive what was deleted elsewhere."""
    gone = [
        (id_, suffix)
        for id_, had in before.items()
        for suffix in had.docs
        if id_ not in after or suffix not in after[id_].docs
    ]
    if _few(len(gone), before):
        yield from (Remove(f"{id_}/{suffix}") for id_, suffix in gone)
        return
    for id_, suffix in gone:  # told of again, until it is sure
        known = after.setdefault(id_, Known())
        known.docs[suffix] = before[id_].docs[suffix]


def unmentioned(
    told: Sequence[AccessChanged], before: Mapping[str, Known], after: Mapping[str, Known]
) -> Iterator[Change]:
    """What a complete run has told of without there being any: it would count as mentioned."""
    gone = [one.uri for one in told if not _has(after, one.uri)]
    if _few(len(gone), before):
        yield from map(Remove, gone)


def _has(known: Mapping[str, Known], uri: str) -> bool:
    id_, _, suffix = uri.partition("/")
    return id_ in known and suffix in known[id_].docs


def _few(gone: int, before: Mapping[str, Known]) -> bool:
    return gone < FEW or 2 * gone <= sum(len(had.docs) for had in before.values())


def load(cursor: Cursor | None) -> dict[str, Known]:
    try:
        return {
            str(id_): Known(
                float(said["read_at"]),
                tuple(Layer(frozenset(map(Principal, names))) for names in said["access"]),
                {str(suffix): Entry(*entry) for suffix, entry in said["docs"].items()},
            )
            for id_, said in json.loads(cursor or "{}").get("channels", {}).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # another version's: everything is listed anyway


def save(known: Mapping[str, Known]) -> Cursor:
    said: dict[str, Any] = {
        id_: {
            "read_at": one.read_at,
            "access": [sorted(layer.allow) for layer in one.access],
            "docs": one.docs,
        }
        for id_, one in known.items()
    }
    return Cursor(json.dumps({"channels": said}, ensure_ascii=False, separators=(",", ":")))
