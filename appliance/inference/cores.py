"""Who may use the cores now. Two busy models on few cores collapse, so one computes at a time.

An answer being written and a question being embedded are urgent; documents being
embedded wait for them, but never longer than `patience_s` a turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Cores:
    def __init__(self, patience_s: float = 1.0) -> None:
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._taken = False
        self._urgent = 0  # urgent work under way, also between its turns

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Work of many turns that goes first, such as one answer."""
        with self._changed:
            self._urgent += 1
        try:
            yield
        finally:
            with self._changed:
                self._urgent -= 1
                self._changed.notify_all()

    @contextmanager
    def turn(self, *, patient: bool = False) -> Iterator[None]:
        """Hold the cores for one bounded piece of work."""
        deadline = time.monotonic() + self._patience_s
        with self._changed:
            while self._taken or (patient and self._urgent and time.monotonic() < deadline):
                self._changed.wait(max(deadline - time.monotonic(), 0.01) if patient else None)
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()
