"""A data folder's files: snapshots that share what never changes, and moves that can be taken back.

Everything here runs as the owner of the data folder (`site.Site.owned`): root follows no link that
somebody else could have laid.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SWITCHING = "upgrade.switching"  # the same as in appliance/store/guard.py: no Kura starts
OURS = "upgrade"  # our folder in the data folder
FACTS = "snapshot.json"
BLOCK = 1 << 20
_CLONE = 0x40049409  # FICLONE
# never changed once written, so that a snapshot may share them; other files are copied
_SHARED = frozenset({"uploads", "index", "scans"})
_PASSING = (".lock", ".sock")
_NOT_OURS = ("before-", ".restore-", ".incoming-", ".gone-", "restore.", "lost+found")


@dataclass(frozen=True)
class Swap:
    """`outs` leave the data folder, `ins` come into it. Can be taken up, or back, wherever it ended."""

    data: Path
    outgoing: Path
    incoming: Path
    outs: tuple[str, ...]
    ins: tuple[str, ...]

    def forward(self) -> None:
        self.outgoing.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in self.outs:
            came = name in self.ins and not (self.incoming / name).exists()
            if not came and not _there(self.outgoing / name) and _there(self.data / name):
                _move(self.data / name, self.outgoing / name)
        for name in self.ins:
            if _there(self.incoming / name):
                _move(self.incoming / name, self.data / name)
        self._settle()

    def backward(self) -> None:
        for name in self.ins:
            original = name in self.outs and not _there(self.outgoing / name)
            if not original and not _there(self.incoming / name) and _there(self.data / name):
                _move(self.data / name, self.incoming / name)
        for name in self.outs:
            if _there(self.outgoing / name):
                _move(self.outgoing / name, self.data / name)
        self._settle()

    def _settle(self) -> None:
        for folder in (self.data, self.outgoing, self.incoming):
            if folder.is_dir():
                sync(folder)


def managed(data: Path, log: str = "kura.log") -> tuple[str, ...]:
    """What belongs to a state of the site: all but what comes with a release, passes, or is made anew."""
    found = []
    for entry in sorted(one.name for one in data.iterdir()):
        passes = entry.endswith(_PASSING) or entry.startswith((log, *_NOT_OURS))
        if not passes and entry not in {"models", "git", OURS, SWITCHING}:
            found.append(entry)
    return tuple(found)


def snapshot(data: Path, target: Path, but: Iterable[str], log: str) -> None:
    """All that is managed, less `but`. A file that never changes is linked, so this is quick."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True, mode=0o700)
    for name in managed(data, log):
        if name in set(but):
            continue
        source = data / name
        share = name in _SHARED
        if source.is_dir() and not source.is_symlink():
            tree(source, target / name, share=share)
        elif stat.S_ISREG(source.lstat().st_mode):
            shutil.copy2(source, target / name)
            _synced(target / name)
    sync_all(target)


def tree(source: Path, target: Path, *, share: bool) -> None:
    """A folder again. What vanishes meanwhile, as generations of an index do, is left out."""
    target.mkdir(mode=0o700, exist_ok=True)
    with os.scandir(source) as found:
        entries = list(found)
    for entry in entries:
        if entry.name.startswith(("live-", "unfinished-")) or entry.name == "lock":
            continue
        place = target / entry.name
        try:
            if entry.is_symlink():
                place.symlink_to(Path(entry.path).readlink())
            elif entry.is_dir():
                tree(Path(entry.path), place, share=share)
            elif entry.is_file() and not (share and _linked(entry.path, place)):
                shutil.copy2(entry.path, place, follow_symlinks=False)
        except FileNotFoundError:
            continue


def alike(source: Path, target: Path) -> str:
    """Make `target` the same bytes as `source`, on the disk. Returns the SHA-256.

    By sharing blocks where the file system can; else only blocks that differ are written, so a
    copy of some minutes ago costs little more than reading both.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    digest = hashlib.sha256()
    with source.open("rb") as old, os.fdopen(os.open(target, flags, 0o600), "r+b") as new:
        if _clone(old.fileno(), new.fileno()):
            new.seek(0)
            while block := new.read(BLOCK):
                digest.update(block)
        else:
            at = 0
            while block := old.read(BLOCK):
                digest.update(block)
                new.seek(at)
                if new.read(len(block)) != block:
                    new.seek(at)
                    new.write(block)
                at += len(block)
            new.truncate(at)
        new.flush()
        os.fsync(new.fileno())
    sync(target.parent)
    return digest.hexdigest()


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put(path: Path, text: str) -> None:
    """The whole file or none, on the disk."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.rename(path)
    sync(path.parent)


def mark(data: Path) -> None:
    """From here on nothing of Kura starts. An empty file takes no room on a disk that is full."""
    os.close(os.open(data / SWITCHING, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    sync(data)


def unmark(data: Path) -> None:
    (data / SWITCHING).unlink(missing_ok=True)
    sync(data)


def drop(*folders: Path) -> None:
    """Under another name first: what is half gone must look like nothing."""
    for folder in filter(_there, folders):
        gone = folder.with_name(f".{folder.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone)


def held(data: Path, name: str) -> int:
    """The process that holds the lock of that name; 0 where none does, -1 where it does not say."""
    try:
        handle = os.open(data / f"{name}.lock", os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.pread(handle, 20, 0).strip()
        return int(said) if said.isdigit() else -1
    else:
        return 0
    finally:
        os.close(handle)


def sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    for at, _, _ in os.walk(folder):
        sync(Path(at))


def _linked(source: str, target: Path) -> bool:
    if target.name == "CURRENT":  # the one file of an index that is replaced
        return False
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            return False
        raise
    return True


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _CLONE, source)
    except OSError:
        return False
    return True


def _move(source: Path, target: Path) -> None:
    if _there(target):
        raise OSError(errno.EEXIST, f"{target} がすでにあります / is there already")
    source.rename(target)


def _there(path: Path) -> bool:
    return os.path.lexists(path)


def _synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
