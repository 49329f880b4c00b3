"""The most memory a child of the sandbox took, seen from outside while it ran."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

_LOOK_S = 0.005


class Footprint:
    """`with Footprint(sandbox.pid) as foot`: `foot.peak_bytes` afterwards. A child that lived for
    less than some milliseconds was not seen."""

    def __init__(self, zygote: int | None) -> None:
        self._children = Path(f"/proc/{zygote}/task/{zygote}/children")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Footprint:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            try:
                for child in self._children.read_text().split():
                    for line in Path(f"/proc/{child}/status").read_text().splitlines():
                        if line.startswith("VmHWM:"):
                            self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)
            except OSError:  # it is over
                continue
