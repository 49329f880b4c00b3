"""Ruled tables in every format that has them; of each cell its row and column are known."""

from __future__ import annotations

import csv
import io
import json
from xml.sax.saxutils import escape

from tests.corpus import producers as by
from tests.corpus.paper import Shelf
from tests.corpus.writings import LISTINGS, Listing, listing


def papers(shelf: Shelf) -> None:
    _sheets(shelf)
    _words(shelf)
    _pdfs(shelf)
    _texts(shelf)


def _add(shelf: Shelf, t: Listing, ending: str, data: bytes, producer: str) -> None:
    shelf.add(f"tables/{t.name}.{ending}", data, producer, tables=(t.rows,))


def _sheets(shelf: Shelf) -> None:
    for t in LISTINGS[:4]:
        _add(shelf, t, "xlsx", by.excel(t), "openpyxl")
    for ending, chosen in (("xls", LISTINGS[3:6]), ("ods", LISTINGS[5:8]), ("xlsx", LISTINGS[4:5])):
        for name, data in by.soffice(
            {f"{t.name}.xlsx": by.excel(t) for t in chosen}, ending
        ).items():
            _add(shelf, listing(name), ending, data, by.LIBREOFFICE)


def _words(shelf: Shelf) -> None:
    for t in LISTINGS[:2]:
        _add(shelf, t, "docx", by.word_table(t), "python-docx")
    _add(shelf, LISTINGS[3], "pptx", by.slide_table(LISTINGS[3]), "python-pptx")
    for ending, t in (("doc", LISTINGS[2]), ("odt", LISTINGS[4]), ("rtf", LISTINGS[6])):
        data = by.soffice({f"{t.name}.docx": by.word_table(t)}, ending)[t.name]
        _add(shelf, t, ending, data, by.LIBREOFFICE)


def _pdfs(shelf: Shelf) -> None:
    for t in (LISTINGS[0], LISTINGS[5]):
        data = by.soffice({f"{t.name}.docx": by.word_table(t)}, "pdf")[t.name]
        _add(shelf, t, "writer.pdf", data, by.LIBREOFFICE)
    _add(shelf, LISTINGS[3], "gs.pdf", by.ghostscript(
        by.soffice({"t.docx": by.word_table(LISTINGS[3])}, "pdf")["t"]), by.GHOSTSCRIPT)  # fmt: skip
    for t in (LISTINGS[1], LISTINGS[4], LISTINGS[7]):
        _add(shelf, t, "print.pdf", by.chromium(by.table_page(t)), by.CHROMIUM)
    for t in (LISTINGS[2], LISTINGS[6]):
        _add(shelf, t, "drawn.pdf", by.drawn_table(t), "reportlab")


def _texts(shelf: Shelf) -> None:
    for t, codec, comma in (
        (LISTINGS[0], "utf-8-sig", ","), (LISTINGS[3], "cp932", ","), (LISTINGS[6], "utf-8", "\t"),
    ):  # fmt: skip
        out = io.StringIO()
        csv.writer(out, delimiter=comma).writerows(t.rows)
        _add(shelf, t, "csv" if comma == "," else "tsv", out.getvalue().encode(codec), "Python")
    _add(shelf, LISTINGS[5], "html", by.table_page(LISTINGS[5]).encode(), "Python")
    head, *rows = LISTINGS[4].rows
    values = [dict(zip(head, row, strict=True)) for row in rows]
    _add(shelf, LISTINGS[4], "json", json.dumps(values, ensure_ascii=False).encode(), "Python")
    lines = "\n".join(json.dumps(v, ensure_ascii=False) for v in values)
    _add(shelf, LISTINGS[4], "jsonl", lines.encode(), "Python")
    head, *rows = LISTINGS[3].rows
    rows_xml = "".join(
        "<人>"
        + "".join(f"<{n}>{escape(v)}</{n}>" for n, v in zip(head, row, strict=True))
        + "</人>"
        for row in rows
    )
    said = f'<?xml version="1.0" encoding="UTF-8"?><名簿>{rows_xml}</名簿>'
    _add(shelf, LISTINGS[3], "xml", said.encode(), "Python")
    bars = ["| " + " | ".join(row) + " |" for row in LISTINGS[1].rows]
    rule = "|" + " --- |" * len(LISTINGS[1].rows[0])
    text = f"# {LISTINGS[1].title}\n\n" + "\n".join([bars[0], rule, *bars[1:]]) + "\n"
    _add(shelf, LISTINGS[1], "md", text.encode(), "Python")
