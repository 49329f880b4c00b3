"""The work of the process that reads pages: one page, one fork, behind the parsers' walls.

Started by `reader.py` through `formats/sandbox.py`. The engine is loaded once, before the walls
go up; a fork shares it, so that a hostile page can spoil no other page's text.
"""

from __future__ import annotations

import ctypes
from typing import Any, BinaryIO

from appliance.errors import TooLarge, Unreadable
from appliance.formats.child import Say, Work
from appliance.ocr import layout, picture
from appliance.ocr.engine import Engine
from appliance.text import readings
from appliance.types import Box, ReadLine, ReadPage

_MMAP_THRESHOLD = -3  # glibc's name for it is M_MMAP_THRESHOLD
_BLOCK_BYTES = 4_194_304  # smaller ones are asked for all the time while lines are read


def prepare() -> Work:
    """Load the engine. Raises DigestMismatch, SettingsError."""
    _give_blocks_back()
    engine = Engine()

    def work(job: dict[str, Any], stream: BinaryIO, given: bytes, say: Say) -> dict[str, Any]:
        try:
            return readings.to_json(page(engine, stream, job["page"], job["pixels"]))
        except (Unreadable, TooLarge) as error:
            return {"error": type(error).__name__, "reason": str(error)}

    return work


def _give_blocks_back() -> None:
    """The detector's maps go back to the system when it is done with them.

    Else glibc learns to keep blocks of their size, in a heap with holes: a third of a page's memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # another libc keeps none
        mallopt(_MMAP_THRESHOLD, _BLOCK_BYTES)


def page(engine: Engine, stream: BinaryIO, number: int, most_pixels: int) -> ReadPage:
    """One page, read. Boxes are in points of a PDF's page, or in pixels of an image."""
    shown, scale = picture.page(stream, number, most_pixels)
    found = layout.read(engine, shown)
    lines = tuple(
        ReadLine(
            li.text,
            li.sure,
            Box(*(n / scale for n in (li.left, li.top, li.right, li.bottom))),
            li.row,
        )
        for li in found.lines
    )
    return ReadPage(lines, found.turned * 90, found.vertical)
