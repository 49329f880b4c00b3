"""A program started before Kura is stopped, which has loaded what it needs: its start is nobody's wait."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from installer import steps
from installer.steps import Context, Refused

END_S = 5.0


class Waiting:
    def __init__(self, context: Context, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Returns when it is ready. Raises Refused where it ends instead."""
        self._context = context
        self._argv = list(argv)
        self._said = ""
        self._child = subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**env, steps.MARK: str(context.places.state)},
            process_group=0,
            text=True,
            errors="replace",
        )
        assert self._child.stdout
        for line in self._child.stdout:
            if line.strip() == "ready":
                break
            self._said += line
        else:
            raise self._refused(self._child.wait())

    def go(self) -> str:
        """What it says. Raises Refused with the last of it."""
        try:
            said, _ = self._child.communicate("\n")
        except BaseException:
            self.end()
            raise
        self._said += said
        with self._context.places.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(self._argv)}\n{self._said}")
        if code := self._child.returncode:
            raise self._refused(code)
        return self._said

    def _refused(self, code: int) -> Refused:
        return Refused(f"{' '.join(self._argv[:3])} … ({code})\n{self._said[-1500:]}")

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGTERM)
        try:
            self._child.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
