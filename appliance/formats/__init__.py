"""bytes -> Document, one function a format. A new format is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from appliance.formats import mail, markdown, pdf, plain, refused, sheet, slides, table, web, word
from appliance.formats.kinds import DOCX, ENCRYPTED, OLE, PDF, PPTX, XLS, XLSX, detect, identify
from appliance.types import Document

PARSERS: dict[str, Callable[[BinaryIO], Document]] = {
    PDF: pdf.parse,
    DOCX: word.parse,
    XLSX: sheet.parse,
    XLS: sheet.parse,
    PPTX: slides.parse,
    "text/html": web.parse,
    "text/markdown": markdown.parse,
    "text/csv": table.parse,
    "text/plain": plain.parse,
    "message/rfc822": mail.parse,
    ENCRYPTED: refused.encrypted,
    OLE: refused.old_office,
}

__all__ = ["PARSERS", "detect", "identify"]
