"""Zip files whose bytes depend on their content alone: wheels, and the installer itself."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

EARLIEST = 315_532_800  # 1980, where zip begins


def write(
    path: Path, files: Mapping[str, tuple[bytes, int]], date: int, before: bytes = b""
) -> None:
    """`files` maps names to bytes and mode. What describes a wheel comes last, as the format asks."""
    scratch = path.with_name(f".{path.name}.part")
    try:
        with scratch.open("wb") as stream:
            stream.write(before)
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as out:
                for name in sorted(
                    files, key=lambda n: (".dist-info/" in n, n.endswith("/RECORD"), n)
                ):
                    content, mode = files[name]
                    info = zipfile.ZipInfo(name, time.gmtime(max(date, EARLIEST))[:6])
                    info.compress_type = zipfile.ZIP_DEFLATED
                    info.create_system = 3
                    info.external_attr = (0o100755 if mode & 0o111 else 0o100644) << 16
                    out.writestr(info, content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def normalise(wheel: Path, date: int) -> None:
    """Order, dates and modes: the rest of a wheel is left as it was built."""
    with zipfile.ZipFile(wheel) as found:
        files = {
            info.filename: (found.read(info), info.external_attr >> 16)
            for info in found.infolist()
            if not info.is_dir()
        }
    write(wheel, files, date)
