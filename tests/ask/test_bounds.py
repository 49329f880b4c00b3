"""A number that is asked about, and the bounds within which something holds."""

from __future__ import annotations

import pytest

from appliance.ask import bounds
from appliance.training import written

GIFT = "従業員が結婚したときは、勤続3年未満の者に20,000円、勤続3年以上10年未満の者に30,000円を支給する。"
ALLOWANCE = (
    "片道の距離 | 月額\n2km以上10km未満 | 4,200円\n10km以上 15km未満 | 7,100円\n15km超 | 9,000円"
)
PAID = "承認の日 | 振込\n1日から10日まで | 当月20日\n11日から20日まで | 当月末日\n21日から末日まで | 翌月10日"
LEAVE = "勤続 | 3年未満 | 3年以上\n休職 | 6か月 | 1年"


@pytest.mark.parametrize(
    ("question", "text", "words", "admitted"),
    [
        ("勤続5年の結婚祝金は", GIFT, "20,000円", False),
        ("勤続5年の結婚祝金は", GIFT, "30,000円", True),
        ("勤続12年の結婚祝金は", GIFT, "30,000円", False),
        ("勤続２年半の結婚祝金は", GIFT, "20,000円", True),
        ("結婚祝金はいくら", GIFT, "20,000円", None),
        ("片道１２ｋｍだと手当は", ALLOWANCE, "7,100円", True),
        ("片道12キロだと手当は", ALLOWANCE, "4,200円", False),
        ("片道15kmだと手当は", ALLOWANCE, "9,000円", False),
        ("15日に承認されたらいつ入る", PAID, "当月末日", True),
        ("15日に承認されたらいつ入る", PAID, "当月20日", False),
        ("15日に承認されたらいつ入る", PAID, "翌月10日", False),
        ("勤続5年だと休職は", LEAVE, "1年", True),
        ("勤続5年だと休職は", LEAVE, "6か月", False),
        ("8万円の修理は誰が決める", "5万円までは課長、10万円までは部長が決める。", "部長", True),
        ("8万円の修理は誰が決める", "5万円までは課長、10万円までは部長が決める。", "課長", False),
        ("7千円の会食の承認は", "1人6,000円までは部長の承認、超えるときは局長の承認。", "局長", None),
        ("8,000円の領収書", "1件10,000円を超えるものは部長の承認も必要。", "部長", False),
        ("3年以上だといくら", GIFT, "20,000円", None),  # a bound itself, and no case
        ("2026年の届けは何日前", "14日以上前に届ける。", "14日以上前", None),  # a limit, and no case
        ("2回目の催促はいつ", "1回以上の催促は翌月に行う。", "翌月", None),
        ("", GIFT, "20,000円", None),
    ],
)  # fmt: skip
def test_what_holds_for_the_case(
    question: str, text: str, words: str, admitted: bool | None
) -> None:
    start = text.index(words)
    assert bounds.admitted(question, text, start, start + len(words)) is admitted


def test_answers_hold_for_what_their_questions_count() -> None:
    found = [
        bounds.admitted(one.text, paper.text, one.start, one.end)
        for firm in written.companies(written.read(), measured=False)
        for paper in firm
        for one in paper.asked
    ]
    assert found.count(True) > 400 and found.count(False) < found.count(True) / 40
