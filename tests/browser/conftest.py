"""A real chromium before the real web process: only the models are fakes, as slow as a test wants.

Two people: ito of 総務部 and sato of 人事部; and an administrator.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import argon2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright
from sqlalchemy import Engine

from appliance import build, worker
from appliance.api import serve
from appliance.errors import Unreadable
from appliance.identity import accounts, passwords
from appliance.ingest.sync import sync
from appliance.ports import Reader
from appliance.settings import Settings
from appliance.store import sources
from appliance.system import Appliance
from appliance.testing.fakes import HashEmbedder, MemoryConnector, ScriptedGenerator
from appliance.types import Access, Document, Layer, Mark, Principal, Prompt, RawFile

DIST = Path(__file__).resolve().parents[2] / "ui" / "dist"
PASSWORD = "正しいパスワード99"
PUBLIC: Access = (Layer(frozenset({Principal("everyone")})),)
HR: Access = (Layer(frozenset({Principal("group:人事部")})),)

# 𠮷 before the cited words: one character, two UTF-16 units
TRAVEL = (
    "旅費規程\n\n"
    + "第1条 𠮷田総務部長が旅費を所管する。細則は別に定める。\n" * 60
    + "第12条 出張の宿泊費は一泊一万円を上限とする。日当は二千円とする。\n"
    + "第13条 精算は帰着の日から七日のうちに行う。\n" * 60
)
SECRET = "役員報酬は年三千万円とする。極秘コード KANARIA-42 を付す。"
FILES: dict[str, tuple[str, Access]] = {
    "規程/旅費規程.txt": (TRAVEL, PUBLIC),
    "人事/役員報酬.txt": (SECRET, HR),
}
LODGING = "出張の宿泊費の上限はいくらですか"
ANSWER = "出張の宿泊費は一泊一万円が上限です[1]。"
ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass
class Model:
    """What the model says, piece by piece; `hold` makes it wait before a piece until let go."""

    text: str = ANSWER
    hold_at: int | None = None
    broken: Exception | None = None
    go_on: threading.Event = field(default_factory=threading.Event)
    prompts: list[Prompt] = field(default_factory=list)

    def __call__(self, prompt: Prompt) -> Iterator[str]:
        self.prompts.append(prompt)
        for at in range(0, len(self.text), 4):
            if self.hold_at is not None and at >= self.hold_at:
                while not self.go_on.wait(0.02):
                    yield ""
            if self.broken is not None and at >= 8:
                raise self.broken
            yield self.text[at : at + 4]
            time.sleep(0.005)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def residents() -> tuple[tuple[str, str], ...]:
    return (("admin", "管理 太郎"), ("ito", "伊藤 健"), ("sato", "佐藤 美咲"))


@pytest.fixture
def machine(
    sqlite_engine: Engine,
    tmp_path: Path,
    model: Model,
    residents: tuple[tuple[str, str], ...],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Appliance]:
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", cheap)
    monkeypatch.setattr(passwords, "_NOBODYS", cheap.hash("nobody has this password"))
    if not (DIST / "index.html").is_file():
        pytest.fail("the UI has not been built: make ui")
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    settings = Settings(data=data, follow_seconds=0.05, answer_tokens=4000)
    made = build.web(
        settings,
        engine=sqlite_engine,
        embedder=HashEmbedder(),
        generator=ScriptedGenerator(script=model, context_tokens=16_000),
    )
    for user_id, name in residents:
        role = "administrator" if user_id == "admin" else "member"
        accounts.create(sqlite_engine, user_id, name, role, PASSWORD)
    if residents:
        accounts.set_group(sqlite_engine, "総務部", ["user:ito"])
        accounts.set_group(sqlite_engine, "人事部", ["user:sato"])
    sources.create(sqlite_engine, "共有フォルダ", "memory", {})
    made = replace(made, model_answers=lambda: True)
    take_in(made, FILES)
    made.follower.start()
    yield made
    model.go_on.set()
    made.follower.close()


def take_in(machine: Appliance, files: dict[str, tuple[str, Access]]) -> None:
    """The shared folder now holds exactly these files; one with no text cannot be read."""

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            text = stream.read().decode()
        if not text:
            raise Unreadable("文字を取り出せません（画像だけのファイルです）。")
        starts = [at for at in range(len(text)) if text.startswith("第", at)]
        marks = tuple(Mark(at, text[at : text.index("条", at) + 1]) for at in starts[:1])
        return Document(text, (Mark(0, "p. 1", "page", 1), *marks)), "text/plain"

    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source is not None
    sync(
        machine.engine,
        source,
        MemoryConnector(dict(files)),
        machine.embedder,
        parse,
        machine.settings,
    )


def read_by(machine: Appliance, reader: Reader) -> None:
    """From now on a reader decides what stands, as beside a small model."""
    reading = replace(machine.retriever, reader=reader)
    for name, value in (("retriever", reading), ("caution", 0.4)):
        object.__setattr__(machine.answerer, name, value)  # the server has it already


@pytest.fixture
def origin(machine: Appliance) -> Iterator[str]:
    """Where the machine listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        serving = serve.server(replace(machine, settings=replace(machine.settings, web_port=port)))
        thread = threading.Thread(target=serving.run, args=([listening],), daemon=True)
        thread.start()
        while not serving.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
        serving.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def working(machine: Appliance) -> Iterator[None]:
    """`kura work` beside it, with its sandbox. Pages that are pictures stay so."""
    stop = threading.Event()
    settings = replace(machine.settings, ocr=False)
    workshop = build.work(settings, engine=machine.engine, embedder=machine.embedder)
    thread = threading.Thread(target=worker.run, args=(workshop, stop), daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """For these tests alone: playwright leaves a running event loop behind it while it is open."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if path is None:
        pytest.fail("chromium is not installed; `make test` installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGS))
        yield browser
        browser.close()


@dataclass
class Desk:
    """Somebody's browser, and what it did: no test may end with a request to elsewhere."""

    context: BrowserContext
    page: Page
    origin: str
    foreign: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("request", self._requested)
        page.on("pageerror", lambda error: self.broken.append(str(error)))
        page.on(
            "console",
            lambda m: self.broken.append(m.text) if "Content Security Policy" in m.text else None,
        )

    def _requested(self, request: Request) -> None:
        if not request.url.startswith((self.origin + "/", "data:", "blob:")):
            self.foreign.append(request.url)

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.origin + path)
        return self.page

    def sign_in(self, user_id: str, path: str = "/") -> Page:
        page = self.open(path)
        page.get_by_label("利用者ID").fill(user_id)
        page.get_by_label("パスワード", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="サインイン", exact=True).click()
        page.locator(".shell").wait_for()
        return page

    def type(self, question: str) -> None:
        self.page.get_by_role("textbox", name="質問").fill(question)

    def ask(self, question: str = LODGING, wait: bool = True) -> None:
        """Ask, and wait until the answer has ended."""
        count = self.page.locator(".exchange:not(.live)").count()
        self.type(question)
        self.page.keyboard.press("Enter")
        if wait:
            expect(self.page.locator(".exchange:not(.live)")).to_have_count(count + 1)

    @property
    def answer(self) -> Any:
        return self.page.locator(".exchange").last.locator(".answer")


@pytest.fixture
def desk_for(chromium: Browser, origin: str) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def made(**more: Any) -> Desk:
        wanted = {"locale": "ja-JP", "viewport": {"width": 1280, "height": 800}} | more
        context = chromium.new_context(**wanted)
        context.set_default_timeout(15_000)
        desk = Desk(context, context.new_page(), origin)
        desk.watch(desk.page)
        desks.append(desk)
        return desk

    expect.set_options(timeout=15_000)
    yield made
    for desk in desks:
        desk.context.close()
        assert desk.foreign == []
        assert desk.broken == []


@pytest.fixture
def desk(desk_for: Callable[..., Desk]) -> Desk:
    return desk_for()
