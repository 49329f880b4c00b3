"""Presentations: each `# title` is a slide, `> ` lines are what the speaker says."""

from __future__ import annotations

import io
from typing import Any

import pptx
from pptx.util import Mm, Pt

from installer.sample import blocks
from installer.sample.sources import Source
from installer.sample.writers import package

_TITLE, _CONTENT = 0, 1  # layouts of the default template


def write(source: Source) -> bytes:
    deck = pptx.Presentation()
    deck.slide_width, deck.slide_height = Mm(254), Mm(190.5)
    slide: Any = None
    for block in blocks.parse(source.body):
        if isinstance(block, blocks.Heading) and block.level == 1:
            layout = deck.slide_layouts[_CONTENT if slide else _TITLE]
            slide = deck.slides.add_slide(layout)
            slide.shapes.title.text = block.text
        elif slide is None:
            raise ValueError(f"{source.uri}: text before the first `# title`")
        else:
            _add(slide, block)
    for slide in deck.slides:
        for place in list(slide.placeholders):
            if not place.text_frame.text:
                place.element.getparent().remove(place.element)
    made = io.BytesIO()
    deck.save(made)
    return package.settle(made.getvalue(), source)


def _add(slide: Any, block: blocks.Block) -> None:
    match block:
        case blocks.Item(text, number, depth):
            _line(slide, text if number is None else f"{number}. {text}", depth)
        case blocks.Heading(_, text) | blocks.Paragraph(text):
            _line(slide, text, 0)
        case blocks.Note(text):
            notes = slide.notes_slide.notes_text_frame
            notes.text = f"{notes.text}\n{text}" if notes.text else text
        case blocks.Table(rows, _):
            _table(slide, rows)
        case blocks.PageBreak():
            raise ValueError("a slide has no page break")


def _line(slide: Any, text: str, depth: int) -> None:
    frame = slide.placeholders[1].text_frame
    paragraph = frame.add_paragraph() if frame.text else frame.paragraphs[0]
    paragraph.level = depth
    for piece, bold in blocks.runs(text):
        run = paragraph.add_run()
        run.text = piece
        run.font.bold = bold or None
        run.font.size = Pt(20 - 2 * depth)


def _table(slide: Any, rows: tuple[tuple[str, ...], ...]) -> None:
    body = slide.placeholders[1]
    lines = len(body.text_frame.paragraphs) if body.text_frame.text else 0
    top = Mm(45 + 11 * lines)
    columns = max(map(len, rows))
    shape = slide.shapes.add_table(len(rows), columns, Mm(15), top, Mm(224), Mm(9 * len(rows)))
    for number, row in enumerate(rows):
        for column, text in enumerate(row):
            cell = shape.table.cell(number, column)
            cell.text = text.replace("**", "")
            for paragraph in cell.text_frame.paragraphs:
                paragraph.font.size = Pt(13)
