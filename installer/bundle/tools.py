"""Programs that making a bundle needs, run with a sentence when one fails."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from installer.bundle.minisign import Refused

_SHOWN = 8  # lines of what a program said


def run(
    command: Sequence[str | Path],
    what: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """What it wrote. Raises Refused with its last lines when it fails or is not there."""
    return output(command, what, cwd, env).decode("utf-8", "replace")


def output(
    command: Sequence[str | Path],
    what: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> bytes:
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise Refused(
            f"{what}: {command[0]} がありません。導入してから、もう一度実行してください。 / "
            f"{command[0]} is not installed."
        ) from None
    if done.returncode:
        said = (done.stdout + done.stderr).decode("utf-8", "replace").strip().splitlines()
        shown = "\n".join(said[-_SHOWN:])
        raise Refused(f"{what} に失敗しました / failed ({done.returncode}):\n{shown}")
    return done.stdout


def extract(opened: tarfile.TarFile, into: Path) -> None:
    """Of what was compared already; the filter is missing from Debian 12's own Python."""
    if hasattr(tarfile, "data_filter"):
        opened.extractall(into, filter="data")
    else:
        opened.extractall(into)  # noqa: S202
