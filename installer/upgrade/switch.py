"""From one release to another at once, or back: the moves, their record, and what a crash leads to.

`change` goes from `stopping` to `trying`; `settle` is what the next command, or the next start of the
machine, does with a change that was cut off anywhere. After it all is of one release.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from installer import places
from installer.steps import Refused
from installer.upgrade import files, folders, history, record
from installer.upgrade.files import Swap
from installer.upgrade.record import Record
from installer.upgrade.site import Site

QUICK_STOP_S = 10.0  # of one that failed: it is put aside anyway


def kept_settings(site: Site, version: str) -> Path:
    return site.places.snapshots / version / "kura.env"


def keep_settings(site: Site) -> None:
    """Those of the release that is about to be left."""
    if site.places.settings.is_file():
        _copy(site.places.settings, kept_settings(site, site.installed()))


def move(site: Site, going: Record) -> Record:
    """Everything of the target takes its place. Kura is stopped, and stays so."""
    moving = going.at("moving")
    record.write(site.places, moving)
    _moves(site, moving)
    trying = going.at("trying")
    record.write(site.places, trying)
    site.owned(lambda: files.unmark(site.data))
    return trying


def check(version: str, ready_s: float) -> tuple[str, ...]:
    """In the words of `kura release`."""
    return ("check", "--version", version, "--ready", str(ready_s), "--within", "60")


def try_out(site: Site, going: Record) -> float:
    """Start the new state and use it as people do. Raises Refused.

    Returns for how many seconds it had served when it was done.
    """
    site.start()
    told = site.ask(going.target, *check(going.target, going.ready_s))
    ready_s, *used_s = (float(step["took_s"]) for step in told["steps"])
    site.context.journal.write(verb=going.kind, event="served", after_s=ready_s)
    return sum(used_s)


def revert(site: Site, going: Record) -> None:
    """A change that failed its check: the state that was left comes back; the other is put aside."""
    began = time.monotonic()
    site.context.say(f"{going.origin} に戻しています / going back to {going.origin}")
    back = going
    if going.phase != "back":
        site.stop(QUICK_STOP_S)
        back = _way_back(site, going)
        record.write(site.places, back)
    _moves_back(site, back)
    _compare(site, back)
    record.write(site.places, replace(back, phase="stopping"))
    site.owned(lambda: files.unmark(site.data))
    if going.running:
        site.start()
        wanted = ("check", "--only-ready", "--version", going.origin, "--ready", str(going.ready_s))
        site.ask(going.origin, *wanted)
    _end(site, going)
    took = time.monotonic() - began
    site.context.journal.write(verb=going.kind, event="reverted", took_s=round(took, 1))
    site.context.say(
        f"{going.origin} に戻りました（{took:.0f} 秒）。 / Back on {going.origin} after {took:.0f} s."
    )
    if (going.swap.outs or going.schemas) and (aside := back.swap.outgoing).is_dir():
        also = f" とスキーマ {back.schemas[0]} " if back.schemas else " "
        site.context.say(
            f"その間に書かれたものは {aside}{also}にあります。 / What was written meanwhile lies there."
        )


def finish(site: Site, going: Record) -> None:
    """It is good: what was left is history, of which the last three releases stay."""
    history.left(site.places, going.origin)
    record.write(site.places, None)
    tidy(site)


def tidy(site: Site) -> None:
    """Take away what nothing leads back to any more."""
    folders.drop_next(site)
    keep = {site.installed(), *history.latest(site.places)}
    for version in site.places.versions():
        if version not in keep:
            site.context.say(f"古い版 {version} を消しています / removing {version}")
            files.drop(site.places.release(version))
    folder = site.upgrade / "before"
    if folder.is_dir():
        gone = [one for one in sorted(folder.iterdir()) if one.name not in keep]
        folders.drop_before(site, *gone)
    if site.places.snapshots.is_dir():
        for one in site.places.snapshots.iterdir():
            if one.name not in keep:
                shutil.rmtree(one)


def settle(site: Site) -> str:
    """End what was cut off; a way back that is itself cut off goes on with the next call.

    Returns a sentence of what was done, "" where nothing was under way.
    """
    going = record.read(site.places)
    if going is None:
        if (site.data / files.SWITCHING).exists():
            raise Refused(
                f"{site.data / files.SWITCHING} がありますが、{record.path(site.places)} がありません。"
                f"どの版のデータか確かめられません。バックアップから戻してください（kura restore）。"
                f" / The record of a switch is lost: restore a backup."
            )
        if site.data.is_dir():
            folders.drop_next(site)
        return ""
    with uninterrupted():
        return _settled(site, going)


def at_boot(site: Site) -> None:
    """Before anything of Kura starts, after the power went: one state, old or new. systemd starts it.

    A new one that was being tried stays; the record of it too, for `recover` to end.
    """
    going = record.read(site.places)
    if going is None:
        return
    if going.phase == "trying":
        site.owned(lambda: files.unmark(site.data))
        return
    if going.phase == "back":
        _moves_back(site, going)
        _compare(site, going)
        site.owned(lambda: files.unmark(site.data))
        _end(site, going)
        return
    _settled(site, replace(going, running=False))


def _settled(site: Site, going: Record) -> str:
    old = f"{going.origin} のままです。 / Still on {going.origin}."
    match going.phase:
        case "stopping":
            site.owned(lambda: files.unmark(site.data))
        case "moving":
            site.stop(QUICK_STOP_S)
            site.owned(going.swap.backward)
            if going.schemas:
                site.ask(going.origin, "exchange", *going.schemas, "--back")
            _settings_back(site, going)
            places.point(site.places.current, site.places.release(going.origin))
            site.apply(going.origin)
            site.owned(lambda: files.unmark(site.data))
        case "trying":
            site.owned(lambda: files.unmark(site.data))
            try:
                if not site.running():
                    try_out(site, going)
                else:
                    site.ask(going.target, "check", "--version", going.target)
            except Refused as error:
                site.context.say(str(error))
                revert(site, going)
                return old
            finish(site, going)
            return f"{going.target} になりました。 / Now on {going.target}."
        case "back":
            revert(site, going)
            return old
    if going.running and not site.running():
        site.start()
    _end(site, going)
    return old


def _end(site: Site, going: Record) -> None:
    """All is as it was; a snapshot without its database is none."""
    if going.kind == "upgrade":
        folders.drop_before(site, folders.before_folder(site, going.origin))
    record.write(site.places, None)
    folders.drop_next(site)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits: a way back that is half gone would have to be gone again.

    By a handler that does nothing: what is ignored would be so in every program started meanwhile.
    """
    before: dict[signal.Signals, object] = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


@contextmanager
def held_back(site: Site) -> Iterator[None]:
    """Whatever stops what is done within, an error or Ctrl-C: the old state is back when this raises."""
    try:
        yield
    except BaseException:
        with uninterrupted():
            going = record.read(site.places)
            if going and going.phase == "trying":
                revert(site, going)
            elif done := settle(site):
                site.context.say(done)
        raise


# --- moves --------------------------------------------------------------------------


def _moves(site: Site, going: Record) -> None:
    site.owned(lambda: files.mark(site.data))
    site.owned(going.swap.forward)
    if going.schemas:
        site.ask(going.origin, "exchange", *going.schemas, "--sha256", going.digest)
    if going.settings:
        _settings(site, Path(going.settings))
    places.point(site.places.current, site.places.release(going.target))
    site.apply(going.target)


def _moves_back(site: Site, back: Record) -> None:
    site.owned(lambda: files.mark(site.data))
    site.owned(back.swap.forward)
    if back.schemas:
        site.ask(back.origin, "exchange", *back.schemas)
    _settings_back(site, back)
    places.point(site.places.current, site.places.release(back.origin))
    site.apply(back.origin)


def _compare(site: Site, back: Record) -> None:
    """That the database is again what it was, to the byte, is looked at and not assumed."""
    if not back.digest:
        return
    if back.schemas:
        path, found = "PostgreSQL", str(site.ask(back.origin, "mark")["sha256"])
    else:
        place = site.data / back.database
        path, found = str(place), site.owned(lambda: files.digest(place))
    site.context.journal.write(verb=back.kind, event="compared", sha256=found, wanted=back.digest)
    if found != back.digest:
        raise Refused(
            f"{path} が元のものと一致しません。バックアップから戻してください（kura restore）。"
            f" / {path} is not what it was: restore a backup."
        )
    same = (
        "どの行も元のままです / each row is where it was"
        if back.schemas
        else "元とバイト単位で同じです / identical to the byte"
    )
    site.context.say(f"データベースは{same} (sha256 {found[:16]}…)")


def _way_back(site: Site, going: Record) -> Record:
    """All that the new state has goes aside, all that the old one had comes in again."""
    back = going.at("back")
    if not going.swap.outs and not going.schemas:  # the data stayed: there is nothing to bring back
        return back
    outs = tuple(site.owned(lambda: files.managed(site.data, site.log)))
    kept = tuple(site.owned(lambda: files.managed(going.swap.outgoing, site.log)))
    ins = tuple(name for name in kept if name != files.FACTS)
    aside = folders.after_folder(site, going.target, going.token)
    swap = Swap(site.data, aside, going.swap.outgoing, outs, ins)
    if not going.schemas:
        return replace(back, swap=swap)
    out, come = going.schemas  # `…_next`, of which the beginning says whose it is
    beside = f"{come.removesuffix('_next')}_after_{aside.name}"
    return replace(back, swap=swap, schemas=(beside, out))


def _settings(site: Site, new: Path) -> None:
    _copy(new, site.places.settings)
    site.settings_changed()


def _settings_back(site: Site, going: Record) -> None:
    keep = kept_settings(site, going.origin)
    if keep.exists():
        _copy(keep, site.places.settings)
        site.settings_changed()


def _copy(source: Path, target: Path) -> None:
    about = source.stat()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    owner = (about.st_uid, about.st_gid)
    places.write(target, source.read_bytes(), about.st_mode & 0o777, owner)
