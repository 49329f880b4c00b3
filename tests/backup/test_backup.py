"""Backups and restores, as a person types them: real processes, files and databases."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from appliance import build
from appliance.api import create_app
from appliance.backup import create, proof, read, restore, retention, vault
from appliance.backup.vault import Manifest, Vault
from appliance.errors import BackupProblem
from appliance.ingest.sync import sync
from appliance.settings import Settings, file
from appliance.store import audit, database, signing, sources
from appliance.testing.fakes import HashEmbedder, MemoryConnector
from tests.backup import site
from tests.backup.site import Home

WHERE = [
    pytest.param("sqlite", "sqlite"),
    pytest.param("sqlite", "postgresql", marks=(pytest.mark.postgres, pytest.mark.long)),
    pytest.param("postgresql", "sqlite", marks=(pytest.mark.postgres, pytest.mark.long)),
    pytest.param("postgresql", "postgresql", marks=pytest.mark.postgres),
]


def key(home: Home) -> Path:
    return home.folder / "鍵.txt"


def restored(home: Home, **more: Any) -> Home:
    """A bare host on which the latest backup was restored."""
    other = Home(home.folder, name="別のマシン", **more)
    other.kura("restore", home.backups, "--key", key(home))
    return other


@pytest.mark.parametrize(("before", "after"), WHERE)
def test_a_site_comes_back_as_it_was(
    before: str, after: str, tmp_path: Path, postgres: Callable[[], str]
) -> None:
    home = Home(tmp_path, url=postgres() if before == "postgresql" else "")
    secrets = site.make(home)
    was = site.seen(home)
    assert was["ito"]["chats"][0]["messages"][0]["citations"]
    assert site.UPLOAD in str(was["ito"]["uploads"])
    assert [p for p in was["sato"]["passages"] if site.SECRET in p[1]]
    answer = site.asked(home)
    expected = site.facts(home.settings.database_url)
    home.kura("backup", "create")

    url = postgres() if after == "postgresql" else ""
    other = restored(home, more={"KURA_DATABASE_URL": url} if url else {})
    assert (other.data.stat().st_mode & 0o777, other.settings.database_url) == (
        0o700,
        url or f"sqlite:///{other.data}/kura.db",
    )
    assert site.facts(other.settings.database_url) == expected
    assert site.files(other.data) == site.files(home.data)
    found = site.seen(other)
    for user_id in ("ito", "sato"):
        chats = {c["id"]: c for c in found[user_id]["chats"]}
        assert all(chats[c["id"]] == c for c in was[user_id]["chats"])
        assert found[user_id]["passages"] == was[user_id]["passages"]
        assert found[user_id]["uploads"] == was[user_id]["uploads"]
    assert site.SECRET not in json.dumps(found["ito"])
    again = site.asked(other)
    assert (again["answer"], again["citations"]) == (answer["answer"], answer["citations"])

    engine = database.connect(other.settings.database_url)
    assert audit.verify(engine) is None
    assert "backup.restore" in [entry.action for entry in audit.entries(engine)]
    (uploads,) = (s for s in sources.all(engine) if s.kind == "uploads")
    assert uploads.settings["root"] == str(other.data / "uploads")
    with database.writing(engine) as s:  # numbers go on where they were
        number = s.connection().execute(text("SELECT max(sequence) FROM change")).scalar_one()
        s.connection().execute(
            text("INSERT INTO change (document_id, removed, at) VALUES ('x', :none, :at)"),
            {"none": b"", "at": datetime.now(UTC) if url else "2026-01-01 00:00:00.000000"},
        )
        later = s.connection().execute(text("SELECT max(sequence) FROM change")).scalar_one()
    assert later > number
    engine.dispose()
    assert who(other, cookie=secrets["session"]) == 401
    assert who(other, token=secrets["token"]) == 200


def who(home: Home, cookie: str = "", token: str = "") -> int:
    machine = build.web(home.settings, embedder=HashEmbedder(), generator=None)
    machine.follower.reconcile()
    try:
        with TestClient(create_app(machine), base_url=site.ORIGIN) as client:
            if token:
                headers = {"Authorization": f"Bearer {token}"}
                body = {"question": site.QUESTION}
                status = client.post("/api/v1/search", json=body, headers=headers).status_code
            else:
                site.signed_in(client, "ito")
                (name,) = client.cookies
                client.cookies.clear()
                client.cookies.set(name, cookie)
                status = client.get("/api/v1/session").status_code
            return int(status)
    finally:
        machine.follower.close()
        machine.engine.dispose()


def test_what_did_not_change_is_not_written_again(home: Home) -> None:
    first = home.told("backup", "create")
    assert first["new_bytes"] == first["stored_bytes"] > 0
    change(home, "規程/第1号 出張旅費.txt", "変わった規程。" * 40)
    second = home.told("backup", "create")
    assert 0 < second["new_bytes"] < second["stored_bytes"]
    assert {b["name"] for b in home.told("backup", "list")["backups"]} == {
        first["name"],
        second["name"],
    }
    old = Home(home.folder, name="前の日")
    old.kura("restore", home.backups, "--at", first["name"], "--key", key(home))
    assert "変わった規程" not in str(site.seen(old))
    assert "変わった規程" in str(site.seen(restored(home)))


def change(home: Home, uri: str, content: str) -> None:
    engine = database.connect(home.settings.database_url)
    source = sources.by_name(engine, "共有フォルダ")
    assert source is not None
    held = dict(site.texts(12)) | {uri: (content, site.PUBLIC)}
    sync(engine, source, MemoryConnector(held), HashEmbedder(), site.parse, home.settings)
    engine.dispose()


def test_many_documents_and_one_that_changes(tmp_path: Path) -> None:
    home = Home(tmp_path)
    site.make(home, 300)
    first = home.told("backup", "create")
    assert first["rows"]["document"] >= 300
    second = home.told("backup", "create")
    assert second["new_bytes"] < first["new_bytes"] / 10
    home.kura("backup", "verify", "--restore", "--key", key(home))
    other = restored(home)
    assert site.facts(other.settings.database_url)["chunk"].rows == first["rows"]["chunk"]


def test_without_a_recipient_it_refuses_unless_told(home: Home) -> None:
    config = home.data / "kura.toml"
    config.write_text(f'backup_folder = "{home.backups}"\n', "utf-8")
    refused = home.kura("backup", "create", status=1)
    assert "backup key" in refused and "--plain" in refused
    assert not list(home.backups.rglob("*.json"))
    assert "暗号化していません" in home.kura("backup", "create", "--plain")
    other = Home(home.folder, name="別のマシン")
    whose = home.told("backup", "verify")["signed_by"]
    assert whose in other.kura("restore", home.backups, status=1)
    other.kura("restore", home.backups, "--site", whose)
    assert site.facts(other.settings.database_url) == site.facts(home.settings.database_url)
    for name in ("secrets.key", "attest/site.key"):
        assert not (other.data / name).exists()  # whoever has the backup has no password


def test_models_that_lie_elsewhere_are_not_missed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    site.make(home)
    home.kura("backup", "create")
    words = ("restore", home.backups, "--key", key(home))
    (tmp_path / "模型").mkdir()
    told = Home(tmp_path, name="一台目").kura(*words)
    assert "kura models unpack" in told
    there = {"KURA_MODELS": str(tmp_path / "模型")}
    assert "kura models unpack" not in Home(tmp_path, name="二台目", more=there).kura(*words)


def test_a_thief_of_the_backup_reads_nothing(home: Home, secrets: dict[str, str]) -> None:
    home.kura("backup", "create")
    hidden = [secrets["secret"], site.SECRET, site.UPLOAD, "出張", "役員報酬", secrets["token"]]
    hidden.append((home.data / "secrets.key").read_bytes().hex())
    for one in (p for p in home.backups.rglob("*") if p.is_file()):
        data = one.read_bytes()
        assert not [h for h in hidden if h.encode() in data], one
        assert (home.data / "secrets.key").read_bytes() not in data
    for one in (p for p in home.data.rglob("*") if p.is_file()):
        assert secrets["secret"].encode() not in one.read_bytes(), one


def test_only_the_right_key_opens_it(home: Home) -> None:
    home.kura("backup", "create")
    other = Home(home.folder, name="別のマシン")
    wrong = home.folder / "違う鍵"
    wrong.write_text(home.told("backup", "key")["secret"], "utf-8")
    words = ("restore", home.backups)
    assert "この鍵では" in other.kura(*words, "--key", wrong, status=1)
    wrong.write_text("鍵ではない", "utf-8")
    assert "鍵を読めません" in other.kura(*words, "--key", wrong, status=1)
    assert "読めません" in other.kura(*words, "--key", home.folder / "ない", status=1)
    assert "--key" in other.kura(*words, status=1)
    assert not other.data.exists()
    other.kura(*words, "--key", "-", given=key(home).read_text("utf-8"))
    home.kura("backup", "verify")  # digests need no key


def test_damage_is_named_and_nothing_is_half_done(home: Home) -> None:
    home.kura("backup", "create")
    other = Home(home.folder, name="別のマシン")
    words = ("restore", home.backups, "--key", key(home))
    index = read.unlocked(read.find(home.backups), lambda: key(home).read_text("utf-8")).index
    (name, *_) = next(table.parts for table in index.tables if table.name == "chunk")
    part = home.backups / "parts" / name[:2] / name
    whole = part.read_bytes()

    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "壊れています" in home.kura("backup", "verify", status=1)
    assert f"部品 {part.name[:12]}… が壊れています" in other.kura(*words, status=78)
    part.unlink()
    assert f"部品 {part.name[:12]}… がありません" in other.kura(*words, status=78)
    part.symlink_to(key(home))
    assert "リンク" in other.kura(*words, status=1)
    part.unlink()
    assert [p.name for p in home.folder.iterdir() if "別のマシン" in p.name] == []

    home.kura("backup", "create")  # finds out, and writes it anew
    assert part.is_file()
    home.kura("backup", "verify", "--restore", "--key", key(home))
    other.kura(*words)


def test_manifests_are_judged(home: Home) -> None:
    name = home.told("backup", "create")["name"]
    other = Home(home.folder, name="別のマシン")
    words = ("restore", home.backups, "--key", key(home))
    path = home.backups / "backups" / f"{name}.json"
    whole = path.read_text("utf-8")

    site_key = signing.key(home.data / signing.FOLDER)

    def refused(**changed: Any) -> str:
        path.write_text(json.dumps(proof.signed(json.loads(whole) | changed, site_key)), "utf-8")
        return other.kura(*words, status=1)

    assert "より新しい Kura (9.0) のもの" in refused(format=2, kura="9.0")
    assert "より新しい Kura (9.0) のもの" in refused(revision="9999", kura="9.0")
    assert "目録" in refused(index="../../etc/passwd")
    assert "ほかの控え" in refused(name="20200101T000000Z")
    path.write_text("{", "utf-8")
    assert "壊れています" in other.kura(*words, status=1)
    path.write_text(whole, "utf-8")
    assert "ありません" in other.kura(*words, "--at", "20200101T000000Z", status=1)
    (home.backups / "backups" / f"{name}.parts").write_bytes(b"x")
    assert "壊れています" in other.kura(*words, status=78)
    assert "控えはありません" in other.kura("restore", home.folder, "--key", key(home), status=1)
    assert not other.data.exists()


def test_what_the_site_did_not_make_is_refused_unless_told(home: Home, tmp_path: Path) -> None:
    """Whoever may write the folder and knows the recipient lays a backup of their own there."""
    first = home.told("backup", "create")
    attacker = Home(tmp_path / "攻撃者")
    attacker.folder.mkdir()
    shutil.copytree(home.data, attacker.data, ignore=shutil.ignore_patterns("attest"))
    shutil.copytree(home.backups, attacker.backups)
    config = attacker.data / "kura.toml"
    config.write_text(config.read_text("utf-8").replace(str(home.folder), str(attacker.folder)))
    time.sleep(1.1)
    forged = attacker.told("backup", "create", "--new-folder")
    assert forged["signed_by"] != first["signed_by"] and forged["name"] > first["name"]
    shutil.copytree(attacker.backups, home.backups, dirs_exist_ok=True)

    bare = Home(home.folder, name="別のマシン")
    for where, more in ((home, ["--replace"]), (bare, [])):
        refused = where.kura("restore", home.backups, "--key", key(home), *more, status=1)
        assert forged["name"] in refused and "このサイトが作ったものではありません" in refused
    assert "作ったものではありません" in home.kura("backup", "verify", status=1)
    assert not bare.data.exists()
    bare.kura("restore", home.backups, "--key", key(home), "--at", first["name"])
    told = Home(home.folder, name="承知の上")
    told.kura("restore", home.backups, "--key", key(home), "--any-site")

    path = home.backups / "backups" / f"{forged['name']}.json"
    stated = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(stated | {"signed_by": first["signed_by"]}), "utf-8")
    again = Home(home.folder, name="もう一台")
    words = ("restore", home.backups, "--key", key(home))
    assert "書き換えられて" in again.kura(*words, status=1)
    path.write_text(json.dumps(stated | {"signed_by": "", "signature": ""}), "utf-8")
    assert "署名がありません" in again.kura(*words, status=1)  # as those of older versions
    again.kura(*words, "--any-site")
    with_none = home.folder / "指紋のない紙"
    with_none.write_text(key(home).read_text("utf-8").partition("site:")[0], "utf-8")
    third = Home(home.folder, name="三台目")
    words = ("restore", home.backups, "--at", first["name"], "--key", with_none)
    assert "--site" in third.kura(*words, status=1)
    assert "--site には" in third.kura(*words, "--site", "1234", status=1)
    third.kura(*words, "--site", home.data / "attest" / "site.pub")


def test_a_new_backup_builds_on_nothing_that_others_laid_there(home: Home) -> None:
    """A part that is there already is not written again: it must be one that this site made."""
    first = home.told("backup", "create")
    kept = Vault(home.backups)
    parts = kept.parts(kept.manifest(first["name"]))
    path = home.backups / "backups" / f"{first['name']}.json"
    stated = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(stated | {"signed_by": "", "signature": ""}), "utf-8")
    time.sleep(1.1)
    second = home.told("backup", "create")
    assert second["new_bytes"] == second["stored_bytes"]  # nothing of it was believed
    assert {n: k[0] for n, k in parts.items()} != {
        n: k[0] for n, k in kept.parts(kept.manifest(second["name"])).items()
    }


def test_a_target_that_is_not_empty_is_left_alone_or_put_aside(home: Home) -> None:
    home.kura("backup", "create")
    kept = site.facts(home.settings.database_url)
    change(home, "規程/第1号 出張旅費.txt", "控えの後に変わった規程。" * 40)
    now = site.facts(home.settings.database_url)
    assert now != kept
    words = ("restore", home.backups, "--key", key(home))
    refused = home.kura(*words, status=1)
    assert "空ではありません" in refused and "--replace" in refused
    assert site.facts(home.settings.database_url) == now
    (home.data / "models").mkdir()
    (home.data / "models" / "重み").write_bytes(b"w")
    aside = Path(home.told(*words, "--replace")["aside"])
    assert site.facts(home.settings.database_url) == kept
    assert site.facts(f"sqlite:///{aside / 'kura.db'}") == now
    assert (home.data / "models" / "重み").read_bytes() == b"w"
    assert home.settings.backup_folder == home.backups
    assert not list(home.folder.glob(".*restore-*"))


def test_links_and_missing_folders(home: Home, tmp_path: Path) -> None:
    link = home.data / "uploads" / "つながり"
    link.symlink_to(tmp_path)
    assert "uploads/つながり はリンクです" in home.kura("backup", "create", status=1)
    link.unlink()
    home.kura("backup", "create")
    (tmp_path / "ab").mkdir()
    other = tmp_path / "ab" / ("ab" * 32)
    other.write_text("ほかのもの", "utf-8")
    shelf = home.backups / "parts" / "zz"
    shelf.symlink_to(tmp_path / "ab")
    assert "リンクです" in home.kura("backup", "create", status=1)
    assert other.exists()
    shelf.unlink()
    (home.folder / "リンク").symlink_to(tmp_path)
    words = ("restore", home.backups, "--key", key(home))
    assert "リンクです" in Home(home.folder, name="リンク").kura(*words, status=1)
    inside = Home(home.folder, more={"KURA_BACKUP_FOLDER": str(home.data / "控え")})
    assert "データフォルダーの中" in inside.kura("backup", "create", status=1)
    shutil.rmtree(home.backups)
    assert "前回の控えのフォルダーではありません" in home.kura("backup", "create", status=1)
    assert "がありません" in home.kura("backup", "create", "--new-folder", status=1)
    home.backups.mkdir()  # a share that is not mounted is an empty folder
    assert "共有がつながっているか" in home.kura("backup", "create", status=1)
    assert not any(home.backups.iterdir())
    home.kura("backup", "create", "--new-folder")


def test_a_full_disk_leaves_what_was_there(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.kura("backup", "create")
    change(home, "規程/第1号 出張旅費.txt", "控えの後に変わった規程。" * 40)
    settings, engine = home.settings, database.connect(home.settings.database_url)
    before = sorted(p for p in home.backups.rglob("*") if p.is_file())
    for nth in range(1, 30):  # every write in turn, until none fails
        calls = iter(range(1, 1000))

        def full(handle: int, mode: str, real: Any = os.fdopen) -> Any:
            if mode == "wb" and next(calls) == nth:  # noqa: B023  used in this turn
                os.close(handle)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(handle, mode)

        monkeypatch.setattr(vault.os, "fdopen", full)
        try:
            create.create(settings, engine, file(home.environment))
            break
        except BackupProblem as error:
            assert "空きがありません" in str(error)
        finally:
            monkeypatch.undo()
        assert not list((home.backups / "unfinished").iterdir())
        assert len(Vault(home.backups).names()) == 1
    assert nth > 3
    engine.dispose()
    assert set(before) < {p for p in home.backups.rglob("*") if p.is_file()}

    found = read.unlocked(read.find(home.backups), lambda: key(home).read_text("utf-8"))
    other = Home(home.folder, name="別のマシン")
    for nth in range(1, 30):
        calls = iter(range(1, 1000))

        def full(handle: int, mode: str, real: Any = os.fdopen) -> Any:
            if mode == "wb" and next(calls) == nth:  # noqa: B023
                os.close(handle)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(handle, mode)

        monkeypatch.setattr(read.os, "fdopen", full)
        try:
            restore.restore(found, other.data, other.settings.database_url)
            break
        except BackupProblem as error:
            assert "空きがありません" in str(error)
        finally:
            monkeypatch.undo()
        assert not [p for p in home.folder.iterdir() if "別のマシン" in p.name]
    assert nth > 3
    assert site.files(other.data) == site.files(home.data)


def test_a_damaged_manifest_keeps_no_backup_from_being_made(home: Home) -> None:
    first = home.told("backup", "create")["name"]
    path = home.backups / "backups" / f"{first}.parts"
    path.write_bytes(b"x")
    before = {p for p in (home.backups / "parts").rglob("*") if p.is_file()}
    second = home.told("backup", "create")
    assert second["new_bytes"] > 0  # nothing of the damaged one is believed
    assert before <= {p for p in (home.backups / "parts").rglob("*") if p.is_file()}
    listed = home.told("backup", "list")
    assert [b["name"] for b in listed["backups"]] == [second["name"]]
    assert first in listed["problems"][0]
    home.kura("backup", "verify")
    home.kura("backup", "verify", "--at", first, status=78)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "空きがありません"),
        (errno.EDQUOT, "空きがありません"),
        (errno.EACCES, "Kura のアカウントの権限"),
        (errno.EROFS, "Kura のアカウントの権限"),
        (errno.ELOOP, "リンクです"),
        (errno.EIO, "ディスクか共有を確かめて"),
    ],
)
def test_what_a_disk_says_is_a_sentence(
    code: int, sentence: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code), str(home.backups))

    engine = database.connect(home.settings.database_url)
    for name in ("open", "fsync"):
        with monkeypatch.context() as failing:
            failing.setattr(vault.os, name, broken)
            with pytest.raises(BackupProblem, match=sentence):
                create.create(home.settings, engine, file(home.environment))
        assert Vault(home.backups).id == "" or not Vault(home.backups).names()
    engine.dispose()


def test_nothing_is_restored_under_a_running_kura(home: Home) -> None:
    from appliance import up

    home.kura("backup", "create")
    words = ("restore", home.backups, "--key", key(home), "--replace")
    for name, alone in (("web", True), ("work", False)):
        with up.held(home.data, name, alone=alone), up.held(home.data, "work", alone=False):
            assert "すでに動いています" in home.kura(*words, status=1)
    home.kura(*words)


def test_a_backup_under_load_is_of_one_moment(home: Home) -> None:
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            change(home, "規程/第2号 出張旅費.txt", f"{n} 回目の規程。" * 60)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            home.kura("backup", "create")
            time.sleep(0.5)
    finally:
        stop.set()
        writer.join()
    for n, name in enumerate(b["name"] for b in home.told("backup", "list")["backups"]):
        other = Home(home.folder, name=f"{n} 番目")
        other.kura("restore", home.backups, "--at", name, "--key", key(home))
        with sqlite3.connect(other.data / "kura.db") as connection:
            none = "SELECT count(*) FROM chunk WHERE document_id NOT IN (SELECT id FROM document)"
            lost = (
                "SELECT count(*) FROM document WHERE status = 'ready' AND id NOT IN "
                "(SELECT document_id FROM chunk)"
            )
            assert [connection.execute(q).fetchone()[0] for q in (none, lost)] == [0, 0]
        connection.close()


def test_which_backups_stay() -> None:
    now = datetime(2026, 11, 27, 3, tzinfo=UTC)
    made = [manifest(now - timedelta(days=n)) for n in range(800)]
    settings = Settings(backup_keep_days=3, backup_keep_weeks=2, backup_keep_months=2)
    stay = retention.kept(made, settings, now)
    assert sorted(stay) == [
        "20261031T030000Z",  # the last of October
        "20261122T030000Z",  # the last of the week before
        "20261125T030000Z",
        "20261126T030000Z",
        "20261127T030000Z",
    ]
    assert retention.kept(made[-1:], settings, now) == {made[-1].name}
    today = [manifest(now - timedelta(hours=n)) for n in range(5)]
    assert len(retention.kept(today, settings, now)) == 5


def manifest(at: datetime) -> Manifest:
    return Manifest(
        format=1,
        name=f"{at:%Y%m%dT%H%M%SZ}",
        made_at=at,
        kura="0",
        revision="0001",
        database="sqlite",
        key="",
        rows={},
        files=0,
        bytes=0,
        stored_bytes=0,
        new_bytes=0,
        parts=0,
        parts_sha256="",
        index="0" * 64,
    )


def test_old_backups_go_with_their_parts(home: Home) -> None:
    config = home.data / "kura.toml"
    keep = "backup_keep_days = 1\nbackup_keep_weeks = 1\nbackup_keep_months = 1\n"
    config.write_text(config.read_text("utf-8") + keep, "utf-8")
    first = home.told("backup", "create")
    kept = Vault(home.backups)
    path = home.backups / "backups" / f"{first['name']}.json"
    old = json.loads(path.read_text("utf-8")) | {
        "name": "20200101T000000Z",
        "made_at": "2020-01-01T00:00:00Z",
        "signed_by": "",  # as older versions made them
        "signature": "",
    }
    path.unlink()
    path.with_suffix(".parts").rename(path.with_name("20200101T000000Z.parts"))
    path.with_name("20200101T000000Z.json").write_text(json.dumps(old), "utf-8")
    change(home, "規程/第1号 出張旅費.txt", "変わった規程。" * 40)
    second = home.told("backup", "create")
    assert second["removed"] == ["20200101T000000Z"]
    assert kept.names() == [second["name"]]
    left = {p.name for p in (home.backups / "parts").rglob("*") if p.is_file()}
    assert left == kept.parts(kept.manifest(second["name"])).keys()
    home.kura("backup", "verify")
