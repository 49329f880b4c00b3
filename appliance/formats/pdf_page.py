"""What PDFium tells of a page: characters with their boxes, ruled lines, pictures, text nobody sees."""

from __future__ import annotations

import ctypes
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from ctypes import addressof
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import atan2, degrees, hypot, isnan
from typing import Any, NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium

from appliance.formats import pdf_maps

_OBJECTS = 30_000  # of a page: a drawing has more, and no table that anybody could read
_SEGMENTS = 20_000
_PAINTED = 1_000
_DEPTH = 8  # of forms in forms
_THIN_PT = 3.0
_TINY_PT = 3.0  # as in Word
_A4_PT = 842.0
_WHITE = 250
_LETTERS = 50  # outlines: so many are a text
_SLANT = 10  # degrees away from upright

Room = tuple[Any, tuple[Any, ...]]


def room(kind: Any, count: int) -> Room:
    """What PDFium writes numbers into, and where each goes, to be made once: ctypes would make it
    anew for each of millions of calls. PDFium is not for two threads at once either."""
    numbers, step = (kind * count)(), ctypes.sizeof(kind)
    parts = (kind.from_buffer(numbers, n * step) for n in range(count))
    return numbers, tuple(map(ctypes.byref, parts))


_SIZE, _MATRIX = ctypes.c_float(), pdfium.FS_MATRIX()
_BY_SIZE, _BY_MATRIX = ctypes.byref(_SIZE), ctypes.byref(_MATRIX)
_RGBA, _BY_RGBA = room(ctypes.c_uint, 4)
_EDGES, _BY_EDGES = room(ctypes.c_float, 4)  # left, bottom, right, top

Box = tuple[float, float, float, float]  # left, top, right, bottom
Colour = tuple[int, int, int]
Matrix = tuple[float, float, float, float, float, float]


class Glyph(NamedTuple):
    """A character in the frame of its own direction: `top` grows downwards, the page upright."""

    sign: str
    left: float
    top: float
    right: float
    bottom: float
    size: float  # of an em
    spaced: bool  # there is a space before it


class Rule(NamedTuple):
    """A ruled line, across or down."""

    left: float
    top: float
    right: float
    bottom: float


class Ink(NamedTuple):
    """Shares of a page."""

    pictures: float  # letters drawn as outlines too
    all: float  # under anything but white and thin lines


@dataclass(slots=True)
class Sight:
    """A page at a glance. Boxes are the PDF's own: y grows upwards, `top` above `bottom`."""

    bounds: Box
    turned: int  # degrees, the key of the page
    tiny: float = _TINY_PT
    turns: Counter[int | None] = field(default_factory=Counter)  # of text objects; None: slanted
    hidden: set[int] = field(default_factory=set)  # addresses of text objects that nobody sees
    outside: set[int] = field(default_factory=set)
    rules: list[Rule] = field(default_factory=list)
    pictures: list[Box] = field(default_factory=list)
    outlines: list[Box] = field(default_factory=list)  # drawn with curves
    painted: list[tuple[Box, Colour | None]] = field(default_factory=list)
    colours: set[Colour] = field(default_factory=set)
    budget: int = _OBJECTS
    segments: int = _SEGMENTS
    lost: Mapping[int, int] = field(default_factory=dict)  # letters, as `pdf_maps` tells them

    def ink(self) -> Ink:
        drawn = self.outlines if len(self.outlines) >= _LETTERS else []
        seen = [box for box, colour in self.painted if colour is None or min(colour) < _WHITE]
        return Ink(
            _share([*self.pictures, *drawn], self.bounds),
            _share([*self.pictures, *self.outlines, *seen], self.bounds),
        )


def look(page: pypdfium2.PdfPage) -> Sight:
    left, bottom, right, top = page.get_cropbox()
    # a page measured in something else than points has small numbers all over
    tiny = _TINY_PT * min(1.0, max(right - left, top - bottom) / _A4_PT)
    sight = Sight((left, top, right, bottom), page.get_rotation(), tiny)
    later: list[tuple[int, Box]] = []
    _walk(
        sight,
        pdfium.FPDFPage_CountObjects(page.raw),
        partial(pdfium.FPDFPage_GetObject, page.raw),
        (1, 0, 0, 1, 0, 0),
        0,
        later,
    )
    if len(sight.outside) < sight.turns.total():  # else the page's box is wrong
        sight.hidden |= sight.outside
    # invisible letters over a picture are what somebody's OCR read in it
    for address, where in later:
        if not any(_holds(picture, where) for picture in sight.pictures[:_PAINTED]):
            sight.hidden.add(address)
    return sight


def glyphs(
    text_page: pypdfium2.PdfTextPage, sight: Sight, *, on_side: bool = False
) -> tuple[dict[int | None, list[Glyph]], int]:
    """What is seen, by the direction it is written in; how many letters are not.

    `on_side`: letters that run down the page, lying on their side, are taken as upright ones.
    """
    found: defaultdict[int | None, list[Glyph]] = defaultdict(list)
    unseen = 0
    x0, y1 = sight.bounds[:2]
    looks: dict[int, tuple[int | None, float]] = {}
    box, x, y = pdfium.FS_RECTF(), ctypes.c_double(), ctypes.c_double()
    by_box = ctypes.byref(box)
    raw = text_page.raw
    sign_of, box_of, object_of = (
        pdfium.FPDFText_GetUnicode,
        pdfium.FPDFText_GetLooseCharBox,
        pdfium.FPDFText_GetTextObject,
    )
    spaced, high = False, 0
    for n in range(pdfium.FPDFText_CountChars(raw)):
        code = sign_of(raw, n)
        if code in (0x20, 0x0D, 0x0A, 0x09, 0xA0):
            spaced = True
            continue
        if 0xD800 <= code < 0xDC00:
            high = code
            continue
        if 0xDC00 <= code < 0xE000:
            code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00) if high else 0xFFFD
            high = 0
        if not code or not box_of(raw, n, by_box):
            continue
        text_object = object_of(raw, n)
        address = addressof(text_object.contents) if text_object else 0
        if address in sight.hidden:
            unseen += 1
            continue
        if address not in looks:
            looks[address] = _look_of(text_object, raw, n)
        turn, size = looks[address]
        turn = 0 if on_side and turn == 270 else turn
        left, top, right, bottom = box.left, box.top, box.right, box.bottom
        if turn:
            left, top, right, bottom = upright((left, top, right, bottom), sight.bounds, turn)
        else:
            left, top, right, bottom = left - x0, y1 - top, right - x0, y1 - bottom
        if code in sight.lost and box.right - box.left > 0.95 * size:  # no Latin one is so wide
            code = pdf_maps.sign(code, sight.lost[code], _ink(raw, n, size))
        if 0x2E80 < code < 0xFF61 and bottom - top < 0.6 * size:
            # the cell of a sign whose font, drawn in the file, tells only its ink
            pdfium.FPDFText_GetCharOrigin(raw, n, x, y)
            origin = upright((x.value, y.value, x.value, y.value), sight.bounds, turn or 0)
            top, bottom = origin[1] - 0.88 * size, origin[1] + 0.12 * size
            left, right = min(left, origin[0]), max(right, origin[0] + size)
        found[turn].append(Glyph(chr(code), left, top, right, bottom, size, spaced))
        spaced = False
    return found, unseen


def _ink(raw: Any, n: int, size: float) -> pdf_maps.Ink:
    left, right, bottom, top, x, y = (ctypes.c_double() for _ in range(6))
    pdfium.FPDFText_GetCharBox(raw, n, left, right, bottom, top)
    pdfium.FPDFText_GetCharOrigin(raw, n, x, y)
    return (
        (left.value - x.value) / size,
        (bottom.value - y.value) / size,
        (right.value - x.value) / size,
        (top.value - y.value) / size,
    )


def upright(box: Box, bounds: Box, turn: int) -> Box:
    """A box of the PDF in the frame in which text that is turned so stands upright."""
    left, top, right, bottom = box
    x0, y1, x1, y0 = bounds
    match turn:
        case 90:
            return bottom - y0, left - x0, top - y0, right - x0
        case 180:
            return x1 - right, bottom - y0, x1 - left, top - y0
        case 270:
            return y1 - top, x1 - right, y1 - bottom, x1 - left
    return left - x0, y1 - top, right - x0, y1 - bottom


def _look_of(text_object: Any, raw: Any, n: int) -> tuple[int | None, float]:
    matrix = pdfium.FS_MATRIX()
    if not text_object or not pdfium.FPDFText_GetMatrix(raw, n, matrix):
        return 0, pdfium.FPDFText_GetFontSize(raw, n) or 1.0
    size = pdfium.FPDFText_GetFontSize(raw, n) * hypot(matrix.c, matrix.d)
    return _turn(matrix.a, matrix.b), size or 1.0


def _turn(a: float, b: float) -> int | None:
    if b == 0 and a > 0:
        return 0
    angle = degrees(atan2(b, a)) % 360
    if isnan(angle):  # a broken matrix
        return None
    nearest = round(angle / 90) * 90
    return nearest % 360 if abs(angle - nearest) <= _SLANT else None


def _walk(
    sight: Sight,
    count: int,
    get: Callable[[int], Any],
    outer: Matrix,
    depth: int,
    later: list[tuple[int, Box]],
) -> None:
    for n in range(count):
        sight.budget -= 1
        if sight.budget < 0:
            return
        item = get(n)
        kind = pdfium.FPDFPageObj_GetType(item)
        if kind == pdfium.FPDF_PAGEOBJ_TEXT:
            _text(sight, item, outer, later)
        elif kind == pdfium.FPDF_PAGEOBJ_PATH:
            _path(sight, item, outer)
        elif kind == pdfium.FPDF_PAGEOBJ_FORM and depth < _DEPTH:
            inner = _times(_matrix(item), outer)
            part = partial(pdfium.FPDFFormObj_GetObject, item)
            _walk(sight, pdfium.FPDFFormObj_CountObjects(item), part, inner, depth + 1, later)
        elif (box := _bounds(item, outer)) is not None:
            if kind == pdfium.FPDF_PAGEOBJ_IMAGE:
                sight.pictures.append(box)
            sight.painted.append((box, None))


def _text(sight: Sight, item: Any, outer: Matrix, later: list[tuple[int, Box]]) -> None:
    matrix = _times(_matrix(item), outer)
    sight.turns[_turn(matrix[0], matrix[1])] += 1
    pdfium.FPDFTextObj_GetFontSize(item, _BY_SIZE)
    if _SIZE.value * hypot(matrix[2], matrix[3]) <= sight.tiny:
        left, top, right, bottom = _bounds(item, outer) or (0, 0, 0, 0)
        if min(right - left, top - bottom) <= sight.tiny:  # a drawn font has a size of its own
            sight.hidden.add(addressof(item.contents))
            return
    x, y = matrix[4], matrix[5]
    left, top, right, bottom = sight.bounds
    colour, alpha = _fill(item)
    mode = pdfium.FPDFTextObj_GetTextRenderMode(item)
    plain = mode == 0 and alpha and colour is not None and max(colour) < _WHITE
    if plain and colour not in sight.colours and left < x < right and bottom < y < top:
        return
    box = _bounds(item, outer) or (x, y, x, y)
    if box[0] == box[2] or box[1] == box[3]:  # of a font that is not in the file
        box = (x, y + 1, x + 1, y)
    if not _meet(box, sight.bounds):
        sight.outside.add(addressof(item.contents))
    elif alpha == 0:
        sight.hidden.add(addressof(item.contents))
    elif mode in (pdfium.FPDF_TEXTRENDERMODE_INVISIBLE, pdfium.FPDF_TEXTRENDERMODE_CLIP):
        later.append((addressof(item.contents), box))
    elif colour is not None and mode == 0:
        white = min(colour) >= _WHITE
        if _ground(sight, box) == ((255, 255, 255) if white else colour):
            sight.hidden.add(addressof(item.contents))


def _ground(sight: Sight, box: Box) -> Colour | None:
    """The colour that was painted last where a text stands; None where it cannot be told."""
    if len(sight.painted) > _PAINTED:
        return None
    for painted, colour in reversed(sight.painted):
        if _holds(painted, box):
            white = colour is not None and min(colour) >= _WHITE
            return (255, 255, 255) if white else colour
    return (255, 255, 255)


def _path(sight: Sight, item: Any, outer: Matrix) -> None:
    box = _bounds(item, outer)
    if box is None or not _meet(box, sight.bounds):
        return
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDFPath_GetDrawMode(item, fill, stroke)
    left, top, right, bottom = box
    if min(right - left, top - bottom) <= _THIN_PT:
        if max(right - left, top - bottom) > _THIN_PT and (fill.value or stroke.value):
            sight.rules.append(_rule(left, top, right, bottom))
        return
    count = pdfium.FPDFPath_CountSegments(item)
    curves = False
    if sight.segments >= count > 0:
        sight.segments -= count
        curves = _rules(sight, item, count, _times(_matrix(item), outer), bool(stroke.value))
    if curves:
        sight.outlines.append(box)
    if fill.value:
        colour, alpha = _fill(item)
        if alpha > 0:
            sight.painted.append((box, colour if alpha == 255 and not curves else None))
            if colour is not None:
                sight.colours.add(colour)
    elif stroke.value and count <= 2:
        sight.painted.append((box, None))  # a line as broad as a band
    elif stroke.value and not curves and count > 5:
        sight.outlines.append(box)  # something drawn with a pen


def _rules(sight: Sight, item: Any, count: int, matrix: Matrix, stroke: bool) -> bool:
    """Takes in the straight lines of a path; True if it has curves."""
    curves = False
    part: list[tuple[float, float]] = []
    x, y = ctypes.c_float(), ctypes.c_float()
    for n in range(count):
        segment = pdfium.FPDFPath_GetPathSegment(item, n)
        kind = pdfium.FPDFPathSegment_GetType(segment)
        pdfium.FPDFPathSegment_GetPoint(segment, x, y)
        a, b, c, d, e, f = matrix
        point = (a * x.value + c * y.value + e, b * x.value + d * y.value + f)
        if kind == pdfium.FPDF_SEGMENT_MOVETO:
            _take(sight, part, stroke)
            part = [point]
        elif kind == pdfium.FPDF_SEGMENT_LINETO:
            part.append(point)
            if pdfium.FPDFPathSegment_GetClose(segment) and part:
                part.append(part[0])
        else:
            curves = True
            _take(sight, part, stroke)
            part = [point]
    _take(sight, part, stroke)
    return curves


def _take(sight: Sight, points: list[tuple[float, float]], stroke: bool) -> None:
    if len(points) < 2:
        return
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    left, right, bottom, top = min(xs), max(xs), min(ys), max(ys)
    if min(right - left, top - bottom) <= _THIN_PT:
        if max(right - left, top - bottom) > _THIN_PT:
            sight.rules.append(_rule(left, top, right, bottom))
    elif stroke:
        for (x0, y0), (x1, y1) in pairwise(points):
            if min(abs(x0 - x1), abs(y0 - y1)) <= 0.5 < max(abs(x0 - x1), abs(y0 - y1)):
                sight.rules.append(_rule(min(x0, x1), max(y0, y1), max(x0, x1), min(y0, y1)))


def _rule(left: float, top: float, right: float, bottom: float) -> Rule:
    """Without its thickness."""
    if right - left < top - bottom:
        middle = (left + right) / 2
        return Rule(middle, top, middle, bottom)
    middle = (top + bottom) / 2
    return Rule(left, middle, right, middle)


def _fill(item: Any) -> tuple[Colour | None, int]:
    if not pdfium.FPDFPageObj_GetFillColor(item, *_BY_RGBA):
        return None, 255
    r, g, b, a = _RGBA[:]
    return (r, g, b), a


def _matrix(item: Any) -> Matrix:
    m = _MATRIX
    if not pdfium.FPDFPageObj_GetMatrix(item, _BY_MATRIX):
        return (1, 0, 0, 1, 0, 0)
    return (m.a, m.b, m.c, m.d, m.e, m.f)


def _times(inner: Matrix, outer: Matrix) -> Matrix:
    if outer == (1, 0, 0, 1, 0, 0):
        return inner
    a, b, c, d, e, f = inner
    o, p, q, r, s, t = outer
    return (
        a * o + b * q,
        a * p + b * r,
        c * o + d * q,
        c * p + d * r,
        e * o + f * q + s,
        e * p + f * r + t,
    )


def _bounds(item: Any, outer: Matrix) -> Box | None:
    """Where an object is on the page; inside a form, as far as the form's matrix says."""
    if not pdfium.FPDFPageObj_GetBounds(item, *_BY_EDGES):
        return None
    left, bottom, right, top = _EDGES[:]
    if outer == (1, 0, 0, 1, 0, 0):
        return left, top, right, bottom
    a, b, c, d, e, f = outer
    corners = [(a * x + c * y + e, b * x + d * y + f) for x in (left, right) for y in (bottom, top)]
    xs, ys = [p[0] for p in corners], [p[1] for p in corners]
    return min(xs), max(ys), max(xs), min(ys)


def _holds(outer: Box, inner: Box) -> bool:
    """The middle of one is inside the other."""
    x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
    return outer[0] - 1 <= x <= outer[2] + 1 and outer[3] - 1 <= y <= outer[1] + 1


def _meet(one: Box, other: Box) -> bool:
    return (
        one[0] < other[2] and other[0] < one[2] and one[3] < other[1] and other[3] < one[1]
    ) or (one[0] == one[2] or one[1] == one[3])


def _share(boxes: list[Box], page: Box) -> float:
    whole = max((page[2] - page[0]) * (page[1] - page[3]), 1.0)
    return min(sum(_clipped(boxes, page)) / whole, 1.0)


def _clipped(boxes: list[Box], page: Box) -> Iterator[float]:
    for left, top, right, bottom in boxes:
        wide = min(right, page[2]) - max(left, page[0])
        high = min(top, page[1]) - max(bottom, page[3])
        if wide > 0 and high > 0:
            yield wide * high
