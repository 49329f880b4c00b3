"""Excel (.xlsx, .xlsm, .xlsb, .xls): the values last saved, row by row; nothing is calculated.

Each sheet is a section, each row a place to open. Values are given as their cells show them (5%,
¥12,000, 令和6年4月1日), but in .xlsb; comments and text boxes too.
"""

from __future__ import annotations

import io
import re
from datetime import date, datetime, time, timedelta
from typing import Any, BinaryIO

import python_calamine

from appliance.errors import PasswordNeeded, Unreadable
from appliance.formats import cells, looks, old_sheet
from appliance.formats.draft import UNSEEN, UNSEEN_CHARS, Draft, one_line
from appliance.formats.package import Package
from appliance.formats.rows import write_rows
from appliance.types import UNSAID, Document

_STRINGS = "xl/sharedStrings.xml"
_UNIQUE = re.compile(rb"\buniqueCount\s*=\s*[\"'](\d{1,20})")
_MERGED = 20_000  # merged cells of a sheet that are looked at


def parse(stream: BinaryIO) -> Document:
    draft = Draft(tabular=True)
    data = stream.read()
    own = UNSAID
    found: dict[str, looks.Look] = {}
    if data.startswith(b"PK"):
        package = Package(io.BytesIO(data))
        draft.problems += package.problems()
        own = package.properties()
        found = looks.read(package)
        _plausible(package)
    else:
        try:
            found = old_sheet.read(data)
        except Unreadable as error:  # the reader of the values may be able to
            draft.problems.append(f"書式を読めないため、数値は表示どおりではありません ({error})")
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        for name in book.sheet_names:
            _sheet(draft, name, book, found.get(name, looks.Look()))
    except python_calamine.PasswordError:
        raise PasswordNeeded("パスワードが必要です") from None
    except (python_calamine.CalamineError, ValueError, OSError) as error:
        raise Unreadable(f"表計算ファイルとして読めません ({error})") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # the reader's own; it has no other name
            raise
        raise Unreadable("表計算ファイルとして読めません (壊れています)") from None
    return draft.document(properties=own)


def _plausible(package: Package) -> None:
    """The reader makes room for as many texts as the file says it has, before it sees one."""
    if package.has(_STRINGS):
        first = next(iter(package.blocks(_STRINGS)), b"")
        said = [int(n) for n in _UNIQUE.findall(first)]
        if max(said, default=0) > package.size(_STRINGS):
            raise Unreadable("表計算ファイルとして読めません (文字列の数が中身と合いません)")


def _sheet(draft: Draft, name: str, book: Any, look: looks.Look) -> None:
    if look.hidden:
        draft.problems.append(f"シート「{name}」は非表示です (中身は読みました)")
    if look.hidden_rows:
        draft.problems.append(f"シート「{name}」に非表示の行か列があります (中身は読みました)")
    sheet = book.get_sheet_by_name(name)
    if sheet.end is None:
        return
    height, width = sheet.end[0] + 1, sheet.end[1] + 1
    if height * width > looks.CELLS:
        draft.problems.append(f"シート「{name}」は大きすぎるため読んでいません")
        return
    values = sheet.to_python(skip_empty_area=False)
    rows = [[one_line(v) if type(v) is str else _shown(v) for v in row] for row in values]
    if any(
        r < height and c < width and len(rows[r][c].replace(" ", "")) >= UNSEEN_CHARS
        for r, c in look.faint
    ):
        draft.problems.append(f"シート「{name}」: {UNSEEN}")
    for (r, c), code in look.codes.items():
        if r < height and c < width and (text := cells.shown(values[r][c], code)) is not None:
            rows[r][c] = text
    for (r, c), said in look.comments.items():
        if r < height and c < width and said:
            rows[r][c] += f"（コメント: {said}）"
    filled = [(n, row) for n, row in enumerate(rows) if any(row)]
    write_rows(draft, name, filled, _spans(sheet))
    for line in look.boxes:
        draft.line(line)


def _spans(sheet: Any) -> dict[tuple[int, int], tuple[int, int]]:
    """Of merged cells their first, with rows and columns."""
    ranges = sheet.merged_cell_ranges or ()
    return {
        first: (last[0] - first[0] + 1, last[1] - first[1] + 1) for first, last in ranges[:_MERGED]
    }


def _shown(value: Any) -> str:
    if type(value) is float:  # as all numbers are, and there are millions
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
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
