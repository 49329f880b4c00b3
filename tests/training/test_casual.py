"""Questions put as people put them ask the same."""

from __future__ import annotations

import random

import pytest

from appliance.training.casual import casual


def every(question: str) -> set[str]:
    return {casual(question, random.Random(seed)) for seed in range(200)}


@pytest.mark.parametrize(
    ("asked", "put"),
    [
        ("書類はいつまでに出しますか", "書類はいつまでに出すの？"),
        ("書類はどこに提出しますか？", "書類はどこに提出するんだっけ"),
        ("ラックの質量は何ですか。", "ラックの質量って何だっけ"),
        ("課長の日当はいくらですか？", "課長の日当っていくら？"),
        ("何か月ごとに変えますか？", "何か月ごとに変えるの"),
    ],
)
def test_endings_become_those_of_speech(asked: str, put: str) -> None:
    assert put in every(asked)


def test_what_is_asked_about_stays() -> None:
    for put in every("KP-2200の外径はいくらですか"):
        narrow = put.translate({c + 0xFEE0: c for c in range(0x21, 0x7F)})
        assert "KP2200の外径" in narrow.replace("-", "")


def test_the_same_dice_put_it_the_same_way() -> None:
    first, second = (casual("予算はいくらですか", random.Random(7)) for _ in range(2))
    assert first == second


def test_things_are_called_what_people_call_them() -> None:
    made = every("一般社員の宿泊費の上限はいくらですか")
    assert any("ヒラの宿泊費" in put for put in made)
    assert any("一般社員のホテル代" in put for put in made)
    assert any("一般社員の宿泊費" in put for put in made)
