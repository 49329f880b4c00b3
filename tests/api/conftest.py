"""A whole appliance behind its HTTP door: real database and indexes, models that rank and remember.

Two people everywhere: ito of 総務部 and sato of 人事部, and an administrator.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import argon2
import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from appliance import build
from appliance.api import create_app, serve
from appliance.identity import accounts, keys, passwords
from appliance.ingest.sync import sync
from appliance.settings import Settings
from appliance.store import sources
from appliance.system import Appliance
from appliance.testing.fakes import HashEmbedder, MemoryConnector, ScriptedGenerator
from appliance.types import Access, Document, Layer, Principal, Prompt, RawFile

PASSWORD = "正しいパスワード99"
ORIGIN = "http://127.0.0.1:8400"
PUBLIC: Access = (Layer(frozenset({Principal("everyone")})),)
HR: Access = (Layer(frozenset({Principal("group:人事部")})),)

FILES: dict[str, tuple[str, Access]] = {
    "規程/旅費規程.txt": ("出張の宿泊費は一泊一万円を上限とする。日当は二千円とする。", PUBLIC),
    "人事/役員報酬.txt": ("役員報酬は年三千万円とする。極秘コード KANARIA-42 を付す。", HR),
}


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", cheap)
    monkeypatch.setattr(passwords, "_NOBODYS", cheap.hash("nobody has this password"))


@dataclass
class Model:
    """A model that says what the test tells it, as slowly as it likes."""

    script: Callable[[Prompt], Iterator[str]] | None = None
    prompts: list[Prompt] = field(default_factory=list)

    def __call__(self, prompt: Prompt) -> Iterator[str]:
        self.prompts.append(prompt)
        if self.script is not None:
            yield from self.script(prompt)
            return
        yield "一泊一万円"
        yield "が上限です[1]。"


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    return Settings(
        data=data,
        follow_seconds=0.05,
        evidence_threshold=0.01,
        answer_tokens=2000,
        ui=tmp_path / "ui",
    )


@pytest.fixture
def machine(settings: Settings, sqlite_engine: Engine, model: Model) -> Iterator[Appliance]:
    made = build.web(
        settings,
        engine=sqlite_engine,
        embedder=HashEmbedder(),
        generator=ScriptedGenerator(script=model),
    )
    for user_id, role in (("admin", "administrator"), ("ito", "member"), ("sato", "member")):
        accounts.create(sqlite_engine, user_id, user_id, role, PASSWORD)  # type: ignore[arg-type]
    accounts.set_group(sqlite_engine, "総務部", ["user:ito"])
    accounts.set_group(sqlite_engine, "人事部", ["user:sato"])
    sources.create(sqlite_engine, "共有フォルダ", "memory", {})
    take_in(made, FILES)
    yield made
    made.follower.close()


def take_in(machine: Appliance, files: dict[str, tuple[str, Access]]) -> None:
    """The shared folder now holds exactly these files."""

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source is not None
    connector = MemoryConnector(dict(files))
    sync(machine.engine, source, connector, machine.embedder, parse, machine.settings)
    if machine.follower.ready:
        machine.follower.catch_up()
    else:
        machine.follower.reconcile()


@pytest.fixture
def client(machine: Appliance) -> Iterator[TestClient]:
    with TestClient(create_app(machine), base_url=ORIGIN) as made:
        yield made


@dataclass
class Person:
    """Somebody's browser: its own cookies, its token on unsafe methods."""

    http: TestClient
    user_id: str = ""

    def sign_in(self, password: str = PASSWORD) -> Any:
        response = self.http.post(
            "/api/v1/session", json={"user_id": self.user_id, "password": password}
        )
        if response.status_code == 200:
            self.http.headers["x-csrf-token"] = response.json()["csrf_token"]
        return response

    def ask(self, question: str, **more: Any) -> Any:
        return self.http.post("/api/v1/query", json={"question": question, **more})


@pytest.fixture
def person(client: TestClient) -> Callable[[str], Person]:
    def made(user_id: str) -> Person:
        one = Person(TestClient(client.app, base_url=ORIGIN), user_id)
        assert one.sign_in().status_code == 200
        return one

    return made


@pytest.fixture
def ito(person: Callable[[str], Person]) -> Person:
    return person("ito")


@pytest.fixture
def sato(person: Callable[[str], Person]) -> Person:
    return person("sato")


@pytest.fixture
def admin(person: Callable[[str], Person]) -> Person:
    return person("admin")


@pytest.fixture
def key_for(machine: Appliance) -> Callable[..., dict[str, str]]:
    """Headers of a new API key."""

    def made(user_id: str, *scopes: str) -> dict[str, str]:
        wanted = scopes or ("query", "search", "documents")
        _, secret = keys.issue(machine.engine, "test", user_id, wanted, created_by="admin")
        return {"Authorization": f"Bearer {secret}"}

    return made


@dataclass(frozen=True)
class Server:
    """The same machine behind a real server on loopback."""

    url: str

    def client(self, **more: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=20, trust_env=False, verify=False, **more)


@pytest.fixture
def server(machine: Appliance) -> Iterator[Server]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        object.__setattr__(machine, "settings", replace(machine.settings, web_port=port))
        serving = serve.server(machine)
        thread = threading.Thread(target=serving.run, args=([listening],), daemon=True)
        thread.start()
        while not serving.started:
            time.sleep(0.01)
        yield Server(f"http://127.0.0.1:{port}")
        serving.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
