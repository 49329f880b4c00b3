"""Where characters of a document stand on its pages: kept as runs of a line, packed, and cut to a span.

A run's box holds all of its characters; those in between are placed by their widths, which is where
a Japanese line has them.
"""

from __future__ import annotations

import json
import unicodedata
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from appliance.types import Run

_MOST_BYTES = 64_000_000  # unpacked


def pack(runs: Sequence[Run]) -> bytes | None:
    """Columns of differences, compressed; None where there are no runs."""
    if not runs:
        return None
    first = Run(0, 0, 0, 0, 0, 0, 0, 0)
    rows = [
        (
            run.start - last.end,
            run.end - run.start,
            run.page - last.page,
            run.left - last.left,
            run.top - last.top,
            run.right - last.right,
            run.bottom - last.bottom,
            run.way,
        )
        for last, run in pairwise([first, *runs])
    ]
    return zlib.compress(json.dumps([*zip(*rows, strict=True)], separators=(",", ":")).encode(), 9)


def unpack(data: bytes | None) -> list[Run]:
    if not data:
        return []
    columns = json.loads(zlib.decompressobj().decompress(data, _MOST_BYTES))
    runs, last = [], Run(0, 0, 0, 0, 0, 0, 0, 0)
    for after, long, page, left, top, right, bottom, way in zip(*columns, strict=True):
        start = last.end + after
        last = Run(
            start,
            start + long,
            last.page + page,
            last.left + left,
            last.top + top,
            last.right + right,
            last.bottom + bottom,
            way,
        )
        runs.append(last)
    return runs


def touched(runs: Sequence[Run], start: int, end: int) -> list[Run]:
    """Those with characters of the span. Runs are sorted and do not overlap."""
    at = max(0, bisect_right(runs, start, key=lambda run: run.start) - 1)
    found = []
    while at < len(runs) and runs[at].start < end:
        if runs[at].end > start:
            found.append(runs[at])
        at += 1
    return found


def cut(run: Run, text: str, start: int, end: int) -> Run:
    """So much of a run as belongs to the span; `text` is the run's own."""
    start, end = max(start, run.start), min(end, run.end)
    widths = [0, *accumulate(map(_width, text))]
    a, b = (widths[at - run.start] / (widths[-1] or 1) for at in (start, end))
    if run.way in (2, 3):  # leftwards, upwards
        a, b = 1 - b, 1 - a
    left, top, right, bottom = run.left, run.top, run.right, run.bottom
    wide, high = right - left, bottom - top
    if run.way in (0, 2):
        left, right = left + round(a * wide), left + round(b * wide)
    else:
        top, bottom = top + round(a * high), top + round(b * high)
    return Run(start, end, run.page, left, top, right, bottom, run.way)


def _width(sign: str) -> int:
    return 2 if unicodedata.east_asian_width(sign) in "WFA" else 1


def sound(rows: Sequence[Sequence[int]], length: int) -> Iterator[Run]:
    """Runs as a parser's process tells of them. Raises ValueError for what is none."""
    last = 0
    for row in rows:
        if len(row) != 8 or any(type(n) is not int for n in row):
            raise ValueError("not a run")
        run = Run(*row)
        if not (last <= run.start < run.end <= length and run.page >= 1 and 0 <= run.way <= 3):
            raise ValueError("not a run of this text")
        if not (0 <= run.left <= run.right <= FULL and 0 <= run.top <= run.bottom <= FULL):
            raise ValueError("a run beside its page")
        last = run.end
        yield run


FULL = 10_000  # the width, and the height, of a page
