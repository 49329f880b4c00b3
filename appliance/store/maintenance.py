"""Whether the house is closed for a while, what readers are told, and until when."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from appliance.store import site
from appliance.store.rows import clean
from appliance.store.tables import now

KEY = "maintenance"
LONGEST = 400  # characters of a message


@dataclass(frozen=True, slots=True)
class Maintenance:
    message: str
    since: datetime
    until: datetime | None = None  # what readers are told; it goes on until somebody ends it
    by: str = ""


def state(engine: Engine) -> Maintenance | None:
    """None: readers may come in."""
    if (text := site.get(engine, KEY)) is None:
        return None
    kept = json.loads(text)
    until = kept.get("until")
    return Maintenance(
        kept["message"],
        datetime.fromisoformat(kept["since"]),
        datetime.fromisoformat(until) if until else None,
        kept.get("by", ""),
    )


def begin(engine: Engine, message: str, until: datetime | None, by: str) -> Maintenance:
    """From now on; said again, it has another message and another end."""
    before = state(engine)
    made = Maintenance(clean(message)[:LONGEST], before.since if before else now(), until, by)
    kept = {
        "message": made.message,
        "since": made.since.isoformat(),
        "until": until.isoformat() if until else None,
        "by": by,
    }
    site.put(engine, KEY, json.dumps(kept, ensure_ascii=False))
    return made


def end(engine: Engine) -> bool:
    """False if there was none."""
    there = state(engine) is not None
    site.put(engine, KEY, None)
    return there
