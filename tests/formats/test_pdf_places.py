"""Where the letters of a PDF stand, whatever way its lines run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from appliance.text import where
from appliance.types import Document, Run


def placed(document: Document, words: str) -> Run:
    start = document.text.index(words)
    (run,) = where.touched(document.runs, start, start + len(words))
    return where.cut(run, document.text[run.start : run.end], start, start + len(words))


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("規程.pdf", 1.0),
        ("段組み.pdf", 1.0),
        ("回転.pdf", 1.0),
        ("縦書き.pdf", 0.85),
        ("表.pdf", 0.8),
    ],
)
def test_nearly_every_letter_has_a_place(parse, corpus: Path, name: str, least: float) -> None:
    document = parse((corpus / name).read_bytes(), name)
    has = sum(len("".join(document.text[r.start : r.end].split())) for r in document.runs)
    assert has >= least * len("".join(document.text.split()))
    assert all(a.end <= b.start for a, b in pairwise(document.runs))
    assert where.unpack(where.pack(document.runs)) == list(document.runs)


def test_columns_stand_beside_each_other(parse, corpus: Path) -> None:
    document = parse((corpus / "段組み.pdf").read_bytes(), "段組み.pdf")
    left, right = placed(document, "左の段は"), placed(document, "右の段は")
    assert left.right < right.left and abs(left.top - right.top) < 100


def test_lines_that_run_down(parse, corpus: Path) -> None:
    document = parse((corpus / "縦書き.pdf").read_bytes(), "縦書き.pdf")
    first, then = placed(document, "第一条"), placed(document, "第二条")
    assert (first.way, then.way) == (1, 1)
    assert then.right < first.left and first.bottom - first.top > first.right - first.left


def test_a_page_that_is_turned_is_marked_as_it_is_drawn(parse, corpus: Path) -> None:
    document = parse((corpus / "回転.pdf").read_bytes(), "回転.pdf")
    ways = {run.way for run in document.runs}
    assert ways - {0}, "some lines run down or up on the picture"
    assert all(0 <= r.left < r.right <= where.FULL and r.top < r.bottom for r in document.runs)


def test_cells_of_a_table(parse, corpus: Path) -> None:
    document = parse((corpus / "表.pdf").read_bytes(), "表.pdf")
    kind, post = placed(document, "区分"), placed(document, "役職")
    assert kind.right < post.left and abs(kind.top - post.top) < 50
