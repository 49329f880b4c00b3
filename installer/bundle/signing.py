"""Keys and signatures of minisign, made where the product's libraries are.

A secret key lies in minisign's own form: encrypted under a passphrase by scrypt at the strength
libsodium calls sensitive (1 GiB of memory, seconds of time), so the tool `minisign` opens it too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from installer.bundle.minisign import (
    PURE,
    UNTRUSTED,
    PublicKey,
    Refused,
    Signature,
    prehashed,
)

SCRYPT, BLAKE = b"Sc", b"B2"
SENSITIVE = (33_554_432, 1_073_741_824)  # operations, bytes: libsodium's names for scrypt's cost
SHORTEST = 12  # characters of a passphrase
_LENGTH = 2 + 2 + 2 + 32 + 8 + 8 + 104


@dataclass(frozen=True)
class SecretKey:
    key_id: bytes
    seed: bytes = field(repr=False)

    @classmethod
    def made(cls) -> SecretKey:
        return cls(secrets.token_bytes(8), secrets.token_bytes(32))

    @classmethod
    def read(cls, text: str, passphrase: str) -> SecretKey:
        """Opens the form of minisign. Raises Refused; a wrong passphrase takes as long as a right one."""
        lines = text.strip().splitlines()
        try:
            raw = base64.b64decode(lines[1] if len(lines) == 2 else "", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != _LENGTH or raw[:6] != PURE + SCRYPT + BLAKE:
            raise Refused(
                "パスフレーズで守られた minisign の秘密鍵ではありません。"
                "kura-installer key create で作ったファイルを指定してください。 / "
                "This is no minisign secret key under a passphrase."
            )
        cost = int.from_bytes(raw[38:46], "little"), int.from_bytes(raw[46:54], "little")
        plain = _mixed(raw[54:], passphrase, raw[6:38], cost)
        key_id, seed, public, sum_ = plain[:8], plain[8:40], plain[40:72], plain[72:]
        found = cls(key_id, seed)
        if not hmac.compare_digest(sum_, _sum(plain[:72])) or found.public.point != public:
            raise Refused("パスフレーズが違います。 / The passphrase is wrong.")
        return found

    def text(self, passphrase: str, cost: tuple[int, int] = SENSITIVE) -> str:
        salt = os.urandom(32)
        plain = self.key_id + self.seed + self.public.point
        mixed = _mixed(plain + _sum(plain), passphrase, salt, cost)
        numbers = b"".join(n.to_bytes(8, "little") for n in cost)
        raw = PURE + SCRYPT + BLAKE + salt + numbers + mixed
        return f"{UNTRUSTED}minisign encrypted secret key\n{base64.b64encode(raw).decode()}\n"

    @property
    def public(self) -> PublicKey:
        point = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return PublicKey(self.key_id, point)

    def sign(self, message: bytes, comment: str) -> str:
        """The signature file. The same message and comment give the same signature."""
        return self.sign_digest(prehashed(message), comment)

    def sign_digest(self, digest: bytes, comment: str) -> str:
        if not comment.isprintable():
            raise ValueError("a trusted comment is one line")
        signature = self._key.sign(digest)
        over_comment = self._key.sign(signature + comment.encode())
        return Signature(self.key_id, signature, comment, over_comment, self.public.named).text

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def create(
    secret: Path, public: Path, passphrase: str, cost: tuple[int, int] = SENSITIVE
) -> PublicKey:
    """A new pair of files; neither is ever overwritten. Raises Refused, OSError."""
    if len(passphrase) < SHORTEST:
        raise Refused(
            f"パスフレーズは {SHORTEST} 文字以上にしてください。 / "
            f"The passphrase must have {SHORTEST} characters or more."
        )
    key = SecretKey.made()
    for path in (secret, public):
        if path.exists() or path.is_symlink():
            raise Refused(f"{path} は既にあります。 / is there already.")
    _written(secret, key.text(passphrase, cost), 0o600)
    try:
        _written(public, key.public.text, 0o644)
    except OSError:
        secret.unlink()
        raise
    return key.public


def _written(path: Path, text: str, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _sum(plain: bytes) -> bytes:
    return hashlib.blake2b(PURE + plain, digest_size=32).digest()


def _mixed(data: bytes, passphrase: str, salt: bytes, cost: tuple[int, int]) -> bytes:
    operations, memory = cost
    if operations > SENSITIVE[0] or memory > SENSITIVE[1]:
        raise Refused("秘密鍵の計算量が大きすぎます。 / The secret key asks for too much work.")
    n, p = _scrypt(operations, memory)
    stream = hashlib.scrypt(
        passphrase.encode(), salt=salt, n=n, r=8, p=p, dklen=len(data), maxmem=2**31 - 1
    )
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


def _scrypt(operations: int, memory: int) -> tuple[int, int]:
    """N and p of libsodium's crypto_pwhash_scryptsalsa208sha256, whose r is 8."""
    operations = max(operations, 32_768)
    most = operations // 32 if operations < memory // 32 else memory // 1024
    n = 2
    while n <= most // 2:
        n *= 2
    if operations < memory // 32:
        return n, 1
    return n, max(min(operations // 4 // n, 0x3FFFFFFF) // 8, 1)
