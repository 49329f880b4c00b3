"""What is remembered of kintone's records between two runs: which revision of each was read."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from appliance.types import Change, Cursor, Remove

FEW = 20  # documents; fewer than this may vanish at once without a doubt


@dataclass(slots=True)
class Known:
    """What a cursor holds of an app. A record: its revision, and the keys of its files that were read."""

    records: dict[int, tuple[int, list[str]]] = field(default_factory=dict)
    uris: dict[int, list[str]] = field(default_factory=dict)
    form: str = ""
    day: str = ""
    spent: int = 0


def removals(before: dict[str, Known], after: dict[str, Known]) -> Iterator[Change]:
    """One app that cannot be read must not keep alive what was deleted from another."""
    for id_, had in before.items():
        if id_ not in after:
            continue
        now = {uri for uris in after[id_].uris.values() for uri in uris}
        was = [uri for uris in had.uris.values() for uri in uris]
        gone = [uri for uri in was if uri not in now]
        if len(gone) < FEW or 2 * len(gone) <= len(was):
            yield from map(Remove, gone)
        else:
            for record, uris in had.uris.items():
                after[id_].uris.setdefault(record, uris)


def save(known: dict[str, Known]) -> Cursor:
    said = {
        id_: {
            "records": {str(r): [n, keys] for r, (n, keys) in app.records.items()},
            "uris": {str(r): uris[1:] for r, uris in app.uris.items()},
            "form": app.form,
            "day": app.day,
            "spent": app.spent,
        }
        for id_, app in known.items()
    }
    return Cursor(json.dumps(said, ensure_ascii=False, separators=(",", ":")))


def load(cursor: Cursor | None) -> dict[str, Known]:
    try:
        said: dict[str, Any] = json.loads(cursor or "{}")
        return {
            id_: Known(
                {
                    int(r): (int(n), [str(k) for k in keys])
                    for r, (n, keys) in app["records"].items()
                },
                {
                    int(r): [f"{id_}/{r}", *(unicodedata.normalize("NFC", str(u)) for u in uris)]
                    for r, uris in app["uris"].items()
                },
                str(app["form"]),
                str(app["day"]),
                int(app["spent"]),
            )
            for id_, app in said.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # another version's: everything is listed anyway
