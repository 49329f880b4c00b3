"""A share before and after its changes, a worker that dies, and what must be true at last."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.store import access, catalog, sources
from appliance.store.timing import Timing
from appliance.testing.fakes import MemoryIndex
from appliance.types import EVERYONE, Principal, Viewer
from tests import whole

VICTIM = Path(__file__).parent / "victim.py"
ITO = Viewer("ito", frozenset({EVERYONE, Principal("user:ito")}))
ANYBODY = Viewer("x", frozenset({EVERYONE}))


@dataclass
class Site:
    """A database, a shared folder, and an index that has followed so far."""

    url: str
    folder: Path
    engine: Engine
    index: MemoryIndex

    @property
    def share(self) -> Path:
        return self.folder / "share"

    def before(self) -> None:
        """The share as it was, before the changes that a worker will die of."""
        for folder in ("公開", "秘密"):
            (self.share / folder).mkdir(parents=True)
        (self.share / "秘密" / ".kura-access.toml").write_text('allow = ["user:ito"]', "utf-8")
        for name in ("そのまま", "変わる", "消える", "動く", "隠れる", "壊れる"):
            (self.share / "公開" / f"{name}.txt").write_text(f"{name}規程。" * 60, "utf-8")
        (self.share / "公開" / "空.txt").write_bytes(b"")
        packed(self.share / "公開" / "書庫.zip", "残る", "去る")
        packed(self.share / "公開" / "隠れる書庫.zip", "秘密になる")
        sources.create(
            self.engine,
            "共有",
            "folder",
            {"root": str(self.share), "allow": ["everyone"]},
            Timing(3600),
        )

    def change(self) -> None:
        public = self.share / "公開"
        (public / "変わる.txt").write_text("変わった規程。" * 70, "utf-8")
        (public / "消える.txt").unlink()
        (public / "動く.txt").rename(public / "動いた.txt")
        (public / "隠れる.txt").rename(self.share / "秘密" / "隠れる.txt")
        (public / "壊れる.txt").write_bytes(b"\xff\xfe broken")
        (public / "新しい.txt").write_text("新しい規程。" * 50, "utf-8")
        packed(public / "書庫.zip", "来る", "残る")
        (public / "隠れる書庫.zip").rename(self.share / "秘密" / "隠れる書庫.zip")
        sources.run_now(self.engine, sources.all(self.engine)[0].id)

    def found(self, viewer: Viewer) -> dict[str, set[str]]:
        """uri → texts this viewer may find."""
        wanted = [(i, 0.0) for i, _ in catalog.chunk_accesses(self.engine)]
        found: dict[str, set[str]] = {}
        for passage in access.passages(self.engine, viewer, wanted):
            found.setdefault(passage.uri, set()).add(passage.text)
        return found

    def whole(self) -> None:
        """Nothing in the database that should not be, nothing missing; now, at any time."""
        whole.check(self.engine, self.index)
        left = {p.name for p in self.folder.iterdir()} - {"share"}
        assert not [name for name in left if not name.startswith("kura.db")], left

    def settled(self) -> None:
        """After all: each document exactly once, found by whom it should be, or its problem."""
        self.whole()
        public = {
            "公開/そのまま.txt": {"そのまま規程。" * 60},
            "公開/変わる.txt": {"変わった規程。" * 70},
            "公開/動いた.txt": {"動く規程。" * 60},
            "公開/壊れる.txt": {"壊れる規程。" * 60},  # its last good text
            "公開/新しい.txt": {"新しい規程。" * 50},
            "公開/書庫.zip › 来る.txt": {"来る規程。" * 30},
            "公開/書庫.zip › 残る.txt": {"残る規程。" * 30},
        }
        assert self.found(ANYBODY) == public
        assert self.found(ITO) == public | {
            "秘密/隠れる.txt": {"隠れる規程。" * 60},
            "秘密/隠れる書庫.zip › 秘密になる.txt": {"秘密になる規程。" * 30},
        }
        problems = catalog.documents(self.engine, status="problem").documents
        assert {d.uri for d in problems} == {"公開/壊れる.txt", "公開/空.txt"}
        assert catalog.documents(self.engine).total == 12


def packed(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(f"{name}.txt"), f"{name}規程。" * 30)


@pytest.fixture
def new_site() -> Callable[[Engine, Path], Site]:
    def new_site(engine: Engine, folder: Path) -> Site:
        made = Site(engine.url.render_as_string(hide_password=False), folder, engine, MemoryIndex())
        made.before()
        return made

    return new_site


@pytest.fixture
def site(engine: Engine, tmp_path: Path, new_site) -> Site:
    return new_site(engine, tmp_path)


Live = Callable[[Site, str, int], str]


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """One life of a worker: `live(site, point, nth)` is "killed" or "lived"."""
    process = subprocess.Popen(
        [sys.executable, str(VICTIM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout

    def live(site: Site, point: str, nth: int = 1) -> str:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{site.url}\t{site.folder}\t{point}\t{nth}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield live
    process.stdin.close()
    process.stdout.close()
    assert process.wait(30) == 0


@pytest.fixture
def recover(live: Live) -> Callable[[Site], None]:
    """Whoever comes next: waits until the dead worker's lease is over, and works."""

    def recover(site: Site) -> None:
        time.sleep(0.4)
        source = sources.all(site.engine)[0]
        sources.run_now(site.engine, source.id)
        assert live(site, "never") == "lived"
        kept = sources.get(site.engine, source.id)
        assert kept.leased_by is None
        assert kept.problem is None
        assert kept.last_run is not None
        assert kept.last_run.outcome == "complete"

    return recover
