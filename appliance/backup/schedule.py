"""When `kura work` makes a backup, what became of the last, and whether it is older than it should be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from appliance.backup.vault import Manifest
from appliance.settings import Settings
from appliance.store import site
from appliance.store.timing import Timing

LAST, TRIED, VERIFIED = "backup.last", "backup.tried", "backup.verified"  # in `site`
FIRST = "backup.first"  # when the first was made, from which on one may ask that it be verified
GRACE = timedelta(hours=6)  # a large one takes time, and so does a machine that was off


@dataclass(frozen=True)
class Outcome:
    at: datetime
    ok: bool
    said: str


def is_on(settings: Settings) -> bool:
    return settings.backup_folder != Path() and bool(settings.backup_cron)


def due(engine: Engine, settings: Settings, moment: datetime) -> bool:
    """Whether it is time, by the last that was tried; one that failed is not tried before its next turn."""
    if not is_on(settings):
        return False
    tried = outcome(engine, TRIED)
    if tried is None:  # the first comes at its time, not at once
        note(engine, TRIED, True, "")
        return False
    return _next(settings, tried.at) <= moment


def finished(engine: Engine, manifest: Manifest) -> None:
    said = f"{manifest.name} {manifest.bytes} bytes, {manifest.new_bytes} new"
    note(engine, LAST, True, said)
    note(engine, TRIED, True, said)
    if outcome(engine, FIRST) is None:
        note(engine, FIRST, True, said)


def verified(engine: Engine, name: str, problem: str) -> None:
    """`problem`: empty where the backup is whole."""
    note(engine, VERIFIED, not problem, problem or name)


def begun(engine: Engine) -> datetime | None:
    first = outcome(engine, FIRST)
    return first.at if first else None


def failed(engine: Engine, why: str) -> None:
    note(engine, TRIED, False, why)


def outcome(engine: Engine, key: str = LAST) -> Outcome | None:
    if (text := site.get(engine, key)) is None:
        return None
    said: Mapping[str, object] = json.loads(text)
    return Outcome(datetime.fromisoformat(str(said["at"])), bool(said["ok"]), str(said["said"]))


def problem(engine: Engine, settings: Settings, moment: datetime) -> str:
    """What an administrator should know; empty where all is well or nothing is asked for."""
    if not is_on(settings):
        return ""
    last, tried = outcome(engine), outcome(engine, TRIED)
    if tried and not tried.ok:
        return f"{_shown(tried.at, settings)} の控えを取れませんでした。{tried.said}"
    known = last or tried
    if known and _next(settings, known.at) + GRACE < moment:
        since = f"最後の控えは {_shown(last.at, settings)} です" if last else "控えがまだありません"
        return f"{since}。`kura work` が動いているか確かめ、`kura backup create` で取ってください。"
    return ""


def shown(engine: Engine, settings: Settings) -> str:
    """The last backup, for people; empty where there was none."""
    last = outcome(engine)
    return _shown(last.at, settings) if last else ""


def note(engine: Engine, key: str, ok: bool, said: str) -> None:
    at = datetime.now(UTC).isoformat()
    site.put(engine, key, json.dumps({"at": at, "ok": ok, "said": said}, ensure_ascii=False))


def _next(settings: Settings, moment: datetime) -> datetime:
    return Timing(cron=settings.backup_cron).next(moment, settings.zone, 0.0)


def _shown(moment: datetime, settings: Settings) -> str:
    return f"{moment.astimezone(settings.zone):%Y-%m-%d %H:%M}"
