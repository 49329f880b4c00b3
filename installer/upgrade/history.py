"""Which releases were left, and when: what a rollback can lead to, and what may go."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from installer import places
from installer.places import Places

KEPT = 3  # releases beside the one that serves


def left(of: Places, version: str) -> None:
    """The file is in the order of leaving: a clock may stand still, or be set back."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = {v: at for v, at in _read(of).items() if v != version} | {version: now}
    places.write(of.state / "left.json", json.dumps(told, indent=1), 0o600)


def latest(of: Places) -> list[str]:
    """The last that were left and lie here, the latest first; without the one that serves."""
    here = {*of.versions()} - {of.installed()}
    return [v for v in reversed(_read(of)) if v in here][:KEPT]


def when(of: Places, version: str) -> str:
    return _read(of).get(version, "")


def _read(of: Places) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((of.state / "left.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return found
