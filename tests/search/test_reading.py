"""A passage is read again in its own words, and that counts where both readings point at the same place."""

from __future__ import annotations

from appliance.search import reading
from appliance.testing.fakes import OverlapReader
from appliance.types import Passage

LOST = "社員証を紛失したときは、総務部に届け出る。再発行の手数料は1,500円とする。"


def shown(text: str) -> Passage:
    return Passage(1, "d", "", "d", "文書管理規程", "", text, 0, len(text), relevance=None)


def read(question: str, *texts: str) -> tuple[list[Passage], list[Passage], OverlapReader]:
    reader = OverlapReader()
    before = reading.read(reader, question, [shown(t) for t in texts])
    return before, reading.as_written(reader, question, before), reader


def test_what_the_passage_calls_otherwise_makes_it_surer() -> None:
    question = "社員証をなくしたとき"
    (before,), (after,), reader = read(question, LOST)
    assert (after.relevance or 0) > (before.relevance or 0)
    assert after.words[0].start == before.words[0].start
    assert [asked for asked, _ in reader.asked] == [question, "社員証を紛失したとき"]


def test_a_passage_that_says_it_so_is_read_once() -> None:
    before, after, reader = read("社員証をなくしたとき", "社員証をなくしたら紛失届を出す。")
    assert after == before
    assert len(reader.asked) == 1


def test_each_passage_is_asked_in_its_own_words() -> None:
    _, _, reader = read("辞めるとき", "退職するときは届け出る。", "取締役を辞任するとき。")
    assert [asked for asked, _ in reader.asked[1:]] == ["退職するとき", "辞任するとき"]
