from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import expect

from appliance.identity import keys
from appliance.store import keys as store_keys
from appliance.store import sources
from appliance.system import Appliance
from tests.browser.conftest import FILES, LODGING, PUBLIC, Desk, Model, take_in


def test_documents_with_their_problems(desk: Desk, machine: Appliance) -> None:
    take_in(machine, FILES | {"規程/読めない.pdf": ("", PUBLIC)})
    page = desk.sign_in("admin", "/admin/documents")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    page.get_by_label("状態", exact=True).select_option("problem")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("文字を取り出せません")
    page.get_by_label("状態", exact=True).select_option("")
    expect(rows).to_have_count(3)
    page.get_by_label("題名・保存先で探す").fill("旅費")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("規程/旅費規程.txt")
    page.get_by_label("題名・保存先で探す").fill("どこにもない")
    expect(page.get_by_text("条件に合う文書はありません")).to_be_visible()


def test_many_documents_come_in_pages(desk: Desk, machine: Appliance) -> None:
    take_in(machine, {f"表/{n:03}.txt": (f"資料{n}です。", PUBLIC) for n in range(60)})
    page = desk.sign_in("admin", "/admin/documents")
    expect(page.get_by_text("60件中 1–50件")).to_be_visible()
    page.get_by_role("button", name="次へ").click()
    expect(page.get_by_text("60件中 51–60件")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(10)


@pytest.mark.usefixtures("working")
def test_a_folder_source_from_its_form_to_an_answer(desk: Desk, tmp_path: Path) -> None:
    shared = tmp_path / "共有"
    shared.mkdir()
    (shared / "駐車場.txt").write_text("来客用の駐車場は北門の横に五台分ある。", "utf-8")
    page = desk.sign_in("admin", "/admin/sources")
    page.get_by_role("button", name="情報源を追加").click()
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("名前")
    page.get_by_label("名前", exact=True).fill("総務 共有")
    page.get_by_label("フォルダー", exact=True).fill(str(shared))
    page.get_by_label("閲覧できる人").fill("everyone")
    page.get_by_role("button", name="保存").click()
    card = page.locator(".card", has_text="総務 共有")
    expect(card).to_contain_text("1件の文書", timeout=30_000)
    expect(card).to_contain_text("追加 1")
    card.get_by_role("button", name="取り込みの履歴").click()
    expect(page.get_by_role("dialog")).to_contain_text("追加 1")
    page.keyboard.press("Escape")
    card.get_by_role("button", name="メニュー: 総務 共有").click()
    page.get_by_role("button", name="編集").click()
    expect(page.get_by_label("フォルダー", exact=True)).to_have_value(str(shared))
    expect(page.get_by_label("閲覧できる人")).to_have_value("everyone")
    page.get_by_text("検索の調整").click()
    weight, parent = (
        page.get_by_label("意味の近さの重み"),
        page.get_by_label("前後を含めて示す長さ"),
    )
    expect(weight).to_have_value("")
    weight.fill("0.3")
    parent.fill("300")
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("1.25 倍以上")
    parent.fill("")
    page.get_by_role("button", name="保存").click()
    expect(card).to_contain_text("変更なし")
    card.get_by_role("button", name="メニュー: 総務 共有").click()
    page.get_by_role("button", name="編集").click()
    page.get_by_text("検索の調整").click()
    expect(weight).to_have_value("0.3")
    page.get_by_text("いつ読むか").click()
    page.get_by_label("予定").select_option("決まった日時（cron 式）")
    page.get_by_label("cron 式", exact=True).fill("0 3 * * *")
    page.get_by_label("取り込みを控える時間帯：開始").fill("08:30")
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("開始と終了")
    page.get_by_label("取り込みを控える時間帯：開始").fill("")
    page.get_by_role("button", name="保存").click()
    expect(card).to_contain_text("現在の内容")
    card.get_by_role("button", name="メニュー: 総務 共有").click()
    page.get_by_role("button", name="一時停止").click()
    page.get_by_role("dialog").get_by_role("button", name="一時停止").click()
    expect(card).to_contain_text("停止中")
    card.get_by_role("button", name="再開").click()
    expect(card).not_to_contain_text("停止中")
    card.get_by_role("button", name="取り込みの履歴").click()
    page.get_by_role("dialog").get_by_role("button", name="文書ごとの結果").last.click()
    expect(page.get_by_role("dialog")).to_contain_text("追加：")
    page.keyboard.press("Escape")
    card.get_by_role("button", name="メニュー: 総務 共有").click()
    page.get_by_role("button", name="編集").click()
    page.get_by_text("いつ読むか").click()
    expect(page.get_by_label("cron 式", exact=True)).to_have_value("0 3 * * *")
    page.get_by_label("取り込みを有効にする").uncheck()
    page.get_by_role("button", name="保存").click()
    expect(card).to_contain_text("停止中")
    card.get_by_role("button", name="メニュー: 総務 共有").click()
    page.get_by_role("button", name="削除").click()
    page.get_by_role("dialog").get_by_role("button", name="削除").click()
    expect(card).to_have_count(0)


@pytest.mark.usefixtures("working")
def test_personal_data_is_counted_and_kept_from_being_found(desk: Desk, tmp_path: Path) -> None:
    shared = tmp_path / "人事"
    shared.mkdir()
    form = "社外秘\n申告書\n個人番号 123456789018\n電話 03-1234-5678"
    (shared / "申告書.txt").write_text(form, "utf-8")
    page = desk.sign_in("admin", "/admin/sources")
    page.get_by_role("button", name="情報源を追加").click()
    page.get_by_label("名前", exact=True).fill("人事 共有")
    page.get_by_label("フォルダー", exact=True).fill(str(shared))
    page.get_by_label("閲覧できる人").fill("everyone")
    page.get_by_role("button", name="保存").click()
    card = page.locator(".card", has_text="人事 共有")
    expect(card).to_contain_text("マイナンバー 1 文書・電話番号 1 文書", timeout=30_000)
    card.get_by_role("button", name="メニュー: 人事 共有").click()
    page.get_by_role("button", name="編集").click()
    page.get_by_label("個人情報の扱い").select_option("quarantine")
    page.get_by_role("button", name="保存").click()
    expect(card).to_contain_text("番号のある文書は検索できないようにする")
    page.get_by_role("link", name="文書", exact=True).click()
    row = page.get_by_role("row", name="申告書.txt")
    expect(row).to_contain_text("個人情報：マイナンバー 1・電話番号 1")
    expect(row).to_contain_text("問題あり")


def test_people_groups_and_keys(desk: Desk) -> None:
    page = desk.sign_in("admin", "/admin/people")
    page.get_by_role("button", name="利用者を追加").click()
    page.get_by_label("利用者ID").fill("suzuki")
    page.get_by_label("表示名").fill("鈴木 一郎")
    page.get_by_label("パスワード", exact=True).fill("短い")
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("10文字以上")
    page.get_by_label("パスワード", exact=True).fill("十分に長いパスワード123")
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_text("鈴木 一郎")).to_be_visible()

    page.get_by_role("link", name="グループ").click()
    page.get_by_role("button", name="編集: 総務部").click()
    page.get_by_label("メンバー").fill("user:ito\nuser:suzuki")
    page.get_by_role("button", name="保存").click()
    expect(page.locator(".row", has_text="総務部")).to_contain_text("2件のメンバー")

    page.get_by_role("link", name="APIキー").click()
    page.get_by_role("button", name="APIキーを発行").click()
    page.get_by_label("用途").fill("社内ポータル")
    page.get_by_label("権限を使う利用者").select_option("suzuki")
    page.get_by_role("dialog").get_by_role("button", name="APIキーを発行").click()
    secret = page.locator(".secret code").inner_text()
    answer = page.request.post(
        f"{desk.origin}/api/v1/query",
        headers={"Authorization": f"Bearer {secret}"},
        data={"question": LODGING},
    )
    assert answer.json()["ended"] == "complete"
    page.keyboard.press("Escape")
    expect(page.locator(".secret")).to_be_visible()  # what is shown once is not lost to one key
    page.get_by_role("button", name="控えました").click()
    assert secret not in page.content()
    page.get_by_role("button", name="失効させる: 社内ポータル").click()
    page.get_by_role("dialog").get_by_role("button", name="失効させる").click()
    expect(page.locator(".row", has_text="社内ポータル")).to_contain_text("失効")


def test_what_somebody_sees_and_would_see(desk: Desk) -> None:
    page = desk.sign_in("admin", "/admin/people")
    page.get_by_role("button", name="見えるもの: 伊藤 健").click()
    seen = page.get_by_role("dialog")
    shared = seen.get_by_role("listitem").filter(has_text="共有フォルダ")
    expect(shared).to_contain_text("2 件中 1 件")
    expect(seen).to_contain_text("総務部")
    seen.get_by_label("仮に入れてみるグループ").select_option("人事部")
    expect(shared).to_contain_text("2 件中 2 件")
    seen.get_by_label("仮に入れてみるグループ").select_option("")
    expect(shared).to_contain_text("2 件中 1 件")
    page.keyboard.press("Escape")
    expect(seen).to_be_hidden()


def test_our_words_are_kept_and_nobody_undoes_anothers(desk: Desk) -> None:
    page = desk.sign_in("admin", "/admin/synonyms")
    words = page.get_by_label("同じ意味の言葉")
    save = page.get_by_role("button", name="保存")
    expect(save).to_be_disabled()
    words.fill("ＰＯ、po")  # one word, twice
    save.click()
    expect(page.get_by_role("alert")).to_contain_text("1行目")
    words.fill("泊費、宿泊費\nPO\t発注書")
    save.click()
    expect(page.get_by_text("保存しました（2組）")).to_be_visible()
    expect(words).to_have_value("泊費、宿泊費\nPO、発注書")

    other = page.context.new_page()
    other.goto(f"{desk.origin}/admin/synonyms")
    other.get_by_label("同じ意味の言葉").fill("泊費、宿泊費")
    other.get_by_role("button", name="保存").click()
    expect(other.get_by_text("保存しました（1組）")).to_be_visible()
    words.fill("VPN、社外接続")
    save.click()
    expect(page.get_by_role("alert")).to_contain_text("ほかの人が先に変更しました")
    expect(words).to_have_value("VPN、社外接続")  # what was typed is not lost


def test_status(desk: Desk) -> None:
    page = desk.sign_in("admin", "/admin/status")
    expect(page.get_by_text("質問に答えられます")).to_be_visible()
    expect(page.locator(".count", has_text="利用できる文書")).to_contain_text("2")
    page.get_by_role("button", name="索引を点検する").click()
    expect(page.get_by_text("点検が終わりました")).to_be_visible()


def test_the_indexes_are_named_in_words(desk: Desk) -> None:
    page = desk.sign_in("admin", "/admin/status")
    rows = page.locator("tbody th")
    expect(rows).to_have_text(["意味による検索", "言葉による検索"])


def test_a_new_person_is_put_into_groups_at_once(desk: Desk) -> None:
    page = desk.sign_in("admin", "/admin/people")
    page.get_by_role("button", name="利用者を追加").click()
    page.get_by_label("利用者ID").fill("suzuki")
    page.get_by_label("表示名").fill("鈴木 花子")
    page.get_by_label("パスワード", exact=True).fill("正しいパスワード99")
    page.get_by_role("group", name="所属グループ").get_by_label("人事部").check()
    page.get_by_role("button", name="保存").click()
    expect(page.locator(".row", has_text="鈴木 花子")).to_contain_text("suzuki · 人事部")


def test_revoked_keys_are_out_of_the_way(desk: Desk, machine: Appliance) -> None:
    for name in ("古い道具", "新しい道具"):
        key, _ = keys.issue(machine.engine, name, "admin", ("query",), created_by="test")
        if name == "古い道具":
            store_keys.revoke(machine.engine, key.id)
    page = desk.sign_in("admin", "/admin/keys")
    expect(page.get_by_text("新しい道具")).to_be_visible()
    expect(page.get_by_text("古い道具")).not_to_be_visible()
    page.get_by_text("失効したキー（1）").click()
    expect(page.get_by_text("古い道具")).to_be_visible()


def test_what_a_search_finds_and_leaves_out(desk: Desk, machine: Appliance) -> None:
    take_in(machine, FILES | {"規程/旅費規程の写し.txt": FILES["規程/旅費規程.txt"]})
    page = desk.sign_in("admin", "/admin/retrieval")
    page.get_by_label("質問").fill(LODGING)
    page.get_by_label("質問").press("Enter")
    rows = page.locator("tbody tr")
    expect(rows.first).to_contain_text("旅費規程")
    expect(rows.first).to_contain_text("使う")
    expect(page.locator("tbody")).to_contain_text("上と同じ内容")
    expect(page.get_by_text("根拠の確かさ")).to_be_visible()
    expect(page.locator("tbody")).not_to_contain_text("役員報酬")  # not the administrator's to read
    rows.first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("旅費規程")


def test_a_search_says_what_it_searched_for(desk: Desk, machine: Appliance) -> None:
    text = "年末調整書類の提出について。年末調整の書類の期限は11月14日である。"
    take_in(machine, {"通知.txt": (text, PUBLIC)})
    page = desk.sign_in("admin", "/admin/retrieval")
    page.get_by_label("質問").fill("年調の書類はいつまで")
    page.get_by_label("質問").press("Enter")
    expect(page.get_by_text("「年末調整の書類はいつまで」で探しました。")).to_be_visible()
    expect(page.locator("tbody tr").first).to_contain_text("通知")


def test_a_search_says_that_a_source_was_left_out(desk: Desk, machine: Appliance) -> None:
    take_in(machine, FILES)
    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source
    sources.hold(machine.engine, source.id, datetime(2026, 1, 1, tzinfo=UTC))
    page = desk.sign_in("admin", "/admin/retrieval")
    page.get_by_label("質問").fill(LODGING)
    page.get_by_label("質問").press("Enter")
    expect(page.get_by_text("その文書は探していません")).to_be_visible()
    expect(page.get_by_text("見つかりません。語句を変えるか")).to_be_visible()


def test_a_member_finds_no_administration(desk: Desk) -> None:
    page = desk.sign_in("ito", "/admin/sources")
    expect(page.get_by_text("このページはありません")).to_be_visible()
    expect(page.get_by_role("link", name="管理")).to_have_count(0)


@pytest.mark.usefixtures("working")
def test_an_upload_is_taken_in_shared_asked_and_deleted(
    desk: Desk, model: Model, tmp_path: Path
) -> None:
    file = tmp_path / "社宅案内.txt"
    file.write_text("社宅の家賃は月二万五千円である。", "utf-8")
    broken = tmp_path / "壊れた.pdf"
    broken.write_bytes(b"%PDF-1.7\nnothing more")
    model.text = "社宅の家賃は月二万五千円です[1]。"
    page = desk.sign_in("ito", "/documents")
    expect(page.get_by_text("まだ資料がありません")).to_be_visible()
    page.get_by_label("グループを選ぶ").check()
    page.get_by_label("総務部").check()
    page.locator("input[type=file]").set_input_files([file, broken])
    row = page.locator(".row", has_text="社宅案内.txt")
    expect(row).to_contain_text("利用できます", timeout=30_000)
    expect(row).to_contain_text("総務部")
    problem = page.locator(".row", has_text="壊れた.pdf")
    expect(problem).to_contain_text("問題あり", timeout=30_000)
    assert problem.locator(".rowProblem").inner_text().strip()

    page.get_by_role("link", name="質問").click()
    desk.ask("社宅の家賃はいくらですか")
    desk.answer.locator("button.marker").first.click()
    expect(page.locator("mark.cited")).to_contain_text("月二万五千円")

    page.get_by_role("link", name="資料の追加").click()
    page.get_by_role("button", name="削除: 社宅案内.txt").click()
    page.get_by_role("dialog").get_by_role("button", name="削除").click()
    expect(row).to_have_count(0)
