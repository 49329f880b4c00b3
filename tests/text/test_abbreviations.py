"""What colleagues cut short is told from what documents write out."""

from __future__ import annotations

import time

import pytest

from appliance.text import abbreviations

PAPERS = [
    "年末調整書類の提出について\n扶養控除等申告書と年末調整の書類は11月14日までに。",
    "品質保証部の受付\n不良の連絡は品質保証部が受ける。",
    "安全衛生委員会議事録\n委員は各部から一名。",
    "情報システム課の窓口は内線4300。情報システムの障害は課長へ。",
    "パワーハラスメント防止規程\n相談窓口を置く。",
    "社員食堂の献立は金曜に掲示する。",
    "設計レビューの記録。設計変更は変更管理表に書く。",
]


def meant(asked: str, papers: list[str]) -> tuple[tuple[str, str], ...]:
    return abbreviations.written_out(abbreviations.short(asked), papers)


@pytest.mark.parametrize(
    ("asked", "pair"),
    [
        ("今年の年調の書類はいつまで", ("年調", "年末調整")),
        ("品証にはいつ伝える？", ("品証", "品質保証")),
        ("品証部の内線", ("品証部", "品質保証部")),
        ("安衛委って誰が出るの", ("安衛委", "安全衛生委員")),
        ("情シスの内線は", ("情シス", "情報システム")),
        ("パワハラの相談先", ("パワハラ", "パワーハラスメント")),
        ("ﾊﾟﾜﾊﾗの相談先", ("パワハラ", "パワーハラスメント")),
        ("社食のメニュー", ("社食", "社員食堂")),
        ("設変の書き方", ("設変", "設計変更")),
        ("設レビの記録", ("設レビ", "設計レビュー")),
    ],
)
def test_what_is_cut_short_is_written_out(asked: str, pair: tuple[str, str]) -> None:
    assert meant(asked, PAPERS) == (pair,)


@pytest.mark.parametrize(
    "asked",
    [
        "年末調整はいつまで",  # nothing is cut
        "委員は誰",  # stands in the papers as it is
        "品質の記録",
        "年度末の調整",  # two words of the question, none of them cut
        "証品について",  # the other way round
        "年調べの結果",  # a word that goes on
        "KP-2200の保証",
        "システムの障害",
        "",
    ],
)
def test_what_is_not_cut_short_is_left_alone(asked: str) -> None:
    assert meant(asked, PAPERS) == ()


def test_what_the_papers_write_more_often_than_its_long_form_is_a_word() -> None:
    papers = ["国会の日程", "国会は開かれている", "国際会議の案内"]
    assert meant("国会はいつから", papers) == ()
    assert meant("国会はいつから", papers[2:]) == (("国会", "国際会議"),)


def test_of_several_long_forms_the_one_in_most_papers_is_meant() -> None:
    papers = ["年間調査", "年末調整の案内", "年末調整の書類"]
    assert meant("年調は", papers) == (("年調", "年末調整"),)


def test_long_papers_of_kanji_take_no_time() -> None:
    papers = ["年末書類提出期限調査報告" * 5_000, "あ年" * 50_000]
    began = time.process_time()
    meant("年調と品証と安衛委と社食と設変", papers * 10)
    assert time.process_time() - began < 2


def test_the_rest_of_a_question_stays_as_it_was() -> None:
    pairs = (("年調", "年末調整"), ("パワハラ", "パワーハラスメント"))
    asked = "年調 ＫＰ－２２００ ﾊﾟﾜﾊﾗ 年調書 年調？"
    wanted = "年末調整 ＫＰ－２２００ パワーハラスメント 年調書 年末調整？"
    assert abbreviations.replaced(asked, pairs) == wanted
