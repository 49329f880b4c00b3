"""Whose bundles are taken: the public keys that lie on the host, named by hand, or built into the installer."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from installer.bundle.minisign import PublicKey, Refused

HOST = Path("/etc/kura/release-keys")
BUILT_IN = "release.pub"


def trusted(files: Sequence[Path] = (), folder: Path = HOST) -> list[PublicKey]:
    """Those named; else those of the host; else the one this installer came with. Raises Refused."""
    if files:
        return [_read(file) for file in files]
    if found := [_read(file) for file in sorted(folder.glob("*.pub"))]:
        return found
    if (own := built_in()) is not None:
        return [own]
    raise Refused(
        "公開鍵がありません。受け取った .pub ファイルを --key で指定してください。 / "
        "No public key is known here: name the .pub file that you were given by --key."
    )


def built_in() -> PublicKey | None:
    """The key of whoever made this installer; a checkout has none."""
    file = resources.files("installer") / BUILT_IN
    return PublicKey.read(file.read_text("utf-8")) if file.is_file() else None


def _read(file: Path) -> PublicKey:
    try:
        return PublicKey.read(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"{file} を公開鍵として読めません / cannot be read as a public key: {error}"
        ) from None
