"""Letters that Ghostscript wrote into a font's map without their low byte.

Where a browser's map says that <39>–<3B> are U+4E09 and what follows, and the codes have one byte,
Ghostscript writes U+004F, U+0050, U+0051: the high byte and one, two, three. 三上下 come out as OPQ,
、。 of lines that run down as ÿĀ. Which letter it was is lost, but where its ink lies tells
punctuation; any other is marked as unknown rather than given as a letter that nobody wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from appliance.formats import pdf_growth

UNKNOWN = 0xFFFD
_MAP_BYTES = 1_000_000
_ONE_BYTE = re.compile(rb"begincodespacerange\s{0,9}<00>\s{0,9}<ff>", re.IGNORECASE)
_ENTRY = re.compile(rb"<([0-9a-f]{2})>\s{0,9}<\1>\s{0,9}<([0-9a-f]{4})>", re.IGNORECASE)
_UPRIGHT_FORMS = 0xFE  # high byte of the punctuation of lines that run down
_FIRST_SIGNS = 0x2E  # high byte: scripts of East Asia begin here

Ink = tuple[float, float, float, float]  # left, bottom, right, top, in ems from the origin


def lost(data: bytes) -> dict[int, int]:
    """Of each wrong value the high byte it had."""
    found: dict[int, int] = {}
    if b"Ghostscript" not in data:
        return found
    for _, said, body in pdf_growth.streams(data):
        content = pdf_growth.unpacked(said, body, _MAP_BYTES)
        if b"begincmap" in content and _ONE_BYTE.search(content):
            entries = _ENTRY.findall(content)
            found |= _of_map({int(code, 16): int(value, 16) for code, value in entries})
    return found


def _of_map(values: Mapping[int, int]) -> dict[int, int]:
    blocks = {value >> 8 for value in values.values()}
    found: dict[int, int] = {}
    for code, value in values.items():
        high = value - 1
        begins = values.get(code - 1) != high and values.get(code + 1) == value + 1
        # the letters beside them are of that block; a font of Latin ones has none
        if begins and high >= _FIRST_SIGNS and (high == _UPRIGHT_FORMS or high in blocks):
            while values.get(code) == value:
                found[value] = high
                code, value = code + 1, value + 1
    return found


def sign(value: int, high: int, ink: Ink) -> int:
    """The letter, if its ink tells; UNKNOWN if not."""
    left, bottom, right, top = ink
    wide, tall = right - left, top - bottom
    if high != _UPRIGHT_FORMS or tall > 0.4:
        return UNKNOWN
    if wide > 0.8:  # most brackets are these
        return ord("（" if top < 0.5 else "）")
    if wide < 0.4 and left > 0.5 and bottom > 0.4:
        return ord("、" if value == _UPRIGHT_FORMS + 1 else "。")
    return UNKNOWN
