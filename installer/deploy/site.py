"""What the steps of `install` and `configure` share: the answers, and the host as it is."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from installer.bundle.manifest import Manifest
from installer.deploy import units
from installer.deploy.answers import Answers
from installer.places import USER
from installer.steps import Context, Refused

GROUPS = tuple(f"kura-{name}" for name in units.PROCESSES)
ENOUGH_S = 900.0  # to load the models on a slow disk


@dataclass
class Site(Context):
    answers: Answers = field(default_factory=Answers)
    bundle: Path | None = None
    manifest: Manifest | None = None
    systemd: bool = True
    preflight: bool = True

    @property
    def whole(self) -> bool:
        """Whether this is a host, and no folder that stands for one: users, packages, services."""
        return self.places.root == Path("/")

    @property
    def owner(self) -> tuple[int, int]:
        """User and group of the data: Kura's own; in a folder, whoever works here."""
        if not self.whole:
            return os.geteuid(), os.getegid()
        try:
            about = pwd.getpwnam(USER)
        except KeyError:
            raise Refused(f"利用者 {USER} がありません。 / There is no user {USER}.") from None
        return about.pw_uid, about.pw_gid

    def group(self, name: str) -> int:
        return grp.getgrnam(name).gr_gid if self.whole else os.getegid()

    @property
    def release(self) -> Path:
        return self.places.release(self.version)

    @property
    def running_release(self) -> Path:
        return self.places.current / "venv" / "bin"

    @property
    def units(self) -> units.Site:
        a = self.answers
        return units.Site(
            self.places,
            a.port,
            a.clients,
            a.reach,
            a.gpu,
            a.sealed,
            a.settings.get("BACKUP_FOLDER", ""),
        )

    def environment(self) -> dict[str, str]:
        """Of Kura's processes: their settings, and nothing of the shell that this was started from."""
        from installer.deploy.settings import read

        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "TZ"}}
        kept.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        return kept | {"LANG": "C.UTF-8"} | read(self.places.settings)

    def as_owner(self, *argv: str | Path, port: bool = False) -> list[str]:
        """The command, run by Kura's user; `port`: it may listen on one below 1024."""
        words = [str(one) for one in argv]
        if os.geteuid() != 0 or not self.whole:
            return words
        uid, gid = self.owner
        bind = ("--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service")
        ids = ("setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups")
        return [*ids, *(bind if port and self.answers.port < 1024 else ()), *words]

    def kura(self, *words: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """The installed command line, as Kura's user."""
        return subprocess.run(
            self.as_owner(self.running_release / "kura", *words),
            env=self.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
