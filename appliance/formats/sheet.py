"""Excel (.xlsx, .xlsm, .xls): the values last saved, row by row; nothing is calculated.

Each sheet is a section, each row a place to open. In a table the rows name their
columns; elsewhere (forms, 方眼紙) a row is its cells with bars between.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, BinaryIO

import python_calamine

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from appliance.formats.draft import Draft, labelled, needs_labels, one_line, pipes
from appliance.formats.package import Package, open_zip
from appliance.types import Document

_CELLS = 8_000_000  # a sheet is unfolded in memory, gaps too
_MARKED_ROWS = 10_000  # beyond, only every nth row is a place to open
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
    step = 1 + height // _MARKED_ROWS
    rows = [[_shown(v) for v in row] for row in sheet.to_python(skip_empty_area=False)]
    if not any(any(row) for row in rows):
        return
    draft.heading(name, 1)
    for block in _blocks(rows):
        head_at = _header(block)
        head = block[head_at][1] if head_at is not None else None
        for n, (row, cells) in enumerate(block):
            if row % step == 0:
                first = next(i for i, c in enumerate(cells) if c)
                draft.mark(f"{name}!{_column(first)}{row + 1}", "cell")
            under = head is not None and head_at is not None and n > head_at
            draft.line(labelled(head or (), cells) if under else pipes(cells))
        draft.blank()


def _blocks(rows: Sequence[list[str]]) -> Iterator[list[tuple[int, list[str]]]]:
    """Runs of rows with something in them, each with its number from 0."""
    block: list[tuple[int, list[str]]] = []
    for n, row in enumerate(rows):
        if any(row):
            block.append((n, row))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _header(block: Sequence[tuple[int, list[str]]]) -> int | None:
    """The row that names the columns: the first of the widest ones, if it reads like names."""
    if len(block) < 2:
        return None
    rows = [cells for _, cells in block]
    wide = max(sum(1 for c in row if c) for row in rows)
    at = next(n for n, row in enumerate(rows) if 3 * sum(1 for c in row if c) > 2 * wide)
    return at if needs_labels(rows[at:]) else None


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


def _column(index: int) -> str:
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


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
