"""One writer for each extension: a source in, the bytes of the file out, always the same."""

from __future__ import annotations

from collections.abc import Callable

from installer.sample.sources import Source
from installer.sample.writers import pdf, plain, sheet, slides, word

WRITERS: dict[str, Callable[[Source], bytes]] = {
    "pdf": pdf.write,
    "docx": word.write,
    "pptx": slides.write,
    "xlsx": sheet.write,
    "html": plain.write,
    "csv": plain.write,
    "md": plain.write,
    "txt": plain.write,
}  # and eml: a mail may carry any of these, so `mail.write` is given this table
