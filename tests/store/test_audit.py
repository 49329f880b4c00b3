"""The audit chain, written by many at once and read by somebody who doubts it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from sqlalchemy import Engine, text

from appliance.store import audit

WRITER = """
import sys
from appliance.store import audit, database
engine = database.connect(sys.argv[1])
for n in range(20):
    audit.record(engine, sys.argv[2], "ask", {"n": n})
"""


def test_many_threads_and_processes_write_one_chain(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, f"process{n}"]) for n in range(2)
    ]

    def write(name: str) -> None:
        for n in range(20):
            audit.record(engine, name, "ask", {"n": n})

    threads = [threading.Thread(target=write, args=(f"thread{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert audit.verify(engine) is None
    assert audit.head(engine)[0] == 120
    seen: dict[str, list[int]] = {}
    for record in reversed(audit.entries(engine, limit=1000)):
        seen.setdefault(record.actor, []).append(record.detail["n"])
    assert seen == {name: list(range(20)) for name in seen}
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("damage", "first_bad"),
    [
        ("UPDATE audit SET detail = '{}' WHERE sequence = 3", 3),
        ("UPDATE audit SET actor = 'mallory' WHERE sequence = 1", 1),
        ("UPDATE audit SET at = '2020-01-01T00:00:00+00:00' WHERE sequence = 4", 4),
        ("UPDATE audit SET action = 'look' WHERE sequence = 2", 2),
        ("UPDATE audit SET previous = digest WHERE sequence = 3", 3),
        ("UPDATE audit SET digest = previous WHERE sequence = 5", 5),
        ("DELETE FROM audit WHERE sequence = 2", 2),
        ("DELETE FROM audit WHERE sequence = 1", 1),
        ("UPDATE audit SET sequence = CASE sequence WHEN 2 THEN 99 ELSE sequence END", 2),
    ],
)
def test_the_first_damaged_row_is_named(engine: Engine, damage: str, first_bad: int) -> None:
    for n in range(5):
        audit.record(engine, "ito", "ask", {"n": n})
    assert audit.verify(engine) is None
    with engine.begin() as connection:
        connection.execute(text(damage))
    assert audit.verify(engine) == first_bad


def test_a_head_noted_elsewhere_shows_a_chain_that_was_cut_or_replaced(engine: Engine) -> None:
    for n in range(5):
        audit.record(engine, "ito", "ask", {"n": n})
    known = audit.head(engine)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM audit WHERE sequence > 3"))
    assert audit.verify(engine) is None
    assert audit.verify(engine, known) == 4
    for n in range(5):
        audit.record(engine, "ito", "ask", {"n": n})
    assert audit.verify(engine) is None
    assert audit.verify(engine, known) == 5


def test_what_is_recorded_is_short_and_one_line_and_comes_back(engine: Engine) -> None:
    detail = {"q": "改行\n\x1b[31m\0" + "長" * 5000, "ids": {"b", "a"}, "n": 1, "none": None}
    sequence = audit.record(engine, "ito", "ask", detail)
    (record,) = audit.entries(engine)
    assert record.sequence == sequence
    assert len(record.detail["q"]) == audit.LONGEST_VALUE + 1
    assert record.detail["ids"] == ["a", "b"]
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT detail FROM audit")).scalar_one()
    assert not {"\n", "\x1b", "\0"} & set(kept)
    assert audit.verify(engine) is None


def test_entries_are_found_by_actor_and_action_and_page(engine: Engine) -> None:
    for n in range(6):
        audit.record(engine, "ito" if n % 2 else "sato", "ask" if n < 4 else "export", {"n": n})
    assert [r.detail["n"] for r in audit.entries(engine, actor="ito")] == [5, 3, 1]
    assert [r.detail["n"] for r in audit.entries(engine, action="export")] == [5, 4]
    newest = audit.entries(engine, limit=2)
    assert [r.detail["n"] for r in audit.entries(engine, before=newest[-1].sequence, limit=2)] == [
        3,
        2,
    ]
