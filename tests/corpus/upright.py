"""縦書き: PDFs whose lines run from top to bottom and from right to left."""

from __future__ import annotations

import io
import zipfile

from tests.corpus import producers as by
from tests.corpus.build import settle
from tests.corpus.paper import Shelf
from tests.corpus.writings import WRITINGS

_STYLES = (
    "", "body{font-family:'Noto Serif CJK JP'}", "body{line-height:2;font-size:14px}",
    "@page{size:A4 landscape}", "@page{size:A5}body{text-indent:1em}",
)  # fmt: skip
_DIRECTION = '<w:textDirection w:val="tbRl"/><w:docGrid'


def papers(shelf: Shelf) -> None:
    for n, (w, style) in enumerate(zip(WRITINGS[5:10], _STYLES, strict=True)):
        page = by.page(w, f"html{{writing-mode:vertical-rl}}{style}")
        data = by.chromium(page)
        shelf.add(f"upright/{w.name}.print.pdf", data, by.CHROMIUM, text=w.text)
        if n == 0:
            data = by.ghostscript(data)
            shelf.add(f"upright/{w.name}.gs.pdf", data, by.GHOSTSCRIPT, text=w.text)
    chosen = (WRITINGS[0], WRITINGS[4], WRITINGS[11])
    files = {f"{w.name}.docx": _upright(by.word(w)) for w in chosen}
    for w in chosen:
        data = by.soffice({f"{w.name}.docx": files[f"{w.name}.docx"]}, "pdf")[w.name]
        shelf.add(f"upright/{w.name}.writer.pdf", data, by.LIBREOFFICE, text=w.text)
    w = WRITINGS[7]
    shelf.add(f"upright/{w.name}.drawn.pdf", by.drawn_upright(w), "reportlab", text=w.text)


def _upright(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename == "word/document.xml":
                assert b"<w:docGrid" in content
                content = content.replace(b"<w:docGrid", _DIRECTION.encode())
            new.writestr(info, content)
    return settle(out.getvalue())
