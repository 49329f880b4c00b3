"""Where the data are to lie: room, kind, and how long a write takes to be safe."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from installer.host.finding import GB, Finding, Host, Wanted, bad, ok, warning

WRITES = 40
SLOW_MS, TOO_SLOW_MS = 20.0, 200.0  # a turning disk takes about 10; a question writes three times
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs"}


def room(host: Host, wanted: Wanted) -> Finding:
    place = _there(wanted.data)
    free = shutil.disk_usage(place).free / GB
    needed, found = f"{wanted.disk_gb:g} GB", f"{free:.0f} GB ({place})"
    if free < wanted.disk_gb:
        return bad(
            found,
            needed,
            f"df -h {place}   # 空けるか、別のディスクを {wanted.data} に / make room, or mount another disk there",
        )
    return ok(found, needed)


def kind(host: Host, wanted: Wanted) -> Finding:
    needed = "ローカルのファイルシステム / a local file system"
    name, at = _mounted(host, _there(wanted.data))
    if name in REMOTE:
        return bad(
            f"{name} ({at})",
            needed,
            f"SQLite は {name} の上で壊れます。ローカルのディスクを {wanted.data} に置いてください。 / SQLite breaks on {name}: mount a local disk.",
        )
    if name in {"tmpfs", "ramfs"}:
        return bad(
            f"{name} ({at})", needed, "電源を切ると消えます。 / It does not survive a restart."
        )
    return ok(f"{name or '?'} ({at})", needed)


def latency(host: Host, wanted: Wanted) -> Finding:
    needed = f"fsync の中央値 {SLOW_MS:g} ms 以下 / median"
    place = _there(wanted.data)
    try:
        middle = _fsync_ms(place)
    except OSError as error:
        return warning(
            f"{place}: {error.strerror}", needed, "root で実行してください。 / Run this as root."
        )
    found, mend = (
        f"{middle:.1f} ms",
        "SSD を使うか、仮想ディスクのキャッシュの設定を見てください。 / Use an SSD, or look at the virtual disk's cache mode.",
    )
    if middle > TOO_SLOW_MS:
        return bad(found, needed, mend)
    return ok(found, needed) if middle <= SLOW_MS else warning(found, needed, mend)


def temporary(host: Host, wanted: Wanted) -> Finding:
    """llama.cpp and others map what they unpack: a folder without the right to run is of no use."""
    place = Path(tempfile.gettempdir())
    needed = f"{place} で実行できること / may run programs"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "try"
        script.write_text("#!/bin/sh\nexit 0\n")
        script.chmod(0o700)
        if host.says(str(script)) is None:
            return bad("noexec", needed, f"mount -o remount,exec {place}")
    return ok("exec", needed)


def _there(path: Path) -> Path:
    """The nearest folder above that is there."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())


def _mounted(host: Host, place: Path) -> tuple[str, str]:
    """The kind of file system it lies on, and where that is mounted."""
    best = ("", "/")
    for line in host.text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        at = fields[4].encode().decode("unicode_escape")
        if place.is_relative_to(at) and len(at) >= len(best[1]):
            best = (after.split()[0], at)
    return best


def _fsync_ms(place: Path) -> float:
    taken = []
    with tempfile.NamedTemporaryFile(dir=place, prefix=".kura-preflight-") as file:
        for _ in range(WRITES):
            began = time.perf_counter()
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)
