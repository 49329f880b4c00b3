r"""What a file server calls its SIDs: LsarLookupSids ([MS-LSAT] 3.1.4.11) over the pipe "lsarpc".

Three messages of DCE/RPC ([C706] 12, NDR in little-endian), written out. What comes back is bounded,
and ValueError or struct.error where it is not what it should be.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Collection, Sequence
from typing import cast

from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    ShareAccess,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

AT_ONCE = 50  # SIDs in one call: answers stay in one piece as a rule
PIECES = 64  # of an answer
_LSA = uuid.UUID("12345778-1234-abcd-ef00-0123456789ab").bytes_le + struct.pack("<I", 0)
_NDR = uuid.UUID("8a885d04-1ceb-11c9-9fe8-08002b104860").bytes_le + struct.pack("<I", 2)
_REQUEST, _RESPONSE, _BIND, _BOUND = 0, 2, 11, 12
_OPEN_POLICY, _LOOKUP_SIDS = 44, 15
_LOOKUP_NAMES = 0x800  # all that is asked for
_PIECE_BYTES = 4280
_NAMELESS = (6, 7, 8)  # deleted, invalid, unknown: the SID itself stands for the name
_KNOWN = (0, 0x107, 0xC000_0073)  # all of them, some, none


def names(session: Session, host: str, sids: Collection[str]) -> dict[str, str]:
    r"""DOMAIN\name of each SID that the server knows. Raises what the library raises."""
    tree = TreeConnect(session, rf"\\{host}\IPC$")
    tree.connect()
    pipe = Open(tree, "lsarpc")
    try:
        access = (
            FilePipePrinterAccessMask.FILE_READ_DATA | FilePipePrinterAccessMask.FILE_WRITE_DATA
        )
        pipe.create(
            ImpersonationLevel.Impersonation,
            access,
            0,
            ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE,
            CreateDisposition.FILE_OPEN,
            CreateOptions.FILE_NON_DIRECTORY_FILE,
        )
        _bind(pipe)
        policy = _call(pipe, _OPEN_POLICY, struct.pack("<8I", 0, 24, 0, 0, 0, 0, 0, _LOOKUP_NAMES))
        wanted, found = list(sids), dict[str, str]()
        for at in range(0, len(wanted), AT_ONCE):
            some = wanted[at : at + AT_ONCE]
            answer = _call(pipe, _LOOKUP_SIDS, _asked(policy[:20], some))
            found |= {sid: name for sid, name in zip(some, _names(answer), strict=False) if name}
        return found
    finally:
        pipe.close()
        tree.disconnect()


def _bind(pipe: Open) -> None:
    body = struct.pack("<HHIB3xHBx", _PIECE_BYTES, _PIECE_BYTES, 0, 1, 0, 1) + _LSA + _NDR
    pipe.write(_piece(_BIND, body))
    kind, _, answer = _read(pipe)
    (length,) = struct.unpack_from("<H", answer, 8)
    results = (8 + 2 + length + 3) // 4 * 4
    if kind != _BOUND or struct.unpack_from("<B3xH", answer, results) != (1, 0):
        raise ValueError("the server does not speak LSARPC")


def _call(pipe: Open, operation: int, arguments: bytes) -> bytes:
    head = struct.pack("<IHH", len(arguments), 0, operation)
    pipe.write(_piece(_REQUEST, head + arguments))
    answer = b""
    for _ in range(PIECES):
        kind, last, body = _read(pipe)
        if kind != _RESPONSE:
            raise ValueError("the server refuses the call")
        answer += body[8:]
        if last:
            return answer
    raise ValueError("an answer without an end")


def _piece(kind: int, body: bytes) -> bytes:
    return struct.pack("<BBBBIHHI", 5, 0, kind, 0x03, 0x10, 16 + len(body), 0, 1) + body


def _read(pipe: Open) -> tuple[int, bool, bytes]:
    """Kind of the next piece, whether it is the last, and its body."""
    data = cast(bytes, pipe.read(0, 65536))
    _, _, kind, flags, _, length, _, _ = struct.unpack_from("<BBBBIHHI", data)
    while len(data) < length:
        more = cast(bytes, pipe.read(0, 65536))
        if not more:
            raise ValueError("a piece that is cut off")
        data += more
    return kind, bool(flags & 0x02), data[16:length]


def _asked(policy: bytes, sids: Sequence[str]) -> bytes:
    pointers = struct.pack(f"<{len(sids)}I", *range(2, 2 + len(sids)))
    array = struct.pack("<III", len(sids), 1, len(sids)) + pointers + b"".join(map(_sid, sids))
    return policy + array + struct.pack("<IIHxxI", 0, 0, 1, 0)


def _sid(sid: str) -> bytes:
    _, revision, authority, *parts = sid.split("-")
    head = struct.pack("<IBB", len(parts), int(revision), len(parts))
    return (
        head
        + int(authority).to_bytes(6, "big")
        + b"".join(struct.pack("<I", int(p)) for p in parts)
    )


class _Reader:
    """NDR, from the front; every number lies on a multiple of its size."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, form: str) -> tuple[int, ...]:
        layout = struct.Struct(f"<{form}")
        step = 2 if form[0] == "H" else 4
        self._at = (self._at + step - 1) // step * step
        found = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return found

    def number(self) -> int:
        return self.take("I")[0]

    def text(self) -> str:
        _, _, length = self.take("III")
        data = self._data[self._at : self._at + 2 * length]
        if len(data) < 2 * length:
            raise ValueError("a name that is cut off")
        self._at += len(data)
        return data.decode("utf-16-le", "replace")

    def skip_sid(self) -> None:
        parts = self.number()
        self._at += 8 + 4 * parts


def _names(answer: bytes) -> list[str]:
    """In the order that was asked; empty where there is none."""
    reader = _Reader(answer)
    domains = _domains(reader) if reader.number() else []
    count, pointer = reader.take("II")
    if not pointer:
        return []
    reader.number()
    if count > AT_ONCE:
        raise ValueError("more names than were asked for")
    rows = [reader.take("HxxHHIi") for _ in range(count)]
    texts = [reader.text() if row[3] else "" for row in rows]
    _, status = reader.take("II")
    if status not in _KNOWN:
        raise ValueError(f"the server looks nothing up (0x{status:08X})")
    return [
        "" if kind in _NAMELESS else _full(domains, domain, text)
        for (kind, _, _, _, domain), text in zip(rows, texts, strict=True)
    ]


def _full(domains: Sequence[str], domain: int, name: str) -> str:
    above = domains[domain] if 0 <= domain < len(domains) else ""
    return f"{above}\\{name}" if above else name


def _domains(reader: _Reader) -> list[str]:
    count, pointer, _ = reader.take("III")
    if not pointer:
        return []
    reader.number()
    if count > 1000:
        raise ValueError("more domains than there can be")
    rows = [reader.take("HHII") for _ in range(count)]
    found = []
    for _, _, name, sid in rows:
        found.append(reader.text() if name else "")
        if sid:
            reader.skip_sid()
    return found
