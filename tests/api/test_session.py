"""Signing in and out, and everything that must end a session."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from appliance.api import create_app
from appliance.identity import accounts, setup
from appliance.store import audit, people
from appliance.system import Appliance
from tests.api.conftest import ORIGIN, PASSWORD, Person


def test_the_cookie_is_for_the_browser_alone(client: TestClient) -> None:
    response = Person(client, "ito").sign_in()
    cookie = response.headers["set-cookie"]
    for wanted in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"):
        assert wanted.lower() in cookie.lower()
    assert "secure" not in cookie.lower()
    token = re.search("kura_session=([^;]+)", cookie)
    assert token and token[1] not in response.text
    told = client.get("/api/v1/session").json()
    assert told["user"] == {"id": "ito", "display_name": "ito", "role": "member"}
    assert told["csrf_token"] == response.json()["csrf_token"]


def test_behind_https_the_cookie_is_secure(machine: Appliance) -> None:
    origin = "https://kura.example.co.jp"
    secured = replace(machine, settings=replace(machine.settings, public_origin=origin))
    with TestClient(create_app(secured), base_url=origin) as client:
        response = Person(client, "ito").sign_in()
    assert response.status_code == 200 and "; Secure" in response.headers["set-cookie"]
    assert "max-age" in response.headers["strict-transport-security"]


def test_signing_in_again_is_a_new_session_and_the_end_of_the_old(client: TestClient) -> None:
    one = Person(client, "ito")
    one.sign_in()
    first = client.cookies["kura_session"]
    one.sign_in()
    second = client.cookies["kura_session"]
    assert first != second
    client.cookies.clear()
    for token, status in ((first, 401), (second, 200)):
        response = client.get("/api/v1/session", headers={"cookie": f"kura_session={token}"})
        assert response.status_code == status


def test_signing_out_ends_the_session(ito: Person, machine: Appliance) -> None:
    token = ito.http.cookies["kura_session"]
    assert ito.http.delete("/api/v1/session").status_code == 200
    ito.http.cookies.clear()
    stolen = {"cookie": f"kura_session={token}"}
    assert ito.http.get("/api/v1/session", headers=stolen).status_code == 401
    assert audit.entries(machine.engine, action="session.end")[0].actor == "user:ito"


def test_known_and_unknown_accounts_are_refused_alike(client: TestClient) -> None:
    bodies = []
    for user_id in ("ito", "nobody", "", "ito\x00", "%", "x" * 64):
        response = Person(client, user_id).sign_in("まちがい")
        bodies.append((response.status_code, response.json() | {"request_id": ""}))
    assert bodies[0][0] == 401 and all(b == bodies[0] for b in bodies)


def test_an_account_is_locked_for_whoever_guesses(client: TestClient, machine: Appliance) -> None:
    for user_id in ("ito", "nobody"):
        said = [Person(client, user_id).sign_in("まちがい") for _ in range(11)]
        assert [r.status_code for r in said] == [401] * 10 + [429]
        assert int(said[-1].headers["retry-after"]) > 0 and said[-1].json()["retry_after_s"] > 0
        assert Person(client, user_id).sign_in().status_code == 429
    assert Person(client, "sato").sign_in().status_code == 200


def test_every_sign_in_is_recorded(client: TestClient, machine: Appliance) -> None:
    Person(client, "ito").sign_in("まちがい")
    Person(client, "ito").sign_in()
    actions = [(r.action, r.actor) for r in audit.entries(machine.engine, limit=2)]
    assert actions == [("session.begin", "user:ito"), ("sign-in.NotSignedIn", "nobody")]
    assert PASSWORD not in repr(audit.entries(machine.engine))


@pytest.mark.parametrize("change", ["disable", "password", "demote", "own password"])
def test_all_sessions_end_with_what_they_stood_on(
    machine: Appliance, person: Callable[[str], Person], admin: Person, change: str
) -> None:
    accounts.create(machine.engine, "tanaka", "田中", "administrator", PASSWORD)
    sessions = [person("tanaka") for _ in range(3)]
    url = "/api/v1/admin/users/tanaka"
    if change == "own password":
        body = {"current": PASSWORD, "new": "あたらしいパスワード1"}
        response = sessions[0].http.put("/api/v1/session/password", json=body)
        assert response.status_code == 200
        sessions[0].http.headers["x-csrf-token"] = response.json()["csrf_token"]
        assert sessions[0].http.get("/api/v1/session").status_code == 200
        ended = sessions[1:]
    else:
        bodies = {
            "disable": {"disabled": True},
            "password": {"password": "あたらしいパスワード1"},
            "demote": {"role": "member"},
        }
        assert admin.http.patch(url, json=bodies[change]).status_code == 200
        ended = sessions
    assert [s.http.get("/api/v1/session").status_code for s in ended] == [401] * len(ended)
    assert admin.http.get("/api/v1/session").status_code == 200


def test_a_wrong_current_password_changes_nothing(ito: Person) -> None:
    body = {"current": "まちがい", "new": "あたらしいパスワード1"}
    assert ito.http.put("/api/v1/session/password", json=body).status_code == 401
    assert ito.http.get("/api/v1/session").status_code == 200


# --- requests that other sites make a browser send ----------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8400"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_can_neither_sign_in_nor_ask(
    client: TestClient, ito: Person, headers: dict[str, str]
) -> None:
    body = {"user_id": "ito", "password": PASSWORD}
    response = client.post("/api/v1/session", json=body, headers=headers)
    assert response.status_code == 403 and "set-cookie" not in response.headers
    response = ito.http.post("/api/v1/query", json={"question": "宿泊費"}, headers=headers)
    assert response.status_code == 403


def test_our_own_origin_may(ito: Person) -> None:
    for headers in ({"origin": ORIGIN}, {"sec-fetch-site": "same-origin"}):
        response = ito.http.post("/api/v1/query", json={"question": "宿泊費"}, headers=headers)
        assert response.status_code == 200


@pytest.mark.parametrize("token", [None, "", "x", "é"])
def test_an_unsafe_request_needs_the_sessions_own_token(
    ito: Person, sato: Person, token: str | None
) -> None:
    del ito.http.headers["x-csrf-token"]
    given = {} if token is None else {"x-csrf-token": token.encode()}
    theirs = {"x-csrf-token": sato.http.headers["x-csrf-token"].encode()}
    for headers in (given, theirs):
        response = ito.http.post("/api/v1/query", json={"question": "宿泊費"}, headers=headers)
        assert response.status_code == 403


def test_a_form_cannot_pass_for_json(client: TestClient) -> None:
    text = '{"user_id": "ito", "password": "' + PASSWORD + '"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        response = client.post(
            "/api/v1/session", content=text.encode(), headers={"content-type": kind}
        )
        assert response.status_code == 422 and "set-cookie" not in response.headers


# --- the first administrator ---------------------------------------------------------


def test_the_first_administrator(machine: Appliance, client: TestClient) -> None:
    assert client.get("/api/v1/setup").json() == {"needed": False}
    body = {"code": "x", "user_id": "eve", "display_name": "Eve", "password": PASSWORD}
    assert client.post("/api/v1/setup", json=body).status_code == 409
    assert "eve" not in [u.id for u in people.users(machine.engine)]


def test_the_code_of_the_console_signs_the_first_administrator_in(
    settings: object, sqlite_engine: object
) -> None:
    from appliance import build
    from appliance.testing.fakes import HashEmbedder, ScriptedGenerator

    machine = build.web(
        settings,  # type: ignore[arg-type]
        engine=sqlite_engine,  # type: ignore[arg-type]
        embedder=HashEmbedder(),
        generator=ScriptedGenerator("x"),
    )
    code = setup.code(machine.engine)
    with TestClient(create_app(machine), base_url=ORIGIN) as client:
        assert client.get("/api/v1/setup").json() == {"needed": True}
        body = {"user_id": "admin", "display_name": "管理者", "password": PASSWORD}
        assert client.post("/api/v1/setup", json=body | {"code": "まちがい"}).status_code == 401
        response = client.post("/api/v1/setup", json=body | {"code": code})
        assert response.status_code == 201 and response.json()["user"]["role"] == "administrator"
        assert client.get("/api/v1/admin/users").status_code == 200
        assert client.post("/api/v1/setup", json=body | {"code": code}).status_code == 409
