"""Generations of an index on disk: written whole, verified before use, swapped atomically.

    <folder>/CURRENT                    "<generation> <sha256 of its manifest>"
    <folder>/generation-<n>-<random>/   manifest.json and the files it names, never changed
    <folder>/lock                       held while a generation is written

Invariant: what `read` returns is byte for byte what one `write` was given. A crash at any
moment leaves the last whole generation; damage of any byte makes `read` return None.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

log = logging.getLogger(__name__)

_PREFIX = "generation-"
_UNFINISHED = "unfinished-"
_KEPT = 2  # another process may still be reading the one before


class Snapshots:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._digests: dict[tuple[int, int, int], str] = {}  # inode, size, mtime -> sha256

    def write(self, files: Mapping[str, Path | bytes], facts: Mapping[str, Any]) -> Path:
        """A new generation of `files` (a path is linked, so it must never change) and `facts`.

        Raises OSError; the generation before stays current then.
        """
        with held(self.folder):
            self._sweep(_UNFINISHED, ())
            scratch = self.folder / f"{_UNFINISHED}{secrets.token_hex(4)}"
            scratch.mkdir()
            digests = {name: self._put(scratch / name, files[name]) for name in sorted(files)}
            manifest = json.dumps({"facts": dict(facts), "files": digests}, sort_keys=True).encode()
            _write(scratch / "manifest.json", manifest)
            _sync_folder(scratch)
            before = self._current()
            number = int(before.split("-")[1]) + 1 if before else 1
            name = f"{_PREFIX}{number}-{secrets.token_hex(4)}"
            scratch.rename(self.folder / name)
            pointer = self.folder / "CURRENT.new"
            _write(pointer, f"{name} {hashlib.sha256(manifest).hexdigest()}\n".encode())
            pointer.replace(self.folder / "CURRENT")
            _sync_folder(self.folder)
            self._sweep(_PREFIX, (name, before))
            return self.folder / name

    def read(self) -> tuple[Path, dict[str, Any]] | None:
        """The current generation's folder and facts, every digest checked; None if none is whole."""
        for _ in range(_KEPT):  # a writer beside us may have moved on while we looked
            try:
                return self._verified()
            except FileNotFoundError:
                if not (self.folder / "CURRENT").exists():
                    return None
            except (OSError, ValueError, KeyError) as error:
                log.warning("snapshot in %s is damaged and will be rebuilt: %s", self.folder, error)
                return None
        log.warning("snapshot in %s is not whole and will be rebuilt", self.folder)
        return None

    def _verified(self) -> tuple[Path, dict[str, Any]]:
        name, digest = (self.folder / "CURRENT").read_text("ascii").split()
        if not name.startswith(_PREFIX) or "/" in name:
            raise ValueError(f"CURRENT names {name!r}")
        path = self.folder / name
        raw = (path / "manifest.json").read_bytes()
        if hashlib.sha256(raw).hexdigest() != digest:
            raise ValueError("manifest.json is not the one CURRENT knows")
        manifest = json.loads(raw)
        files: dict[str, str] = manifest["files"]
        if {p.name for p in path.iterdir()} != {*files, "manifest.json"}:
            raise ValueError("a file is missing or was added")
        for file, expected in files.items():
            if self._digest(path / file, remember=True) != expected:
                raise ValueError(f"{file} has another digest")
        facts: dict[str, Any] = manifest["facts"]
        return path, facts

    def _current(self) -> str:
        try:
            name = (self.folder / "CURRENT").read_text("ascii").split()[0]
            int(name.split("-")[1])
        except (OSError, ValueError, IndexError):
            return ""
        return name

    def _put(self, target: Path, content: Path | bytes) -> str:
        if isinstance(content, bytes):
            _write(target, content)
            return hashlib.sha256(content).hexdigest()
        try:
            os.link(content, target)
        except OSError:
            if not content.exists():
                raise
            shutil.copyfile(content, target)  # a file system without links
        with target.open("rb") as file:
            os.fsync(file.fileno())
        return self._digest(target, remember=False)

    def _digest(self, path: Path, remember: bool) -> str:
        """SHA-256 of a file; `remember` reads it anew, for a digest that is to be believed."""
        stat = path.stat()
        key = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if remember or key not in self._digests:
            with path.open("rb") as file:
                self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[key]

    def _sweep(self, prefix: str, kept: tuple[str, ...]) -> None:
        for path in self.folder.glob(f"{prefix}*"):
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


class Workshop:
    """A folder in `folder` for this process alone; it goes with the process or with its owner.

    What a process left that was killed, the next one takes away.
    """

    def __init__(self, folder: Path) -> None:
        with held(folder):
            _sweep(folder)
            self.path = folder / f"live-{os.getpid()}-{secrets.token_hex(4)}"
            self.path.mkdir()
            owner = (self.path / "owner").open("w")
            fcntl.flock(owner, fcntl.LOCK_EX)
        self._gone = weakref.finalize(self, _discard, self.path, owner, os.getpid())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder's lock; the kernel drops it when the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def damaged(folder: Path) -> bool:
    """Whether there is a generation, and it is not as it was written."""
    return (folder / "CURRENT").exists() and Snapshots(folder).read() is None


def leftovers(folder: Path) -> list[Path]:
    """What processes left that were killed: only while nobody writes, so under the folder's lock."""
    if not folder.is_dir():
        return []
    with held(folder):
        return [*folder.glob(f"{_UNFINISHED}*"), *filter(_is_nobodys, folder.glob("live-*"))]


def sweep(folder: Path) -> None:
    """Takes them away."""
    with held(folder):
        _sweep(folder)
        for path in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)


def _is_nobodys(live: Path) -> bool:
    try:
        with (live / "owner").open("r") as owner:
            fcntl.flock(owner, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return live.is_dir()
    return True


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Take away live folders whose process died; the kernel has dropped their locks."""
    for path in folder.glob("live-*"):
        try:
            with (path / "owner").open("a") as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue
        except FileNotFoundError:
            shutil.rmtree(path, ignore_errors=True)


def _discard(path: Path, owner: TextIO, process: int) -> None:
    if os.getpid() == process:  # a forked child leaves its parent's folder alone
        shutil.rmtree(path, ignore_errors=True)
    owner.close()
