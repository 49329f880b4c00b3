"""A small model beside a reader: what stands is what both say, or what was read, or nothing."""

from __future__ import annotations

import pytest

from appliance.ask import extract
from appliance.types import Passage, Words


def passage(text: str, *words: tuple[str, float], relevance: float = 0.9) -> Passage:
    found = tuple(Words(100 + text.index(w), 100 + text.index(w) + len(w), s) for w, s in words)
    return Passage(
        1, "d", "社内", "u", "旅費規程", "第3条", text, 100, 100 + len(text),
        relevance=relevance, words=found,
    )  # fmt: skip


RIGHT = passage("宿泊費は一泊12,000円を上限とする。", ("12,000円", 10.0), ("一泊12,000円", 8.0))
WRONG = passage("会議室の定員は20名である。", ("20名", -2.0), relevance=0.1)


@pytest.mark.parametrize(
    ("said", "stands"),
    [
        ("12,000円[2]", "12,000円[2]"),
        ("一泊１２０００円です[2]。", "一泊１２０００円です[2]。"),  # another way to write it
        ("20名[1]", "12,000円[2]"),
        ("", "12,000円[2]"),
        ("[1]", "12,000円[2]"),
    ],
)
def test_what_stands(said: str, stands: str) -> None:
    assert extract.settle(said, [WRONG, RIGHT]) == stands


def test_where_nobody_is_sure_nothing_is_said() -> None:
    assert extract.settle("20名[1]", [WRONG]) == ""
    assert extract.settle("20名[1]", [passage("定員は20名である。")]) == ""


def test_words_that_were_cut_away_are_not_quoted() -> None:
    cut = Passage(
        1, "d", "社内", "u", "t", "", "宿泊費は", 100, 104, relevance=0.9, words=RIGHT.words
    )  # fmt: skip
    assert extract.extracts([cut]) == []
    assert [str(e) for e in extract.extracts([cut, RIGHT])] == ["12,000円[2]", "一泊12,000円[2]"]
