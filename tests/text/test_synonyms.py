"""A question is widened by the company's own words, and stays the question it was."""

from __future__ import annotations

import random

import pytest

from appliance.text import synonyms
from appliance.text.normalize import fold

GROUPS = [
    ["就規", "就業規則"],
    ["ＰＯ", "発注書", "購買依頼"],
    ["規則", "ルール"],
    ["髙島屋", "タカシマヤ"],
]


@pytest.mark.parametrize(
    ("asked", "wider"),
    [
        ("就規の改定日は？", "就規（就業規則）の改定日は？"),
        ("就業規則はどこ", "就業規則（就規）はどこ"),  # the longest; 「規則」 begins inside it
        ("poの締めは", "po（発注書、購買依頼）の締めは"),
        ("POSレジとSPOC", "POSレジとSPOC"),
        ("POと発注書の違い", "PO（購買依頼）と発注書の違い"),
        ("高島屋への納品", "高島屋（タカシマヤ）への納品"),
        ("宿泊費の上限", "宿泊費の上限"),
        ("", ""),
    ],
)
def test_what_means_the_same_stands_beside_it(asked: str, wider: str) -> None:
    assert synonyms.expand(asked, GROUPS) == wider


def test_a_question_grows_by_a_few_words_only() -> None:
    many = [[f"語{n}番", *[f"語{n}番の別名{m}" for m in range(5)]] for n in range(40)]
    asked = "".join(f"語{n}番と" for n in range(40))
    assert synonyms.expand(asked, many).count("別名") == synonyms.ADDED


def test_nothing_of_the_question_is_lost() -> None:
    dice = random.Random(3)
    signs = "就規則ＰＯpo髙(（、ー a"

    def some(most: int) -> str:
        return "".join(dice.choices(signs, k=dice.randrange(most)))

    for _ in range(2000):
        asked = some(20)
        groups = [[some(4) for _ in range(dice.randrange(4))] for _ in range(3)]
        rest = iter(synonyms.expand(asked, groups))
        assert all(char in rest for char in asked)  # in order


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        ([["就規", "就業規則"]], None),
        ([], None),
        ([["就規", "就業規則"], ["ひとつ"]], None),
        ([["就規", "就業規則"], []], 2),
        ([["就規", ""]], 1),
        ([["就規", " "]], 1),
        ([["PO", "ｐｏ"]], 1),
        ([["a", "b" * 101]], 1),
        ([[f"語{n}" for n in range(21)]], 1),
    ],
)
def test_a_list_that_cannot_be_kept_names_its_line(
    groups: list[list[str]], line: int | None
) -> None:
    found = synonyms.problem(groups)
    assert (found[0] if found else None) == line


def test_the_words_of_the_company_that_a_question_says() -> None:
    groups = [["みなとパック"], ["パック"], *GROUPS]
    assert synonyms.own("みなとパックのＰＯはどこ", groups) == ("po", "みなとパック")
    assert synonyms.own("POSとパック", groups) == ("パック",)
    assert synonyms.own("宿泊費の上限", groups) == synonyms.own("", groups) == ()


def test_folded_forms_are_one_word() -> None:
    assert fold("ＰＯ") == fold("po")
