"""Whether a backup could be restored: its parts by their digests, or by a restore on trial."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from appliance.backup import restore
from appliance.backup.read import Backup, check_version
from appliance.backup.vault import told
from appliance.errors import BackupProblem, DigestMismatch


@dataclass(frozen=True)
class Verdict:
    name: str
    problems: tuple[str, ...]
    parts: int
    restored: bool  # on trial, too


def digests(backup: Backup) -> Verdict:
    """Reads every part once; needs no key."""
    problems = []
    for name, known in backup.parts.items():
        try:
            backup.vault.part(name, known)
        except DigestMismatch as error:
            problems.append(str(error))
    return Verdict(backup.manifest.name, tuple(problems), len(backup.parts), False)


def on_trial(backup: Backup, room: Path | None = None) -> Verdict:
    """Restores all of it into a folder that is taken away again. Raises DigestMismatch."""
    check_version(backup)
    try:
        with tempfile.TemporaryDirectory(dir=room, prefix="kura-trial-") as made:
            folder = Path(made) / "data"
            url = f"sqlite:///{folder / 'kura.db'}"
            restore.stage(backup, Path(made) / "new", folder, url, "trial")
    except OSError as error:
        raise BackupProblem(told(error, room or Path(tempfile.gettempdir()))) from error
    counted = {table.name: table.rows for table in backup.index.tables}
    if counted != backup.manifest.rows or len(backup.index.files) != backup.manifest.files:
        raise DigestMismatch(f"控え {backup.manifest.name} の目録の数が、中身と違います。")
    return Verdict(backup.manifest.name, (), len(backup.parts), True)
