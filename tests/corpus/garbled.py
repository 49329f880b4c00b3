"""PDFs whose letters mean nothing: maps of letters that are gone, wrong, or of another font."""

from __future__ import annotations

import io
import re
import zlib

import pypdfium2

from tests.corpus import producers as by
from tests.corpus.paper import Shelf
from tests.corpus.writings import WRITINGS, Writing


def papers(shelf: Shelf) -> None:
    for w in WRITINGS[1:3]:
        _add(shelf, w, "unmapped.print.pdf", unmapped(by.chromium(by.page(w))), by.CHROMIUM)
    files = {f"{w.name}.docx": by.word(w) for w in WRITINGS[4:8]}
    for name, data in by.soffice(files, "pdf").items():
        w = next(w for w in WRITINGS if w.name == name)
        _add(shelf, w, "unmapped.writer.pdf", unmapped(data), by.LIBREOFFICE)
    for w in WRITINGS[8:10]:
        _add(shelf, w, "shifted.print.pdf", shifted(by.chromium(by.page(w))), by.CHROMIUM)
    for w in WRITINGS[10:12]:
        _add(shelf, w, "mojibake.drawn.pdf", mojibake(w), "reportlab")
    w = WRITINGS[0]
    both = joined(unmapped(by.chromium(by.page(w))), by.chromium(by.page(w)))
    count = len(pypdfium2.PdfDocument(unmapped(by.chromium(by.page(w)))))
    shelf.add(
        f"garbled/{w.name}.half.pdf",
        both,
        by.CHROMIUM,
        text=f"{w.text}\n{w.text}",
        garbled=tuple(range(1, count + 1)),
    )


def _add(shelf: Shelf, w: Writing, ending: str, data: bytes, producer: str) -> None:
    pages = len(pypdfium2.PdfDocument(data))
    shelf.add(
        f"garbled/{w.name}.{ending}",
        data,
        producer,
        text=w.text,
        garbled=tuple(range(1, pages + 1)),
    )


def unmapped(pdf: bytes) -> bytes:
    """No ToUnicode; the fonts' own names of letters go on meaning nothing."""
    assert b"/ToUnicode" in pdf
    return pdf.replace(b"/ToUnicode", b"/NoUnicode")


def shifted(pdf: bytes) -> bytes:
    """Every letter maps to one some places on: what fonts that were made smaller twice look like."""

    def turn(found: re.Match[bytes]) -> bytes:
        try:
            content = zlib.decompress(found[2])
        except zlib.error:
            return found[0]
        if b"begincmap" not in content:
            return found[0]
        moved = re.sub(
            rb"(<[0-9A-Fa-f]{2}>(?: <[0-9A-Fa-f]{2}>)? )<([0-9A-Fa-f]{4})>",
            lambda m: b"%s<%04X>" % (m[1], (int(m[2], 16) + 37) % 0xD800),
            content,
        )
        packed = zlib.compress(moved)
        # the length in the dictionary stays: pad, readers stop at the end of what was packed
        return b"stream\n" + packed + b"\n" * max(0, len(found[2]) - len(packed)) + b"\nendstream"

    return re.sub(rb"(stream\r?\n)(.*?)\r?\nendstream", turn, pdf, flags=re.DOTALL)


def mojibake(w: Writing) -> bytes:
    """Shift_JIS bytes shown as if they were Latin letters: from an old program without Japanese fonts."""
    broken = Writing(w.name, _latin(w.title), tuple(_latin(line) for line in w.lines))
    return by.drawn(broken, "HeiseiMin-W3", 80)


def _latin(text: str) -> str:
    said = text.encode("cp932", "replace").decode("cp1252", "replace").replace("\ufffd", "")
    return "".join(c for c in said if c.isprintable())


def joined(first: bytes, second: bytes) -> bytes:
    out = pypdfium2.PdfDocument(first)
    for data in (second,):
        out.import_pages(pypdfium2.PdfDocument(data))
    saved = io.BytesIO()
    out.save(saved)
    return saved.getvalue()
