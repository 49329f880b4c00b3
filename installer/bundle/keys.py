"""Whose bundles are taken: the public keys that lie on the host, named by hand, or built into the installer."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from installer.bundle.minisign import PublicKey, Refused

HOST = Path("/etc/kura/release-keys")
BUILT_IN = "release.pub"


def trusted(files: Sequence[Path] = (), folder: Path = HOST) -> list[PublicKey]:
    """Those named; else those known here. Raises Refused."""
    if found := [read(file) for file in files] or known(folder):
        return found
    raise Refused(
        "公開鍵がありません。受け取った .pub ファイルを --key で指定してください。 / "
        "No public key is known here: name the .pub file that you were given by --key."
    )


def known(folder: Path = HOST) -> list[PublicKey]:
    """The host's; else the one this installer came with: a host that knows keys believes those alone."""
    if found := [read(file) for file in sorted(folder.glob("*.pub"))]:
        return found
    own = built_in()
    return [] if own is None else [own]


def built_in() -> PublicKey | None:
    """The key of whoever made this installer; a checkout has none."""
    file = resources.files("installer") / BUILT_IN
    return PublicKey.read(file.read_text("utf-8")) if file.is_file() else None


def read(file: Path) -> PublicKey:
    try:
        return PublicKey.read(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"{file} を公開鍵として読めません / cannot be read as a public key: {error}"
        ) from None
