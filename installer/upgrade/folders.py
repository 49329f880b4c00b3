"""Where the states of a site lie that do not serve, and how they go."""

from __future__ import annotations

import json
from pathlib import Path

from installer.upgrade import files
from installer.upgrade.site import Site


def next_folder(site: Site) -> Path:
    """Where a data folder is made ready, on the file system of the one there is."""
    return site.upgrade / "next"


def before_folder(site: Site, version: str) -> Path:
    """The snapshot that was taken when that version was left."""
    return site.upgrade / "before" / version


def after_folder(site: Site, version: str, token: str) -> Path:
    """What was written by that version, and put aside by a way back."""
    return site.upgrade / "after" / f"{version}-{token}"


def noted(site: Site) -> Path:
    """The schema that belongs to `next`, where the database is PostgreSQL."""
    return site.upgrade / "next.schema"


def drop_next(site: Site) -> None:
    place = noted(site)
    if name := site.owned(lambda: _read(place)):
        site.ask(site.installed(), "forget", name)
        site.owned(lambda: place.unlink())
    site.owned(lambda: files.drop(next_folder(site)))


def drop_before(site: Site, *folders: Path) -> None:
    """Snapshots, with the schemas that their `snapshot.json` names."""
    schemas = site.owned(lambda: [_schema(one) for one in folders])
    if named := [one for one in schemas if one]:
        site.ask(site.installed(), "forget", *named)
    site.owned(lambda: files.drop(*folders))


def _schema(folder: Path) -> str:
    told = _read(folder / files.FACTS)
    return str(json.loads(told).get("schema", "")) if told else ""


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
