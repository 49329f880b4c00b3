"""The figures of an evaluation, on cases whose figures can be counted by hand."""

from __future__ import annotations

import math

import pytest

from appliance.evaluation import measures, report
from appliance.evaluation.measures import Said
from appliance.evaluation.sets import Question

ASKED = Question("上限は？", ("a",), ("12,000円", "一万二千円"))
NEVER = Question("社食は？", slice="unanswerable")


def said(question=ASKED, found=("a",), answer="", refused=False, cited=(), supported=0) -> Said:
    return Said(question, found, answer, refused, cited, supported)


def test_ranks_are_of_the_right_document() -> None:
    some = [said(found=("a", "b")), said(found=("b", "a")), said(found=("b",)), said(NEVER)]
    made = measures.figures(some)
    assert made["recall@1"] == pytest.approx(1 / 3, abs=1e-4)
    assert made["recall@10"] == pytest.approx(2 / 3, abs=1e-4)
    assert made["mrr@10"] == pytest.approx(1.5 / 3, abs=1e-4)
    assert made["ndcg@10"] == pytest.approx((1 + 1 / math.log2(3)) / 3, abs=1e-4)
    assert (made["answerable"], made["unanswerable"]) == (3, 1)


@pytest.mark.parametrize(
    ("answer", "exact", "holds"),
    [
        ("「１２０００円」", True, True),
        ("12,000円です", False, True),
        ("一万二千円", True, True),
        ("2,000円", False, False),
        ("112,000円", False, False),
        ("", False, False),
    ],
)
def test_ways_of_writing_do_not_count(answer: str, exact: bool, holds: bool) -> None:
    one = said(answer=answer)
    assert (one.exact, one.holds) == (exact, holds)
    assert one.f1 == (1.0 if exact else pytest.approx(one.f1))
    assert one.f1 < 1 or exact


def test_a_refusal_is_right_or_wrong() -> None:
    some = [said(refused=True), said(answer="12,000円"), said(NEVER, refused=True), said(NEVER)]
    made = measures.figures(some)
    assert (made["refused"], made["refused_wrongly"], made["em"]) == (0.5, 0.5, 0.5)


def test_what_another_document_tells_rightly_need_not_be_refused() -> None:
    kept_away = Question("PKOとは？", slice="unanswerable", withheld=("平和維持活動",))
    refused = said(kept_away, refused=True)
    wrong = said(kept_away, answer="国際連合", cited=(("b", True),), supported=1)
    unsure = said(kept_away, answer="平和維持活動", cited=(("b", False),))
    right = said(kept_away, answer="国連平和維持活動", cited=(("b", True),), supported=1)
    made = measures.figures([refused, wrong, unsure, right])
    assert (made["questions"], made["told_elsewhere"], made["unanswerable"]) == (4, 1, 3)
    assert made["refused"] == pytest.approx(1 / 3, abs=1e-4)
    assert (made["citation_precision"], made["unsupported_shown"]) == (0.0, 1.0)
    alone = measures.figures([refused, wrong, unsure])
    assert made == alone | {"questions": 4, "told_elsewhere": 1}
    told = report.text(made | {"set": "JSQuAD", "worse": []}, None)
    assert "別の文書から正しく答えた質問: 1" in told
    assert "別の文書から" not in report.text(alone | {"set": "JSQuAD", "worse": []}, None)


def test_citations_are_right_or_astray() -> None:
    right = said(answer="12,000円", cited=(("a", True),), supported=1)
    astray = said(answer="20名", cited=(("b", True),), supported=1)
    unsure = said(answer="20名", cited=(("b", False),))
    made = measures.figures([right, astray, unsure])
    assert made["citation_precision"] == 0.5  # what is shown as doubtful claims nothing
    assert made["unsupported_shown"] == 0.5
    assert made["citation_recall"] == pytest.approx(1 / 3, abs=1e-4)


def test_what_was_not_asked_for_has_no_figure() -> None:
    made = measures.figures([said(NEVER, refused=True)])
    assert (made["recall@1"], made["em"], made["refused"]) == (None, None, 1.0)


def test_intervals_hold_the_figure_and_worse_is_outside_of_them() -> None:
    good = [said(answer="12,000円") for _ in range(80)] + [said(answer="x") for _ in range(20)]
    before = measures.figures(good)
    low, high = before["intervals"]["em"]
    assert low < before["em"] < high
    assert before == measures.figures(good), "the seed decides"
    bad = measures.figures([said(answer="x") for _ in range(60)] + good[:40])
    assert measures.worse(bad, before) == ["em", "contains", "f1"]
    assert measures.worse(before, before) == []
    silent = measures.figures([said(refused=True) for _ in range(100)])
    assert "refused_wrongly" in measures.worse(silent, before)
