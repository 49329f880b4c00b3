"""Long steps that show how far they are. Standard library only: it runs before anything is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

JAPANESE = not os.environ.get("KURA_LANG", os.environ.get("LANG", "ja")).lower().startswith("en")
EVERY_S = 15.0  # where there is no terminal, a line this often


def say(japanese: str, english: str) -> None:
    print(japanese if JAPANESE else english, flush=True)


class Step:
    """One line that says what is done, how long it takes, and what to expect."""

    def __init__(self, japanese: str, english: str, usual_s: float) -> None:
        self._name = japanese if JAPANESE else english
        self._usual_s = usual_s
        self._began = time.monotonic()
        self._last = 0.0
        self._live = sys.stdout.isatty()
        if not self._live:
            print(f"  {self._name} … {self._left(0.0)}", flush=True)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def at(self, share: float | None = None, detail: str = "") -> None:
        """Say how far it is; `share` is done work from 0 to 1, None where only time tells."""
        now = time.monotonic()
        if now - self._last < (0.2 if self._live else EVERY_S):
            return
        self._last = now
        percent = f" {share:4.0%}" if share is not None else ""
        text = f"  {self._name}{percent} {clock(self.elapsed_s)} {self._left(share)} {detail}"
        if self._live:
            print(f"\r\x1b[K{text[:110]}", end="", flush=True)
        else:
            print(text, flush=True)

    def done(self, detail: str = "") -> None:
        end = "\r\x1b[K" if self._live else ""
        print(f"{end}  ✓ {self._name} {clock(self.elapsed_s)} {detail}".rstrip(), flush=True)

    def failed(self) -> None:
        print(f"\n  ✗ {self._name} {clock(self.elapsed_s)}", flush=True)

    def _left(self, share: float | None) -> str:
        left = self._usual_s - self.elapsed_s
        if share and self.elapsed_s > 10:
            left = self.elapsed_s / share - self.elapsed_s
        if left < 5:
            return ""
        return f"(あと約 {clock(left)})" if JAPANESE else f"(about {clock(left)} left)"


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def run(
    step: Step,
    argv: Sequence[str],
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    share: Callable[[str], float | None] = lambda line: None,
) -> None:
    """Run a program under a step; its output goes to `log`. Ends this one if it fails."""
    with log.open("a", encoding="utf-8") as out:
        out.write(f"$ {' '.join(argv)}\n")
        out.flush()
        started = out.tell()
        program = subprocess.Popen(
            argv, stdout=out, stderr=subprocess.STDOUT, cwd=cwd, env=env and {**os.environ, **env}
        )
        while program.poll() is None:
            time.sleep(0.2)
            step.at(share(tail(log, started)))
    if program.returncode:
        step.failed()
        print(tail(log, started)[-3000:])
        say(
            f"失敗しました。全文: {log}。直してからもう一度実行すると、続きから始まります。",
            f"This failed. The whole log: {log}. Mend it and run again: it goes on from here.",
        )
        raise SystemExit(1)


def tail(log: Path, start: int) -> str:
    with log.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(start, stream.tell() - 20_000))
        return stream.read().decode("utf-8", "replace")
