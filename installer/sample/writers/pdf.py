"""PDF with the fonts every Japanese reader has (Adobe-Japan1), so nothing is embedded.

Headings become bookmarks; `toc: yes` in the front matter adds a table of contents
of the `#` headings, `size: 12` a larger body, `note:` words in the page header.
"""

from __future__ import annotations

import io
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.enums import TA_CENTER, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import (
    BaseDocTemplate,
    Frame,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)
from reportlab.platypus.tableofcontents import TableOfContents

from installer.sample import blocks
from installer.sample.sources import Source

_COMPANY = "蔵前精機株式会社"
_MINCHO, _GOTHIC = "HeiseiMin-W3", "HeiseiKakuGo-W5"
for _font in (_MINCHO, _GOTHIC):
    pdfmetrics.registerFont(UnicodeCIDFont(_font))
_WIDTH = A4[0] - 44 * mm


def _style(name: str, size: float, font: str = _MINCHO, **more: Any) -> ParagraphStyle:
    return ParagraphStyle(
        name,
        fontName=font,
        fontSize=size,
        leading=size * 1.6,
        wordWrap="CJK",
        bulletFontName=font,
        bulletFontSize=size,
        **more,
    )


class _Look:
    """The styles of one document, for a body of `size` points."""

    def __init__(self, size: float) -> None:
        self.body = _style("body", size, spaceAfter=3)
        self.cell = _style("cell", size - 1.5)
        self.head = _style("head", size - 1.5, _GOTHIC)
        self.right = _style("right", size, alignment=TA_RIGHT, spaceAfter=2)
        self.title = _style(
            "title", 18, _GOTHIC, alignment=TA_CENTER, spaceBefore=10 * mm, spaceAfter=6 * mm
        )
        self.headings = {
            level: _style(
                f"heading{level}",
                size + larger,
                _GOTHIC,
                spaceBefore=before,
                spaceAfter=before / 2,
                keepWithNext=True,
            )
            for level, larger, before in ((1, 3.5, 12), (2, 1.5, 9), (3, 0.5, 7), (4, 0, 5))
        }


class _Document(BaseDocTemplate):  # type: ignore[misc]
    """A4 with the title above and the page number below; headings become bookmarks."""

    def __init__(self, file: io.BytesIO, source: Source) -> None:
        super().__init__(
            file, pagesize=A4, invariant=1, title=source.title, author=source.author, lang="ja"
        )
        self.source = source
        self.depth = -1  # of the last bookmark: a level may only be one deeper
        frame = Frame(22 * mm, 22 * mm, _WIDTH, A4[1] - 47 * mm, 0, 0, 0, 0)
        self.addPageTemplates(PageTemplate(frames=[frame], onPage=self._head, onPageEnd=self._foot))

    def _head(self, canvas: Any, _: Any) -> None:
        canvas.saveState()
        canvas.setFont(_GOTHIC, 8)
        canvas.drawString(22 * mm, A4[1] - 15 * mm, f"{_COMPANY}　{self.source.title}")
        canvas.drawRightString(A4[0] - 22 * mm, A4[1] - 15 * mm, self.source.fields.get("note", ""))
        canvas.line(22 * mm, A4[1] - 17 * mm, A4[0] - 22 * mm, A4[1] - 17 * mm)
        canvas.restoreState()

    def _foot(self, canvas: Any, _: Any) -> None:
        canvas.saveState()
        canvas.setFont(_GOTHIC, 8)
        canvas.drawCentredString(A4[0] / 2, 12 * mm, f"- {canvas.getPageNumber()} -")
        canvas.restoreState()

    def handle_documentBegin(self) -> None:
        self.depth = -1
        super().handle_documentBegin()

    def afterFlowable(self, flowable: Any) -> None:
        level = getattr(flowable, "kura_level", None)
        if level is None:
            return
        text, key = flowable.kura_text, flowable.kura_key
        self.depth = min(level - 1, self.depth + 1)
        self.canv.bookmarkPage(key)
        self.canv.addOutlineEntry(text, key, self.depth, closed=self.depth > 0)
        if level == 1:
            self.notify("TOCEntry", (0, _escape(text), self.page, key))


def write(source: Source) -> bytes:
    made = io.BytesIO()
    document = _Document(made, source)
    look = _Look(float(source.fields.get("size", "10.5")))
    story: list[Any] = [Paragraph(_escape(source.title), look.title)]
    story += [Paragraph(_escape(line), look.right) for line in _imprint(source)]
    story.append(Spacer(1, 6 * mm))
    if source.fields.get("toc") == "yes":
        contents = TableOfContents(dotsMinLevel=0, levelStyles=[look.body])
        story += [Paragraph("目次", look.headings[2]), contents, PageBreak()]
    for number, block in enumerate(blocks.parse(source.body)):
        story += _flowables(block, number, look)
    document.multiBuild(story)
    return made.getvalue()


def _imprint(source: Source) -> list[str]:
    date = source.date
    return [f"{date.year}年{date.month}月{date.day}日", f"{_COMPANY}　{source.author}"]


def _flowables(block: blocks.Block, number: int, look: _Look) -> list[Any]:
    match block:
        case blocks.Heading(level, text):
            heading = Paragraph(_markup(text), look.headings[level])
            heading.kura_level, heading.kura_text, heading.kura_key = level, text, f"h{number}"
            return [heading]
        case blocks.Paragraph(text):
            return [Paragraph(_markup(text), look.right if text == "以上" else look.body)]
        case blocks.Item(text, count, depth):
            sign = "・" if count is None else f"{count}."
            indent = (14 if count is None else 18) + 14 * depth
            style = ParagraphStyle("item", look.body, leftIndent=indent, bulletIndent=14 * depth)
            return [Paragraph(_markup(text), style, bulletText=sign)]
        case blocks.Table(rows, headed):
            return [_table(rows, headed, look), Spacer(1, 4 * mm)]
        case blocks.Note(text):
            return [Paragraph(_markup(text), ParagraphStyle("note", look.body, leftIndent=14))]
        case blocks.PageBreak():
            return [PageBreak()]


def _table(rows: tuple[tuple[str, ...], ...], headed: bool, look: _Look) -> Any:
    columns = max(map(len, rows))
    longest = [
        2 + max(3.0, *(min(_ems(row[column]), 24) for row in rows if column < len(row)))
        for column in range(columns)
    ]
    widths = [_WIDTH * length / sum(longest) for length in longest]
    cells = [
        [
            Paragraph(_markup(text), look.head if headed and number == 0 else look.cell)
            for text in (*row, *[""] * (columns - len(row)))
        ]
        for number, row in enumerate(rows)
    ]
    lines = [("GRID", (0, 0), (-1, -1), 0.5, colors.grey), ("VALIGN", (0, 0), (-1, -1), "MIDDLE")]
    if headed:
        lines.append(("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#E4EAF1")))
    return Table(cells, widths, repeatRows=1 if headed else 0, style=TableStyle(lines))


def _ems(text: str) -> float:
    return sum(0.55 if letter.isascii() else 1 for letter in text)


def _markup(text: str) -> str:
    return "".join(
        f'<font name="{_GOTHIC}">{_escape(piece)}</font>' if bold else _escape(piece)
        for piece, bold in blocks.runs(text)
    )


def _escape(text: str) -> str:
    # reportlab takes a bare ideographic space for white space, and a row of them for one
    return escape(text, {"\u3000": "&#12288;"})
