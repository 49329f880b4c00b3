"""A host in a folder, and a `kura-installer` on it that may be made to die anywhere."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from installer import __main__ as program
from installer import places
from installer.places import Places
from installer.upgrade import files
from installer.upgrade.folders import before_folder  # noqa: F401  for tests

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Host:
    root: Path
    said: str = ""
    booted_s: float = 0.0
    settings: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def places(self) -> Places:
        return Places(self.root)

    @property
    def data(self) -> Path:
        return self.places.data

    @property
    def version(self) -> str:
        return self.places.installed()

    def begin(self, version: str) -> None:
        """As `install` leaves it, so far as these verbs look."""
        for folder in (self.places.releases, self.places.etc, self.places.state):
            folder.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(parents=True, mode=0o700)
        told = {"KURA_DATA": str(self.data)} | self.settings
        self.places.settings.write_text("".join(f'{k}="{v}"\n' for k, v in told.items()))
        places.point(self.places.current, self.places.release(version))

    def kura(
        self, *words: str, more: dict[str, str] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.places.current / "venv/bin/kura"), *words],
            env={
                "PATH": os.environ["PATH"],
                "KURA_DATA": str(self.data),
                **self.settings,
                **(more or {}),
            },
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def installer(
        self,
        *words: str,
        status: int | None = 0,
        dies: tuple[Any, str, int, bool] | None = None,
        by: signal.Signals = signal.SIGKILL,
        patch: Callable[[], None] = lambda: None,
    ) -> int:
        """How it ended, minus a signal's number; `said` is what it told. `dies`: at the nth call of
        that function of that owner, before it (False) or after it (True)."""
        out = self.root / "said"
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            code = 99
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(handle, 1)
                os.dup2(handle, 2)
                sys.stdout, sys.stderr = (
                    os.fdopen(1, "w", closefd=False),
                    os.fdopen(2, "w", closefd=False),
                )
                if dies:
                    die_at(*dies, by)
                patch()
                verb, *rest = words
                program.main([verb, "--root", str(self.root), "--no-systemd", *rest])
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:  # noqa: BLE001
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, ended = os.waitpid(child, 0)
        self.said = out.read_text("utf-8")
        code = os.waitstatus_to_exitcode(ended)
        assert status is None or code == status, f"{code}\n{self.said}"
        return code

    def digest(self) -> str:
        return hashlib.sha256((self.data / "kura.db").read_bytes()).hexdigest()

    def revision(self) -> str:
        with sqlite3.connect(self.data / "kura.db") as db:
            found = db.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        db.close()
        return str(found)

    def halted(self) -> bool:
        return (self.data / files.SWITCHING).exists()

    def serves(self) -> str:
        """The version of a tiny release that runs."""
        try:
            return (self.data / "serves.lock").read_text() if files.held(self.data, "up") else ""
        except FileNotFoundError:
            return ""

    def start(self) -> None:
        with (self.root / "up.log").open("ab") as log:
            self.started.append(
                subprocess.Popen(
                    [str(self.places.current / "venv/bin/kura"), "up"],
                    env={"PATH": os.environ["PATH"], "KURA_DATA": str(self.data), **self.settings},
                    start_new_session=True,
                    stdout=log,
                    stderr=log,
                )
            )

    def stop(self) -> None:
        deadline = time.monotonic() + 60
        while (pid := files.held(self.data, "up")) > 0:
            late = time.monotonic() > deadline
            os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            time.sleep(0.05)
            assert not late, "kura up does not stop"
        for one in self.started:
            one.terminate()  # one that had not come so far as to hold its lock
            one.wait(60)


def die_at(owner: Any, name: str, nth: int, after: bool, by: signal.Signals) -> None:
    real = getattr(owner, name)
    calls = count(1)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        last = next(calls) == nth
        if last and not after:
            os.kill(os.getpid(), by)
        out = real(*args, **kwargs)
        if last and after:
            os.kill(os.getpid(), by)
        return out

    setattr(owner, name, deadly)


@contextmanager
def host(**settings: str) -> Iterator[Host]:
    """In a short path: sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="kh-"))
    made = Host(folder, settings=settings)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)
