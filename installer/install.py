"""From a checkout to a machine that can start: environment, models, UI.

Runs on the system's Python with the standard library only, after
`preflight.sh`. Each step is skipped when what it made is there and what it was
made from has not changed, so a second run takes a moment and needs no network.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from installer import llama
from installer.progress import Step, run, say

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = ROOT / ".install.log"
LOCKS = ROOT / "installer" / "locks"
# llama.cpp for this machine's processor, but without its matrix tiles (AMX): GCC before 14 takes only the
# first 8 bytes of a tile configuration for read, and drops what fills in the others. The program
# then dies now and then of whatever lay on the stack ("general protection fault" at ldtilecfg).
_TILES = "-U__AMX_INT8__"
COMPILED = f"-DGGML_NATIVE=ON -DCMAKE_C_FLAGS={_TILES} -DCMAKE_CXX_FLAGS={_TILES} {llama.ALONE}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Install Kura into this checkout.")
    parser.add_argument("--dev", action="store_true", help="also what the tests need")
    parser.add_argument("--models-root", type=Path, help="folder for the unpacked models")
    options = parser.parse_args()
    environment()
    packages("build", 20)
    torch()
    packages("product", 240)
    if options.dev:
        packages("dev", 40)
    product()
    models(options.models_root)
    interface()


def environment() -> None:
    """Made anew only where there is none, or one of another Python: never under running programs."""
    wanted = _digest([sys.version, str(VENV)])
    if _stamped(VENV / ".made", wanted) and PYTHON.exists():
        return
    if Path(sys.prefix) == VENV:
        raise SystemExit("run this with the system's Python, not with the one it is to replace")
    step = Step("Python 環境を作成", "Python environment", 15)
    run(step, [sys.executable, "-m", "venv", "--clear", str(VENV)], LOG)
    _stamp(VENV / ".made", wanted)
    step.done()


def packages(name: str, usual_s: float) -> None:
    """Install a lock file: exactly these files, by their digests, and nothing they ask for."""
    lock = LOCKS / f"{name}.lock"
    wanted = _lock_digest(name)
    stamp = VENV / f".{name}"
    if _stamped(stamp, wanted):
        return
    count = sum(line[0].isalnum() for line in lock.read_text("utf-8").splitlines() if line)
    step = Step(f"パッケージ {name} ({count})", f"packages: {name} ({count})", usual_s)

    def share(text: str) -> float | None:
        collected = text.count("Collecting ")
        built = 0.5 if "Building wheel" in text else 0.9 if "Installing collected" in text else 0
        return max(min(collected / max(count, 1), 1.0) * 0.4, built) or None

    run(
        step,
        [
            *(str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"),
            *("--no-deps", "--no-build-isolation", "--require-hashes", "-r", str(lock)),
        ],
        LOG,
        # One program is compiled: llama.cpp, for this machine's processor, with every core.
        env={
            "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
            "CMAKE_ARGS": os.environ.get("CMAKE_ARGS", COMPILED),
            "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        },
        share=share,
    )
    _stamp(stamp, wanted)
    step.done()


def torch() -> None:
    """The CPU build where this machine has one at hand, else the registry's with NVIDIA's libraries.

    Both are torch 2.13.0. pip prefers a file whose digest the index states over
    one that lies on a disk, so the choice is made here, by what pip would take freely.
    """
    for name in ("torch-cpu", "torch-cuda"):
        if _stamped(VENV / f".{name}", _lock_digest(name)):
            return
    asked = [str(PYTHON), "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet"]
    found = subprocess.run(
        [*asked, "--disable-pip-version-check", "--report", "-", "torch==2.13.0"],
        capture_output=True,
        text=True,
        check=False,
    )
    packages("torch-cpu" if "2.13.0+cpu" in found.stdout else "torch-cuda", 120)


def product() -> None:
    """Kura itself, by reference to this checkout."""
    wanted = _digest([(ROOT / "pyproject.toml").read_text("utf-8")])
    if _stamped(VENV / ".product-linked", wanted) and (VENV / "bin" / "kura").exists():
        return
    step = Step("Kura を登録", "Kura itself", 10)
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
    run(step, [*pip, "--no-build-isolation", "--no-index", "-e", str(ROOT)], LOG)
    _stamp(VENV / ".product-linked", wanted)
    step.done()


def models(root: Path | None) -> None:
    step = Step("モデルを展開して SHA-256 を確認", "models: unpack and verify SHA-256", 15)
    where = ["--root", str(root)] if root else []
    run(step, [str(PYTHON), "-m", "installer.models", *where], LOG, cwd=ROOT)
    step.done()


def interface() -> None:
    folder = ROOT / "ui"
    sources = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {"node_modules", "dist"} & set(path.relative_to(folder).parts)
    ]
    wanted = _digest([p.relative_to(folder).as_posix() for p in sources], sources)
    if _stamped(folder / "dist" / ".made", wanted) and (folder / "dist" / "index.html").exists():
        return
    step = Step("画面 (UI) を構築", "user interface", 60)
    run(step, ["npm", "ci", "--no-audit", "--no-fund"], LOG, cwd=folder)
    run(step, ["npm", "run", "build"], LOG, cwd=folder)
    _stamp(folder / "dist" / ".made", wanted)
    step.done()


def _lock_digest(name: str) -> str:
    return _digest([(LOCKS / f"{name}.lock").read_text("utf-8")])


def _digest(texts: Iterable[str], files: Iterable[Path] = ()) -> str:
    total = hashlib.sha256()
    for text in texts:
        total.update(text.encode() + b"\0")
    for path in files:
        total.update(path.read_bytes() + b"\0")
    return total.hexdigest()


def _stamped(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text("utf-8") == wanted


def _stamp(stamp: Path, value: str) -> None:
    stamp.write_text(value, "utf-8")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say(
            "\n中断しました。もう一度実行すると続きから始まります。",
            "\nStopped. Run again to go on.",
        )
        raise SystemExit(130) from None
