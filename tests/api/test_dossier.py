"""The page of one document, as two people and an administrator see it, with `kura work` beside."""

from __future__ import annotations

import io
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance import build, worker
from appliance.ingest import again, originals, schedule
from appliance.ingest.sync import sync
from appliance.store import audit, catalog, sources
from appliance.store.timing import Timing
from appliance.system import Appliance
from appliance.testing.fakes import MemoryConnector
from appliance.types import Document, Layer, Mark, Page, Principal, RawFile
from tests import bombs
from tests.api.conftest import HR, PUBLIC, Person, take_in

CORPUS = Path(__file__).parents[1] / "corpus"
GOOD = "出張旅費規程（本社）.pdf"
OLD = (
    "旅費規程\n2024年4月1日施行\n第1条 出張の宿泊費は一泊九千円を上限とする。日当は千五百円とする。"
)
NEW = "旅費規程\n2025年4月1日施行\n第1条 出張の宿泊費は一泊一万円を上限とする。日当は二千円とする。"


def eventually(true: Callable[[], Any], within_s: float = 20.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
    return found


def documents(machine: Appliance) -> dict[str, str]:
    """uri → id."""
    return {d.uri: d.id for d in catalog.documents(machine.engine, size=200).documents}


def about(who: Person, id: str) -> Any:
    response = who.http.get(f"/api/v1/documents/{id}/about")
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def share(machine: Appliance, tmp_path: Path) -> Path:
    """A folder source: one PDF for everybody, one for 人事部, one that breaks."""
    root = tmp_path / "share"
    (root / "人事").mkdir(parents=True)
    (root / "人事" / ".kura-access.toml").write_text('allow = ["group:人事部"]', "utf-8")
    shutil.copy(CORPUS / "規程.pdf", root / GOOD)
    shutil.copy(CORPUS / "規程.pdf", root / "人事" / "秘密.pdf")
    (root / "壊れた.pdf").write_bytes(b"%PDF-1.7 broken")
    (root / "爆弾.pdf").write_bytes(bombs.pattern_pdf())
    settings = {"root": str(root), "allow": ["everyone"]}
    sources.create(machine.engine, "総務", "folder", settings, Timing(3600))
    return root


@pytest.fixture
def working(machine: Appliance, share: Path) -> Iterator[dict[str, str]]:
    """`kura work`, when it has taken the share in: uri → id."""
    stop = threading.Event()
    settings = replace(machine.settings, parse_seconds=4, ocr=False)
    workshop = build.work(settings, engine=machine.engine, embedder=machine.embedder)
    thread = threading.Thread(target=worker.run, args=(workshop, stop), daemon=True)
    thread.start()
    eventually(lambda: len(documents(machine)) == 6)
    yield documents(machine)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_a_page_and_the_original_are_for_readers_alone(
    machine: Appliance, working: dict[str, str], ito: Person, sato: Person, admin: Person
) -> None:
    id, secret = working[GOOD], working["人事/秘密.pdf"]
    url = f"/api/v1/documents/{id}"
    told = about(ito, id)
    assert told["pictured"] and told["page_count"] == 4
    (empty,) = told["doubtful"]
    assert (empty["number"], empty["state"], empty["read"]) == (3, "scanned", "none")

    response = ito.http.get(f"{url}/pages/1/image")
    assert response.status_code == 200, response.text
    assert response.content.startswith(b"\x89PNG")
    assert response.headers["content-type"] == "image/png"
    assert "no-store" in response.headers["cache-control"]
    assert ito.http.get(f"{url}/pages/9/image").json()["error"] == "Unreadable"

    response = ito.http.get(f"{url}/original")
    assert response.content == (CORPUS / "規程.pdf").read_bytes()
    said = response.headers["content-disposition"]
    assert said.startswith("attachment; ") and "filename*=UTF-8''%E5%87%BA%E5%BC%B5" in said
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-content-type-options"] == "nosniff"
    (record,) = audit.entries(machine.engine, action="document.download")
    assert record.detail == {"document": id, "name": GOOD}

    assert sato.http.get(f"/api/v1/documents/{secret}/pages/1/image").status_code == 200
    for who in (ito, admin):
        for path in ("text", "sections", "chunks", "pages/1/image", "original"):
            response = who.http.get(f"/api/v1/documents/{secret}/{path}")
            assert (response.status_code, response.json()["error"]) == (404, "NotVisible"), path
    assert ito.http.get(f"/api/v1/documents/{secret}/about").status_code == 404
    assert len(audit.entries(machine.engine, action="document.download")) == 1


def test_a_hostile_page_hurts_nobody_else(
    machine: Appliance, working: dict[str, str], ito: Person
) -> None:
    bomb, good = (f"/api/v1/documents/{working[uri]}" for uri in ("爆弾.pdf", GOOD))
    assert about(ito, working["爆弾.pdf"])["status"] == "ready"
    answers: list[Any] = []
    slow = threading.Thread(
        target=lambda: answers.append(ito.http.get(f"{bomb}/pages/1/image")), daemon=True
    )
    slow.start()
    assert ito.http.get(f"{good}/pages/4/image").status_code == 200
    slow.join(30)
    (response,) = answers
    assert response.status_code == 422
    # of its time and its memory, whichever is over first
    assert re.fullmatch(
        r"ページの表示(が 4 秒で終わりませんでした|プログラムが 2 回異常終了しました \(\w+\))|メモリの上限を超えました",
        response.json()["detail"],
    )
    with pytest.MonkeyPatch.context() as patch:  # it fails once, not each time it is asked for
        patch.setattr(machine.originals, "_ask", None)
        second = ito.http.get(f"{bomb}/pages/1/image")
    assert second.json()["detail"] == response.json()["detail"]
    assert ito.http.get(f"{bomb}/text", params={"page": 1}).json()["text"]
    broken = ito.http.get(f"/api/v1/documents/{working['壊れた.pdf']}/pages/1/image")
    assert broken.status_code == 422 and "PDF が壊れています" in broken.json()["detail"]


def test_what_changed_meanwhile_says_so_and_what_is_withdrawn_is_not_shown(
    machine: Appliance, working: dict[str, str], share: Path, ito: Person, sato: Person
) -> None:
    id = working[GOOD]
    url = f"/api/v1/documents/{id}"
    assert ito.http.get(f"{url}/pages/1/image").status_code == 200
    # another file stands there, which the catalogue has not seen yet
    (share / GOOD).write_bytes((CORPUS / "画像のみ.pdf").read_bytes())
    response = ito.http.get(f"{url}/pages/2/image")
    assert response.status_code == 409 and "原本が変わっています" in response.json()["detail"]
    # its source withdraws it: whoever asks for the original is the first to notice
    (share / ".kura-access.toml").write_text('allow = ["group:人事部"]', "utf-8")
    assert ito.http.get(f"{url}/original").status_code == 404
    assert ito.http.get(f"{url}/pages/1/image").status_code == 404, "kept in memory"
    assert sato.http.get(f"{url}/original").status_code == 200
    (share / GOOD).unlink()
    response = sato.http.get(f"{url}/original")
    assert response.status_code == 409 and "見つかりません" in response.json()["detail"]


def test_read_again_though_nothing_changed(
    machine: Appliance, working: dict[str, str], share: Path, ito: Person, admin: Person
) -> None:
    id, broken = working[GOOD], working["壊れた.pdf"]
    url = f"/api/v1/documents/{id}"
    assert ito.http.post(f"{url}/retake").status_code == 403
    before = about(admin, id)
    assert admin.http.post(f"{url}/retake").status_code == 202
    after = eventually(lambda: None if (a := about(admin, id))["waiting"] else a)
    assert after["updated_at"] > before["updated_at"]
    assert [e["kind"] for e in after["history"]] == ["reread", "added"]
    # one whose reading failed is read for the first time
    (share / "壊れた.pdf").write_bytes((CORPUS / "規程.pdf").read_bytes())
    assert about(admin, broken)["status"] == "problem"
    assert admin.http.post(f"/api/v1/documents/{broken}/retake").status_code == 202
    eventually(lambda: about(admin, broken)["status"] == "ready")
    # one that is gone stays until the listing says so, and then goes
    (share / "壊れた.pdf").unlink()
    assert admin.http.post(f"/api/v1/documents/{broken}/retake").status_code == 202
    eventually(lambda: "壊れた.pdf" not in documents(machine))
    response = admin.http.post(f"/api/v1/documents/{broken}/retake")
    assert response.status_code == 404
    acts = audit.entries(machine.engine, action="document.retake")
    assert [r.detail["document"] for r in acts] == [broken, broken, id]


def test_without_a_worker_the_message_is_one_sentence(
    machine: Appliance, ito: Person, admin: Person
) -> None:
    take_in(machine, {"a.txt": ("旅費規程の本文です。", PUBLIC)})
    id = documents(machine)["a.txt"]
    response = ito.http.get(f"/api/v1/documents/{id}/original")
    assert response.status_code == 503 and "kura work" in response.json()["detail"]
    response = ito.http.get(f"/api/v1/documents/{id}/pages/1/image")
    assert response.status_code == 422 and "画像では表示できません" in response.json()["detail"]
    assert admin.http.post(f"/api/v1/documents/{id}/retake").status_code == 202
    assert about(admin, id)["waiting"] and about(ito, id)["waiting"], "until somebody does it"
    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source is not None
    sources.update(machine.engine, source.id, enabled=False)
    response = admin.http.post(f"/api/v1/documents/{id}/retake")
    assert response.status_code == 409 and "停止中" in response.json()["detail"]


def test_a_crowd_before_the_desk_is_turned_away(
    machine: Appliance, ito: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = documents(machine)["規程/旅費規程.txt"]
    for _ in range(originals.AT_ONCE):
        assert machine.originals._seats.acquire(blocking=False)
    response = ito.http.get(f"/api/v1/documents/{id}/original")
    assert response.status_code == 503 and "混み合っています" in response.json()["detail"]


# --- the text of it ------------------------------------------------------------------

PAGED = Document(
    "第1条 目的\n本文𠮷。\n第2条 定義\n本文。\n添付の本文。",
    (
        Mark(0, "p. 1", "page", 1),
        Mark(0, "第1条", level=1),
        Mark(13, "p. 2", "page", 2),
        Mark(13, "第2条", level=1),
        Mark(24, "添付: a.pdf", "part"),
        Mark(24, "p. 1", "page", 1),
    ),
    pages=(Page(1, "fine"), Page(2, "garbled", 0.7, "ocr"), Page(3, "scanned", 0.9, "none")),
)


def take_in_paged(machine: Appliance, document: Document = PAGED, access: Any = PUBLIC) -> str:
    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source is not None
    connector = MemoryConnector({"規程.pdf": ("%PDF", access)})

    def parse(file: RawFile) -> tuple[Document, str]:
        return document, "application/pdf"

    sync(machine.engine, source, connector, machine.embedder, parse, machine.settings)
    machine.follower.catch_up()
    return documents(machine)["規程.pdf"]


def test_text_page_by_page_and_in_ranges(machine: Appliance, ito: Person) -> None:
    id = take_in_paged(machine)
    url = f"/api/v1/documents/{id}"
    one = ito.http.get(f"{url}/text", params={"page": 1}).json()
    assert (one["text"], one["start"], one["end"]) == (PAGED.text[:13], 0, 13)
    two = ito.http.get(f"{url}/text", params={"page": 2}).json()
    assert two["text"] == PAGED.text[13:], "what is attached ends the last page"
    assert two["state"] == {"number": 2, "state": "garbled", "sure": 0.7, "read": "ocr"}
    three = ito.http.get(f"{url}/text", params={"page": 3}).json()
    assert (three["text"], three["state"]["state"]) == ("", "scanned")
    assert ito.http.get(f"{url}/text", params={"page": 4}).status_code == 404
    holding = ito.http.get(f"{url}/text", params={"at": 14}).json()
    assert (holding["page"], holding["start"]) == (2, 13)
    part = ito.http.get(f"{url}/text", params={"start": 8, "length": 3}).json()
    assert (part["text"], part["length"]) == (PAGED.text[8:11], len(PAGED.text))
    beyond = ito.http.get(f"{url}/text", params={"start": 10**6}).json()
    assert (beyond["text"], beyond["start"]) == ("", len(PAGED.text))

    found = ito.http.get(f"{url}/sections").json()
    assert [(s["label"], s["page"]) for s in found["sections"]] == [
        ("第1条", 1),
        ("第2条", 2),
        ("添付: a.pdf", 2),
    ]
    second = ito.http.get(f"{url}/sections", params={"page": 2, "page_size": 2}).json()
    assert [s["label"] for s in second["sections"]] == ["添付: a.pdf"] and second["total"] == 3
    pieces = ito.http.get(f"{url}/chunks").json()
    assert pieces["total"] == len(pieces["chunks"]) >= 1
    for piece in pieces["chunks"]:
        assert piece["text"] == PAGED.text[piece["start"] : piece["end"]]
    told = about(ito, id)
    assert told["page_count"] == 3 and [p["number"] for p in told["doubtful"]] == [2, 3]
    assert told["length"] == len(PAGED.text) and told["chunks"] == pieces["total"]


def test_an_administrator_who_may_not_read_sees_all_but_the_text(
    machine: Appliance, ito: Person, sato: Person, admin: Person, key_for: Callable[..., Any]
) -> None:
    secret = Document("極秘コード KANARIA-42", (Mark(0, "KANARIA の章"),), pages=(Page(1, "fine"),))
    id = take_in_paged(machine, secret, HR)
    told = about(admin, id)
    assert not told["readable"] and told["manageable"]
    assert told["access"] == [{"allow": ["group:人事部"], "deny": []}]
    assert told["chunks"] == 1 and "KANARIA" not in str(told)
    reader = about(sato, id)
    assert reader["readable"] and not reader["manageable"] and reader["access"] is None
    assert {e["actor"] for e in reader["history"]} == {None}
    # a key that may read documents manages none, though it is an administrator's
    bare = key_for("admin", "documents")
    response = ito.http.get(f"/api/v1/documents/{id}/about", headers=bare)
    assert response.status_code == 404
    for method, path in (("PUT", "correction"), ("DELETE", "correction"), ("POST", "retake")):
        for who, status in ((ito, 404), (sato, 403)):
            url = f"/api/v1/documents/{id}/{path}"
            body = {"title": "奪った題名"} if method == "PUT" else None
            assert who.http.request(method, url, json=body).status_code == status, path
    assert about(admin, id)["title"] == "規程.pdf"


def test_the_owner_of_an_upload_manages_it(machine: Appliance, ito: Person, sato: Person) -> None:
    files = {"file": ("見積.txt", io.BytesIO("ミズホ号の見積。".encode()), "text/plain")}
    form = {"allow": "everyone"}
    assert ito.http.post("/api/v1/uploads", files=files, data=form).status_code == 202
    (source,) = [s for s in sources.all(machine.engine) if s.kind == "uploads"]
    connector = schedule.connector(machine.connectors, source)

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    sync(machine.engine, source, connector, machine.embedder, parse, machine.settings)
    (one,) = ito.http.get("/api/v1/uploads").json()["uploads"]
    id = one["document_id"]
    assert about(ito, id)["manageable"] and not about(sato, id)["manageable"]
    url = f"/api/v1/documents/{id}/correction"
    assert sato.http.put(url, json={"title": "x"}).status_code == 403
    assert ito.http.put(url, json={"title": "ミズホ号 見積書"}).json()["title"] == "ミズホ号 見積書"


# --- what a person corrects ----------------------------------------------------------


def found(who: Person, question: str) -> list[str]:
    response = who.http.post("/api/v1/search", json={"question": question})
    return [p["title"] for p in response.json()["passages"]]


def test_a_title_by_hand_is_found_at_once_and_stays(machine: Appliance, admin: Person) -> None:
    take_in(machine, {"scan0012.txt": ("会議室の予約は前日までに行う。", PUBLIC)})
    id = documents(machine)["scan0012.txt"]
    url = f"/api/v1/documents/{id}/correction"
    told = admin.http.put(url, json={"title": "施設\u202e利用\n要領ミズホ"}).json()
    assert told["title"] == "施設 利用 要領ミズホ" and told["given_title"] == "scan0012.txt"
    machine.follower.catch_up()
    assert found(admin, "要領ミズホ") == ["施設 利用 要領ミズホ"]

    # vectors follow, from the text that is stored
    calls = machine.embedder.calls  # type: ignore[attr-defined]
    calls.clear()
    made = (machine.engine, lambda source: None, machine.embedder, None, machine.settings)
    assert again.look(*made, threading.Event())  # type: ignore[arg-type]
    ((_, texts),) = calls
    assert texts[0].startswith("施設 利用 要領ミズホ\n")
    assert not again.look(*made, threading.Event())  # type: ignore[arg-type]

    # another version, other bytes: what a person said stays, also in what is embedded
    calls.clear()
    take_in(machine, {"scan0012.txt": ("会議室の予約は三日前までに行う。", PUBLIC)})
    assert about(admin, id)["title"] == "施設 利用 要領ミズホ"
    assert calls[0][1][0].startswith("施設 利用 要領ミズホ\n")
    assert found(admin, "要領ミズホ") == ["施設 利用 要領ミズホ"]
    take_in(machine, {"scan0012.txt": ("会議室の予約は三日前までに行う。", PUBLIC)})
    kinds = [e["kind"] for e in about(admin, id)["history"]]
    assert kinds == ["changed", "corrected", "added"], "an unchanged file is no event"

    told = admin.http.delete(url).json()
    assert told["title"] == "scan0012.txt" and told["given_title"] is None
    machine.follower.catch_up()
    assert "施設 利用 要領ミズホ" not in found(admin, "要領ミズホ")
    for bad in ({"title": ""}, {"title": " \n "}, {"title": "x" * 301}, {"in_force": "昨日"}):
        assert admin.http.put(url, json=bad).status_code in (400, 422), bad
    (back, said) = audit.entries(machine.engine, action="document.correct")
    assert (said.actor, said.detail["title"]) == ("user:admin", "施設 利用 要領ミズホ")
    assert back.detail["title"] is None


def test_a_day_by_hand_decides_between_versions_at_once(
    machine: Appliance, ito: Person, admin: Person
) -> None:
    take_in(machine, {"旅費規程_2024.txt": (OLD, PUBLIC), "旅費規程_2025.txt": (NEW, PUBLIC)})
    ids = documents(machine)
    old, new = ids["旅費規程_2024.txt"], ids["旅費規程_2025.txt"]
    told = about(ito, old)
    assert [(v["document_id"], v["standing"]) for v in told["versions"]] == [
        (new, "in_force"),
        (old, "superseded"),
    ]
    assert told["in_force"] == "2024-04-01" and not told["in_force_corrected"]
    url = f"/api/v1/documents/{old}/correction"
    told = admin.http.put(url, json={"in_force": "2026-04-01"}).json()
    assert told["in_force"] == "2026-04-01" and told["in_force_corrected"]
    assert {v["document_id"]: v["standing"] for v in told["versions"]} == {
        old: "in_force",
        new: "superseded",
    }
    take_in(
        machine, {"旅費規程_2024.txt": (OLD + "改", PUBLIC), "旅費規程_2025.txt": (NEW, PUBLIC)}
    )
    assert about(ito, old)["in_force"] == "2026-04-01", "another version of the file"
    assert admin.http.delete(url).json()["in_force"] == "2024-04-01"


def test_nobody_learns_of_a_version_he_may_not_read(
    machine: Appliance, ito: Person, sato: Person
) -> None:
    secret = (Layer(frozenset({Principal("group:人事部")})),)
    take_in(machine, {"旅費規程_2024.txt": (OLD, PUBLIC), "旅費規程_2025.txt": (NEW, secret)})
    id = documents(machine)["旅費規程_2024.txt"]
    assert about(ito, id)["versions"] == []
    assert len(about(sato, id)["versions"]) == 2
