"""Google Drive taken in by the appliance itself: what two people find, and what is not read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.settings import Settings
from appliance.store import sources
from tests.connectors.test_gdrive import DRIVE, LINK, filled, over
from tests.fakes.gdrive import DOC, GDrive, user
from tests.ingest.conftest import Machine


@pytest.fixture
def drive() -> Iterator[GDrive]:
    one = filled()
    yield one
    one.close()


@pytest.fixture
def machine(sqlite_engine: Engine, tmp_path: Path) -> Machine:
    source = sources.create(sqlite_engine, "共有ドライブ", "gdrive", {})
    return Machine(sqlite_engine, source.id, Settings(data=tmp_path))


def test_created_changed_renamed_moved_deleted_revoked(drive: GDrive, machine: Machine) -> None:
    assert machine.sync(over(drive)).counts == {"added": 3}
    assert machine.texts("group:営業部") == {
        "値引きの手順.txt": "八分まで。", "規則/2026 年度": "きそく",
    }  # fmt: skip
    assert machine.texts("user:ito") == {"役員報酬.txt": "秘密。"}
    assert machine.texts("user:sato") == {}
    embedded = machine.embedded

    drive.items["file-tejun"].name = "手順.txt"
    drive.move("file-tejun", "folder-yakuin")
    assert machine.sync(over(drive)).counts["renewed"] >= 1
    assert machine.embedded == embedded, "neither read nor embedded again"
    assert machine.texts("user:ito")["手順.txt"] == "八分まで。"
    assert set(machine.texts("group:営業部")) == {"規則/2026 年度"}

    drive.put("file-tejun", "手順.txt", "folder-yakuin", "一割まで。")
    assert machine.sync(over(drive)).counts == {"updated": 1, "unchanged": 2}
    assert machine.texts("user:ito")["手順.txt"] == "一割まで。"

    drive.items["folder-yakuin"].named = [user("sato@example.co.jp")]
    drive.touch("folder-yakuin")
    assert machine.sync(over(drive)).counts["renewed"] == 2
    assert machine.texts("user:ito") == {}

    drive.delete("file-tejun")
    drive.items["doc-kisoku"].trashed = True
    drive.touch("doc-kisoku")
    assert machine.sync(over(drive)).counts["removed"] == 2
    assert machine.texts("group:営業部") == {}


def test_what_cannot_be_exported_is_a_row_and_hides_no_other(
    drive: GDrive, machine: Machine
) -> None:
    drive.put("doc-big", "大きい", DRIVE, b"x" * 10_000_001, kind=DOC)
    assert machine.sync(over(drive)).counts == {"added": 3, "failed": 1}
    assert "10 MB" in str(machine.problems()[f"{LINK}doc-big"])
