"""The zip around an Office document, made the same on every day and machine."""

from __future__ import annotations

import io
import zipfile
from xml.sax.saxutils import escape

from installer.sample.sources import Source

_CORE = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    "<cp:coreProperties"
    ' xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
    "<dc:title>{title}</dc:title><dc:creator>{author}</dc:creator>"
    "<cp:lastModifiedBy>{author}</cp:lastModifiedBy>"
    '<dcterms:created xsi:type="dcterms:W3CDTF">{date}</dcterms:created>'
    '<dcterms:modified xsi:type="dcterms:W3CDTF">{date}</dcterms:modified>'
    "</cp:coreProperties>"
)
_FIRST = "[Content_Types].xml"


def settle(made: bytes, source: Source) -> bytes:
    """The package again: parts in order of name, dates and author from the front matter."""
    result = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(made)) as old,
        zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new,
    ):
        for name in sorted(old.namelist(), key=lambda name: (name != _FIRST, name)):
            data = _core(source) if name == "docProps/core.xml" else old.read(name)
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 0
            new.writestr(entry, data)
    return result.getvalue()


def _core(source: Source) -> bytes:
    return _CORE.format(
        title=escape(source.title),
        author=escape(source.author),
        date=source.date.strftime("%Y-%m-%dT09:00:00Z"),
    ).encode()
