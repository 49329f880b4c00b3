"""`kura doctor --repair`: what does not hold together on this machine, and its mending.

A row of REPAIRS looks, and mends when it is told to. All of it is safe beside running processes, or
says what must be stopped. Certificates, disks, a broken database file and a broken audit chain are
told by `kura doctor` and mended by people.
"""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from appliance.errors import Conflict
from appliance.ingest import kept
from appliance.operate.processes import runs
from appliance.ports import Index
from appliance.search import snapshot
from appliance.search.follow import Follower
from appliance.search.scope import ScopeMap
from appliance.settings import Settings
from appliance.store import catalog, repair, scans, sources

OLD_S = 3600.0  # younger ones may be somebody's work
INDEXES = ("dense", "keyword")
_WHY = {
    "empty": "本文の単位がない",
    "text": "本文がない",
    "place": "単位の位置が本文の外",
    "vector": "ベクトルが壊れている",
}


@dataclass(frozen=True)
class Bench:
    """What repairs need. `indexes` opens the ones on disk, `web` keeps `kura web` off them; `most`
    chunks are looked at one by one, all of them where it is None.
    """

    settings: Settings
    engine: Engine
    dim: int
    indexes: Callable[[], Sequence[Index]]
    web: Callable[[], AbstractContextManager[None]]
    most: int | None = None
    space: str = ""  # the embedder that searches, of `dim`


@dataclass
class Finding:
    """`found` and what mends it; `done` once that was done, or `refused`, with what must be so."""

    name: str
    found: str
    mending: str
    mend: Callable[[], None] = field(repr=False, default=lambda: None)
    done: bool = False
    refused: str = ""


def find(bench: Bench, names: Collection[str] = ()) -> Iterator[Finding]:
    """Everything that is wrong and can be mended, or what `names` say of it; nothing is changed."""
    for name, look in REPAIRS:
        if names and name not in names:
            continue
        for one in look(bench):
            one.name = name
            yield one


def mend(bench: Bench) -> Iterator[Finding]:
    """Mends one after another, each told when it is done; what one mended the next does not find."""
    for name, look in REPAIRS:
        for one in look(bench):
            one.name = name
            try:
                one.mend()
                one.done = True
            except (Conflict, OSError) as error:
                one.refused = str(error)
            yield one


# --- files ----------------------------------------------------------------------------


def permissions(bench: Bench) -> Iterator[Finding]:
    """What others may read of the data folder and of what lies right in it."""
    data = bench.settings.data
    own = [data, bench.settings.secrets_key, *data.iterdir()]
    for path in dict.fromkeys(own):
        try:
            mode = path.lstat()
        except FileNotFoundError:
            continue
        if not (stat.S_ISREG(mode.st_mode) or stat.S_ISDIR(mode.st_mode)):
            continue  # the mode of a link says nothing, that of a socket is the folder's affair
        open_, was = stat.S_IMODE(mode.st_mode) & 0o077, stat.S_IMODE(mode.st_mode)
        if not open_ or (path != data and path.is_dir()):
            continue

        def close(path: Path = path, was: int = was) -> None:
            path.chmod(was & ~0o077, follow_symlinks=path == data)

        yield Finding(
            "", f"{path} をほかの利用者も読めます ({was:o})。", f"chmod {was & ~0o077:o}", close
        )


def leftovers(bench: Bench) -> Iterator[Finding]:
    """What killed processes left behind."""
    data, old = bench.settings.data, time.time() - OLD_S
    scanned = kept.folder(bench.settings)
    files = [*bench.settings.secrets_key.parent.glob(f"{bench.settings.secrets_key.name}.*.*")]
    if scanned.is_dir():
        there = [p for p in scanned.iterdir() if p.is_file()]
        wanted = scans.wanted(bench.engine, [p.name for p in there])
        files += [p for p in there if p.name not in wanted]
    if uploads(bench).is_dir():
        files += uploads(bench).glob(".*")
    stale = [p for p in files if p.lstat().st_mtime < old]
    if stale:
        size = sum(p.lstat().st_size for p in stale)
        yield Finding(
            "",
            f"途中で終わった作業のファイルが {len(stale)} 個あります ({size / 1e6:.1f} MB)。",
            "消す",
            lambda: _remove(stale),
        )
    for name in _names(data / "index"):
        folder = data / "index" / name
        if left := snapshot.leftovers(folder):
            yield Finding(
                "",
                f"索引 {name} に、終わったプロセスの作業場が {len(left)} 個あります。",
                "消す",
                partial(snapshot.sweep, folder),
            )


def _names(base: Path) -> list[str]:
    """Of the indexes: one that another embedder made has its name beside."""
    return [*INDEXES, *sorted(one.name for one in base.glob("dense-*"))]


def uploads(bench: Bench) -> Path:
    return bench.settings.data / "uploads"  # `system.uploads`, which is above


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def uploaded(bench: Bench) -> Iterator[Finding]:
    """Uploads and their documents: either without the other."""
    folder = uploads(bench)
    source = next((s for s in sources.all(bench.engine) if s.kind == "uploads"), None)
    if source is None or not source.enabled or not folder.is_dir():
        return
    if repair.is_wanted(bench.engine, source.id):
        return
    old = time.time() - OLD_S
    there = {p.name: p for p in folder.iterdir() if not p.name.startswith(".")}
    known = {one.uri for one in catalog.stored(bench.engine, source.id)}
    lost = known - there.keys()
    new = [n for n, p in there.items() if n not in known and p.stat().st_mtime < old]
    if lost or new:
        yield Finding(
            "",
            f"アップロードのうち {len(lost)} 件はファイルがなく、{len(new)} 件は文書がありません。",
            "はじめから突き合わせる（`kura work` が行う）",
            lambda: sources.run_now(bench.engine, source.id, retry=True, anew=True),
        )


# --- the database -----------------------------------------------------------------------


def orphans(bench: Bench) -> Iterator[Finding]:
    if found := repair.orphans(bench.engine):
        told = "、".join(f"{name} {n}" for name, n in found.items())
        yield Finding(
            "",
            f"どこにも属さない行が {sum(found.values())} 行あります ({told})。",
            "消す",
            lambda: repair.drop_orphans(bench.engine),
        )


def access(bench: Bench) -> Iterator[Finding]:
    unknown, apart = repair.wrong_access(bench.engine)
    if unknown or apart:
        yield Finding(
            "",
            f"読める人の記録が壊れた文書が {len(unknown)} 件、入れ物と食い違うファイルが {len(apart)} 件"
            "あります。",
            "入れ物に合わせ、分からないものは誰にも見せず、情報源に聞き直す（`kura work` が行う）",
            lambda: repair.mend_access(bench.engine),
        )


def texts(bench: Bench) -> Iterator[Finding]:
    if found := repair.broken_texts(bench.engine, bench.dim, bench.most, bench.space):
        whys = {why: sum(w == why for w in found.values()) for why in _WHY}
        told = "、".join(f"{_WHY[why]} {n} 件" for why, n in whys.items() if n)
        yield Finding(
            "",
            f"本文と索引の単位が食い違う文書が {len(found)} 件あります ({told})。",
            "その文書を読み直す（`kura work` が行う）",
            lambda: repair.read_again(bench.engine, found),
        )


# --- the indexes on disk ----------------------------------------------------------------


def indexes(bench: Bench) -> Iterator[Finding]:
    """A copy is made anew from the database; while `kura web` runs, what is on disk is its affair."""
    base = bench.settings.data / "index"
    bad = [name for name in _names(base) if snapshot.damaged(base / name)]
    said = f"索引 {'、'.join(bad)} が、書かれた時のものと違います。" if bad else ""
    if not bad and not runs(bench.settings.data, "web"):
        said = differences(bench)
    if said:
        yield Finding("", said, "データベースから作り直す", lambda: _rebuild(bench))


def differences(bench: Bench) -> str:
    """How what the saved indexes hold differs from the catalogue, once they have caught up."""
    truth = np.sort(np.fromiter((i for i, _ in catalog.chunk_accesses(bench.engine)), np.int64))
    parts = []
    head = catalog.head(bench.engine)
    for index in bench.indexes():
        if index.sequence != head:
            continue  # it catches up when `kura web` starts
        missing = len(np.setdiff1d(truth, index.ids()))
        extra = len(np.setdiff1d(index.ids(), truth))
        if missing or extra:
            parts.append(f"{type(index).__name__} に {missing} 単位が足りず、{extra} 単位が余分")
    return f"{'、'.join(parts)}です。" if parts else ""


def _rebuild(bench: Bench) -> None:
    try:
        with bench.web():
            made = bench.indexes()
            follower = Follower(bench.engine, made, ScopeMap(), bench.settings)
            follower.reconcile()
            for index in made:
                index.save()
    except Conflict:
        raise Conflict(
            "`kura web` が動いている間は直せません。再起動すると、壊れた索引を文書から作り直します。"
        ) from None


REPAIRS: tuple[tuple[str, Callable[[Bench], Iterator[Finding]]], ...] = (
    ("ファイルの権限", permissions),
    ("残ったファイル", leftovers),
    ("属さない行", orphans),
    ("読める人", access),
    ("本文と単位", texts),
    ("アップロード", uploaded),
    ("索引", indexes),
)
