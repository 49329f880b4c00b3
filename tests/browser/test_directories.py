"""An administrator adds a real directory, watches it, corrects who somebody is, and removes it again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Locator, Page, expect

from appliance import build, worker
from appliance.store import audit, directories
from appliance.system import Appliance
from appliance.types import Layer, Principal
from tests.browser.conftest import FILES, Desk, take_in
from tests.connectors.slapd import BASE, PASSWORD, READER, Slapd, slapd

__all__ = ["slapd"]  # a fixture
ROOM = "/admin/directories"


@pytest.fixture
def company(slapd: Slapd) -> Slapd:
    """伊藤 is called h.ito there, and is in 営業部 by way of 営業一課."""
    ito = slapd.person("h.ito", "伊藤 健", "ken.ito@example.co.jp")
    sato = slapd.person("sato", "佐藤 美咲", "misaki.sato@example.co.jp")
    slapd.group("営業部", slapd.group("営業一課", ito, sato))
    slapd.person("役員 秘書", "高橋 秘書")
    return slapd


@pytest.fixture
def following(machine: Appliance, company: Slapd) -> Iterator[None]:
    """`kura work`, which alone reaches the directory."""
    near = ",".join(sorted(company.site.near))
    own = replace(machine.settings, ocr=False, near_hosts=near, ca_file=company.pem)
    stop = threading.Event()
    shop = build.work(own, engine=machine.engine, embedder=machine.embedder)
    thread = threading.Thread(target=worker.run, args=(shop, stop), daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def fill(page: Page, slapd: Slapd, password: str = PASSWORD) -> Locator:
    form = page.get_by_role("dialog")
    form.get_by_label("名前", exact=True).fill("本社AD")
    form.get_by_label("サーバー", exact=True).fill("localhost")
    form.get_by_label("ポート", exact=True).fill(str(slapd.ports[1]))
    form.get_by_label("利用者名", exact=True).fill(READER)
    form.get_by_label("パスワード", exact=True).fill(password)
    form.get_by_label("検索の起点 (DN)", exact=True).fill(BASE)
    return form


@pytest.mark.usefixtures("following")
def test_from_an_empty_page_to_people_who_are_known(
    desk: Desk, company: Slapd, machine: Appliance
) -> None:
    secret = (Layer(frozenset({Principal("group:営業部"), Principal("user:k-0042")})),)
    take_in(machine, {**FILES, "営業/値引き.txt": ("値引きは八分まで。", secret)})
    page = desk.sign_in("admin", ROOM)
    expect(page.get_by_text("ディレクトリはまだありません")).to_be_visible()
    page.get_by_role("button", name="ディレクトリを追加").click()
    form = fill(page, company, "違うパスワード")
    expect(form.get_by_label("パスワード", exact=True)).to_have_attribute("type", "password")
    form.get_by_role("button", name="接続を確かめる").click()
    expect(form.get_by_role("status")).to_contain_text("名前かパスワードが違います")
    form.get_by_label("パスワード", exact=True).fill(PASSWORD)
    form.get_by_role("button", name="接続を確かめる").click()
    expect(form.get_by_role("status")).to_contain_text("人 3、グループ 2")
    form.get_by_role("button", name="保存").click()
    card = page.locator(".card", has_text="本社AD")
    expect(card).to_contain_text("正常", timeout=30_000)
    expect(card.locator(".figures")).to_contain_text("人")
    expect(card.locator(".rowSub").last).to_contain_text("変わったもの")
    expect(card.locator(".figures .bad")).to_contain_text("1")  # a name no account can have

    entries = page.get_by_role("region", name="人とグループ")
    rows = entries.locator("tbody tr")
    expect(rows).to_have_count(5)
    entries.get_by_label("対応", exact=True).select_option("problems")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("対応を手で決めてください")
    entries.get_by_label("対応", exact=True).select_option("")
    entries.get_by_label("種類", exact=True).select_option("group")
    expect(rows).to_have_count(2)
    rows.filter(has_text="営業部").get_by_role("button").click()
    group = page.get_by_role("dialog")
    expect(group).to_contain_text("営業一課")
    page.keyboard.press("Escape")
    expect(group).to_be_hidden()

    entries.get_by_label("種類", exact=True).select_option("")
    entries.get_by_label("名前・DN・SID・メールアドレスで探す").fill("KEN.ITO@")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("h.ito")
    rows.get_by_role("button", name="対応を見る: 伊藤 健").focus()
    page.keyboard.press("Enter")
    person = page.get_by_role("dialog")
    expect(person).to_contain_text("営業一課")
    person.get_by_label("Kura では誰か").select_option("user")
    person.get_by_label("利用者ID").fill("nobody-here")
    expect(person).to_contain_text("利用者 nobody-here は Kura にいません")
    person.get_by_label("利用者ID").fill("ito")
    would = person.get_by_role("group", name="この対応にすると")
    expect(would).to_contain_text("1 件 → 2 件（3 件中）")
    expect(would).to_contain_text("営業部")
    person.get_by_role("button", name="保存").click()
    expect(rows).to_contain_text("手で決めた")
    seen = page.request.get(f"{desk.origin}/api/v1/admin/users/ito/sight").json()["sources"]
    assert [one["seen"] for one in seen if one["source"] == "共有フォルダ"] == [2]

    names = page.get_by_role("region", name="取り込み元の名前")
    names.get_by_role("button", name="誰かを決める: user:k-0042").click()
    said = page.get_by_role("dialog")
    said.get_by_label("利用者ID").fill("sato")
    said.get_by_role("button", name="保存").click()
    expect(names).to_contain_text("user:k-0042 → sato")
    expect(names).to_contain_text("すべて誰かに当たります")
    names.get_by_role("button", name="取り消す: user:k-0042").click()
    page.get_by_role("dialog").get_by_role("button", name="取り消す").click()
    expect(names.get_by_role("button", name="誰かを決める: user:k-0042")).to_be_visible()

    page.goto(f"{desk.origin}/admin/people")
    page.get_by_role("button", name="見えるもの: 伊藤 健").click()
    sight = page.get_by_role("dialog")
    expect(sight).to_contain_text("伊藤 健 → 営業一課 → 営業部")
    sight.get_by_label("資料", exact=True).fill("共有フォルダ/営業/値引き.txt")
    sight.get_by_label("資料", exact=True).press("Enter")
    expect(sight).to_contain_text("営業部 として許可")
    sight.get_by_label("資料", exact=True).fill("共有フォルダ/人事/役員報酬.txt")
    sight.get_by_role("button", name="調べる").click()
    expect(sight).to_contain_text("許可されている「group:人事部」のどれでもありません")


@pytest.mark.usefixtures("following")
def test_changed_paused_held_and_deleted(
    desk: Desk, company: Slapd, machine: Appliance, desk_for: Callable[..., Desk]
) -> None:
    others = [company.person(f"u{n:02}", f"社員 {n}") for n in range(30)]
    company.group("全社員", *others)
    sealed = machine.keyring.seal(company.made(suspend=False).model_dump(mode="json"))
    directories.create(machine.engine, "本社AD", sealed)
    page = desk.sign_in("admin", ROOM)
    card = page.locator(".card", has_text="本社AD")
    expect(card).to_contain_text("正常", timeout=30_000)
    for dn in others:
        company.delete(dn)
    card.get_by_role("button", name="今すぐ同期").click()
    expect(card).to_contain_text("確認待ち", timeout=30_000)
    expect(card.locator(".rowProblem")).to_contain_text("反映していません")

    second = desk_for()  # another administrator sees the same
    other = second.sign_in("admin", ROOM)
    other.get_by_role("button", name="消えたことを反映").click()
    expect(other.get_by_role("dialog")).to_contain_text("36 件のうち 30 件")
    other.get_by_role("dialog").get_by_role("button", name="消えたことを反映").click()
    expect(card).to_contain_text("正常", timeout=30_000)
    expect(card.locator(".rowSub").last).to_contain_text("消えたもの 30")

    card.get_by_role("button", name="メニュー: 本社AD").click()
    page.get_by_role("button", name="編集").click()
    form = page.get_by_role("dialog")
    expect(form.get_by_label("パスワード", exact=True)).to_have_value("********")
    expect(form.get_by_label("サーバー", exact=True)).to_have_value("localhost")
    form.get_by_label("サーバー", exact=True).fill("127.0.0.1")
    form.get_by_role("button", name="保存").click()
    expect(form.get_by_role("alert")).to_contain_text("パスワードや鍵を入れ直して")
    form.get_by_label("サーバー", exact=True).fill("localhost")
    form.get_by_label("検索の起点 (DN)", exact=True).fill(f"ou=hidden,{BASE}")
    form.get_by_role("button", name="保存").click()
    expect(card).to_contain_text("問題あり", timeout=30_000)
    expect(card.locator(".rowProblem")).to_contain_text("検索の起点")
    assert PASSWORD not in page.content() + str(audit.entries(machine.engine))

    card.get_by_role("button", name="メニュー: 本社AD").click()
    page.get_by_role("button", name="一時停止").click()
    page.get_by_role("dialog").get_by_role("button", name="一時停止").click()
    expect(card).to_contain_text("停止中")
    card.get_by_role("button", name="再開").click()
    expect(card).not_to_contain_text("停止中")
    # somebody else's page, still open, that has not looked since, is told that it is gone
    known = other.evaluate("fetch('/api/v1/admin/directories').then((heard) => heard.json())")
    other.route("**/api/v1/admin/directories", lambda route: route.fulfill(json=known))
    card.get_by_role("button", name="メニュー: 本社AD").click()
    page.get_by_role("button", name="削除").click()
    page.get_by_role("dialog").get_by_role("button", name="削除").click()
    expect(card).to_have_count(0)
    other.locator(".card").get_by_role("button", name="今すぐ同期").click()
    expect(other.locator(".said")).not_to_have_text("")


def test_in_english_and_without_a_worker(desk_for: Callable[..., Desk], company: Slapd) -> None:
    desk = desk_for()
    page = desk.open(ROOM)
    page.get_by_role("button", name="English").click()
    page.get_by_label("User ID").fill("admin")
    page.get_by_label("Password", exact=True).fill("正しいパスワード99")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("No directory yet")).to_be_visible()
    page.get_by_role("button", name="Add a directory").click()
    form = page.get_by_role("dialog")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("Name")
    form.get_by_label("Name", exact=True).fill("本社")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("Server")
    form.get_by_label("Server", exact=True).fill("localhost")
    form.get_by_label("User name", exact=True).fill(READER)
    form.get_by_label("Password", exact=True).fill(PASSWORD)
    form.get_by_role("button", name="Try the connection").click()
    expect(form.get_by_role("status")).to_contain_text("kura work")


def test_a_member_finds_no_directories(desk: Desk) -> None:
    page = desk.sign_in("ito", ROOM)
    expect(page.get_by_text("このページはありません")).to_be_visible()
