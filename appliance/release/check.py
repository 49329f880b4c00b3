"""A running Kura does what people need of it: sign in, take a file in, answer from it, show the place.

Through its own HTTP, by an account that is there for this alone. Account, file and answer are gone
afterwards; the audit record keeps that it was tried, as it keeps everything.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

import httpx2
from sqlalchemy import Engine

from appliance import tls, up
from appliance.api import shelf
from appliance.errors import ApplianceError
from appliance.identity import accounts
from appliance.settings import Settings
from appliance.store import audit, catalog, people, sources
from appliance.system import uploads

WHO = "kura-check-"  # how the account's name begins
POLL_S = 0.2


@dataclass(frozen=True)
class Done:
    name: str
    took_s: float
    problem: str = ""


class Failed(Exception):
    """What did not work, for a person."""


def run(
    trial: Trial, say: Callable[[Done], None] = lambda done: None, *, only_ready: bool = False
) -> list[Done]:
    """Each thing in its order, up to the first that fails. Nothing of an earlier one stays either."""
    done: list[Done] = []
    steps = (
        ("起動", trial.ready),
        ("サインイン", trial.sign_in),
        ("取り込み", trial.ingest),
        ("検索", trial.find),
        ("回答と出典", trial.ask),
        ("出典を開く", trial.open),
    )
    try:
        for name, step in steps[: 1 if only_ready else None]:
            began = time.monotonic()
            problem = ""
            try:
                step()
            except Failed as error:
                problem = str(error)
            except (ApplianceError, httpx2.HTTPError, KeyError, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
            done.append(Done(name, round(time.monotonic() - began, 2), problem))
            say(done[-1])
            if problem:
                break
    finally:
        trial.leave()
    return done


def sweep(settings: Settings, engine: Engine) -> None:
    """Account and file of a check, also of one that was killed."""
    for user in [one.id for one in people.users(engine) if one.id.startswith(WHO)]:
        for item in shelf.of(uploads(settings), user):
            shelf.delete(uploads(settings), user, item.id)
            for source in sources.all(engine):
                if source.kind == "uploads":
                    catalog.forget(engine, source.id, item.id)
        people.remove(engine, user)
        audit.record(engine, "system", "check.end", {"user": user})


class Trial:
    """`ready_s` to serve; `within_s` for each thing after that. Of this `version`, where it is given."""

    def __init__(
        self, settings: Settings, engine: Engine, ready_s: float, within_s: float, version: str
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._ready_s = ready_s
        self._within_s = within_s
        self._version = version
        self._user = f"{WHO}{secrets.token_hex(4)}"
        self._number = secrets.randbelow(9000) + 1000
        self._document = ""
        self._began = False
        scheme = "https" if settings.tls else "http"
        self._http = httpx2.Client(
            base_url=f"{scheme}://{up.local_host(settings)}:{settings.web_port}",
            verify=tls.believed(settings) or True,
            timeout=within_s,
            trust_env=False,
        )

    @property
    def _question(self) -> str:
        return f"点検資料 {self._user} の保守窓口の内線番号は何番ですか"

    def ready(self) -> None:
        deadline = time.monotonic() + self._ready_s
        said: Any = "応答がありません"
        while time.monotonic() < deadline:
            try:
                said = self._http.get("/api/v1/health", timeout=5.0).json()
                if said["status"] == "ready":
                    break
            except (httpx2.HTTPError, ValueError):
                said = "応答がありません"
            time.sleep(POLL_S)
        else:
            raise Failed(f"{self._ready_s:.0f} 秒のうちに使えるようになりませんでした（{said}）")
        if self._version and said["version"] != self._version:
            raise Failed(f"{self._version} ではなく {said['version']} が動いています")

    def sign_in(self) -> None:
        self._began = True
        sweep(self._settings, self._engine)
        password = secrets.token_urlsafe(24)
        accounts.create(self._engine, self._user, "更新の点検", "member", password)
        audit.record(self._engine, "system", "check.begin", {"user": self._user})
        body = {"user_id": self._user, "password": password}
        answer = self._http.post("/api/v1/session", json=body)
        told = _good(answer)
        # by hand: behind TLS the cookie is only for https, and this is the machine itself
        jar = SimpleCookie(answer.headers["set-cookie"])
        cookie = "; ".join(f"{name}={one.value}" for name, one in jar.items())
        self._http.cookies.clear()
        self._http.headers.update({"cookie": cookie, "x-csrf-token": told["csrf_token"]})

    def ingest(self) -> None:
        text = f"点検資料 {self._user}\n\n保守窓口の内線番号は {self._number} 番です。\n"
        sent = {"file": (f"点検資料 {self._user}.txt", text.encode(), "text/plain")}
        upload = _good(self._http.post("/api/v1/uploads", files=sent))["id"]

        def read() -> bool:
            listed = _good(self._http.get("/api/v1/uploads"))["uploads"]
            mine = next((one for one in listed if one["id"] == upload), None)
            if mine is None or mine["status"] == "problem":
                raise Failed(f"ファイルを読めません: {mine and mine['problem']}")
            self._document = mine["document_id"] or ""
            return bool(mine["status"] == "ready")

        self._until(read, "ファイルが取り込まれません")

    def find(self) -> None:
        def found() -> bool:
            body = {"question": self._question, "k": 5}
            passages = _good(self._http.post("/api/v1/search", json=body))["passages"]
            return any(one["document_id"] == self._document for one in passages)

        self._until(found, "取り込んだ資料が見つかりません")

    def ask(self) -> None:
        answer = _good(self._http.post("/api/v1/query", json={"question": self._question}))
        cited = [one for one in answer["citations"] if one.get("document_id") == self._document]
        if not cited:
            raise Failed(f"答えに出典がありません: {answer['answer'][:200]}")

    def open(self) -> None:
        opened = _good(self._http.get(f"/api/v1/documents/{self._document}"))
        if str(self._number) not in str(opened):
            raise Failed("出典を開いても、元の文がありません")

    def leave(self) -> None:
        self._http.close()
        if self._began:
            sweep(self._settings, self._engine)

    def _until(self, true: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + self._within_s
        while not true():
            if time.monotonic() > deadline:
                raise Failed(f"{self._within_s:.0f} 秒待っても、{otherwise}")
            time.sleep(POLL_S)


def _good(answer: httpx2.Response) -> Any:
    if answer.is_error:
        raise Failed(f"HTTP {answer.status_code}: {answer.text[:300]}")
    return answer.json()
