"""Excel 97 workbooks, written record by record ([MS-XLS]): what cells show beside their values."""

from __future__ import annotations

import struct

import pytest

from appliance.errors import TooLarge, Unreadable
from appliance.formats.draft import UNSEEN
from tests.formats.compounds import compound

_BOOK, _SHEET = 5, 16


def record(kind: int, data: bytes = b"") -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def begin(what: int) -> bytes:
    return record(0x0809, struct.pack("<HHHHII", 0x0600, what, 0, 1996, 0, 6))


END = record(0x000A)


def font(twips: int = 220, colour: int = 0x7FFF) -> bytes:
    return record(0x0031, struct.pack("<HHHHHBBBBBB", twips, 0, colour, 400, 0, 0, 0, 0, 0, 1, 0) + b"A")  # fmt: skip


def form(number: int, code: str) -> bytes:
    return record(0x041E, struct.pack("<HHB", number, len(code), 1) + code.encode("utf-16-le"))


def style(font: int = 0, number: int = 0, *, ground: int = 0) -> bytes:
    return record(0x00E0, struct.pack("<HHHBBBBIIH", font, number, 0, 0, 0, 0, 0, 0, ground << 26, 0))  # fmt: skip


def number(row: int, column: int, value: float, style: int = 0) -> bytes:
    return record(0x0203, struct.pack("<HHHd", row, column, style, value))


def note(row: int, column: int, of: int) -> bytes:
    return record(0x001C, struct.pack("<HHHHHBB", row, column, 0, of, 0, 0, 0))


def drawn(what: int, of: int, text: str) -> bytes:
    """An object with text in it."""
    letters = b"\x01" + text.encode("utf-16-le")
    return (
        record(0x005D, struct.pack("<HHHHH", 0x15, 0x12, what, of, 0) + bytes(12))
        + record(0x01B6, struct.pack("<HH6xHHI", 0, 0, len(text), 16, 0))
        + record(0x003C, letters)
    )


def workbook(
    cells: bytes, looks: bytes = font() + style(), *, state: int = 0, name: str = "表"
) -> bytes:
    said = struct.pack("<BB", len(name), 1) + name.encode("utf-16-le")
    head = begin(_BOOK) + looks
    size = len(head) + 4 + 6 + len(said) + len(END)
    sheet = record(0x0085, struct.pack("<IBB", size, state, 0) + said)
    return compound({"Workbook": (head + sheet + END + begin(_SHEET) + cells + END).ljust(5_000, b"\0")})  # fmt: skip


@pytest.mark.parametrize(
    ("code", "value", "shown"),
    [
        ("#,##0", 1_234_567.0, "1,234,567"),
        ("0.0%", 0.979, "97.9%"),
        ('#,##0"円"', 48_000.0, "48,000円"),
        ("#,##0;[Red]△#,##0", -2_670.0, "△2,670"),
        ('[$-411]ggge"年"m"月"d"日"', 45_383.0, "令和6年4月1日"),
        ("000-0000", 3_920_001.0, "392-0001"),
    ],
)
def test_a_number_as_its_cell_shows_it(parse, code: str, value: float, shown: str) -> None:
    looks = font() + form(164, code) + style() + style(number=164)
    assert parse(workbook(number(0, 0, value, 1), looks), "台帳.xls").text.endswith(f"\n{shown}")


def test_numbers_that_a_row_keeps_together_are_shown_so_too(parse) -> None:
    numbers = [(1, 12_000), (0, 7), (1, 9_800)]  # style, value
    cells = b"".join(struct.pack("<Hi", s, value << 2 | 2) for s, value in numbers)
    row = record(0x00BD, struct.pack("<HH", 0, 0) + cells + struct.pack("<H", 2))
    text = parse(workbook(row, font() + style() + style(number=3)), "料金.xls").text
    assert text.endswith("12,000 | 7 | 9,800")


def test_comments_boxes_and_what_is_hidden(parse) -> None:
    cells = (
        record(0x0208, struct.pack("<HHHHHHHH", 0, 0, 1, 255, 0, 0, 0x20, 0))
        + number(0, 0, 12_000)
        + drawn(0x19, 1, "税込です")
        + drawn(0x06, 2, "社外秘")
        + note(0, 0, 1)
    )
    document = parse(workbook(cells, state=1), "料金.xls")
    assert "12000（コメント: 税込です）" in document.text
    assert document.text.endswith("社外秘")
    assert document.problems == (
        "シート「表」は非表示です (中身は読みました)",
        "シート「表」に非表示の行か列があります (中身は読みました)",
    )


@pytest.mark.parametrize(
    ("of", "ground", "noted"),
    [(font(colour=9), 0, True), (font(colour=9), 1, False), (font(twips=20), 1, True)],
)
def test_cells_that_nobody_sees_are_noted(parse, of: bytes, ground: int, noted: bool) -> None:
    looks = of + style(ground=ground)
    cells = b"".join(number(n, 0, 123_456_789_012) for n in range(3))
    assert (f"シート「表」: {UNSEEN}" in parse(workbook(cells, looks), "a.xls").problems) is noted


def test_two_cells_in_far_corners_are_refused_before_all_between_is_unfolded(parse) -> None:
    with pytest.raises(TooLarge, match="表が大きすぎます"):
        parse(workbook(number(0, 0, 1) + number(65_535, 255, 2)), "角.xls")


@pytest.mark.parametrize(
    "extent",
    [(0, 1 << 25, 0, 5), (1 << 25, 8, 0, 5), (0, 65_536, 0, 65_535), (0, 1 << 29, 8224, 8224)],
)
def test_a_sheet_that_says_it_is_larger_than_any_is_refused(
    parse, extent: tuple[int, int, int, int]
) -> None:
    cells = record(0x0200, struct.pack("<IIHHH", *extent, 0)) + number(0, 0, 1)
    with pytest.raises(TooLarge, match="表が大きすぎます"):
        parse(workbook(cells), "広さ.xls")


@pytest.mark.parametrize("extent", [(0, 65_536, 0, 256), (0, 0, 0, 0), (5, 0, 5, 0)])
def test_a_sheet_that_says_it_is_as_large_as_one_may_be_is_read(
    parse, extent: tuple[int, int, int, int]
) -> None:
    cells = record(0x0200, struct.pack("<IIHHH", *extent, 0)) + number(0, 0, 12_000)
    assert parse(workbook(cells), "広さ.xls").text.endswith("12000")


@pytest.mark.parametrize("kind", [0x0208, 0x007D, 0x005D, 0x01B6, 0x001C])
def test_a_look_cut_short_costs_no_value(parse, kind: int) -> None:
    cells = number(0, 0, 12_000, 1) + record(kind, b"\1") + number(1, 0, 9_800, 1)
    looks = font() + style() + style(number=3)
    assert parse(workbook(cells, looks), "a.xls").text.endswith("12,000\n9,800")


@pytest.mark.parametrize("torn", [record(0x0203, b"\0\0"), record(0x00BD, b"\0\0\0")])
def test_a_cell_cut_short_is_a_reason(parse, torn: bytes) -> None:
    with pytest.raises(Unreadable, match="表計算ファイルとして読めません"):
        parse(workbook(number(0, 0, 12_000) + torn), "a.xls")
