"""Which releases were left, and when: what a rollback can lead to, and what may go."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from installer import places
from installer.places import Places

KEPT = 3  # releases beside the one that serves


def left(of: Places, version: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = _read(of) | {version: now}
    places.write(of.state / "left.json", json.dumps(told, indent=1), 0o600)


def latest(of: Places) -> list[str]:
    """The last that were left and lie here, the latest first; without the one that serves."""
    told = _read(of)
    here = [v for v in of.versions() if v in told and v != of.installed()]
    return sorted(here, key=lambda v: told[v], reverse=True)[:KEPT]


def when(of: Places, version: str) -> str:
    return _read(of).get(version, "")


def _read(of: Places) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((of.state / "left.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return found
