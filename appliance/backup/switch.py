"""A data folder that was made ready takes the place of the one there is: wholly, or not at all.

What is made ready lies beside the folder and has a marker in it; the kernel exchanges the two in
one step. A folder that cannot be renamed (a volume, or one in a folder of somebody else's: of root's,
where Kura is installed) has it inside, and everything is moved, first out, then in, while `MOVING`
keeps every Kura from starting: killed meanwhile, the next restore goes on.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.backup.files import BEFORE, MADE_ANEW, MOVING, UNFINISHED
from appliance.errors import BackupProblem, Conflict

_EXCHANGE = 2
_OURS = (".restore-", ".incoming-", ".gone-", BEFORE)  # in a folder that stays


class Yard:
    """The place of a data folder. Raises BackupProblem for one where nothing can be restored."""

    def __init__(self, folder: Path) -> None:
        if folder.is_symlink():
            raise BackupProblem(
                f"データフォルダー {folder} はリンクです。KURA_DATA に、リンクではない本当の場所を書いてください。"
            )
        if folder.exists() and not folder.is_dir():
            raise BackupProblem(f"{folder} はフォルダーではありません。")
        if not folder.parent.is_dir():
            raise BackupProblem(f"{folder.parent} がありません。作ってからやり直してください。")
        self.folder = folder
        self.stays = stays(folder)
        self._in = folder if self.stays else folder.parent
        self._prefix = "." if self.stays else f".{folder.name}."

    @contextmanager
    def held(self) -> Iterator[None]:
        """One at a time. Raises Conflict."""
        path = self._in / f"{self._prefix}restore.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("ほかの「kura restore」が進んでいます。") from None
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
        finally:
            os.close(handle)

    def staging(self, token: str) -> Path:
        """Where a data folder is made ready."""
        return self._in / f"{self._prefix}restore-{token}"

    @property
    def moving(self) -> str:
        """The token of a switch that has begun inside the folder and not ended."""
        try:
            return (self.folder / MOVING).read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return ""

    @property
    def switched(self) -> bool:
        """A switch was made; only its end is missing."""
        return (self.folder / UNFINISHED).exists() and not self.moving

    def switch(self, token: str) -> Path | None:
        """What was made ready takes the place. Returns where the old one lies, if it held anything."""
        staging, folder = self.staging(token), self.folder
        if self.stays:
            if not self.moving:
                _write(folder / MOVING, token)
            return self._move(token)
        if not folder.exists():
            staging.rename(folder)
        elif not exchange(staging, folder):
            if not is_bare(folder):
                raise BackupProblem(
                    f"{folder} のファイルシステムは、フォルダーを一度に入れ替えられません。"
                    f"Kura を止め、{folder} の名前を変えてから、--replace を付けずに戻してください。"
                )
            take_away(folder)
            staging.rename(folder)
        sync(folder.parent)
        return self.put_aside()

    def tidy(self, but: str | None) -> None:
        """Clear up after a restore that was killed before its switch."""
        for left in self._in.glob(f"{self._prefix}restore-*"):
            unfinished = (left / UNFINISHED).exists() or not any(left.iterdir())
            if unfinished and left != self.staging(but or ""):
                take_away(left)
        for left in self._in.glob(f"{self._prefix}gone-*"):
            shutil.rmtree(left)
        for left in self.folder.glob(".incoming-*"):
            left.rmdir()

    def put_aside(self) -> Path | None:
        """What was exchanged is the old data folder: it gets a name that people see."""
        aside = None
        for left in self._in.glob(f"{self._prefix}restore-*"):
            if not left.is_dir() or (left / UNFINISHED).exists():
                continue
            if is_bare(left):
                take_away(left)
                continue
            token = left.name.rpartition("restore-")[2]
            aside = self.folder.with_name(f"{self.folder.name}.{BEFORE}{token}")
            left.rename(aside)
        return aside

    def end(self) -> None:
        (self.folder / UNFINISHED).unlink(missing_ok=True)

    def _move(self, token: str) -> Path | None:
        """Out, then in. Where it was killed it goes on."""
        folder, staging = self.folder, self.staging(token)
        incoming, aside = folder / f".incoming-{token}", folder / f"{BEFORE}{token}"
        if not incoming.exists():
            aside.mkdir(mode=0o700, exist_ok=True)
            for entry in folder.iterdir():
                if not entry.name.startswith(_OURS) and not _stays(entry.name):
                    entry.rename(aside / entry.name)
            sync(folder)
            staging.rename(incoming)
        for entry in sorted(incoming.iterdir(), key=lambda one: one.name == UNFINISHED):
            entry.rename(folder / entry.name)
        sync(folder)
        (folder / MOVING).unlink()
        incoming.rmdir()
        if is_bare(aside):
            take_away(aside)
            return None
        return aside


def halted(folder: Path) -> bool:
    """Whether the data folder is neither the old one nor the new one yet."""
    return (folder / MOVING).exists()


def is_bare(folder: Path) -> bool:
    """Nothing of a site is in it: at most locks, a log, what is made anew."""
    if not folder.is_dir():
        return True
    names = {entry.name for entry in folder.iterdir()}
    return all(name in MADE_ANEW or name.startswith(_OURS) or _stays(name) for name in names)


def stays(folder: Path) -> bool:
    """Whether it is there and nobody may rename it."""
    return folder.is_mount() or (folder.exists() and not os.access(folder.parent, os.W_OK))


def exchange(one: Path, other: Path) -> bool:
    """False where this file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    at = -100  # paths are whole
    if libc.renameat2(at, os.fsencode(one), at, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EXDEV):
        return False
    raise OSError(code, os.strerror(code), str(other))


def take_away(folder: Path) -> None:
    """By another name first: half of it must not look like a whole."""
    if folder.exists():
        name = folder.name.lstrip(".").partition("restore-")[0].partition(BEFORE)[0].strip(".")
        gone = folder.with_name(f".{name}.gone-{secrets.token_hex(4)}".replace("..", "."))
        folder.rename(gone)
        shutil.rmtree(gone)


def sync(folder: Path) -> None:
    """All that was written on that file system is on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)


def _stays(name: str) -> bool:
    return name in ("lost+found", MOVING) or name.endswith((".lock", ".sock")) or ".log" in name


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f"{path.name}.lock")  # by a name that nobody minds
    fresh.write_text(text, "utf-8")
    sync(path.parent)
    fresh.rename(path)
    sync(path.parent)
