"""Faults of many kinds before `kura work`: nothing is lost, doubled or silent, and all is well again.

`python -m tests.faults.storm --page docs/en/faults.md` runs a thousand and writes what came of them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults import record, storm
from tests.faults.places import PLACES

SAMPLE, ALL = 10, 1000
# what is cut off in the middle leaves sockets and connections to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


QUICK = {"folder", "webdav", "s3", "web"}  # the others wait for minutes until a line is given up
SOME = [k if k in QUICK else pytest.param(k, marks=pytest.mark.long) for k in PLACES]


def test_the_page_adds_up_over_runs(tmp_path: Path) -> None:
    page = tmp_path / "faults.md"
    told = Counter({"共有 1 はいまつながりません。": 1})
    record.add(page, "sftp", 1, 2.5, Counter({("timeout", "told"): 1}), [], told)
    record.add(page, "sftp", 1, 2.4, Counter({("timeout", "silent"): 1}), ["lost\n1", "2"], told)
    record.add(page, "web", 2, 0.1, Counter({("500", "got by"): 1}), [], Counter())
    text = page.read_text("utf-8")
    assert "| sftp | timeout | 2 | 0 | 1 | 0 | 0 | 0 | 1 |" in text
    assert "| **all** |  | **3** | **1** | **1** |" in text
    assert "- 2 × 共有 1 はいまつながりません。\n" in text and "- wrong: lost 1\n- wrong: 2" in text
    assert "| 1 | sftp | 2 | 1 | 4.9 |" in text
    one = record.Record.read(text)
    assert (one.text(), one.done(1, "sftp"), one.done(2, "sftp")) == (text, 2, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOME)
def test_a_sample_of_faults(tmp_path: Path, kind: str) -> None:
    outcome = storm.run(kind, range(SAMPLE), 1, tmp_path)
    assert outcome.wrong == []
    assert sum(outcome.counts.values()) == SAMPLE


@pytest.mark.long
@pytest.mark.parametrize("kind", PLACES)
def test_a_thousand_faults(tmp_path: Path, kind: str) -> None:
    """All kinds together; each of its faults befalls a source more than once."""
    many = -(-ALL // len(PLACES))
    outcome = storm.run(kind, range(many), 2, tmp_path)
    assert outcome.wrong == []
    times = Counter[str]()
    for (fault, _), n in outcome.counts.items():
        times[fault] += n
    assert set(times) == {*PLACES[kind].faults, *storm.OF_KURA}
    assert min(times.values()) > 1
