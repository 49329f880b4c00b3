"""What is written upon a PDF's pages: comments, stamps' words, and what was filled into forms."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pypdfium2.raw as pdfium

from appliance.formats.draft import one_line

_MOST = 2_000  # of a page
_CHARS = 5_000
_HIDDEN = 2  # flag of an annotation that is not shown
_WRITTEN = {
    pdfium.FPDF_ANNOT_TEXT, pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_HIGHLIGHT,
    pdfium.FPDF_ANNOT_UNDERLINE, pdfium.FPDF_ANNOT_STRIKEOUT, pdfium.FPDF_ANNOT_SQUIGGLY,
    pdfium.FPDF_ANNOT_STAMP, pdfium.FPDF_ANNOT_SQUARE, pdfium.FPDF_ANNOT_CIRCLE, pdfium.FPDF_ANNOT_LINE,
    pdfium.FPDF_ANNOT_CARET, pdfium.FPDF_ANNOT_INK,
}  # fmt: skip


def lines(page: Any) -> list[str]:
    """One for each annotation of a page that says something, in their order."""
    return [line for line in _lines(page.raw) if line]


def _lines(page: Any) -> Iterator[str]:
    for n in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MOST)):
        annotation = pdfium.FPDFPage_GetAnnot(page, n)
        if not annotation:
            continue
        try:
            if pdfium.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
                continue
            kind = pdfium.FPDFAnnot_GetSubtype(annotation)
            if kind == pdfium.FPDF_ANNOT_WIDGET:
                name, said = _text(annotation, b"T"), _text(annotation, b"V")
                yield f"{name}: {said}" if name and said else said
            elif kind in _WRITTEN and (said := _text(annotation, b"Contents")):
                yield said if kind == pdfium.FPDF_ANNOT_FREETEXT else f"（コメント: {said}）"
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def _text(annotation: Any, key: bytes) -> str:
    size = pdfium.FPDFAnnot_GetStringValue(annotation, key, None, 0)
    if not 2 < size <= 4 * _CHARS:
        return ""
    data = (ctypes.c_ushort * (size // 2 + 1))()
    pdfium.FPDFAnnot_GetStringValue(annotation, key, data, size)
    return one_line(bytes(data)[: size - 2].decode("utf-16-le", "replace").replace("\x00", " "))
