"""bytes -> Document, one function a format. A new format is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from appliance.formats import (
    archive,
    book,
    data,
    ichitaro,
    images,
    lzh,
    mail,
    markdown,
    old_slides,
    old_word,
    opendocument,
    outlook,
    pdf,
    picture,
    plain,
    refused,
    rtf,
    seven,
    sheet,
    slides,
    table,
    web,
    word,
)
from appliance.formats.kinds import (
    DOC,
    DOCX,
    ENCRYPTED,
    EPUB,
    GZIP,
    JPEG,
    JSON,
    JTD,
    LZH,
    MBOX,
    MSG,
    NOTEBOOK,
    ODP,
    ODS,
    ODT,
    OLE,
    PDF,
    PNG,
    PPT,
    PPTX,
    RAR,
    RTF,
    SEVEN,
    TAR,
    TIFF,
    XDW,
    XLS,
    XLSX,
    XML,
    ZIP,
    detect,
    identify,
)
from appliance.formats.picture import Pixels
from appliance.types import Document

PARSERS: dict[str, Callable[[BinaryIO], Document]] = {
    PDF: pdf.parse,
    DOCX: word.parse,
    XLSX: sheet.parse,
    XLS: sheet.parse,
    PPTX: slides.parse,
    DOC: old_word.parse,
    PPT: old_slides.parse,
    ODT: opendocument.parse,
    ODS: opendocument.parse,
    ODP: opendocument.parse,
    RTF: rtf.parse,
    EPUB: book.parse,
    "text/html": web.parse,
    "text/markdown": markdown.parse,
    "text/csv": table.parse,
    "text/plain": plain.parse,
    JSON: data.parse_json,
    NOTEBOOK: data.parse_notebook,
    XML: data.parse_xml,
    "message/rfc822": mail.parse,
    MBOX: mail.parse_box,
    MSG: outlook.parse,
    ZIP: archive.parse_zip,
    TAR: archive.parse_tar,
    GZIP: archive.parse_gzip,
    PNG: images.parse,
    JPEG: images.parse,
    TIFF: images.parse,
    SEVEN: seven.parse,
    RAR: refused.rar,
    LZH: lzh.parse,
    ENCRYPTED: refused.encrypted,
    JTD: ichitaro.parse,
    XDW: refused.docuworks,
    OLE: refused.unknown_office,
}

PICTURES: dict[str, Callable[[BinaryIO, int], Pixels]] = {PDF: picture.of_pdf}

# whose parsers also take what was read of their pages
PAGED = frozenset({PDF, PNG, JPEG, TIFF})

__all__ = ["PAGED", "PARSERS", "PICTURES", "detect", "identify"]
