"""Secrets of sources (passwords, tokens) as they lie in the database: sealed.

Sealed is AES-256-GCM (NIST SP 800-38D) with a nonce of its own, under a key that lies in a file and
never in the database: whoever has a copy of the database, or of a backup of it, has no password.
Bound to the name of its setting, a sealed value cannot be moved to another, which may be shown.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import SettingsError, SourceMisconfigured

SECRET = re.compile("password|secret|token|credential|key$", re.IGNORECASE)  # names of settings
KEY_BYTES, NONCE_BYTES = 32, 12
_MARK = "sealed:1:"


@dataclass(frozen=True)
class Keyring:
    """Seals and opens what the settings of a source keep secret."""

    key: bytes = field(repr=False)

    def seal(
        self, settings: Mapping[str, Any], before: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The settings as they are stored. What is sealed stays as it is; so does, of what was
        stored `before`, what means the same.
        """
        kept, meant = before or {}, self.open(before or {})
        return {
            name: kept[name]
            if value and meant.get(name) == value
            else self._sealed(name, value)
            if SECRET.search(name) and isinstance(value, str) and value
            else value
            for name, value in settings.items()
        }

    def open(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as they were given. Raises SourceMisconfigured where the key is another."""
        return {
            name: self._opened(name, value)
            if isinstance(value, str) and value.startswith(_MARK)
            else value
            for name, value in settings.items()
        }

    def derived(self, purpose: str) -> bytes:
        """Another key, for that alone."""
        return hmac.digest(self.key, f"kura, {purpose}".encode(), "sha256")

    def _sealed(self, name: str, value: str) -> str:
        if value.startswith(_MARK):
            return value
        nonce = os.urandom(NONCE_BYTES)
        sealed = AESGCM(self.key).encrypt(nonce, value.encode(), name.encode())
        return _MARK + base64.b64encode(nonce + sealed).decode()

    def _opened(self, name: str, value: str) -> str:
        try:
            data = base64.b64decode(value.removeprefix(_MARK), validate=True)
            nonce, sealed = data[:NONCE_BYTES], data[NONCE_BYTES:]
            return AESGCM(self.key).decrypt(nonce, sealed, name.encode()).decode()
        except (InvalidTag, ValueError):
            raise SourceMisconfigured(
                f"取り込み元の設定「{name}」を、このマシンの鍵では開けません。鍵のファイルを戻すか、入れ直してください。"
            ) from None


def keyring(path: Path) -> Keyring:
    """The key in that file, which is made where there is none. Raises SettingsError."""
    try:
        key = _read(path)
        if key is None:
            _make(path)
            key = _read(path)
    except OSError as error:
        raise SettingsError(f"secrets_key {path} を読めません（{error.strerror}）。") from None
    if key is None or len(key) != KEY_BYTES:
        raise SettingsError(
            f"secrets_key {path} は {KEY_BYTES} バイトの鍵ではありません。控えから戻してください。"
        )
    return Keyring(key)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SettingsError(
                    f"secrets_key {path} をほかの利用者も読めます。`chmod 600 {path}` を実行してください。"
                )
            return file.read(KEY_BYTES + 1)
    except FileNotFoundError:
        return None


def _make(path: Path) -> None:
    """Whole or not at all; of two that make it at once one wins."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            return
    finally:
        fresh.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
