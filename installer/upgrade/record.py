"""What is under way between two releases: one file, written whole before each thing it speaks of.

phase       Kura                        a crash now leads to
stopping    may be stopped; all is old  old: start it again
moving      stopped, half moved         old: what was moved moves back
trying      all is new, being checked   new if it passes its check, else old
back        stopped, half moved back    old: the moves go on
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from installer import places
from installer.places import Places
from installer.upgrade.files import Swap

Phase = Literal["stopping", "moving", "trying", "back"]


@dataclass(frozen=True)
class Record:
    kind: Literal["upgrade", "rollback"]
    origin: str  # version
    target: str
    token: str
    running: bool  # Kura ran when it began
    phase: Phase
    swap: Swap
    database: str = ""  # its name in the data folder; "" where it stays
    schemas: tuple[str, ...] = ()  # of PostgreSQL: where it goes, and which comes
    settings: str = ""  # file with the settings that go with the target; "" leaves them
    digest: str = ""  # of the database that is left
    ready_s: float = 120.0  # the longest that the target may take to serve

    def at(self, phase: Phase) -> Record:
        return replace(self, phase=phase)


def path(of: Places) -> Path:
    return of.state / "switch.json"


def read(of: Places) -> Record | None:
    try:
        told = json.loads(path(of).read_text("utf-8"))
    except FileNotFoundError:
        return None
    swap = told.pop("swap")
    folders = {name: Path(swap[name]) for name in ("data", "outgoing", "incoming")}
    told["schemas"] = tuple(told["schemas"])
    return Record(**told, swap=Swap(**folders, outs=tuple(swap["outs"]), ins=tuple(swap["ins"])))


def write(of: Places, record: Record | None) -> None:
    """On the disk when this returns. None: nothing is under way."""
    if record is None:
        path(of).unlink(missing_ok=True)
        places._settle(of.state)
        return
    text = json.dumps(asdict(record), default=str, ensure_ascii=False, indent=1)
    places.write(path(of), text, 0o600)
