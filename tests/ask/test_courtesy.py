from __future__ import annotations

import pytest

from appliance.ask import courtesy
from appliance.training import written


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("ありがとうございました！", "どういたしまして"),
        ("ありがとう", "どういたしまして"),
        ("助かりました。", "どういたしまして"),
        ("Ｔｈａｎｋｓ！", "You're welcome"),
        ("OK, thank you very much!", "You're welcome"),
        ("Got it.", "Ask me"),
        ("Hi there", "Hello"),
        ("What can you do?", "I look for answers"),
        ("了解です", "ほかにも"),
        ("承知しました。", "ほかにも"),
        ("お疲れ様です", "ほかにも"),
        ("こんにちは", "こんにちは"),
        ("おはようございます", "こんにちは"),
        ("よろしくお願いします", "こんにちは"),
        ("あなたは何ができますか", "社内の資料を探し"),
        ("Kuraって何？", "社内の資料を探し"),
        ("あなたは誰ですか？", "社内の資料を探し"),
    ],
)
def test_courtesy_is_answered(said: str, answer: str) -> None:
    assert courtesy.reply(said).startswith(answer)


@pytest.mark.parametrize(
    "said",
    [
        "ありがとうカードの申請は？",
        "こんにちは、宿泊費の上限は？",
        "OKの基準",
        "了解を得るのは誰",
        "蔵は何年に建った？",
        "はい積みの高さ",
        "お疲れ様会はいつ",
        "",
        "thank you letter template",
        "Hello Work registration",
        "Hi, what is the hotel limit?",
        "what can you do with expired parts",
    ],
)
def test_a_question_is_none(said: str) -> None:
    assert courtesy.reply(said) == ""


def test_no_colleagues_question_is_taken_for_courtesy() -> None:
    asked = [q for p in written.read() for q in (*(a.text for a in p.asked), *p.silent)]
    assert [q for q in asked if courtesy.reply(q)] == []
