"""Fail at statement 1, then 2, then 3 … until nothing fails; each time, run again and compare."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pysqlite3
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from appliance import worker
from appliance.settings import Settings
from appliance.store import database, sources
from appliance.system import Workshop
from appliance.testing.fakes import HashEmbedder
from connectors.folder import FolderConnector
from tests import whole
from tests.faults.victim import Reader


class PowerCut(BaseException):
    """Nothing catches it."""


def full(statement: str) -> Exception:
    return OperationalError(statement, {}, pysqlite3.OperationalError("database or disk is full"))


def work(site, engine: Engine) -> bool:
    workshop = Workshop(
        Settings(data=site.folder), engine, HashEmbedder(), {"folder": FolderConnector}
    )
    return worker.once(workshop, Reader().parse, threading.Event())


def failing(url: str, nth: int, error: Callable[[str], BaseException]) -> tuple[Engine, list[str]]:
    """An engine whose nth statement of this thread fails; and where it failed."""
    engine, calls, failed = database.connect(url), count(1), list[str]()
    me = threading.get_ident()

    @event.listens_for(engine, "before_cursor_execute")
    def fail(_c: object, _k: object, statement: str, *_: object) -> None:
        if threading.get_ident() == me and next(calls) == nth:
            failed.append(statement)
            raise error(statement)

    return engine, failed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "step"),
    [
        pytest.param(PowerCut, 17, id="power, some"),
        pytest.param(PowerCut, 1, id="power", marks=pytest.mark.long),
        pytest.param(full, 1, id="disk", marks=pytest.mark.long),
    ],
)
def test_any_failed_statement_is_repaired_by_running_again(
    new_site,
    sqlite_template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[str], BaseException],
    step: int,
) -> None:
    monkeypatch.setattr(worker, "AWAY_S", 0.0)
    for nth in count(1, step):
        folder = tmp_path / str(nth)
        folder.mkdir()
        shutil.copy(sqlite_template, folder / "kura.db")
        engine = database.connect(f"sqlite:///{folder / 'kura.db'}")
        site = new_site(engine, folder)
        assert work(site, engine)
        whole.follow(site.engine, site.index)
        site.change()
        broken, failed = failing(site.url, nth, error)
        try:
            work(site, broken)
        except PowerCut:
            pass
        finally:
            broken.dispose()
        site.whole()
        with engine.begin() as connection:  # the lease of who is dead runs out
            connection.execute(text("UPDATE source SET lease_until = NULL"))
        sources.run_now(engine, sources.all(engine)[0].id)
        assert work(site, engine), f"nobody could take over after statement {nth}: {failed}"
        site.settled()
        engine.dispose()
        shutil.rmtree(folder)
        if not failed:
            assert nth > 50
            return
