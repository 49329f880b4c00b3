"""The pictures of the manuals, taken of the real product with the sample company: `make pictures`.

Each is a function of `SHOTS`, named after its file in docs/ja/images. One can be
taken alone: `python -m tests.browser.pictures answer citation`.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from appliance import build, up
from appliance import settings as configuration
from appliance.identity import accounts, keys
from appliance.settings import Settings
from appliance.store import sources
from appliance.store.timing import Timing
from installer import demo
from installer.sample import load
from tests import ports
from tests.browser.conftest import ARGS

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "ja" / "images"
COLOURS = 128  # a screen has few; a picture is a third as large
EMPLOYEE, ADMINISTRATOR = "takahashi", "kobayashi"
ASKED = "出張から帰って何日以内に精算しますか。"
UNSURE = "出張で東京に泊まるとき、宿泊費はいくらまで出ますか。"
SHELF = Path("/srv/share")  # where the pictures show the files to lie, if it can be made
SHARE = "総務部 共有"
BROKEN = ROOT / "tests/corpus/hostile/pdf/途中で終わる.pdf"
PATIENCE_MS = 90_000


@dataclass
class Visit:
    """Somebody's browser at the sample company."""

    browser: Browser
    origin: str
    passwords: dict[str, str]

    def page(self, path: str = "/", *, who: str = "", width: int = 1280, height: int = 800) -> Page:
        context = self.browser.new_context(
            locale="ja-JP",
            timezone_id="Asia/Tokyo",
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(self.origin + (path if not who else "/"))
        if who:
            page.get_by_label("利用者ID").fill(who)
            page.get_by_label("パスワード", exact=True).fill(self.passwords[who])
            page.get_by_role("button", name="サインイン", exact=True).click()
            page.locator(".shell").wait_for()
            page.goto(self.origin + path)
        return page

    def asked(self, question: str, **size: int) -> Page:
        page = self.page("/", who=EMPLOYEE, **size)
        page.get_by_role("textbox", name="質問").fill(question)
        page.keyboard.press("Enter")
        expect(page.locator(".exchange:not(.live)")).to_have_count(1)
        return page


Shot = Callable[[Visit], Page]


# --- people -------------------------------------------------------------------------


def sign_in(visit: Visit) -> Page:
    page = visit.page(height=640)
    page.get_by_label("利用者ID").fill(EMPLOYEE)
    return page


def question(visit: Visit) -> Page:
    page = visit.page("/", who=EMPLOYEE, height=720)
    page.get_by_role("textbox", name="質問").fill(ASKED)
    return page


def answer(visit: Visit) -> Page:
    return visit.asked(ASKED)


def citation(visit: Visit) -> Page:
    page = visit.asked(ASKED)
    page.locator(".answerText .marker").first.click()
    expect(page.locator(".sourcePanel mark").first).to_be_visible()
    return page


def document(visit: Visit) -> Page:
    page = visit.asked(ASKED)
    page.locator(".answerText .marker").first.click()
    page.get_by_role("link", name="資料のページを開く").click()
    expect(page.get_by_role("img", name=re.compile("ページの画像"))).to_be_visible()
    return page


def not_found(visit: Visit) -> Page:
    return visit.asked(UNSURE)


def narrowing(visit: Visit) -> Page:
    page = visit.page("/", who=EMPLOYEE)
    page.get_by_role("button", name="資料を絞り込む").click()
    return page


def uploads(visit: Visit) -> Page:
    return visit.page("/documents", who=EMPLOYEE)


def phone(visit: Visit) -> Page:
    return visit.asked(ASKED, width=390, height=780)


# --- administrators -------------------------------------------------------------------


def first_run(visit: Visit) -> Page:
    """`origin` is of a machine where nobody has registered yet."""
    page = visit.page(height=800)
    page.get_by_label("登録コード").fill("ABCD-EFGH-JKLM-NPQR")
    page.get_by_label("利用者ID").fill("kobayashi")
    page.get_by_label("表示名").fill("小林誠")
    return page


def room(name: str, height: int = 800) -> Shot:
    def shot(visit: Visit) -> Page:
        page = visit.page(f"/admin/{name}", who=ADMINISTRATOR, height=height)
        page.locator("h1").wait_for()
        return page

    return shot


def source_add(visit: Visit) -> Page:
    page = room("sources", 900)(visit)
    page.get_by_role("button", name="情報源を追加").click()
    page.get_by_label("名前", exact=True).fill("社内規程")
    page.get_by_label("フォルダー", exact=True).fill("/srv/share/kitei")
    page.get_by_label("閲覧できる人").fill("everyone")
    return page


def runs(visit: Visit) -> Page:
    page = room("sources")(visit)
    page.locator(".card", has_text=SHARE).get_by_role("button", name="取り込みの履歴").click()
    page.get_by_role("dialog").get_by_role("button", name="文書ごとの結果").last.click()
    expect(page.get_by_role("dialog")).to_contain_text("失敗：")
    return page


def documents(visit: Visit) -> Page:
    page = room("documents", 560)(visit)
    page.get_by_label("状態", exact=True).select_option("problem")
    expect(page.locator("tbody tr")).to_have_count(1)
    return page


def sight(visit: Visit) -> Page:
    page = room("people")(visit)
    page.get_by_role("button", name="見えるもの: 佐藤美咲").click()
    expect(page.get_by_role("dialog")).to_contain_text("件中")
    return page


def directories(visit: Visit) -> Page:
    page = room("directories", 900)(visit)
    page.get_by_role("button", name="ディレクトリを追加").click()
    form = page.get_by_role("dialog")
    form.get_by_label("名前", exact=True).fill("本社AD")
    form.get_by_label("サーバー", exact=True).fill("dc01.example.co.jp")
    form.get_by_label("利用者名", exact=True).fill("kura@example.co.jp")
    return page


def retrieval(visit: Visit) -> Page:
    page = room("retrieval", 640)(visit)
    page.get_by_label("質問").fill(UNSURE)
    page.get_by_role("button", name="探す").click()
    expect(page.locator("tbody tr").first).to_be_visible()
    return page


def synonyms(visit: Visit) -> Page:
    page = room("synonyms", 640)(visit)
    page.get_by_label("同じ意味の言葉").fill(
        "就規、就業規則\n年調、年末調整\nあんぴくん、安否確認システム\n"
    )
    return page


SHOTS: dict[str, Shot] = {
    "sign-in": sign_in,
    "question": question,
    "answer": answer,
    "citation": citation,
    "document": document,
    "not-found": not_found,
    "narrowing": narrowing,
    "uploads": uploads,
    "phone": phone,
    "first-run": first_run,
    "status": room("status"),
    "sources": room("sources"),
    "source-add": source_add,
    "runs": runs,
    "documents": documents,
    "people": room("people"),
    "sight": sight,
    "groups": room("groups"),
    "directories": directories,
    "keys": room("keys"),
    "synonyms": synonyms,
    "retrieval": retrieval,
}


# --- taking them ----------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of the manuals.")
    parser.add_argument("names", nargs="*", help="these alone")
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--running", action="store_true", help="use what runs on KURA_DATA")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE_MS)
    with _company(given.running) as settings, _browser() as browser:
        visit = Visit(browser, settings.origin, load.passwords(settings))
        for name in given.names or SHOTS:
            if name == "first-run":
                with _nobody() as origin:
                    _take(name, replace(visit, origin=origin), given.out)
            else:
                _take(name, visit, given.out)


def _take(name: str, visit: Visit, out: Path) -> None:
    page = SHOTS[name](visit)
    page.wait_for_load_state("networkidle")
    size = _keep(page.screenshot(animations="disabled", caret="hide"), out / f"{name}.png")
    page.context.close()
    print(f"{name}.png {size // 1024} kB", flush=True)


def _keep(shot: bytes, path: Path) -> int:
    with Image.open(io.BytesIO(shot)) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
    return path.stat().st_size


@contextmanager
def _company(running: bool) -> Iterator[Settings]:
    """The sample company, and a small share with a file that cannot be read."""
    settings = configuration.load()
    if running:
        yield settings
        return
    os.environ["KURA_MODELS"] = str(settings.models)
    os.environ["KURA_TIME_ZONE"] = "Asia/Tokyo"
    with tempfile.TemporaryDirectory(prefix="kura-pictures-") as room, _shelf(Path(room)) as shelf:
        data = Path(room) / "data"
        settings = configuration.load(data=data, web_port=ports.free())
        engine = build.store(settings)
        sources.create(engine, load.SOURCE, "folder", {"root": str(shelf / "蔵前精機")}, Timing(30))
        load.load(engine, settings)
        small = {"root": str(shelf / "soumu"), "allow": ["everyone"]}
        sources.create(engine, SHARE, "folder", small)
        accounts.create(engine, "portal", "社内ポータル", "member", secrets.token_hex(16))
        for name in ("社内ポータルの質問欄", "監視"):
            keys.issue(engine, name, "portal", ("query", "search"), created_by=ADMINISTRATOR)
        engine.dispose()
        with demo._running(settings) as up, demo._browser(settings) as http:
            demo._wait_ready(http, up)
            demo._wait_loaded(settings, up)
            yield settings


@contextmanager
def _shelf(otherwise: Path) -> Iterator[Path]:
    """The files, under a name that a company's server has, where this account may make it."""
    shelf = SHELF
    try:
        shelf.mkdir(parents=True)
    except OSError:
        shelf = otherwise / "share"
        shelf.mkdir()
    try:
        shutil.copytree(load.HERE / "files", shelf / "蔵前精機")
        small = shelf / "soumu"
        small.mkdir()
        (small / "駐車場の案内.txt").write_text("来客用の駐車場は北門の横に五台分ある。\n", "utf-8")
        shutil.copy(BROKEN, small / "会員名簿（旧）.pdf")
        yield shelf
    finally:
        shutil.rmtree(shelf)


@contextmanager
def _nobody() -> Iterator[str]:
    """A machine that was started for the first time."""
    with tempfile.TemporaryDirectory(prefix="kura-first-") as room:
        settings = configuration.load(data=Path(room) / "data", web_port=ports.free())
        settings.data.mkdir(mode=0o700)
        told = {"KURA_DATA": str(settings.data), "KURA_WEB_PORT": str(settings.web_port)}
        web = subprocess.Popen(
            [sys.executable, "-m", "appliance.cli", "web"],
            env=os.environ | told,
            stderr=subprocess.DEVNULL,
        )
        try:
            while up.web_status(settings) not in ("ready", "degraded"):
                if web.poll() is not None:
                    raise SystemExit("kura web ended")
                time.sleep(0.2)
            yield settings.origin
        finally:
            web.terminate()
            web.wait(30)


@contextmanager
def _browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGS))
        yield browser
        browser.close()


if __name__ == "__main__":
    main()
