"""`kura-installer upgrade`: the new release is made ready and tried beside the old; then one takes the place.

Until Kura is stopped nothing of what serves is touched. From there to the new one serving is counted.
"""

from __future__ import annotations

import argparse
import json
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from installer import steps
from installer.bundle import archive
from installer.bundle.manifest import Manifest
from installer.deploy import verb as deploy
from installer.places import VERSION
from installer.steps import Refused, Step
from installer.upgrade import database, embedder, files, folders, switch, trial
from installer.upgrade.change import END, Change, went
from installer.upgrade.database import Database
from installer.upgrade.files import Swap
from installer.upgrade.record import Record
from installer.upgrade.site import Facts, Site
from installer.upgrade.verbs import common, opened, told

MIGRATE = ("migrate", "--again")  # what was looked through on the copy
PREPARING = frozenset({"packages", "unpack", "environment", "release"})  # steps of `install`


@dataclass
class Upgrade(Change):
    facts: Facts | None = None
    new: Facts | None = None
    database: Database | None = None
    ready_s: float = 0.0  # that the new release took on the copy


def options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument(
        "bundle",
        help="束のファイル、またはすでに展開されている版 / the bundle, or a version that lies here",
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--key", type=Path, help="発行元の公開鍵 (.pub) / the publisher's key")
    trust.add_argument("--fingerprint", help="確かめた鍵の指紋 / its fingerprint")
    parser.add_argument(
        "--dry-run", action="store_true", help="何をするかだけ示す / only say what would be done"
    )


@told
def run(given: argparse.Namespace) -> int:
    with opened(given, "upgrade", Upgrade) as site:
        work = site.context
        assert isinstance(work, Upgrade)
        work.site = site
        if done := switch.settle(site):
            work.say(done)
        work.version = _beside(site, given)
        if work.version == site.installed():
            work.say(f"すでに {work.version} です。 / Already on {work.version}.")
            return 0
        if given.dry_run:
            steps.run(STEPS, work, dry=True)
            return 0
        with switch.held_back(site):
            steps.run(STEPS, work)
        work.say(
            f"{work.version} になりました。止まっていたのは {work.out_s:.1f} 秒です。"
            f" / Now on {work.version}; {work.out_s:.1f} s without service."
        )
    return 0


def _beside(site: Site, given: argparse.Namespace) -> str:
    """The version, whole, in its folder beside the others: unpacked from its bundle, or there already."""
    wanted, installed = str(given.bundle), site.installed()
    if VERSION.fullmatch(wanted) and site.lies_here(wanted):
        Manifest(wanted, "", "", 0, {}).refuse_older_than(installed)
        return wanted
    path = Path(wanted)
    if not path.is_file():
        raise Refused(
            f"{wanted}: 束も、展開済みの版も見つかりません。 / Neither a bundle nor a version that lies here."
        )
    keys = deploy.trusted(site.places, argparse.Namespace(**{**vars(given), "bundle": path}))
    manifest = archive.read(path, keys)
    manifest.refuse_older_than(installed)
    site.context.say(f"Kura {manifest.version} 署名を確認しました / signature verified")
    if manifest.version != installed:
        laid = replace(
            site.deployed, version=manifest.version, bundle=path, manifest=manifest, verb="upgrade"
        )
        plan = [step for step in deploy.INSTALL if step.name in PREPARING]
        steps.run(plan, laid, dry=given.dry_run)
    return manifest.version


# --- steps --------------------------------------------------------------------------


def _look(work: Upgrade) -> None:
    site = _site(work)
    facts = site.facts(site.installed())
    new = site.facts(work.version)
    if new.version != work.version:
        raise Refused(
            f"{work.version} のフォルダーに {new.version} が入っています。 / It holds another version."
        )
    work.database = database.of(site, facts)
    work.database.refuse(site)
    if facts.revision not in new.revisions:
        raise Refused(
            f"{work.version} はこのデータベース（{facts.revision}）を知りません。より新しい版が要ります。"
            f" / {work.version} does not know this database; it takes a newer release."
        )
    embedder.look(site, facts, new)
    work.facts, work.new = facts, new
    work.did("look")


def _copy(work: Upgrade) -> None:
    site = _site(work)
    folders.drop_next(site)
    trial.prepare(site, _facts(work), _database(work), work.version)
    work.did("copy")


def _try(work: Upgrade) -> None:
    assert work.new
    work.ready_s = trial.run(_site(work), _facts(work), _database(work), work.new)
    work.did("try")


def _ready(work: Upgrade) -> None:
    """Whatever can be done before nobody is served."""
    site = _site(work)
    _database(work).near(site)
    site.prepare(work.version, *MIGRATE, more=_beside_it(work))
    if site.running():
        site.prepare(work.version, *switch.check(work.version, _patience(work)))
    work.did("ready")


def _stop(work: Upgrade) -> None:
    site, base = _site(work), _database(work)
    origin = site.installed()
    moved = (base.name,) if base.name else ()
    before, after = folders.before_folder(site, origin), folders.next_folder(site)
    work.going = Record(
        "upgrade",
        origin,
        work.version,
        secrets.token_hex(4),
        site.running(),
        "stopping",
        Swap(site.data, before, after, moved, moved),
        base.name,
        base.schemas(f"before_{origin}"),
        ready_s=_patience(work),
    )
    work.begin()
    work.did("stop")


def _snapshot(work: Upgrade) -> None:
    """All but the database, which itself becomes part of it by the switch."""
    site, log = _site(work), _site(work).log
    but, outgoing = _database(work).files(), _going(work).swap.outgoing
    site.owned(lambda: files.snapshot(site.data, outgoing, but, log))
    work.did("snapshot")


def _again(work: Upgrade) -> None:
    """The copy has grown old: what it copies again, at rest, and up to date."""
    site = _site(work)
    told = _database(work).fresh(site)
    work.going = replace(_going(work), digest=told["sha256"])
    told |= {"version": work.going.origin, "revision": _facts(work).revision}
    place = work.going.swap.outgoing / files.FACTS
    site.owned(lambda: files.put(place, json.dumps(told)))
    site.ask(work.version, *MIGRATE, more=_beside_it(work))
    work.did("again")


def _patience(work: Upgrade) -> float:
    return max(Record.ready_s, 3 * work.ready_s)


def _beside_it(work: Upgrade) -> dict[str, str]:
    return trial.environment(_site(work), _facts(work), _database(work), work.version)


def _site(work: Upgrade) -> Site:
    assert work.site
    return work.site


def _facts(work: Upgrade) -> Facts:
    assert work.facts
    return work.facts


def _database(work: Upgrade) -> Database:
    assert work.database
    return work.database


def _going(work: Upgrade) -> Record:
    assert work.going
    return work.going


STEPS: tuple[Step[Any], ...] = (
    tuple(
        Step(name, ja, en, went(name), do)
        for name, ja, en, do in (
            ("look", "二つの版とデータを調べる", "look at both releases and the data", _look),
            ("copy", "写しを作り、写しの上で移行する", "copy everything, migrate the copy", _copy),
            ("try", "新しい版を写しの上で点検する", "check the new release on the copy", _try),
            ("ready", "入れ替えの用意をする", "make ready for the switch", _ready),
            ("stop", "Kura を止める", "stop Kura", _stop),
            ("snapshot", "今の状態を控える", "take the snapshot", _snapshot),
            ("again", "止まったデータベースを移行する", "migrate the database at rest", _again),
        )
    )
    + END
)
