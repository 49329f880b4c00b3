"""A directory followed: who is in which group, on a clock of its own, apart from any document.

First everything is read, then it is judged, and only then written: a look that would take away more
than a share waits until an administrator confirms it. What holds until then, holds no longer than the
rights of a source do. Safe to kill anywhere: an entry's version is written with the entry.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine

from appliance.errors import (
    ApplianceError,
    Conflict,
    NotVisible,
    SourceDenied,
    SourceMisconfigured,
    Transient,
)
from appliance.ingest.wrong import sentence
from appliance.settings import Settings
from appliance.store import audit, directories, identities, people
from appliance.store.directories import Directory
from appliance.store.tables import now
from appliance.types import Listed, Site
from connectors.directory import Directory as Server
from connectors.directory import DirectorySettings

log = logging.getLogger(__name__)

LEASE_S = 300.0
LONGEST_BACKOFF_S = 900.0
FEW = 20  # entries or memberships; fewer than this may go at once without a doubt
AT_ONCE = 100  # entries in one transaction
_MOST = 0.25  # of all entries; more are read in one go


class Stopped(Exception):
    """The lease is lost, or the process ends: the next look finds the rest."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a look did. `held`: what it would have removed, where it waits."""

    changed: int = 0
    removed: int = 0
    held: dict[str, int] | None = None


def look(engine: Engine, owner: str, settings: Settings, site: Site, stop: threading.Event) -> bool:
    """Look at one due directory. False if there was none."""
    directory = directories.lease(engine, owner, LEASE_S)
    if directory is None:
        return False
    began_at, began = now(), time.monotonic()
    watch = _Watch(engine, directory.id, owner, stop)
    next_at = timedelta(seconds=settings.directory_seconds)
    after: dict[str, Any] = {"failures": 0, "problem": None, "held": None}
    try:
        report = sync(engine, directory, site, watch)
        if report.held:
            after |= {"held": report.held, "problem": _waiting(report.held), "accepted": False}
        else:
            age = timedelta(seconds=settings.access_max_age_seconds)
            after |= {"fresh_at": began_at, "valid_until": now() + next_at + age, "accepted": False}
    except Stopped:
        directories.release(engine, directory.id, owner, wanted=True)
        return True
    except NotVisible:
        return True  # deleted meanwhile
    except Exception as error:  # noqa: BLE001  one directory never stops the others
        failures = directory.failures + 1
        after |= {"failures": failures, "problem": _told(directory, error), "held": directory.held}
        backoff_s = min(settings.directory_seconds * 2 ** min(failures - 1, 10), LONGEST_BACKOFF_S)
        wait_s = max(error.retry_after_s, backoff_s) if isinstance(error, Transient) else backoff_s
        next_at = timedelta(seconds=wait_s)
        report = Report()
    after["last"] = {
        "at": began_at.isoformat(),
        "seconds": round(time.monotonic() - began, 1),
        "done": after["problem"] is None,
        "changed": report.changed,
        "removed": report.removed,
    }
    directories.release(engine, directory.id, owner, due_at=now() + next_at, **after)
    level = logging.WARNING if after["problem"] else logging.DEBUG
    level = max(level, logging.INFO) if report.changed or report.removed else level
    log.log(
        level,
        "directory %s: %d changed, %d removed in %.1f s %s",
        directory.name,
        report.changed,
        report.removed,
        time.monotonic() - began,
        after["problem"] or "",
    )
    return True


def connected(settings: Mapping[str, Any], site: Site) -> Server:
    """`settings`: sealed. Raises SourceMisconfigured and what `Server` raises."""
    return Server(checked(site.unseal(settings)), site)


def checked(settings: Any) -> DirectorySettings:
    """Raises SourceMisconfigured, naming the field only: what was put in may be a secret."""
    try:
        return DirectorySettings.model_validate(settings)
    except ValidationError as error:
        said = sentence(error, DirectorySettings)
        raise SourceMisconfigured(f"ディレクトリの設定が正しくありません。{said}") from None


def schema() -> dict[str, Any]:
    """Of the settings, for a form."""
    return DirectorySettings.model_json_schema()


def sync(engine: Engine, directory: Directory, site: Site, watch: _Watch) -> Report:
    with connected(directory.settings, site) as server:
        seen = server.versions()
        if not seen:  # an account that may not read sees an empty directory, not an error
            raise SourceDenied(
                "ディレクトリに人もグループも見えません。検索の起点、絞り込み、アカウントの読み取り権限を確かめてください。"
            )
        known = directories.versions(engine, directory.id)
        changed = {one for one, version in seen.items() if not version or known.get(one) != version}
        every = len(changed) > max(AT_ONCE, _MOST * len(seen))
        found = (one for one in server.entries(None if every else changed) if one.id in changed)
        if not known:  # nothing to lose
            written = _write(engine, directory, found, watch)
        else:
            entries = list(watch.each(found))
            gone = known.keys() - seen.keys()
            # a version that is empty, or another server's, says nothing: what is as it was is kept
            held = _doubt(engine, directory, len(known), gone, entries)
            if held and not directory.accepted:
                return Report(held=held)
            watch()
            left = directories.drop(engine, directory.id, gone)
            _suspend_gone(engine, directory, left)
            entries.sort(key=lambda one: one.id not in known)  # who loses something first
            written = _write(engine, directory, entries, watch)
    joined = identities.join(engine)
    _suspend(engine)
    gone_count = len(known.keys() - seen.keys()) if known else 0
    return Report(max(written, joined) if known else written, gone_count)


class _Watch:
    """Renews the lease now and then. Raises Stopped."""

    def __init__(
        self, engine: Engine, directory_id: int, owner: str, stop: threading.Event
    ) -> None:
        self._engine, self._id, self._owner, self._stop = engine, directory_id, owner, stop
        self._renewed = time.monotonic()

    def __call__(self) -> None:
        if self._stop.is_set():
            raise Stopped
        if time.monotonic() - self._renewed > LEASE_S / 5:
            if not directories.renew(self._engine, self._id, self._owner, LEASE_S):
                raise Stopped
            self._renewed = time.monotonic()

    def each(self, entries: Iterable[Listed]) -> Iterator[Listed]:
        for entry in entries:
            self()
            yield entry


def _write(engine: Engine, directory: Directory, entries: Iterable[Listed], watch: _Watch) -> int:
    written, some = 0, list[Listed]()

    def flush() -> None:
        watch()
        directories.write(engine, directory.id, some)
        some.clear()

    for entry in entries:
        some.append(entry)
        written += 1
        if len(some) >= AT_ONCE:
            flush()
    if some:
        flush()
    return written


def _doubt(
    engine: Engine, directory: Directory, known: int, gone: Iterable[str], entries: Sequence[Listed]
) -> dict[str, int] | None:
    """What would go, where it is more than a share."""
    gone = list(gone)
    percent = int(directory.settings.get("hold_percent", 20))
    total, lost = directories.loss(engine, directory.id, gone, entries)
    many = len(gone) > FEW and len(gone) * 100 > percent * known
    if many or (lost > FEW and lost * 100 > percent * total):
        return {"entries": len(gone), "of": known, "memberships": lost, "of_memberships": total}
    return None


def _waiting(held: dict[str, int]) -> str:
    return (
        f"人とグループ {held['of']:,} 件のうち {held['entries']:,} 件、所属 {held['of_memberships']:,} 件のうち "
        f"{held['memberships']:,} 件が一度に消えるため、反映していません。本当なら「管理 › ディレクトリ」の「消えたことを反映」か kura directory sync --accept で"
        "反映し、違うならディレクトリの側や検索の起点を直してください。"
    )


def _told(directory: Directory, error: Exception) -> str:
    if isinstance(error, ApplianceError):
        return str(error) or type(error).__name__
    log.error("directory %s", directory.name, exc_info=error)
    return f"内部エラーが起きました（{type(error).__name__}）。"


def _suspend(engine: Engine) -> None:
    for one in identities.suspensions(engine):
        _switch(engine, one.user_id, disabled=one.disabled)
        identities.mark(engine, one.entries, suspended=one.disabled)


def _suspend_gone(engine: Engine, directory: Directory, left: Sequence[str]) -> None:
    """Who is deleted there is somebody who has left; coming back needs an administrator."""
    if not directory.settings.get("suspend", True):
        return
    known = {user.id: user for user in people.users(engine)} if left else {}
    for principal in left:
        user = known.get(principal.removeprefix("user:"))
        if user and not user.disabled and user.role != "administrator":
            _switch(engine, user.id, disabled=True)


def _switch(engine: Engine, user_id: str, *, disabled: bool) -> None:
    try:
        people.update(engine, user_id, disabled=disabled)
    except (Conflict, NotVisible) as error:
        log.warning("%s is left as it is: %s", user_id, error)
        return
    detail = {"user": user_id, "disabled": disabled}
    audit.record(engine, "directory", "user.change", detail)
