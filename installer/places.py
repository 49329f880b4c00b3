"""Where Kura lies on a host, and the two ways anything is put there: a whole file, or a link that moves at once."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VERSION = re.compile(r"\d+(\.\d+)*([-+.]?[0-9A-Za-z]+)*")
USER = "kura"


@dataclass(frozen=True, slots=True)
class Places:
    """Everything is below `root`; what is written into files names it too, so a folder will do for a host."""

    root: Path = Path("/")

    def _at(self, path: str) -> Path:
        return self.root / path

    @property
    def opt(self) -> Path:
        return self._at("opt/kura")

    @property
    def releases(self) -> Path:
        return self.opt / "releases"

    @property
    def current(self) -> Path:
        return self.opt / "current"

    @property
    def etc(self) -> Path:
        return self._at("etc/kura")

    @property
    def settings(self) -> Path:
        return self.etc / "kura.env"

    @property
    def tls(self) -> Path:
        return self.etc / "tls"

    @property
    def firewall(self) -> Path:
        return self.etc / "nftables.conf"

    @property
    def keys(self) -> Path:
        """Public keys of those whose bundles are taken."""
        return self.etc / "release-keys"

    @property
    def data(self) -> Path:
        return self._at("var/lib/kura")

    @property
    def state(self) -> Path:
        """What the installer itself keeps; nobody but root may read it."""
        return self._at("var/lib/kura-installer")

    @property
    def journal(self) -> Path:
        return self.state / "journal.jsonl"

    @property
    def log(self) -> Path:
        return self.state / "install.log"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def snapshots(self) -> Path:
        return self.state / "snapshots"

    @property
    def units(self) -> Path:
        return self._at("etc/systemd/system")

    @property
    def commands(self) -> Path:
        return self._at("usr/local/bin")

    def release(self, version: str) -> Path:
        """The folder of a version. Raises ValueError for what could lead elsewhere."""
        if not VERSION.fullmatch(version):
            raise ValueError(f"no version: {version!r}")
        return self.releases / version

    def installed(self) -> str:
        """The version that `current` points at; "" where nothing is installed."""
        try:
            return self.current.readlink().name
        except OSError:
            return ""

    def versions(self) -> list[str]:
        """Those that lie here, complete or not."""
        if not self.releases.is_dir():
            return []
        return sorted(p.name for p in self.releases.iterdir() if VERSION.fullmatch(p.name))


def write(
    path: Path, content: str | bytes, mode: int = 0o644, owner: tuple[int, int] | None = None
) -> None:
    """The whole file or none of it, on the disk when this returns; never readable by more than `mode` says."""
    data = content.encode() if isinstance(content, str) else content
    with _beside(path) as new:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            if owner:
                os.fchown(out.fileno(), *owner)
            os.fchmod(out.fileno(), mode)
            out.flush()
            os.fsync(out.fileno())
        new.replace(path)
    _settle(path.parent)


def point(link: Path, target: Path) -> None:
    """Make `link` lead to `target`: before, to the old place; after, to the new; never to none."""
    relative = os.path.relpath(target, link.parent)
    with _beside(link) as new:
        new.symlink_to(relative)
        new.replace(link)
    _settle(link.parent)


def sweep(folder: Path) -> None:
    """Take away what a killed `write` or `point` left in a folder."""
    for left in folder.glob(".*.new-*"):
        left.unlink()


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    new = path.with_name(f".{path.name}.new-{secrets.token_hex(4)}")
    try:
        yield new
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _settle(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
