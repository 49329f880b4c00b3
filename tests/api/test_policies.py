"""Every route says who may call it, and every kind of caller meets exactly that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from appliance import api
from appliance.api import deps, openai, ui, uploads
from appliance.errors import SettingsError
from appliance.identity import keys
from appliance.store import conversations, people
from appliance.system import Appliance
from tests.api.conftest import ORIGIN, Person

OPEN = {
    "GET /api/v1/health",
    "GET /api/v1/setup",
    "POST /api/v1/setup",
    "POST /api/v1/session",
    "GET /{path:path}",
}


def routes() -> Iterator[tuple[str, str, deps.Policy]]:
    prefixes = [(router, api.PREFIX) for router in (*api.ROUTERS, uploads.router)]
    for router, prefix in [*prefixes, (openai.router, ""), (ui.router, "")]:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            (policy,) = deps.policies(route)
            for method in sorted(route.methods):
                yield method, prefix + route.path, policy


ROUTES = list(routes())
GUARDED = [r for r in ROUTES if f"{r[0]} {r[1]}" not in OPEN]
ADMIN = [r for r in GUARDED if r[2].role == "administrator"]


def call(http: TestClient, method: str, path: str, **more: Any) -> Any:
    """With plausible ids and no body: policy is decided before anything is read."""
    for name in ("conversation_id", "answer_id", "document_id", "upload_id", "user_id", "name"):
        path = path.replace(f"{{{name}}}", "x")
    path = path.replace("{source_id}", "1").replace("{number}", "1").replace("{key_id}", "1")
    return http.request(method, path, **more)


def test_only_what_is_meant_to_be_open_is() -> None:
    assert {f"{method} {path}" for method, path, p in ROUTES if p.role == "open"} == OPEN
    assert [r for r in ROUTES if "/admin" in r[1]] == ADMIN and len(ADMIN) >= 20


def nothing() -> None: ...


def test_a_route_without_a_policy_keeps_the_application_from_starting() -> None:
    router = APIRouter()
    router.add_api_route("/forgotten", nothing, methods=["GET"])
    with pytest.raises(SettingsError, match="/forgotten declares 0 policies"):
        deps.check(router.routes)


def test_two_policies_are_as_bad_as_none() -> None:
    router = APIRouter(dependencies=[deps.OPEN])
    router.add_api_route("/both", nothing, methods=["GET"], dependencies=[deps.OPEN])
    with pytest.raises(SettingsError, match="2 policies"):
        deps.check(router.routes)


def test_nobody_gets_in_without_signing_in(client: TestClient) -> None:
    for method, path, _ in GUARDED:
        for headers in (
            {},
            {"cookie": "kura_session=guess"},
            {"authorization": "Bearer kura_" + "A" * 43},
            {"authorization": "Basic YTpi"},
            {"authorization": ""},
            {"x-api-key": "kura_" + "A" * 43},
            {"x-user": "admin", "x-forwarded-user": "admin", "remote-user": "admin"},
        ):
            response = call(client, method, path, headers=headers)
            assert response.status_code == 401, (method, path, headers, response.text)


def test_only_administrators_administer(
    ito: Person, key_for: Callable[..., dict[str, str]]
) -> None:
    bare = TestClient(ito.http.app, base_url=ORIGIN)
    every = key_for("ito", *sorted(keys.SCOPES))  # a key is never more than its user
    narrow = key_for("admin", "query", "search", "documents")  # nor than its scopes
    for method, path, _ in ADMIN:
        said = [
            call(ito.http, method, path),
            call(bare, method, path, headers=every),
            call(bare, method, path, headers=narrow),
        ]
        assert [r.status_code for r in said] == [403] * 3, (method, path)


def test_a_key_needs_the_scope_of_the_route(
    client: TestClient, key_for: Callable[..., dict[str, str]]
) -> None:
    lacking = {s: key_for("admin", *sorted(keys.SCOPES - {s})) for s in (*keys.SCOPES, "")}
    having = {s: key_for("admin", s) for s in keys.SCOPES}
    for method, path, policy in GUARDED:
        response = call(client, method, path, headers=lacking[policy.key or ""])
        assert response.status_code == 403, (method, path)
        if policy.key is not None and method == "GET":
            response = call(client, method, path, headers=having[policy.key])
            assert response.status_code in (200, 404, 422), (method, path)


def test_a_bad_key_never_falls_back_to_a_good_cookie(ito: Person) -> None:
    assert ito.http.get("/api/v1/conversations").status_code == 200
    for bad in ("Bearer kura_" + "A" * 43, "Bearer", "", "Basic x"):
        response = ito.http.get("/api/v1/conversations", headers={"authorization": bad})
        assert response.status_code == 401


def test_cookie_and_key_of_one_person_see_the_same(
    client: TestClient, ito: Person, sato: Person, key_for: Callable[..., dict[str, str]]
) -> None:
    for who in (ito, sato):
        headers = key_for(who.user_id)
        question = {"question": "役員報酬 極秘コード 宿泊費"}
        by_cookie = who.http.post("/api/v1/search", json=question).json()["passages"]
        by_key = client.post("/api/v1/search", json=question, headers=headers).json()["passages"]
        assert by_cookie == by_key
        chat = {"messages": [{"role": "user", "content": question["question"]}]}
        by_chat = client.post("/v1/chat/completions", json=chat, headers=headers).json()
        titles = {p["title"] for p in by_cookie}
        assert {p["title"] for p in by_chat["kura"]["passages"]} <= titles
        assert ("役員報酬.txt" in titles) == (who is sato)


# --- what is somebody else's is as absent as what never was --------------------------


@pytest.fixture
def foreign(machine: Appliance, sato: Person) -> dict[str, str]:
    """Things of sato's that ito might name."""
    asked = sato.ask("役員報酬は年いくらですか 極秘コード").json()
    uploaded = sato.http.post("/api/v1/uploads", files={"file": ("秘密.txt", b"secret")}).json()
    document = next(p for p in asked["passages"] if p["title"] == "役員報酬.txt")
    return {
        "conversation_id": asked["conversation_id"],
        "answer_id": asked["id"],
        "document_id": document["document_id"],
        "upload_id": uploaded["id"],
    }


BODIES: dict[str, Any] = {
    "PATCH /api/v1/conversations/{conversation_id}": {"title": "盗んだ"},
    "PUT /api/v1/answers/{answer_id}/rating": {"value": -1},
    "PUT /api/v1/documents/{document_id}/correction": {"title": "盗んだ"},
}
OWNED = [r for r in GUARDED if "{" in r[1] and "/admin" not in r[1]]


def test_foreign_things_look_absent(ito: Person, foreign: dict[str, str]) -> None:
    assert len(OWNED) >= 6
    for method, path, _ in OWNED:
        theirs, absent = path, path
        for name, value in foreign.items():
            theirs = theirs.replace(f"{{{name}}}", value)
            absent = absent.replace(f"{{{name}}}", "0" * 32)
        theirs, absent = (p.replace("{number}", "1") for p in (theirs, absent))
        assert "{" not in theirs
        body = BODIES.get(f"{method} {path}")
        said = [ito.http.request(method, url, json=body) for url in (theirs, absent)]
        assert [r.status_code for r in said] == [404, 404], (method, path)
        bodies = [r.json() | {"request_id": ""} for r in said]
        assert bodies[0] == bodies[1]


def test_a_foreign_conversation_is_not_continued(
    machine: Appliance, ito: Person, sato: Person, foreign: dict[str, str]
) -> None:
    theirs = foreign["conversation_id"]
    said = [ito.ask("宿泊費は?", conversation_id=c) for c in (theirs, "0" * 32)]
    assert [r.status_code for r in said] == [404, 404]
    viewer = people.viewer(machine.engine, "sato")
    assert len(conversations.get(machine.engine, viewer, theirs).messages) == 1


def test_not_even_an_administrator_reads_conversations(
    admin: Person, foreign: dict[str, str]
) -> None:
    for url in (
        f"conversations/{foreign['conversation_id']}",
        f"documents/{foreign['document_id']}",
    ):
        assert admin.http.get(f"/api/v1/{url}").status_code == 404


def test_odd_ids_are_absent_too(ito: Person) -> None:
    odd = ("../x", "%2e%2e", "x' OR 1=1", "%", "_", "\u202e", "x" * 64, "\x00")
    for noun in ("conversations", "documents"):
        for id in odd:
            response = ito.http.get(f"/api/v1/{noun}/{quote(id, safe='')}")
            assert response.status_code == 404, (noun, id, response.text)
