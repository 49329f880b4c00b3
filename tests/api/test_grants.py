"""A source that does not say who may read: what it said before holds for a while, then not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from appliance.errors import SourceUnreachable
from appliance.ingest import grants, schedule, tally
from appliance.store import narrow, sources
from appliance.store.tables import now
from appliance.store.timing import Timing
from appliance.system import Appliance
from appliance.testing.fakes import MemoryConnector
from appliance.types import EVERYONE, Access, Change, Cursor, Document, RawFile, Viewer
from connectors.folder import FolderConnector
from tests.api.conftest import HR, PUBLIC, Person

QUESTION = "倉庫の鍵の番号は"
NAME = "倉庫の棚"


@dataclass
class World:
    files: dict[str, str | bytes | tuple[str | bytes, Access]] = field(default_factory=dict)
    away: bool = False
    stumbles: bool = False  # lists, and breaks off in the middle
    opened: list[str] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None  # when content is read


class Nothing(BaseModel):
    """Settings."""


class Given(MemoryConnector):
    """A source whose administrator said who may read."""

    kind: ClassVar[str] = "given"
    Settings: ClassVar[type[BaseModel]] = Nothing
    world: ClassVar[World] = World()

    def __init__(self, settings: BaseModel) -> None:
        super().__init__(Given.world.files)

    def check(self) -> None:
        if Given.world.away:
            raise SourceUnreachable("棚に届きません")

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        for change in super().changes(since):
            yield change
            if Given.world.stumbles:
                raise SourceUnreachable("棚との接続が切れました")


class Shelf(Given):
    """A source that says itself."""

    kind: ClassVar[str] = "shelf"
    grants: ClassVar[bool] = True


class ClosedFolder(FolderConnector):
    closed: ClassVar[bool] = False

    def _walk(self, root: Path) -> Any:
        walk = super()._walk(root)
        if ClosedFolder.closed:
            walk.closed.append("奥/")
            for uri in walk.files:
                if uri.startswith("奥/"):
                    del walk.files[uri]
        return walk


@pytest.fixture
def world() -> World:
    Given.world = World({"鍵.txt": ("倉庫の鍵の番号は四七一一である。", PUBLIC)})
    return Given.world


@pytest.fixture
def look(machine: Appliance, world: World) -> Callable[[], None]:
    """What `kura work` does with a due source."""
    kinds = {"shelf": Shelf, "given": Given, "folder": ClosedFolder}

    def parse(file: RawFile) -> tuple[Document, str]:
        world.opened.append(file.uri)
        world.meanwhile()
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    def look() -> None:
        one = sources.by_name(machine.engine, NAME)
        assert one is not None
        sources.run_now(machine.engine, one.id)
        looked = schedule.look(
            *(machine.engine, "worker", partial(schedule.connector, kinds)),
            *(machine.embedder, parse, machine.settings, threading.Event(), one.kind),
        )
        assert looked
        machine.follower.catch_up()

    return look


def source(machine: Appliance) -> sources.Source:
    one = sources.by_name(machine.engine, NAME)
    assert one is not None
    return one


def folder(machine: Appliance, share: Path) -> sources.Source:
    """Of two files that everyone may read, one of them in a folder of its own."""
    (share / "奥").mkdir(parents=True)
    (share / "鍵.txt").write_text("倉庫の鍵の番号は四七一一である。", "utf-8")
    (share / "奥" / "鍵.txt").write_text("奥の倉庫の鍵の番号は四七一一。", "utf-8")
    settings = {"root": str(share), "allow": ["everyone"]}
    return sources.create(machine.engine, NAME, "folder", settings)


def an_hour_passes(machine: Appliance) -> None:
    """What was said until when is an hour and more ago."""
    one = source(machine)
    if one.access_until:
        sources.hold(machine.engine, one.id, one.access_until - timedelta(hours=1, minutes=2))


def hits(who: Person) -> set[str]:
    found = who.http.post("/api/v1/search", json={"question": QUESTION}).json()["passages"]
    return {p["uri"] for p in found if p["source"] == NAME}


def finds(who: Person) -> set[str]:
    """By every way there is: search, list, the filter's names, an answer."""
    found = hits(who)
    listed = who.http.get("/api/v1/documents").json()["documents"]
    assert found == {d["uri"] for d in listed if d["source"] == NAME and "鍵" in d["uri"]}
    assert (NAME in who.http.get("/api/v1/filters").json()["sources"]) == bool(found)
    assert ("四七一一" in who.ask(QUESTION).text) == bool(found)
    return found


def alarm(admin: Person) -> tuple[bool, list[str], float]:
    """On the source, in the status, in the metrics."""
    (one,) = [
        s for s in admin.http.get("/api/v1/admin/sources").json()["sources"] if s["name"] == NAME
    ]
    assert one["withheld"] == (sources.WITHHELD in (one["problem"] or ""))
    status = admin.http.get("/api/v1/admin/status").json()["withheld_sources"]
    text = admin.http.get("/api/v1/admin/metrics").text
    (gauge,) = (
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name == "kura_source_withheld" and sample.labels["source"] == NAME
    )
    return one["withheld"], status, gauge


def test_a_source_that_is_away_too_long_is_found_by_nobody_until_it_answers(
    machine: Appliance,
    world: World,
    look: Callable[[], None],
    admin: Person,
    ito: Person,
    sato: Person,
) -> None:
    sources.create(machine.engine, NAME, "shelf", {})
    look()
    kept = ito.http.post("/api/v1/search", json={"question": QUESTION}).json()["passages"][0]
    theirs = set(narrow.chunks_of(machine.engine, frozenset({source(machine).id})))
    assert theirs
    address = f"/api/v1/documents/{kept['document_id']}"
    assert finds(ito) == finds(sato) == {"鍵.txt"}
    assert alarm(admin) == (False, [], 0)

    world.away = True
    look()
    assert finds(ito) == {"鍵.txt"}, "it is away since a moment ago"
    an_hour_passes(machine)
    assert finds(ito) == finds(sato) == set()
    viewer = Viewer("ito", frozenset({EVERYONE}))
    ranked = machine.retriever.retrieve(QUESTION, viewer, trace=True).candidates
    assert not {c.chunk_id for c in ranked} & theirs, "nor is it ranked"
    assert ito.http.get(address).status_code == 404
    assert alarm(admin) == (True, [NAME], 1)
    look()
    assert finds(ito) == set(), "asking in vain does not help"

    world.away, world.opened[:] = False, []
    world.files["鍵.txt"] = (world.files["鍵.txt"][0], HR)  # meanwhile it was taken from ito
    world.files["新しい.txt"] = ("新しい棚の説明。", PUBLIC)
    seen: list[set[str]] = []

    def meanwhile() -> None:
        machine.follower.catch_up()
        seen.extend([finds(ito), finds(sato)])

    world.meanwhile = meanwhile
    look()
    assert seen == [set(), {"鍵.txt"}], "back before anything is read, for whom it is now"
    assert world.opened == ["新しい.txt"], "and nothing is read again"
    assert "鍵.txt" in hits(sato) and "鍵.txt" not in hits(ito)
    assert alarm(admin) == (False, [], 0)


def test_who_is_let_in_meanwhile_is_not_let_in_to_what_it_was(
    machine: Appliance, world: World, look: Callable[[], None], ito: Person, sato: Person
) -> None:
    world.files["鍵.txt"] = (world.files["鍵.txt"][0], HR)
    sources.create(machine.engine, NAME, "shelf", {})
    look()
    assert (finds(ito), finds(sato)) == (set(), {"鍵.txt"})
    an_hour_passes(machine)
    world.files["鍵.txt"] = ("倉庫の鍵の番号は、総務に聞く。", PUBLIC)
    seen: list[set[str]] = []

    def meanwhile() -> None:
        machine.follower.catch_up()
        seen.extend([finds(ito), finds(sato)])

    world.meanwhile = meanwhile
    look()
    assert seen == [set(), set()]
    assert hits(ito) == {"鍵.txt"}


def test_one_that_breaks_off_in_the_middle_has_verified_nothing(
    machine: Appliance,
    world: World,
    look: Callable[[], None],
    ito: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tally, "WRITE_S", 0.0)
    monkeypatch.setattr(grants, "RENEWED", 0.0)
    world.files["別.txt"] = ("別の棚。", PUBLIC)
    made = sources.create(machine.engine, NAME, "shelf", {})
    look()
    world.stumbles = True
    almost = now() + timedelta(minutes=5)
    sources.hold(machine.engine, made.id, almost)
    look()
    assert source(machine).access_until == almost
    for _ in range(2):
        look()
        an_hour_passes(machine)
        assert finds(ito) == set()
    look()
    assert finds(ito) == set(), "it began to tell again, and told not all"


def test_a_listing_that_lost_most_of_it_has_verified_nothing(
    machine: Appliance, world: World, look: Callable[[], None], ito: Person
) -> None:
    world.files |= {f"{n}.txt": (f"棚の {n} 段目。", PUBLIC) for n in range(20)}
    sources.create(machine.engine, NAME, "shelf", {})
    look()
    kept = dict(world.files)
    world.files.clear()
    an_hour_passes(machine)
    look()
    assert finds(ito) == set()
    world.files |= kept
    look()
    assert "鍵.txt" in hits(ito)


def test_a_folder_that_does_not_open_keeps_its_rights_for_an_hour_and_harms_no_other(
    machine: Appliance, look: Callable[[], None], tmp_path: Path, ito: Person
) -> None:
    """A real folder; nothing is closed to root, so its listing is told that it is."""
    made = folder(machine, tmp_path / "share")
    look()
    both = {"鍵.txt", "奥/鍵.txt"}
    assert finds(ito) == both
    ClosedFolder.closed = True
    fresh_at = source(machine).fresh_at
    look()
    assert finds(ito) == both
    assert source(machine).fresh_at == fresh_at
    with machine.engine.begin() as connection:  # and an hour later
        connection.exec_driver_sql("UPDATE source SET fresh_at = '2026-01-01 00:00:00.0'")
    look()
    assert finds(ito) == {"鍵.txt"}
    assert source(machine).access_until > now()  # type: ignore[operator]
    an_hour_passes(machine)
    assert finds(ito) == set()
    look()
    assert finds(ito) == {"鍵.txt"}
    ClosedFolder.closed = False
    look()
    assert finds(ito) == both
    (tmp_path / "share").rename(tmp_path / "elsewhere")
    an_hour_passes(machine)
    look()
    assert finds(ito) == set()
    (tmp_path / "elsewhere").rename(tmp_path / "share")
    look()
    assert finds(ito) == both
    assert made.id


def test_where_the_administrator_said_who_may_read_absence_changes_nothing(
    machine: Appliance, world: World, look: Callable[[], None], admin: Person, ito: Person
) -> None:
    sources.create(machine.engine, NAME, "given", {})
    look()
    world.away = True
    look()
    an_hour_passes(machine)
    assert source(machine).access_until is None
    assert finds(ito) == {"鍵.txt"}
    assert alarm(admin) == (False, [], 0)


def test_who_is_shut_out_by_new_settings_is_so_where_nothing_can_be_listed(
    machine: Appliance, look: Callable[[], None], tmp_path: Path, ito: Person, sato: Person
) -> None:
    made = folder(machine, tmp_path / "share")
    look()
    both = {"鍵.txt", "奥/鍵.txt"}
    assert finds(ito) == finds(sato) == both
    ClosedFolder.closed = True
    sources.update(machine.engine, made.id, settings=made.settings | {"allow": ["group:人事部"]})
    look()
    assert (finds(ito), finds(sato)) == (set(), {"鍵.txt"})
    ClosedFolder.closed = False
    look()
    assert (finds(ito), finds(sato)) == (set(), both)


@pytest.mark.parametrize("kind", ["given", "shelf"])
def test_who_was_let_in_by_old_settings_is_so_for_an_hour_where_the_source_is_away(
    machine: Appliance, world: World, look: Callable[[], None], ito: Person, kind: str
) -> None:
    made = sources.create(machine.engine, NAME, kind, {})
    look()
    world.away = True
    sources.update(machine.engine, made.id, settings={"changed": True})
    look()
    assert finds(ito) == {"鍵.txt"}
    an_hour_passes(machine)
    assert finds(ito) == set()
    look()
    assert finds(ito) == set()
    world.away = False
    look()
    assert finds(ito) == {"鍵.txt"}
    assert (source(machine).access_until is None) == (kind == "given")


def test_settings_that_change_during_a_run_are_listed_by_from_the_beginning(
    machine: Appliance, world: World, look: Callable[[], None]
) -> None:
    made = sources.create(machine.engine, NAME, "given", {})

    def meanwhile() -> None:
        sources.update(machine.engine, made.id, settings={"changed": True})

    world.meanwhile = meanwhile
    look()
    leased = sources.lease(machine.engine, "another", 60, "given")
    assert leased and leased.id == made.id and leased.cursor is None


def test_nobody_asks_a_paused_source_so_what_it_said_runs_out(
    machine: Appliance, world: World, look: Callable[[], None], admin: Person, ito: Person
) -> None:
    made = sources.create(machine.engine, NAME, "shelf", {})
    look()
    assert admin.http.post(f"/api/v1/admin/sources/{made.id}/pause").json()["withheld"] is False
    assert finds(ito) == {"鍵.txt"}
    an_hour_passes(machine)
    assert finds(ito) == set()
    assert admin.http.post(f"/api/v1/admin/sources/{made.id}/resume").json()["enabled"] is True
    look()
    assert finds(ito) == {"鍵.txt"}


def test_a_source_that_is_read_at_night_holds_until_after_the_next_night(
    machine: Appliance, world: World, look: Callable[[], None]
) -> None:
    sources.create(machine.engine, NAME, "shelf", {}, Timing(cron="0 3 * * *"))
    look()
    until, due_at = source(machine).access_until, source(machine).due_at
    assert until == due_at + timedelta(hours=1)
    assert now() < due_at <= now() + timedelta(hours=24)


def test_a_run_that_takes_days_does_not_outlast_what_it_tells(
    machine: Appliance, world: World, look: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "WRITE_S", 0.0)
    monkeypatch.setattr(grants, "RENEWED", 0.0)
    made = sources.create(machine.engine, NAME, "shelf", {})
    look()
    world.files |= {f"{n}.txt": (f"棚の {n} 段目。", PUBLIC) for n in range(3)}
    almost = now() + timedelta(seconds=5)
    held: list[bool] = []

    def meanwhile() -> None:
        held.append(source(machine).access_until > now() + timedelta(minutes=50))  # type: ignore[operator]

    sources.hold(machine.engine, made.id, almost)
    world.meanwhile = meanwhile
    look()
    assert held[-1], "it is being read"
