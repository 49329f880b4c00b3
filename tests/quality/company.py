"""The sample company on a running machine: real processes, real models, people who ask over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from appliance import build, settings
from appliance.settings import Settings
from appliance.store import catalog, sources
from installer.sample import load
from tests import ports

READY_S, LOADED_S = 180.0, 1200.0
API = "/api/v1"


@dataclass(frozen=True)
class Golden:
    """One golden question. `uri`, `label` and `answer` are empty where no document answers."""

    id: str
    kind: str
    question: str
    viewer: str
    denied: Sequence[str]
    uri: str
    label: str
    answer: str
    accept: Sequence[str]

    def answered_by(self, text: str) -> bool:
        said = plain(text)
        return any(plain(words) in said for words in (self.answer, *self.accept) if words)


def golden() -> list[Golden]:
    lines = (load.HERE / "golden.jsonl").read_text("utf-8").splitlines()
    return [Golden(**json.loads(line)) for line in lines if line.strip()]


def plain(text: str) -> str:
    """Without the differences that do not matter: width, commas, blanks."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(text.replace(",", "").split())


@dataclass
class Person:
    """Somebody signed in, as a browser is."""

    http: httpx2.Client
    token: str

    def post(self, path: str, body: dict[str, Any], **more: Any) -> httpx2.Response:
        headers = {"X-CSRF-Token": self.token, "Origin": str(self.http.base_url).rstrip("/")}
        return self.http.post(API + path, json=body, headers=headers | more.pop("headers", {}))

    def ask(self, question: str) -> dict[str, Any]:
        response = self.post("/query", {"question": question})
        response.raise_for_status()
        return dict(response.json())

    def search(self, question: str, k: int = 5, *, rerank: bool = False) -> list[dict[str, Any]]:
        response = self.post("/search", {"question": question, "k": k, "rerank": rerank})
        response.raise_for_status()
        return list(response.json()["passages"])

    def events(self, question: str) -> Iterator[tuple[str, Any]]:
        """(name, data) of each server-sent event of an answer."""
        headers = {"X-CSRF-Token": self.token, "Origin": str(self.http.base_url).rstrip("/")}
        headers["Accept"] = "text/event-stream"
        body = {"question": question}
        with self.http.stream("POST", f"{API}/query", json=body, headers=headers) as response:
            name = ""
            for line in response.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))


@dataclass
class Company:
    """An installation with the sample company in it. `start` and `stop` as often as wanted."""

    settings: Settings
    ready_s: float = 0.0  # from start to the first question that may be asked
    loaded_s: float = 0.0  # from ready to all documents taken in
    _up: subprocess.Popen[bytes] | None = None
    _people: dict[str, Person] = field(default_factory=dict)

    def load(self) -> None:
        engine = build.store(self.settings)
        load.load(engine, self.settings)
        engine.dispose()

    def start(self) -> None:
        began = time.monotonic()
        environment = os.environ | {
            "KURA_DATA": str(self.settings.data),
            "KURA_MODELS": str(self.settings.models),
            "KURA_WEB_PORT": str(self.settings.web_port),
        }
        self._up = subprocess.Popen(
            [sys.executable, "-m", "appliance.cli", "up"], env=environment, start_new_session=True
        )
        with self._http() as http:
            while time.monotonic() - began < READY_S:
                assert self._up.poll() is None, f"kura up ended: {self._up.returncode}"
                try:
                    if http.get(f"{API}/health").json()["status"] == "ready":
                        self.ready_s = time.monotonic() - began
                        return
                except (httpx2.HTTPError, ValueError):
                    pass  # it does not listen yet
                time.sleep(0.1)  # both cores are wanted elsewhere
        raise AssertionError("kura up is not ready; see its log")

    def wait_loaded(self) -> float:
        """Until every document was taken in. Returns the seconds it took."""
        began = time.monotonic()
        engine = build.store(self.settings)
        try:
            while time.monotonic() - began < LOADED_S:
                source = sources.by_name(engine, load.SOURCE)
                if source and source.cursor:
                    self._wait_followed(catalog.counts(engine).chunks)
                    return time.monotonic() - began
                time.sleep(0.3)
        finally:
            engine.dispose()
        raise AssertionError("the documents were not taken in; see the log")

    def _wait_followed(self, chunks: int) -> None:
        admin = self.person("kobayashi")
        for _ in range(600):
            status = admin.http.get(f"{API}/admin/status").json()
            level = all(index["chunks"] == chunks for index in status["indexes"])
            # what was stopped for long is withheld until its source was listed again
            if level and not status["withheld_sources"]:
                return
            time.sleep(0.1)
        raise AssertionError("the indexes do not follow the catalogue, or a source is withheld")

    def person(self, user_id: str) -> Person:
        if user_id not in self._people:
            http = self._http()
            body = {"user_id": user_id, "password": load.passwords(self.settings)[user_id]}
            headers = {"Origin": str(http.base_url).rstrip("/")}
            response = http.post(f"{API}/session", json=body, headers=headers)
            response.raise_for_status()
            self._people[user_id] = Person(http, response.json()["csrf_token"])
        return self._people[user_id]

    def wait_replaced(self, process: str, killed: int) -> None:
        """Until another process does the work of the killed one, and questions may be asked."""
        health = "unreachable"
        with self._http() as http:
            for _ in range(240):
                time.sleep(0.5)
                try:
                    health = http.get(f"{API}/health").json()["status"]
                    if health == "ready" and self.pid(process) != killed:
                        return
                except (httpx2.HTTPError, AssertionError):
                    continue  # it is not up yet
        raise AssertionError(f"{process} did not come back; health: {health}")

    def pid(self, process: str) -> int:
        """The process id of infer, web or work."""
        assert self._up is not None
        found = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self._up.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        for line in found.stdout.splitlines():
            pid, args = line.strip().split(" ", 1)
            if f"appliance.cli {process}" in args:
                return int(pid)
        raise AssertionError(f"{process} is not running")

    def stop(self) -> None:
        for person in self._people.values():
            person.http.close()
        self._people.clear()
        if self._up:
            self._up.send_signal(signal.SIGTERM)
            self._up.wait(60)
            self._up = None

    def _http(self) -> httpx2.Client:
        base = f"http://{self.settings.web_host}:{self.settings.web_port}"
        return httpx2.Client(base_url=base, timeout=120, trust_env=False)


@contextmanager
def running(data: Path) -> Iterator[Company]:
    """The sample company, loaded and up, on a free port."""
    company = Company(
        settings.load(data=data, models=settings.load({}).models, web_port=ports.free())
    )
    company.load()
    try:
        company.start()
        company.loaded_s = company.wait_loaded()
        yield company
    finally:
        company.stop()
