"""Papers that were written for Kura: what is learned from them is what they say."""

from __future__ import annotations

import itertools
import json
import random
from collections import defaultdict
from pathlib import Path

import pytest

from appliance.training import written
from installer.sample import load

PAPERS = written.read()


def test_each_answer_stands_in_its_paper_and_questions_are_put_once_a_company() -> None:
    assert PAPERS
    for firm in (
        *written.companies(PAPERS, measured=True),
        *written.companies(PAPERS, measured=False),
    ):
        asked = [q for paper in firm for q in (*(one.text for one in paper.asked), *paper.silent)]
        assert len(asked) == len(set(asked)), firm[0].company
        assert all(4 <= len(q) <= 120 for q in asked)


def test_nothing_is_taken_from_the_questions_kura_is_judged_by() -> None:
    lines = (load.HERE / "golden.jsonl").read_text("utf-8").splitlines()
    golden = {json.loads(line)["question"] for line in lines}
    assert golden.isdisjoint(q for p in PAPERS for q in (*(one.text for one in p.asked), *p.silent))
    whole = "".join(p.text for p in PAPERS)
    assert not any(name in whole for name in ("KP-2200", "FS-310", "KG-3390"))


def test_a_paper_whose_answer_is_not_in_it_is_refused(tmp_path: Path) -> None:
    paper = {
        "company": "甲",
        "title": "乙",
        "text": "丙は3日。丁も3日。",
        "no": [],
    }

    def read(**asked: str) -> written.Asked:
        line = json.dumps(paper | {"qa": [{"q": "丁は", **asked}]}, ensure_ascii=False)
        (tmp_path / "a.jsonl").write_text(line, "utf-8")
        return written.read(tmp_path)[0].asked[0]

    for wrong in (
        {"a": "3日"},
        {"a": "4日"},
        {"a": "3日", "in": "3日"},
        {"a": "丙", "in": "丁も3日"},
    ):
        with pytest.raises(ValueError, match="line 1"):
            read(**wrong)
    assert read(a="3日", **{"in": "丁も3日"}).start == str(paper["text"]).rindex("3日")


def test_more_is_asked_of_a_paper_that_stands_before(tmp_path: Path) -> None:
    paper = {"company": "甲", "title": "乙", "text": "丙は3日。"}
    more = {
        "company": "甲",
        "title": "乙",
        "qa": [{"q": "丙は何日？", "a": "3日"}],
        "no": ["丁は？"],
    }
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text(json.dumps(paper | {"qa": [], "no": ["戊は？"]}), "utf-8")
    second.write_text(json.dumps(more), "utf-8")
    (read,) = written.read(tmp_path)
    assert read.asked == (written.Asked("丙は何日？", "3日", 2),)
    assert read.silent == ("戊は？", "丁は？")
    second.write_text(json.dumps(more | {"title": "己"}), "utf-8")
    with pytest.raises(ValueError, match="line 1"):
        written.read(tmp_path)


def test_long_questions_come_as_often_as_is_wanted() -> None:
    def share(wanted: float) -> float:
        made = [*itertools.islice(written.made(PAPERS[:500], random.Random(4), 2, wanted), 300)]
        return sum(len(g.question) >= written.LONG for g in made) / len(made)

    assert share(0.0) < 0.25
    assert 0.7 < share(0.75) < 0.9


def test_groups_hold_the_answer_where_they_say_and_the_measured_companies_are_left_out() -> None:
    papers = PAPERS[:500]
    made = [*itertools.islice(written.made(papers, random.Random(4), 2), 400)]
    assert made == [*itertools.islice(written.made(papers, random.Random(4), 2), 400)]
    answers, learned, aside = defaultdict[str, set[str]](set), set[str](), set[str]()
    for p in papers:
        (aside if written.kept(p.company) else learned).update(one.text for one in p.asked)
        for one in p.asked:  # 「有休は何日?」 is asked in more than one company
            answers[one.text].add(one.answer)
    aside -= learned
    silent = {q for p in papers for q in p.silent}
    assert aside and aside.isdisjoint(g.question for g in made)
    for group in made:
        assert len(set(group.texts)) == len(group.texts) <= 2
        if group.right < 0:
            assert group.question in silent
        else:
            start, end = group.answer
            assert group.texts[group.right][start:end] in answers[group.question]
    assert {-1, 0, 1} == {g.right for g in made}
