"""Questions as people at work put them: to a colleague, in a hurry, on a phone.

Data sets ask 「…は何ですか」; people ask 「…って何だっけ？」. What is asked stays the same: only the
words around it, the ending and the width of letters change.
"""

from __future__ import annotations

import random
import re

_ENDINGS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(f"{pattern}[?？。]*$"), endings)
    for pattern, endings in (
        (
            "は(?:何|なん)(?:ですか|でしょうか|か)",
            ("って何？", "って何だっけ", "は何なの", "って何でしたっけ"),
        ),
        (
            "はいくらですか",
            ("っていくら？", "っていくらだっけ？", "はいくらになるの", "ていくらですかね"),
        ),
        ("はいつですか", ("っていつ？", "っていつでしたっけ", "はいつだっけ", "はいつ頃？")),
        ("は(?:誰|だれ)ですか", ("って誰？", "は誰だっけ", "って誰でしたっけ？")),
        ("は(?:どこ|何処)ですか", ("ってどこ？", "はどこだっけ", "ってどこでしたっけ")),
        ("か", ("か教えて", "か知りたいです")),
        ("でしたか", ("だったっけ？", "だったの？", "だったか教えて")),
        ("でしょうか", ("ですか", "なの？", "だっけ？")),
        ("ですか", ("なの？", "だっけ？", "でしたっけ", "なんですか？", "？")),
        ("は", ("は？", "って？", "教えて", "を教えてください")),
    )
)
_POLITE = re.compile(r"([一-龯ァ-ヶー]*)([ぁ-ん])ますか[?？。]*$")
_ROWS = str.maketrans("いきしちにみりぎび", "うくすつぬむるぐぶ")
_LOOSE = ("の？", "んだっけ", "の", "んですか？", "んでしたっけ")
_OPENINGS = (
    "すみません、",
    "ちょっと教えて。",
    "教えてください。",
    "あの、",
    "質問です。",
    "急ぎで。",
    "確認ですが、",
    "お客さんに聞かれたんだけど、",
)
_WIDE = {c: c + 0xFEE0 for c in range(0x21, 0x7F)}


def casual(question: str, dice: random.Random) -> str:
    """The same question, less tidy."""
    if (found := _POLITE.search(question)) and dice.random() < 0.7:
        question = question[: found.start()] + _dictionary(*found.groups()) + dice.choice(_LOOSE)
        return _dressed(question, dice)
    fitting = [(p, e) for p, e in _ENDINGS if p.search(question)]
    if fitting:
        pattern, endings = dice.choice(fitting)
        question = pattern.sub(dice.choice(endings), question)
    return _dressed(question, dice)


def _dressed(question: str, dice: random.Random) -> str:
    if dice.random() < 0.25:
        question = dice.choice(_OPENINGS) + question
    if dice.random() < 0.1:
        question = question.translate(_WIDE)
    if dice.random() < 0.1:
        question = question.replace("-", "")
    return question


def _dictionary(before: str, kana: str) -> str:
    """A verb before ます as the dictionary has it: 提出し → 提出する, 出し → 出す, 変え → 変える."""
    if kana == "し" and len(before) != 1:
        return f"{before}する"
    if kana in "えけせてねめれげべ" or (kana == "き" and not before):
        return f"{before}{kana}る"
    return f"{before}{kana.translate(_ROWS)}"
