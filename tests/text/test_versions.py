"""Names and days by which one version is told from another, and documents that are no versions."""

from __future__ import annotations

from datetime import date

import pytest

from appliance.text import versions
from appliance.text.versions import edition, newer

OLD = edition("旅費規程_2019年版.pdf", "旅費規程\n2019年4月1日一部改定（第4版）")
NEW = edition("旅費規程_2024年改定.pdf", "旅費規程\n附則 この規程は令和6年4月1日から施行する。")


@pytest.mark.parametrize(
    "title",
    [
        "旅費規程.docx",
        "旅費規程_20240401.docx",
        "旅費規程_2019年版.pdf",
        "旅費規程（令和6年4月改定）.docx",
        "【旧】旅費規程.doc",
        "旧旅費規程.pdf",
        "旅費規程_旧.pdf",
        "旅費規程 第5版.pdf",
        "旅費規程ver2.1.docx",
        "旅費規程_最終版.docx",
        "旅費規程 - コピー (2).docx",
        "旅費規程_R6.4.1.docx",
        "旅費規程(案).docx",
        "規程/旅費規程２０２４.docx",
    ],
)
def test_names_that_differ_in_their_version_alone_are_one(title: str) -> None:
    assert edition(title, "").stem == "旅費規程"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("賃金規程.pdf", "旅費規程.pdf"),
        ("Q-2025-0412 白樺様.xlsx", "Q-2025-0457 青嶺様.xlsx"),
        ("KP-2200 仕様書.pdf", "KP-1500 仕様書.pdf"),
        ("新任研修.pptx", "中堅研修.pptx"),
        ("WS-101 標準書.pdf", "WS-102 標準書.pdf"),
    ],
)
def test_other_names_are_other_documents(one: str, other: str) -> None:
    assert edition(one, "").stem != edition(other, "").stem


@pytest.mark.parametrize(
    ("text", "day"),
    [
        (
            "附則\n1　この規程は、1987年4月1日から施行する。\n2　2019年4月1日一部改定（第4版）。",
            (2019, 4, 1),
        ),
        ("規程番号 総-08　第5版（2024年4月1日改定）", (2024, 4, 1)),
        ("改訂：令和７年４月１日　営業部長", (2025, 4, 1)),
        ("改定日 2024/10/01", (2024, 10, 1)),
        ("2024年3月31日以前に出発した出張には、改定前の規程による。", None),
        ("会議は2024年4月1日に行った。", None),
        ("2024年2月31日改定", None),
    ],
)
def test_since_when_it_is_in_force(text: str, day: tuple[int, int, int] | None) -> None:
    assert edition("規程.pdf", text).on == (date(*day) if day else None)


def test_the_later_day_is_newer_and_only_one_way_round() -> None:
    assert newer(NEW, OLD) and not newer(OLD, NEW) and not newer(NEW, NEW)


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        ("手順書_v2.docx", "手順書_v1.docx"),
        ("手順書 第10版.docx", "手順書 第9版.docx"),
        ("手順書_2.10.docx", "手順書_2.10_旧.docx"),
        ("価格表2025.xlsx", "価格表2024.xlsx"),
        ("価格表_20250401.xlsx", "価格表_20241001.xlsx"),
        ("手順書.docx", "旧手順書.docx"),
    ],
)
def test_the_name_says_which_is_newer(later: str, earlier: str) -> None:
    one, other = edition(later, ""), edition(earlier, "")
    assert newer(one, other) and not newer(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2025-09-16 製造一課 日報.txt", "2025-09-17 製造一課 日報.txt"),
        ("取締役会議事録_2025年09月.txt", "取締役会議事録_2025年10月.txt"),
        ("見積書_20250401.xlsx", "見積書_20250501.xlsx"),
        ("見積書.xlsx", "見積書.xlsx"),
        ("2025-09 ポンプの件.eml", "2025-10 ポンプの件.eml"),
        ("価格表2025.xlsx", "価格表2025年4月.xlsx"),
    ],
)
def test_what_is_written_for_each_occasion_has_no_versions(one: str, other: str) -> None:
    a, b = edition(one, ""), edition(other, "")
    assert not newer(a, b) and not newer(b, a)


def test_a_sketch_tells_how_much_two_texts_have_in_common() -> None:
    text = "".join(f"第{n}条 社員は{n * 7}日までに届け出る。" for n in range(300))
    half = text[: len(text) // 2] + "".join(f"別の話{n}である。" for n in range(400))
    assert versions.alike(versions.sketch(text), versions.sketch(text)) == 1.0
    assert 0.1 < versions.alike(versions.sketch(text), versions.sketch(half)) < 0.8
    assert (
        versions.alike(versions.sketch(text), versions.sketch("何の関係もない文です。" * 9)) < 0.05
    )
    assert versions.alike(versions.sketch(""), versions.sketch("")) == 0.0
    assert len(versions.sketch(text * 50)) == 4 * versions.SKETCH


@pytest.mark.parametrize(
    ("question", "past", "ahead"),
    [
        ("宿泊費の上限は？", False, False),
        ("改定前の宿泊費の上限は？", True, False),
        ("2019年の宿泊費の上限は？", True, True),
        ("令和元年度の日当は", True, True),
        ("日当はどう変わりましたか", True, True),
        ("来年の4月からの日当は？", False, True),
        ("昔の日当はいくらだった？", True, False),
    ],
)
def test_whether_another_version_may_be_meant(question: str, past: bool, ahead: bool) -> None:
    assert (versions.asks_past(question), versions.asks_ahead(question)) == (past, ahead)
