"""What one look at the host found, and what Kura wants of it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "warning", "bad"]
COMMAND_S = 5.0  # a program of the host may take so long to answer
GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` is the exact command, where one mends it; else what to do."""

    level: Level
    found: str
    needed: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to run here. Empty or 0: not asked for, and then not looked at."""

    data: Path = Path("/var/lib/kura")
    address: str = "0.0.0.0"  # noqa: S104 - tried, not listened on
    port: int = 443
    name: str = ""  # people's browsers know it by this
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None  # the company's own, PEM
    memory_gb: float = 8.0
    disk_gb: float = 30.0
    vram_gb: float = 0.0  # of the models that are to lie on a GPU
    ldap: str = ""  # ldaps://host:port
    ldap_user: str = ""
    ldap_password: str = ""
    smb: tuple[str, ...] = ()  # hosts


@dataclass(frozen=True, slots=True)
class Host:
    """The machine, as its files tell of it. Tests give another root."""

    root: Path = Path("/")

    def text(self, path: str) -> str:
        """Empty where it is not there or not to be read."""
        try:
            return (self.root / path.lstrip("/")).read_text("utf-8", "replace")
        except OSError:
            return ""

    def has(self, path: str) -> bool:
        return (self.root / path.lstrip("/")).exists()

    def says(self, *command: str) -> str | None:
        """What a program prints; None where it is missing, fails or does not answer."""
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=COMMAND_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None


def ok(found: str, needed: str) -> Finding:
    return Finding("ok", found, needed)


def bad(found: str, needed: str, mend: str) -> Finding:
    return Finding("bad", found, needed, mend)


def warning(found: str, needed: str, mend: str) -> Finding:
    return Finding("warning", found, needed, mend)
