"""「1級 50,000円、2級は20,000円」: whose a place is, is told by the ordinal before it."""

from __future__ import annotations

import pytest

from appliance.ask import ordinals
from appliance.training import written


@pytest.mark.parametrize(
    ("question", "text", "words", "other"),
    [
        ("2級はいくら？", "1級 50,000円、2級は20,000円", "50,000円", True),
        ("2級はいくら？", "1級 50,000円、2級は20,000円", "20,000円", False),
        ("２号機が止まったのはいつ", "1号機は3月、2号機は5月に止まった。", "3月", True),
        ("二号機が止まったのはいつ", "1号機は3月、2号機は5月に止まった。", "5月", False),
        ("2級線の検測は年に何回", "1級線 年4回、2級線 年2回、3級線 年1回", "2級線 年2回", False),
        ("1級の割引は", "手帳1級又は2級の方は半額とする。", "半額", False),
        ("3級の割引は", "手帳1級又は2級の方は半額とする。", "半額", True),
        ("3回目の受験料は", "1回目は会社、2回目から3,300円。", "3,300円", False),
        ("3回目の受験料は", "1回目は会社、2回目から3,300円。", "会社", True),
        ("8級は何時に集合？", "ピアノ 10〜7級 | 9:30", "9:30", False),
        ("2号機の代わりに何号機で刷った？", "2号機を止め、3号機で刷った。", "3号機", False),
        ("2級はいくら？", "1級の話。\n受験料 5,000円", "5,000円", False),  # another line
        ("受験料はいくら？", "1級 50,000円", "50,000円", False),
    ],
)
def test_whose_it_is(question: str, text: str, words: str, other: bool) -> None:
    start = text.index(words)
    assert ordinals.of_another(question, text, start, start + len(words)) is other


def test_answers_of_colleagues_questions_are_of_the_ordinal_that_is_asked_for() -> None:
    found = lost = stopped = 0
    for firm in written.companies(written.read(), measured=False):
        for paper in firm:
            for one in paper.asked:
                found += 1
                lost += ordinals.of_another(one.text, paper.text, one.start, one.end)
                stopped += sum(
                    ordinals.of_another(one.text, paper.text, other.start, other.end)
                    for other in paper.asked[:2]
                )
    assert lost < found / 10_000
    assert stopped > 80
