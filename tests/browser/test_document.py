"""The page of one document: pictures, text, outline, chunks, what is known, and what may be done."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from appliance.formats.sandbox import Sandbox
from appliance.ingest import pages
from appliance.ingest.sync import sync
from appliance.store import catalog, sources
from appliance.store.timing import Timing
from appliance.system import Appliance
from appliance.testing.fakes import ScriptedPages
from connectors.folder import FolderConnector, FolderSettings
from tests.browser.conftest import SECRET, Desk

CORPUS = Path(__file__).resolve().parents[1] / "corpus"


def shot(page: Page, name: str) -> None:
    """For whoever wants to look: `KURA_SHOTS=folder pytest …`."""
    if folder := os.environ.get("KURA_SHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")


def document(machine: Appliance, uri: str) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for one in catalog.documents(machine.engine, size=200).documents:
            if one.uri == uri:
                return one.id
        time.sleep(0.05)
    raise AssertionError(f"{uri} was not taken in")


@pytest.fixture
def rules(machine: Appliance, working: None, tmp_path: Path) -> str:
    """A PDF of four pages, the third without text."""
    share = tmp_path / "共有"
    share.mkdir()
    shutil.copy(CORPUS / "規程.pdf", share / "出張旅費規程.pdf")
    sources.create(
        machine.engine, "総務", "folder", {"root": str(share), "allow": ["everyone"]}, Timing(3600)
    )
    return document(machine, "出張旅費規程.pdf")


def ink(page: Page) -> int:
    """Dark pixels of the page's picture, once it is drawn."""
    canvas = page.locator(".pictureFrame canvas")
    expect(canvas).to_be_visible()
    return int(
        canvas.evaluate(
            "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
            ".reduce((n, v, i) => n + (i % 4 === 0 && v < 128 ? 1 : 0), 0)"
        )
    )


def test_a_page_beside_its_text(desk: Desk, rules: str) -> None:
    page = desk.sign_in("admin", "/admin/documents")
    page.get_by_role("link", name="出張旅費規程", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("出張旅費規程")
    view = page.get_by_role("tabpanel")
    expect(view).to_contain_text("第1条（目的）")
    assert ink(page) > 5_000
    shot(page, "page")

    page.get_by_role("button", name="次のページ").click()
    expect(view).to_contain_text("第2条（定義）")
    expect(view).not_to_contain_text("第1条（目的）")
    view.press("ArrowRight")
    expect(page.get_by_label("ページ番号")).to_have_value("3")
    expect(view).to_contain_text("このページから取り出した文字はありません")
    expect(view).to_contain_text("画像のみ")
    page.get_by_label("ページ番号").fill("４")
    page.keyboard.press("Enter")
    expect(view).to_contain_text("第12条（宿泊費）")
    page.go_back()
    expect(page.get_by_label("ページ番号")).to_have_value("3")
    page.get_by_role("button", name="拡大する").click()
    expect(page.get_by_role("button", name="幅に合わせる")).to_be_visible()

    page.get_by_role("tab", name="本文").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="構成")).to_be_focused()
    shot(page, "outline")
    view.get_by_role("button", name="第12条 宿泊費").click()
    expect(page.get_by_role("tab", name="本文")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label("ページ番号")).to_have_value("4")
    expect(view.locator("mark.cited")).to_have_text("第12条（宿泊費）")
    shot(page, "marked")
    page.get_by_role("tab", name="断片").click()
    shot(page, "chunks")
    first = view.locator(".chunks button").first
    words = first.locator(".chunkText").inner_text()
    first.click()
    expect(page.get_by_label("ページ番号")).to_have_value("1")
    assert view.locator("mark.cited").inner_text()[:20] == words[:20]
    page.get_by_role("tab", name="情報").click()
    expect(view).to_contain_text("形式PDF")
    expect(view).not_to_contain_text("application/pdf")
    expect(view).to_contain_text("許可: 全員")
    expect(view.locator(".history")).to_contain_text("取り込み")
    shot(page, "info")
    page.set_viewport_size({"width": 390, "height": 800})
    shot(page, "narrow-info")
    page.get_by_role("tab", name="本文").click()
    assert ink(page) > 0
    shot(page, "narrow")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, "nothing sticks out"


@pytest.fixture
def minutes(machine: Appliance, tmp_path: Path) -> Iterator[str]:
    """A PDF whose letters are garbled, read from its picture."""
    share = tmp_path / "議事録"
    share.mkdir()
    shutil.copy(CORPUS / "文字化け.pdf", share / "議事録.pdf")
    source = sources.create(
        machine.engine, "役員", "folder", {"root": str(share), "allow": ["everyone"]}, Timing(3600)
    )
    with Sandbox(machine.settings) as sandbox:
        connector = FolderConnector(FolderSettings(root=share, allow=["everyone"]))
        sync(machine.engine, source, connector, machine.embedder, sandbox.parse, machine.settings)
        reader = ScriptedPages({1: "役員会の議事録である。"})
        room = pages.Room(machine.engine, reader, sandbox.parse, machine.embedder, machine.settings)
        while pages.turn(room, "worker", threading.Event()):
            pass
        yield document(machine, "議事録.pdf")


def test_the_words_that_were_cited_are_marked_on_the_picture(
    desk: Desk, rules: str, machine: Appliance
) -> None:
    page = desk.sign_in("admin", f"/d/{rules}")
    expect(page.get_by_role("tabpanel")).to_contain_text("第1条（目的）")
    known = page.request.get(f"{desk.origin}/api/v1/documents/{rules}").json()["text"]
    words = "従業員が業務のため出張するとき"
    start = known.index(words)
    page.goto(f"{desk.origin}/d/{rules}/at/{start}-{start + len(words)}")
    assert ink(page) > 5_000
    mark = page.locator(".pictureMark")
    expect(mark).to_have_count(1)
    # there is ink under the mark, and it is as long as its words on a line of 40 letters
    under = mark.evaluate(
        """m => {
          const c = m.parentElement.querySelector('canvas');
          const [a, b] = [m.getBoundingClientRect(), c.getBoundingClientRect()];
          const k = c.width / b.width;
          const d = c.getContext('2d').getImageData(
            (a.x - b.x) * k, (a.y - b.y) * k, a.width * k, a.height * k).data;
          return [d.reduce((n, v, i) => n + (i % 4 === 0 && v < 128 ? 1 : 0), 0), a.width / b.width];
        }"""
    )
    assert under[0] > 200 and 0.2 < under[1] < 0.5
    shot(page, "placed")
    page.get_by_role("button", name="拡大する").click()
    shot(page, "placed-large")
    page.get_by_role("button", name="次のページ").click()
    expect(page.get_by_label("ページ番号")).to_have_value("2")
    expect(mark).to_have_count(0)


def test_both_texts_of_a_garbled_page(desk: Desk, minutes: str) -> None:
    page = desk.sign_in("admin", f"/d/{minutes}")
    view = page.get_by_role("tabpanel")
    expect(view).to_contain_text("役員会の議事録である。")
    expect(view).to_contain_text("文字化け")
    expect(view).to_contain_text("判定の確かさ")
    view.get_by_role("button", name="比べる").click()
    expect(view).to_contain_text("どの言語の文にもならない")
    own = view.get_by_role("region", name="ファイルが持つ文字")
    read = view.get_by_role("region", name="文字認識 (OCR) の文字")
    expect(read).to_contain_text("役員会の議事録である。")
    expect(own).not_to_contain_text("役員会")
    expect(own.locator("mark.differs").first).to_be_visible()
    expect(read.locator("mark.differs").first).to_be_visible()
    shot(page, "compared")
    page.set_viewport_size({"width": 390, "height": 800})
    shot(page, "narrow-compared")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"


def test_correcting_and_reading_again(
    desk: Desk, rules: str, machine: Appliance, tmp_path: Path
) -> None:
    page = desk.sign_in("admin", f"/d/{rules}")
    page.get_by_role("button", name="訂正").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("取り込み元での題名: 出張旅費規程")
    dialog.get_by_label("題名").fill("")
    dialog.get_by_role("button", name="保存").click()
    expect(dialog.get_by_role("alert")).to_contain_text("題名")
    dialog.get_by_label("題名").fill("旅費規程（本社・2026年度）")
    dialog.get_by_label("施行日・改定日").fill("2026-04-01")
    shot(page, "correcting")
    dialog.get_by_role("button", name="保存").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("旅費規程（本社・2026年度）")
    expect(page.get_by_text("訂正済み").first).to_be_visible()

    before = catalog.documents(machine.engine, text="旅費規程（本社").documents[0].updated_at
    page.get_by_role("button", name="再読み込み").click()
    page.get_by_role("tab", name="情報").click()
    history = page.locator(".history li")
    expect(history.first).to_contain_text("再読み込み")
    expect(history.nth(1)).to_contain_text("旅費規程（本社・2026年度） · 2026-04-01")
    expect(page.get_by_text("再読み込みを待っています")).to_have_count(0)
    assert catalog.documents(machine.engine, text="旅費規程（本社").documents[0].updated_at > before
    expect(page.get_by_role("heading", level=1)).to_have_text("旅費規程（本社・2026年度）")
    expect(page.locator(".facts dl")).to_contain_text("2026年4月1日")
    shot(page, "corrected")

    # a second time, when its source cannot be seen: it stays as it was, and says why
    (tmp_path / "共有").rename(tmp_path / "外れた")
    page.get_by_role("button", name="再読み込み").click()
    expect(page.get_by_text("再読み込みできませんでした")).to_be_visible()
    shot(page, "unreachable")
    (tmp_path / "外れた").rename(tmp_path / "共有")

    page.get_by_role("button", name="訂正", exact=True).click()
    dialog.get_by_role("button", name="訂正を取り消す").click()
    dialog.get_by_role("button", name="保存").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("出張旅費規程")


def test_the_original_is_saved_never_shown(desk: Desk, rules: str) -> None:
    page = desk.sign_in("ito", f"/d/{rules}")
    assert page.get_by_role("button", name="訂正").count() == 0
    with page.expect_download() as started:
        page.get_by_role("link", name="原本をダウンロード").click()
    assert started.value.suggested_filename == "出張旅費規程.pdf"
    assert Path(started.value.path()).read_bytes() == (CORPUS / "規程.pdf").read_bytes()


def test_from_a_citation_to_its_words(desk: Desk) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    desk.answer.locator("button.marker").first.click()
    panel = page.get_by_role("complementary", name="資料")
    cited = panel.locator("mark.cited").inner_text()
    panel.get_by_role("link", name="資料のページを開く").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("旅費規程.txt")
    expect(page.locator(".documentText mark.cited")).to_have_text(cited)
    expect(page.locator(".documentText mark.cited")).to_be_in_viewport()
    expect(page.get_by_text("ページの画像がありません")).to_be_visible()
    shot(page, "cited")
    page.go_back()
    expect(page.locator(".exchange")).to_have_count(1)


def test_who_may_not_read(desk_for: Callable[..., Desk], machine: Appliance) -> None:
    secret = document(machine, "人事/役員報酬.txt")
    page = desk_for().sign_in("ito", f"/d/{secret}")
    expect(page.get_by_role("alert")).to_contain_text("見つかりません")
    for path in ("/d/nothing", f"/d/{secret}/at/5-", f"/d/{secret}/p/0"):
        page.goto(page.url.split("/d/")[0] + path)
        expect(page.locator("main")).to_contain_text("ません")
    page = desk_for().sign_in("admin", f"/d/{secret}")
    expect(page.get_by_text("本文を読む権限がありません")).to_be_visible()
    expect(page.locator("main")).to_contain_text("許可: 人事部")
    page.get_by_role("button", name="読める人を調べる").click()
    expect(page.locator("main")).to_contain_text("人事部 による")
    assert page.get_by_role("tab").count() == 0
    assert page.get_by_role("link", name="原本").count() == 0
    assert SECRET[:6] not in page.locator("main").inner_text()
    shot(page, "not-readable")


def test_without_a_worker_the_text_is_there_and_the_picture_says_why(
    desk: Desk, machine: Appliance
) -> None:
    id = document(machine, "規程/旅費規程.txt")
    page = desk.sign_in("ito", "/")
    # a document whose kind has pictures, of a source that nobody reaches now
    with machine.engine.execution_options(kura_write=True).begin() as connection:
        connection.exec_driver_sql("UPDATE document SET media_type = 'application/pdf'")
    page.goto(f"{desk.origin}/d/{id}")
    problem = page.locator(".picture").get_by_role("alert")
    expect(problem).to_contain_text("kura work")
    expect(problem.get_by_role("button", name="もう一度試す")).to_be_visible()
    expect(page.get_by_role("tabpanel")).to_contain_text("旅費を所管する")
    shot(page, "no-worker")
