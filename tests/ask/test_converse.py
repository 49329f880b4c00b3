"""Follow-ups take over what the question before was about; complete questions stay."""

from __future__ import annotations

import pytest

from appliance.ask.converse import standalone
from appliance.types import Turn

HOTEL = "出張の宿泊費はいくらですか？"


@pytest.mark.parametrize(
    ("before", "question", "alone"),
    [
        (HOTEL, "じゃあ部長は？", "部長の場合、出張の宿泊費はいくらですか？"),
        ("課長の出張の日当はいくらですか", "じゃあ部長は？", "部長の出張の日当はいくらですか"),
        ("KP-2200の使用温度範囲は？", "KP-3300は？", "KP-3300の使用温度範囲は？"),
        (HOTEL, "海外の場合は？", "海外の場合、出張の宿泊費はいくらですか？"),
        (HOTEL, "その申請期限は？", "出張の宿泊費の申請期限は？"),
        (HOTEL, "それはいつまでに精算しますか？", "出張の宿泊費はいつまでに精算しますか？"),
        (HOTEL, "理由は？", "出張の宿泊費の理由は？"),
        (HOTEL, "いつまでですか？", "出張の宿泊費はいつまでですか？"),
        (
            "育児休業は何歳まで取れますか",
            "誰に申請すればいいですか？",
            "育児休業は誰に申請すればいいですか？",
        ),
        (HOTEL, "もっと詳しく教えて", "出張の宿泊費について、もっと詳しく教えて"),
    ],
)
def test_a_follow_up_stands_alone(before, question, alone):
    assert standalone(question, [Turn(before, "一万円です[1]。")]) == alone


@pytest.mark.parametrize(
    "question",
    [
        "有給休暇は何日ですか？",
        "それぞれの部署の窓口はどこですか",
        "その他の費用が出る条件を教えてください",
        "パスワードの有効期限は何日ですか",
        "いつ賞与が出ますか",
    ],
)
def test_a_complete_question_stays(question):
    assert standalone(question, [Turn(HOTEL, "")]) == question


def test_the_topic_is_remembered_over_turns_and_answers_are_never_read():
    history = [Turn(HOTEL, "それは秘密のプロジェクトです"), Turn("じゃあ部長は？", "役員報酬です")]
    alone = standalone("いつまでに精算しますか？", history)
    assert "宿泊費" in alone
    assert "秘密" not in alone
    assert "役員報酬" not in alone


def test_without_history_nothing_changes():
    assert standalone("じゃあ部長は？", []) == "じゃあ部長は？"


def test_no_history_makes_it_longer_than_a_question():
    assert len(standalone("それは？", [Turn("あ" * 5000, "")])) <= 400
