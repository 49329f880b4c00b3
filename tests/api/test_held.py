"""A source that seems to lose most of its documents: kept, told of, and removed once that is confirmed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from appliance.ingest import schedule
from appliance.ingest import sync as module
from appliance.operate import rules
from appliance.store import audit, sources
from appliance.system import Appliance
from appliance.types import Document, RawFile
from connectors.folder import FolderConnector
from tests.api.conftest import Person

MANY = 30


def parse(file: RawFile) -> tuple[Document, str]:
    with file.open() as stream:
        return Document(stream.read().decode()), "text/plain"


def fill(share: Path, numbers: range) -> None:
    share.mkdir(exist_ok=True)
    for number in numbers:
        (share / f"規程{number}.txt").write_text(f"第{number}条。", "utf-8")


@pytest.fixture
def share(tmp_path: Path) -> Path:
    fill(tmp_path / "共有", range(MANY))
    return tmp_path / "共有"


@pytest.fixture
def url(admin: Person, share: Path) -> str:
    settings = {"root": str(share), "allow": ["everyone"]}
    body = {"name": "総務", "kind": "folder", "settings": settings}
    made = admin.http.post("/api/v1/admin/sources", json=body)
    assert made.status_code == 201, made.text
    return f"/api/v1/admin/sources/{made.json()['id']}"


@pytest.fixture
def look(machine: Appliance, admin: Person, url: str) -> Callable[[], dict[str, Any]]:
    """What `kura work` does; then what an administrator sees."""

    def look() -> dict[str, Any]:
        one = sources.by_name(machine.engine, "総務")
        assert one
        sources.run_now(machine.engine, one.id)
        connect = partial(schedule.connector, {"folder": FolderConnector})
        schedule.look(
            *(machine.engine, "worker", connect, machine.embedder, parse),
            *(machine.settings, threading.Event(), "folder"),
        )
        return dict(admin.http.get(url).json())

    assert look()["documents"] == MANY
    return look


def alerted(machine: Appliance) -> list[str]:
    return [one.said for one in rules.held(rules.Look(machine.engine, machine.settings))]


@pytest.mark.parametrize("left", [0, 1])
def test_it_is_kept_and_told_until_an_administrator_agrees(
    machine: Appliance, look: Any, share: Path, url: str, admin: Person, ito: Person, left: int
) -> None:
    assert admin.http.post(f"{url}/accept").status_code == 409, "nothing waits"
    shutil.rmtree(share)
    fill(share, range(left))
    for _ in range(5):
        shown = look()
        assert (shown["documents"], shown["held"]["missing"]) == (MANY, MANY - left)
        assert "消えたことを反映" in shown["problem"]
    assert shown["last_run"]["counts"]["held"] == MANY - left
    assert ito.http.post(f"{url}/accept").status_code == 403
    assert admin.http.post(f"{url}/accept").status_code == 202
    shown = look()
    assert (shown["documents"], shown["held"], shown["problem"]) == (left, None, None)
    entry = next(e for e in audit.entries(machine.engine) if e.action == "source.accept")
    assert entry.actor == "user:admin"
    assert (entry.detail["missing"], entry.detail["of"]) == (MANY - left, MANY)


def test_who_agreed_to_a_loss_agreed_to_no_greater_one(
    look: Any, share: Path, url: str, admin: Person
) -> None:
    shutil.rmtree(share)
    fill(share, range(10))
    assert look()["held"]["missing"] == MANY - 10
    assert admin.http.post(f"{url}/accept").status_code == 202
    shutil.rmtree(share)
    share.mkdir()
    shown = look()
    assert (shown["documents"], shown["held"]["missing"]) == (MANY, MANY)
    assert look()["documents"] == MANY, "what was agreed to is over"


def test_two_more_complete_listings_confirm_it_and_one_that_is_whole_ends_the_doubt(
    look: Any, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = share.with_name("よそ")
    share.rename(away)
    share.mkdir()
    assert look()["held"]["confirmed"] == 0
    monkeypatch.setattr(module, "CONFIRM_S", 0.0)
    assert look()["held"]["confirmed"] == 1
    share.rmdir()
    away.rename(share)  # it was not mounted
    shown = look()
    assert (shown["documents"], shown["held"], shown["problem"]) == (MANY, None, None)
    shutil.rmtree(share)
    share.mkdir()
    assert [look()["documents"] for _ in range(3)] == [MANY, MANY, 0]
    assert look()["held"] is None


def test_the_share_is_a_setting(machine: Appliance, look: Any, share: Path) -> None:
    for number in range(10):
        (share / f"規程{number}.txt").unlink()
    object.__setattr__(machine.settings, "removal_percent", 30)
    assert look()["documents"] == MANY
    object.__setattr__(machine.settings, "removal_percent", 50)
    assert look()["documents"] == MANY - 10


def test_an_alert_says_so_until_it_is_over(
    machine: Appliance, look: Any, share: Path, url: str, admin: Person
) -> None:
    shutil.rmtree(share)
    share.mkdir()
    look()
    (said,) = alerted(machine)
    assert "30 件のうち 30 件" in said and "消えたことを反映" in said
    admin.http.post(f"{url}/accept")
    look()
    assert alerted(machine) == []


def test_other_settings_are_another_beginning(
    look: Any, share: Path, url: str, admin: Person
) -> None:
    shutil.rmtree(share)
    share.mkdir()
    assert look()["held"]
    settings = {"root": str(share.parent), "allow": ["everyone"]}
    assert admin.http.patch(url, json={"settings": settings}).json()["held"] is None
