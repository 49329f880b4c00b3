"""A page as people see it: pixels of a PDF's page, and PNG of pixels.

Pixels come from a process that read hostile bytes, so the PNG is written outside of it: what a
browser is given is well formed whatever the file did.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pypdfium2

from appliance.errors import PasswordNeeded, Unreadable
from appliance.formats import fonts

WIDTH = 1200  # pixels: A4 at some 145 dpi
HEIGHT = 4800  # at most
MOST_PIXELS = 6_000_000  # both, with something for rounding
_PASSWORD = 4  # FPDF_ERR_PASSWORD


@dataclass(frozen=True, slots=True)
class Pixels:
    width: int
    height: int
    rgb: bytes

    def fits(self) -> bool:
        """True if it is what it says it is."""
        return (
            min(self.width, self.height) > 0
            and self.width * self.height <= MOST_PIXELS
            and len(self.rgb) == self.width * self.height * 3
        )


def of_pdf(stream: BinaryIO, page: int) -> Pixels:
    """Page `page`, from 1, upright, with what is written upon it."""
    fonts.to_see()
    try:
        pdf = pypdfium2.PdfDocument(stream.read())
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD:
            raise PasswordNeeded("パスワードが必要です") from None
        raise Unreadable(f"PDF が壊れています ({error})") from None
    if not 1 <= page <= len(pdf):
        raise Unreadable(f"{page} ページはありません (全 {len(pdf)} ページ)")
    pdf.init_forms()
    sheet = pdf[page - 1]
    width, height = sheet.get_size()
    if not (width > 0 and height > 0):
        raise Unreadable("ページの大きさがありません")
    scale = min(WIDTH / width, HEIGHT / height)
    bitmap = sheet.render(scale=scale, rev_byteorder=True, may_draw_forms=True)
    rows = bitmap.to_numpy()
    if bitmap.n_channels == 1:
        rows = np.repeat(rows.reshape(*rows.shape[:2], 1), 3, axis=2)
    rows = np.ascontiguousarray(rows[:, :, :3])
    return Pixels(rows.shape[1], rows.shape[0], rows.tobytes())


def png(pixels: Pixels) -> bytes:
    rows = np.frombuffer(pixels.rgb, np.uint8).reshape(pixels.height, pixels.width, 3)
    grey = bool((rows[:, :, 0] == rows[:, :, 1]).all() and (rows[:, :, 1] == rows[:, :, 2]).all())
    lines = (rows[:, :, 0] if grey else rows).reshape(pixels.height, -1)
    up = lines - np.vstack([np.zeros_like(lines[:1]), lines[:-1]])  # each less the line above
    filtered = np.hstack([np.full((pixels.height, 1), 2, np.uint8), up])
    head = struct.pack(">IIBBBBB", pixels.width, pixels.height, 8, 0 if grey else 2, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _part(b"IHDR", head),
            _part(b"IDAT", zlib.compress(filtered.tobytes(), 6)),
            _part(b"IEND", b""),
        )
    )


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
