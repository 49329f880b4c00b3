"""Tables in a text are found as the parsers write them."""

from __future__ import annotations

import pytest

from appliance.formats import draft
from appliance.text import grids


def seen(text: str) -> list[tuple[tuple[str, ...], list[list[tuple[str, str]]]]]:
    return [
        (g.columns, [[(c.column, text[c.start : c.end]) for c in row] for row in g.rows])
        for g in grids.find(text)
    ]


def test_a_table_between_other_lines_names_its_columns() -> None:
    text = "次の表による。\n区分 | 日帰り | 宿泊（1日につき）\n役員 | 2,000円 | 4,000円\n社員 | 1,200円 | 2,500円\n2　ただし"
    names = ("区分", "日帰り", "宿泊（1日につき）")
    rows = [("役員", "2,000円", "4,000円"), ("社員", "1,200円", "2,500円")]
    assert seen(text) == [(names, [list(zip(names, row, strict=True)) for row in rows])]


def test_columns_may_be_figures_of_another_kind_than_what_is_below() -> None:
    assert seen("機種 | 1年 | 2年\nA | 900円 | 800円")[0][0] == ("機種", "1年", "2年")
    assert seen("A | 900円 | 800円\nB | 700円 | 600円")[0][0] == ()


def test_rows_that_name_their_columns_may_leave_some_out() -> None:
    text = "品番 | 単価 | 備考\n品番: A-1 | 単価: 20円 | 備考: 廃番\n品番: A-2 | 備考: 長さ: 3m"
    ((columns, rows),) = seen(text)
    assert columns == ("品番", "単価", "備考")
    assert rows[1] == [("品番", "A-2"), ("備考", "長さ: 3m")]
    assert seen("品番: A-1 | 単価: 20円")[0][1] == [[("品番", "A-1"), ("単価", "20円")]]


def test_a_short_row_lacks_its_last_cells_or_it_is_not_known_which() -> None:
    text = "月 | 日数 | 備考\n4月 | 20 | 創立の日\n5月 | 19\n棚卸し | 休み"
    rows = seen(text)[0][1]
    assert rows[1] == [("月", "5月"), ("日数", "19")]
    assert rows[2] == [("", "棚卸し"), ("", "休み")]


@pytest.mark.parametrize(
    "text", ["", "\n\n", "一行の文", "a|b\nc|d", " | \n | ", "| |", "a | \n | b"]
)
def test_what_is_no_table_or_an_empty_one_is_taken_as_it_is(text: str) -> None:
    for grid in grids.find(text):
        for n, row in enumerate(grid.rows):
            for m, cell in enumerate(row):
                assert 0 <= cell.start <= cell.end <= len(text)
                if cell.start < cell.end:
                    assert grid.place(cell.start) == (n, m)


def test_it_reads_what_the_parsers_write() -> None:
    rows = [["番号", "品目", "場所"], *([f"A-{n}", "測定器", f"第{n}倉庫"] for n in range(40))]
    for some in (rows[:4], rows):  # a long one names its columns in each row
        text = "\n".join(draft.table_lines(some))
        ((columns, found),) = seen(text)
        assert columns == tuple(rows[0])
        assert found == [list(zip(rows[0], row, strict=True)) for row in some[1:]]
