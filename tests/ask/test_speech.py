"""What is shown while a model speaks never has to be taken back."""

from __future__ import annotations

import re

import numpy as np
import pytest

from appliance.ask import prompt
from appliance.ask.answer import Speech

SAID = [
    "宿泊費は一泊一万円です[1]。",
    "宿泊費は一泊一万円です。 [1][2] 日当は三千円です［３］。\n",
    "配列[i]と[1, 2]と[9]は[別] である [1",
    "  一万円[2]  \n\n質問: 次の質問\n答え: だめ",
    "一万円[1]<end_of_turn>\nuser",
    "資料番号は7です[1]。",
    "資料には記載がありません。[1] なぜなら",
    "この資料には宿泊費の記載がありません。",
    "資料によると、宿泊費は一泊一万円までである。日当は別に定める[2]。",
    "[1] によると一万円。",
    "",
    " \n ",
]


def say(text, cuts):
    speech = Speech(3)
    shown = []
    for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True):
        shown.append(speech.hear(text[a:b]))
        if speech.over:
            break
    return speech, shown


@pytest.mark.parametrize("text", SAID)
def test_however_the_pieces_are_cut_what_is_shown_is_the_text(text):
    dice = np.random.default_rng(1)
    whole, _ = say(text, [])
    for _ in range(60):
        count = int(dice.integers(0, len(text) + 1))
        cuts = sorted(dice.choice(len(text), count, replace=False).tolist()) if count else []
        speech, shown = say(text, cuts)
        assert (speech.refused, speech.dangling) == (whole.refused, whole.dangling)
        assert speech.text == whole.text or speech.refused
        for n in range(len(shown)):
            assert not re.search(r"\[\d*$", "".join(shown[: n + 1]))
        if not speech.refused:
            assert "".join(shown) + speech.finish() == speech.text
        else:
            assert not any(shown)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (prompt.REFUSAL, True),
        ("資料には記載がありません", True),
        ("資料に宿泊費の記載はありません。", True),
        ("該当する情報は見つかりません。", True),
        ("", True),
        ("[1]", True),
        ("記載がない場合は申請できません[1]。", False),
        ("保証はありません[1]。", False),
        ("一万円[1]", False),
    ],
)
def test_a_refusal_is_heard_as_one(text, refused):
    assert say(text, [])[0].refused is refused


def test_what_follows_the_answer_is_not_shown():
    speech, shown = say("一万円[1]\n資料[2] 別の文書\n二万円", [5, 9, 12])
    assert "".join(shown) + speech.finish() == "一万円[1]"


def test_going_round_in_circles_ends():
    speech = Speech(1)
    for _ in range(100):
        speech.hear("一万円です。")
        if speech.over:
            break
    assert speech.looped
    assert len(speech.heard) < 60
    assert speech.text == "一万円です。"


@pytest.mark.parametrize("row", ["|---|---|---|---|---|---|", "| 可 | ○ | ○ | ○ | ○ | ○ | ○ |"])
def test_the_cells_of_a_row_may_be_the_same_but_not_without_end(row):
    speech = Speech(1)
    for letter in f"|一|二|三|四|五|六|\n{row}\n終わり[1]":
        speech.hear(letter)
    assert not speech.over and speech.text.endswith(f"{row}\n終わり[1]")

    for unit in (row[-4:], f"{row}\n"):
        speech = Speech(1)
        for _ in range(100):
            speech.hear(unit)
        assert speech.looped and len(speech.text) < 100
