"""Word documents."""

from __future__ import annotations

import io
from typing import Any

import docx
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Mm, Pt, RGBColor

from installer.sample import blocks
from installer.sample.sources import Source
from installer.sample.writers import package

_MINCHO, _GOTHIC = "ＭＳ 明朝", "ＭＳ ゴシック"
_SIZES_PT = {1: 14, 2: 12, 3: 11, 4: 10.5}


def write(source: Source) -> bytes:
    document = docx.Document()
    _set_up(document, source)
    title = document.add_paragraph(style="Title")
    title.add_run(source.title)
    for block in blocks.parse(source.body):
        _add(document, block)
    made = io.BytesIO()
    document.save(made)
    return package.settle(made.getvalue(), source)


def _add(document: Any, block: blocks.Block) -> None:
    match block:
        case blocks.Heading(level, text):
            document.add_heading(text, level)
        case blocks.Paragraph(text):
            _runs(document.add_paragraph(), text)
            if text == "以上":
                document.paragraphs[-1].alignment = WD_ALIGN_PARAGRAPH.RIGHT
        case blocks.Item(text, None, depth):
            _runs(document.add_paragraph(style="List Bullet 2" if depth else "List Bullet"), text)
        case blocks.Item(text, number, depth):
            # written out, as many people do: automatic numbers would run on through the document
            paragraph = document.add_paragraph()
            paragraph.paragraph_format.left_indent = Mm(6 + 6 * depth)
            paragraph.paragraph_format.first_line_indent = Mm(-6)
            _runs(paragraph, f"{number}. {text}")
        case blocks.Table(rows, headed):
            _table(document, rows, headed)
        case blocks.Note(text):
            document.add_paragraph(text, style="Intense Quote")
        case blocks.PageBreak():
            document.add_page_break()


def _runs(paragraph: Any, text: str) -> None:
    for piece, bold in blocks.runs(text):
        paragraph.add_run(piece).bold = bold or None


def _table(document: Any, rows: tuple[tuple[str, ...], ...], headed: bool) -> None:
    table = document.add_table(rows=len(rows), cols=max(map(len, rows)), style="Table Grid")
    for number, row in enumerate(rows):
        for cell, text in zip(table.rows[number].cells, row, strict=False):
            paragraph = cell.paragraphs[0]
            paragraph.paragraph_format.space_after = Pt(0)
            _runs(paragraph, f"**{text}**" if headed and number == 0 and text else text)
    document.add_paragraph()


def _set_up(document: Any, source: Source) -> None:
    section = document.sections[0]
    section.page_width, section.page_height = Mm(210), Mm(297)
    section.left_margin = section.right_margin = Mm(25)
    section.header.paragraphs[0].text = f"蔵前精機株式会社　{source.title}"
    foot = section.footer.paragraphs[0]
    foot.alignment = WD_ALIGN_PARAGRAPH.CENTER
    _page_number(foot.add_run())
    _font(document.styles["Normal"], _MINCHO, 10.5)
    _font(document.styles["Title"], _GOTHIC, 18)
    for level, size in _SIZES_PT.items():
        _font(document.styles[f"Heading {level}"], _GOTHIC, size)


def _font(style: Any, name: str, size_pt: float) -> None:
    style.font.name = name
    style.font.size = Pt(size_pt)
    style.font.color.rgb = RGBColor(0, 0, 0)
    fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
    for theme in ("asciiTheme", "hAnsiTheme", "eastAsiaTheme", "cstheme"):
        fonts.attrib.pop(qn(f"w:{theme}"), None)
    fonts.set(qn("w:eastAsia"), name)


def _page_number(run: Any) -> None:
    for kind in ("begin", None, "end"):
        if kind:
            part = OxmlElement("w:fldChar")
            part.set(qn("w:fldCharType"), kind)
        else:
            part = OxmlElement("w:instrText")
            part.text = "PAGE"
        run._r.append(part)
