"""Small releases for tests: the real appliance, with another version, one migration more, a fake model.

A release is a folder as an installation makes it, `venv/bin/kura` and `release.json`; the code in it
is links to this repository's files, so a dozen of them cost nothing.
"""

from __future__ import annotations

import json
import shutil
import sys
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


def make(
    folder: Path,
    version: str,
    *,
    revisions: dict[str, str] | None = None,
    patch: str = "",
    fake: bool = True,
) -> Path:
    """`revisions`: number of each migration more -> what it does besides. `patch`: of `appliance.cli`.
    `fake`: no model is loaded."""
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


def _link(source: str, target: str) -> None:
    Path(target).symlink_to(source)


def _write(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text, "utf-8")
