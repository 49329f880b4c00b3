from __future__ import annotations

import pytest

from appliance.text import everyday

PAPERS = [
    "賃金規程\n賞与は7月10日に支給する。時間外労働には割増賃金を払う。",
    "就業規則\n時間外勤務は所属長が命ずる。時間外勤務の単位は1分とする。",
    "時間外勤務の申請",
    "情報セキュリティ規程\n生成ＡＩには入力しない。スマートフォンは貸与する。",
]


def asked(question: str, papers: list[str] = PAPERS) -> str:
    return everyday.replaced(question, everyday.instead(everyday.said(question), papers))


@pytest.mark.parametrize(
    ("said", "searched"),
    [
        ("ボーナスはいつ出る？", "賞与はいつ出る？"),
        ("残業の上限は", "時間外勤務の上限は"),  # as more of them call it
        ("残業代の計算", "割増賃金の計算"),
        ("ｽﾏﾎを借りたい", "スマートフォンを借りたい"),
        ("ＣｈａｔＧＰＴとスマホの規程", "生成AIとスマートフォンの規程"),
        ("ボーナスと残業", "賞与と時間外勤務"),
        ("夏休みはいつ", "夏休みはいつ"),  # none of the papers calls it anything
        ("ボーナス月はいつ", "ボーナス月はいつ"),
        ("賞与はいつ", "賞与はいつ"),
    ],
)
def test_what_people_say_is_asked_for_as_papers_call_it(said: str, searched: str) -> None:
    assert asked(said) == searched


@pytest.mark.parametrize(
    ("said", "paper"),
    [("ボーナスはいつ", "ボーナスの支給日"), ("残業の単位", "残業の単位は1分")],
)
def test_what_the_papers_say_too_is_left_alone(said: str, paper: str) -> None:
    assert asked(said, [*PAPERS, paper]) == said


def test_a_word_within_another_is_another() -> None:
    assert everyday.said("ボーナス月はいつ") == everyday.said("KPCの値") == ()


VERBS = ["就業規則\n退職しようとする者は、休暇取得の届出をする。社員証を紛失した者"]


@pytest.mark.parametrize(
    ("said", "searched"),
    [
        ("来月辞めたい", "来月退職したい"),
        ("辞めるには", "退職するには"),
        ("辞めて", "退職して"),
        ("辞めれば", "退職すれば"),
        ("社員証なくしちゃった", "社員証紛失しちゃった"),
        ("休みを取りたい", "休暇取得したい"),
        ("休み取ってる", "休暇取得してる"),
        ("先に休んでいい？", "先に休暇取得していい？"),
    ],
)
def test_a_verb_gives_way_to_a_noun_with_its_ending(said: str, searched: str) -> None:
    assert asked(said, VERBS) == searched
