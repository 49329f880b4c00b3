"""The programs that write the corpus: python-docx, openpyxl, python-pptx, reportlab, LibreOffice,
Chromium, Ghostscript, jLHA. Those of Python give the same bytes every time, the others nearly."""

from __future__ import annotations

import html
import io
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import docx
import openpyxl
import pptx
from openpyxl.styles import Border, Side
from openpyxl.worksheet.worksheet import Worksheet
from pptx.util import Inches, Pt
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from tests.corpus.build import THEN, settle, wrapped
from tests.corpus.writings import Listing, Writing

THIN = Side(style="thin")
BOX = Border(left=THIN, right=THIN, top=THIN, bottom=THIN)
LIBREOFFICE, CHROMIUM, GHOSTSCRIPT, JLHA = "LibreOffice", "Chromium", "Ghostscript", "jLHA"


# --- other programs ---------------------------------------------------------------


def soffice(files: Mapping[str, bytes], target: str) -> dict[str, bytes]:
    """Each file converted, by its name without ending. `target` as LibreOffice names it."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "out").mkdir()
        for name, data in files.items():
            (here / name).write_bytes(data)
        command = [
            "soffice", f"-env:UserInstallation=file://{here}/profile", "--headless",
            "--convert-to", target, "--outdir", str(here / "out"),
        ]  # fmt: skip
        subprocess.run(
            [*command, *(str(here / n) for n in files)],
            check=True,
            capture_output=True,
            timeout=600,
        )
        return {p.stem: p.read_bytes() for p in sorted((here / "out").iterdir())}


def chromium(page: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "page.html", Path(folder) / "page.pdf"
        source.write_text(page, "utf-8")
        command = [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer",
            f"--user-data-dir={folder}/profile", f"--print-to-pdf={out}", source.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        return out.read_bytes()


def ghostscript(pdf: bytes, *options: str, device: str = "pdfwrite") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.pdf", Path(folder) / "out"
        source.write_bytes(pdf)
        command = ["gs", "-q", "-dBATCH", "-dNOPAUSE", f"-sDEVICE={device}", *options]
        subprocess.run([*command, f"-sOutputFile={out}", str(source)], check=True, timeout=300)
        return out.read_bytes()


def lha(files: Mapping[str, bytes], method: str, level: int) -> bytes:
    """An archive by jLHA: `method` from lh0 to lh7, `level` of its headers from 0 to 2."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.lzh"
        packed: list[str] = []
        for n, (name, data) in enumerate(files.items()):
            (Path(folder) / str(n)).write_bytes(data)
            packed += [method, str(level), name, str(Path(folder) / str(n))]
        program = str(Path(__file__).parent / "sources" / "Lha.java")
        command = ["java", "-cp", "/usr/share/java/jlha.jar", program, str(out), *packed]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        subprocess.run(command, check=True, timeout=300, env=environment)
        return out.read_bytes()


# --- pages ------------------------------------------------------------------------


def page(writing: Writing, style: str = "") -> str:
    body = "".join(
        f"<h2>{html.escape(line)}</h2>" if heading else f"<p>{html.escape(line)}</p>"
        for heading, line in writing.headed
    )
    return _page(writing.title, f"<h1>{html.escape(writing.title)}</h1>{body}", style)


def table_page(listing: Listing, style: str = "") -> str:
    head, *rows = listing.rows
    cells = "".join(f"<th>{html.escape(c)}</th>" for c in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows
    )
    table = f"<table><tr>{cells}</tr>{body}</table>"
    border = "table{border-collapse:collapse}td,th{border:1px solid #000;padding:3px 8px}"
    return _page(listing.title, f"<h1>{html.escape(listing.title)}</h1>{table}", border + style)


def _page(title: str, body: str, style: str) -> str:
    return (
        f'<!DOCTYPE html><html lang="ja"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>body{{font-family:'Noto Sans CJK JP'}}h2{{font-size:1.1em}}{style}</style></head><body>{body}</body></html>"
    )


def markdown(writing: Writing) -> str:
    lines = [f"# {writing.title}"]
    lines += [f"## {line}" if heading else line for heading, line in writing.headed]
    return "\n\n".join(lines) + "\n"


# --- Office -----------------------------------------------------------------------


def word(writing: Writing) -> bytes:
    document = _blank(writing.title)
    document.add_heading(writing.title, level=1)
    for heading, line in writing.headed:
        if heading:
            document.add_heading(line, level=2)
        else:
            document.add_paragraph(line)
    return _saved(document)


def word_table(listing: Listing) -> bytes:
    document = _blank(listing.title)
    document.add_heading(listing.title, level=1)
    table = document.add_table(len(listing.rows), len(listing.rows[0]), style="Table Grid")
    for row, values in zip(table.rows, listing.rows, strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = value
    return _saved(document)


def _blank(title: str) -> docx.document.Document:
    document = docx.Document()
    document.core_properties.title = title
    document.core_properties.created = document.core_properties.modified = THEN
    return document


def _saved(
    document: docx.document.Document | openpyxl.Workbook | pptx.presentation.Presentation,
) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return settle(out.getvalue())


def excel(listing: Listing, top: int = 3) -> bytes:
    """A title, then the table, every cell with its border; what reads as a number is one."""
    book = workbook(listing.title)
    sheet: Worksheet = book.active
    sheet["A1"] = listing.title
    for r, row in enumerate(listing.rows, top):
        for c, value in enumerate(row, 1):
            cell = sheet.cell(r, c)
            cell.border = BOX
            plain = value.replace(",", "")
            if plain.removeprefix("-").isdigit() and (plain == "0" or plain[0] != "0"):
                cell.value = int(plain)
                cell.number_format = "#,##0" if "," in value else "0"
            elif value:
                cell.value = value
    return book_bytes(book)


def workbook(title: str) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    book.properties.created = book.properties.modified = THEN
    book.active.title = title[:31]
    return book


def book_bytes(book: openpyxl.Workbook) -> bytes:
    return _saved(book)


def slides(writing: Writing) -> bytes:
    """A slide for each heading."""
    show = pptx.Presentation()
    show.core_properties.title = writing.title
    show.core_properties.created = show.core_properties.modified = THEN
    first = show.slides.add_slide(show.slide_layouts[6])
    _box(first, [writing.title], 1, 32)
    said: list[str] = []
    blocks: list[tuple[str, list[str]]] = []
    for heading, line in writing.headed:
        if heading:
            said = []
            blocks.append((line, said))
        elif blocks:
            said.append(line)
        else:
            _box(first, [line], 3, 16)
    for title, lines in blocks:
        slide = show.slides.add_slide(show.slide_layouts[5])
        slide.shapes.title.text = title
        _box(slide, lines, 2, 16)
    return _saved(show)


def _box(slide: pptx.slide.Slide, lines: Sequence[str], top: float, size: int) -> None:
    frame = slide.shapes.add_textbox(Inches(0.5), Inches(top), Inches(9), Inches(4)).text_frame
    frame.word_wrap = True
    for n, line in enumerate(lines):
        paragraph = frame.paragraphs[0] if n == 0 else frame.add_paragraph()
        run = paragraph.add_run()
        run.text = line
        run.font.size = Pt(size)


def slide_table(listing: Listing) -> bytes:
    show = pptx.Presentation()
    show.core_properties.created = show.core_properties.modified = THEN
    slide = show.slides.add_slide(show.slide_layouts[5])
    slide.shapes.title.text = listing.title
    shape = slide.shapes.add_table(
        len(listing.rows), len(listing.rows[0]), Inches(0.5), Inches(2), Inches(9), Inches(3)
    )
    for r, row in enumerate(listing.rows):
        for c, value in enumerate(row):
            shape.table.cell(r, c).text = value
    return _saved(show)


# --- reportlab --------------------------------------------------------------------


def drawn(writing: Writing, font: str = "HeiseiMin-W3", width: int = 40) -> bytes:
    """A PDF whose font is not in it, as many Japanese accounting programs write them."""
    out, canvas = _canvas(writing.title, font)
    at = 780
    for line in (writing.title, *(line for _, line in writing.headed)):
        for part in wrapped(line, width):
            if at < 60:
                canvas.showPage()
                at = 780
            canvas.setFont(font, 11)
            canvas.drawString(60, at, part)
            at -= 18
        at -= 6
    canvas.save()
    return out.getvalue()


def drawn_upright(writing: Writing, font: str = "HeiseiMin-W3", height: int = 45) -> bytes:
    """縦書き, with the font's own vertical map."""
    out, canvas = _canvas(writing.title, "")
    pdfmetrics.registerFont(UnicodeCIDFont(font, isVertical=True))
    at = 550
    for line in (writing.title, *(line for _, line in writing.headed)):
        for part in wrapped(line, height):
            if at < 50:
                canvas.showPage()
                at = 550
            canvas.setFont(
                f"{font}-V" if f"{font}-V" in pdfmetrics.getRegisteredFontNames() else font, 12
            )
            canvas.drawString(at, 790, part)
            at -= 22
        at -= 6
    canvas.save()
    return out.getvalue()


def drawn_table(listing: Listing, font: str = "HeiseiKakuGo-W5") -> bytes:
    out, canvas = _canvas(listing.title, font)
    canvas.setFont(font, 14)
    canvas.drawString(60, 790, listing.title)
    widths = [
        12 + 10 * max(_width(row[c]) for row in listing.rows) for c in range(len(listing.rows[0]))
    ]
    canvas.setFont(font, 10)
    for r, row in enumerate(listing.rows):
        left = 40.0
        for width, value in zip(widths, row, strict=True):
            canvas.rect(left, 740 - 22 * r, width, 22)
            canvas.drawString(left + 5, 747 - 22 * r, value)
            left += width
    canvas.save()
    return out.getvalue()


def _width(text: str) -> float:
    return sum(0.55 if c.isascii() else 1.0 for c in text)


def _canvas(title: str, font: str) -> tuple[io.BytesIO, Canvas]:
    if font:
        pdfmetrics.registerFont(UnicodeCIDFont(font))
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1)
    canvas.setTitle(title)
    return out, canvas
