"""Excel (.xlsx, .xlsm, .xls): the values last saved, row by row; nothing is calculated.

Each sheet is a section, each row a place to open. In a table the rows name their
columns; elsewhere (forms, 方眼紙) a row is its cells with bars between.
"""

from __future__ import annotations

import io
import re
import zipfile
from datetime import date, datetime, time, timedelta
from typing import Any, BinaryIO

import python_calamine

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from appliance.formats.draft import Draft, one_line
from appliance.formats.package import Package, open_zip
from appliance.formats.rows import write_rows
from appliance.types import Document

_CELLS = 8_000_000  # a sheet is unfolded in memory, gaps too
_BLOCK = 1 << 20
_CELL = re.compile(rb'<(?:\w+:)?c [^>]{0,200}?r="([A-Z]{1,3})([0-9]{1,7})"')


def parse(stream: BinaryIO) -> Document:
    draft = Draft(tabular=True)
    data = stream.read()
    if data.startswith(b"PK"):
        draft.problems += Package(io.BytesIO(data)).problems()
        _refuse_bombs(data)
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        for name in book.sheet_names:
            _sheet(draft, name, book)
    except python_calamine.PasswordError:
        raise PasswordNeeded("パスワードが必要です") from None
    except (python_calamine.CalamineError, ValueError, OSError) as error:
        raise Unreadable(f"表計算ファイルとして読めません ({error})") from None
    return draft.document()


def _sheet(draft: Draft, name: str, book: Any) -> None:
    sheet = book.get_sheet_by_name(name)
    if sheet.end is None:
        return
    height, width = sheet.end[0] + 1, sheet.end[1] + 1
    if height * width > _CELLS:
        draft.problems.append(f"シート「{name}」は大きすぎるため読んでいません")
        return
    rows = [[_shown(v) for v in row] for row in sheet.to_python(skip_empty_area=False)]
    write_rows(draft, name, [(n, row) for n, row in enumerate(rows) if any(row)])


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
        case datetime():
            if value.time() == time():
                return value.date().isoformat()
            return value.isoformat(" ", "minutes" if not value.second else "seconds")
        case date():
            return value.isoformat()
        case time():
            return value.isoformat("minutes" if not value.second else "seconds")
        case timedelta():
            minutes, seconds = divmod(int(value.total_seconds()), 60)
            shown = f"{minutes // 60}:{minutes % 60:02}"
            return f"{shown}:{seconds:02}" if seconds else shown
        case _:
            return one_line(str(value))


def _refuse_bombs(data: bytes) -> None:
    """Two cells in far corners would be unfolded into a billion: look before reading."""
    archive = open_zip(io.BytesIO(data))
    try:
        for name in archive.namelist():
            if re.fullmatch(r"xl/worksheets/[^/]+\.xml", name):
                with archive.open(name) as member:
                    rows, columns = _extent(member)
                if rows * columns > _CELLS:
                    raise TooLarge(f"表が大きすぎます ({rows:,} 行 × {columns:,} 列)")
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise Unreadable(f"ファイルが壊れています ({error})") from None


def _extent(member: Any) -> tuple[int, int]:
    rows = columns = 0
    rest = b""
    while block := member.read(_BLOCK):
        for found in _CELL.finditer(rest + block):
            rows = max(rows, int(found[2]))
            columns = max(columns, _index(found[1]))
        rest = block[-256:]
    return rows, columns


def _index(column: bytes) -> int:
    index = 0
    for letter in column:
        index = index * 26 + letter - 64
    return index
