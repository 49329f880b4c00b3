"""`kura-installer uninstall`: the program goes, the data stays; `--purge` takes it too, when that was typed."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from installer import steps
from installer.deploy import firewall, units
from installer.deploy.site import GROUPS
from installer.places import USER, Places
from installer.steps import Context, Refused, Step
from installer.upgrade import files, switch
from installer.upgrade.site import Site
from installer.upgrade.verbs import common, opened, told


@dataclass
class Uninstall(Context):
    site: Site | None = None
    purge: bool = False


def options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument(
        "--purge", action="store_true", help="データも消す。戻せません / the data too, for good"
    )
    parser.add_argument(
        "--confirm",
        default="",
        metavar="FOLDER",
        help="消すデータフォルダー / the folder of the data",
    )
    parser.add_argument("--dry-run", action="store_true", help="何をするかだけ示す / only say it")


@told
def run(given: argparse.Namespace) -> int:
    at = Places(given.root.absolute())
    if not at.installed() and not at.opt.exists() and not (given.purge and at.data.exists()):
        raise Refused("Kura は導入されていません。 / Kura is not installed here.")
    with opened(given, "uninstall", Uninstall, bare=True) as site:
        work = site.context
        assert isinstance(work, Uninstall)
        work.site, work.purge = site, given.purge
        plan = STEPS + (PURGE if given.purge else ())
        if given.dry_run:
            steps.run(plan, work, dry=True)
            return 0
        if given.purge:
            _typed(site.data, given.confirm)
        if at.installed() and (done := switch.settle(site)):
            work.say(done)
        steps.run(plan, work)
        if not given.purge:
            work.say(
                f"データ {site.data}、設定 {at.etc}、利用者 {USER} はそのままです。もう一度導入すれば続きから使えます。"
                f"消すには `kura-installer uninstall --purge`（束の中の kura-installer.pyz でも）。"
                f" / Data, settings and the user {USER} stay; install again to go on from there."
            )
    if given.purge:
        shutil.rmtree(at.state)
        print(
            "すべて消しました。バックアップのフォルダーは消していません。 / All is gone but the backups."
        )
    return 0


def _typed(data: Path, given: str) -> None:
    """A word that nobody types by accident: the folder that is about to go."""
    if not given:
        if not sys.stdin.isatty():
            raise Refused(
                f"--purge は {data} を消します。確かめたら --confirm {data} を付けてください。"
                f" / It would remove {data}: add --confirm {data}."
            )
        print(
            f"文書・会話・利用者・鍵のすべて（{data}）を消します。戻せません。 / All of it, for good."
        )
        given = input(f"消すなら {data} と打ってください / type the folder: ").strip()
    if given != str(data):
        raise Refused("違う名前です。何も消していません。 / Another name; nothing was removed.")


# --- steps --------------------------------------------------------------------------


def _site(work: Uninstall) -> Site:
    assert work.site
    return work.site


def _stop(work: Uninstall) -> None:
    _site(work).stop()


def _stopped(work: Uninstall) -> bool:
    return not _site(work).running()


def _unit_files(work: Uninstall) -> list[Path]:
    folder = work.places.units
    names = [
        *(f"kura-{name}.service" for name in units.PROCESSES),
        units.FIREWALL,
        units.RECOVER,
        units.TARGET,
    ]
    drop_ins = [folder / f"{name}.d" for name in names]
    found = [folder / name for name in names] + sorted(folder.glob("kura-*.service")) + drop_ins
    return [path for path in dict.fromkeys(found) if path.exists()]


def _units(work: Uninstall) -> None:
    site = _site(work)
    if site.systemd:
        names = [path.name for path in _unit_files(work) if path.is_file()]
        subprocess.run(["systemctl", "disable", "--now", *names], check=False, capture_output=True)
    for path in _unit_files(work):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if site.systemd:
        steps.program(work, ["systemctl", "daemon-reload"])


def _others(work: Uninstall) -> list[Path]:
    at = work.places
    mine = [at.commands / "kura", at.commands / "kura-installer", at.root / "etc/logrotate.d/kura"]
    return [p for p in (at.firewall, *mine) if p.exists()]


def _firewall_loaded(work: Uninstall) -> bool:
    if work.places.root != Path("/") or not shutil.which("nft"):
        return False
    done = subprocess.run(
        ["nft", "list", "table", "inet", firewall.TABLE], check=False, capture_output=True
    )
    return done.returncode == 0


def _rest(work: Uninstall) -> None:
    if _firewall_loaded(work):
        steps.program(work, ["nft", "delete", "table", "inet", firewall.TABLE])
    for path in _others(work):
        path.unlink()


def _program(work: Uninstall) -> None:
    """`current` first: without it nothing of a half-removed release can start."""
    at = work.places
    at.current.unlink(missing_ok=True)
    shutil.rmtree(at.opt)


def _users(work: Uninstall) -> None:
    if work.places.root != Path("/"):
        return
    if _known("passwd", USER):
        steps.program(work, ["userdel", USER])
    for name in (USER, *GROUPS):
        if _known("group", name):
            steps.program(work, ["groupdel", name])


def _known(table: str, name: str) -> bool:
    done = subprocess.run(["getent", table, name], check=False, capture_output=True)
    return done.returncode == 0


def _no_users(work: Uninstall) -> bool:
    whole = work.places.root == Path("/")
    return not whole or not any(
        (_known("passwd", USER), *(_known("group", name) for name in (USER, *GROUPS)))
    )


def _data(work: Uninstall) -> None:
    """The key first: what else may be left of a disk cannot be read without it."""
    data = _site(work).data
    (data / "secrets.key").unlink(missing_ok=True)
    files.drop(*(path for path in (data, work.places.etc) if path.exists()))


def _no_data(work: Uninstall) -> bool:
    return not _site(work).data.exists() and not work.places.etc.exists()


def _gone(of: Callable[[Uninstall], list[Path]]) -> Callable[[Uninstall], bool]:
    return lambda work: not of(work)


STEPS: tuple[Step[Uninstall], ...] = (
    Step("stop", "Kura を止める", "stop Kura", _stopped, _stop),
    Step("units", "systemd ユニットを除く", "remove the units", _gone(_unit_files), _units),
    Step(
        "rest",
        "ファイアウォールとコマンドを除く",
        "remove firewall and commands",
        lambda work: not _others(work) and not _firewall_loaded(work),
        _rest,
    ),
    Step(
        "program",
        "プログラムを除く",
        "remove the program",
        lambda work: not work.places.opt.exists(),
        _program,
    ),
)
PURGE: tuple[Step[Uninstall], ...] = (
    Step("data", "データと設定を消す", "remove data and settings", _no_data, _data),
    Step("users", "利用者とグループを除く", "remove user and groups", _no_users, _users),
)
