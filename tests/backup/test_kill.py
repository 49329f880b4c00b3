"""kill -9 at every step of a backup and of a restore: the old state or the new one, never between."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.backup import switch
from appliance.errors import SettingsError
from tests.backup import site
from tests.backup.site import Home

VICTIM = Path(__file__).parent / "victim.py"
_spec = importlib.util.spec_from_file_location("backup_victim", VICTIM)
assert _spec and _spec.loader
victim = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(victim)

Live = Callable[..., int]
KILLED = -9


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """One `kura` of that home: `live(home, words, point)` is how it ended."""
    process = subprocess.Popen(
        [sys.executable, str(VICTIM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout

    def live(
        home: Home,
        *words: object,
        point: str = "",
        nth: int = 1,
        after: bool = True,
        volume: bool = False,
        powerless: bool = False,
        by_hand: bool = False,
    ) -> int:
        assert process.stdin and process.stdout
        told = {
            "environment": home.environment,
            "words": [str(word) for word in words],
            "point": point,
            "nth": nth,
            "after": after,
            "volume": volume,
            "powerless": powerless,
            "by_hand": by_hand,
            "log": str(home.folder / "出力"),
        }
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield live
    process.stdin.close()
    process.stdout.close()
    assert process.wait(30) == 0


@pytest.mark.parametrize("point", victim.CREATE)
def test_a_backup_that_is_killed_is_there_or_not(home: Home, live: Live, point: str) -> None:
    assert live(home, "backup", "create") == 0
    before = set(names(home))
    for nth, after in ((1, False), (1, True), (2, True), (5, True)):
        end = live(home, "backup", "create", point=point, nth=nth, after=after)
        assert end in (KILLED, 0)
        for name in names(home):
            assert live(home, "backup", "verify", "--at", name) == 0
    assert before <= set(names(home))
    assert live(home, "backup", "create") == 0
    assert not any((home.backups / "unfinished").iterdir())
    whole(home, live)


def whole(home: Home, live: Live) -> None:
    """The latest is all of the site."""
    words = ("backup", "verify", "--restore", "--key", home.folder / "鍵.txt")
    assert live(home, *words) == 0, (home.folder / "出力").read_text("utf-8")


def names(home: Home) -> list[str]:
    return sorted(p.stem for p in (home.backups / "backups").glob("*.json"))


def test_a_backup_that_is_killed_at_random_moments(home: Home, live: Live) -> None:
    dice = random.Random()
    moments = [dice.randint(20, 700) for _ in range(8)]
    print("killed after", moments, "ms")  # shown if it fails
    for moment in moments:
        assert live(home, "backup", "create", point="at random", nth=moment) in (KILLED, 0)
        for name in names(home) if (home.backups / "backups").exists() else []:
            assert live(home, "backup", "verify", "--at", name) == 0
    assert live(home, "backup", "create") == 0
    whole(home, live)


MOMENTS = [(point, after) for point in victim.RESTORE for after in (False, True)]
BARE = [
    pytest.param(point, after, marks=pytest.mark.long if after else ()) for point, after in MOMENTS
]
SAMPLE = ("a table filled", "staged", "exchanged")
# Onto a bare host before each step, elsewhere before some.
SOME = [
    pytest.param(point, after, marks=pytest.mark.long if after or point not in SAMPLE else ())
    for point, after in MOMENTS
]


@pytest.mark.parametrize(("point", "after"), BARE)
def test_a_restore_onto_a_bare_host_that_is_killed(
    home: Home, live: Live, point: str, after: bool
) -> None:
    assert live(home, "backup", "create") == 0
    bare = Home(home.folder, name="別のマシン")
    words = ("restore", home.backups, "--key", home.folder / "鍵.txt")
    end = live(bare, *words, point=point, after=after)
    assert end == KILLED or point in ("exchanged", "moved", "the database committed")
    if bare.data.exists():  # then all of it is there
        same(bare, home)
    assert live(bare, *words) in ((0,) if not finished(bare) else (0, 1))
    same(bare, home)
    tidy(bare)


@pytest.mark.parametrize(("point", "after"), SOME)
def test_a_restore_over_another_that_is_killed(
    home: Home, live: Live, point: str, after: bool
) -> None:
    assert live(home, "backup", "create") == 0
    held = site.facts(home.settings.database_url)
    mark = home.data / "uploads" / "後から.txt"
    mark.write_text("控えの後", "utf-8")
    words = ("restore", home.backups, "--key", home.folder / "鍵.txt", "--replace")
    end = live(home, *words, point=point, after=after)
    assert end == KILLED or point in ("moved", "the database committed")
    old = mark.exists()
    assert site.facts(home.settings.database_url) == held
    assert (home.data / "secrets.key").exists()
    assert live(home, *words) == 0
    assert not mark.exists()
    kept = [
        p for p in home.folder.glob("データ.before-*") if (p / "uploads" / "後から.txt").exists()
    ]
    assert len(kept) == 1, (old, list(home.folder.iterdir()))
    tidy(home)


@pytest.mark.postgres
@pytest.mark.parametrize(("point", "after"), SOME)
def test_a_restore_into_postgresql_that_is_killed(
    home: Home, live: Live, point: str, after: bool, postgres: Callable[[], str]
) -> None:
    assert live(home, "backup", "create") == 0
    bare = Home(home.folder, name="別のマシン", url=postgres())
    words = ("restore", home.backups, "--key", home.folder / "鍵.txt")
    end = live(bare, *words, point=point, after=after)
    assert end == KILLED or point in ("exchanged", "moved")
    if not finished(bare) and filled(bare):  # the database alone: nobody starts on it
        with pytest.raises(SettingsError, match="復元が途中"):
            site.seen(bare)
    assert live(bare, *words) in ((0,) if not finished(bare) else (0, 1))
    same(bare, home)
    tidy(bare)
    site.asked(bare)


@pytest.mark.parametrize("replace", [False, True])
def test_a_restore_into_a_volume_that_is_killed_at_every_move(
    home: Home, live: Live, replace: bool
) -> None:
    """A volume cannot be exchanged: between the first move and the last nobody starts on it."""
    assert live(home, "backup", "create") == 0
    held = site.facts(home.settings.database_url)
    halted = 0
    for nth in range(1, 40):
        target = Home(home.folder, name=f"ボリューム{nth}")
        target.data.mkdir(mode=0o700)
        if replace:
            shutil.copytree(home.data, target.data, dirs_exist_ok=True)
            (target.data / "uploads" / "後から.txt").write_text("控えの後", "utf-8")
        words = ("restore", home.backups, "--key", home.folder / "鍵.txt")
        words += ("--replace",) if replace else ()
        end = live(target, *words, point="a move", nth=nth, volume=True)
        if switch.halted(target.data):
            halted += 1
            with pytest.raises(SettingsError, match="復元が途中"):
                site.seen(target)
        if end != 0:
            assert end == KILLED
            last = live(target, *words, volume=True)
            assert last == 0 or (not replace and (target.data / "kura.db").exists())
        assert site.facts(target.settings.database_url) == held
        assert (target.data / "uploads" / "後から.txt").exists() is False
        left = {p.name.partition("-")[0] for p in target.data.iterdir() if p.suffix != ".lock"}
        assert left == {"attest", "kura.db", "kura.toml", "secrets.key", "uploads"} | (
            {"before"} if replace else set()
        )
        if end == 0:
            break
    assert halted > 3


@pytest.mark.parametrize("point", ["a part written", "the parts listed", "published"])
def test_ctrl_c_of_a_backup_leaves_nothing(home: Home, live: Live, point: str) -> None:
    assert live(home, "backup", "create") == 0
    before = names(home)
    assert live(home, "backup", "create", point=point, after=False, by_hand=True) > 0
    assert names(home) == before and not any((home.backups / "unfinished").iterdir())
    assert "Traceback" not in (home.folder / "出力").read_text("utf-8")
    assert live(home, "backup", "create") == 0
    whole(home, live)


@pytest.mark.parametrize("point", ["files written", "a table filled", "settled", "switched"])
def test_ctrl_c_of_a_restore_leaves_nothing(home: Home, live: Live, point: str) -> None:
    assert live(home, "backup", "create") == 0
    bare = Home(home.folder, name="別のマシン")
    words = ("restore", home.backups, "--key", home.folder / "鍵.txt")
    assert live(bare, *words, point=point, after=False, by_hand=True) > 0
    assert not bare.data.exists()
    assert "Traceback" not in (home.folder / "出力").read_text("utf-8")
    if point != "switched":  # whole, and cleared up by the next
        assert not [p for p in home.folder.iterdir() if "別のマシン" in p.name]
    assert live(bare, *words) == 0
    same(bare, home)
    tidy(bare)


def finished(home: Home) -> bool:
    return home.data.exists()


def filled(home: Home) -> bool:
    try:
        return site.facts(home.url)["document"].rows > 0
    except Exception:  # noqa: BLE001  there are no tables
        return False


def same(one: Home, other: Home) -> None:
    assert site.facts(one.settings.database_url) == site.facts(other.settings.database_url)
    assert site.files(one.data) == site.files(other.data)


def tidy(home: Home) -> None:
    """Nothing lies about, in the data folder or beside it."""
    assert not [p for p in home.folder.iterdir() if p.name.startswith(".")]
    assert not (home.data / "restore.unfinished").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_kuras_own_user_restores_below_a_folder_of_somebody_elses(home: Home, live: Live) -> None:
    """As installed: /var/lib is root's, and `kura` is not root."""
    assert live(home, "backup", "create") == 0
    held = site.facts(home.settings.database_url)
    (home.data / "uploads" / "後から.txt").write_text("控えの後", "utf-8")
    (home.folder / "出力").touch()
    home.folder.chmod(0o755)
    os.chown(home.folder, 65534, 65534)
    words = ("restore", home.backups, "--key", home.folder / "鍵.txt", "--replace")
    said = home.folder / "出力"
    assert live(home, *words, powerless=True) == 0, said.read_text("utf-8")
    assert site.facts(home.settings.database_url) == held
    (before,) = home.data.glob("before-*")
    assert (before / "uploads" / "後から.txt").exists() and (before / "kura.db").exists()
    assert str(before) in said.read_text("utf-8")
