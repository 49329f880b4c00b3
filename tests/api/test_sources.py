"""When a source is read and what became of its documents, as an administrator sees and sets it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from appliance.api.hidden import HIDDEN
from appliance.store import audit, runs, sources
from appliance.store.runs import Outcome
from appliance.store.tables import now
from appliance.system import Appliance
from tests.api.conftest import Person

NIGHTLY = {
    "interval_s": None,
    "cron": "0 3 * * *",
    "quiet": {"start": "08:30", "end": "18:00", "days": [0, 1, 2, 3, 4]},
    "bytes_per_s": 1_000_000,
}


@pytest.fixture
def url(machine: Appliance, admin: Person) -> str:
    settings = {"root": str(machine.settings.data / "share"), "allow": ["everyone"]}
    body = {"name": "総務", "kind": "folder", "settings": settings, "timing": NIGHTLY}
    made = admin.http.post("/api/v1/admin/sources", json=body)
    assert made.status_code == 201, made.text
    return f"/api/v1/admin/sources/{made.json()['id']}"


def test_a_timing_is_kept_and_changed_as_a_whole(url: str, admin: Person) -> None:
    assert admin.http.get(url).json()["timing"] == NIGHTLY
    assert admin.http.patch(url, json={"name": "総務部"}).json()["timing"] == NIGHTLY
    changed = admin.http.patch(url, json={"timing": {"interval_s": 600}}).json()["timing"]
    assert changed == {"interval_s": 600, "cron": None, "quiet": None, "bytes_per_s": None}


@pytest.mark.parametrize(
    "timing",
    [
        {"cron": "毎日"},
        {"cron": "0 3 * * *", "interval_s": 60},
        {"quiet": {"start": "09:00", "end": "09:00", "days": [0]}},
        {"quiet": {"start": "9時", "end": "10時", "days": [0]}},
        {"quiet": {"start": "09:00", "end": "10:00", "days": []}},
        {"bytes_per_s": 1},
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    url: str, admin: Person, timing: dict[str, Any]
) -> None:
    refused = admin.http.patch(url, json={"timing": timing})
    assert refused.status_code in (400, 422), refused.text
    assert refused.json()["detail"]
    assert admin.http.get(url).json()["timing"] == NIGHTLY


def test_pausing_resuming_and_comparing_anew_are_recorded(
    machine: Appliance, url: str, admin: Person, ito: Person
) -> None:
    for act in ("pause", "resume", "resync"):
        assert ito.http.post(f"{url}/{act}").status_code == 403
    assert admin.http.post(f"{url}/pause").json()["enabled"] is False
    assert admin.http.post(f"{url}/resume").json()["enabled"] is True
    assert admin.http.post(f"{url}/resync").status_code == 202
    found = audit.entries(machine.engine, actor="user:admin", limit=100)
    done = [r.action for r in found if not r.action.startswith("admin.")][:3]
    assert done == ["source.resync", "source.resume", "source.pause"]


def test_uploads_are_not_paused(machine: Appliance, admin: Person) -> None:
    uploads = next(s for s in sources.all(machine.engine) if s.kind == "uploads")
    assert admin.http.post(f"/api/v1/admin/sources/{uploads.id}/pause").status_code == 409


def test_how_far_a_run_has_come_and_how_long_it_will_take(
    machine: Appliance, url: str, admin: Person
) -> None:
    source_id = int(url.rpartition("/")[2])
    before = runs.start(machine.engine, source_id)
    runs.finish(machine.engine, before, "complete", {"added": 900, "failed": 100, "removed": 7})
    assert admin.http.get(url).json()["last_run"]["left_s"] is None
    run = runs.start(machine.engine, source_id)
    runs.progress(machine.engine, run, {"unchanged": 250})
    with machine.engine.begin() as connection:  # it began a minute ago
        ago = (now() - timedelta(minutes=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
        connection.exec_driver_sql("UPDATE run SET started_at = ? WHERE id = ?", (ago, run))
    shown = admin.http.get(url).json()["last_run"]
    assert shown["outcome"] == "running"
    assert shown["per_minute"] == pytest.approx(250, rel=0.1)
    assert shown["left_s"] == pytest.approx(180, rel=0.1), "a thousand were seen the last time"


def test_the_documents_of_a_run_in_pages(machine: Appliance, url: str, admin: Person) -> None:
    source_id = int(url.rpartition("/")[2])
    run = runs.start(machine.engine, source_id)
    told = [Outcome("added", f"{n}.txt", f"{n}.txt") for n in range(3)]
    runs.progress(machine.engine, run, {"added": 3}, told)
    broken = Outcome("failed", "壊れ.pdf", "壊れ.pdf", "壊れています")
    runs.finish(machine.engine, run, "complete", {"added": 3, "failed": 1}, outcomes=[broken])
    page = f"{url}/runs/{run}/documents"
    found = admin.http.get(page, params={"size": 2, "page": 2}).json()
    assert ([d["uri"] for d in found["documents"]], found["total"]) == (["2.txt", "壊れ.pdf"], 4)
    (failed,) = admin.http.get(page, params={"kind": "failed"}).json()["documents"]
    assert failed == {
        "kind": "failed",
        "uri": "壊れ.pdf",
        "title": "壊れ.pdf",
        "reason": "壊れています",
    }
    other = sources.by_name(machine.engine, "共有フォルダ")
    assert other
    elsewhere = f"/api/v1/admin/sources/{other.id}/runs/{run}/documents"
    assert admin.http.get(elsewhere).json()["total"] == 0


SECRETS = "himitsu-0451"
DAV = {"url": "https://dav.example.jp/共有", "user": "kura", "password": SECRETS}
MAIL = {"host": "mail.example.jp", "user": "kura", "password": SECRETS}


@pytest.mark.parametrize(
    ("kind", "own", "elsewhere"),
    [
        ("webdav", DAV, {"url": "https://evil.example.com/共有"}),
        ("webdav", DAV, {"url": "https://dav.example.jp:8443/共有"}),
        ("webdav", DAV, {"url": "http://dav.example.jp/共有"}),
        ("imap", MAIL, {"host": "evil.example.com"}),
        ("imap", MAIL, {"port": 1993}),
        ("imap", MAIL, {"security": "starttls"}),
        ("web", {"start": ["https://a.example.jp/"], "sign_in": "basic", "user": "kura", "password": SECRETS},
         {"start": ["https://a.example.jp/", "https://evil.example.com/"]}),
    ],
)  # fmt: skip
def test_a_kept_password_is_not_told_to_another_place(
    machine: Appliance, admin: Person, kind: str, own: dict[str, Any],
    elsewhere: dict[str, Any],
) -> None:  # fmt: skip
    body = {"name": "外", "kind": kind, "settings": own}
    made = admin.http.post("/api/v1/admin/sources", json=body)
    assert made.status_code == 201, made.text
    url = f"/api/v1/admin/sources/{made.json()['id']}"
    shown = made.json()["settings"]
    assert SECRETS not in made.text and shown["password"] == HIDDEN
    moved = {"kind": kind, "settings": shown | elsewhere, "source_id": made.json()["id"]}
    for answer in (
        admin.http.patch(url, json={"settings": shown | elsewhere}),
        admin.http.post("/api/v1/admin/sources/check", json=moved),
    ):
        assert answer.status_code == 400 and "入れ直してください" in answer.json()["detail"]
    assert admin.http.get(url).json()["settings"] == shown
    same = admin.http.patch(url, json={"settings": shown | {"allow": ["everyone"]}})
    assert same.status_code == 200, same.text
    typed = admin.http.patch(url, json={"settings": shown | elsewhere | {"password": "新しい"}})
    assert typed.status_code == 200, typed.text
    kept = machine.keyring.open(sources.get(machine.engine, made.json()["id"]).settings)
    assert kept["password"] == "新しい"
