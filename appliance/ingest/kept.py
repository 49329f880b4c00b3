"""The bytes of documents whose pages wait to be read, in the data folder, by their digest.

A source may be slow, or away, when a page's turn comes. What nobody waits for is taken away.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Engine

from appliance.settings import Settings
from appliance.store import scans

_YOUNG_S = 3600.0  # a file may be here a while before its document is in the catalogue


def folder(settings: Settings) -> Path:
    return settings.data / "scans"


def path(settings: Settings, digest: str) -> Path:
    return folder(settings) / digest


def keep(settings: Settings, digest: str, copy: BinaryIO) -> None:
    """Whole or not at all."""
    place = path(settings, digest)
    if place.exists():
        os.utime(place)
        return
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy.seek(0)
    with tempfile.NamedTemporaryFile(dir=place.parent, prefix=".", delete=False) as out:
        try:
            shutil.copyfileobj(copy, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
            Path(out.name).replace(place)
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise


def drop(engine: Engine, settings: Settings, digest: str) -> None:
    """Take these bytes away, unless another document's pages wait for the same."""
    if not scans.wanted(engine, [digest]):
        path(settings, digest).unlink(missing_ok=True)


def tidy(engine: Engine, settings: Settings) -> int:
    """Take away what no page waits for. Returns how many files."""
    if not folder(settings).is_dir():
        return 0
    old = time.time() - _YOUNG_S
    found = [one for one in folder(settings).iterdir() if one.stat().st_mtime < old]
    wanted = scans.wanted(engine, [one.name for one in found])
    gone = [one for one in found if one.name not in wanted]
    for one in gone:
        one.unlink(missing_ok=True)
    return len(gone)
