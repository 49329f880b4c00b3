"""What the commands of `kura` share: the settings, the database, the audit record, the output."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.errors import BadRequest

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from appliance.settings import Settings
    from appliance.store.sources import Source

AsJson = Annotated[bool, typer.Option("--json", help="JSON で出力する。")]
_NOBODY = 2**32 - 1  # a login that the kernel does not know


def load() -> Settings:
    """For a command at the console, which reaches what Kura reaches."""
    from appliance import settings, up
    from appliance.sovereignty import egress

    found = settings.load()
    egress.guard(found)
    egress.reach(up.local_host(found))
    return found


@contextmanager
def store(*, new: bool = False) -> Iterator[tuple[Settings, Engine]]:
    """`new`: of a command by which a site may begin. Others make no empty one somewhere else."""
    from appliance import build

    settings = load()
    if not new and not settings.begun:
        raise no_site(settings)
    engine = build.store(settings)
    try:
        yield settings, engine
    finally:
        engine.dispose()


def no_site(settings: Settings) -> BadRequest:
    return BadRequest(
        f"{settings.data} に Kura のデータがありません。KURA_DATA の指す場所を確かめてください。"
    )


def who() -> str:
    """The account that the kernel says this is, not what the environment says."""
    return f"console:{_name(os.getuid())}"


def login() -> str:
    """Who signed in at the machine before `sudo`; empty where that is the same, or not known."""
    with suppress(OSError, ValueError):
        uid = int(Path("/proc/self/loginuid").read_text())
        if uid not in (_NOBODY, os.getuid()):
            return _name(uid)
    return ""


def record(engine: Engine, action: str, detail: dict[str, Any]) -> None:
    from appliance.store import audit

    audit.record(engine, who(), action, detail)


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def show_json(value: Any) -> None:
    show(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def source_shown(one: Source) -> dict[str, Any]:
    run = one.last_run
    return {
        "id": one.id,
        "name": one.name,
        "kind": one.kind,
        "enabled": one.enabled,
        "problem": one.trouble,
        "withheld": one.withheld,
        "fresh_at": one.fresh_at.isoformat() if one.fresh_at else None,
        "outcome": run.outcome if run else None,
        "counts": dict(run.counts) if run else {},
        "finished_at": run.finished_at.isoformat() if run and run.finished_at else None,
    }


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
