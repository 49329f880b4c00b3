"""Which files of the data folder a backup holds: all but those that Kura makes anew by itself.

What is not known here is kept, so that nothing new is forgotten. A link is refused: what it
points at would be missing in silence.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from appliance.errors import BackupProblem, DigestMismatch
from appliance.settings import Settings

PIECE_BYTES = 4 * 1024 * 1024
# Indexes follow the catalogue, copies of repositories their sources, models come with Kura; what is
# in `upgrade` leads back to an earlier release, on this machine alone. What the walls of one machine were
# found to be says nothing of another.
MADE_ANEW = frozenset({"index", "git", "models", "upgrade", "egress", "walls"})
KEYS = frozenset({"attest/site.key"})  # beside the one of the sources' passwords
_PASSING = (".lock", ".sock", "-wal", "-shm", "-journal")  # at the top of the folder
UNFINISHED = "restore.unfinished"  # in a data folder that is being restored
MOVING = "restore.moving"
BEFORE = "before-"  # what a restore has put aside


@dataclass(frozen=True, slots=True)
class File:
    path: str  # in the data folder, with slashes
    at: Path


def wanted(settings: Settings, config: Path, *, keys: bool) -> Iterator[File]:
    """`keys`: with the key of the sources' passwords. `config` may lie outside, as the key may."""
    outside = {"kura.toml": config, "secrets.key": settings.secrets_key}
    if not keys:
        del outside["secrets.key"]
    for name, at in outside.items():
        if at.is_file():
            yield File(name, at.resolve())
    skipped = {p.absolute() for p in (settings.models, settings.log)}
    skipped |= {config.absolute(), settings.secrets_key.absolute()}
    database = settings.database_url.removeprefix("sqlite:///")
    for entry in _entries(settings.data):
        at = Path(entry.path)
        passing = entry.name.endswith(_PASSING) or entry.name.startswith(
            (settings.log.name, BEFORE, ".restore-", ".incoming-", ".gone-")
        )
        if entry.name in {*MADE_ANEW, *outside, "secrets.key", UNFINISHED, MOVING} or passing:
            continue
        if at.absolute() in skipped:
            continue
        for file in _below(entry, ""):
            if not keys and file.path in KEYS:
                continue
            if not str(file.at.absolute()).startswith(database):
                yield file


def pieces(file: File) -> Iterator[bytes]:
    """Raises FileNotFoundError for one that has gone meanwhile."""
    handle = os.open(file.at, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece


def place(folder: Path, path: str) -> Path:
    """Where a file of a backup goes in a folder. Raises DigestMismatch for a path that leads out."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\0" in path or {"..", "."} & set(parts):
        raise DigestMismatch("控えの目録に、フォルダーの外を指す名前があります。")
    return folder.joinpath(*parts)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _below(entry: os.DirEntry[str], within: str) -> Iterator[File]:
    name = f"{within}{entry.name}"
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise BackupProblem(
            f"データフォルダーの {name} はリンクです。その先は控えに入りません。"
            "リンクを除くか、ファイルそのものを置いてください。"
        )
    if stat.S_ISDIR(mode):
        for inner in _entries(Path(entry.path)):
            yield from _below(inner, f"{name}/")
    elif stat.S_ISREG(mode):
        yield File(name, Path(entry.path))
