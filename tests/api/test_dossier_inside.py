"""The page of a document that is inside another: its title, history, original; and what is masked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from appliance.formats.sandbox import Sandbox
from appliance.ingest import again, schedule
from appliance.ingest.desk import Desk
from appliance.ingest.trial import Trial
from appliance.store import access, audit, catalog, editions, sources
from appliance.system import Appliance, desk
from appliance.types import ALONE, EVERYONE, Viewer
from tests.api.conftest import Person
from tests.api.test_dossier import NEW, OLD, about, documents, eventually, found
from tests.api.test_inside import Work, mine, sandbox, upload, work  # noqa: F401
from tests.formats.test_office import packed

CORPUS = Path(__file__).parents[1] / "corpus"
NUMBER = "123456789018"
PDF, MEMO, NESTED = "規程集.zip › 規程.pdf", "規程集.zip › 鍵.txt", "規程集.zip › 内.zip › 車輪.txt"


def files() -> dict[str, bytes | str]:
    return {
        "規程.pdf": (CORPUS / "規程.pdf").read_bytes(),
        "鍵.txt": "ミズホ号の鍵は守衛室で受け取る。",
        "内.zip": packed(**{"車輪.txt": "車輪は四つある。"}),
    }


@pytest.fixture
def share(machine: Appliance, tmp_path: Path, work: Work) -> Path:  # noqa: F811
    root = tmp_path / "share"
    root.mkdir()
    (root / "規程集.zip").write_bytes(packed(**files()))
    sources.create(machine.engine, "棚", "folder", {"root": str(root), "allow": ["everyone"]})
    work("folder")
    return root


@pytest.fixture
def open_desk(machine: Appliance, sandbox: Sandbox) -> Iterator[None]:  # noqa: F811
    made = Desk(
        machine.engine,
        lambda source: schedule.connector(machine.connectors, source),
        sandbox.picture,
        sandbox.cut,
        desk(machine.settings),
        10_000_000,
        Trial(machine.connectors, ALONE),
    )
    stop = threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    eventually(desk(machine.settings).exists)
    yield
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def take_again(machine: Appliance, sandbox: Sandbox) -> bool:  # noqa: F811
    def connect(source: sources.Source) -> Any:
        return schedule.connector(machine.connectors, source)

    parts = (machine.engine, connect, machine.embedder, sandbox.parse, machine.settings)
    return again.look(*parts, threading.Event())


def original(who: Person, id: str) -> Any:
    return who.http.get(f"/api/v1/documents/{id}/original")


def test_a_file_inside_has_a_page_that_says_where_it_is(
    machine: Appliance, share: Path, ito: Person
) -> None:
    ids = documents(machine)
    told, holder = about(ito, ids[NESTED]), about(ito, ids["規程集.zip"])
    assert (told["within"], told["parent_id"]) == (NESTED, ids["規程集.zip"])
    assert told["title"] == "車輪.txt" and told["readable"] and not told["manageable"]
    assert (holder["children"], holder["within"]) == (4, None)
    assert holder["children_problems"] == 1, "a page of the PDF waits to be read"
    part = ito.http.get(f"/api/v1/documents/{ids[NESTED]}/text").json()
    assert part["text"] == "車輪は四つある。"


def test_its_original_and_its_pages_are_cut_out_of_its_holder(
    machine: Appliance,
    share: Path,
    open_desk: None,
    ito: Person,
    work: Work,  # noqa: F811
) -> None:
    ids = documents(machine)
    told = about(ito, ids[PDF])
    assert told["pictured"] and told["downloadable"]
    response = original(ito, ids[PDF])
    assert response.content == files()["規程.pdf"]
    assert "filename*=UTF-8''%E8%A6%8F%E7%A8%8B.pdf" in response.headers["content-disposition"]
    assert original(ito, ids[NESTED]).content.decode() == "車輪は四つある。"
    image = ito.http.get(f"/api/v1/documents/{ids[PDF]}/pages/1/image")
    assert image.content.startswith(b"\x89PNG")
    record = audit.entries(machine.engine, action="document.download")[-1]
    assert {e.detail["document"] for e in [record]} <= {ids[PDF], ids[NESTED]}
    # other bytes than those it was read from: what lies where it lay is not given out
    (share / "規程集.zip").write_bytes(packed(**{"別.txt": "別の文書", **files()}))
    response = original(ito, ids[PDF])
    assert response.status_code == 409 and "原本が変わっています" in response.json()["detail"]
    work("folder")
    assert original(ito, documents(machine)[PDF]).content == files()["規程.pdf"]


def test_what_is_no_file_in_its_holder_is_refused_with_a_sentence(
    machine: Appliance,
    tmp_path: Path,
    open_desk: None,
    ito: Person,
    work: Work,  # noqa: F811
) -> None:
    (tmp_path / "mails").mkdir()
    mail = "From: a@example.jp\nTo: b@example.jp\nSubject: {}\n\n{}\n\n"
    box = "".join(f"From a Thu Jan  1 00:00:00 2026\n{mail.format(t, t)}" for t in ("one", "two"))
    (tmp_path / "mails" / "box.mbox").write_text(box)
    settings = {"root": str(tmp_path / "mails"), "allow": ["everyone"]}
    sources.create(machine.engine, "便り", "folder", settings)
    work("folder")
    id = documents(machine)["box.mbox › one"]
    assert not about(ito, id)["downloadable"]
    response = original(ito, id)
    assert response.status_code >= 400 and "入れ物の文書" in response.json()["detail"]


def test_a_title_by_hand_stays_when_the_holder_is_read_again(
    machine: Appliance,
    share: Path,
    admin: Person,
    ito: Person,
    work: Work,  # noqa: F811
    sandbox: Sandbox,  # noqa: F811
) -> None:
    id = documents(machine)[MEMO]
    url = f"/api/v1/documents/{id}"
    body = {"title": "鍵の受け渡しミズホ", "in_force": "2024-04-01"}
    assert ito.http.put(f"{url}/correction", json=body).status_code == 403
    told = admin.http.put(f"{url}/correction", json=body).json()
    assert (told["title"], told["given_title"]) == ("鍵の受け渡しミズホ", "鍵.txt")
    assert told["in_force"] == "2024-04-01"
    assert take_again(machine, sandbox), "its vectors are made anew"
    calls = machine.embedder.calls  # type: ignore[attr-defined]
    assert calls[-1][1][0].startswith("規程集.zip › 鍵の受け渡しミズホ\n")
    # other words, and another place in the archive
    calls.clear()
    changed = files() | {"鍵.txt": "ミズホ号の鍵は受付で受け取る。"}
    (share / "規程集.zip").write_bytes(packed(**changed))
    work("folder")
    assert calls[0][1][0].startswith("規程集.zip › 鍵の受け渡しミズホ\n")
    changed["新しい鍵.txt"] = changed.pop("鍵.txt")
    (share / "規程集.zip").write_bytes(packed(**changed))
    work("folder")
    told = about(admin, id)
    assert (told["title"], told["given_title"]) == ("鍵の受け渡しミズホ", "新しい鍵.txt")
    assert told["in_force"] == "2024-04-01" and told["in_force_corrected"]
    assert "鍵の受け渡しミズホ" in found(ito, "ミズホ号の鍵")
    kinds = [e["kind"] for e in told["history"]]
    assert kinds == ["moved", "changed", "corrected", "added"]
    assert admin.http.delete(f"{url}/correction").json()["title"] == "新しい鍵.txt"


def test_a_day_by_hand_holds_for_a_file_inside(
    machine: Appliance,
    share: Path,
    admin: Person,
    work: Work,  # noqa: F811
) -> None:
    both = {"旅費規程_2024.txt": OLD, "旅費規程_2025.txt": NEW}
    (share / "規程集.zip").write_bytes(packed(**both))
    work("folder")
    ids = documents(machine)
    id = ids["規程集.zip › 旅費規程_2024.txt"]
    admin.http.put(f"/api/v1/documents/{id}/correction", json={"in_force": "2026-01-01"})
    (share / "規程集.zip").write_bytes(packed(**both, 新="x"))
    work("folder")
    everybody = Viewer("x", frozenset({EVERYONE}))
    outdated = editions.outdated(machine.engine, everybody, [*ids.values()], date(2026, 6, 1))
    assert set(outdated) == {ids["規程集.zip › 旅費規程_2025.txt"]}


def test_to_read_it_again_is_to_read_its_holder_again(
    machine: Appliance,
    share: Path,
    admin: Person,
    sandbox: Sandbox,  # noqa: F811
) -> None:
    ids = documents(machine)
    assert admin.http.post(f"/api/v1/documents/{ids[MEMO]}/retake").status_code == 202
    assert about(admin, ids[MEMO])["waiting"] and about(admin, ids["規程集.zip"])["waiting"]
    assert take_again(machine, sandbox)
    assert documents(machine) == ids
    for uri in (MEMO, NESTED, "規程集.zip"):
        told = about(admin, ids[uri])
        assert not told["waiting"] and [e["kind"] for e in told["history"]] == ["reread", "added"]


def test_what_happens_to_the_holder_is_in_the_history_of_those_inside(
    machine: Appliance,
    share: Path,
    admin: Person,
    sato: Person,
    work: Work,  # noqa: F811
) -> None:
    id = documents(machine)[MEMO]
    (share / "規程集.zip").rename(share / "新規程集.zip")
    work("folder")
    told = about(admin, id)
    assert told["within"] == "新規程集.zip › 鍵.txt"
    assert (told["history"][0]["kind"], told["history"][0]["detail"]) == ("moved", MEMO)
    (source,) = [s for s in sources.all(machine.engine) if s.kind == "folder"]
    settings = dict(source.settings) | {"allow": ["group:総務部"]}
    sources.update(machine.engine, source.id, settings=settings)
    work("folder")
    assert about(admin, id)["history"][0]["kind"] == "access"
    assert sato.http.get(f"/api/v1/documents/{id}/about").status_code == 404
    assert original(sato, id).status_code == 404


def test_an_upload_is_managed_by_its_owner_with_all_that_is_inside(
    machine: Appliance,
    ito: Person,
    sato: Person,
    work: Work,  # noqa: F811
) -> None:
    upload(ito, "資料.zip", packed(**files()))
    work("uploads")
    holder = mine(ito)["document_id"]
    inside = ito.http.get(f"/api/v1/documents/{holder}/children").json()["children"]
    id = next(c["id"] for c in inside if c["title"] == "鍵.txt")
    assert about(ito, id)["manageable"]
    url = f"/api/v1/documents/{id}/correction"
    assert ito.http.put(url, json={"title": "鍵の規程"}).json()["title"] == "鍵の規程"
    assert sato.http.put(url, json={"title": "鍵"}).status_code == 404


@pytest.mark.parametrize("handling", ["mask", "quarantine"])
def test_the_original_of_a_holder_is_withheld_as_soon_as_one_inside_is(
    machine: Appliance,
    share: Path,
    open_desk: None,
    admin: Person,
    ito: Person,
    work: Work,  # noqa: F811
    handling: Any,
) -> None:
    (source,) = [s for s in sources.all(machine.engine) if s.kind == "folder"]
    sources.update(machine.engine, source.id, personal_data=handling)
    (share / "規程集.zip").write_bytes(packed(**files(), 申告書=f"個人番号 {NUMBER}"))
    work("folder")
    ids = documents(machine)
    for uri in ("規程集.zip", "規程集.zip › 申告書"):
        assert not about(ito, ids[uri])["downloadable"]
        response = original(ito, ids[uri])
        assert "個人情報を伏せる" in response.json()["detail"] and NUMBER not in response.text
    assert original(ito, ids[NESTED]).content.decode() == "車輪は四つある。"
    if handling == "quarantine":  # what was found in it, and how often, is for administrators
        told = "規程集.zip › 申告書"
        assert about(ito, ids[told])["problem"] == access.WITHHELD
        assert "マイナンバー 1 件" in about(admin, ids[told])["problem"]
    unread = about(ito, ids[PDF])  # a page of it is a picture that nobody has read
    assert not unread["downloadable"] and not unread["pictured"]


def test_what_hides_in_the_history_is_masked_with_the_place(
    machine: Appliance,
    share: Path,
    admin: Person,
    work: Work,  # noqa: F811
) -> None:
    (share / "規程集.zip").write_bytes(packed(**{f"{NUMBER}.txt": f"個人番号 {NUMBER}"}))
    work("folder")
    (share / "規程集.zip").write_bytes(packed(**{f"新/{NUMBER}.txt": f"個人番号 {NUMBER}"}))
    work("folder")
    ids = documents(machine)
    id = next(i for uri, i in ids.items() if NUMBER in uri)
    assert any(NUMBER in str(e["detail"]) for e in about(admin, id)["history"])
    (source,) = [s for s in sources.all(machine.engine) if s.kind == "folder"]
    sources.update(machine.engine, source.id, personal_data="mask")
    work("folder")
    assert NUMBER not in str(about(admin, id))
    assert catalog.counts(machine.engine).inside == 1


def test_children(machine: Appliance, share: Path, ito: Person, sato: Person) -> None:
    id: Callable[[str], str] = documents(machine).__getitem__
    listed = ito.http.get(f"/api/v1/documents/{id('規程集.zip')}/children").json()
    assert [c["within"] for c in listed["children"]] == sorted(
        ["規程集.zip › 内.zip", NESTED, PDF, MEMO], key=lambda within: within
    )
