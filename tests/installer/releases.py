"""Small releases for tests: the real appliance, with another version, one migration more, a fake model.

A release is a folder as an installation makes it, `venv/bin/kura` and `release.json`; the code in it
is links to this repository's files, so a dozen of them cost nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

MIGRATION = '''"""A table of a later release."""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{revision}", "{before}"


def upgrade() -> None:
    op.create_table("later_{revision}", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute("UPDATE site SET value = value")
    {more}
'''
BREAKS = 'op.execute("INSERT INTO not_there VALUES (1)")'
FILLS = 'op.execute("CREATE TABLE filler AS SELECT randomblob(200000000) AS b")'
EMBEDDERS = """

_all = catalogue


def catalogue() -> tuple[Model, ...]:
    return (*(one for one in _all() if one.kind != "embedder"), *_EMBEDDERS)


_EMBEDDERS = tuple(
    Model(name, "embedder", {{"weights": sha256}}, lambda folder, progress: None, "", "", dim=384)
    for name, sha256 in {rows!r}
)
DEFAULT_EMBEDDER = {first!r}
"""


def make(
    folder: Path,
    version: str,
    *,
    revisions: dict[str, str] | None = None,
    patch: str = "",
    fake: bool = True,
    embedders: Sequence[str] = (),
    edits: Mapping[str, tuple[str, str]] = {},
) -> Path:
    """`revisions`: number of each migration more -> what it does besides. `patch`: of `appliance.cli`.
    `fake`: no model is loaded. `embedders`: all it knows, its own first, with files in its `models`.
    `edits`: of files of `appliance`."""
    lib = folder / "venv" / "lib"
    lib.mkdir(parents=True)
    for package in ("appliance", "connectors"):
        shutil.copytree(
            ROOT / package,
            lib / package,
            copy_function=_link,
            ignore=shutil.ignore_patterns("__pycache__", "adapters", "*.pyc"),
        )
    (lib / "appliance/training/adapters").symlink_to(ROOT / "appliance/training/adapters")
    _write(lib / "appliance/__init__.py", f'__version__ = "{version}"\n')
    if fake:
        _write(lib / "appliance/inference/server.py", (HERE / "fake_models.py").read_text("utf-8"))
    if embedders:
        _embedders(folder, lib / "appliance/inference/models.py", embedders)
    for name, (old, new) in edits.items():
        text = (lib / "appliance" / name).read_text("utf-8")
        assert old in text
        _write(lib / "appliance" / name, text.replace(old, new))
    before = sorted(p.name[:4] for p in (ROOT / "appliance/store/migrations/versions").glob("0*"))
    last = before[-1]
    for revision, more in (revisions or {}).items():
        text = MIGRATION.format(revision=revision, before=last, more=more)
        (lib / f"appliance/store/migrations/versions/{revision}_later.py").write_text(text)
        last = revision
    if patch:
        path = lib / "appliance/cli.py"
        _write(
            path, path.read_text("utf-8").replace("if __name__ ==", f"{patch}\n\nif __name__ ==")
        )
    program = folder / "venv" / "bin" / "kura"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{lib}" PYTHONSAFEPATH=1\n'
        f'exec "{sys.executable}" -m appliance.cli "$@"\n'
    )
    program.chmod(0o755)
    facts = {"format": 1, "version": version, "arch": "test", "python": "3.11", "files": {}}
    (folder / "release.json").write_text(json.dumps(facts))
    return folder


def _embedders(folder: Path, code: Path, names: Sequence[str]) -> None:
    rows = []
    for name in names:
        file = folder / "models" / name / "weights"
        file.parent.mkdir(parents=True)
        file.write_text(name)
        rows.append((name, hashlib.sha256(name.encode()).hexdigest()))
    _write(code, code.read_text("utf-8") + EMBEDDERS.format(rows=rows, first=names[0]))


def _link(source: str, target: str) -> None:
    Path(target).symlink_to(source)


def _write(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text, "utf-8")
