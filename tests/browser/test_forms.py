"""The form of every kind of source, as an administrator opens it: labelled in Japanese, secrets hidden."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from appliance.store.secrets import SECRET
from appliance.system import Appliance
from tests.browser.conftest import Desk

JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")
# names that are the same in Japanese
PROPER = {"URL", "OneDrive", "Microsoft Graph"}


def fields(form: Locator) -> list[tuple[str, str, str, str]]:
    """(label, tag and type, what assistive technology calls it, its hint) of all that can be filled in."""
    found = form.evaluate(
        """form => [...form.querySelectorAll("input, textarea, select")].map(one => {
            const label = form.querySelector(`label[for="${one.id}"]`);
            const hint = one.getAttribute("aria-describedby");
            return [label ? label.textContent : "", `${one.tagName} ${one.type} ${one.className}`,
                    one.labels.length ? one.labels[0].textContent : "",
                    hint ? document.getElementById(hint.split(" ")[0]).textContent : ""];
        })"""
    )
    return [tuple(one) for one in found]


def opened(page: Page) -> Locator:
    page.get_by_role("button", name="情報源を追加").click()
    form = page.get_by_role("dialog")
    expect(form.get_by_label("種類", exact=True)).to_be_visible()
    return form


def test_every_kind_has_a_form_in_japanese(desk: Desk, machine: Appliance) -> None:
    page = desk.sign_in("admin", "/admin/sources")
    form = opened(page)
    chosen = form.get_by_label("種類", exact=True)
    kinds = {kind: made for kind, made in machine.connectors.items() if kind != "uploads"}
    offered = chosen.locator("option").evaluate_all("all => all.map(one => one.value)")
    assert set(offered) == set(kinds) and len(kinds) > 20
    for kind, made in kinds.items():
        chosen.select_option(kind)
        expect(chosen).to_have_value(kind)
        shown = fields(form)
        settings = made.Settings.model_json_schema()["properties"]
        for label, _, named, _ in shown:
            assert label and label == named, (kind, label)
            assert JAPANESE.search(label) or label in PROPER, (kind, label)
        labels = [label for label, *_ in shown]
        for name, schema in settings.items():
            title = schema["title"]
            assert kind == "folder" or title in labels, (kind, name)
            if SECRET.search(name):
                (drawn,) = {how for label, how, *_ in shown if label == title}
                assert "password" in drawn or "masked" in drawn, (kind, name, drawn)
        for _, how, _, hint in shown:
            assert "undefined" not in hint and "[object" not in hint, (kind, how, hint)
        assert form.evaluate("one => one.scrollWidth <= one.clientWidth"), f"{kind} is too wide"


def test_every_kind_has_a_form_in_english(desk: Desk, machine: Appliance) -> None:
    page = desk.open("/admin/sources")
    page.get_by_role("button", name="English").click()
    page.get_by_label("User ID").fill("admin")
    page.get_by_label("Password", exact=True).fill("正しいパスワード99")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Add source").click()
    form = page.get_by_role("dialog")
    chosen = form.get_by_label("Kind", exact=True)
    expect(chosen).to_be_visible()
    for kind in machine.connectors.keys() - {"uploads"}:
        chosen.select_option(kind)
        expect(chosen).to_have_value(kind)
        form.evaluate("one => one.querySelectorAll('details').forEach(more => more.open = true)")
        said = re.sub("掲示板/|ファイル管理/|スペース/", "", form.inner_text())  # Garoon's places
        assert not JAPANESE.search(said), (kind, said)
    chosen.select_option("smb")
    share = form.get_by_label("Share", exact=True)
    expect(share).to_have_accessible_description(r"The share in \\server\share.")
    expect(form.get_by_label("Authentication")).to_contain_text("Whatever the server offers")
    assert page.url.endswith("/admin/sources")
    page.goto(page.url.replace("sources", "directories"))
    page.get_by_role("button", name="Add a directory").click()
    form = page.get_by_role("dialog")
    expect(form.get_by_label("Search base (DN)")).to_be_visible()
    assert not JAPANESE.search(form.inner_text())


def test_what_narrows_is_not_said_to_open(desk: Desk) -> None:
    """`allow` of Box admits nobody more: its own words are shown, not those of a folder."""
    page = desk.sign_in("admin", "/admin/sources")
    form = opened(page)
    expect(form.get_by_label("閲覧できる人")).to_be_visible()
    form.get_by_label("種類", exact=True).select_option("box")
    expect(form.get_by_label("さらに絞る人")).to_be_visible()
    expect(form.get_by_label("API の URL")).to_be_hidden()
    form.get_by_text("細かな設定").click()
    expect(form.get_by_label("API の URL")).to_have_value("https://api.box.com")
    form.get_by_label("名前", exact=True).fill("Box")
    form.get_by_role("button", name="保存").click()
    expect(form.get_by_role("alert")).to_contain_text("クライアント ID")


def test_a_key_keeps_its_lines_and_is_hidden(desk: Desk) -> None:
    page = desk.sign_in("admin", "/admin/sources")
    form = opened(page)
    form.get_by_label("種類", exact=True).select_option("sharepoint")
    key = form.get_by_label("秘密鍵", exact=True)
    key.fill("-----BEGIN\nabc\n-----END")
    expect(key).to_have_value("-----BEGIN\nabc\n-----END")
    assert key.evaluate("one => getComputedStyle(one).webkitTextSecurity") == "disc"
    key.locator("xpath=..").get_by_role("button").click()
    assert key.evaluate("one => getComputedStyle(one).webkitTextSecurity") == "none"


def test_what_is_wrong_is_said_with_the_name_of_the_field(desk: Desk) -> None:
    page = desk.sign_in("admin", "/admin/sources")
    form = opened(page)
    form.get_by_label("種類", exact=True).select_option("kintone")
    form.get_by_label("名前", exact=True).fill("案件")
    form.get_by_label("URL", exact=True).fill("https://example.cybozu.com")
    form.get_by_label("アプリ", exact=True).fill("十二")
    form.get_by_role("button", name="保存").click()
    expect(form.get_by_role("alert")).to_contain_text("アプリ（apps）")
    expect(form.get_by_role("alert")).not_to_contain_text("Input should")
