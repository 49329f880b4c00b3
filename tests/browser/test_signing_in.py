from __future__ import annotations

import pytest
from playwright.sync_api import expect

from appliance.identity import setup
from appliance.store import sessions
from appliance.system import Appliance
from tests.browser.conftest import PASSWORD, Desk


def test_wrong_password_is_said_and_the_name_stays(desk: Desk) -> None:
    page = desk.open()
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    page.get_by_label("利用者ID").fill("ito")
    page.get_by_label("パスワード", exact=True).fill("違うパスワード")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("利用者IDまたはパスワードが違います")
    expect(page.get_by_label("利用者ID")).to_have_value("ito")
    expect(page.get_by_label("パスワード", exact=True)).to_have_value("")


def test_a_locked_account_says_for_how_long(desk: Desk, machine: Appliance) -> None:
    page = desk.open()
    page.get_by_label("利用者ID").fill("ito")
    for _ in range(machine.settings.lockout_attempts + 1):
        page.get_by_label("パスワード", exact=True).fill("違うパスワード")
        page.get_by_role("button", name="サインイン", exact=True).click()
        expect(page.get_by_role("button", name="サインイン", exact=True)).to_be_enabled()
    expect(page.get_by_role("alert")).to_contain_text("一時的にサインインできません")
    expect(page.get_by_role("alert")).to_contain_text("分後")


def test_after_the_session_ends_one_is_back_where_one_was(desk: Desk, machine: Appliance) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    address = page.url
    assert "/c/" in address
    page.wait_for_load_state("networkidle")  # the list of conversations is asked for as well
    sessions.end_all(machine.engine, "ito")
    desk.ask("日当はいくらですか", wait=False)
    expect(page.get_by_text("サインインの期限が切れました")).to_be_visible()
    page.get_by_label("利用者ID").fill("ito")
    page.get_by_label("パスワード", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator(".exchange")).to_have_count(1)
    assert page.url == address
    expect(page.get_by_role("textbox", name="質問")).to_have_value("日当はいくらですか")


def test_signing_in_again_in_another_tab_does_not_lock_this_one_out(desk: Desk) -> None:
    page = desk.sign_in("ito")
    other = desk.context.new_page()
    desk.watch(other)
    other.goto(desk.origin)
    other.get_by_role("button", name="アカウント: 伊藤 健").click()
    other.get_by_role("button", name="サインアウト").click()
    other.get_by_label("利用者ID").fill("ito")
    other.get_by_label("パスワード", exact=True).fill(PASSWORD)
    other.keyboard.press("Enter")
    other.locator(".shell").wait_for()
    desk.ask()
    expect(desk.answer).to_contain_text("一泊一万円が上限です")
    page.get_by_role("button", name="役に立った").click()
    expect(page.get_by_label("理由（任意）")).to_be_visible()


def test_somebody_else_signing_in_never_acts_from_the_first_ones_page(desk: Desk) -> None:
    page = desk.sign_in("ito")
    other = desk.context.new_page()
    desk.watch(other)
    other.goto(desk.origin)
    other.get_by_role("button", name="アカウント: 伊藤 健").click()
    other.get_by_role("button", name="サインアウト").click()
    other.get_by_label("利用者ID").fill("sato")
    other.get_by_label("パスワード", exact=True).fill(PASSWORD)
    other.keyboard.press("Enter")
    other.locator(".shell").wait_for()
    desk.ask(wait=False)
    expect(page.get_by_role("button", name="アカウント: 佐藤 美咲")).to_be_visible()
    expect(page.locator(".exchange")).to_have_count(0)


def test_language_is_remembered(desk: Desk) -> None:
    page = desk.open()
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.reload()
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()


def test_signing_out_leaves_nothing_on_the_page(desk: Desk) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    page.get_by_role("button", name="アカウント: 伊藤 健").click()
    page.get_by_role("button", name="サインアウト").click()
    expect(page.get_by_label("利用者ID")).to_be_visible()
    assert "一泊" not in page.content()


@pytest.mark.parametrize("residents", [()])
def test_the_first_administrator_comes_in_by_the_code_on_the_console(
    desk: Desk, machine: Appliance
) -> None:
    code = setup.code(machine.engine)
    assert code is not None
    page = desk.open()
    expect(page.get_by_role("heading", name="はじめての設定")).to_be_visible()
    page.get_by_label("登録コード").fill("XXXX-XXXX-XXXX-XXXX")
    page.get_by_label("利用者ID").fill("kanri")
    page.get_by_label("表示名").fill("情報システム部")
    page.get_by_label("パスワード", exact=True).fill(PASSWORD)
    page.get_by_label("パスワード（確認）").fill(PASSWORD + "x")
    page.get_by_role("button", name="管理者を登録して始める").click()
    expect(page.get_by_role("alert")).to_contain_text("一致しません")
    page.get_by_label("パスワード（確認）").fill(PASSWORD)
    page.get_by_role("button", name="管理者を登録して始める").click()
    expect(page.get_by_role("alert")).to_contain_text("登録コードが違います")
    page.get_by_label("登録コード").fill(code)
    page.get_by_role("button", name="管理者を登録して始める").click()
    expect(page.get_by_role("link", name="管理")).to_be_visible()
