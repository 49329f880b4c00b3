"""`kura support`: what a maker may be sent of a machine that is not well.

What the machine is, how much it holds and where the program stumbled; no name, no text, no address
and no secret. That is not found by looking for them: only what the program itself wrote is taken
in the first place, which are numbers, names of its own, the templates of its messages and the lines
of its code that an error went through.
"""

from __future__ import annotations

import json
import os
import platform
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any

import appliance
from appliance import doctor
from appliance.settings import Settings

LINES = 20_000  # of the log, the last ones
OWN = ("appliance", "connectors")
KEPT = {"at", "process", "level", "logger", "form"}  # of a line: see `logs.Lines`
KEPT_FIELDS = {"method", "path", "request_id"}  # a route's template, and a number of its own
_FRAME = re.compile(
    r'File ".*?((?:appliance|connectors|installer)/[\w/]+\.py)", line (\d+), in (\S+)'
)
_WORD = re.compile(r"[a-z ]{1,30}")  # what the supervisor says of its children
_RAISED = re.compile(
    r"^([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|[A-Z]\w+))(?::|$)", re.M
)


def parts(settings: Settings) -> dict[str, str]:
    """Name of each file and its text. A part that cannot be made says so."""
    made: dict[str, Callable[[Settings], Any]] = {
        "machine.json": machine,
        "settings.json": chosen,
        "checks.json": checks,
        "counts.json": counts,
    }
    found = {name: _json(_or_why(make, settings)) for name, make in made.items()}
    found["log.jsonl"] = "".join(
        f"{json.dumps(one, ensure_ascii=False)}\n" for one in log(settings)
    )
    return found


def packed(files: Mapping[str, str]) -> bytes:
    into = BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return into.getvalue()


def machine(settings: Settings) -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)$", info.read_text() if info.exists() else "", re.M)
    return {
        "kura": appliance.__version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "processor": model[1] if model else "",
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "packages": {d.metadata["Name"]: d.version for d in metadata.distributions()},
    }


def chosen(settings: Settings) -> dict[str, Any]:
    """Numbers and switches as they are; of all else whether it was set."""
    given: dict[str, Any] = {}
    for one in fields(Settings):
        value = getattr(settings, one.name)
        plain = isinstance(value, (bool, int, float))
        given[one.name] = value if plain else "default" if value == one.default else "set"
    return given


def checks(settings: Settings) -> dict[str, bool]:
    """`kura doctor` without its sentences, which name files and sources."""
    return {check.name: check.ok for check in doctor.examine(settings)}


def counts(settings: Settings) -> dict[str, Any]:
    from sqlalchemy import func, inspect, text
    from sqlmodel import SQLModel, col, select

    from appliance.store import database
    from appliance.store.tables import DocumentRow, RunRow, SourceRow

    engine = database.connect(settings.database_url)
    try:
        with engine.connect() as connection:
            there = set(inspect(connection).get_table_names())
            rows = {
                name: connection.execute(select(func.count()).select_from(table)).scalar()
                for name, table in sorted(SQLModel.metadata.tables.items())
                if name in there
            }
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            kind, status = col(DocumentRow.media_type), col(DocumentRow.status)
            kinds = connection.execute(
                select(kind, status, func.count()).group_by(kind, status)
            ).all()
            documents = {f"{kind} {status}": n for kind, status, n in kinds}
            found = connection.execute(
                select(SourceRow.id, SourceRow.kind, SourceRow.enabled, SourceRow.failures)
            ).all()
            runs = Counter(
                (source, outcome)
                for source, outcome in connection.execute(select(RunRow.source_id, RunRow.outcome))
            )
    finally:
        engine.dispose()
    sources = [
        {
            "kind": kind,
            "enabled": enabled,
            "failures_in_a_row": failures,
            "runs": {outcome: n for (source, outcome), n in sorted(runs.items()) if source == id},
        }
        for id, kind, enabled, failures in found
    ]
    return {"revision": revision, "rows": rows, "documents": documents, "sources": sources}


def log(settings: Settings) -> Iterator[dict[str, Any]]:
    """The last lines, the oldest first; `*.1` is the file before: see `up.Log`."""
    files = [settings.log.with_name(settings.log.name + ".1"), settings.log]
    lines = [
        line
        for file in files
        if file.exists()
        for line in file.read_text("utf-8", "replace").splitlines()
    ]
    for line in lines[-LINES:]:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # what a library printed: nobody knows what is in it
        if isinstance(event, dict):
            yield _bare(event)


def _bare(event: dict[str, Any]) -> dict[str, Any]:
    own = str(event.get("logger", "")).partition(".")[0] in OWN
    kept = {
        name: value
        for name, value in event.items()
        if (name in KEPT and (own or name != "form"))
        or (own and name in KEPT_FIELDS)
        or isinstance(value, (bool, int, float))
    }
    said = str(event.get("event", ""))
    if event.get("process") == "up" and _WORD.fullmatch(said):
        kept |= {"event": said, "of": event.get("of", "")}
    if error := str(event.get("error", "")):
        kept["raised"] = [name.rpartition(".")[2] for name in _RAISED.findall(error)]
        kept["at_lines"] = [f"{path}:{line} {name}" for path, line, name in _FRAME.findall(error)]
    return kept


def _or_why(make: Callable[[Settings], Any], settings: Settings) -> Any:
    try:
        return make(settings)
    except Exception as error:  # noqa: BLE001 - a machine that is not well is what this is for
        return {"failed": type(error).__name__}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n"
