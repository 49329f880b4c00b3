"""What is a copy, and what only looks like one."""

import pytest

from appliance.text.copies import alike

NOTICE = "駐車場の利用について。来客用の駐車場は正門の左にあり、3台まで停められます。受付で許可証を受け取り、前面に置いてください。"


@pytest.mark.parametrize(
    "other",
    [
        NOTICE.replace("。", "。\n"),
        NOTICE.replace("3台", "３台"),
        "　" + NOTICE.replace("、", ", "),
        NOTICE + "\n",
    ],
)
def test_layout_makes_no_difference(other: str) -> None:
    assert alike(NOTICE, other)


@pytest.mark.parametrize(
    "other",
    [
        NOTICE.replace("3台", "5台"),  # a new rule
        NOTICE.replace("左", "右"),
        NOTICE.replace("正門", "西門"),
        NOTICE + "夜間は閉まります。",
        "駐車場の料金について。",
    ],
)
def test_another_number_or_word_is_another_text(other: str) -> None:
    assert not alike(NOTICE, other)


def test_nothing_is_like_nothing() -> None:
    assert alike("", "。")
    assert not alike("", NOTICE)
