from __future__ import annotations

from datetime import UTC, datetime

from playwright.sync_api import expect

from appliance.store import alerts, audit, sources
from appliance.system import Appliance
from tests.browser.conftest import Desk


def test_maintenance_keeps_readers_out_and_is_ended(desk: Desk, machine: Appliance) -> None:
    browser = desk.context.browser
    assert browser
    elsewhere = browser.new_context(locale="ja-JP", service_workers="block")
    reader = elsewhere.new_page()
    desk.watch(reader)
    page = desk.sign_in("admin", "/admin/status")
    page.get_by_label("利用者に見せる言葉").fill("サーバーを入れ替えます")
    page.get_by_role("button", name="メンテナンスを始める").click()
    expect(page.get_by_role("button", name="メンテナンスを終える")).to_be_visible()
    reader.goto(desk.origin + "/")
    expect(reader.get_by_role("heading", name="メンテナンス中です")).to_be_visible()
    expect(reader.get_by_text("サーバーを入れ替えます")).to_be_visible()
    reader.get_by_role("link", name="管理者のサインイン").click()
    expect(reader.get_by_label("パスワード", exact=True)).to_be_visible()
    elsewhere.close()
    page.reload()
    expect(page.get_by_text("利用者は入れません").first).to_be_visible()
    page.get_by_role("button", name="メンテナンスを終える").click()
    expect(page.get_by_role("button", name="メンテナンスを始める")).to_be_visible()


def test_where_alerts_go(desk: Desk, machine: Appliance) -> None:
    page = desk.sign_in("admin", "/admin/alerts")
    page.get_by_label("送り先").fill("nirgendwo")
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_text("syslog は、udp://")).to_be_visible()
    page.get_by_label("送り先").fill("local")
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_text("まだ送っていません")).to_be_visible()
    page.get_by_role("button", name="試しに送る").click()
    expect(page.get_by_text("1分以内に送ります")).to_be_visible()
    assert alerts.wants_test(machine.engine)
    assert audit.entries(machine.engine, action="alerts.change")


def test_what_is_wrong_stands_on_the_page_of_the_status_too(desk: Desk, machine: Appliance) -> None:
    now = datetime.now(UTC)
    wrong = alerts.Open(
        "backup", "critical", "控えがない", "控えが三日ありません。", now, told_at=now
    )
    assert alerts.lease(machine.engine, "test", 600)
    state = alerts.read(machine.engine)
    state.open["backup"] = wrong
    alerts.save(machine.engine, "test", state)
    page = desk.sign_in("admin", "/admin")  # the room of the status, as people type it
    expect(page.get_by_text("控えがない")).to_be_visible()
    page.get_by_role("link", name="異常が1件あります。").click()
    expect(page.get_by_text("控えが三日ありません。")).to_be_visible()


def test_a_source_that_was_never_read_is_not_called_well(desk: Desk, machine: Appliance) -> None:
    sources.create(machine.engine, "これから", "memory", {}, enabled=True)
    page = desk.sign_in("admin", "/admin/sources")
    card = page.locator(".card", has_text="これから")
    expect(card).to_contain_text("取り込み待ち")
    expect(card).not_to_contain_text("正常")
