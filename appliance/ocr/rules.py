"""Ruled lines on the picture of a page: across and down, dashed ones too, and by how much it is askew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.formats.pdf_page import Rule
from appliance.ocr.engine import Picture, Quad

Grey = NDArray[np.uint8]

_EM = 24  # pixels of a letter on the copy that is looked at: a hairline still shows
_SIDE = 4_000  # pixels of that copy at most
_STEP = 3  # pixels from a line's middle to the paper beside it
_ALONG = 15  # pixels that are taken together along a line, against grain
_SMEARED = 5.0  # pixels by which that lengthens a line at its ends
_DARKER = 24  # than the paper on both sides
_DASH = 0.4  # em: a gap that a dashed line may have
_SHORT, _LONG = 1.2, 3.0  # em: of a solid line, and of one with gaps
_SOLID, _DASHED = 0.8, 0.4  # share of a line that is drawn
_THICK = 0.5  # em
_SLOPE = 0.06  # of a line that is across: three degrees and a half
_TELLING = 4  # em: a line that tells how the page is askew
_INSIDE = 0.75  # of a stroke that is a letter's: the rest is smeared
_MOST = 2_000  # lines each way: more are a picture


def straight(points: NDArray[np.floating], angle: float) -> NDArray[np.float64]:
    """Points of the page as it is, on the page without its skew; with the angle negated, back."""
    c, s = np.cos(-angle), np.sin(-angle)
    turned: NDArray[np.float64] = points @ np.array([[c, s], [-s, c]])
    return turned


def find(picture: Picture, quads: Sequence[Quad], em: float) -> tuple[float, list[Rule]]:
    """The page's skew, and its rules where they are without it; a line's text at `quads` has none."""
    scale = min(1.0, _EM / em, _SIDE / max(picture.shape[:2]))
    # a red stamp is paper to the red of a picture
    page: Grey = cv2.resize(
        picture[:, :, 2], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
    )
    angle = _angle(page)
    back = straight(
        np.array([[0, 0], [page.shape[1], 0], [0, page.shape[0]], page.shape[1::-1]]), angle
    )
    shift = -back.min(0)
    if angle:
        c, s = np.cos(-angle), np.sin(-angle)
        way = np.array([[c, -s, shift[0]], [s, c, shift[1]]])
        size = tuple(int(n) for n in np.ceil(np.ptp(back, axis=0)))
        page = cv2.warpAffine(page, way, size, borderMode=cv2.BORDER_REPLICATE)
    else:
        shift = np.zeros(2)
    boxes = _boxes([straight(q * scale, angle) + shift for q in quads])
    found = []
    for left, top, right, bottom in [*_lines(page), *_down(page)]:
        if not _lettered(boxes, left, top, right, bottom):
            found.append(
                Rule(
                    (left - shift[0]) / scale,
                    (top - shift[1]) / scale,
                    (right - shift[0]) / scale,
                    (bottom - shift[1]) / scale,
                )
            )
    return angle, found


def _angle(page: Grey) -> float:
    """By how much lines fall to the right; as most of their length says."""
    told: list[tuple[float, float]] = []
    for sign, side in ((1.0, page), (-1.0, np.ascontiguousarray(page.T))):
        drawn = _drawn(side, 9)
        drawn = cv2.morphologyEx(drawn, cv2.MORPH_OPEN, np.ones((1, 12), np.uint8))
        drawn = cv2.dilate(drawn, np.ones((3, 5), np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(drawn)
        long = np.flatnonzero(
            (stats[:, 2] > _TELLING * _EM) & (stats[:, 3] < _SLOPE * stats[:, 2] + 8)
        )
        for n in long[long > 0][:_MOST]:
            left, top, width, height = (int(v) for v in stats[n, :4])
            rows, columns = np.nonzero(labels[top : top + height, left : left + width] == n)
            told.append((sign * float(np.polyfit(columns, rows, 1)[0]), float(width)))
    if not told:
        return 0.0
    slopes, lengths = (np.array(v) for v in zip(*sorted(told), strict=True))
    middle = int(np.searchsorted(lengths.cumsum(), lengths.sum() / 2))
    return float(np.arctan(slopes[middle]))


def _drawn(page: Grey, along: int) -> Grey:
    """Where a thin dark line runs across: darker than the paper above it and below."""
    smooth = cv2.blur(page, (along, 1)).astype(np.int16)
    over, under = smooth[: -2 * _STEP], smooth[2 * _STEP :]
    middle = smooth[_STEP:-_STEP]
    drawn = np.zeros(page.shape, np.uint8)
    drawn[_STEP:-_STEP] = np.minimum(over, under) - middle > _DARKER
    return drawn


def _lines(page: Grey) -> list[tuple[float, float, float, float]]:
    drawn = _drawn(page, _ALONG)
    drawn = cv2.dilate(drawn, np.ones((3, 1), np.uint8))
    gap = round(_DASH * _EM)
    closed = cv2.morphologyEx(drawn, cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8))
    closed = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((1, round(_SHORT * _EM)), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed)
    if count > _MOST:
        return []
    found = []
    for n in range(1, count):
        left, top, width, height = (int(v) for v in stats[n, :4])
        if height > _THICK * _EM:
            continue
        inside = labels[top : top + height, left : left + width] == n
        inked = drawn[top : top + height, left : left + width].astype(bool) & inside
        filled = inked.any(0).mean()
        if filled >= _SOLID or (filled >= _DASHED and width >= _LONG * _EM):
            middle = float(np.nonzero(inside)[0].mean()) + top + 0.5
            ends = left + _SMEARED, left + width - _SMEARED
            found.append((ends[0], middle - 0.5, ends[1], middle + 0.5))
    return found


def _down(page: Grey) -> Iterator[tuple[float, float, float, float]]:
    for top, left, bottom, right in _lines(np.ascontiguousarray(page.T)):
        yield left, top, right, bottom


def _boxes(quads: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    if not quads:
        return np.zeros((0, 4))
    return np.array([[*q.min(0), *q.max(0)] for q in quads])


def _lettered(
    boxes: NDArray[np.float64], left: float, top: float, right: float, bottom: float
) -> bool:
    """True of a stroke of letters, a dash or leaders: it hardly leaves the line of its text."""
    across = np.minimum(boxes[:, 2], right) - np.maximum(boxes[:, 0], left)
    down = np.minimum(boxes[:, 3], bottom) - np.maximum(boxes[:, 1], top)
    inside = np.minimum(across / (right - left), down / (bottom - top))
    return bool((inside >= _INSIDE).any())
