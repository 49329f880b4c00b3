from __future__ import annotations

import pytest

from appliance.text import articles


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("p. 4 · 第12条 個人情報の取扱い", {"第12条"}),
        ("第十二条の二（届出）", {"第12条の2"}),
        ("別表第１と別表2", {"別表1", "別表2"}),
        ("様式第3号（第37条関係）", {"様式3", "第37条"}),
        ("第12章 災害補償", set()),
        ("12条件", set()),
    ],
)
def test_they_are_named_in_one_way(text: str, named: set[str]) -> None:
    assert articles.named(text) == named


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("就業規則の第12条を教えて", "第12条"),
        ("就業規則第十二条には何が書いてありますか？", "第12条"),
        ("旅費規程 第３条", "第3条"),
        ("別表第1を見せてください", "別表1"),
        ("第12条の2の内容は？", "第12条の2"),
        ("第12条では何日前までに届けますか", None),
        ("第12条はいつ改定されましたか", None),
        ("副業の届けはいつまで", None),
    ],
)
def test_one_is_asked_for_as_it_stands(question: str, asked: str | None) -> None:
    assert articles.asked_whole(question) == asked


BODY = "第1章　総則\n第一条（目的）\n第2条に定める。\n第2条の2　（準用）\n第2条を準用する。\n附則\nこの規則は"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("第1条", "第一条（目的）\n第2条に定める。\n"),
        ("第2条の2", "第2条の2　（準用）\n第2条を準用する。\n"),
        ("第2条", None),
        ("別表1", None),
    ],
)
def test_where_one_stands_in_a_text(name: str, text: str | None) -> None:
    found = articles.place(BODY, name)
    assert (BODY[slice(*found)] if found else None) == text
