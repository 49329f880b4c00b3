"""The site's own key (Ed25519): it signs reports and backups, so that others can tell whose they are."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.errors import BadRequest, SettingsError

FOLDER = "attest"  # of the data folder


def key(folder: Path) -> Ed25519PrivateKey:
    """The site's key, made on first use, its public half beside. Raises SettingsError, OSError."""
    path = folder / "site.key"
    if not path.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        made = Ed25519PrivateKey.generate()
        text = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write(path, text)  # 0600, whole or not at all
    try:
        mode = path.stat().st_mode & 0o777
        found = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"署名の鍵 {path} を読めません（{type(error).__name__}）。控えから戻してください。"
        ) from None
    if mode & 0o077:
        raise SettingsError(
            f"署名の鍵 {path} をほかの利用者も読めます。`chmod 600 {path}` を実行してください。"
        )
    if not isinstance(found, Ed25519PrivateKey):
        raise SettingsError(f"署名の鍵 {path} は Ed25519 の鍵ではありません。")
    public = found.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    beside = folder / "site.pub"
    if not beside.exists() or beside.read_bytes() != public:
        write(beside, public)
    return found


def own(data: Path) -> Ed25519PublicKey | None:
    """Of the site that this data folder is; None where it has none yet. Raises BadRequest."""
    path = data / FOLDER / "site.pub"
    return public_key(path) if path.is_file() else None


def public_key(path: Path) -> Ed25519PublicKey:
    """Raises BadRequest for a file that is none."""
    try:
        found = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise BadRequest(f"{path} は署名の公開鍵（PEM の Ed25519）として読めません。")
    return found


def raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def fingerprint(key: Ed25519PublicKey) -> str:
    """For people to compare with a note on paper."""
    text = hashlib.sha256(raw(key)).hexdigest()[:40]
    return " ".join(text[n : n + 4] for n in range(0, 40, 4))


def canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def write(path: Path, data: bytes) -> None:
    """Whole or not at all, on the disk when this returns, for this user alone."""
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
