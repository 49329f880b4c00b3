"""What is wrong now, and what must still be told of it: one row, kept by one worker at a time.

Who keeps it holds a lease. A worker that lost its lease can save nothing, so that two never tell
the same thing, and what a worker that died had still to tell, the next one tells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import TypeAdapter
from sqlalchemy import Engine
from sqlmodel import Session

from appliance.errors import Conflict
from appliance.store import site
from appliance.store.database import ALERT_LOCK, lock, writing
from appliance.store.secrets import Keyring
from appliance.store.tables import SiteRow, now

STATE, LEASE, DESTINATIONS, TEST = "alerts", "alerts.lease", "alerts.destinations", "alerts.test"

Severity = Literal["critical", "warning"]
Kind = Literal["begin", "again", "end", "over", "test"]  # over: it began and ended untold


@dataclass
class Open:
    """Something that is wrong. `told_at`: since when people know, None while it may pass."""

    rule: str
    severity: Severity
    title: str
    said: str
    since: datetime
    told_at: datetime | None = None
    again_at: datetime | None = None
    well_since: datetime | None = None


@dataclass(frozen=True)
class Event:
    kind: Kind
    key: str
    severity: Severity
    title: str
    said: str
    since: datetime
    at: datetime


@dataclass
class Outbox:
    """What one way has still to tell. `sending` goes out under `delivery`, however often it is tried."""

    waiting: list[Event] = field(default_factory=list)
    sending: list[Event] = field(default_factory=list)
    delivery: str = ""
    next_at: datetime | None = None
    failures: int = 0  # in a row
    problem: str = ""
    sent_at: datetime | None = None
    lately: list[datetime] = field(default_factory=list)  # messages of the last hour


@dataclass
class State:
    open: dict[str, Open] = field(default_factory=dict)
    outboxes: dict[str, Outbox] = field(default_factory=dict)
    looked_at: datetime | None = None


_STATE = TypeAdapter(State)


def read(engine: Engine) -> State:
    text = site.get(engine, STATE)
    return _STATE.validate_json(text) if text else State()


def save(engine: Engine, owner: str, state: State) -> None:
    """Raises Conflict for who has no lease (any more)."""
    with writing(engine) as s:
        lock(s, ALERT_LOCK)
        if _holder(s) != owner:
            raise Conflict("another worker looks after the alerts")
        _put(s, STATE, _STATE.dump_json(state).decode())


def lease(engine: Engine, owner: str, ttl_s: float) -> bool:
    """Take the lease, or keep it. False while another worker has it."""
    with writing(engine) as s:
        lock(s, ALERT_LOCK)
        if _holder(s) not in ("", owner):
            return False
        until = now() + timedelta(seconds=ttl_s)
        _put(s, LEASE, json.dumps({"owner": owner, "until": until.isoformat()}))
        return True


def release(engine: Engine, owner: str) -> None:
    with writing(engine) as s:
        lock(s, ALERT_LOCK)
        if _holder(s) == owner and (row := s.get(SiteRow, LEASE)):
            s.delete(row)


def ask_for_test(engine: Engine) -> None:
    """`kura work` sends a message by every way, soon."""
    site.put(engine, TEST, datetime.now(UTC).isoformat())


def wants_test(engine: Engine) -> bool:
    return site.get(engine, TEST) is not None


def tested(engine: Engine) -> None:
    site.put(engine, TEST, None)


def destinations(engine: Engine) -> dict[str, Any]:
    """As they are stored: secrets sealed."""
    return dict(json.loads(site.get(engine, DESTINATIONS) or "{}"))


def set_destinations(engine: Engine, given: Mapping[str, Any], ring: Keyring) -> None:
    """What is secret is sealed before it is written."""
    sealed = ring.seal(given, destinations(engine))
    site.put(engine, DESTINATIONS, json.dumps(sealed, ensure_ascii=False))


def _holder(s: Session) -> str:
    row = s.get(SiteRow, LEASE)
    if row is None:
        return ""
    kept = json.loads(row.value)
    return str(kept["owner"]) if datetime.fromisoformat(kept["until"]) > now() else ""


def _put(s: Session, key: str, value: str) -> None:
    row = s.get(SiteRow, key) or SiteRow(key=key, value="")
    row.value = value
    s.add(row)
