"""Places of characters: packed and back, cut to a span, and believed only where they are sound."""

from __future__ import annotations

import pytest

from appliance.text import where
from appliance.types import Run

RUNS = [
    Run(0, 10, 1, 1000, 500, 3000, 650, 0),
    Run(10, 20, 1, 1000, 700, 3000, 850, 0),
    Run(25, 35, 2, 9000, 1000, 9200, 3000, 1),
]


def test_there_and_back() -> None:
    assert where.unpack(where.pack(RUNS)) == RUNS
    assert where.pack([]) is None and where.unpack(None) == []


def test_a_page_of_lines_takes_few_bytes() -> None:
    lines = [
        Run(
            38 * n,
            38 * n + 38,
            1 + n // 40,
            1008,
            900 + 190 * (n % 40),
            8668,
            1056 + 190 * (n % 40),
            0,
        )
        for n in range(4_000)
    ]
    assert len(where.pack(lines) or b"") / 100 < 200


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [(0, 1, [0]), (9, 11, [0, 1]), (20, 25, []), (0, 99, [0, 1, 2]), (34, 35, [2]), (35, 40, [])],
)
def test_runs_of_a_span(start: int, end: int, found: list[int]) -> None:
    assert where.touched(RUNS, start, end) == [RUNS[n] for n in found]


def test_letters_are_placed_by_their_widths() -> None:
    text = "あいうabcdえお"[:9] + "か"
    across = where.cut(RUNS[0], text, 3, 7)  # 「abcd」, half as wide
    total = sum(1 if c.isascii() else 2 for c in text)
    assert (across.left, across.right) == (
        1000 + round(2000 * 6 / total),
        1000 + round(2000 * 10 / total),
    )
    down = where.cut(RUNS[2], "一" * 10, 30, 35)
    assert (down.top, down.bottom, down.left, down.right) == (2000, 3000, 9000, 9200)
    up = where.cut(RUNS[2]._replace(way=3), "一" * 10, 30, 35)
    assert (up.top, up.bottom) == (1000, 2000)


@pytest.mark.parametrize(
    "row",
    [
        [0, 0, 1, 0, 0, 1, 1, 0],
        [0, 5, 0, 0, 0, 1, 1, 0],
        [0, 99, 1, 0, 0, 1, 1, 0],
        [0, 5, 1, 9, 0, 1, 1, 0],
        [0, 5, 1, 0, 0, 10_001, 1, 0],
        [0, 5, 1, 0, 0, 1, 1, 4],
        [0, 5, 1, 0, 0, 1.5, 1, 0],
        [0, 5, 1, 0, 0, 1, 1],
    ],
)
def test_what_a_parser_may_not_say(row: list[int]) -> None:
    with pytest.raises(ValueError, match=r"run|page"):
        list(where.sound([row], 50))
