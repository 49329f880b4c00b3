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
# what papers call it, and what people call it
_WORDS = (
    ("一般社員", ("平社員", "ヒラ", "普通の社員")),
    ("宿泊費", ("ホテル代", "泊まり代", "宿代")),
    ("宿泊料", ("ホテル代", "泊まるお金")),
    ("通勤手当", ("通勤のお金", "交通費")),
    ("提出", ("出すの", "提出")),
    ("期限", ("締め切り", "〆切", "リミット")),
    ("金額", ("値段", "お金")),
    ("予算", ("使えるお金", "予算")),
    ("損害額", ("損した額", "被害")),
    ("単価", ("値段", "1個の値段")),
    ("納期", ("届くまでの日数", "納期")),
    ("電話番号", ("電話", "TEL", "番号")),
    ("担当者", ("担当", "やってる人", "担当の人")),
    ("パスワード", ("パス", "PW", "パスワード")),
    ("表示された", ("出た", "出ちゃった", "出てる")),
    ("発生", ("起きた", "発生")),
    ("停止", ("止める", "ストップ")),
    ("会議", ("打ち合わせ", "ミーティング")),
    ("申請", ("申し込み", "申請")),
    ("休暇", ("休み", "お休み")),
    ("届け出先", ("届けるところ", "出す先")),
    ("保存期間", ("取っておく期間", "とっておく年数")),
    ("消費電力", ("電気の食い方", "ワット数")),
    ("質量", ("重さ", "重量")),
    ("電源", ("電圧", "電源")),
    ("定期点検", ("点検", "メンテ")),
    ("決裁", ("判子", "OKを出すの")),
    ("頻度", ("間隔", "どれくらいおき")),
)
_SWAPPED = 0.5  # of the questions that hold such a word
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
    if (
        held := [(w, others) for w, others in _WORDS if w in question]
    ) and dice.random() < _SWAPPED:
        word, others = dice.choice(held)
        question = question.replace(word, dice.choice(others), 1)
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
