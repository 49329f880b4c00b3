"""`kura-installer rollback [VERSION]`: an earlier release serves again.

Where the database is of the same form in both, all that was written stays. Else the snapshot comes
back that was taken when that release was left, and what was written since is put aside and counted.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from installer import steps
from installer.steps import Context, Refused, Step
from installer.upgrade import files, history, record, switch
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
class Rollback(Context):
    site: Site | None = None
    went: frozenset[str] = frozenset()
    going: Record | None = None
    snapshot: dict[str, Any] = field(default_factory=dict)  # {}: the data stays
    database: str = ""
    stopped_at: float = 0.0
    out_s: float = 0.0

    def did(self, name: str) -> None:
        self.went |= {name}


def options(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument(
        "version", nargs="?", default="", help="戻る版。空なら直前の版 / where to; the last one"
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
        _tell(site, work)
        if work.snapshot and not given.yes and not _agreed():
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
            work.say(
                f"戻す前のデータ: {work.going.swap.outgoing}（要らなくなったら消してください）"
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


def _tell(site: Site, work: Rollback) -> None:
    """Whether the data stays; if not, what of it the snapshot does not have."""
    now, then = site.facts(site.installed()), site.facts(work.version)
    if now.database is None or now.database.parent != site.data:
        raise Refused(
            "データベースがデータフォルダの SQLite ではないので、ここからは戻せません。"
            "`kura restore` を使ってください。 / Not SQLite in the data folder: use kura restore."
        )
    work.database = now.database.name
    if now.revision == then.head and now.embedder == then.embedder:
        work.say(
            "データベースの形は同じなので、書かれたものはすべて残ります。"
            " / The database is of the same form: all that was written stays."
        )
        return
    place = switch.before_folder(site, work.version) / files.FACTS
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


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise Refused("確認できません。--yes を付けてください。 / Cannot ask: add --yes.")
    return input("進めますか / go on? (yes) ").strip().lower() in {"yes", "はい"}


# --- steps --------------------------------------------------------------------------


def _prepare(work: Rollback) -> None:
    """A copy of the snapshot, which stays as it is: made while the other still serves."""
    site = _site(work)
    folder = switch.next_folder(site)
    source = switch.before_folder(site, work.version)

    def ready() -> str:
        files.drop(folder)
        files.snapshot(source, folder, (work.database, files.FACTS), site.log)
        return files.alike(source / work.database, folder / work.database)

    site.owned(lambda: files.drop(folder))
    if work.snapshot and site.owned(ready) != work.snapshot["sha256"]:
        raise Refused(
            f"{source} の控えが取った時のものと一致しません。バックアップから戻してください。"
            f" / The snapshot in {source} was damaged: restore a backup."
        )
    work.did("prepare")


def _stop(work: Rollback) -> None:
    site = _site(work)
    origin, token = site.installed(), secrets.token_hex(4)
    outs: tuple[str, ...] = ()
    ins: tuple[str, ...] = ()
    if work.snapshot:
        outs = site.owned(lambda: files.managed(site.data, site.log))
        ins = site.owned(lambda: files.managed(switch.next_folder(site), site.log))
    swap = Swap(
        site.data, switch.after_folder(site, origin, token), switch.next_folder(site), outs, ins
    )
    kept = switch.kept_settings(site, work.version)
    settings = str(kept) if work.snapshot and kept.exists() else ""
    name = work.database if work.snapshot else ""
    running = site.running()
    work.going = Record(
        "rollback", origin, work.version, token, running, "stopping", swap, name, settings
    )
    switch.keep_settings(site)
    record.write(site.places, work.going)
    work.stopped_at = time.monotonic()
    site.stop()
    if work.snapshot:  # its log must not be mistaken for one of the other database
        site.ask(origin, "settle")
        digest = site.owned(lambda: files.digest(site.data / work.database))
        work.going = replace(work.going, digest=digest)
    work.did("stop")


def _switch(work: Rollback) -> None:
    assert work.going
    work.going = switch.move(_site(work), work.going)
    work.did("switch")


def _serve(work: Rollback) -> None:
    site = _site(work)
    assert work.going
    if work.going.running:
        switch.try_out(site, work.going)
        work.out_s = time.monotonic() - work.stopped_at
    switch.finish(site, work.going)
    work.did("serve")


def _site(work: Rollback) -> Site:
    assert work.site
    return work.site


def _went(name: str) -> Callable[[Rollback], bool]:
    return lambda work: name in work.went


STEPS = tuple(
    Step(name, ja, en, _went(name), do)
    for name, ja, en, do in (
        ("prepare", "戻す状態を用意する", "make ready what comes back", _prepare),
        ("stop", "Kura を止める", "stop Kura", _stop),
        ("switch", "入れ替える", "switch", _switch),
        ("serve", "起動して点検する", "start and check", _serve),
    )
)
