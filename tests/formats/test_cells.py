"""Cells as Excel shows them. What Excel shows was written down by hand from its own description."""

from __future__ import annotations

import io
from datetime import date, datetime, time
from pathlib import Path

import openpyxl
import pytest
from openpyxl.comments import Comment
from openpyxl.styles import Color, Font, PatternFill

from appliance.formats.cells import shown

ERA = '[$-411]ggge"年"m"月"d"日"'
POST = "[<=999]000;[<=9999]000\\-00;000\\-0000"
MONEY = "[$¥-411]#,##0;[Red]-[$¥-411]#,##0"


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (0.05, "0%", "5%"),
        (0.1234, "0.0%", "12.3%"),
        (1200000, "#,##0", "1,200,000"),
        (120, "#,##0", "120"),
        (0, "#,##0", "0"),
        (-1234.5, '#,##0.00;"△ "#,##0.00', "△ 1,234.50"),
        (-5, "0", "-5"),
        (1234567, '#,##0,"千円"', "1,235千円"),
        (0, '#,##0;-#,##0;"－"', "－"),
        (1234, MONEY, "¥1,234"),
        (-1234, MONEY, "-¥1,234"),
        (3920022, POST, "392-0022"),
        (392, POST, "392"),
        (7, "000", "007"),
        (12, '0"名"', "12名"),
        (3, 'General"個"', "3個"),
        (1.005, "0.00", "1.01"),
        (2, "#.##", "2"),
        (1234.5, "_ * #,##0_ ;_ * \\-#,##0_ ", "1,235"),
        (1.5, "# ?/?", None),
        (1e9, "0.00E+00", None),
        (True, "0%", None),
        ("文字", "0%", None),
        (date(2024, 4, 1), ERA, "令和6年4月1日"),
        (date(2019, 5, 1), ERA, "令和1年5月1日"),
        (date(2019, 4, 30), "[$-411]ge\\.m\\.d", "H31.4.30"),
        (date(1926, 12, 25), ERA, "昭和1年12月25日"),
        (datetime(2024, 4, 1, 9, 5), "yyyy/mm/dd hh:mm", "2024/04/01 09:05"),  # noqa: DTZ001
        (datetime(2024, 4, 1, 13, 5, 9), "mm:ss", "05:09"),  # noqa: DTZ001
        (date(2024, 4, 1), "m/d(aaa)", "4/1(月)"),
        (time(13, 5), 'h"時"mm"分"', "13時05分"),
        (date(2024, 4, 1), "[$-F800]dddd\\,\\ mmmm\\ dd", None),
        (datetime(2024, 4, 1), "[h]:mm", None),  # noqa: DTZ001
    ],
)
def test_a_cell(value: object, code: str, text: str | None) -> None:
    assert shown(value, code) == text


def test_codes_without_sense_do_no_harm() -> None:
    for code in ("", ";;;", "0" * 5000, '"', "[", "\\", "[<]0", "#,,,,", ".", "%%%", "ggge", "e"):
        for value in (0, -1, 1e300, 1e-300, float("inf"), date(1800, 1, 1), time(1)):
            assert shown(value, code) is None or isinstance(shown(value, code), str)


def test_a_book_as_libreoffice_wrote_it(parse, corpus: Path) -> None:
    document = parse((corpus / "一覧.xlsx").read_bytes(), "一覧.xlsx")
    assert "白樺水産（コメント: 更新は要相談） | 令和6年4月1日 | ￥1,200,000" in document.text
    assert "青嶺化学 | 平成31年4月30日 | ￥85,000" in document.text
    assert document.problems == ("シート「控え」は非表示です (中身は読みました)",)


def test_comments_and_hidden_rows_of_excel(parse) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "率"
    sheet.append(["区分", "率"])
    sheet.append(["特約", 0.125])
    sheet["B2"].number_format = "0.0%"
    sheet["A2"].comment = Comment("部長の承認が要る", "佐藤")
    sheet.row_dimensions[1].hidden = True
    out = io.BytesIO()
    book.save(out)
    document = parse(out.getvalue(), "率.xlsx")
    assert "特約（コメント: 部長の承認が要る） | 12.5%" in document.text
    assert document.problems == ("シート「率」に非表示の行か列があります (中身は読みました)",)


@pytest.mark.parametrize(
    ("font", "fill", "noted"),
    [
        (Font(color="FFFFFFFF"), None, True),
        (Font(color="FFFFFFFF"), PatternFill("solid", fgColor="FF1F3864"), False),
        (Font(color=Color(theme=0)), None, True),
        (Font(size=1), PatternFill("solid", fgColor="FF1F3864"), True),
        (Font(color="FFFF0000"), None, False),
    ],
)
def test_cells_that_nobody_sees_are_noted(parse, font: Font, fill, noted: bool) -> None:
    book = openpyxl.Workbook()
    book.active["A1"] = "宿泊費は一泊一万円まで"
    book.active["A1"].font = font
    if fill:
        book.active["A1"].fill = fill
    out = io.BytesIO()
    book.save(out)
    assert bool(parse(out.getvalue(), "a.xlsx").problems) is noted
