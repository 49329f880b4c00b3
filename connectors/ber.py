"""The part of BER that LDAP uses (RFC 4511 5.1): definite lengths, tags of one byte.

Whatever comes in is bounded by what was read; ValueError where it is not what it should be.
"""

from __future__ import annotations

from typing import NamedTuple

INTEGER, OCTETS, ENUMERATED, SEQUENCE, SET, BOOLEAN = 0x02, 0x04, 0x0A, 0x30, 0x31, 0x01
_LONGEST = 4  # bytes of a length


class Part(NamedTuple):
    """A tag, and where in the data its content lies."""

    tag: int
    start: int
    stop: int


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def integer(value: int, tag: int = INTEGER) -> bytes:
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def boolean(value: bool, tag: int = BOOLEAN) -> bytes:
    return tlv(tag, b"\xff" if value else b"\x00")


def octets(value: bytes | str, tag: int = OCTETS) -> bytes:
    return tlv(tag, value.encode() if isinstance(value, str) else value)


def size(head: bytes) -> int | None:
    """Bytes of the whole element that begins so; None where more of it must be read to tell."""
    if len(head) < 2:
        return None
    if head[0] & 0x1F == 0x1F:
        raise ValueError("a tag of more than one byte")
    first = head[1]
    if first < 0x80:
        return 2 + first
    count = first & 0x7F
    if not 1 <= count <= _LONGEST:
        raise ValueError("a length of an unknown form")
    if len(head) < 2 + count:
        return None
    return 2 + count + int.from_bytes(head[2 : 2 + count], "big")


def part(data: bytes, at: int, stop: int) -> Part:
    """The element at `at`, which must end before `stop`."""
    whole = size(data[at : min(stop, at + 2 + _LONGEST)])
    if whole is None or at + whole > stop:
        raise ValueError("an element is cut off")
    first = data[at + 1]
    return Part(data[at], at + 2 + (first & 0x7F if first & 0x80 else 0), at + whole)


def parts(data: bytes, of: Part) -> list[Part]:
    """What lies in it."""
    found, at = list[Part](), of.start
    while at < of.stop:
        one = part(data, at, of.stop)
        found.append(one)
        at = one.stop
    return found


def number(data: bytes, of: Part) -> int:
    if not 1 <= of.stop - of.start <= 8:
        raise ValueError("a number of an unknown size")
    return int.from_bytes(data[of.start : of.stop], "big", signed=True)
