"""What root has done by the owner of the data comes back as plain values, errors with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from installer.steps import Refused
from installer.upgrade.site import Site

OWNER = 64001

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")


@pytest.fixture
def site() -> Iterator[Any]:
    folder = Path(tempfile.mkdtemp(prefix="kura-owner-"))  # pytest's own is closed to others
    folder.chmod(0o755)
    data = folder / "データ"
    data.mkdir(mode=0o700)
    os.chown(data, OWNER, OWNER)
    yield SimpleNamespace(data=data, _owner=(OWNER, OWNER))
    shutil.rmtree(folder)


def test_it_is_done_by_the_owner_and_comes_back(site: Any) -> None:
    path = site.data / "新しい"
    assert Site.owned(site, lambda: path.touch()) is None
    assert path.stat().st_uid == OWNER
    assert Site.owned(site, lambda: tuple(p.name for p in site.data.iterdir())) == ["新しい"]


def test_errors_come_back_as_what_they_are(site: Any) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        Site.owned(site, (site.data / "ない").read_text)
    assert missing.value.filename == str(site.data / "ない")
    with pytest.raises(PermissionError):
        Site.owned(site, Path("/etc/shadow").read_text)

    def refuse() -> None:
        raise Refused("だめです")

    with pytest.raises(Refused, match="だめです"):
        Site.owned(site, refuse)


def test_nothing_but_plain_values_is_believed(site: Any) -> None:
    """An object would be code for root, if the owner's process could send one."""

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("id",)

    with pytest.raises(Refused):
        Site.owned(site, Evil)
