"""A real directory: made by an administrator, followed, and asked about by people who come and go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from appliance.api.hidden import HIDDEN
from appliance.ingest import directory as following
from appliance.store import audit, directories, people
from appliance.store.tables import now
from appliance.system import Appliance
from appliance.types import Access, Layer, Principal
from tests.api.conftest import FILES, Person, take_in
from tests.connectors.slapd import BASE, PASSWORD, Slapd, slapd

__all__ = ["slapd"]  # a fixture

URL = "/api/v1/admin/directories"
QUESTION = "青山商事への値引きはどこまで"
ANSWER = "青山商事への値引きは八分まで。"


def only(*names: str) -> Access:
    return (Layer(frozenset(map(Principal, names))),)


@pytest.fixture
def look(machine: Appliance, slapd: Slapd) -> Callable[[], dict[str, Any]]:
    """What `kura work` does when the directory is due; what is told of it then."""

    def now_() -> dict[str, Any]:
        (one,) = directories.all(machine.engine)
        directories.run_now(machine.engine, one.id)
        site = replace(slapd.site, unseal=machine.keyring.open)
        stop = threading.Event()
        assert following.look(machine.engine, "test", machine.settings, site, stop)
        (after,) = directories.all(machine.engine)
        return {"problem": after.problem, "held": after.held}

    return now_


@pytest.fixture
def made(slapd: Slapd, admin: Person) -> str:
    """The directory's address."""
    response = admin.http.post(URL, json={"name": "本社", "settings": slapd.settings()})
    assert response.status_code == 201, response.text
    assert PASSWORD not in response.text and response.json()["settings"]["password"] == HIDDEN
    return f"{URL}/{response.json()['id']}"


def file(machine: Appliance, access: Access) -> None:
    take_in(machine, {**FILES, "営業/青山商事.txt": (ANSWER, access)})


def finds(who: Person) -> bool:
    response = who.http.post("/api/v1/search", json={"question": QUESTION})
    return response.status_code == 200 and any(
        one["uri"] == "営業/青山商事.txt" for one in response.json()["passages"]
    )


def test_who_leaves_a_nested_group_finds_it_no_more(
    machine: Appliance, slapd: Slapd, made: str, look: Callable[[], Any], ito: Person, sato: Person
) -> None:
    person, other = slapd.person("ito", "伊藤 花子"), slapd.person("sato", "佐藤 次郎")
    section = slapd.group("営業一課", person, other)
    slapd.group("営業部", section)
    file(machine, only("group:営業部"))
    assert not finds(ito)
    assert look() == {"problem": None, "held": None}
    assert finds(ito) and finds(sato)
    assert "八分" in ito.ask(QUESTION).text

    before = [d.id for d in machine_documents(machine)]
    slapd.leave(section, person)
    look()
    assert not finds(ito) and "八分" not in ito.ask(QUESTION).text
    assert finds(sato)
    assert [d.id for d in machine_documents(machine)] == before, "content untouched"

    slapd.enter(section, person)
    look()
    assert finds(ito)


def machine_documents(machine: Appliance) -> list[Any]:
    from sqlmodel import select

    from appliance.store.database import reading
    from appliance.store.tables import DocumentRow

    with reading(machine.engine) as s:
        return list(s.exec(select(DocumentRow).order_by(DocumentRow.id)))


def shelf(sight: dict[str, Any]) -> int:
    (seen,) = [one["seen"] for one in sight["sources"] if one["source"] == "共有フォルダ"]
    assert isinstance(seen, int)
    return seen


def test_the_way_is_told_and_what_a_mapping_would_change(
    machine: Appliance, slapd: Slapd, made: str, look: Callable[[], Any], admin: Person, ito: Person
) -> None:
    slapd.person("h.ito", "伊藤 花子", "hanako@example.co.jp")
    member = f"uid=h.ito,ou=people,{BASE}"
    slapd.group("営業部", member)
    file(machine, only("group:営業部"))
    look()
    assert not finds(ito), "the account here is called otherwise"

    (entry,) = admin.http.get(
        "/api/v1/admin/directory-entries", params={"search": "HANAKO@"}
    ).json()["entries"]
    assert entry["principal"] == "user:h.ito" and entry["title"] == "伊藤 花子"
    sight = "/api/v1/admin/users/ito/sight"
    thought = admin.http.get(sight, params={"also": entry["node"]}).json()
    (way,) = [p["way"] for p in thought["principals"] if p["principal"] == "group:営業部"]
    assert way[:2] == ["user:ito", entry["node"]] and way[-1] == "group:営業部"
    assert shelf(thought) == 2
    assert shelf(admin.http.get(sight).json()) == 1, "nothing was changed"

    body = {"who": "hanako@example.co.jp", "means": "user:ito"}
    response = admin.http.put("/api/v1/admin/mappings", json=body)
    assert response.status_code == 200, response.text
    assert finds(ito), "it holds at once"
    verdicts = admin.http.get(
        "/api/v1/admin/readers", params={"document": "共有フォルダ/営業/青山商事.txt"}
    ).json()["verdicts"]
    (mine,) = [v for v in verdicts if v["user"] == "ito"]
    assert mine["reads"] and mine["rulings"][0]["allowed_by"][0][-1] == "group:営業部"
    assert look()["problem"] is None and finds(ito), "and after the next look"

    body["means"] = "nobody"
    assert admin.http.put("/api/v1/admin/mappings", json=body).status_code == 200
    assert not finds(ito)
    assert admin.http.put("/api/v1/admin/mappings", json={**body, "means": None}).status_code == 200
    assert not finds(ito)


def test_addresses_and_codes_of_sources_mean_the_same_person(
    machine: Appliance, slapd: Slapd, made: str, look: Callable[[], Any], admin: Person,
    ito: Person, sato: Person,
) -> None:  # fmt: skip
    slapd.person("ito", "伊藤", "Hanako@Example.co.jp")
    slapd.person("sato", "佐藤", "jiro@example.co.jp")
    look()
    file(machine, only("user:hanako@example.co.jp"))  # as a connector names by address
    assert finds(ito) and not finds(sato)
    file(machine, only("user:k-0042"))  # a kintone code
    assert not finds(ito)
    said = {"who": "user:k-0042", "means": "user:ito"}
    assert admin.http.put("/api/v1/admin/mappings", json=said).status_code == 200
    assert finds(ito) and not finds(sato)

    slapd.change(
        f"dn: uid=sato,ou=people,{BASE}\nchangetype: modify\nreplace: mail\n"
        "mail: hanako@example.co.jp\n-"
    )
    look()
    file(machine, only("user:hanako@example.co.jp"))
    assert not finds(ito) and not finds(sato), "an address of two people is nobody's"
    found = admin.http.get("/api/v1/admin/directory-entries", params={"problems": True}).json()
    assert {one["name"] for one in found["entries"]} == {"ito", "sato"}


def test_nobody_becomes_another_account_or_gets_into_a_group_made_here(
    machine: Appliance, slapd: Slapd, made: str, look: Callable[[], Any], admin: Person,
    ito: Person, sato: Person,
) -> None:  # fmt: skip
    person = slapd.person("ito", "伊藤", "sato@example.co.jp")
    people.create(machine.engine, "sato@example.co.jp", "別人")
    slapd.group("人事部", person)  # a group of that name was made in Kura, and has sato
    look()
    file(machine, only("user:sato@example.co.jp"))
    assert not finds(ito)
    file(machine, only("group:人事部"))
    assert not finds(ito) and finds(sato)
    (entry,) = admin.http.get("/api/v1/admin/directory-entries", params={"kind": "group"}).json()[
        "entries"
    ]
    assert entry["principal"] == "group:人事部@本社" and "ほかにもある" in entry["problem"]
    file(machine, only("group:人事部@本社"))
    assert finds(ito) and not finds(sato)
    for who, means in (("user:sato", "user:ito"), ("group:人事部", "user:ito"), ("sid", "x")):
        response = admin.http.put("/api/v1/admin/mappings", json={"who": who, "means": means})
        assert response.status_code in (404, 409), response.text
    body = {"who": entry["guid"], "means": "group:人事部"}
    assert admin.http.put("/api/v1/admin/mappings", json=body).status_code == 200
    file(machine, only("group:人事部"))
    assert finds(ito) and finds(sato), "said by hand, they are one"


def test_whoever_is_switched_off_there_is_switched_off_here_until_they_are_back(
    machine: Appliance, slapd: Slapd, made: str, look: Callable[[], Any], ito: Person, admin: Person
) -> None:
    dn = slapd.person("ito", "伊藤", objectClass="shadowAccount", shadowExpire="1")
    slapd.group("営業部", dn)
    slapd.person("admin", "管理者", objectClass="shadowAccount", shadowExpire="1")
    look()
    assert people.get(machine.engine, "ito").disabled
    assert ito.ask(QUESTION).status_code == 401
    assert not people.get(machine.engine, "admin").disabled, "nobody locks administrators out"
    told = [r for r in audit.entries(machine.engine) if r.actor == "directory"]
    assert len(told) == 1
    slapd.change(f"dn: {dn}\nchangetype: modify\nreplace: shadowExpire\nshadowExpire: 99999\n-")
    look()
    assert not people.get(machine.engine, "ito").disabled
    slapd.delete(dn)
    look()
    assert people.get(machine.engine, "ito").disabled, "who is deleted there has left"


def test_a_look_that_would_take_most_away_waits_for_an_administrator(
    machine: Appliance, slapd: Slapd, made: str, look: Callable[[], Any], admin: Person, ito: Person
) -> None:
    ito_dn = slapd.person("ito", "伊藤")
    others = [slapd.person(f"u{n:02}", "社員") for n in range(30)]
    group = slapd.group("営業部", ito_dn, *others)
    file(machine, only("group:営業部"))
    look()
    slapd.change(f"dn: {group}\nchangetype: modify\nreplace: member\nmember: {others[0]}\n-")
    told = look()
    assert told["held"] == {"entries": 0, "of": 32, "memberships": 30, "of_memberships": 31}
    assert "kura directory sync --accept" in told["problem"] and finds(ito)
    shown = admin.http.get(URL).json()["directories"][0]
    assert shown["held"]["memberships"] == 30 and "反映していません" in shown["problem"]
    assert look()["held"] and finds(ito), "however often"
    assert admin.http.post(f"{made}/sync", json={"accept": True}).status_code == 202
    assert look() == {"problem": None, "held": None}
    assert not finds(ito)
    for dn in others[1:]:
        slapd.delete(dn)
    assert look()["held"]["entries"] == 29


def test_a_directory_that_is_away_loses_nobody_until_it_has_been_away_too_long(
    machine: Appliance, slapd: Slapd, made: str, look: Callable[[], Any], ito: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    slapd.group("営業部", slapd.person("ito", "伊藤"))
    file(machine, only("group:営業部"))
    look()
    slapd.stop()
    assert "つながりません" in look()["problem"]
    assert finds(ito)
    late = now() + timedelta(
        seconds=machine.settings.directory_seconds + machine.settings.access_max_age_seconds + 1
    )
    for module in ("counting", "directories"):
        monkeypatch.setattr(f"appliance.store.{module}.now", lambda: late)
    assert not finds(ito), "nobody knows who is in it now"
    (one,) = directories.all(machine.engine)
    assert "だれにも効いていません" in (one.trouble or "")
    monkeypatch.undo()
    slapd.start()
    assert look()["problem"] is None and finds(ito)


def test_an_account_that_sees_nothing_takes_nothing_away(
    machine: Appliance, slapd: Slapd, made: str, look: Callable[[], Any], admin: Person, ito: Person
) -> None:
    slapd.group("営業部", slapd.person("ito", "伊藤"))
    file(machine, only("group:営業部"))
    look()
    settings = admin.http.get(URL).json()["directories"][0]["settings"]
    assert settings["password"] == HIDDEN
    settings["base"] = f"ou=hidden,{BASE}"
    assert admin.http.patch(made, json={"settings": settings}).status_code == 200
    assert "検索の起点" in look()["problem"] and finds(ito)
    settings["base"] = BASE
    assert admin.http.patch(made, json={"settings": settings}).status_code == 200
    assert look()["problem"] is None and finds(ito), "the password is still there"


def test_paused_and_deleted_it_gives_nobody_anything(
    machine: Appliance, slapd: Slapd, made: str, look: Callable[[], Any], admin: Person, ito: Person
) -> None:
    slapd.group("営業部", slapd.person("ito", "伊藤"))
    file(machine, only("group:営業部"))
    look()
    assert admin.http.patch(made, json={"enabled": False}).status_code == 200
    assert not finds(ito)
    assert admin.http.patch(made, json={"enabled": True}).status_code == 200
    assert finds(ito)
    assert admin.http.delete(made).status_code == 200
    assert not finds(ito)
    stored = str(audit.entries(machine.engine))
    assert PASSWORD not in stored and "directory.delete" in stored
