"""A small model beside a reader: what stands is what both say, or what was read, or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.ask import extract, weigh
from appliance.types import Passage, Span, Version, Words

ASKED = "宿泊費の上限は"


def passage(
    text: str,
    *words: tuple[str, float],
    relevance: float = 0.9,
    document: str = "d",
    **more: object,
) -> Passage:
    found = tuple(Words(100 + text.index(w), 100 + text.index(w) + len(w), s) for w, s in words)
    return Passage(
        1, document, "社内", "u", "旅費規程", "第3条", text, 100, 100 + len(text),
        relevance=relevance, words=found, **more,
    )  # fmt: skip


RIGHT = passage("宿泊費は一泊12,000円を上限とする。", ("12,000円", 10.0), ("一泊12,000円", 8.0))
WRONG = passage("会議室の定員は20名である。", ("20名", -2.0), relevance=0.1)


@pytest.mark.parametrize(
    ("said", "stands"),
    [
        ("12,000円[2]", "12,000円[2]"),
        ("一泊１２０００円です[2]。", "一泊１２０００円です[2]。"),  # another way to write it
        ("20名[1]", "12,000円[2]"),
        ("12[2]", "12,000円[2]"),  # a part of it is no answer
        ("", "12,000円[2]"),
        ("[1]", "12,000円[2]"),
        ("一泊12,000円を[2]", "一泊12,000円[2]"),
    ],
)
def test_what_stands(said: str, stands: str) -> None:
    assert extract.settle(ASKED, said, [WRONG, RIGHT]) == stands


@pytest.mark.parametrize(
    ("question", "text", "words", "stands"),
    [
        (
            "在宅勤務はできる？",
            "出社してはならない。\n2　この間の在宅勤務は、本人が希望すれば認める。\n",
            "認める",
            "この間の在宅勤務は、本人が希望すれば認める。[1]",
        ),
        (
            "海水で使えますか",
            "A・B は使えません。C でも海水は推奨していません。孔食が避けられないためです。",
            "孔食",
            "C でも海水は推奨していません。孔食が避けられないためです。[1]",
        ),
        ("名刺が欲しい", "・ 名刺は購買に注文する。", "購買", "名刺は購買に注文する。[1]"),
        ("手当は出ますか", "区分 | 手当\n在宅 | 200円\n", "200円", "在宅 | 200円[1]"),
        ("手当はいくら出ますか", "区分 | 手当\n在宅 | 200円\n", "200円", "200円[1]"),
        ("手当を教えてください", "区分 | 手当\n在宅 | 200円\n", "200円", "200円[1]"),
    ],
)
def test_whether_something_is_so_is_answered_with_the_sentence(
    question: str, text: str, words: str, stands: str
) -> None:
    assert extract.settle(question, f"{words}[1]", [passage(text, (words, 14.0))]) == stands


def test_an_article_that_is_asked_for_is_shown_as_it_stands() -> None:
    body = "第3条（宿泊費）\n1　宿泊費は一泊12,000円を上限とする。\n2　朝食を含む。"
    asked = passage(body, relevance=0.2)
    assert extract.asked_whole("旅費規程の第３条を教えて", asked)
    assert not extract.asked_whole("旅費規程の第4条を教えて", asked)
    assert not extract.asked_whole("経費規程の第3条を教えて", asked), "that is another's"
    assert extract.asked_whole("会社の旅費規程の第3条は？", asked)
    assert extract.asked_whole("第3条は？", asked)
    assert extract.beginning(asked) == (f"{body}[1]", Span(asked.start, asked.end))
    long = passage(f"\n{body}" + "なお、" * 10 + "次のとおりとする。" * 60)
    shown, span = extract.beginning(long)
    assert long.text[span.start - long.start : span.end - long.start] == shown[: -len("…[1]")]
    assert shown.startswith("第3条") and shown.endswith("次のとおりとする。…[1]")
    assert len(shown) <= extract.ARTICLE + 4


TABLE = "第13条（日当）\n日当は、次の表による。\n役員 | 2,000円\n社員 | 1,200円\n"
UNSURE = (("2,000円", 3.0), ("1,200円", 2.0))
KINDS = "3. 懲戒の種類\n懲戒は次の2種とする。\n(1) 戒告\n(2) 減給\n"


@pytest.mark.parametrize(
    ("question", "text", "label", "words", "shown"),
    [
        ("日当はいくら", TABLE, "p. 3 · 第13条 日当", UNSURE, True),
        ("旅費規程の日当は何円ですか", TABLE, "第13条 日当", UNSURE, True),
        ("国内の日当はいくら", TABLE, "第13条 日当", UNSURE, True),  # it says so itself
        ("海外の日当はいくら", TABLE, "第13条 日当", UNSURE, False),
        ("社員の日当はいくら", TABLE, "第13条 日当", UNSURE, False),  # one line of it is asked for
        ("日当はいくら", TABLE, "p. 3 · 第13条", UNSURE, False),  # no heading
        ("日当はいくら", "次の表による。\n役員 | 2,000円", "第13条 日当", UNSURE[:1], False),
        ("日当はいくら", TABLE, "第13条 日当", (("2,000円", 16.0), ("1,200円", 2.0)), False),
        ("日当はいくら", TABLE, "第13条 日当", (("2,000円", 16.0), ("1,200円", 14.0)), True),
        ("休憩時間は", "第18条（始業、終業および休憩）\n休憩は60分。", "第18条 始業、終業および休憩", (), True),
        ("休憩の場所は", "第18条（始業、終業および休憩）\n休憩は60分。", "第18条 始業、終業および休憩", (), False),
        ("懲戒の種類は", KINDS, "3. 懲戒の種類", (("2種", 16.0),), True),  # all of them
        ("兼業はできますか", "■ 兼業・副業\n届け出る。", "兼業・副業", (("届け出る", 1.0),), True),
        ("名刺は", "名刺はどこですか\n窓口。", "名刺はどこですか", (("窓口", 1.0),), False),
    ],
)  # fmt: skip
def test_a_section_that_is_asked_for_by_its_heading(
    question: str, text: str, label: str, words: tuple[tuple[str, float], ...], shown: bool
) -> None:
    found = replace(passage(text, *words), label=label, about="国内旅費規程")
    assert (extract.section(question, [found]) == found) is shown


def test_a_section_s_heading_goes_before_what_a_reader_is_sure_of_elsewhere() -> None:
    elsewhere = replace(passage("休暇は5日とする。", ("5日", 20.0)), label="第9条 計画年休")
    named = replace(
        passage("第8条（休暇）\n勤続6か月で10日、\n1年半で11日とする。"), label="第8条 休暇"
    )
    assert extract.section("休暇は何日？", [elsewhere, named]) == named
    assert extract.settle("休暇は何日？", "", [elsewhere, named]) == "5日[1]"


@pytest.mark.parametrize(
    "asked", ["名刺はいつもらえますか。", "Q9. 名刺を急ぎで作りたいです。", "名刺は何枚ですか？"]
)
def test_what_is_asked_in_a_document_answers_nothing(asked: str) -> None:
    whole = passage(f"{asked}\n入社日に50枚をお渡しします。", (asked[:-1], 14.0), ("50枚", 12.0))
    assert extract.settle("名刺の枚数は", "", [whole]) == "50枚[1]"
    assert extract.settle("名刺の枚数は", "", [passage(asked, (asked[:-1], 14.0))]) == ""


@pytest.mark.parametrize(
    "told", ["対象は次の3つのいずれか", "8日であることが明らか。", "残りは3日とわずか。"]
)
def test_what_ends_like_a_question_may_be_none(told: str) -> None:
    words = next(w for w in ("3つ", "8日", "3日") if w in told)
    assert extract.settle("対象は", "", [passage(told, (words, 14.0))]) == f"{words}[1]"


def test_what_is_only_likely_is_believed_where_nothing_else_comes_near() -> None:
    """A place beside it that says the same takes nothing away."""

    def two(other: str, sure: float) -> list[Passage]:
        text = f"宿泊費は8,000円。上限は{other}。"
        return [passage(text, ("8,000円", sure), (other, sure - 1), relevance=0.5)]

    assert extract.settle(ASKED, "", two("9,000円", 10.0)) == ""
    assert extract.settle(ASKED, "", two("８千円", 10.0)) == "8,000円[1]"
    assert extract.settle(ASKED, "", two("9,000円", 13.0)) == "8,000円[1]"
    assert extract.settle(ASKED, "8,000円[1]", two("9,000円", 7.0)) == "8,000円[1]"  # both say so


def test_two_places_of_one_sentence_are_answered_with_the_sentence() -> None:
    text = "・休日の出勤は、第2会議室（5階の工事の間は第3会議室）を使う。\n・鍵は総務課。\n"
    two = passage(text, ("第2会議室", 8.0), ("第3会議室", 7.0), relevance=0.5)
    asked = "休日に出るときの部屋は"
    said = "休日の出勤は、第2会議室（5階の工事の間は第3会議室）を使う。[1]"
    assert extract.settle(asked, "", [two]) == said
    sure = passage(text, ("第2会議室", 13.0), ("第3会議室", 12.0), relevance=0.5)
    assert extract.settle(asked, "", [sure]) == "第2会議室[1]"
    unlikely = passage(text, ("第2会議室", 7.0), ("第3会議室", 6.0), relevance=0.5)
    assert extract.settle(asked, "", [unlikely]) == ""
    elsewhere = passage(
        text, ("第2会議室", 8.0), ("第3会議室", 7.5), ("総務課", 7.0), relevance=0.5
    )
    assert extract.settle(asked, "", [elsewhere]) == ""


@pytest.mark.parametrize(
    ("words", "alone"),
    [
        ("1912年に", "1912年"),
        ("1899年には", "1899年"),
        ("3日まで", "3日まで"),
        ("かわさきの", "かわさきの"),  # may be a name
        ("「蔵」の", "「蔵」"),
        ("： 1日1回25分", "1日1回25分"),
        ("「蔵」(", "「蔵」"),
        ("蔵」", "蔵"),
        ("(2年ごと)", "2年ごと"),
        ("8,000円(税込)", "8,000円(税込)"),
        ("（株）蔵", "（株）蔵"),
        ("「蔵」と「倉」", "「蔵」と「倉」"),
        ("」", ""),
    ],
)
def test_what_belonged_to_the_sentence_is_left_there(words: str, alone: str) -> None:
    assert extract.tidy(words) == alone


def test_what_both_say_is_believed_sooner() -> None:
    doubtful = passage("宿泊費は12,000円とする。", ("12,000円", extract.LIKELY - 1), relevance=0.5)
    assert extract.settle(ASKED, "", [doubtful]) == ""
    assert extract.settle(ASKED, "12,000円です[1]", [doubtful]) == "12,000円です[1]"
    assert extract.settle(ASKED, "8,000円です[1]", [doubtful]) == ""


def test_what_has_not_the_form_that_is_asked_for_is_no_answer() -> None:
    other = passage("宿泊費の申請は総務課へ。", ("総務課", 14.0))
    assert extract.settle("宿泊費はいくら", "総務課です[1]", [other]) == ""
    assert extract.settle("宿泊費はいくら", "総務課です[1]", [other, RIGHT]) == "12,000円[2]"
    assert extract.settle("宿泊費はどこに出す", "", [other, RIGHT]) == "総務課[1]"


@pytest.mark.parametrize(
    ("asked", "text", "stands"),
    [
        ("2026年度の宿泊費の上限は", "2025年度の宿泊費は9,000円。2026年1月から。", False),
        ("2025年度の宿泊費の上限は", "令和7年度の宿泊費は9,000円。", True),
        ("令和８年の宿泊費の上限は", "2025年の宿泊費は9,000円。", False),
        ("令和７年の宿泊費の上限は", "2025/04/01から宿泊費は9,000円。", True),
        ("2026年度の宿泊費の上限は", "宿泊費は9,000円。", True),  # it names none
        ("宿泊費の上限は", "2025年度の宿泊費は9,000円。", True),
    ],
)
def test_a_paper_of_another_year_answers_nothing(asked: str, text: str, stands: bool) -> None:
    found = passage(text, ("9,000円", 14.0))
    assert bool(extract.settle(asked, "9,000円[1]", [found])) is stands
    assert extract.near(asked, [found])  # worth a look all the same


def test_a_paper_that_calls_itself_another_year_s_answers_nothing() -> None:
    found = passage("申込みは1月31日まで。", ("1月31日", 14.0))
    asked = "2026年度の健康診断はいつから？"
    assert extract.settle(asked, "1月31日[1]", [found])
    other = replace(found, about="2025年度 定期健康診断の日程")
    assert not extract.settle(asked, "1月31日[1]", [other])


@pytest.mark.parametrize("question", ["How long is the hotel limit?", "宿泊費の上限は"])
def test_a_question_in_english_is_believed_sooner(question: str) -> None:
    """The reader learned from questions in Japanese: it is less sure of another, and orders as well."""
    unsure = passage("宿泊費は一泊12,000円を上限とする。", ("12,000円", 3.0))
    assert bool(extract.settle(question, "", [unsure])) == question.isascii()
    english = passage("The hotel limit is 12,000 yen a night.", ("12,000 yen", 3.0))
    assert extract.settle(question, "", [english]) == "", "nothing is foreign to it there"


def test_where_nobody_is_sure_nothing_is_said() -> None:
    assert extract.settle(ASKED, "20名[1]", [WRONG]) == ""
    assert extract.settle(ASKED, "20名[1]", [passage("定員は20名である。")]) == ""


def test_words_that_were_cut_away_are_not_quoted() -> None:
    cut = Passage(
        1, "d", "社内", "u", "t", "", "宿泊費は", 100, 104, relevance=0.9, words=RIGHT.words
    )  # fmt: skip
    assert extract.extracts(ASKED, [cut]) == []
    assert [str(e) for e in extract.extracts(ASKED, [cut, RIGHT])] == [
        "12,000円[2]",
        "一泊12,000円[2]",
    ]


def test_where_nothing_is_sure_the_nearest_places_are_pointed_at() -> None:
    low = passage(
        "対象は正社員。\n宿泊費は一泊9,000円とする。\n日当は別に定める。",
        ("9,000円", 3.0),
        ("一泊9,000円", 2.0),
        relevance=0.5,
    )
    lower = passage("定員は20名である。", ("20名", 1.0), relevance=0.5)
    silly = passage("部屋は3室ある。", ("3室", -11.0), relevance=0.4)
    assert extract.settle(ASKED, "", [silly, lower, low]) == ""
    first, second = extract.near(ASKED, [silly, lower, low])
    assert (first.number, first.quote) == (3, "宿泊費は一泊9,000円とする。")
    assert (second.number, second.quote) == (2, "定員は20名である。")
    words = low.text[first.words.start - low.start : first.words.end - low.start]
    assert words == "9,000円"


def test_of_one_passage_two_sentences_at_most_are_pointed_at() -> None:
    words = [("8,000円", 1.5), ("9,000円", 1.0), ("役員", 0.5), ("500円", 0.0), ("2名", -0.5)]
    text = "一泊8,000円。役員は9,000円。夕食は500円。定員は2名。"
    many = passage(text, *words, relevance=0.5)
    other = passage("朝食は700円。", ("700円", -1.0), relevance=0.5)
    found = [(p.number, p.quote) for p in extract.near("いくら", [many, other])]
    assert found == [(1, "一泊8,000円。"), (1, "役員は9,000円。"), (2, "朝食は700円。")]


def test_a_sentence_without_end_is_shown_around_its_words() -> None:
    text = "あ" * 900 + "9,000円" + "い" * 900
    (one,) = extract.near(ASKED, [passage(text, ("9,000円", 1.0))])
    assert "9,000円" in one.quote and len(one.quote) < 2 * extract.QUOTED


OLD = Version("n", "旅費規程", None, "superseded")


@pytest.mark.parametrize(
    ("other", "numbers"),
    [
        (passage("宿泊費は一泊8千円までです。", ("8千円", 9.0), document="e"), [1, 2]),
        (
            passage("宿泊費は一泊１万２千円です。", ("１万２千円", 9.0), document="e"),
            [],
        ),  # the same
        (passage("宿泊は3泊までです。", ("3泊", 9.0), document="e"), []),  # counts something else
        (passage("宿泊費は一泊8千円です。", ("8千円", 2.0), document="e"), []),  # not sure
        (passage("宿泊費は一泊8千円です。", ("8千円", 9.0)), []),  # the same document
        (passage("一泊8千円です。", ("8千円", 9.0), document="e", version=OLD), []),
    ],
)
def test_another_document_with_another_number_is_a_conflict(
    other: Passage, numbers: list[int]
) -> None:
    found = extract.conflicts(ASKED, "12,000円[1]", [RIGHT, other])
    assert [p.number for p in found] == numbers


def test_words_without_numbers_contradict_nothing() -> None:
    one = passage("窓口は総務部です。", ("総務部", 9.0))
    other = passage("窓口は経理部です。", ("経理部", 9.0), document="e")
    assert extract.conflicts(ASKED, "総務部[1]", [one, other]) == ()


PHONES = "部門 | 氏名 | 内線\n診療所 | 産業医 | 5119\n製造部 | 環境安全課 丸山 | 5210\n"
GIFT = "勤続3年未満の者に20,000円、勤続3年以上の者に30,000円を支給する。"


def stands(question: str, *passages: Passage) -> str:
    return extract.settle(question, "", weigh.weighed(question, passages))


def test_the_row_that_is_asked_for_stands_though_a_reader_points_at_another() -> None:
    asked = "環境安全課の内線"
    wrong = passage(PHONES, ("5119", 9.0), ("5210", 5.0))
    assert extract.settle(asked, "", [wrong]) == "5119[1]"
    assert stands(asked, wrong) == "5210[1]"
    unseen = passage(PHONES, ("5119", 9.0))
    assert stands(asked, unseen) == "5210[1]"  # at which it does not point at all
    assert stands("環境安全課の外線", unseen) == ""
    said = passage("異常を感じたら内線5119に連絡する。", ("5119", 13.0), document="e")
    both = weigh.weighed(asked, [said, unseen])
    assert extract.settle(asked, "", both) == "5210[2]"
    assert not extract.conflicts(asked, "5210[2]", both)


def test_two_cells_that_may_be_meant_are_left_to_the_reader() -> None:
    asked = "環境安全課の内線"
    one = passage(PHONES, ("5210", -9.0))
    other = passage(PHONES.replace("5210", "5220"), ("5220", -9.0), document="e")
    assert stands(asked, one) == "5210[1]"
    assert stands(asked, one, other) == ""
    old = replace(other, version=Version("e", "t", None, "superseded"))
    assert stands(asked, one, old) == "5210[1]"


def test_bounds_decide_for_whom_an_answer_holds() -> None:
    said = passage(GIFT, ("20,000円", 6.0), ("30,000円", 5.5))
    both = "勤続3年未満の者に20,000円、勤続3年以上の者に30,000円を支給する。"
    assert both in stands("結婚祝金はいくら", said)
    assert stands("勤続5年の結婚祝金はいくら", said) == "30,000円[1]"
    assert stands("勤続1年の結婚祝金はいくら", said) == "20,000円[1]"


def test_where_a_bound_is_asked_for_a_sum_without_one_is_no_answer() -> None:
    prices = passage("消費税は216,760円である。", ("216,760円", 14.0))
    rule = passage("1件50万円以上の購入では、2社の見積書を添える。", ("50万円", 13.0), document="e")
    assert stands("見積りが2社いるのはいくら以上？", prices, rule) == "50万円[2]"
    assert stands("見積りが2社いるのはいくら？", prices, rule) == "216,760円[1]"
    table = "アカウント | 最低の長さ\nWindows | 14文字\n管理者 | 20文字\n"
    assert stands("Windowsは何文字以上？", passage(table, ("14文字", 14.0))) == "14文字[1]"


def test_what_stands_behind_another_ordinal_is_not_what_is_asked_for() -> None:
    paper = passage("簿記 1級 50,000円、2級は20,000円", ("50,000円", 15.0), ("20,000円", 13.0))
    assert stands("簿記1級の報奨金はいくら", paper) == "50,000円[1]"
    assert stands("簿記2級の報奨金はいくら", paper) == "20,000円[1]"
    assert stands("簿記3級の報奨金はいくら", paper) == ""


def test_a_paper_on_another_number_answers_nothing() -> None:
    paper = passage("CAR-2025-007\n責任部門 | 購買課\n是正 | 済み\n", ("購買課", 20.0))
    assert stands("CAR-2025-007の責任部門は", paper) == "購買課[1]"
    assert stands("CAR-2025-009の責任部門は", paper) == ""


def test_of_several_cells_that_are_read_as_one_the_column_decides() -> None:
    table = "区分 | 日帰り | 宿泊\n役員 | 2,000円 | 4,000円\n社員 | 1,200円 | 2,500円\n"
    read = passage(table, ("1,200円 | 2,500円", 14.0))
    assert stands("社員の宿泊の日当は", read) == "2,500円[1]"
    assert stands("社員の日当は", read) == "1,200円 | 2,500円[1]"
    assert stands("役員の日当は", read) == ""
