"""What of a question asks."""

from __future__ import annotations

import pytest

from appliance.text import asking


@pytest.mark.parametrize(
    ("question", "core"),
    [
        ("更新審査はいつから？会議と重ならないか見たい", "更新審査はいつから？"),
        ("来月入社予定の者です。住所はどこから登録しますか。", "住所はどこから登録しますか。"),
        (
            "お疲れ様です。\n総務の鈴木です。\n車の予約は何時までですか",
            "総務の鈴木です。\n車の予約は何時までですか",
        ),
        ("すみません！VPNの番号教えて。今日中にほしい。", "VPNの番号教えて。"),
        ("海水を流せますか。お客様から質問を受けています。", "海水を流せますか。"),
        # what stands before says what it is about
        ("社員証をなくした。いくらかかる？", ""),
        ("先方の専務が来る会食です。いくらまで使えますか。", ""),
        ("ウイルスかも。どうする？電源落とす？", ""),
        ("日当はいくらですか", ""),
        ("日当 一般社員", ""),
        ("", ""),
        ("。", ""),
    ],
)
def test_the_part_that_asks(question: str, core: str) -> None:
    assert asking.core(question) == core
