"""Part numbers and document numbers: which text speaks of another one."""

from __future__ import annotations

import pytest

from appliance.text import codes
from appliance.training import written


@pytest.mark.parametrize(
    ("question", "text", "another"),
    [
        ("CAR-2025-009の責任部門は", "是正処置報告書 CAR-2025-007\n責任部門 | 購買課", True),
        ("CAR-2025-007の責任部門は", "是正処置報告書 CAR-2025-007\n責任部門 | 購買課", False),
        ("ＣＡＲ2025-007の責任部門は", "是正処置報告書 CAR-2025-007", False),
        ("KP2200の流量", "KP-2200-A の流量は 80 L/min", False),  # its family
        ("KP-2200-Cの流量", "KP-2200 の流量は 80 L/min", False),
        ("E-1は何", "E-12 は断線", True),  # too short to be a family
        ("MC-03の点検", "MC-01 | 2月\nMC-02 | 3月", True),
        ("MC-03の点検", "旋盤は2月", False),  # it names none: another way to say it, perhaps
        ("TOEIC700点の手当", "700点以上は6,000円", False),
        ("点検はいつ", "MC-01 | 2月", False),
        ("R7の予算は", "R6.4.1 から。令和7年度の予算は3億円", False),  # a year
        ("KP-2200とKP-1500の違い", "KP-2200 は 80 L/min", True),
    ],
)
def test_who_asks_for_a_code_is_not_told_of_another(
    question: str, text: str, another: bool
) -> None:
    assert codes.of_another(question, text) is another


def test_where_a_code_is_asked_for_the_papers_that_answer_have_it() -> None:
    asked = silent = lost = stopped = 0
    for firm in written.companies(written.read(), measured=False):
        for paper in firm:
            text = f"{paper.title}\n{paper.text}"
            for one in filter(codes.named, (q.text for q in paper.asked)):
                asked, lost = asked + 1, lost + codes.of_another(one, text)
            for one in filter(codes.named, paper.silent):
                silent, stopped = silent + 1, stopped + codes.of_another(one, text)
    assert lost < asked / 200 and stopped > silent / 5
