"""A site with two people, their rights, a chat, an upload; and what of it must come back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from fastapi.testclient import TestClient

from appliance import build
from appliance.api import create_app
from appliance.identity import accounts, keys
from appliance.ingest.sync import sync
from appliance.settings import Settings, load
from appliance.store import database, sources, transfer
from appliance.testing.fakes import HashEmbedder, MemoryConnector, ScriptedGenerator
from appliance.types import Access, Document, Layer, Principal, RawFile
from tests import forked

ROOT = Path(__file__).parents[2]
PASSWORD = "正しいパスワード99"
ORIGIN = "http://127.0.0.1:8400"
QUESTION = "出張の宿泊費の上限は？"
SECRET = "KANARIA-42"
UPLOAD = "大切な資料（最終版）.txt"
PUBLIC: Access = (Layer(frozenset({Principal("everyone")})),)
HR: Access = (Layer(frozenset({Principal("group:人事部")})),)
NOT_THE_SAME = {"audit", "site", "source"}  # a restore writes into these


@dataclass
class Home:
    """A data folder, and a folder for backups, with the environment that names them."""

    folder: Path
    url: str = ""
    name: str = "データ"
    more: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / self.name

    @property
    def backups(self) -> Path:
        return self.folder / "控え"

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KURA_")}
        made = {"KURA_DATA": str(self.data), "PYTHONPATH": str(ROOT), **self.more}
        return kept | made | ({"KURA_DATABASE_URL": self.url} if self.url else {})

    @property
    def settings(self) -> Settings:
        """As its own processes read them, but quick and without the real models."""
        return load(self.environment, evidence_threshold=0.01, follow_seconds=0.05)

    def kura(self, *words: str | Path, status: int = 0, given: str = "") -> str:
        """What it prints; where it fails, the one sentence that it says."""
        done = self._run(*words, status=status, given=given)
        return done.stdout if status == 0 else done.stderr or done.stdout

    def _run(self, *words: str | Path, status: int, given: str = "") -> CompletedProcess[str]:
        done = forked.kura(*words, env=self.environment, given=given)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def told(self, *words: str | Path, status: int = 0) -> Any:
        return json.loads(self._run(*words, "--json", status=status).stdout)


def parse(file: RawFile) -> tuple[Document, str]:
    with file.open() as stream:
        return Document(stream.read().decode()), "text/plain"


def texts(many: int) -> dict[str, tuple[str, Access]]:
    found = {
        f"規程/第{n}号 出張旅費.txt": (
            f"第{n}号の規程。出張の宿泊費は一泊{n}千円を上限とする。" * 8,
            PUBLIC,
        )
        for n in range(1, many)
    }
    return found | {"人事/役員報酬.txt": (f"役員報酬は年三千万円。コード {SECRET} を付す。", HR)}


def make(home: Home, many: int = 12) -> dict[str, str]:
    """A site in that home, its key for the API and its backups set up. Returns the secrets."""
    home.data.mkdir(mode=0o700)
    home.backups.mkdir()
    pair = home.told("backup", "key")
    (home.data / "kura.toml").write_text(
        f'backup_folder = "{home.backups}"\nbackup_recipient = "{pair["recipient"]}"\n', "utf-8"
    )
    (home.folder / "鍵.txt").write_text(
        f"# 紙の鍵\n{pair['secret']}\nsite: {pair['site']}\n", "utf-8"
    )
    settings = home.settings
    machine = build.web(settings, embedder=HashEmbedder(), generator=ScriptedGenerator(script=said))
    for user_id, role in (("admin", "administrator"), ("ito", "member"), ("sato", "member")):
        accounts.create(machine.engine, user_id, user_id, role, PASSWORD)  # type: ignore[arg-type]
    accounts.set_group(machine.engine, "人事部", ["user:sato"])
    _, token = keys.issue(machine.engine, "道具", "ito", ["search"], created_by="admin")
    source = sources.create(machine.engine, "共有フォルダ", "memory", {})
    sync(
        machine.engine, source, MemoryConnector(dict(texts(many))), HashEmbedder(), parse, settings
    )
    machine.follower.reconcile()
    with TestClient(create_app(machine), base_url=ORIGIN) as client:
        signed_in(client, "ito")
        session = client.cookies.get("kura_session") or next(iter(client.cookies.values()))
        client.post("/api/v1/query", json={"question": QUESTION}).raise_for_status()
        sent = {"file": (UPLOAD, "防災の手引き".encode(), "text/plain")}
        client.post("/api/v1/uploads", files=sent).raise_for_status()
    machine.follower.close()
    machine.engine.dispose()
    return pair | {"token": token, "session": session}


def said(prompt: object) -> Any:
    yield "宿泊費の上限は規程の通りです[1]。"


def signed_in(client: TestClient, user_id: str) -> None:
    body = {"user_id": user_id, "password": PASSWORD}
    response = client.post("/api/v1/session", json=body)
    response.raise_for_status()
    client.headers["x-csrf-token"] = response.json()["csrf_token"]


def seen(home: Home) -> dict[str, Any]:
    """What each of them sees: their chats with citations, what they find, what they are answered."""
    machine = build.web(
        home.settings, embedder=HashEmbedder(), generator=ScriptedGenerator(script=said)
    )
    machine.follower.reconcile()
    found: dict[str, Any] = {}
    try:
        for user_id in ("ito", "sato"):
            with TestClient(create_app(machine), base_url=ORIGIN) as client:
                signed_in(client, user_id)
                listed = client.get("/api/v1/conversations").json()["conversations"]
                body = {"question": f"役員報酬のコードと{QUESTION}", "k": 20}
                hits = client.post("/api/v1/search", json=body).json()["passages"]
                found[user_id] = {
                    "chats": [
                        client.get(f"/api/v1/conversations/{c['id']}").json() for c in listed
                    ],
                    "passages": [(p["title"], p["text"]) for p in hits],
                    "uploads": client.get("/api/v1/uploads").json(),
                }
    finally:
        machine.follower.close()
        machine.engine.dispose()
    return found


def asked(home: Home) -> Any:
    machine = build.web(
        home.settings, embedder=HashEmbedder(), generator=ScriptedGenerator(script=said)
    )
    machine.follower.reconcile()
    try:
        with TestClient(create_app(machine), base_url=ORIGIN) as client:
            signed_in(client, "ito")
            return client.post("/api/v1/query", json={"question": QUESTION}).json()
    finally:
        machine.follower.close()
        machine.engine.dispose()


def facts(url: str) -> Mapping[str, transfer.Facts]:
    """Of every table that a restore leaves as it was."""
    engine = database.connect(url)
    try:
        with database.reading(engine) as session:
            connection = session.connection()
            return {
                table.name: transfer.facts(connection, table)
                for table in transfer.tables()
                if table.name not in NOT_THE_SAME
            }
    finally:
        engine.dispose()


def files(folder: Path) -> dict[str, bytes]:
    """What was uploaded and the key: all that is not made anew."""
    found = {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in (folder / "uploads").rglob("*")
        if p.is_file()
    }
    return found | {"secrets.key": (folder / "secrets.key").read_bytes()}
