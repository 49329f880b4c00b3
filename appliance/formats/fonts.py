"""Fonts for pages whose file brings none: Japanese ones of this machine to see, boxes to read.

Those of the machine are looked up and mapped when this is imported: once the walls stand, no file
can be opened.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pypdfium2.raw as pdfium

from appliance.formats import boxes

_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts")
_MINCHO = (
    "NotoSerifCJK-Regular.ttc",
    "NotoSerifCJKjp-Regular.otf",
    "ipaexm.ttf",
    "ipam.ttf",
    "TakaoMincho.ttf",
    "TakaoPMincho.ttf",
)
_GOTHIC = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKjp-Regular.otf",
    "ipaexg.ttf",
    "ipag.ttf",
    "TakaoGothic.ttf",
    "TakaoPGothic.ttf",
    "VL-Gothic-Regular.ttf",
)
_WHOLE, _COLLECTION = 0, 0x74746366  # what is asked for: the font, or the "ttcf" it is in
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class _Font:
    name: bytes
    data: mmap.mmap | bytes
    first: int = 0  # where its first face begins; 0 where it is not a collection

    @property
    def size(self) -> int:
        return len(self.data) - self.first


def to_see() -> None:
    """Give them to PDFium, for this process. Without any, such letters stay away."""
    _install(_MACHINE)


def to_read() -> None:
    """Letters take the room they have in print, whatever the machine has: where they stand is all
    that a reader needs."""
    _install(_BOXES)


def _install(fonts: _Pair) -> None:
    global _fonts
    _fonts = fonts
    pdfium.FPDF_SetSystemFontInfo(ctypes.byref(_info))


def _found(names: Sequence[str]) -> _Font | None:
    there: dict[str, Path] = {}
    for folder in _FOLDERS:
        for place, _, files in os.walk(folder):
            there |= {name: Path(place) / name for name in files if name in names}
    for name in names:
        try:
            with there[name].open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (KeyError, OSError, ValueError):
            continue
        first = struct.unpack(">I", data[12:16])[0] if data[:4] == b"ttcf" else 0
        return _Font(Path(name).stem.encode(), data, first)
    return None


def _map(
    this: Any, weight: int, italic: int, charset: int, pitch: int, face: Any, exact: Any
) -> int:
    """The number of the font to take, from 1; 0: PDFium's own letters will do."""
    name = (ctypes.cast(face, ctypes.c_char_p).value or b"").lower()
    if charset in (pdfium.FXFONT_ANSI_CHARSET, pdfium.FXFONT_SYMBOL_CHARSET):
        return 0
    roman = bool(pitch & pdfium.FXFONT_FF_ROMAN) or b"min" in name or b"serif" in name
    order = (0, 1) if roman else (1, 0)
    return next((n + 1 for n in order if _fonts[n]), 0)


def _data(this: Any, font: int, table: int, buffer: Any, size: int) -> int:
    one = _fonts[(font or 1) - 1]
    if one is None or table not in (_WHOLE, _COLLECTION) or (table and not one.first):
        return 0
    data = memoryview(one.data)[0 if table else one.first :]
    if buffer and size >= len(data):
        ctypes.memmove(buffer, bytes(data), len(data))
    return len(data)


def _name(this: Any, font: int, buffer: Any, size: int) -> int:
    one = _fonts[(font or 1) - 1]
    name = (one.name if one else b"")[:_LONGEST_NAME] + b"\0"
    if buffer and size >= len(name):
        ctypes.memmove(buffer, name, len(name))
    return len(name)


_Pair = tuple[_Font | None, _Font | None]  # Mincho and Gothic
_MACHINE: _Pair = (_found(_MINCHO), _found(_GOTHIC))
_BOXES: _Pair = (_Font(b"Boxes", boxes.font()),) * 2
_fonts = _BOXES
_kinds = dict(pdfium.FPDF_SYSFONTINFO._fields_)
_info = pdfium.FPDF_SYSFONTINFO(
    version=1,
    Release=_kinds["Release"](lambda this: None),
    EnumFonts=_kinds["EnumFonts"](lambda this, mapper: None),
    MapFont=_kinds["MapFont"](_map),
    GetFont=_kinds["GetFont"](lambda this, face: 0),
    GetFontData=_kinds["GetFontData"](_data),
    GetFaceName=_kinds["GetFaceName"](_name),
    GetFontCharset=_kinds["GetFontCharset"](lambda this, font: pdfium.FXFONT_SHIFTJIS_CHARSET),
    DeleteFont=_kinds["DeleteFont"](lambda this, font: None),
)
