"""What lies in a part: made smaller, then encrypted (age) to the site's recipient.

A part is named by a keyed digest of what it holds, so that the same is never kept twice and its
name tells a thief nothing. The secret key belongs on paper: this machine has the recipient alone.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from dataclasses import dataclass, field

import pyrage

from appliance.errors import BackupProblem, DigestMismatch, SettingsError

_MARK = b"kura-part-1\n"
_LENGTH = 8
_SAMPLE = 65_536
_WORTH = 0.95  # what does not get smaller than this share is left as it is
PREFIX = "AGE-SECRET-KEY-"  # of secret keys


@dataclass(frozen=True)
class Sealer:
    """Makes parts. Without a `recipient` they can be read by anybody who has them."""

    naming: bytes = field(repr=False)
    recipient: str = ""

    def name(self, plain: bytes) -> str:
        return hmac.digest(self.naming, plain, "sha256").hex()

    def seal(self, plain: bytes, text: int | None = None) -> bytes:
        """`text`: how many bytes at its beginning can be made smaller; None: see for yourself."""
        if text is None:
            sample = plain[:_SAMPLE]
            text = len(plain) if len(zlib.compress(sample, 1)) < _WORTH * len(sample) else 0
        small = zlib.compress(plain[:text], 1) if text else b""
        made = b"".join((_MARK, len(small).to_bytes(_LENGTH, "big"), small, plain[text:]))
        return pyrage.encrypt(made, [_recipient(self.recipient)]) if self.recipient else made


@dataclass(frozen=True)
class Opener:
    """Reads parts. Raises DigestMismatch for what no Sealer made."""

    identity: pyrage.x25519.Identity | None = field(default=None, repr=False)

    def open(self, sealed: bytes) -> bytes:
        if self.identity is not None:
            try:
                sealed = pyrage.decrypt(sealed, [self.identity])
            except pyrage.DecryptError:
                raise DigestMismatch("控えの部品を、この鍵では開けません。") from None
        at = len(_MARK) + _LENGTH
        if not sealed.startswith(_MARK):
            raise DigestMismatch("控えの部品ではないものが入っています。")
        end = at + int.from_bytes(sealed[len(_MARK) : at], "big")
        try:
            return (zlib.decompress(sealed[at:end]) if end > at else b"") + sealed[end:]
        except zlib.error:
            raise DigestMismatch("控えの部品が壊れています。") from None


def sealer(machine_key: bytes, recipient: str, whose: str) -> Sealer:
    """Raises SettingsError. Parts for another recipient, or that another site's key signs, have
    other names: none is used again.
    """
    if recipient:
        _recipient(recipient)
    said = f"kura backup, names of parts, {recipient}, {whose}".encode()
    return Sealer(hmac.digest(machine_key, said, "sha256"), recipient)


def new_key() -> tuple[str, str]:
    """The secret key and its recipient."""
    made = pyrage.x25519.Identity.generate()
    return str(made), str(made.to_public())


def opener(text: str, mark: str) -> Opener:
    """From the text of a key file. Raises BackupProblem unless it is the key of that mark."""
    lines = (line.strip().upper() for line in text.splitlines())
    secret = next((line for line in lines if line.startswith(PREFIX)), "")
    try:
        identity = pyrage.x25519.Identity.from_str(secret)
    except pyrage.IdentityError:
        raise BackupProblem(
            f"鍵を読めません。`kura backup key` が示した {PREFIX}… の行を渡してください。"
        ) from None
    if fingerprint(str(identity.to_public())) != mark:
        raise BackupProblem(
            "この鍵では、この控えを開けません。控えを取ったときの鍵を渡してください。"
        )
    return Opener(identity)


def fingerprint(recipient: str) -> str:
    """Tells keys apart, in the manifest."""
    return hashlib.sha256(recipient.encode()).hexdigest()[:16] if recipient else ""


def _recipient(text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise SettingsError(
            "backup_recipient が age の公開鍵（age1…）ではありません。`kura backup key` で作れます。"
        ) from None
