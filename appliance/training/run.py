"""What every training run needs: its learning rate, its curve, and what it ran on."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pace:
    """A short rise to `rate`, a while at it, then half a cosine down to `last` of it.

    While it is flat a run may be made longer or shorter (Hägele et al. 2024, arXiv 2405.18392).
    """

    rate: float
    warmup: float = 0.04  # part of the run
    last: float = 0.05  # part of `rate`
    flat: float = 0.0  # part of the run

    def at(self, progress: float) -> float:
        """The learning rate after this part of the run."""
        if progress < self.warmup:
            return self.rate * max(progress, 0.002) / self.warmup
        high = self.warmup + self.flat
        fallen = min(1.0, max(0.0, progress - high) / (1 - high))
        return self.rate * (self.last + (1 - self.last) * (1 + math.cos(math.pi * fallen)) / 2)


def curve(log: Sequence[dict[str, float]], width: int = 10) -> list[dict[str, float]]:
    """The mean loss of every `width` steps, with the rate reached."""
    return [
        {
            "step": part[-1]["step"],
            "loss": round(sum(line["loss"] for line in part) / len(part), 4),
            "rate": part[-1]["rate"],
        }
        for part in (log[i : i + width] for i in range(0, len(log), width))
    ]


def hardware(threads: int, device: str = "cpu") -> dict[str, str | int]:
    import torch

    about = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", about.read_text()) if about.exists() else []
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count() or 0,
        "threads": threads,
        "instructions": str(torch.backends.cpu.get_cpu_capability()),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
