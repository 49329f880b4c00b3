"""`kura-installer rollback [VERSION]`: an earlier release serves again.

Where the database is of the same form in both, all that was written stays. Else, or with `--snapshot`,
the snapshot comes back that was taken when that release was left, and what was written since is put
aside and counted.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from installer import steps
from installer.steps import Refused, Step
from installer.upgrade import database, embedder, files, folders, history, switch
from installer.upgrade.change import END, Change, went
from installer.upgrade.database import Database
from installer.upgrade.files import Swap
from installer.upgrade.record import Record
from installer.upgrade.site import Site
from installer.upgrade.verbs import common, opened, told

NAMES = {
    "document": "文書 / documents",
    "conversation": "会話 / conversations",
    "message": "質問と回答 / messages",
    "user": "利用者 / people",
    "audit": "監査記録 / audit rows",
}


@dataclass
class Rollback(Change):
    snapshot: dict[str, Any] = field(default_factory=dict)  # {}: the data stays
    database: Database | None = None


def options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument(
        "version", nargs="?", default="", help="戻る版。空なら直前の版 / where to; the last one"
    )
    parser.add_argument(
        "--snapshot",
        action="store_true",
        help="その版を離れたときの状態に戻す / the state in which it was left, even if all could stay",
    )
    parser.add_argument(
        "--yes", action="store_true", help="確かめずに進める / do not ask, whatever is put aside"
    )


@told
def run(given: argparse.Namespace) -> int:
    with opened(given, "rollback", Rollback) as site:
        work = site.context
        assert isinstance(work, Rollback)
        work.site = site
        if done := switch.settle(site):
            work.say(done)
        work.version = _target(site, given.version)
        costs = _tell(site, work, given.snapshot)
        if costs and not given.yes and not _agreed():
            work.say("何も変えていません。 / Nothing was changed.")
            return 1
        with switch.held_back(site):
            steps.run(STEPS, work)
        work.say(
            f"{work.version} に戻りました。止まっていたのは {work.out_s:.1f} 秒です。"
            f" / Back on {work.version}; {work.out_s:.1f} s without service."
        )
        if work.snapshot:
            assert work.going
            aside = " と ".join(map(str, (work.going.swap.outgoing, *work.going.schemas[:1])))
            work.say(
                f"戻す前のデータ: {aside}（要らなくなったら消してください）"
                " / what was there before lies there; remove it when you like."
            )
    return 0


def _target(site: Site, wanted: str) -> str:
    able = history.latest(site.places)
    wanted = wanted or next(iter(able), "")
    if wanted not in able:
        choice = "、".join(able) or "ありません / none"
        raise Refused(
            f"{wanted or '前の版'} には戻れません。戻れる版: {choice}"
            f" / Cannot go back to it; possible: {', '.join(able) or 'none'}."
        )
    if not site.lies_here(wanted):
        raise Refused(f"{wanted} の一部がなくなっています。 / {wanted} is not whole.")
    return wanted


def _tell(site: Site, work: Rollback, snapshot: bool) -> bool:
    """Say whether the data stays; if not, what of it the snapshot does not have. True: it costs something."""
    now, then = site.facts(site.installed()), site.facts(work.version)
    work.database = database.of(site, now)
    work.database.refuse(site)
    if now.revision == then.head and not snapshot:
        work.say(
            "データベースの形は同じなので、書かれたものはすべて残ります。"
            " / The database is of the same form: all that was written stays."
        )
        if meanwhile := embedder.back(now, then):
            work.say(meanwhile)
        return bool(meanwhile) and now.searched_by not in then.embedders
    place = folders.before_folder(site, work.version) / files.FACTS
    try:
        work.snapshot = json.loads(site.owned(lambda: place.read_text("utf-8")))
    except FileNotFoundError:
        raise Refused(
            f"{work.version} の控えがありません。新しい版へは `kura-installer upgrade {work.version}` で進みます。"
            f" / There is no snapshot of {work.version}; to a newer release, use upgrade."
        ) from None
    since = history.when(site.places, work.version)
    work.say(
        f"{work.version} を離れた {since} の状態に戻します。その後の分は脇に置かれます:"
        f" / To the state of {since}. What came since is put aside:"
    )
    for name, title in NAMES.items():
        more = now.rows.get(name, 0) - work.snapshot["rows"].get(name, 0)
        work.say(f"  {title}: {more:+d}")
    work.say(
        "  取り込み元の文書は次の確認で読み直されます。アップロード・会話・設定の変更は戻りません。"
        " / Sources are read again; uploads, conversations and changed settings are not."
    )
    return True


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise Refused("確認できません。--yes を付けてください。 / Cannot ask: add --yes.")
    return input("進めますか / go on? (yes) ").strip().lower() in {"yes", "はい"}


# --- steps --------------------------------------------------------------------------


def _prepare(work: Rollback) -> None:
    """A copy of the snapshot, which stays as it is: made while the other still serves."""
    site, base = _site(work), _database(work)
    folder = folders.next_folder(site)
    source = folders.before_folder(site, work.version)
    folders.drop_next(site)
    if work.snapshot:
        but = (*base.files(), files.FACTS)
        site.owned(lambda: files.snapshot(source, folder, but, site.log))
        base.back(site, work.version, work.snapshot)
    work.did("prepare")


def _stop(work: Rollback) -> None:
    site, base = _site(work), _database(work)
    origin, token = site.installed(), secrets.token_hex(4)
    outs: tuple[str, ...] = ()
    ins: tuple[str, ...] = ()
    aside, coming = folders.after_folder(site, origin, token), folders.next_folder(site)
    if work.snapshot:
        outs = tuple(site.owned(lambda: files.managed(site.data, site.log)))
        ins = tuple(site.owned(lambda: files.managed(coming, site.log)))
    kept = switch.kept_settings(site, work.version)
    work.going = Record(
        "rollback",
        origin,
        work.version,
        token,
        site.running(),
        "stopping",
        Swap(site.data, aside, coming, outs, ins),
        base.name if work.snapshot else "",
        base.schemas(f"after_{aside.name}") if work.snapshot else (),
        str(kept) if work.snapshot and kept.exists() else "",
    )
    work.begin()
    if work.snapshot:
        work.going = replace(work.going, digest=base.digest(site))
    work.did("stop")


def _database(work: Rollback) -> Database:
    assert work.database
    return work.database


def _site(work: Rollback) -> Site:
    assert work.site
    return work.site


STEPS: tuple[Step[Any], ...] = (
    Step("prepare", "戻す状態を用意する", "make ready what comes back", went("prepare"), _prepare),
    Step("stop", "Kura を止める", "stop Kura", went("stop"), _stop),
    *END,
)
