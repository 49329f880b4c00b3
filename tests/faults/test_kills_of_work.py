"""The real `kura work` killed a few times over a small mixed folder; the bench does it at length."""

from __future__ import annotations

from pathlib import Path

from tests.bench import kills


def test_a_mixed_folder_is_taken_in_once_however_often_the_worker_dies(tmp_path: Path) -> None:
    outcome = kills.run(tmp_path, files=60, kills=5, seed=1)
    assert outcome.wrong == []
    assert outcome.kills == {"process": 3, "child": 2}
    assert outcome.lives == 4
    assert (
        outcome.ready + outcome.failed == 60 + 8 * 3 + 7
    )  # eight zips with three each, seven mails with one
