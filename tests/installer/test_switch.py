"""From one release to another and back, on tiny releases: cut off anywhere, it is old or new, never mixed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from installer import places, steps
from installer.upgrade import files, history, record, switch, trial
from installer.upgrade.site import Site
from tests.installer import tiny_release as tiny
from tests.installer.hosts import Host
from tests.installer.hosts import host as a_host

OLD, NEW = "1.0.0", "2.0.0"
HEADS = {OLD: "0011", NEW: "0013"}


@pytest.fixture
def host() -> Iterator[Host]:
    with a_host() as made:
        for version, head in HEADS.items():
            tiny.make(made.places.release(version), version, int(head))
        made.begin(OLD)
        tiny.site(made.data, 11)
        made.start()
        until(lambda: made.serves() == OLD)
        yield made


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def not_mixed(host: Host) -> None:
    """Release and database belong together, or nothing starts."""
    log = host.root / "up.log"
    assert not log.exists() or "MIXED" not in log.read_text()
    if not host.halted():
        assert host.revision() == HEADS[host.version]
        return
    refused = host.kura("up")
    assert refused.returncode == 1 and "half switched" in refused.stderr


def settled(host: Host, digest: str) -> None:
    not_mixed(host)
    assert not host.halted() and not record.path(host.places).exists()
    until(lambda: host.serves() == host.version)
    assert (host.data / "uploads/請求書/content").read_text() == "千円"
    assert (host.data / "secrets.key").read_text() == "鍵"
    if host.version == OLD:
        assert host.digest() == digest
    assert not (host.data / "upgrade/next").exists()


# --- upgrade ------------------------------------------------------------------------


def test_an_upgrade_and_the_way_back_put_nothing_in_the_wrong_place(host: Host) -> None:
    digest = host.digest()
    host.installer("upgrade", NEW)
    settled(host, digest)
    assert host.version == NEW and "秒" in host.said
    (host.data / "uploads/後から").mkdir()
    before = host.places.settings.read_text()
    host.places.settings.write_text(before + "KURA_LATER='1'\n")
    host.installer("upgrade", NEW)
    assert "すでに" in host.said
    host.installer("rollback", status=1)  # nobody is there to be asked
    assert "--yes" in host.said and host.version == NEW
    host.installer("rollback", OLD, "--yes")
    settled(host, digest)
    assert host.version == OLD and not (host.data / "uploads/後から").exists()
    assert host.places.settings.read_text() == before
    (aside,) = (host.data / "upgrade/after").iterdir()
    assert (aside / "uploads/後から").is_dir() and str(aside) in host.said
    host.installer("upgrade", NEW)  # it lies here still
    settled(host, digest)
    assert host.version == NEW


def test_a_release_whose_database_is_of_the_same_form_keeps_what_was_written(host: Host) -> None:
    tiny.make(host.places.release("1.0.1"), "1.0.1", 11)
    HEADS["1.0.1"] = "0011"
    host.installer("upgrade", "1.0.1")
    (host.data / "uploads/後から").mkdir()
    host.installer("rollback")
    assert host.version == OLD and "すべて残ります" in host.said
    assert (host.data / "uploads/後から").is_dir()


@pytest.mark.parametrize("behaviour", ["migration", "trial", "second-migration", "live"])
@pytest.mark.parametrize("running", [True, False])
def test_a_new_release_that_fails_leaves_the_old_one_to_the_byte(
    host: Host, behaviour: str, running: bool
) -> None:
    if not running:
        host.stop()
    digest = host.digest()
    tiny.make(host.places.release(NEW), NEW, 13, behaviour)
    began = time.monotonic()
    host.installer("upgrade", NEW, status=0 if behaviour == "live" and not running else 1)
    assert time.monotonic() - began < 60
    if behaviour == "live" and not running:
        return  # it is tried when it is started
    assert "Traceback" not in host.said and "失敗しました" in host.said
    assert host.version == OLD and host.digest() == digest
    not_mixed(host)
    assert not host.halted() and not record.path(host.places).exists()
    until(lambda: host.serves() == (OLD if running else ""))
    tiny.make(host.places.release(NEW), NEW, 13)
    host.installer("upgrade", NEW)
    assert host.version == NEW


def test_what_does_not_fit_is_refused_before_anything_happens(host: Host) -> None:
    digest = host.digest()
    for words, said in (
        (("upgrade", "9.9.9"), "見つかりません"),
        (("upgrade", "../etc"), "見つかりません"),
        (("rollback", "0.9.0"), "戻れません"),
        (("rollback",), "ありません"),
    ):
        host.installer(*words, status=1)
        assert said in host.said and "Traceback" not in host.said
    tiny.make(host.places.release("0.9.0"), "0.9.0", 9)
    host.installer("upgrade", "0.9.0", status=1)
    assert "知りません" in host.said or "古い" in host.said
    host.installer("recover")
    assert "ありません" in host.said
    settled(host, digest)


def test_a_dry_run_changes_nothing(host: Host) -> None:
    before = sorted(map(str, host.data.rglob("*")))
    host.installer("upgrade", NEW, "--dry-run")
    assert "入れ替える" in host.said and host.version == OLD
    assert sorted(map(str, host.data.rglob("*"))) == before


def test_three_releases_stay_beside_the_one_that_serves(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were left last, whatever the clock says: this one is set back before each upgrade."""
    hours = (datetime(2026, 1, 1, 9 - n, tzinfo=UTC) for n in count())
    monkeypatch.setattr(history, "datetime", SimpleNamespace(now=lambda _zone: next(hours)))
    for n in range(2, 6):
        tiny.make(host.places.release(f"{n}.0.0"), f"{n}.0.0", 11 + n)
        host.installer("upgrade", f"{n}.0.0")
    assert host.places.versions() == ["2.0.0", "3.0.0", "4.0.0", "5.0.0"]
    before = host.data / "upgrade/before"
    assert sorted(p.name for p in before.iterdir()) == ["2.0.0", "3.0.0", "4.0.0"]
    host.installer("rollback", "2.0.0", "--yes")
    assert host.version == "2.0.0" and host.revision() == "0013"
    until(lambda: host.serves() == "2.0.0")


def test_a_damaged_snapshot_is_not_gone_back_to(host: Host) -> None:
    host.installer("upgrade", NEW)
    place = host.data / "upgrade/before" / OLD / "kura.db"
    place.write_bytes(place.read_bytes()[:-1] + b"x")
    host.installer("rollback", "--yes", status=1)
    assert "一致しません" in host.said and host.version == NEW
    until(lambda: host.serves() == NEW)


# --- cut off ------------------------------------------------------------------------

POINTS: dict[str, tuple[Any, str, int]] = {
    "facts asked": (Site, "ask", 2),
    "copied": (Site, "ask", 3),
    "tried": (trial, "run", 1),
    "stopping noted": (record, "write", 1),
    "stopped": (Site, "stop", 1),
    "snapshot taken": (files, "snapshot", 2),
    "near": (files, "alike", 1),
    "ready": (Site, "prepare", 2),
    "brought up to date": (files, "alike", 2),
    "migrated": (Site, "ask", 8),
    "moving noted": (record, "write", 2),
    "marked": (files, "mark", 1),
    "the old one moved out": (files, "_move", 1),
    "the new one moved in": (files, "_move", 2),
    "pointed": (places, "point", 1),
    "trying noted": (record, "write", 3),
    "unmarked": (files, "unmark", 1),
    "started": (Site, "start", 1),
    "checked": (switch, "try_out", 1),
    "left": (history, "left", 1),
    "ended": (record, "write", 4),
    "tidied": (switch, "tidy", 1),
}
MOMENTS = [(point, after) for point in POINTS for after in (False, True)]
SAMPLE = {"stopped", "the old one moved out", "pointed", "started"}
SOME = [m if m[0] in SAMPLE else pytest.param(*m, marks=pytest.mark.long) for m in MOMENTS]


@pytest.mark.parametrize(("point", "after"), SOME)
def test_an_upgrade_that_is_killed(host: Host, point: str, after: bool) -> None:
    digest = host.digest()
    end = host.installer("upgrade", NEW, dies=(*POINTS[point], after), status=None)
    assert end == -signal.SIGKILL, host.said
    not_mixed(host)
    host.installer("recover")
    settled(host, digest)
    host.installer("upgrade", NEW)
    settled(host, digest)
    assert host.version == NEW


@pytest.mark.parametrize(("point", "after"), SOME)
def test_the_same_command_again_after_a_kill(host: Host, point: str, after: bool) -> None:
    digest = host.digest()
    host.installer("upgrade", NEW, dies=(*POINTS[point], after), status=-signal.SIGKILL)
    host.installer("upgrade", NEW)
    settled(host, digest)
    assert host.version == NEW


@pytest.mark.parametrize(("point", "after"), SOME)
def test_ctrl_c_of_an_upgrade(host: Host, point: str, after: bool) -> None:
    digest = host.digest()
    end = host.installer(
        "upgrade", NEW, dies=(*POINTS[point], after), by=signal.SIGINT, status=None
    )
    assert end in (0, 130) and "Traceback" not in host.said
    settled(host, digest)
    if end == 0:
        assert host.version == NEW
    elif point not in (
        "left",
        "ended",
        "tidied",
    ):  # there it is one or the other, `settled` says whole
        assert host.version == OLD


BACK: dict[str, tuple[Any, str, int]] = {
    "prepared": (files, "alike", 1),
    "stopping noted": (record, "write", 1),
    "stopped": (Site, "stop", 1),
    "moving noted": (record, "write", 2),
    "marked": (files, "mark", 1),
    **{f"move {n}": (files, "_move", n) for n in range(1, 11)},
    "settled": (places, "_settle", 5),
    "pointed": (places, "point", 1),
    "trying noted": (record, "write", 3),
    "unmarked": (files, "unmark", 1),
    "started": (Site, "start", 1),
    "checked": (switch, "try_out", 1),
    "ended": (record, "write", 4),
}
BACKS = [
    (p, a) if p in {"move 3", "move 7"} else pytest.param(p, a, marks=pytest.mark.long)
    for p in BACK
    for a in (False, True)
]


@pytest.mark.parametrize(("point", "after"), BACKS)
def test_a_rollback_that_is_killed(host: Host, point: str, after: bool) -> None:
    digest = host.digest()
    host.installer("upgrade", NEW)
    newer = host.digest()
    words = ("rollback", OLD, "--yes")
    host.installer(*words, dies=(*BACK[point], after), status=-signal.SIGKILL)
    not_mixed(host)
    host.installer("recover")
    settled(host, digest)
    if host.version == NEW:
        assert host.digest() == newer
        host.installer(*words)
    settled(host, digest)
    assert host.version == OLD


@pytest.mark.parametrize(
    "point",
    ["move 7", *(pytest.param(p, marks=pytest.mark.long) for p in [*BACK][:-1] if p != "move 7")],
)
def test_ctrl_c_of_a_rollback(host: Host, point: str) -> None:
    digest = host.digest()
    host.installer("upgrade", NEW)
    newer = host.digest()
    words = ("rollback", OLD, "--yes")
    host.installer(*words, dies=(*BACK[point], False), by=signal.SIGINT, status=130)
    settled(host, digest)
    assert host.version == NEW and host.digest() == newer


FAILED: dict[str, tuple[Any, str, int]] = {
    "found failed": (switch, "revert", 1),
    "stopped again": (Site, "stop", 2),
    "back noted": (record, "write", 4),
    "marked": (files, "mark", 2),
    **{f"move {n}": (files, "_move", n) for n in range(3, 13)},
    "compared": (files, "digest", 1),
    "pointed": (places, "point", 2),
    "old noted": (record, "write", 5),
    "unmarked": (files, "unmark", 2),
    "started": (Site, "start", 2),
    "ended": (record, "write", 6),
}


FAILS = [
    (p, a) if p in {"back noted", "move 6"} else pytest.param(p, a, marks=pytest.mark.long)
    for p in FAILED
    for a in (False, True)
]


@pytest.mark.parametrize(("point", "after"), FAILS)
def test_the_way_back_of_a_failed_upgrade_that_is_killed(
    host: Host, point: str, after: bool
) -> None:
    digest = host.digest()
    tiny.make(host.places.release(NEW), NEW, 13, "live")
    end = host.installer("upgrade", NEW, dies=(*FAILED[point], after), status=None)
    assert end in (-signal.SIGKILL, 1), host.said
    not_mixed(host)
    host.installer("recover")
    settled(host, digest)
    assert host.version == OLD


def test_the_start_of_kura_refuses_a_half_switched_state(host: Host) -> None:
    host.installer("upgrade", NEW, dies=(files, "_move", 2, False), status=-signal.SIGKILL)
    assert host.halted() and not (host.data / "kura.db").exists()
    not_mixed(host)
    shutil.copytree(host.places.state, host.root / "kept")
    record.path(host.places).unlink()
    host.installer("recover", status=1)  # it does not guess
    assert "バックアップ" in host.said and host.halted()
    shutil.copytree(host.root / "kept", host.places.state, dirs_exist_ok=True)
    host.installer("recover")
    assert host.version == OLD


# --- disks --------------------------------------------------------------------------


def failing(owner: Any, name: str, nth: int, code: int) -> Callable[[], None]:
    """Of every call from the nth on: a disk that is full stays full."""

    def patch() -> None:
        real, calls = getattr(owner, name), count(1)

        def broken(*args: Any, **kwargs: Any) -> Any:
            if (next(calls) == nth) if code == errno.EIO else (next(calls) >= nth):
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        setattr(owner, name, broken)

    return patch


@pytest.mark.long
def test_a_disk_that_cannot_be_trusted_at_any_sync(host: Host) -> None:
    """EIO at the 1st, 2nd, 3rd … fsync, until none fails."""
    digest = host.digest()
    for nth in range(1, 200, 3):
        end = host.installer(
            "upgrade", NEW, patch=failing(os, "fsync", nth, errno.EIO), status=None
        )
        not_mixed(host)
        if end == 0:
            break
        assert "Traceback" not in host.said, host.said
        host.installer("recover")
        settled(host, digest)
        if host.version == NEW:
            break
    assert nth > 20 and host.version == NEW


@pytest.mark.parametrize(
    ("owner", "name", "nth"), [(shutil, "copy2", 1), (files, "alike", 2), (files, "put", 1)]
)
def test_a_full_disk_leaves_the_old_release_serving(
    host: Host, owner: Any, name: str, nth: int
) -> None:
    digest = host.digest()
    broken = failing(owner, name, nth, errno.ENOSPC)
    host.installer("upgrade", NEW, patch=broken, status=1)
    assert "Traceback" not in host.said and "空き" in host.said
    assert host.version == OLD
    settled(host, digest)
    assert not [
        p
        for p in host.data.rglob("*")
        if p.is_file() and not p.stat().st_size and p.suffix == ".db"
    ]
    host.installer("upgrade", NEW)
    assert host.version == NEW


def test_what_takes_the_place_is_on_the_disk_before(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power may go at any moment: each thing is synced before the next speaks of it."""
    log = host.root / "order"

    def patch() -> None:
        real_sync, real_move, real_point = os.fsync, files._move, places.point

        def note(text: str) -> None:
            with log.open("a") as out:
                out.write(f"{text}\n")

        def sync(handle: int) -> None:
            real_sync(handle)
            note(f"sync {Path(f'/proc/self/fd/{handle}').readlink()}")

        def move(source: Path, target: Path) -> None:
            note(f"move {source} {target}")
            real_move(source, target)

        def point(link: Path, target: Path) -> None:
            note(f"point {target}")
            real_point(link, target)

        os.fsync, files._move, places.point = sync, move, point  # type: ignore[assignment]

    host.installer("upgrade", NEW, patch=patch)
    lines = log.read_text().splitlines()
    moves = [n for n, line in enumerate(lines) if line.startswith("move")]
    pointed = next(n for n, line in enumerate(lines) if line.startswith("point"))
    data = host.data

    def synced(what: str, first: int, last: int) -> bool:
        return f"sync {what}" in lines[first:last]

    state = host.places.state
    assert synced(f"{data}/upgrade/next/kura.db", 0, moves[0])
    for copy in ("next", f"before/{OLD}"):  # what is in a folder is there once the folder is
        assert synced(f"{data}/upgrade/{copy}", 0, moves[0])
        assert synced(f"{data}/upgrade/{copy}/uploads/請求書", 0, moves[0])
    assert any(line.startswith(f"sync {state}/.switch.json") for line in lines[: moves[0]])
    assert synced(f"{state}", 0, moves[0])
    assert synced(f"{data}", moves[1], pointed), "both moves are on the disk before `current` moves"
    assert synced(f"{host.places.opt}", pointed, len(lines))


def test_two_at_once(host: Host) -> None:
    with steps.alone(host.places):
        host.installer("upgrade", NEW, status=1)
        assert "すでに動いています" in host.said and host.version == OLD
        host.installer("recover", status=1)
        host.installer("recover", "--boot")  # as systemd does when an upgrade starts Kura
        assert "すでに動いています" in host.said
