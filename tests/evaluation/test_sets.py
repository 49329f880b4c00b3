"""Sets of questions as people write them, and as data sets have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.errors import BadRequest
from appliance.evaluation import scratch, sets


def write(folder: Path, text: str) -> Path:
    path = folder / "質問.jsonl"
    path.write_text(text, "utf-8")
    return path


def test_a_sites_own_questions(tmp_path: Path) -> None:
    rows = [
        {"question": "上限は？", "documents": ["総務/旅費規程.pdf"], "answers": ["12,000円"]},
        {"question": "社食は？", "unanswerable": True, "documents": ["x"]},
        {
            "question": "期限は？",
            "uri": "a.md",
            "answer": "3日",
            "accept": ["三日"],
            "kind": "急ぎ",
        },
    ]
    text = "\ufeff" + "\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n\n"
    found = sets.read(write(tmp_path, text))
    first, second, third = found.questions
    assert (first.documents, first.slice, first.unanswerable) == (
        ("総務/旅費規程.pdf",), "answerable", False,
    )  # fmt: skip
    assert (second.unanswerable, second.slice) == (True, "unanswerable")
    assert (third.documents, third.answers, third.slice) == (("a.md",), ("3日", "三日"), "急ぎ")
    assert not found.paragraphs


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"question": "a"}\n{"q": 1}', "2 行目の question"),
        ('{"question": ""}', "1 行目の question"),
        ("なにか", "1 行目の 形"),
        ("", "質問がありません"),
        ('{"data": [{"title": "a"}]}', "SQuAD"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        sets.read(write(tmp_path, text))


def test_a_missing_file_and_one_of_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="無い"):
        sets.read(tmp_path / "無い.jsonl")
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"question": "上限は？"}'.encode("cp932"))
    with pytest.raises(BadRequest, match="UTF-8"):
        sets.read(path)


def squad(folder: Path, count: int = 40) -> sets.Set:
    paragraphs = [
        {
            "context": f"蔵{n} [SEP] 蔵{n}は{1700 + n}年に建った。",
            "qas": [{"question": f"蔵{n}はいつ？", "answers": [{"text": f"{1700 + n}年"}]}],
        }
        for n in range(count)
    ]
    data = {"data": [{"title": "蔵", "paragraphs": paragraphs}]}
    return sets.read(write(folder, json.dumps(data, ensure_ascii=False)))


def test_a_data_sets_paragraphs_become_documents(tmp_path: Path) -> None:
    found = squad(tmp_path)
    assert found.paragraphs[3] == sets.Paragraph("00003", "蔵3", "蔵3は1703年に建った。")
    assert found.questions[3] == sets.Question("蔵3はいつ？", ("00003",), ("1703年",))


def test_some_are_drawn_and_a_part_of_them_may_not_be_answered(tmp_path: Path) -> None:
    found = squad(tmp_path)
    some = scratch.drawn(found, 30, 1)
    assert some == scratch.drawn(found, 30, 1) != scratch.drawn(found, 30, 2)
    hidden = [q for q in some if q.unanswerable]
    assert len(some) == 30
    assert 2 < len(hidden) < 15
    assert all(f"蔵{int(q.viewer)}は" in q.text for q in hidden)
    assert all(q.withheld == (f"{1700 + int(q.viewer)}年",) for q in hidden)
