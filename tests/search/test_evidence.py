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
    ],
)
def test_nouns_tell_however_they_are_written(question: str, words: set[str]) -> None:
    assert evidence.telling(question) >= words
    assert not {"止まる", "とれる"} & evidence.telling(question)
