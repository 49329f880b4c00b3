"""The UI's own tests: what needs no browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UI = Path(__file__).resolve().parents[2] / "ui"


def test_the_ui_types_and_units() -> None:
    npm = shutil.which("npm")
    if npm is None or not (UI / "node_modules").is_dir():
        pytest.fail("the UI's packages are not installed: make ui")
    for script in ("check", "test"):
        done = subprocess.run(
            [npm, "run", "--silent", script], cwd=UI, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
