"""What every request meets before any route, and what every response carries."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from appliance.api import create_app, openapi, status
from appliance.api.wall import Names
from appliance.settings import Settings
from appliance.system import Appliance
from tests.api.conftest import ORIGIN, Model, Person


def test_security_headers_are_on_everything(client: TestClient, ito: Person) -> None:
    for response in (
        client.get("/api/v1/health"),
        client.get("/api/v1/session"),
        client.get("/nothing.js"),
        client.get("/"),
        ito.ask("宿泊費"),
        ito.http.post("/api/v1/query", json={}),
    ):
        headers = response.headers
        csp = headers["content-security-policy"]
        assert "default-src 'self'" in csp and "frame-ancestors 'none'" in csp
        assert "unsafe" not in csp and "http" not in csp
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cache-control"] and headers["x-request-id"]
        assert "server" not in headers


def test_a_name_that_is_not_ours_is_refused(client: TestClient) -> None:
    for host in (
        "evil.example",
        "evil.example:8400",
        "127.0.0.1.evil.example",
        "",
        "[",
        "10.0.0.1",
    ):
        response = client.get("/api/v1/health", headers={"host": host})
        assert response.status_code == 400, host
    for host in ("127.0.0.1:8400", "localhost", "[::1]:8400", "LOCALHOST:1"):
        assert client.get("/api/v1/health", headers={"host": host}).status_code == 200


def test_listening_everywhere_takes_addresses_but_no_foreign_names() -> None:
    names = Names(Settings(web_host="0.0.0.0"))
    assert names._ours("192.0.2.7:8400") and names._ours("[2001:db8::1]:8400")
    assert not names._ours("evil.example")
    public = Names(Settings(public_origin="https://kura.example.co.jp"))
    assert public._ours("kura.example.co.jp") and not public._ours("192.0.2.7")


def test_too_much_is_too_much(ito: Person) -> None:
    huge = {"question": "x", "conversation_id": "x" * 1_100_000}
    response = ito.http.post("/api/v1/query", json=huge)
    assert response.status_code == 413 and response.json()["error"] == "TooLarge"

    def forever() -> Iterator[bytes]:  # no Content-Length at all
        for _ in range(200):
            yield b" " * 10_000

    headers = {"content-type": "application/json"}
    response = ito.http.post("/api/v1/query", content=forever(), headers=headers)
    assert response.status_code == 413


def test_ten_thousand_ranges_are_ignored(client: TestClient, settings: Settings) -> None:
    (settings.ui / "assets").mkdir(parents=True)
    (settings.ui / "assets" / "app-1a2b.js").write_text("x" * 10_000)
    ranges = ",".join(f"{n}-{n + 1}" for n in range(10_000))
    response = client.get("/assets/app-1a2b.js", headers={"range": f"bytes={ranges}"})
    assert response.status_code == 200 and len(response.content) == 10_000
    assert "content-range" not in response.headers, "not one of them was looked at"


def test_whatever_breaks_is_one_sentence(
    client: TestClient,
    admin: Person,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("secret detail in /srv/data")

    monkeypatch.setattr(status.catalog, "counts", broken)
    with caplog.at_level(logging.INFO):
        response = admin.http.get("/api/v1/admin/status")
    assert response.status_code == 500
    told = response.json()
    assert told["error"] == "InternalError" and told["message"] and told["request_id"]
    assert "secret" not in response.text and "Traceback" not in response.text
    (record,) = [r for r in caplog.records if r.exc_info]
    assert record.__dict__["fields"]["request_id"] == told["request_id"]


def test_the_log_names_the_route_and_neither_ids_nor_questions(
    client: TestClient, ito: Person, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "kura.api"):
        ito.http.get("/api/v1/documents/0123456789abcdef?start=7")
        ito.ask("宿泊費は極秘ですか")
    lines = [r.__dict__["fields"] for r in caplog.records if r.getMessage() == "request"]
    assert [(f["method"], f["status"]) for f in lines] == [("GET", 404), ("POST", 200)]
    written = json.dumps(lines, ensure_ascii=False)
    assert "0123456789abcdef" not in written and "極秘" not in written
    assert "{document_id}" in lines[0]["path"]


# --- health --------------------------------------------------------------------------


def test_health_tells_strangers_nothing_else(machine: Appliance, client: TestClient) -> None:
    told = client.get("/api/v1/health").json()
    assert set(told) == {"status", "version"} and told["status"] == "ready"
    dumb = replace(machine, model_answers=lambda: False)
    with TestClient(create_app(dumb), base_url=ORIGIN) as other:
        assert other.get("/api/v1/health").json()["status"] == "degraded"


def test_before_the_indexes_are_loaded_questions_wait(
    machine: Appliance, ito: Person, model: Model
) -> None:
    machine.follower._ready.clear()
    assert ito.http.get("/api/v1/health").json()["status"] == "starting"
    response = ito.ask("宿泊費はいくらですか")
    assert response.status_code == 503 and response.json()["error"] == "NotReady"
    assert response.headers["retry-after"] and model.prompts == []


# --- the UI's files ------------------------------------------------------------------


@pytest.fixture
def built(settings: Settings) -> Path:
    (settings.ui / "assets").mkdir(parents=True)
    (settings.ui / "index.html").write_text("<!doctype html><title>Kura</title>")
    (settings.ui / "assets" / "app-1a2b.js").write_text("1")
    (settings.ui.parent / "secret.txt").write_text("secret")
    (settings.ui / "link.txt").symlink_to(settings.ui.parent / "secret.txt")
    (settings.ui / "notes.py").write_text("not for the web")
    return settings.ui


def test_the_ui_is_served(client: TestClient, built: Path) -> None:
    for path in ("/", "/conversations/abc", "/admin/sources"):
        page = client.get(path)
        assert page.status_code == 200 and "<title>Kura" in page.text
        assert page.headers["cache-control"] == "no-cache"
        assert page.headers["content-type"] == "text/html; charset=utf-8"
    script = client.get("/assets/app-1a2b.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in script.headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/link.txt",
        "/notes.py",
        "/missing.js",
        "/%00.js",
        "//etc/passwd.txt",
        "/api/v1/nothing",
        "/api",
        "/v1/nothing",
        "/openapi.json",
    ],
)
def test_nothing_else_is(client: TestClient, built: Path, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404, response.text
    assert "NotVisible" in response.text and "secret" not in response.text


def test_an_unbuilt_ui_says_how_to_build_it(client: TestClient) -> None:
    response = client.get("/")
    assert response.status_code == 503 and "make ui" in response.text


# --- the description -----------------------------------------------------------------


def test_the_description_is_whole() -> None:
    described = openapi()
    operations = [o for path in described["paths"].values() for o in path.values()]
    ids = [o["operationId"] for o in operations]
    assert len(ids) == len(set(ids)) >= 35
    assert "Events" in described["components"]["schemas"]
    text = json.dumps(described)
    assert "examples" in text and "appliance__" not in text


def test_the_uis_copy_of_the_description_is_current() -> None:
    copy = Path(__file__).parents[2] / "ui" / "openapi.json"
    assert json.loads(copy.read_text("utf-8")) == openapi(), "run `kura openapi ui/openapi.json`"
