"""kill -9 of `kura work` at every step of a document's way in, and anywhere else."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("victim", Path(__file__).parent / "victim.py")
assert _spec
assert _spec.loader
victim = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(victim)


SAMPLE = ("parsed", "replaced", "cursor saved")
# One of each on SQLite and a sample on PostgreSQL in every run; the rest is long.
LIVES = [
    pytest.param(database, point, nth, id=f"{database}-{point}-{nth}", marks=marks)
    for point in victim.POINTS
    for database, nth, marks in (
        ("sqlite", 1, ()),
        ("sqlite", 2, pytest.mark.long),
        (
            "postgresql",
            1,
            (pytest.mark.postgres, *(() if point in SAMPLE else (pytest.mark.long,))),
        ),
        ("postgresql", 2, (pytest.mark.long, pytest.mark.postgres)),
    )
]


@pytest.mark.parametrize(("database_url", "point", "nth"), LIVES, indirect=["database_url"])
def test_a_worker_killed_at_any_step_loses_nothing(
    site, live, recover, point: str, nth: int
) -> None:
    assert live(site, "never") == "lived"
    site.whole()
    site.change()
    end = live(site, point, nth)
    assert end == "killed" or nth == 2, f"the worker never came to {point!r}"
    site.whole()  # before anybody has repaired anything
    recover(site)
    site.settled()


@pytest.mark.parametrize("point", ["leased", "parsed", "replaced", "cursor saved"])
def test_a_worker_killed_at_the_very_first_file_loses_nothing(
    site, live, recover, point: str
) -> None:
    assert live(site, point) == "killed"
    site.whole()
    recover(site)
    site.change()
    recover(site)
    site.settled()


def test_a_worker_killed_again_and_again_at_random_gets_there(site, live, recover) -> None:
    dice = random.Random()
    moments = [dice.randint(1, 400) for _ in range(12)]
    print("killed after", moments, "ms")  # shown if it fails
    for n, moment in enumerate(moments):
        if n == len(moments) // 2:
            recover(site)
            site.change()
        live(site, "at random", moment)
        site.whole()
    recover(site)
    site.settled()
