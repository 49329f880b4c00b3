"""Workbooks: each `# name` is a sheet; a table's cells are cells; other lines stand in column A."""

from __future__ import annotations

import io
import re
from datetime import date
from typing import Any

import openpyxl
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter

from installer.sample import blocks
from installer.sample.sources import Source
from installer.sample.writers import package

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d*)(?:\.\d+)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_RULE = re.compile(r"\|(?: *:?-+:? *\|)+")
_THIN = Side(style="thin", color="999999")
_FRAME = Border(left=_THIN, right=_THIN, top=_THIN, bottom=_THIN)
_SHADE = PatternFill("solid", fgColor="DDE6F0")


def write(source: Source) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    sheet: Any = None
    row = 0
    for line in source.body.splitlines():
        if line.startswith("# "):
            sheet, row = book.create_sheet(line[2:].strip()), 0
        elif _RULE.fullmatch(line.strip()):
            for cell in sheet[row]:
                cell.font, cell.fill = Font(bold=True), _SHADE
        elif sheet is None and line.strip():
            raise ValueError(f"{source.uri}: text before the first `# sheet`")
        elif sheet is not None and (row or line.strip()):
            row += 1
            _row(sheet, row, line)
    for sheet in book:
        _widths(sheet)
    made = io.BytesIO()
    book.save(made)
    return package.settle(made.getvalue(), source)


def _row(sheet: Any, row: int, line: str) -> None:
    if not line.startswith("|"):
        sheet.cell(row, 1, line.strip() or None)
        return
    for column, text in enumerate(blocks.cells(line), 1):
        cell = sheet.cell(row, column, _value(text))
        cell.border = _FRAME
        cell.alignment = Alignment(vertical="top", wrap_text=len(text) > 20)
        if _NUMBER.fullmatch(text) and "," in text:
            cell.number_format = "#,##0"
        elif _DATE.fullmatch(text):
            cell.number_format = "yyyy/mm/dd"


def _value(text: str) -> str | int | float | date | None:
    if _DATE.fullmatch(text):
        return date.fromisoformat(text)
    if _NUMBER.fullmatch(text):
        plain = text.replace(",", "")
        return float(plain) if "." in plain else int(plain)
    return text or None


def _widths(sheet: Any) -> None:
    for column in sheet.iter_cols():
        texts = [str(cell.value) for cell in column if cell.value and cell.border.left.style]
        widest = max((sum(1 if c.isascii() else 2 for c in text) for text in texts), default=8)
        sheet.column_dimensions[get_column_letter(column[0].column)].width = min(widest + 2, 42)
