"""What the administrator's page of directories is made of: a trial, the last look, members, strangers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from appliance.api.hidden import HIDDEN
from appliance.ingest.desk import Desk
from appliance.ingest.trial import BUSY, REACHED, Trial
from appliance.store import audit, directories
from appliance.system import Appliance, desk
from tests.api.conftest import FILES, Person, take_in
from tests.api.test_a_directory_from_end_to_end import URL, look, made, only
from tests.connectors.slapd import BASE, PASSWORD, Slapd, slapd

__all__ = ["look", "made", "slapd"]  # fixtures


@pytest.fixture
def trial(machine: Appliance, slapd: Slapd) -> Iterator[Trial]:
    """`kura work`, where somebody asks it to try a connection."""

    def no_file(*_: Any) -> Any:
        raise AssertionError

    site = replace(slapd.site, unseal=machine.keyring.open)
    trying = Trial(machine.connectors, site)
    path = desk(machine.settings)
    serving = Desk(machine.engine, no_file, no_file, no_file, path, 1_000, trying)
    stop = threading.Event()
    thread = threading.Thread(target=serving.run, args=(stop,))
    thread.start()
    while not path.exists():
        stop.wait(0.02)
    yield trying
    stop.set()
    thread.join(10)


def test_a_connection_is_tried_before_anything_is_kept(
    machine: Appliance, slapd: Slapd, trial: Trial, admin: Person
) -> None:
    slapd.group("営業部", slapd.person("ito", "伊藤"))
    settings = slapd.settings()
    response = admin.http.post(f"{URL}/check", json={"settings": settings})
    assert response.json() == {"found": f"LDAP、{BASE}: 人 1、グループ 1"}, response.text
    wrong = {**settings, "password": "違うパスワード"}
    response = admin.http.post(f"{URL}/check", json={"settings": wrong})
    assert response.status_code == 422 and "名前かパスワードが違います" in response.text
    assert "違うパスワード" not in response.text
    assert directories.all(machine.engine) == []
    assert PASSWORD not in str(audit.entries(machine.engine))


def test_the_password_that_is_kept_is_told_to_its_own_server_alone(
    slapd: Slapd, trial: Trial, made: str, admin: Person
) -> None:
    slapd.group("営業部", slapd.person("ito", "伊藤"))
    (shown,) = admin.http.get(URL).json()["directories"]
    body = {"settings": shown["settings"], "directory_id": shown["id"]}
    assert shown["settings"]["password"] == HIDDEN
    assert admin.http.post(f"{URL}/check", json=body).status_code == 200
    body["settings"]["server"] = "127.0.0.1"
    for response in (
        admin.http.post(f"{URL}/check", json=body),
        admin.http.patch(made, json={"settings": body["settings"]}),
    ):
        assert response.status_code == 400 and "入れ直して" in response.text


def test_no_worker_or_too_many_trials_is_told_so(
    machine: Appliance, slapd: Slapd, admin: Person, request: pytest.FixtureRequest
) -> None:
    body = {"settings": slapd.settings()}
    response = admin.http.post(f"{URL}/check", json=body)
    assert response.status_code == 503 and "kura work" in response.text
    trial = request.getfixturevalue("trial")
    while trial._turns.acquire(blocking=False):
        pass
    response = admin.http.post(f"{URL}/check", json=body)
    assert response.status_code == 503 and BUSY in response.text


def test_a_source_is_tried_too(trial: Trial, admin: Person, tmp_path: Any) -> None:
    url = "/api/v1/admin/sources/check"
    there = {"kind": "folder", "settings": {"root": str(tmp_path), "allow": ["everyone"]}}
    assert admin.http.post(url, json=there).json() == {"found": REACHED}
    away = {"kind": "folder", "settings": {"root": str(tmp_path / "ない"), "allow": ["everyone"]}}
    response = admin.http.post(url, json=away)
    assert response.status_code >= 400 and "ない" in response.text


def test_the_last_look_is_told_with_what_it_did(
    slapd: Slapd, made: str, look: Callable[[], Any], admin: Person
) -> None:
    assert admin.http.get(URL).json()["directories"][0]["last"] is None
    person = slapd.person("ito", "伊藤")
    slapd.person("sato", "佐藤")
    slapd.group("営業部", person)
    look()
    last = admin.http.get(URL).json()["directories"][0]["last"]
    assert (last["done"], last["changed"], last["removed"]) == (True, 3, 0)
    slapd.delete(f"uid=sato,ou=people,{BASE}")
    look()
    last = admin.http.get(URL).json()["directories"][0]["last"]
    assert (last["done"], last["removed"]) == (True, 1)
    slapd.stop()
    look()
    shown = admin.http.get(URL).json()["directories"][0]
    assert not shown["last"]["done"] and "つながりません" in shown["problem"]
    slapd.start()


def test_members_and_groups_of_an_entry(
    slapd: Slapd, made: str, look: Callable[[], Any], admin: Person
) -> None:
    person = slapd.person("ito", "伊藤")
    section = slapd.group("営業一課", person)
    slapd.group("営業部", section, f"uid=gone,ou=elsewhere,{BASE}")
    look()
    url = "/api/v1/admin/directory-entries"
    listed = admin.http.get(url, params={"kind": "group", "limit": 1, "offset": 1}).json()
    assert listed["total"] == 2 and [e["name"] for e in listed["entries"]] == ["営業部"]
    around = admin.http.get(f"{url}/{listed['entries'][0]['guid']}").json()
    assert [e["name"] for e in around["members"]] == ["営業一課"] and around["total"] == 2
    (entry,) = admin.http.get(url, params={"kind": "person"}).json()["entries"]
    around = admin.http.get(f"{url}/{entry['guid']}").json()
    assert [e["name"] for e in around["groups"]] == ["営業一課"] and around["members"] == []
    assert admin.http.get(f"{url}/none").status_code == 404
    sight = admin.http.get("/api/v1/admin/users/ito/sight").json()
    assert sight["names"][entry["node"]] == "伊藤"


def test_names_that_nobody_counts_as_until_they_are_said_to_be_somebody(
    machine: Appliance, slapd: Slapd, made: str, look: Callable[[], Any], admin: Person
) -> None:
    slapd.person("ito", "伊藤", "hanako@example.co.jp")
    look()
    given = {
        "k/a.txt": ("甲", only("user:k-0042", "user:hanako@example.co.jp", "everyone")),
        "k/b.txt": ("乙", only("user:k-0042", "group:人事部", "sid:S-1-5-21-9-9-9-1104")),
    }
    take_in(machine, {**FILES, **given})
    url = "/api/v1/admin/strangers"
    found = admin.http.get(url).json()
    assert [(s["principal"], s["documents"]) for s in found["strangers"]] == [
        ("user:k-0042", 2),
        ("sid:S-1-5-21-9-9-9-1104", 1),
    ]
    assert found["total"] == 2 and found["strangers"][0]["sources"] == ["共有フォルダ"]
    thought = admin.http.get("/api/v1/admin/users/ito/sight", params={"also": "user:k-0042"})
    (shared,) = [one for one in thought.json()["sources"] if one["source"] == "共有フォルダ"]
    assert shared["seen"] == 3
    assert (
        admin.http.get("/api/v1/admin/users/ito/sight", params={"also": "user:sato"}).status_code
        == 409
    ), "nobody is thought to be another account"
    body = {"who": "user:k-0042", "means": "user:ito"}
    assert admin.http.put("/api/v1/admin/mappings", json=body).status_code == 200
    assert admin.http.get(url).json()["total"] == 1
