"""Debian's packages that the product needs, and all that those need: for a machine that has only what is essential."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from installer.bundle import tools
from installer.bundle.minisign import Refused

NEEDED = (
    "ca-certificates",  # the company's own authority is added to them
    "fonts-ipaexfont",  # pages of files that bring no Japanese font
    "git",  # sources that are repositories
    "libgomp1",
    "libstdc++6",
    "nftables",
    "openssh-client",
    "python3.11",
    "python3.11-venv",
    "tzdata",
)
_EPOCH = re.compile(r"_\d+%3a")
_FIELDS = ("Package", "Version", "Architecture", "Multi-Arch", "Priority", "Section", "Depends", "Source",
           "Pre-Depends", "Provides", "Conflicts", "Breaks", "Replaces", "Essential")  # fmt: skip


def fetched(folder: Path, wanted: tuple[str, ...] = NEEDED) -> dict[str, Path]:
    """Name in the bundle -> file. apt checks its own signatures; it needs its lists (apt-get update)."""
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "nothing-installed").touch()
        (Path(scratch) / "partial").mkdir()
        options = (
            f"Dir::State::status={scratch}/nothing-installed",
            f"Dir::Cache::pkgcache={scratch}/packages.bin",
            f"Dir::Cache::srcpkgcache={scratch}/sources.bin",
            "APT::Install-Recommends=false",
            "Debug::NoLocking=true",
        )

        def apt(archives: Path | str, *words: str) -> str:
            options_ = (*options, f"Dir::Cache::archives={archives}")
            asked = [word for option in options_ for word in ("-o", option)]
            return tools.run(
                ["apt-get", "-y", "-qq", *asked, "install", *words, *wanted],
                "Debian パッケージの取得 (apt-get)",
            )

        listed = apt(scratch, "--print-uris")  # where nothing lies, so all are listed
        apt(folder, "--download-only")
    names = [line.split()[1] for line in listed.splitlines() if line.startswith("'")]
    found = {_EPOCH.sub("_", name): folder / name for name in sorted(names)}
    if missing := [p.name for p in found.values() if not p.is_file()]:
        raise Refused(f"{missing[0]} を取得できませんでした。 / could not be fetched.")
    return found


def index(files: Mapping[str, Path]) -> str:
    """`Packages`: with it the folder is a repository, and apt takes of it what a machine lacks."""
    return "\n".join(_stanza(name, files[name]) for name in sorted(files))


def about(file: Path) -> dict[str, str]:
    said = tools.run(["dpkg-deb", "-f", file, *_FIELDS], "dpkg-deb")
    pairs = (line.partition(": ") for line in said.splitlines() if not line.startswith(" "))
    return {name: value for name, _, value in pairs}


def _stanza(name: str, file: Path) -> str:
    lines = [f"{key}: {value}" for key, value in about(file).items()]
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    lines += [f"Filename: ./{name}", f"Size: {file.stat().st_size}", f"SHA256: {digest}"]
    return "\n".join(lines) + "\n"
