"""`kura-installer upgrade`: the new release is made ready and tried beside the old; then one takes the place.

Until Kura is stopped nothing of what serves is touched. From there to the new one serving is counted.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from installer import steps
from installer.bundle import archive
from installer.bundle.manifest import Manifest
from installer.deploy import verb as deploy
from installer.places import VERSION
from installer.steps import Context, Refused, Step
from installer.upgrade import files, record, switch, trial
from installer.upgrade.files import Swap
from installer.upgrade.record import Record
from installer.upgrade.site import Facts, Site
from installer.upgrade.verbs import common, opened, told

SPARE_BYTES = 500_000_000
PREPARING = frozenset({"packages", "unpack", "environment", "release"})  # steps of `install`


@dataclass
class Upgrade(Context):
    """What the steps hand on to each other. Each is done once in a run: what they make is thrown away
    when one fails."""

    site: Site | None = None
    went: frozenset[str] = frozenset()
    facts: Facts | None = None
    going: Record | None = None
    rows: dict[str, int] = field(default_factory=dict)
    ready_s: float = 0.0  # that the new release took on the copy
    stopped_at: float = 0.0
    out_s: float = 0.0  # without service

    def did(self, name: str) -> None:
        self.went |= {name}


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
    if facts.database is None:
        raise Refused(
            "データベースが PostgreSQL なので、ここからは更新できません。管理者ガイドの「更新と切り戻し」にある"
            "手順（kura backup create、停止、導入、kura restore）で進めてください。"
            " / With PostgreSQL this is done by backup and restore: see the guide."
        )
    if facts.database.parent != site.data:
        raise Refused(
            f"データベース {facts.database} がデータフォルダの外にあります。{site.data} の中に移してください。"
            f" / The database must lie in the data folder."
        )
    if not facts.database.exists():
        raise Refused(
            "データベースがまだありません。一度起動してください。 / Start Kura once first."
        )
    if facts.revision not in new.revisions:
        raise Refused(
            f"{work.version} はこのデータベース（{facts.revision}）を知りません。より新しい版が要ります。"
            f" / {work.version} does not know this database; it takes a newer release."
        )
    size = facts.database.stat().st_size
    free = shutil.disk_usage(site.data).free
    if (need := 2 * size + SPARE_BYTES) > free:
        raise Refused(
            f"{site.data} の空きが {free / 1e9:.1f} GB です。{need / 1e9:.1f} GB 要ります。"
            f" / {need / 1e9:.1f} GB are needed there, {free / 1e9:.1f} are free."
        )
    work.facts = facts
    work.did("look")


def _copy(work: Upgrade) -> None:
    site, facts = _site(work), _facts(work)
    site.owned(lambda: files.drop(switch.next_folder(site)))
    trial.prepare(site, facts, work.version)
    work.did("copy")


def _try(work: Upgrade) -> None:
    work.ready_s = trial.run(_site(work), _facts(work), work.version)
    work.did("try")


def _stop(work: Upgrade) -> None:
    site, facts = _site(work), _facts(work)
    assert facts.database is not None
    origin, name = site.installed(), facts.database.name
    swap = Swap(
        site.data, switch.before_folder(site, origin), switch.next_folder(site), (name,), (name,)
    )
    running = site.running()
    work.going = Record(
        "upgrade",
        origin,
        work.version,
        secrets.token_hex(4),
        running,
        "stopping",
        swap,
        name,
        ready_s=max(Record.ready_s, 3 * work.ready_s),
    )
    switch.keep_settings(site)
    record.write(site.places, work.going)
    work.stopped_at = time.monotonic()
    site.stop()
    work.rows = site.ask(origin, "settle")["rows"]
    work.did("stop")


def _snapshot(work: Upgrade) -> None:
    """All but the database, which itself becomes part of it by the switch."""
    site, facts, going = _site(work), _facts(work), _going(work)
    but, log = trial.beside(facts), site.log
    site.owned(lambda: files.snapshot(site.data, going.swap.outgoing, but, log))
    work.did("snapshot")


def _again(work: Upgrade) -> None:
    """The copy of before has grown old, and was tried on: the same bytes again, then up to date."""
    site, facts = _site(work), _facts(work)
    source, folder = facts.database, switch.next_folder(site)
    assert source is not None

    def fresh() -> str:
        for name in trial.beside(facts)[1:]:
            (folder / name).unlink(missing_ok=True)
        return files.alike(source, folder / source.name)

    digest = site.owned(fresh)
    work.going = replace(_going(work), digest=digest)
    told = {
        "version": work.going.origin,
        "revision": facts.revision,
        "rows": work.rows,
        "sha256": digest,
    }
    place = work.going.swap.outgoing / files.FACTS
    site.owned(lambda: files.put(place, json.dumps(told)))
    site.ask(work.version, "migrate", more=trial.environment(site, facts, work.version))
    work.did("again")


def _switch(work: Upgrade) -> None:
    work.going = switch.move(_site(work), _going(work))
    work.did("switch")


def _serve(work: Upgrade) -> None:
    site, going = _site(work), _going(work)
    if going.running:
        switch.try_out(site, going)
        work.out_s = time.monotonic() - work.stopped_at
    switch.finish(site, going)
    work.did("serve")


def _site(work: Upgrade) -> Site:
    assert work.site
    return work.site


def _facts(work: Upgrade) -> Facts:
    assert work.facts
    return work.facts


def _going(work: Upgrade) -> Record:
    assert work.going
    return work.going


def _went(name: str) -> Callable[[Upgrade], bool]:
    return lambda work: name in work.went


STEPS = tuple(
    Step(name, ja, en, _went(name), do)
    for name, ja, en, do in (
        ("look", "二つの版とデータを調べる", "look at both releases and the data", _look),
        ("copy", "写しを作り、写しの上で移行する", "copy everything, migrate the copy", _copy),
        ("try", "新しい版を写しの上で点検する", "check the new release on the copy", _try),
        ("stop", "Kura を止める", "stop Kura", _stop),
        ("snapshot", "今の状態を控える", "take the snapshot", _snapshot),
        ("again", "止まったデータベースを移行する", "migrate the database at rest", _again),
        ("switch", "入れ替える", "switch", _switch),
        ("serve", "起動して点検する", "start and check", _serve),
    )
)
