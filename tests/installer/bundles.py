"""Small bundles, signed by a key of the test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from installer.bundle import archive
from installer.bundle.manifest import Manifest
from installer.bundle.signing import SecretKey

WEAK = (32_768, 1 << 24)  # scrypt's cost where a second counts
KEY = SecretKey(b"kuratest", bytes(range(32)))
OTHER = SecretKey(b"intruder", bytes(range(1, 33)))
CONTENTS: dict[str, Path | bytes] = {
    "kura-installer.pyz": b"PK installer",
    "wheels/kura-0.2.0-py3-none-any.whl": b"w" * 1500,
    "models/kura-270m/kura-270m.gguf": b"GGUF" + bytes(3000),
    "docs/ja/管理者ガイド.md": "手順".encode(),
    "debs/empty.deb": b"",
    "sbom.json": b"{}",
}


def bundle(
    path: Path,
    contents: Mapping[str, Path | bytes] = CONTENTS,
    key: SecretKey = KEY,
    version: str = "0.2.0",
    base: Path | None = None,
) -> Path:
    """Written as `kura-installer bundle` writes one."""
    files = {name: archive.described(content) for name, content in contents.items()}
    manifest = Manifest(version, "amd64", "0" * 40, 1_764_000_000, files)
    if base is not None:
        manifest = manifest.against(archive.read(base, [key.public]))
    archive.write(path, manifest, contents, lambda body: key.sign(body, f"kura {version}"))
    return path
