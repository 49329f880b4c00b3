from __future__ import annotations

import pytest

from appliance.text import everyday
from appliance.text.synonyms import expand


def wide(question: str, common: int = 0) -> str:
    return expand(question, everyday.groups(question, lambda word: common, 100))


@pytest.mark.parametrize(
    ("asked", "searched"),
    [
        ("ボーナスはいつ出る？", "ボーナス（賞与）はいつ出る？"),
        ("残業の上限は", "残業（時間外労働、時間外勤務）の上限は"),
        ("残業代の計算", "残業代（時間外勤務手当、割増賃金）の計算"),
        ("ﾊﾟｿｺﾝを借りたい", "ﾊﾟｿｺﾝ（PC）を借りたい"),
        ("ＣｈａｔＧＰＴに入力していい？", "ＣｈａｔＧＰＴ（生成AI）に入力していい？"),
        ("有給は何日", "有給（年次有給休暇）は何日"),
        ("有給休暇は何日", "有給休暇は何日"),
        ("賞与はいつ", "賞与はいつ"),
        ("ボーナス（賞与）はいつ", "ボーナス（賞与）はいつ"),
        ("KPCの値", "KPCの値"),
    ],
)
def test_what_people_say_is_put_beside_what_papers_call_it(asked: str, searched: str) -> None:
    assert wide(asked) == searched


def test_what_the_documents_say_too_is_left_alone() -> None:
    assert wide("ボーナスはいつ出る？", common=100) == "ボーナスはいつ出る？"
