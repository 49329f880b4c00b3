"""What employees come for: a question, the answer as it is written, and the place it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from appliance.errors import ModelUnreachable
from appliance.store import conversations, people, sessions, sources
from appliance.store.tables import now
from appliance.system import Appliance
from appliance.testing.fakes import OverlapReader
from appliance.types import Answer
from tests.browser.conftest import (
    ANSWER,
    FILES,
    LODGING,
    PASSWORD,
    PUBLIC,
    SECRET,
    TRAVEL,
    Desk,
    Model,
    read_by,
    take_in,
)


def test_the_answer_streams_and_its_citation_opens_at_the_words(desk: Desk, model: Model) -> None:
    model.hold_at = 12
    page = desk.sign_in("ito")
    desk.ask(wait=False)
    live = page.locator(".exchange.live .answerText")
    expect(live).to_have_text(ANSWER[:12])
    expect(page.get_by_role("button", name="停止")).to_be_visible()
    model.go_on.set()
    expect(page.locator(".exchange.live")).to_have_count(0)
    expect(desk.answer.locator(".answerText")).to_have_text("出張の宿泊費は一泊一万円が上限です1。")
    expect(desk.answer.get_by_text("裏付けあり")).to_be_visible()

    desk.answer.get_by_role("button", name=re.compile("^資料1を開く：")).click()
    panel = page.get_by_role("complementary", name="資料")
    cited = panel.locator("mark.cited")
    expect(cited).to_be_in_viewport()
    words = cited.inner_text()
    # the offsets are the server's, in characters: behind sixty 𠮷 they still hit the words
    assert words in TRAVEL and "一泊一万円を上限" in words
    expect(panel.get_by_role("heading", level=2)).to_be_focused()
    expect(panel).to_contain_text("共有フォルダ")
    expect(panel).to_contain_text("規程/旅費規程.txt")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(desk.answer.get_by_role("button", name=re.compile("^資料1"))).to_be_focused()


def test_rows_are_drawn_as_a_table_and_a_narrow_window_scrolls_it(desk: Desk, model: Model) -> None:
    columns = [f"列{n}" for n in range(1, 13)]
    row = [f"{n},000円" for n in range(1, 13)]
    lines = [f"|{'|'.join(cells)}|" for cells in (columns, ["---"] * 12, row, row)]
    model.text = "\n".join(["**次の**とおりです。", *lines, "以上[1]"])
    page = desk.sign_in("ito")
    page.set_viewport_size({"width": 420, "height": 800})
    desk.ask()
    for _ in range(2):  # as it came, and from history
        answer = desk.answer.locator(".answerText")
        table = answer.get_by_role("group", name="表", exact=True)
        expect(table.get_by_role("columnheader")).to_have_text(columns)
        expect(table.get_by_role("row")).to_have_count(3)
        expect(answer.locator("strong")).to_have_text("次の")
        expect(answer).not_to_contain_text("|")
        assert table.evaluate("t => t.scrollWidth > t.clientWidth")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.reload()


def test_what_no_source_says_is_underlined_now_and_after_a_reload(desk: Desk, model: Model) -> None:
    model.text = "宿泊費は一泊一万円が上限です[1]。𠮷野部長の日当は九千円です[1]。"
    page = desk.sign_in("ito")
    desk.ask()
    for _ in range(2):
        words = desk.answer.locator(".unbacked, .doubt").all_inner_texts()
        assert "".join(words) == "𠮷野部長の日当は九千円です。"
        doubts = desk.answer.locator("mark.doubt").all_inner_texts()
        assert "九千" in "".join(doubts) and "部長" not in "".join(doubts)
        expect(desk.answer.get_by_text("下線の文（1）は、資料の中に裏付けが")).to_be_visible()
        page.reload()
        expect(desk.answer.locator(".answerText")).to_be_visible()


def test_a_cited_document_bears_its_stamp_and_says_what_it_is(
    desk: Desk, machine: Appliance
) -> None:
    head = "社外秘\n旅費規程\n第3版\n改定 2024年4月1日\n主管部署：総務部\n\n"
    take_in(machine, {"規程/旅費規程.txt": (head + TRAVEL, PUBLIC)})
    page = desk.sign_in("ito")
    desk.ask()
    row = desk.answer.locator(".citation").first
    expect(row.locator(".badge", has_text="社外秘")).to_be_visible()
    row.get_by_role("button").click()
    facts = page.get_by_role("complementary", name="資料").locator(".sourceFacts")
    for words in ("秘密区分社外秘", "版第3版", "部署総務部", "改定2024年4月1日"):
        expect(facts).to_contain_text(words)
    expect(facts).not_to_contain_text("施行")


def test_the_source_draws_its_tables_with_the_cited_words_marked(
    desk: Desk, machine: Appliance
) -> None:
    table = "\n区分 | 宿泊費\n役員 | 20,000円\n一般社員 | 10,000円\n以上"
    take_in(machine, {"規程/旅費規程.txt": (TRAVEL + table, PUBLIC)})
    page = desk.sign_in("ito")
    desk.ask()
    desk.answer.locator("button.marker").first.click()
    panel = page.get_by_role("complementary", name="資料")
    expect(panel.locator("mark.cited")).to_be_in_viewport()
    drawn = panel.get_by_role("group", name="表", exact=True)
    expect(drawn.get_by_role("columnheader")).to_have_text(["区分", "宿泊費"])
    expect(drawn.get_by_role("row")).to_have_count(3)
    expect(panel.locator(".sourceText")).not_to_contain_text("|")


def test_reading_on_before_and_after_the_cited_place(desk: Desk) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    desk.answer.locator("button.marker").first.click()
    panel = page.get_by_role("complementary", name="資料")
    for name in ("前の部分を読む", "続きを読む"):
        while (button := panel.get_by_role("button", name=name)).count():
            button.click()
            page.wait_for_timeout(100)
    text = panel.locator(".sourceText").evaluate(
        "e => [...e.childNodes].filter(n => n.className !== 'sourceMark')"
        ".map(n => n.textContent).join('')"
    )
    assert text == TRAVEL


def test_stopping_keeps_what_there_was(desk: Desk, model: Model, machine: Appliance) -> None:
    model.hold_at = 8
    page = desk.sign_in("ito")
    desk.ask(wait=False)
    expect(page.locator(".live .answerText")).to_have_text(ANSWER[:8])
    page.get_by_role("button", name="停止").click()
    expect(page.locator(".interrupted", has_text="途中で止まりました")).to_be_visible()
    expect(page.get_by_role("button", name="送信")).to_be_visible()
    page.wait_for_url("**/c/*")
    page.reload()
    expect(desk.answer.locator(".answerText")).to_have_text(ANSWER[:8])
    expect(page.locator(".interrupted", has_text="途中で止まりました")).to_be_visible()
    model.go_on.set()
    model.hold_at = None
    page.get_by_role("button", name="もう一度質問する").click()
    expect(page.locator(".exchange:not(.live)")).to_have_count(2)
    expect(desk.answer).to_contain_text("一泊一万円が上限です")


def test_after_a_reload_in_mid_answer_the_question_is_there_and_its_answer_comes(
    desk: Desk, model: Model
) -> None:
    model.hold_at = 8
    page = desk.sign_in("ito")
    desk.ask(wait=False)
    expect(page.locator(".live .answerText")).to_have_text(ANSWER[:8])
    desk.type("書きかけの次の質問")
    page.wait_for_url("**/c/*")
    expect(page.get_by_role("textbox", name="質問")).to_have_value("書きかけの次の質問")
    page.reload()
    expect(page.locator(".asked p")).to_have_text(LODGING)
    expect(page.locator(".exchange")).to_have_count(1)
    expect(desk.answer.get_by_text("回答を作成しています")).to_be_visible()
    expect(page.get_by_role("button", name="停止")).to_be_visible()
    model.go_on.set()
    expect(desk.answer.locator(".answerText")).to_have_text("出張の宿泊費は一泊一万円が上限です1。")
    expect(desk.answer.get_by_text("裏付けあり")).to_be_visible()
    expect(page.get_by_role("button", name="送信")).to_be_visible()
    model.text = "日当は二千円です[1]。"
    desk.ask("じゃあ日当は？")
    expect(page.locator(".exchange")).to_have_count(2)
    meant = page.locator(".exchange .searched")  # of the first, nothing else was searched for
    expect(meant).to_have_text(["「出張の日当の上限はいくらですか」で探しました。"])
    desk.answer.locator("button.marker").first.click()
    expect(page.get_by_role("complementary", name="資料")).to_be_visible()


def test_a_second_tab_sees_what_is_being_answered_and_stops_it(desk: Desk, model: Model) -> None:
    model.hold_at = 8
    page = desk.sign_in("ito")
    desk.ask(wait=False)
    expect(page.locator(".live .answerText")).to_have_text(ANSWER[:8])
    expect(page.get_by_role("link", name=LODGING)).to_be_visible()
    tab = desk.context.new_page()
    desk.watch(tab)
    tab.goto(desk.origin)
    tab.get_by_role("link", name=LODGING).click()
    expect(tab.locator(".stage", has_text="回答を作成しています")).to_be_visible()
    tab.get_by_role("button", name="停止").click()
    for one in (tab, page):
        expect(one.locator(".interrupted", has_text="途中で止まりました")).to_be_visible()
        expect(one.locator(".exchange .answerText")).to_have_text(ANSWER[:8])
        expect(one.get_by_role("button", name="送信")).to_be_visible()


def test_another_question_is_asked_while_one_is_answered(desk: Desk, model: Model) -> None:
    model.hold_at = 8
    page = desk.sign_in("ito")
    desk.ask(wait=False)
    expect(page.locator(".live .answerText")).to_have_text(ANSWER[:8])
    page.get_by_role("link", name="新しい質問").click()
    expect(page.get_by_role("heading", name="何をお調べですか")).to_be_visible()
    model.hold_at = None
    desk.ask("日当はいくらですか")
    expect(desk.answer).to_contain_text("一泊一万円が上限です")
    expect(page.get_by_role("link", name="日当はいくらですか")).to_be_visible()
    page.get_by_role("link", name=LODGING).click()
    expect(desk.answer.get_by_text("回答を作成しています")).to_be_visible()
    model.go_on.set()
    expect(desk.answer).to_contain_text("一泊一万円が上限です")


def test_a_question_whose_process_died_says_so_and_is_asked_again(
    desk: Desk, machine: Appliance
) -> None:
    viewer = people.viewer(machine.engine, "ito")
    nothing = Answer("", (), (), "cut", LODGING)  # as it is kept before it is answered
    conversation, _ = conversations.begin(machine.engine, viewer, LODGING, nothing)
    page = desk.sign_in("ito", f"/c/{conversation}")
    expect(page.locator(".asked p")).to_have_text(LODGING)
    expect(page.locator(".interrupted")).to_contain_text("回答は残っていません")
    page.get_by_role("button", name="もう一度質問する").click()
    expect(page.locator(".exchange:not(.live)")).to_have_count(2)
    expect(desk.answer).to_contain_text("一泊一万円が上限です")


def test_the_empty_page_offers_what_administrators_write(desk: Desk, machine: Appliance) -> None:
    page = desk.sign_in("admin")
    offered = page.get_by_role("region", name="質問の例")
    expect(page.get_by_role("heading", name="何をお調べですか")).to_be_visible()
    expect(offered).to_have_count(0)  # a new site speaks of nobody's documents
    desk.open("/admin/examples")
    lines = page.get_by_label("質問", exact=True)
    lines.fill(f"{LODGING}\n\n日当はいくらですか\n")
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_text("保存しました（2件）")).to_be_visible()
    lines.fill("\n".join(f"質問{n}" for n in range(7)))
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_role("alert")).to_contain_text("6つまで")
    desk.open("/")
    expect(offered.get_by_role("button")).to_have_text([LODGING, "日当はいくらですか"])
    offered.get_by_role("button", name=LODGING).click()
    expect(page.locator(".asked p")).to_have_text(LODGING)
    expect(desk.answer).to_contain_text("一泊一万円が上限です")


def test_a_conversation_goes_on_after_a_reload(
    desk: Desk, model: Model, machine: Appliance
) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    page.wait_for_url("**/c/*")
    page.reload()
    expect(page.locator(".exchange")).to_have_count(1)
    model.text = "日当は二千円です[1]。"
    desk.ask("じゃあ日当は？")
    expect(page.locator(".exchange")).to_have_count(2)
    meant = page.locator(".exchange .searched")  # of the first, nothing else was searched for
    expect(meant).to_have_text(["「出張の日当の上限はいくらですか」で探しました。"])
    viewer = people.viewer(machine.engine, "ito")
    (only,) = conversations.conversations(machine.engine, viewer)
    found = conversations.get(machine.engine, viewer, only.id)
    assert [m.question for m in found.messages] == [
        "出張の宿泊費の上限はいくらですか",
        "じゃあ日当は？",
    ]


def test_what_one_may_not_read_is_not_found(desk_for: Callable[..., Desk], model: Model) -> None:
    model.text = "年三千万円です[1]。"
    sato, ito = desk_for(), desk_for()
    sato.sign_in("sato")
    sato.ask("役員報酬はいくらですか")
    expect(sato.answer).to_contain_text("年三千万円です")
    model.prompts.clear()
    page = ito.sign_in("ito")
    ito.ask("役員報酬はいくらですか")
    expect(ito.answer.get_by_role("heading", name="資料に見つかりません")).to_be_visible()
    expect(ito.answer).to_contain_text("閲覧の権限があるか確かめてもらう")
    assert not any(word in page.content() for word in ("三千万", "KANARIA", "役員報酬.txt"))
    assert not any(SECRET in prompt.plain() for prompt in model.prompts)
    address = sato.page.url
    ito.open(address.removeprefix(ito.origin))
    expect(page.get_by_text("この質問は見つかりません")).to_be_visible()


def test_what_could_not_be_searched_is_not_called_not_there(desk: Desk, machine: Appliance) -> None:
    """Nobody knows for a while who may read the source."""
    (one,) = [s for s in sources.all(machine.engine) if s.name == "共有フォルダ"]
    sources.hold(machine.engine, one.id, now() - timedelta(hours=1))
    page = desk.sign_in("ito")
    desk.ask()
    for _ in range(2):  # now, and as history shows it
        expect(desk.answer).to_contain_text("閲覧権限をいま確かめられない情報源があり")
        expect(desk.answer).not_to_contain_text("答えの根拠が見つかりませんでした")
        page.reload()


def test_where_nothing_is_sure_the_nearest_sentence_is_shown_and_opens(
    desk: Desk, machine: Appliance, model: Model
) -> None:
    read_by(machine, OverlapReader(sure=4.0))
    model.text = "分かりかねます。"
    page = desk.sign_in("ito")
    desk.ask()
    for _ in range(2):  # now, and as history shows it
        heading = desk.answer.get_by_role("heading", name="確かな答えは見つかりません")
        expect(heading).to_be_visible()
        expect(desk.answer).to_contain_text("別の言葉や正式な名称で聞き直す")
        near = desk.answer.get_by_role("region", name="近いかもしれない記述")
        expect(near.get_by_role("button").first).to_contain_text("一泊一万円を上限とする")
        expect(near.locator("mark").first).to_be_visible()
        page.reload()
    near.get_by_role("button").first.click()
    panel = page.get_by_role("complementary", name="資料")
    expect(panel.locator("mark.cited")).to_contain_text("出張の宿泊費は一泊一万円を上限とする")


def test_documents_that_give_different_numbers_are_shown_side_by_side(
    desk: Desk, machine: Appliance, model: Model
) -> None:
    read_by(machine, OverlapReader())
    other = "出張の宿泊費の上限は一泊八千円とする。"
    numbers = {
        "a.txt": ("出張の宿泊費の上限は一泊一万円とする。", PUBLIC),
        "b.txt": (other, PUBLIC),
    }
    take_in(machine, numbers)
    model.text = "一泊一万円[1]"
    desk.sign_in("ito")
    desk.ask()
    expect(desk.answer).to_contain_text("資料によって数が違います")
    places = desk.answer.get_by_role("region", name="数が違う資料").get_by_role("button")
    expect(places).to_have_count(2)
    expect(places.nth(1)).to_contain_text("一泊八千円")


def test_a_question_is_asked_of_some_documents_only(desk: Desk, model: Model) -> None:
    page = desk.sign_in("ito")
    page.get_by_role("button", name="資料を絞り込む").click()
    panel = page.get_by_role("region", name="資料を絞り込む")
    expect(panel.get_by_label("共有フォルダ")).to_be_visible()
    panel.get_by_label("この日から").fill("2999-01-01")
    page.keyboard.press("Enter")  # chooses, and sends nothing
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.get_by_role("button", name="絞り込み中：2999-01-01")).to_be_visible()
    desk.ask()
    expect(desk.answer.get_by_role("heading", name="資料に見つかりません")).to_be_visible()
    assert model.prompts == []
    page.get_by_role("button", name="絞り込みを解除").click()
    desk.ask()
    expect(desk.answer).to_contain_text("一泊一万円が上限です")


def test_somebody_else_in_the_same_tab_begins_with_an_empty_page(
    desk: Desk, machine: Appliance
) -> None:
    page = desk.sign_in("ito")
    desk.type("伊藤の書きかけの質問")
    page.get_by_role("button", name="資料を絞り込む").click()
    page.get_by_label("共有フォルダ").check()
    page.keyboard.press("Escape")
    sessions.end_all(machine.engine, "ito")
    page.get_by_role("link", name="資料").first.click()
    page.get_by_label("利用者ID").fill("sato")
    page.get_by_label("パスワード", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="サインイン", exact=True).click()
    expect(page.get_by_role("button", name="佐藤 美咲")).to_be_visible()
    page.get_by_role("link", name="質問").first.click()
    expect(page.get_by_role("textbox", name="質問")).to_have_value("")
    expect(page.get_by_role("button", name="資料を絞り込む")).to_be_visible()


def test_a_source_that_was_taken_away_says_so(desk: Desk, machine: Appliance) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    take_in(machine, {"人事/役員報酬.txt": FILES["人事/役員報酬.txt"]})
    desk.answer.locator("button.marker").first.click()
    expect(page.get_by_role("complementary", name="資料")).to_contain_text("取り下げられたか")
    page.reload()
    expect(desk.answer.get_by_text("取り下げられました", exact=True)).to_be_visible()
    expect(desk.answer.locator("button.marker")).to_have_count(0)
    assert "旅費規程.txt" not in page.content()


def test_a_source_that_has_changed_says_so(desk: Desk, machine: Appliance) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    text, access = FILES["規程/旅費規程.txt"]
    take_in(machine, {"規程/旅費規程.txt": (text.replace("一泊一万円", "一泊九千円"), access)})
    desk.answer.locator("button.marker").first.click()
    panel = page.get_by_role("complementary", name="資料")
    expect(panel).to_contain_text("資料が更新されたため")
    expect(panel.locator("mark.cited")).to_have_count(0)


def test_a_model_that_breaks_off_is_said_and_one_can_ask_again(desk: Desk, model: Model) -> None:
    model.broken = ModelUnreachable("gone")
    page = desk.sign_in("ito")
    desk.ask(wait=False)
    expect(page.get_by_role("alert")).to_contain_text("モデル")
    model.broken = None
    page.get_by_role("alert").get_by_role("button", name="もう一度試す").click()
    expect(desk.answer).to_contain_text("一泊一万円が上限です")


def test_a_lost_connection_is_said_and_one_can_ask_again(desk: Desk) -> None:
    page = desk.sign_in("ito")
    desk.context.set_offline(True)
    desk.ask(wait=False)
    expect(page.get_by_role("alert")).to_contain_text("サーバーに接続できません")
    desk.context.set_offline(False)
    page.get_by_role("alert").get_by_role("button", name="もう一度試す").click()
    expect(desk.answer).to_contain_text("一泊一万円が上限です")


def test_rating_an_answer(desk: Desk, machine: Appliance) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    page.get_by_role("button", name="役に立たなかった").click()
    page.get_by_label("どこが違っていましたか（任意）").fill("改定前の金額です")
    page.get_by_role("button", name="送る").click()
    expect(page.get_by_text("評価を記録しました")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="役に立たなかった")).to_have_attribute(
        "aria-pressed", "true"
    )
    viewer = people.viewer(machine.engine, "ito")
    (only,) = conversations.conversations(machine.engine, viewer)
    (message,) = conversations.get(machine.engine, viewer, only.id).messages
    assert message.rating == -1


def test_renaming_and_deleting_a_conversation(desk: Desk) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    menu = page.get_by_role("button", name=re.compile("の操作$"))
    menu.click()
    page.get_by_role("button", name="名前を変える").click()
    page.get_by_label("名前", exact=True).fill("宿泊費のこと")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="宿泊費のこと")).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name="宿泊費のこと")).to_be_visible()
    menu.click()
    page.get_by_role("button", name="削除").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("元には戻せません")
    dialog.get_by_role("button", name="やめる").click()
    expect(page.get_by_role("link", name="宿泊費のこと")).to_be_visible()
    menu.click()
    page.get_by_role("button", name="削除").click()
    dialog.get_by_role("button", name="削除").click()
    expect(page.get_by_role("link", name="宿泊費のこと")).to_have_count(0)
    expect(page.get_by_role("heading", name="何をお調べですか")).to_be_visible()


def test_copying_an_answer_names_its_sources(desk: Desk) -> None:
    page = desk.sign_in("ito")
    desk.ask()
    page.get_by_role("button", name="出典つきでコピー").click()
    expect(desk.answer.get_by_text("コピーしました").first).to_be_visible()
    page.get_by_role("textbox", name="質問").focus()
    page.keyboard.press("Control+V")
    pasted = page.get_by_role("textbox", name="質問").input_value()
    assert pasted.startswith(f"{ANSWER}\n\n出典\n[1] ") and "規程/旅費規程.txt" in pasted


def test_scrolling_up_stops_the_page_from_running_away(desk: Desk, model: Model) -> None:
    model.text = "".join(f"{n}番目に述べること。\n" for n in range(90))
    model.hold_at = 800
    page = desk.sign_in("ito")
    desk.ask(wait=False)
    box = page.locator(".scroll")
    expect(page.locator(".live .answerText")).to_have_text(model.text[:800].rstrip())
    at_end = "e => e.scrollHeight - e.scrollTop - e.clientHeight < 4"
    assert box.evaluate(at_end)
    box.hover()
    page.mouse.wheel(0, -300)
    expect(page.get_by_role("button", name="最新の回答へ")).to_be_visible()
    before = box.evaluate("e => e.scrollTop")
    model.go_on.set()
    expect(page.locator(".live")).to_have_count(0)
    assert abs(box.evaluate("e => e.scrollTop") - before) < 2
    page.get_by_role("button", name="最新の回答へ").click()
    assert box.evaluate(at_end)


@pytest.mark.parametrize("key", ["Enter", "Shift+Enter"])
def test_enter_sends_and_shift_enter_begins_a_line(desk: Desk, key: str) -> None:
    page = desk.sign_in("ito")
    desk.type("一行目")
    page.keyboard.press(key)
    if key == "Enter":
        expect(page.locator(".exchange")).to_have_count(1)
    else:
        expect(page.get_by_role("textbox", name="質問")).to_have_value("一行目\n")
        expect(page.locator(".exchange")).to_have_count(0)


def test_enter_while_converting_never_sends(desk: Desk) -> None:
    page = desk.sign_in("ito")
    box = page.get_by_role("textbox", name="質問")
    box.focus()
    ime = desk.context.new_cdp_session(page)
    ime.send(
        "Input.imeSetComposition", {"text": "しゅっちょう", "selectionStart": 6, "selectionEnd": 6}
    )
    ime.send("Input.imeSetComposition", {"text": "出張", "selectionStart": 2, "selectionEnd": 2})
    expect(box).to_have_value("出張")
    # the key that confirms the conversion, as the browser reports it while composing
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    ime.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **key})
    ime.send("Input.insertText", {"text": "出張"})
    ime.send("Input.dispatchKeyEvent", {"type": "keyUp", **key})
    page.wait_for_timeout(300)
    expect(page.locator(".exchange")).to_have_count(0)
    expect(box).to_have_value("出張")
    # Safari: the composition is over, and only then comes the key, with code 229
    box.evaluate(
        """e => {
          e.dispatchEvent(new CompositionEvent("compositionstart", {bubbles: true}));
          e.dispatchEvent(new CompositionEvent("compositionend", {bubbles: true, data: "出張"}));
          e.dispatchEvent(new KeyboardEvent("keydown",
            {key: "Enter", code: "Enter", keyCode: 229, bubbles: true, cancelable: true}));
        }"""
    )
    # an input method that sends a plain Enter in the same breath
    box.evaluate(
        """e => {
          e.dispatchEvent(new CompositionEvent("compositionstart", {bubbles: true}));
          e.dispatchEvent(new CompositionEvent("compositionend", {bubbles: true, data: "出張"}));
          e.dispatchEvent(new KeyboardEvent("keydown",
            {key: "Enter", code: "Enter", keyCode: 13, bubbles: true, cancelable: true}));
        }"""
    )
    page.wait_for_timeout(300)
    expect(page.locator(".exchange")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(page.locator(".exchange")).to_have_count(1)
