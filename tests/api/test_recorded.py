"""Every administrative call is in the audit chain: all routes are walked, so none can be forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from appliance.api import deps, recorded
from appliance.errors import NotReady
from appliance.store import audit
from appliance.store.audit import Record
from appliance.system import Appliance
from installer import docs
from tests.api.conftest import Person


def routes() -> Iterator[tuple[str, str]]:
    for path, route in docs._routes():
        administers = deps.policies(route)[0].role == "administrator"
        assert administers or "/admin" not in path, path
        if administers:
            yield from ((method, path) for method in sorted(route.methods))


ROUTES = list(routes())


def address(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "1", path)


def of(machine: Appliance, action: str) -> list[Record]:
    return audit.entries(machine.engine, limit=500, action=action)


def test_there_are_many() -> None:
    assert len(ROUTES) > 30


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_each_call_is_recorded_with_its_end(
    method: str, path: str, admin: Person, machine: Appliance
) -> None:
    answer = admin.http.request(method, address(path))
    if method == "GET":
        (row,) = of(machine, "admin.look")
    else:
        (row,), (end,) = of(machine, "admin.call"), of(machine, "admin.end")
        assert end.detail == {"of": row.sequence, "status": answer.status_code}
        assert row.detail["request_id"] == answer.headers["x-request-id"]
    assert row.actor == "user:admin"
    assert row.detail["method"] == method and path.endswith(row.detail["route"])


def test_who_is_no_administrator_is_recorded_once_an_hour(ito: Person, machine: Appliance) -> None:
    for _ in range(5):
        assert ito.http.get("/api/v1/admin/users").status_code in (403, 404)
        assert ito.http.get("/api/v1/admin/audit").status_code == 403
    assert (
        len([r for r in of(machine, "admin.refused") if r.detail["route"].endswith("audit")]) == 1
    )


def test_a_page_that_asks_every_few_seconds_is_one_row(admin: Person, machine: Appliance) -> None:
    for _ in range(5):
        admin.http.get("/api/v1/admin/status")
        admin.http.get("/api/v1/admin/audit")
    assert len(of(machine, "admin.look")) == 2


def test_bodies_and_queries_are_not_recorded(admin: Person, machine: Appliance) -> None:
    body = {"id": "KANARIA", "password": "KANARIA-KANARIA", "display_name": "x", "role": "odd"}
    admin.http.post("/api/v1/admin/users", json=body)
    admin.http.get("/api/v1/admin/audit?limit=1&x=KANARIA")
    assert "KANARIA" not in str([r.detail for r in audit.entries(machine.engine, limit=50)])


def test_what_cannot_be_recorded_is_not_done(
    admin: Person, machine: Appliance, monkeypatch: pytest.MonkeyPatch
) -> None:  # E9
    admin.http.get("/api/v1/admin/alerts")

    def full(*_: object) -> int:
        raise NotReady("ディスクに空きがないため、書き込めません。", 30.0)

    with monkeypatch.context() as patch:
        patch.setattr(audit, "record", full)
        body = {"message": "x"}
        refused = admin.http.put("/api/v1/admin/maintenance", json=body)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "30"
        assert admin.http.get("/api/v1/admin/audit").status_code == 503
        assert admin.http.get("/api/v1/admin/status").status_code == 200
    assert admin.http.get("/api/v1/health").json().get("maintenance") is None
    assert admin.http.get("/api/v1/admin/audit").status_code == 200
    assert {path for _, path in ROUTES} >= {f"/api/v1{path}" for path in recorded.ALWAYS}


def test_a_key_is_named(client: TestClient, key_for: object, machine: Appliance) -> None:
    client.get("/api/v1/admin/status", headers=key_for("admin", "admin"))  # type: ignore[operator]
    (row,) = of(machine, "admin.look")
    assert re.fullmatch(r"user:admin key:\d+", row.actor)
