"""What people do at the console, in the audit chain: a row before a command and one after it.

Every command is a row of KNOWN; one that is not is recorded, since forgetting it must not hide it.
Of what was given only the parameters named there are written down: others may be secrets. A command
that cannot be recorded is not run, but for those that help a machine that is not well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

from appliance.cli_common import load, login, who
from appliance.errors import ApplianceError, NotReady

if TYPE_CHECKING:
    from appliance.settings import Settings


@dataclass(frozen=True)
class Entry:
    """`told`: parameters whose values are written; `when`: only with this one given."""

    what: Literal["changes", "reveals", "neither"]
    told: tuple[str, ...] = ()
    when: str = ""
    must: bool = True  # not run where it cannot be recorded
    own: bool = False  # writes into the chain of the database that it makes; touches no other


NEITHER = Entry("neither")
ON_POSTGRESQL = ("refresh", "exchange", "mark", "forget")
RELEASE = ("facts", "copy", "settle", "migrate", "isolate", "check", "sweep", *ON_POSTGRESQL)
KNOWN: Mapping[str, Entry] = {
    "up": NEITHER,
    "web": NEITHER,
    "work": NEITHER,
    "infer": NEITHER,
    "ask": Entry("reveals", ("as_user", "sources")),
    "search": Entry("reveals", ("as_user", "sources")),
    "eval": Entry("reveals", ("path", "accept")),
    "sync": Entry("changes", ("name", "anew")),
    "reindex": Entry("changes"),
    "status": NEITHER,
    "doctor": Entry("changes", ("repair", "yes"), when="repair"),
    "support": Entry("reveals", ("out",), must=False),
    "settings": NEITHER,
    "openapi": NEITHER,
    "models unpack": Entry("changes"),
    "models verify": NEITHER,
    "user add": Entry("changes", ("user_id", "administrator", "in_group")),
    "user password": Entry("changes", ("user_id",)),
    "user disable": Entry("changes", ("user_id",)),
    "user enable": Entry("changes", ("user_id",)),
    "user list": Entry("reveals"),
    "user sees": Entry("reveals", ("user_id", "also")),
    "who-sees": Entry("reveals", ("document", "user_id", "also")),
    "group set": Entry("changes", ("name", "members")),
    "group list": Entry("reveals"),
    "source add": Entry("changes", ("name", "kind")),
    "source list": Entry("reveals"),
    "source pause": Entry("changes", ("name",)),
    "source resume": Entry("changes", ("name",)),
    "source run": Entry("changes", ("name",)),
    "source resync": Entry("changes", ("name",)),
    "source accept": Entry("changes", ("name",)),
    "source timing": Entry("changes", ("name", "interval_s", "cron", "quiet", "days")),
    "source remove": Entry("changes", ("name",)),
    "directory add": Entry("changes", ("name",)),
    "directory set": Entry("changes", ("name",)),
    "directory remove": Entry("changes", ("name",)),
    "directory pause": Entry("changes", ("name",)),
    "directory resume": Entry("changes", ("name",)),
    "directory check": NEITHER,
    "directory sync": Entry("changes", ("name", "accept")),
    "directory status": Entry("reveals"),
    "directory map": Entry("changes", ("who", "means")),
    "setup-code": Entry("reveals"),
    "attest": Entry("reveals", ("out",), when="out"),
    "walls": NEITHER,
    "backup key": Entry("reveals", must=False),
    "backup create": Entry("changes", ("plain", "new_folder"), must=False),
    "backup list": NEITHER,
    "backup verify": Entry("changes", ("folder", "at", "trial"), must=False),
    "restore": Entry("changes", own=True),
    "migrate-db": Entry("changes", own=True),
    "alerts list": NEITHER,
    "alerts test": Entry("changes"),
    "maintenance on": Entry("changes", ("message", "until")),
    "maintenance off": Entry("changes"),
    "maintenance status": NEITHER,
    # the installer's, on copies and between two releases: it keeps a journal of its own
    **dict.fromkeys((f"release {verb}" for verb in RELEASE), NEITHER),
    "audit": Entry("reveals", ("limit", "actor", "action", "before", "verify")),
}


def recorded(root: Any) -> Any:
    """The same commands, each recorded as KNOWN says."""
    for path, command in leaves(root):
        if command.callback is not None:
            command.callback = _recording(path, command.callback)
    return root


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    commands = getattr(command, "commands", None)
    if commands is None:
        yield path, command
        return
    for name, one in commands.items():
        yield from leaves(one, f"{path} {name}".strip())


def _recording(path: str, run: Callable[..., Any]) -> Callable[..., Any]:
    entry = KNOWN.get(path, Entry("changes"))

    def recording(**given: Any) -> Any:
        skipped = entry.what == "neither" or entry.own
        if (
            skipped or (entry.when and not given.get(entry.when)) or given.get("scheduled")
        ):  # `kura work` has its own record of that
            return run(**given)
        try:
            settings = load()
        except ApplianceError:
            return run(**given)  # which says the same, and does nothing
        told = {name: _plain(given[name]) for name in entry.told if given.get(name)}
        detail = {"command": path, "given": told} | ({"login": login()} if login() else {})
        before = _write(settings, "command", detail, entry.must)
        outcome = "ok"
        try:
            return run(**given)
        except (typer.Exit, SystemExit) as end:
            code = end.exit_code if isinstance(end, typer.Exit) else end.code
            outcome = "ok" if code in (0, None) else f"exit {code}"
            raise
        except ApplianceError as error:
            outcome = f"refused: {type(error).__name__}"
            raise
        except BaseException as error:
            outcome = f"broken off: {type(error).__name__}"
            raise
        finally:
            link = {"command": path, "of": before} if before else detail
            _write(settings, "command.end", link | {"outcome": outcome}, must=False)

    return recording


def _write(settings: Settings, action: str, detail: dict[str, Any], must: bool) -> int | None:
    """The number of the row; None where there is no site (yet), or none that can be written to."""
    from sqlalchemy import inspect
    from sqlalchemy.exc import SQLAlchemyError

    from appliance.store import audit, database

    if not settings.begun:
        return None
    try:
        engine = database.connect(settings.database_url)
        try:
            if not inspect(engine).has_table("audit"):
                return None
            return audit.record(engine, who(), action, detail)
        finally:
            engine.dispose()
    except (ApplianceError, SQLAlchemyError, OSError) as error:
        why = str(error) if isinstance(error, ApplianceError) else type(error).__name__
        if must:
            raise NotReady(f"監査記録に書けないため、実行しません。{why}") from error
        print(f"kura: 監査記録に書けません。{why}", file=sys.stderr)  # noqa: T201
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)):
        return value
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else str(value)
