from __future__ import annotations

import pytest

from appliance.text import contents

COVER = "就業規則\n2025年4月1日\n目次\n"
BODY = "第1条（目的）\nこの規則は、就業に関する事項を定める。"


@pytest.mark.parametrize(
    "lines",
    [
        ["第1章 総則 … 2", "第2章 採用 … 3", "別表第1（第45条関係　書類） … 28"],
        ["1. はじめに..........3", "2. 準備 ........ 12", "2.1 手順・・・・・・１４"],
        ["第一章　総則　　2", "第二章　採用　　3", "第三条（服務）　15"],
    ],
)
def test_entries_are_blanks_and_all_else_stays_where_it_was(lines: list[str]) -> None:
    text = COVER + "\n".join(lines) + "\n" + BODY
    blank = contents.blanked(text)
    assert len(blank) == len(text)
    assert blank.split() == (COVER + BODY).split()
    assert blank.index(BODY) == text.index(BODY)


@pytest.mark.parametrize(
    "text",
    [
        "第1章 総則 … 2\n第2章 採用 … 3",  # two may be anything
        "まあ… 3\n" + BODY,
        "価格は… 100\n円です。\n第1条 この規則は2024年に改めた。\n第2条 3 年\n",
        "品名 | 単価 | 数\nOリング | 120 | 4\nパッキン | 90 | 12\n座金 | 10 | 8",
    ],
)
def test_what_is_no_table_of_contents_is_left(text: str) -> None:
    assert contents.blanked(text) == text
