"""Write the lock files: exact versions and digests, no addresses. Needs a registry.

* product.lock    what runs, less torch
* torch-cpu.lock  torch's CPU build, for machines that have it at hand
* torch-cuda.lock the registry's torch, with the libraries of NVIDIA it needs
* build.lock      what compiles          * dev.lock  what tests, and writes documents
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Collection, Iterable, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "installer" / "locks"
PIP_TOOLS = "pip-tools==7.6.2"
BUILD = ("setuptools", "wheel", "scikit-build-core[pyproject]", "ninja")
TORCH = "torch==2.13.0"
TORCH_DIGEST = {  # CPython 3.11, x86-64
    "cpu": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
    "cuda": "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
}
CUDA = (
    "cuda-toolkit[cublas,cudart,cufft,cufile,cupti,curand,cusolver,cusparse,nvjitlink,nvrtc,nvtx]==13.0.3",
    "cuda-bindings<14,>=13.0.3",
    "nvidia-cudnn-cu13==9.20.0.48",
    "nvidia-cusparselt-cu13==0.8.1",
    "nvidia-nccl-cu13==2.29.7",
    "nvidia-nvshmem-cu13==3.4.5",
    "triton==3.7.1",
)


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    product = list(project["dependencies"])
    development = list(project["optional-dependencies"]["dev"])
    with tempfile.TemporaryDirectory() as folder:
        compiler = _compiler(Path(folder))
        everything = _compile(compiler, Path(folder), [*product, *development, *BUILD])
        cuda = _compile(compiler, Path(folder), CUDA)
    builds = _closure(BUILD, everything)
    runs = _closure(product, everything)  # whole by itself: a site has no other lock
    LOCKS.mkdir(exist_ok=True)
    del everything["torch"]
    _write("product", {n: e for n, e in everything.items() if n in runs})
    _write("build", {n: e for n, e in everything.items() if n in builds})
    _write("dev", {n: e for n, e in everything.items() if n not in runs | builds})
    _write("torch-cpu", {"torch": _torch("cpu")})
    _write("torch-cuda", {"torch": _torch("cuda"), **cuda})


def _compiler(folder: Path) -> Path:
    venv.create(folder / "venv", with_pip=True)
    pip = folder / "venv" / "bin" / "pip"
    subprocess.run([pip, "install", "-q", PIP_TOOLS], check=True)
    return folder / "venv" / "bin" / "pip-compile"


def _compile(compiler: Path, folder: Path, wanted: Sequence[str]) -> dict[str, str]:
    """Name -> its entry in a lock file. Takes minutes: every digest is asked of the registry."""
    (folder / "wanted.in").write_text("\n".join(wanted) + "\n", "utf-8")
    out = folder / "out.lock"
    out.unlink(missing_ok=True)
    subprocess.run(
        [
            *(compiler, "-q", "--generate-hashes", "--allow-unsafe", "--strip-extras"),
            *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"),
            *("--no-header", "--no-annotate", "-o", out, folder / "wanted.in"),
        ],
        check=True,
    )
    return split(out.read_text("utf-8"))


def split(lock: str) -> dict[str, str]:
    """Name -> entry of a lock file."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock.strip())
    return {_canonical(entry.split("==")[0]): entry.strip() for entry in entries}


def _torch(build: str) -> str:
    return f"{TORCH} \\\n    --hash=sha256:{TORCH_DIGEST[build]}"


def _closure(wanted: Iterable[str], known: Collection[str]) -> set[str]:
    """All that these requirements bring with them, read from what is installed here."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in wanted]
    while waiting:
        requirement = waiting.pop()
        name = _canonical(requirement.name)
        if name not in known or (name in found and not requirement.extras):
            continue
        found.add(name)
        try:
            needs = metadata.requires(requirement.name) or []
        except metadata.PackageNotFoundError:
            raise SystemExit(
                f"{name} is not installed here; run `make install-dev` first"
            ) from None
        for need in map(Requirement, needs):
            extras = requirement.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(need)
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.split("[")[0].strip()).lower()


def _write(name: str, entries: dict[str, str]) -> None:
    lines = [entries[key] for key in sorted(entries)]
    (LOCKS / f"{name}.lock").write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{name}.lock: {len(lines)} packages", file=sys.stderr)


if __name__ == "__main__":
    main()
