"""bytes -> Document, one function a format. A new format is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from appliance.formats import plain, table
from appliance.formats.detect import detect, identify
from appliance.types import Document

PARSERS: dict[str, Callable[[BinaryIO], Document]] = {
    "text/plain": plain.parse,
    "text/csv": table.parse,
}

__all__ = ["PARSERS", "detect", "identify"]
