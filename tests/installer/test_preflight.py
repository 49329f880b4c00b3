"""What a machine lacks is named, with the command that installs it, before anything is done."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ALWAYS = ("sh", "id", "sed", "awk", "df", "basename")
NEEDED = {
    "python3.11": "python3.11-venv",
    "c++": "g++",
    "cmake": "cmake",
    "make": "make",
    "node": "nodejs",
    "npm": "npm",
}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """preflight on a machine that has these programs and no others."""

    def run(*names: str, **scripts: str) -> subprocess.CompletedProcess[str]:
        for name in (*ALWAYS, *names):
            found = shutil.which(name)
            assert found, f"this test needs {name}"
            (tmp_path / name).symlink_to(found)
        for name, text in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        return subprocess.run(
            [tmp_path / "sh", ROOT / "installer" / "preflight.sh"],
            env={"PATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


FINE = {"python3.11": "exit 0", "node": "echo v20.19.0", "npm": "exit 0"}


def test_a_bare_machine_is_told_everything_at_once(run, tmp_path: Path) -> None:
    done = run()
    assert done.returncode == 1
    for command in NEEDED.values():
        assert command in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("lacking", ["c++", "cmake", "make"])
def test_one_missing_program_is_the_one_that_is_named(run, lacking: str) -> None:
    fine = {name: "exit 0" for name in ("c++", "cmake", "make") if name != lacking}
    done = run(**FINE, **fine)
    assert done.returncode == 1
    assert f"install -y {NEEDED[lacking]}\n" in done.stderr
    assert done.stderr.count("✗") == 1


def test_an_old_node_is_as_good_as_none(run) -> None:
    fine = dict.fromkeys(("c++", "cmake", "make"), "exit 0")
    done = run(**{**FINE, "node": "echo v18.2.0"}, **fine)
    assert done.returncode == 1
    assert "Node.js 20" in done.stderr


def test_another_python_is_not_taken(run) -> None:
    fine = dict.fromkeys(("c++", "cmake", "make"), "exit 0")
    done = run(**{**FINE, "python3.11": "exit 1"}, **fine)
    assert done.returncode == 1
    assert "Python 3.11" in done.stderr


def test_a_machine_with_all_of_it_is_told_which_python(run, tmp_path: Path) -> None:
    fine = dict.fromkeys(("c++", "cmake", "make"), "exit 0")
    done = run(**FINE, **fine)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "python3.11"))
