"""What a model or a document says is text. It causes no request and runs nothing."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from appliance.system import Appliance
from tests.browser.conftest import PUBLIC, Desk, Model, take_in

HOSTILE = (
    '<img src=http://evil.example/i.png onerror="window.hurt=1">',
    "![図](http://evil.example/m.png) と [参照](http://evil.example/l) ![r][1]\n[1]: http://evil.example/r.png",
    "<script>window.hurt=1;fetch('http://evil.example/s')</script>",
    "<style>@import url(http://evil.example/c.css);*{background:url(http://evil.example/b)}</style>",
    "<svg onload=window.hurt=1><image href=http://evil.example/v.svg /></svg>",
    'http://evil.example/auto <a href="javascript:window.hurt=1">押す</a>',
    '<iframe src="data:text/html,<script>parent.hurt=1</script>"></iframe>',
    '<link rel=prefetch href=http://evil.example/p><meta http-equiv=refresh content="0;url=http://evil.example">',
    "\n## <img src=x onerror=window.hurt=1>\n- **<img src=x onerror=window.hurt=1>**\n"
    "|[a](javascript:window.hurt=1)|`<svg onload=window.hurt=1>`|\n|---|---|\n|![](http://evil.example/t)|b|\n"
    "```html\n<script>window.hurt=1</script>\n```\n",
)


# what an answer is drawn with: the shape of its lines, markers, and words that no source backs
SHAPE = "p, h3, ul, li, li > span, pre, code, strong, .answerTable, table, thead, tbody, tr, th, td"
OURS = f"{SHAPE}, button.marker, span.marker, span.keep, span.unbacked, mark.doubt, span.caret"


@pytest.mark.parametrize("said", HOSTILE)
def test_a_hostile_answer_is_inert_text(desk: Desk, model: Model, said: str) -> None:
    model.text = f"回答です{said}。"
    page = desk.sign_in("ito")
    desk.ask()
    for _ in range(2):  # as it streams, and from history
        shown = desk.answer.locator(".answerText")
        expect(shown).to_contain_text("回答です")
        assert shown.locator(f":not({OURS})").count() == 0
        assert shown.locator("[style], [href], [src], [onload], [onerror]").count() == 0
        assert page.evaluate("window.hurt") is None
        page.reload()
    assert page.url.startswith(desk.origin)


def test_a_hostile_document_question_and_name_are_inert(
    desk: Desk, machine: Appliance, model: Model
) -> None:
    text = "出張の宿泊費は一泊一万円を上限とする。" + "".join(HOSTILE)
    take_in(machine, {"規程/<img src=x onerror=window.hurt=1>.txt": (text, PUBLIC)})
    page = desk.sign_in("ito")
    desk.ask(f"出張の宿泊費の上限は{HOSTILE[0]}")
    desk.answer.locator("button.marker").first.click()
    panel = page.get_by_role("complementary", name="資料")
    expect(panel.locator("mark.cited")).to_be_visible()
    assert page.locator("img, iframe, object, embed, script:not([src])").count() == 0
    assert page.evaluate("window.hurt") is None


def test_the_page_itself_carries_nothing_inline(desk: Desk) -> None:
    page = desk.open()
    html = page.request.get(desk.origin + "/").text()
    assert "<style" not in html and "style=" not in html and "onload=" not in html
    assert page.locator("script:not([src])").count() == 0
    policy = page.request.get(desk.origin + "/").headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy


def test_every_page_keeps_to_its_origin(desk: Desk) -> None:
    page = desk.sign_in("admin")
    rooms = ("status", "sources", "documents", "people", "groups", "keys", "synonyms", "examples")
    for path in ("/", "/documents", *(f"/admin/{room}" for room in rooms), "/nowhere"):
        desk.open(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    # the fixture fails the test if one request went elsewhere
