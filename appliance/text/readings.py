"""What was read of pages, as JSON: it is kept, and handed into the sandbox and out of it.

What comes back was made of hostile bytes, so it is checked field by field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from appliance.types import Box, Document, Page, Readings, ReadLine, ReadPage

_LINES, _LINE_CHARS = 5_000, 5_000
_UNSAFE = re.compile("[\0-\x1f\x7f\ud800-\udfff]")  # a line is one line


def label(number: int, page: ReadPage) -> str:
    """How a place is named whose text was read from a picture: people should know."""
    return f"p. {number}（OCR、要確認）" if page.doubtful else f"p. {number}（OCR）"


def is_picture(page: Page) -> bool:
    """True if its text must be read from its picture: its own is missing, garbled or a mere stamp."""
    return page.state in ("scanned", "garbled")


def unread(document: Document) -> tuple[int, ...]:
    """The pages that are pictures and that nobody has read yet."""
    return tuple(p.number for p in document.pages if is_picture(p) and p.read != "ocr")


def notes(read: Readings) -> list[str]:
    """What an administrator should know of what was read."""
    doubtful = [n for n, page in read.items() if page.doubtful]
    return [f"p. {ranges(doubtful)} に読み取り (OCR) の怪しい箇所があります"] if doubtful else []


def ranges(numbers: Iterable[int]) -> str:
    """「1–3、7」"""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    shown = "、".join(str(a) if a == b else f"{a}–{b}" for a, b in runs[:50])
    return f"{shown} ほか" if len(runs) > 50 else shown


def to_json(page: ReadPage) -> dict[str, Any]:
    return {
        "lines": [
            [li.text, round(li.sure, 3), *(round(n, 1) for n in _corners(li.box)), li.row]
            for li in page.lines
        ],
        "turned": page.turned,
        "vertical": page.vertical,
        "doubtful": page.doubtful,
    }


def from_json(said: Any) -> ReadPage:
    """Raises ValueError where it is not a page."""
    try:
        lines = tuple(_line(row) for row in said["lines"][:_LINES])
        turned, vertical = said["turned"], said["vertical"]
        if turned not in (0, 90, 180, 270) or type(vertical) is not bool:
            raise ValueError("not a page that was read")
        return ReadPage(lines, turned, vertical, said.get("doubtful") is True)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError("not a page that was read") from error


def pack(own: Readings, inside: Mapping[str, Readings]) -> bytes:
    """Of a file, and of the files inside it by their digests."""
    return json.dumps([_packed(own), {d: _packed(read) for d, read in inside.items()}]).encode()


def unpack(data: bytes) -> tuple[Readings, dict[str, Readings]]:
    own, inside = json.loads(data)
    return _unpacked(own), {digest: _unpacked(read) for digest, read in inside.items()}


def _packed(read: Readings) -> dict[int, Any]:
    return {n: to_json(page) for n, page in read.items()}


def _unpacked(said: dict[str, Any]) -> Readings:
    return {int(n): from_json(page) for n, page in said.items()}


def _corners(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


def _line(row: Any) -> ReadLine:
    text, sure, *box = row[:6]
    ruled = row[6] if len(row) > 6 else False  # what was kept before tables were told has six
    numbers = (sure, *box)
    if (
        not isinstance(text, str)
        or len(box) != 4
        or type(ruled) is not bool
        or any(type(n) not in (int, float) for n in numbers)
    ):
        raise ValueError("not a line")
    if not 0 <= sure <= 1 or any(not abs(n) < 1e6 for n in box):
        raise ValueError("not a line")
    return ReadLine(_UNSAFE.sub(" ", text)[:_LINE_CHARS], float(sure), Box(*map(float, box)), ruled)
