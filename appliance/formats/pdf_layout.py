"""The lines of a page: as PDFium gives them where it is plain, by their places where it is not."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import pypdfium2
import pypdfium2.raw as pdfium

from appliance.formats import pdf_order, pdf_page, pdf_tables
from appliance.formats.pdf_page import Box, Glyph, Rule, Sight
from appliance.formats.pdf_pieces import Line, Piece, pieces

_MARGIN = 0.08  # of the page's height
_LETTER_PT = 30  # no letter of a text is taller
_GAPS = 2  # fewer lines with one make neither a column nor a table
_MOST = 100_000  # letters of a page: a file that wants to keep us busy has more
_RULES = 4  # fewer make no grid
_BESIDE = 0.75  # of the height of a line: a wider gap may be one between columns
_RECT, _BY_RECT = pdf_page.room(ctypes.c_double, 4)  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Layout:
    lines: tuple[Line, ...]
    unseen: int = 0  # letters that nobody sees
    turned: bool = False  # the page by its key, or most letters by their matrix
    sure: float = 1.0  # the share of letters that are turned as most are


def read(text_page: pypdfium2.PdfTextPage, sight: Sight) -> Layout:
    if pdfium.FPDFText_CountChars(text_page.raw) > _MOST or _is_plain(text_page, sight):
        return Layout(tuple(map(Line, _text(text_page).replace("\r\n", "\n").split("\n"))))
    found, unseen = pdf_page.glyphs(text_page, sight)
    if not found:
        return Layout((), unseen)
    letters = sum(map(len, found.values()))
    most = max(found, key=lambda turn: len(found[turn]))
    if most != 270 and 270 in found and pieces(found.get(0, ()))[2]:
        _merge(found, text_page, sight)  # Latin words in a line that runs down lie on their side
    lines: list[Line] = []
    for turn in sorted(found, key=lambda t: (t != most, t is None, t or 0)):
        if turn is None:  # a stamp across the page
            lines.append(Line("".join(g.sign for g in found[turn])))
        else:
            lines += _lines(found[turn], sight, turn)
    share = len(found.get(most, ())) / letters
    return Layout(tuple(lines), unseen, bool(sight.turned or most), share)


def _text(text_page: pypdfium2.PdfTextPage) -> str:
    """Of the whole page, but for letters without a sign at its ends: pypdfium2 goes one call deeper
    for each of them."""
    first, last = 0, pdfium.FPDFText_CountChars(text_page.raw) - 1
    place = pdfium.FPDFText_GetTextIndexFromCharIndex
    while first <= last and place(text_page.raw, first) < 0:
        first += 1
    while first <= last and place(text_page.raw, last) < 0:
        last -= 1
    return str(text_page.get_text_range(first, last + 1 - first))


def _merge(
    found: dict[int | None, list[Glyph]], text_page: pypdfium2.PdfTextPage, sight: Sight
) -> None:
    """All that stands upright or lies to the right, in the order of the file, in one frame."""
    found.update(pdf_page.glyphs(text_page, sight, on_side=True)[0])
    found.pop(270, None)


def _lines(glyphs: Sequence[Glyph], sight: Sight, turn: int) -> list[Line]:
    rules = [Rule(*pdf_page.upright(r, sight.bounds, turn)) for r in sight.rules]
    left, top, right, bottom = sight.bounds
    grids = pdf_tables.grids(rules, (right - left) * (top - bottom))
    rest, blocks = pdf_tables.blocks(glyphs, grids, _flow)
    return _flow(rest, blocks)


def _flow(glyphs: Sequence[Glyph], blocks: Sequence[Piece] = ()) -> list[Line]:
    most, other, down = pieces(glyphs)
    if not down:
        if other:
            block = [_block(pdf_order.lines(other), other)]
        return pdf_order.lines([*most, *blocks, *(block if other else ())])
    lines = pdf_order.lines([*most, *(b.turned() for b in blocks)])
    start = min((p.left for p in most), default=0.0)
    above = [p for p in other if p.bottom <= start]
    below = [p for p in other if p.bottom > start]
    return [*pdf_order.lines(above), *lines, *pdf_order.lines(below)]


def _block(lines: Sequence[Line], turned: Sequence[Piece]) -> Piece:
    """Lines that run down, as one piece of a page that runs across."""
    return Piece(
        "",
        -max(p.bottom for p in turned),
        min(p.left for p in turned),
        -min(p.top for p in turned),
        max(p.right for p in turned),
        max(p.size for p in turned),
        tuple(lines),
    )


def _is_plain(text_page: pypdfium2.PdfTextPage, sight: Sight) -> bool:
    """One column of lines that follow each other downwards, and nothing else that needs a look."""
    if sight.hidden or sight.turned or sight.lost or set(sight.turns) - {0}:
        return False
    if len(sight.rules) >= _RULES:
        left, top, right, bottom = sight.bounds
        rules = [Rule(*pdf_page.upright(r, sight.bounds, 0)) for r in sight.rules]
        if pdf_tables.grids(rules, (right - left) * (top - bottom)):
            return False
    return _flows(text_page, sight.bounds)


def _flows(text_page: pypdfium2.PdfTextPage, bounds: Box) -> bool:
    """Between the margins, where running heads are, each line is below the one before."""
    raw = text_page.raw
    margin = _MARGIN * (bounds[1] - bounds[3])
    highest, lowest = bounds[1] - margin, bounds[3] + margin
    end, floor, height, gaps = 0.0, float("inf"), 0.0, 0
    for n in range(pdfium.FPDFText_CountRects(raw, 0, -1)):
        pdfium.FPDFText_GetRect(raw, n, *_BY_RECT)
        left, top, right, bottom = _RECT[:]
        middle = (top + bottom) / 2
        if not lowest < middle < highest:
            continue
        own = top - bottom
        if own > max(3 * (right - left), _LETTER_PT):
            return False  # it may run down
        if floor <= middle <= floor + height:  # on the line of the one before
            gap = left - end
            gaps += gap > _BESIDE * max(own, height)
            if gaps > _GAPS or gap < -max(own, height):
                return False
            end = right
            continue
        close = floor - top < 0.15 * own and left < end
        if middle > floor or (close and height < 0.65 * own):
            return False  # back upwards, or small letters close above others
        end, floor, height = right, bottom, max(own, 0.1)
    return True
