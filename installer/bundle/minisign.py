"""Signatures as minisign (https://jedisct1.github.io/minisign/) writes them, verified by the standard library alone.

A public key is `Ed`, 8 bytes of key id and 32 bytes of Ed25519 key, in base64 below a comment. A
signature is `ED`, the key id and Ed25519 over BLAKE2b-512 of the message; a second one is over the
first and the trusted comment. `Ed` (over the message itself) is refused: nothing of ours writes it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from installer.bundle import ed25519

UNTRUSTED, TRUSTED = "untrusted comment: ", "trusted comment: "
PURE, PREHASHED = b"Ed", b"ED"
LONGEST = 4096  # characters of a key or a signature


class Refused(Exception):
    """A sentence for the person who is installing, in Japanese and English, with what to do."""


@dataclass(frozen=True)
class PublicKey:
    key_id: bytes
    point: bytes

    @classmethod
    def read(cls, text: str) -> PublicKey:
        """A key file, or its second line alone."""
        lines = text.strip().splitlines() if len(text) <= LONGEST else []
        if len(lines) == 2 and lines[0].startswith(UNTRUSTED):
            del lines[0]
        raw = _decoded(lines[0], 42) if len(lines) == 1 else None
        if raw is None or raw[:2] != PURE or not ed25519.usable(raw[10:]):
            raise Refused(
                "minisign の公開鍵ではありません。受け取った .pub ファイルを指定してください。 / "
                "This is no minisign public key; name the .pub file that you were given."
            )
        return cls(raw[2:10], raw[10:])

    @property
    def name(self) -> str:
        """As minisign prints it."""
        return self.key_id[::-1].hex().upper()

    @property
    def line(self) -> str:
        return base64.b64encode(PURE + self.key_id + self.point).decode()

    @property
    def named(self) -> str:
        """The untrusted comment of what it signed: for who has a fingerprint only."""
        return f"signed by {self.line}"

    @property
    def text(self) -> str:
        return f"{UNTRUSTED}minisign public key {self.name}\n{self.line}\n"

    @property
    def fingerprint(self) -> str:
        """To be read out on the telephone: SHA-256 of the key, in groups of four."""
        digits = hashlib.sha256(PURE + self.key_id + self.point).hexdigest()
        return " ".join(digits[n : n + 4] for n in range(0, 64, 4))

    def has(self, fingerprint: str) -> bool:
        """Spaces, hyphens, colons and capitals do not matter."""
        given = "".join(c for c in fingerprint.lower() if c not in " \t-:")
        return given == self.fingerprint.replace(" ", "")


@dataclass(frozen=True)
class Signature:
    key_id: bytes
    signature: bytes
    trusted_comment: str
    over_comment: bytes
    untrusted_comment: str = ""

    @classmethod
    def read(cls, text: str) -> Signature:
        lines = text.split("\n") if len(text) <= LONGEST else []
        if len(lines) == 5 and not lines[4]:
            del lines[4]
        if (
            len(lines) == 4
            and lines[0].startswith(UNTRUSTED)
            and lines[2].startswith(TRUSTED)
            and (raw := _decoded(lines[1], 74))
            and raw[:2] == PREHASHED
            and (over_comment := _decoded(lines[3], 64))
        ):
            comment, untrusted = lines[2][len(TRUSTED) :], lines[0][len(UNTRUSTED) :]
            return cls(raw[2:10], raw[10:], comment, over_comment, untrusted)
        raise Refused(
            "署名の形が minisign (ED) ではありません。受け取り直してください。 / "
            "The signature is not one of minisign (ED); ask for the file again."
        )

    @property
    def text(self) -> str:
        first = base64.b64encode(PREHASHED + self.key_id + self.signature).decode()
        second = base64.b64encode(self.over_comment).decode()
        return (
            f"{UNTRUSTED}{self.untrusted_comment}\n{first}\n{TRUSTED}{self.trusted_comment}\n"
            f"{second}\n"
        )


def verify(key: PublicKey, message: bytes, signature: str) -> str:
    """The trusted comment. Raises Refused, whatever is wrong."""
    return verify_digest(key, prehashed(message), signature)


def verify_digest(key: PublicKey, digest: bytes, signature: str) -> str:
    found = Signature.read(signature)
    if found.key_id != key.key_id:
        other = found.key_id[::-1].hex().upper()
        raise Refused(
            f"別の鍵 {other} の署名です (必要な鍵: {key.name})。渡した人に確かめてください。 / "
            f"Signed with another key; ask whoever gave it to you."
        )
    commented = found.signature + found.trusted_comment.encode()
    if not (
        ed25519.verify(key.point, digest, found.signature)
        and ed25519.verify(key.point, commented, found.over_comment)
    ):
        raise Refused(
            "署名が内容と合いません。使わずに、コピーし直すか、渡した人に確かめてください。 / "
            "The signature does not fit what was signed: do not use it; copy it again or ask."
        )
    return found.trusted_comment


def prehashed(message: bytes) -> bytes:
    return hashlib.blake2b(message).digest()


def _decoded(line: str, length: int) -> bytes | None:
    try:
        raw = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == length and base64.b64encode(raw).decode() == line else None
