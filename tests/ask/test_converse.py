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
        (HOTEL, "日当は？", "出張の日当はいくらですか？"),
        ("出張の宿泊費の上限は？", "じゃあ日当は？", "出張の日当の上限は？"),
        ("社員証の再発行手数料っていくら", "ストラップ代は？", "社員証のストラップ代っていくら"),
        ("有給休暇は何日ですか", "日当は？", "日当の場合、有給休暇は何日ですか"),
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


# Who asked what, one after the other; what is searched for where it is not what was asked.
TALKS = (
    (
        ("出張の宿泊費の上限はいくらですか", ""),
        ("部長だと？", "部長の場合、出張の宿泊費の上限はいくらですか"),
        ("海外は？", "海外の場合、出張の宿泊費の上限はいくらですか"),
        ("それを超えたらどうなりますか", "出張の宿泊費の上限を超えたらどうなりますか"),
        ("誰の承認が要る？", "出張の宿泊費の上限は誰の承認が要る？"),
        ("その他の費用が出る条件を教えて", "出張の宿泊費について、その他の費用が出る条件を教えて"),
    ),
    (
        ("有給休暇は何日もらえますか", ""),
        ("半日でも取れる？", "有給休暇について、半日でも取れる？"),
        ("申請はどこから？", "有給休暇の申請はどこから？"),
        ("社員食堂はどこにありますか", ""),
        ("土日もやってる？", "社員食堂について、土日もやってる？"),
    ),
    (
        ("VPNがつながらないときはどうすればいいですか", ""),
        ("それでもダメなら？", "VPNについて、それでもダメなら？"),
        ("連絡先は？", "VPNの連絡先は？"),
    ),
    (
        ("KP-2200の吐出量は？", ""),
        ("KP-3300は？", "KP-3300の吐出量は？"),
        ("重さは？", "KP-3300の重さは？"),
        ("じゃあ値段は？", "KP-3300の値段は？"),
        ("ＦＳ３１０の重さは？", ""),
    ),
    (
        ("稟議の決裁者は誰ですか", ""),
        ("100万円を超える場合は？", "100万円を超える場合、稟議の決裁者は誰ですか"),
        ("500万だと？", "500万を超える場合、稟議の決裁者は誰ですか"),
        ("期限はありますか", "稟議の期限はありますか"),
    ),
    (
        ("社員証をなくしました。どうすればいいですか", ""),
        ("費用はかかりますか", "社員証をなくしました。費用はかかりますか"),
        ("いくら？", "社員証をなくしました。いくら？"),
    ),
    (
        ("2024年度の売上は？", ""),
        ("2023年度は？", "2023年度の売上は？"),
        ("その内訳を教えて", "2023年度の売上の内訳を教えて"),
        ("前年比は？", "2023年度の売上の前年比は？"),
    ),
    (
        ("就業規則の第12条を教えて", ""),
        ("第13条は？", "就業規則の第13条を教えて"),
        ("それはいつ改定された？", "就業規則の第13条はいつ改定された？"),
    ),
    (
        ("在宅勤務の申請方法は？", ""),
        ("上長の承認は要りますか？", "在宅勤務について、上長の承認は要りますか？"),
        ("手当は出ますか", "在宅勤務の手当は出ますか"),
        ("いくら", "在宅勤務の手当はいくら"),
        ("他に注意点は？", "在宅勤務の注意点は？"),
    ),
    (
        ("安否確認の訓練はいつですか", ""),
        ("去年は？", "去年の安否確認の訓練はいつですか"),
        ("ありがとうございます", ""),
        ("一昨年は？", "一昨年の安否確認の訓練はいつですか"),
    ),
)


@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk[0][0])
def test_a_conversation_is_followed(talk):
    history = []
    for question, alone in talk:
        assert standalone(question, history) == (alone or question)
        history.append(Turn(question, "一万円です[1]。"))


@pytest.mark.parametrize(
    "question",
    [
        "有給休暇は何日ですか？",
        "それぞれの部署の窓口はどこですか",
        "パスワードの有効期限は何日ですか",
        "いつ賞与が出ますか",
        "4月22日の労災、どこの派遣先?",
        "よその誤り率はいくつ？",
        "KM-400Qの循環フィルタは？",
        "週3日で働く再雇用の区分の名前は?",
        "退会したらポイントは?",
        "バイパスって何分まで?",
        "結露が起きたときは？その手順書はどこ",
        "ありがとうございました。",
        "育休中も給料は出ますか",
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


@pytest.mark.parametrize(
    "what", [r"\1", r"\g<0>1", "(1", "[1", "？", "の", "1" * 5000, "価" * 5000]
)
@pytest.mark.parametrize("before", ["ア1の価は？", "？", "課長の日当は？", "価" * 5000])
def test_whatever_is_typed_is_searched_for(before, what):
    for question in (what, f"{what}は？", f"それは{what}"):
        alone = standalone(question, [Turn(before, "")])
        assert alone and len(alone) <= max(400, len(question))


def test_without_history_nothing_changes():
    assert standalone("じゃあ部長は？", []) == "じゃあ部長は？"


def test_no_history_makes_it_longer_than_a_question():
    assert len(standalone("それは？", [Turn("あ" * 5000, "")])) <= 400
