"""Security descriptors as a server sends them, written by hand ([MS-DTYP] 2.4)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

ALLOW, DENY = 0x00, 0x01
READ = 0x0012_0089  # FILE_GENERIC_READ
WRITE = 0x0012_0116
EXECUTE = 0x0012_00A0
FULL = 0x001F_01FF
INHERITED, INHERIT_ONLY, TO_FILES, TO_FOLDERS = 0x10, 0x08, 0x01, 0x02


@dataclass(frozen=True, slots=True)
class Ace:
    kind: int
    sid: str
    mask: int = READ
    flags: int = 0
    between: bytes = b""  # what an object entry has before its SID
    after: bytes = b""  # a condition


def allow(sid: str, mask: int = READ, flags: int = 0) -> Ace:
    return Ace(ALLOW, sid, mask, flags)


def deny(sid: str, mask: int = READ, flags: int = 0) -> Ace:
    return Ace(DENY, sid, mask, flags)


def descriptor(owner: str, aces: Sequence[Ace] | None, *, present: bool = True) -> bytes:
    """`aces` None: a null DACL; not `present`: none at all."""
    head, at = 20, 20
    owner_bytes = sid_bytes(owner) if owner else b""
    owner_at = at if owner else 0
    at += len(owner_bytes)
    dacl = b"" if aces is None else acl(aces)
    control = 0x8000 | (0x0004 if present else 0)
    packed = struct.pack("<BBHIIII", 1, 0, control, owner_at, 0, 0, at if dacl else 0)
    assert len(packed) == head
    return packed + owner_bytes + dacl


def acl(aces: Sequence[Ace]) -> bytes:
    body = b"".join(map(ace_bytes, aces))
    return struct.pack("<BBHHH", 4, 0, 8 + len(body), len(aces), 0) + body


def ace_bytes(ace: Ace) -> bytes:
    body = struct.pack("<I", ace.mask) + ace.between + sid_bytes(ace.sid) + ace.after
    return struct.pack("<BBH", ace.kind, ace.flags, 4 + len(body)) + body


def sid_bytes(sid: str) -> bytes:
    revision, authority, *parts = map(int, sid.split("-")[1:])
    return (
        struct.pack("<BB", revision, len(parts))
        + authority.to_bytes(6, "big")
        + struct.pack(f"<{len(parts)}I", *parts)
    )
