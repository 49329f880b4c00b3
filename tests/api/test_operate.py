"""Maintenance keeps readers out and lets administrators in; alerts are set without showing secrets."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from appliance import build
from appliance.operate import alerts
from appliance.operate.rules import Look
from appliance.store import alerts as kept
from appliance.store import audit, maintenance
from appliance.system import Appliance
from tests.api.conftest import ORIGIN, Person
from tests.fakes import receivers

SOON = datetime.now(UTC) + timedelta(hours=2)
STATE = "/api/v1/admin/maintenance"
ALERTS = "/api/v1/admin/alerts"


def close(admin: Person, **more: Any) -> None:
    body = {"message": "サーバーを入れ替えます <b>", "until": SOON.isoformat()} | more
    assert admin.http.put(STATE, json=body).status_code == 200


def test_readers_are_kept_out_with_when_it_ends_and_administrators_are_not(
    admin: Person, ito: Person, client: TestClient, key_for: Any
) -> None:
    close(admin)
    for answer in (ito.ask("宿泊費は?"), ito.http.get("/api/v1/session")):
        assert answer.status_code == 503 and 60 <= int(answer.headers["retry-after"]) <= 3600
        said = answer.json()
        assert said["error"] == "Closed" and "サーバーを入れ替えます" in said["detail"]
        assert f"{SOON.astimezone():%Y-%m-%d %H:%M}" in said["detail"]
    body = {"question": "宿泊費は?"}
    keyed = client.post("/api/v1/query", json=body, headers=key_for("ito"))
    assert keyed.status_code == 503
    openai = {"model": "kura", "messages": [{"role": "user", "content": "宿泊費は?"}]}
    told = client.post("/v1/chat/completions", json=openai, headers=key_for("ito"))
    assert told.status_code == 503 and "メンテナンス中" in told.json()["error"]["message"]
    assert Person(TestClient(client.app, base_url=ORIGIN), "sato").sign_in().status_code == 503
    assert Person(TestClient(client.app, base_url=ORIGIN), "admin").sign_in().status_code == 200
    assert admin.ask("宿泊費は?").status_code == 200
    shown = client.get("/api/v1/health").json()["maintenance"]
    assert shown["message"].startswith("サーバー")
    assert admin.http.delete(STATE).status_code == 200
    assert ito.ask("宿泊費は?").status_code == 200
    assert client.get("/api/v1/health").json().get("maintenance") is None


def test_a_wrong_password_is_told_as_on_other_days(admin: Person, client: TestClient) -> None:
    close(admin)
    one = Person(TestClient(client.app, base_url=ORIGIN), "sato")
    assert one.sign_in("falsch falsch falsch").status_code == 401


def test_a_browser_gets_a_page_and_administrators_the_ui(
    admin: Person, ito: Person, client: TestClient, machine: Appliance
) -> None:
    machine.settings.ui.mkdir()
    (machine.settings.ui / "index.html").write_text("<title>UI</title>")
    close(admin)
    for http in (ito.http, TestClient(client.app, base_url=ORIGIN)):
        page = http.get("/documents")
        assert page.status_code == 503 and int(page.headers["retry-after"]) > 60
        assert "メンテナンス中です" in page.text and "に終わる予定です" in page.text
        assert "&lt;b&gt;" in page.text and "<b>" not in page.text
        assert "UI" in http.get("/?administrator").text
    assert "UI" in admin.http.get("/documents").text
    admin.http.delete(STATE)
    assert "UI" in ito.http.get("/documents").text


def test_it_is_recorded_survives_a_restart_and_may_be_overdue(
    admin: Person, ito: Person, machine: Appliance
) -> None:
    close(admin)
    assert admin.http.put(STATE, json={"until": "2020-01-01T00:00:00Z"}).status_code == 400
    past = datetime.now(UTC) - timedelta(minutes=1)
    maintenance.begin(machine.engine, "まだ", past, "console:root")  # as another process
    said = ito.ask("宿泊費は?")
    assert said.headers["retry-after"] == "600" and "予定の時刻を過ぎて" in said.json()["detail"]
    admin.http.delete(STATE)
    actions = [r.action for r in audit.entries(machine.engine)]
    assert "maintenance.on" in actions and "maintenance.off" in actions
    assert ito.http.put(STATE, json={}).status_code == 403


SET = {
    "mail_server": "mail.example.co.jp:587",
    "mail_user": "kura",
    "mail_password": "KANARIA-1",
    "mail_from": "kura@example.co.jp",
    "mail_to": "it@example.co.jp, boss@example.co.jp",
    "webhook_url": "https://chat.example.co.jp/hooks/KANARIA-3",
    "webhook_secret": "KANARIA-2-KANARIA-2",
}


def test_destinations_are_set_and_their_secrets_never_shown(
    admin: Person, machine: Appliance
) -> None:
    shown = admin.http.put(f"{ALERTS}/destinations", json=SET)
    assert shown.status_code == 200 and "KANARIA-1" not in shown.text + str(shown.headers)
    got = admin.http.get(ALERTS).json()
    assert got["destinations"]["mail_password"] == "********"
    assert [way["name"] for way in got["ways"]] == ["mail", "webhook"]
    told = str([r.detail for r in audit.entries(machine.engine)])
    assert "chat.example.co.jp" in told and "KANARIA" not in told
    with machine.engine.connect() as raw:
        rows = str(
            raw.execute(text("SELECT value FROM site WHERE key = 'alerts.destinations'")).all()
        )
    assert "KANARIA-1" not in rows and "KANARIA-2" not in rows

    again = got["destinations"] | {"mail_to": "it@example.co.jp"}
    assert admin.http.put(f"{ALERTS}/destinations", json=again).status_code == 200
    opened = machine.keyring.open(kept.destinations(machine.engine))
    assert opened["mail_password"] == "KANARIA-1" and opened["mail_to"] == "it@example.co.jp"


@pytest.mark.parametrize(
    "moved", [{"mail_server": "evil.example:25"}, {"webhook_url": "https://evil.example/"}]
)
def test_a_kept_secret_goes_nowhere_else(admin: Person, moved: dict[str, str]) -> None:
    admin.http.put(f"{ALERTS}/destinations", json=SET)
    hidden = {"mail_password": "********", "webhook_secret": "********"}
    refused = admin.http.put(f"{ALERTS}/destinations", json=SET | hidden | moved)
    assert refused.status_code == 400 and "入れ直して" in refused.json()["detail"]


def test_what_the_file_says_is_not_changed_here(admin: Person, machine: Appliance) -> None:
    fixed = replace(
        machine.settings,
        alert_webhook_url="https://a.example/",
        alert_webhook_secret="KANARIA-KANARIA-4",
    )
    object.__setattr__(machine, "settings", fixed)
    got = admin.http.get(ALERTS).json()
    assert set(got["fixed"]) == {"webhook_url", "webhook_secret"} and "KANARIA" not in str(got)
    assert admin.http.put(f"{ALERTS}/destinations", json=got["destinations"]).status_code == 200
    other = got["destinations"] | {"webhook_url": "https://b.example/"}
    assert admin.http.put(f"{ALERTS}/destinations", json=other).status_code == 409
    for bad in ({"syslog": "nowhere"}, {"mail_server": "x"}, {"odd": "1"}):
        assert admin.http.put(f"{ALERTS}/destinations", json=bad).status_code in (400, 422)


def test_a_test_is_sent_by_work_and_shown(admin: Person, machine: Appliance) -> None:
    with receivers.hooks() as posts:
        url = f"http://localhost:{posts.port}/"
        given = {"webhook_url": url, "webhook_secret": "s" * 16}
        assert admin.http.put(f"{ALERTS}/destinations", json=given).status_code == 200
        assert admin.http.post(f"{ALERTS}/test").status_code == 202
        assert posts.got == []  # `kura web` reaches nobody
        near = replace(machine.settings, near_hosts=f"localhost:{posts.port}", web_port=1)
        look = Look(machine.engine, near)
        for _ in range(2):
            alerts.once(look, build.site(near), "w", threading.Event())
            time.sleep(0)
        assert len(posts.got) == 1 and "試験" in posts.got[0][2].decode()
    (way,) = admin.http.get(ALERTS).json()["ways"]
    assert way["sent_at"] and way["problem"] is None
