"""On a phone, by keyboard, by ear, in the dark."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from appliance.system import Appliance
from tests.browser.conftest import Desk, Model

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}

UNNAMED = """() => [...document.querySelectorAll(
    "button, a[href], input, select, textarea, [role=button], dialog, nav, aside")]
  .filter(e => e.checkVisibility({visibilityProperty: true}))
  .filter(e => {
    const by = (e.getAttribute("aria-labelledby") || "").split(" ")
      .map(id => document.getElementById(id)?.textContent).join("");
    const label = e.labels?.length ? [...e.labels].map(l => l.textContent).join("") : "";
    return !(e.getAttribute("aria-label") || by || label || e.textContent.trim());
  })
  .map(e => e.outerHTML.slice(0, 120))"""

REPEATED = """() => {
  const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
  return ids.filter((id, i) => ids.indexOf(id) !== i);
}"""

# WCAG contrast of every visible text on what lies behind it
FAINT = """() => {
  const canvas = document.createElement("canvas"); canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", {willReadFrequently: true});
  const rgba = c => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = c; pen.fillRect(0, 0, 1, 1);
                      return [...pen.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => { v /= 255;
      return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
      return .2126 * x + .7152 * y + .0722 * z; };
  const behind = e => { for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; }
      return rgba(getComputedStyle(document.body).backgroundColor); };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility({visibilityProperty: true})) continue;
    if (e.closest(".offscreen, .skip, noscript, :disabled, .faded, script")) continue;
    const style = getComputedStyle(e), a = light(rgba(style.color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) {
      found.push(`${ratio.toFixed(2)} ${walk.currentNode.data.slice(0, 20)}`);
    }
  }
  return found;
}"""


def sound(page: Page) -> None:
    """What a checker of accessibility would complain about first."""
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(REPEATED) == []
    assert page.evaluate(FAINT) == []
    assert page.locator("main").count() == 1
    assert page.evaluate("document.documentElement.lang") == "ja"
    assert page.evaluate("document.title")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_named_and_readable(desk_for: Callable[..., Desk], scheme: str) -> None:
    desk = desk_for(color_scheme=scheme)
    page = desk.open()
    page.get_by_label("利用者ID").wait_for()
    sound(page)
    desk.sign_in("admin")
    sound(page)
    desk.ask()
    desk.answer.locator("button.marker").first.click()
    expect(page.locator("mark.cited")).to_be_visible()
    sound(page)
    rooms = ("status", "sources", "documents", "people", "groups", "keys")
    for path in ("/documents", *(f"/admin/{room}" for room in rooms)):
        desk.open(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        sound(page)
    desk.open("/admin/sources")
    page.get_by_role("button", name="情報源を追加").click()
    expect(page.get_by_label("フォルダー", exact=True)).to_be_visible()
    sound(page)


def test_a_phone(desk_for: Callable[..., Desk]) -> None:
    desk = desk_for(**PHONE)
    page = desk.sign_in("admin")
    expect(page.get_by_text("右のボタンで送信")).to_be_visible()
    expect(page.get_by_text("Shift+Enter")).to_have_count(0)
    wide = "document.documentElement.scrollWidth > window.innerWidth"
    desk.ask()
    expect(desk.answer.locator(".answerText")).to_be_in_viewport()
    assert not page.evaluate(wide)
    desk.answer.locator("button.marker").first.tap()
    expect(page.locator("mark.cited")).to_be_in_viewport()
    assert not page.evaluate(wide)
    page.get_by_role("button", name="資料を閉じる").tap()
    expect(page.locator("mark.cited")).to_have_count(0)

    link = page.get_by_role("link", name="出張の宿泊費")
    expect(link).not_to_be_visible()
    page.get_by_role("button", name="これまでの質問").tap()
    expect(link).to_be_visible()
    page.get_by_role("link", name="新しい質問").tap()
    expect(page.get_by_role("heading", name="何をお調べですか")).to_be_visible()
    expect(link).not_to_be_visible()
    rooms = ("status", "sources", "documents", "people", "groups", "keys")
    for path in ("/documents", *(f"/admin/{room}" for room in rooms)):
        desk.open(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert not page.evaluate(wide), path

    page.goto(desk.origin + "/admin/synonyms")
    room = page.get_by_role("navigation", name="管理").get_by_role("link", name="社内用語")
    expect(room).to_be_in_viewport(ratio=1)  # the row of rooms is wider than the screen


def test_by_keyboard_alone(desk: Desk) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    page.keyboard.press("Escape")
    for _ in range(30):
        if page.evaluate("document.activeElement.classList.contains('marker')"):
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("mark.cited")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="資料を閉じる")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("mark.cited")).to_have_count(0)
    assert page.evaluate("document.activeElement.classList.contains('marker')")


def test_a_screen_reader_hears_stages_and_whole_sentences(
    desk: Desk, model: Model, machine: Appliance
) -> None:
    model.text = "一つ目の文です。二つ目の文です[1]。"
    model.hold_at = 12
    page = desk.sign_in("ito")
    page.evaluate(
        """() => {
          const live = document.querySelector("[aria-live=polite].offscreen");
          window.heard = [];
          new MutationObserver(() => window.heard.push(live.textContent))
            .observe(live, {childList: true, characterData: true, subtree: true});
        }"""
    )
    desk.ask(wait=False)
    expect(page.locator("[aria-live=polite].offscreen")).to_have_text("一つ目の文です。")
    assert "資料を探しています" in page.evaluate("window.heard")
    model.go_on.set()
    expect(page.locator(".live")).to_have_count(0)
    assert "二つ目の文です。" in page.evaluate("window.heard")
