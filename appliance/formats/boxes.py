"""A font all of whose signs are one box, an em wide and high: for text whose font is not in its file.

PDFium knows where such letters are only if it has a font for them, and leaves out a text of one
letter whose place it cannot tell. This one is the same on every machine, and small.
"""

from __future__ import annotations

import struct

_EM, _ASCENT = 1000, 880
_BLANK, _BOX = 0, 1  # glyphs
_ALIGNED = 4


def font() -> bytes:
    """TrueType, as little of it as FreeType opens."""
    low = _ASCENT - _EM
    corners = [(0, low), (0, _ASCENT), (_EM, _ASCENT), (_EM, low)]
    steps = [(x - a, y - b) for (a, b), (x, y) in zip([(0, 0), *corners], corners, strict=False)]
    box = struct.pack(
        ">5hHH4B8h",
        *(1, 0, low, _EM, _ASCENT),  # one outline, and how far it goes
        *(len(corners) - 1, 0),
        *[1] * len(corners),  # each point is on the outline
        *(x for x, _ in steps),
        *(y for _, y in steps),
    )
    box += bytes(-len(box) % _ALIGNED)
    tables = {
        b"cmap": _every_sign(),
        b"glyf": box,
        b"head": struct.pack(
            ">IIIIHHqqhhhhHHhhh",
            *(0x10000, 0x10000, 0, 0x5F0F3CF5, 0, _EM, 0, 0, 0, low, _EM, _ASCENT, 0, 8, 2, 1, 0),
        ),
        b"hhea": struct.pack(
            ">IhhhHhhh8hH", 0x10000, _ASCENT, low, 0, _EM, 0, 0, _EM, 1, *[0] * 7, 2
        ),
        b"hmtx": struct.pack(">HhHh", _EM, 0, _EM, 0),
        b"loca": struct.pack(">III", 0, 0, len(box)),
        b"maxp": struct.pack(">IH13H", 0x10000, 2, len(corners), 1, *[0] * 2, 2, *[0] * 8),
    }
    return _put(tables)


def _every_sign() -> bytes:
    """Format 13: all of a range are one glyph."""
    groups = struct.pack(">III", 0x20, 0x2FFFF, _BOX)
    table = struct.pack(">HHIII", 13, 0, 16 + len(groups), 0, 1) + groups
    return struct.pack(">HHHHI", 0, 1, 3, 10, 12) + table


def _put(tables: dict[bytes, bytes]) -> bytes:
    count = len(tables)
    most = count.bit_length() - 1
    head = struct.pack(">IHHHH", 0x10000, count, 16 << most, most, 16 * count - (16 << most))
    at = len(head) + 16 * count
    body = b""
    for tag, data in sorted(tables.items()):
        head += tag + struct.pack(">III", 0, at + len(body), len(data))
        body += data + bytes(-len(data) % _ALIGNED)
    return head + body
