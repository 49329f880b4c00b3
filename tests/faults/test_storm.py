"""Faults of many kinds before `kura work`: nothing is lost, doubled or silent, and all is well again.

`python -m tests.faults.storm` runs a thousand and writes what came of them to docs/en/faults.md.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults import storm
from tests.faults.places import PLACES

SAMPLE, ALL = 10, 1000
# what is cut off in the middle leaves sockets and connections to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


QUICK = {"folder", "webdav", "s3", "web"}  # the others wait for minutes until a line is given up
SOME = [k if k in QUICK else pytest.param(k, marks=pytest.mark.long) for k in PLACES]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOME)
def test_a_sample_of_faults(tmp_path: Path, kind: str) -> None:
    outcome = storm.run(kind, SAMPLE, 1, tmp_path)
    assert outcome.wrong == []
    assert sum(outcome.counts.values()) == SAMPLE


@pytest.mark.long
@pytest.mark.parametrize("kind", PLACES)
def test_a_thousand_faults(tmp_path: Path, kind: str) -> None:
    """All kinds together; each of its faults befalls a source more than once."""
    many = -(-ALL // len(PLACES))
    outcome = storm.run(kind, many, 2, tmp_path)
    assert outcome.wrong == []
    times = Counter[str]()
    for (fault, _), n in outcome.counts.items():
        times[fault] += n
    assert set(times) == {*PLACES[kind].faults, *storm.OF_KURA}
    assert min(times.values()) > 1
