"""Markers and what they are worth: the claim is looked for in the passage, never believed."""

from __future__ import annotations

import pytest

from appliance.ask import cite
from appliance.text import numerals
from appliance.types import Passage

RULES = (
    "第12条 出張の宿泊費は、一泊につき１０，０００円を上限とする。\n"
    "ただし、海外出張の場合は社長の承認を要する。\n"
    "日当は支給しない。部長の日当は三千円とする。申請は出張後5日以内に行わなければならない。"
)
PUMP = "KP-2200-Aの使用温度範囲は、-10～60℃である。\nフランジのボルトは25.5N·mで締める。外装色はマンセル5PB 3/6。"


def passage(text=RULES, start=100):
    end = start + len(text)
    return Passage(1, "d1", "規程", "旅費.pdf", "旅費規程", "p. 1", text, start, end)


def only(text, *passages):
    cited = cite.cite(text, passages or (passage(),))
    assert len(cited.citations) == 1
    return cited.citations[0]


@pytest.mark.parametrize(
    ("said", "shown", "dangling"),
    [
        ("一万円です[1]。", "一万円です[1]。", 0),
        ("一万円です［１］。", "一万円です[1]。", 0),
        ("一万円です。 [1][2]", "一万円です。[1][2]", 0),
        ("一万円です[1, 2]。", "一万円です[1][2]。", 0),
        ("一万円です[1、2、9]。", "一万円です[1][2]。", 1),
        ("一万円です[0][3]。", "一万円です。", 2),
        ("一万円です[1", "一万円です[1", 0),
        ("配列a[i]と[注]は残る[2]", "配列a[i]と[注]は残る[2]", 0),
    ],
)
def test_markers_in_one_form_and_dangling_ones_counted(said, shown, dangling):
    assert cite.clean(said, 2) == (shown, dangling)


@pytest.mark.parametrize(
    "said",
    [
        "10,000円[1]",
        "１万円です。[1]",
        "一万円[1]",
        "宿泊費は、一泊につき10000円を上限とする。[1]",
        "10,000円です[1]",
    ],
)
def test_a_span_answer_is_found_where_its_words_stand(said):
    found = only(said)
    assert found.supported
    assert found.span is not None
    assert found.quote in RULES
    assert "１０，０００円" in found.quote
    assert RULES[found.span.start - 100 : found.span.end - 100] == found.quote
    if len(said) < 12:
        assert found.quote == "１０，０００円"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("20,000円[1]", RULES),
        ("0円[1]", RULES),  # the end of a longer number is another number
        ("宿泊費は一泊20,000円が上限です[1]。", RULES),
        ("日当は支給する[1]。", RULES[RULES.index("日当") :].split("。")[0] + "。"),
        ("宿泊費は支給しない[1]。", "宿泊費は支給する。"),
        ("KP-2300の使用温度範囲は-10～60℃です[1]。", PUMP),
        ("ボルトは5N·mで締める[1]。", PUMP),
        ("育児休業は子が3歳になるまで取得できる[1]。", RULES),
        ("はい[1]", RULES),
        ("[1]", RULES),
    ],
)
def test_what_the_passage_does_not_say_is_not_supported(said, text):
    assert not only(said, passage(text)).supported


@pytest.mark.parametrize(
    ("said", "text", "quote"),
    [
        (
            "海外出張の場合は、社長の承認が必要です[1]。",
            RULES,
            "ただし、海外出張の場合は社長の承認を要する。",
        ),
        (
            "申請は出張後5日以内に行う必要があります[1]。",
            RULES,
            "申請は出張後5日以内に行わなければならない。",
        ),
        (
            "ＫＰ−２２００の使用温度範囲は−10～60℃です[1]。",
            PUMP,
            "KP-2200-Aの使用温度範囲は、-10～60℃である。",
        ),
        ("25.5 N·m[1]", PUMP, "25.5N·m"),
        ("マンセル5PB3/6[1]", PUMP, "マンセル5PB 3/6"),
        ("「社長の承認」[1]", RULES, "社長の承認"),
    ],
)
def test_a_claim_in_other_words_cites_its_sentence(said, text, quote):
    found = only(said, passage(text))
    assert found.supported
    assert found.quote == quote


def test_each_marker_is_checked_against_its_own_claim():
    cited = cite.cite(
        "宿泊費の上限は10,000円です[1]。使用温度範囲は-10～60℃です[2]。部長の日当は9千円です[1]。",
        (passage(), passage(PUMP, 0)),
    )
    assert [(c.marker, c.supported) for c in cited.citations] == [(1, False), (2, True)]
    one = cite.cite("宿泊費の上限は10,000円です[1]。", (passage(),)).citations[0]
    assert one.supported


def test_no_marker_but_the_words_of_exactly_one_passage():
    passages = (passage(PUMP, 0), passage())
    cited = cite.cite("10,000円です。", passages)
    assert cited.text == "10,000円です。[2]"
    assert [(c.marker, c.supported, c.quote) for c in cited.citations] == [
        (2, True, "１０，０００円")
    ]
    assert cite.cite("10,000円", (passage(), passage())).citations == ()
    assert cite.cite("30,000円", passages).citations == ()
    assert cite.cite("10,000円[7]", passages).dangling == 1
    assert cite.cite("", passages).citations == ()


def test_a_miscounted_marker_names_the_passage_that_says_so():
    passages = [passage("手数料は500円。"), passage("再発行は1,500円。"), passage("会費は800円。")]
    cited = cite.cite("1,500円[3]。", passages)
    assert cited.text == "1,500円[2]。"
    assert [(c.marker, c.supported) for c in cited.citations] == [(2, True)]


@pytest.mark.parametrize(
    "said",
    [
        "1,500円[1]",  # right as it is
        "9,999円[3]",  # nobody says so
        "1,500円[3]、期限は5日[3]",  # more than one claim
        "6日[3]",  # two others say so
    ],
)
def test_other_markers_are_left_as_they_are(said):
    passages = [passage("再発行は1,500円、6日。"), passage("6日。"), passage("会費は800円。")]
    assert cite.cite(said, passages).text == said


def test_spans_survive_characters_that_change_length_when_folded():
    text = "㍿カブラギの資本金は㍑換算でﾊﾞﾙﾌﾞ１０，０００個。髙﨑工場の定員は①２０名。"
    found = only("バルブ10000個[1]", passage(text, 7))
    assert found.quote == "ﾊﾞﾙﾌﾞ１０，０００個"
    assert only("高崎工場[1]", passage(text, 7)).quote == "髙﨑工場"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("一万円", "10000円"),
        ("１０，０００円", "10000円"),
        ("1万2千円", "12000円"),
        ("2.5億円", "250000000円"),
        ("二〇二四年四月一日", "2024年4月1日"),
        ("第十二条", "第12条"),
        ("役員報酬三千万円", "役員報酬30000000円"),
        ("統一年会", "統一年会"),
        ("一般", "一般"),
        ("3,4,5", "3,4,5"),
    ],
)
def test_numbers_in_one_form(text, plain):
    found = numerals.normalize(text)
    assert found.text == plain
    assert len(found.offsets) == len(plain) + 1
    assert found.offsets[-1] == len(text)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("一泊10,000円です[1]。海外出張は社長の承認が必要です。[1]", [True, True]),
        ("以下のとおりです。一泊一万円です[1]。", [True]),  # the first states nothing
        ("宿泊費は一泊につき一万円[1]、日当は三千円[1]です。", [True]),
        ("一泊一万円を上限とする。", [True]),  # cites nothing, but is there
        ("一泊九千円です[1]。日当は三千円とする[1]。", [False, True]),
        ("京都の田中部長が承認する[1]。", [False]),
        ("海外出張は会長の承認を要する[1]が、国内は自由だ。", [False]),
        ("## 国内出張について\n一泊一万円です[1]。", [True]),  # a heading states nothing
        ("## 上限は九千円\n一泊一万円です[1]。", [False, True]),  # but its numbers
    ],
)
def test_each_sentence_is_held_against_what_it_cites(said, wanted):
    cited = cite.cite(said, (passage(), passage(PUMP, 500)))
    assert [s.supported for s in cited.statements] == wanted
    ends = [s.end for s in cited.statements]
    assert ends == sorted(ends) and ends[-1] == len(cited.text)


def test_what_no_source_has_is_pointed_at():
    said = "𠮷野さんのKP-3300-Aは一泊九千円です[1]。"
    (found,) = cite.cite(said, (passage(), passage(PUMP, 500))).statements
    assert [said[d.start : d.end] for d in found.doubts] == ["𠮷野", "KP-3300-A", "九千"]


def test_a_name_in_the_title_is_known():
    named = Passage(1, "d1", "規程", "x", "白樺製作所との契約", "", "納期は30日である。", 0, 10)
    (found,) = cite.cite("白樺製作所の納期は30日です[1]。", (named,)).statements
    assert found.supported
    (other,) = cite.cite("青嶺製作所の納期は30日です[1]。", (named,)).statements
    assert not other.supported
