"""Documents, uploads and what administrators see of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from appliance.api import shelf
from appliance.ingest import schedule
from appliance.ingest.sync import sync
from appliance.store import audit, sources
from appliance.system import Appliance
from appliance.types import Document, RawFile
from tests.api.conftest import FILES, Person


def work(machine: Appliance) -> None:
    """What `kura work` would do now with the uploads."""

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    (source,) = [s for s in sources.all(machine.engine) if s.kind == "uploads"]
    connector = schedule.connector(machine.connectors, source)
    sync(machine.engine, source, connector, machine.embedder, parse, machine.settings)
    machine.follower.catch_up()


def upload(who: Person, name: str, text: str, **form: str) -> Any:
    files = {"file": (name, io.BytesIO(text.encode()), "text/plain")}
    return who.http.post("/api/v1/uploads", files=files, data=form)


def found(who: Person, question: str) -> set[str]:
    response = who.http.post("/api/v1/search", json={"question": question})
    return {p["title"] for p in response.json()["passages"]}


def test_a_window_of_a_document(ito: Person) -> None:
    text = FILES["規程/旅費規程.txt"][0]
    passage = ito.ask("宿泊費").json()["passages"][0]
    url = f"/api/v1/documents/{passage['document_id']}"
    whole = ito.http.get(url).json()
    assert (whole["text"], whole["offset"], whole["length"]) == (text, 0, len(text))
    part = ito.http.get(url, params={"start": 3, "end": 8}).json()
    assert (part["text"], part["offset"]) == (text[3:8], 3)
    for start, end in ((0, 0), (9, 3), (10**9, 10**9)):
        part = ito.http.get(url, params={"start": start, "end": end}).json()
        assert part["text"] == "" and part["offset"] <= len(text)
    assert ito.http.get(url, params={"start": -1}).status_code == 422


def test_an_upload_is_its_owners_alone(machine: Appliance, ito: Person, sato: Person) -> None:
    text = "新製品ミズホ号の発売日は十月一日とする。"
    response = upload(ito, "発売.txt", text)
    assert response.status_code == 202, response.text
    one = response.json()
    assert (one["name"], one["status"], one["allow"]) == ("発売.txt", "pending", ["user:ito"])
    work(machine)
    (ready,) = ito.http.get("/api/v1/uploads").json()["uploads"]
    assert ready["status"] == "ready" and ready["document_id"]
    assert "発売.txt" in found(ito, "ミズホ号の発売日")
    assert "発売.txt" not in found(sato, "ミズホ号の発売日")
    assert sato.http.get("/api/v1/uploads").json()["uploads"] == []
    assert sato.http.get(f"/api/v1/documents/{ready['document_id']}").status_code == 404


def test_an_upload_may_be_shared_with_ones_own_groups(
    machine: Appliance, ito: Person, sato: Person
) -> None:
    shareable = ito.http.get("/api/v1/me/groups").json()["principals"]
    assert shareable == ["everyone", "group:総務部"]
    assert upload(ito, "a.txt", "x", allow="group:人事部").status_code == 400
    assert upload(ito, "a.txt", "x", allow="user:sato").status_code == 400
    assert (
        upload(ito, "社内報.txt", "ミズホ号の発表会を開く。", allow="everyone").status_code == 202
    )
    work(machine)
    assert "社内報.txt" in found(sato, "ミズホ号の発表会")


def test_a_deleted_upload_is_gone_at_once(machine: Appliance, ito: Person, sato: Person) -> None:
    id = upload(ito, "発売.txt", "ミズホ号の発売日は十月一日とする。").json()["id"]
    work(machine)
    assert sato.http.delete(f"/api/v1/uploads/{id}").status_code == 404
    assert "発売.txt" in found(ito, "ミズホ号の発売日")
    assert ito.http.delete(f"/api/v1/uploads/{id}").status_code == 200
    machine.follower.catch_up()
    assert "発売.txt" not in found(ito, "ミズホ号の発売日")
    assert list(machine.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ito\\秘密.docx", "秘密.docx"),
        ("/etc/shadow", "shadow"),
        ("見積\u202excod.exe", "見積xcod.exe"),
        ("a\r\nb\0c.txt", "abc.txt"),
        ("カ\u3099.txt", "ガ.txt"),
        ("..", "無題"),
        ("", "無題"),
        (".htaccess", "htaccess"),
        ("長" * 300 + ".pdf", "長" * 83 + ".pdf"),
        ("CON", "CON"),
        ("-rf", "-rf"),
    ],
)
def test_names_are_for_showing(given: str, shown: str) -> None:
    cleaned = shelf.clean_name(given)
    assert cleaned == shown and len(cleaned.encode()) <= 255


def test_a_hostile_name_never_becomes_a_path(machine: Appliance, ito: Person) -> None:
    for name in ("../../evil.txt", "..\\evil.txt", "%2e%2e%2fevil.txt", "a/b/../evil.txt"):
        assert upload(ito, name, "x").status_code == 202
    assert list(machine.settings.data.parent.rglob("*evil*")) == []
    assert {p.name for f in machine.uploads.iterdir() for p in f.iterdir()} == {
        "content",
        "meta.json",
    }


def test_a_file_over_the_limit_leaves_nothing(machine: Appliance, ito: Person) -> None:
    object.__setattr__(machine.settings, "file_bytes", 1000)
    response = upload(ito, "大きい.txt", "x" * 1001)
    assert response.status_code == 413 and "MB" in response.json()["detail"]
    assert not machine.uploads.exists() or list(machine.uploads.iterdir()) == []
    assert upload(ito, "ちょうど.txt", "x" * 1000).status_code == 202


def test_a_full_disk_leaves_nothing(
    machine: Appliance, ito: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf, "_write", full)
    response = upload(ito, "a.txt", "x")
    assert response.status_code == 503 and response.json()["error"] == "NotReady"
    assert list(machine.uploads.iterdir()) == []


def test_ten_thousand_parts_are_refused(ito: Person) -> None:
    parts = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="allow"\r\n\r\ny\r\n' for _ in range(10_000)
    )
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = ito.http.post("/api/v1/uploads", content=parts + b"--x--\r\n", headers=headers)
    assert response.status_code == 400
    files = [("file", (f"{n}.txt", b"x")) for n in range(3)]
    assert ito.http.post("/api/v1/uploads", files=files).status_code == 400


# --- administrators ------------------------------------------------------------------


def test_sources_are_made_changed_and_taken_away(machine: Appliance, admin: Person) -> None:
    root = str(machine.settings.data / "share")
    body = {"name": "総務", "kind": "folder", "settings": {"root": root, "allow": ["everyone"]}}
    response = admin.http.post("/api/v1/admin/sources", json=body)
    assert response.status_code == 201, response.text
    one = response.json()
    url = f"/api/v1/admin/sources/{one['id']}"
    assert admin.http.post("/api/v1/admin/sources", json=body).status_code == 409
    changed = admin.http.patch(url, json={"name": "総務部", "enabled": False}).json()
    assert (changed["name"], changed["enabled"], changed["settings"]) == (
        "総務部",
        False,
        one["settings"],
    )
    for interval in (600, None):
        timing = {"interval_s": interval, "cron": None, "quiet": None, "bytes_per_s": None}
        assert admin.http.patch(url, json={"timing": timing}).json()["timing"] == timing
    assert admin.http.post(f"{url}/sync").status_code == 202
    assert admin.http.get(f"{url}/runs").json() == {"runs": []}
    assert admin.http.delete(url).status_code == 200
    assert admin.http.get(url).status_code == 404
    found = audit.entries(machine.engine, actor="user:admin", limit=100)
    done = [r.action for r in found if not r.action.startswith("admin.")][:6]
    assert done == ["source.delete", "source.sync", *["source.change"] * 3, "source.create"]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "kind": "nothing", "settings": {}},
        {"name": "x", "kind": "folder", "settings": {}},
        {"name": "", "kind": "folder", "settings": {"root": "/x"}},
    ],
)
def test_a_source_that_cannot_work_is_not_made(admin: Person, body: dict[str, Any]) -> None:
    response = admin.http.post("/api/v1/admin/sources", json=body)
    assert response.status_code == 422 and response.json()["detail"]


def test_forms_are_told_in_both_languages(admin: Person) -> None:
    kinds = admin.http.get("/api/v1/admin/connectors").json()["connectors"]
    (drive,) = [kind for kind in kinds if kind["kind"] == "gdrive"]
    assert (drive["title"], drive["title_en"]) == ("Google ドライブ", "Google Drive")
    key = drive["settings_schema"]["properties"]["subject"]
    assert (key["title"], key["title_en"]) == ("代理する利用者", "User to act for")
    followed = admin.http.get("/api/v1/admin/directories").json()["settings_schema"]["properties"]
    assert followed["match"]["labels_en"]["mail"] == "Mail address (mail)"
    assert followed["match"]["labels"]["mail"] == "メールアドレス (mail)"


def test_the_uploads_cannot_be_taken_away(machine: Appliance, admin: Person) -> None:
    listed = admin.http.get("/api/v1/admin/sources").json()["sources"]
    (own,) = [s for s in listed if s["kind"] == "uploads"]
    url = f"/api/v1/admin/sources/{own['id']}"
    assert admin.http.delete(url).status_code == 409
    assert admin.http.patch(url, json={"settings": {"root": "/etc"}}).status_code == 409
    kinds = admin.http.get("/api/v1/admin/connectors").json()["connectors"]
    assert "folder" in {k["kind"] for k in kinds} and "uploads" not in {k["kind"] for k in kinds}
    assert {k["kind"] for k in kinds if not k["verified"]} == {
        "backlog",
        "box",
        "confluence",
        "garoon",
        "gdrive",
        "gitlab",
        "kintone",
        "notion",
        "sharepoint",
        "sharepoint_server",
        "slack",
    }


def test_the_administrator_sees_titles_and_problems_never_text(admin: Person) -> None:
    response = admin.http.get("/api/v1/admin/documents", params={"q": "役員"})
    (one,) = response.json()["documents"]
    assert one["title"] == "役員報酬.txt" and one["status"] == "ready" and one["searchable"]
    assert "KANARIA" not in response.text and "三千万" not in response.text
    for q in ("%", "_", "' OR 1=1"):
        assert admin.http.get("/api/v1/admin/documents", params={"q": q}).json()["total"] == 0


def test_status_counts(admin: Person) -> None:
    told = admin.http.get("/api/v1/admin/status").json()
    assert told["ready"] and told["documents"] == 2 and told["problems"] == 0
    assert {i["chunks"] for i in told["indexes"]} == {told["chunks"]}
    assert admin.http.post("/api/v1/admin/reindex").json()["added"] == 0


def test_accounts_and_groups(machine: Appliance, admin: Person, client: TestClient) -> None:
    body = {"id": "Ｔanaka", "display_name": "田中", "password": "短い", "groups": ["総務部"]}
    assert admin.http.post("/api/v1/admin/users", json=body).status_code == 400
    body["password"] = "たなかのパスワード一"
    made = admin.http.post("/api/v1/admin/users", json=body).json()
    assert (made["id"], made["role"], made["groups"]) == ("tanaka", "member", ["総務部"])
    assert admin.http.post("/api/v1/admin/users", json=body).status_code == 409
    members = {"members": ["user:tanaka", "group:人事部"]}
    assert admin.http.put("/api/v1/admin/groups/本社", json=members).status_code == 200
    assert admin.http.get("/api/v1/admin/groups/本社").json()["members"] == sorted(
        members["members"]
    )
    for bad in ({"members": ["tanaka"]}, {"members": "x"}, {}):
        assert admin.http.put("/api/v1/admin/groups/本社", json=bad).status_code == 422
    assert admin.http.delete("/api/v1/admin/groups/本社").status_code == 200
    assert admin.http.get("/api/v1/admin/groups/本社").status_code == 404
    assert "たなかのパスワード一" not in repr(audit.entries(machine.engine))


def test_nobody_removes_the_last_administrator(admin: Person) -> None:
    for body in ({"disabled": True}, {"role": "member"}):
        assert admin.http.patch("/api/v1/admin/users/admin", json=body).status_code == 409


def test_a_key_is_shown_once_and_dies_at_once(client: TestClient, admin: Person) -> None:
    body = {"name": "ポータル", "user_id": "ito", "scopes": ["query"]}
    made = admin.http.post("/api/v1/admin/keys", json=body).json()
    secret, key = made["secret"], made["key"]
    assert secret.startswith(key["prefix"]) and key["name"] == "ポータル"
    headers = {"authorization": f"Bearer {secret}"}
    question = {"question": "宿泊費はいくらですか"}
    assert client.post("/api/v1/query", json=question, headers=headers).status_code == 200
    listed = admin.http.get("/api/v1/admin/keys")
    assert secret not in listed.text and listed.json()["keys"][0]["last_used_at"]
    assert admin.http.delete(f"/api/v1/admin/keys/{key['id']}").status_code == 200
    assert client.post("/api/v1/query", json=question, headers=headers).status_code == 401
    for bad in ({"scopes": []}, {"scopes": ["everything"]}, {"expires_in_days": 0}):
        assert admin.http.post("/api/v1/admin/keys", json=body | bad).status_code == 422


def test_the_audit_chain_can_be_read_and_checked(
    admin: Person, person: Callable[[str], Person]
) -> None:
    person("ito")
    told = admin.http.get("/api/v1/admin/audit", params={"verify": True, "limit": 2}).json()
    first, second = told["records"]
    assert first["sequence"] == second["sequence"] + 1 and told["first_bad"] is None
    older = admin.http.get("/api/v1/admin/audit", params={"before": second["sequence"]}).json()
    assert all(r["sequence"] < second["sequence"] for r in older["records"])
