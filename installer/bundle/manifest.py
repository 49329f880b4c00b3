"""What a bundle says of itself: MANIFEST.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from installer.bundle.minisign import PublicKey, Refused

FORMAT = 1
MANIFEST, SIGNATURE, INSTALLER = "MANIFEST.json", "MANIFEST.json.minisig", "kura-installer.pyz"
FOLDERS = ("wheels", "locks", "models", "debs", "image", "docs")
FILES = (INSTALLER, "models.lock", "sbom.json", "vulnerabilities.json")
MANIFEST_BYTES = 64 << 20
COUNT = 100_000

_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:(a|b|rc)(\d{1,9}))?")
_ARCH = re.compile(r"[a-z0-9_]{1,20}")
_DIGEST = re.compile(r"[0-9a-f]{64}")

Files = Mapping[str, "File"]


@dataclass(frozen=True)
class File:
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What was signed. `files` are in the archive; `kept` (of a delta) must come from its base."""

    version: str
    arch: str
    built_from: str
    date: int  # seconds, of every member
    files: dict[str, File]
    base: str | None = None
    kept: dict[str, File] = field(default_factory=dict)
    python: str = "3.11"
    key: PublicKey | None = None  # that verified it
    raw: bytes = b""  # the very bytes: what `release.json` should be

    @property
    def all(self) -> dict[str, File]:
        """Every file of the release, wherever it comes from."""
        return {**self.kept, **self.files}

    def against(self, base: Manifest) -> Manifest:
        """The same release as a delta: only what the base lacks, or has another."""
        if base.base is not None:
            raise Refused(
                "差分の束を元にした差分は作れません。全部入りの束を指定してください。 / "
                "A delta cannot be the base of another: name a whole bundle."
            )
        kept = {p: f for p, f in self.files.items() if base.files.get(p) == f}
        kept.pop(INSTALLER, None)  # it is needed before the base is
        files = {p: f for p, f in self.files.items() if p not in kept}
        return replace(self, files=files, base=base.version, kept=kept)

    def refuse_older_than(self, installed: str) -> None:
        if _age(self.version) < _age(installed):
            raise Refused(
                f"導入済みの {installed} より古い {self.version} です。"
                f"前の版へ戻すときは kura-installer rollback を使ってください。 / "
                f"Older than what is installed; to go back, use kura-installer rollback."
            )

    def as_json(self) -> bytes:
        def listed(files: Files) -> dict[str, dict[str, object]]:
            return {p: {"sha256": files[p].sha256, "size": files[p].size} for p in order(files)}

        body: dict[str, object] = {
            "product": "kura",
            "format": FORMAT,
            "version": self.version,
            "arch": self.arch,
            "python": self.python,
            "built_from": self.built_from,
            "date": self.date,
            "base": self.base,
            "files": listed(self.files),
        }
        if self.base is not None:
            body["kept"] = listed(self.kept)
        return (json.dumps(body, ensure_ascii=False, indent=1) + "\n").encode()


def order(paths: Mapping[str, object]) -> list[str]:
    """The installer first, so that it can be taken out without reading gigabytes."""
    return sorted(paths, key=lambda path: (path != INSTALLER, path))


def parsed(body: bytes, key: PublicKey | None = None) -> Manifest:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands there twice")
        return found

    try:
        said = json.loads(body.decode("utf-8"), object_pairs_hook=once)
        if said["product"] != "kura" or said["format"] != FORMAT:
            raise ValueError("another format")
        base = said["base"]
        manifest = Manifest(
            version=_matching(_VERSION, said["version"]),
            arch=_matching(_ARCH, said["arch"]),
            python=str(said["python"]),
            built_from=str(said["built_from"]),
            date=_whole(said["date"], 2**33 - 1),
            files=_listed(said["files"]),
            base=None if base is None else _matching(_VERSION, base),
            kept=_listed(said["kept"]) if base is not None else {},
            key=key,
            raw=body,
        )
        _apart(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(
            f"束の目録 (MANIFEST.json) がこの版では読めません ({error})。新しい kura-installer を使ってください。 / "
            "The manifest cannot be read by this version; use a newer kura-installer."
        ) from None
    return manifest


def _listed(said: Any) -> dict[str, File]:
    if len(said) > COUNT:
        raise ValueError("too many files")
    return {
        _place(path): File(_matching(_DIGEST, one["sha256"]), _whole(one["size"], 1 << 50))
        for path, one in said.items()
    }


def _place(path: str) -> str:
    parts = path.split("/")
    inside = path in FILES or (len(parts) > 1 and parts[0] in FOLDERS)
    plain = path.isprintable() and "\\" not in path and len(path.encode()) <= 1024
    if not inside or not plain or any(p in {"", ".", ".."} or len(p.encode()) > 255 for p in parts):
        raise ValueError(f"{path!r} may not be in a bundle")
    return path


def _apart(manifest: Manifest) -> None:
    """No file is another one's folder, and none is both here and in the base."""
    if both := manifest.files.keys() & manifest.kept.keys():
        raise ValueError(f"{min(both)} twice")
    paths = manifest.all.keys()
    for path in paths:
        parts = path.split("/")
        if any("/".join(parts[:n]) in paths for n in range(1, len(parts))):
            raise ValueError(f"{path} lies in a file")


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not as it should be")
    return text


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r} is no number up to {most}")
    return value


def _age(version: str) -> tuple[int, int, int, str, int]:
    found = _VERSION.fullmatch(version)
    if not found:
        raise Refused(f"版の番号ではありません / is no version: {version}")
    major, minor, patch, stage, count = found.groups()
    return int(major), int(minor), int(patch), stage or "z", int(count or 0)
