"""Which words of a question say what it is about."""

from __future__ import annotations

import pytest

from appliance.search import evidence


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("忌引は何日とれますか", {"忌引き", "日"}),
        ("お申込みの受付はいつまで？", {"申し込み", "受け付け"}),
        ("見積書の控えはどこに置くの", {"見積もり", "書", "控え"}),
        ("KP-2200が止まったら何をすればいいですか", {"kp", "2200"}),
        ("どうすればいいですか", set()),
        ("What is the limit for hotels?", {"リミット", "hotels"}),
    ],
)
def test_nouns_tell_however_they_are_written(question: str, words: set[str]) -> None:
    assert evidence.telling(question) >= words
    assert not {"止まる", "とれる"} & evidence.telling(question)


def test_of_english_what_holds_it_together_tells_nothing() -> None:
    """Among Japanese papers "for" is as rare as a name."""
    asked = "Why does the error E-309 come up on a VPN?"
    assert evidence.telling(asked) == {"エラー", "e", "309", "come", "vpn"}
