"""Rows and columns that a question names."""

from __future__ import annotations

import pytest

from appliance.ask import cells
from appliance.types import Passage

PHONES = (
    "部門 | 氏名 | 内線 | 外線\n総務部 | 総務課（代表） | 2110 | 03-0000-2110\n"
    "製造部 | 環境安全課 丸山 | 5210 | 03-0000-5210\n診療所 | 産業医 | 5119 | 03-0000-5119"
)
SPECS = (
    "項目 | KP-2200-A | KP-2200-C\n動粘度 | 30 mm²/s 以下 | 20 mm²/s 以下\n質量 | 24.5 kg | 26 kg"
)
DAYS = "月 | 稼働日数 | 備考\n2025年5月 | 20 | 5月1日・2日 計画年休\n2025年12月 | 19 | 納会\n2026年2月 | 18"
SIZES = "型式 | 質量 | 面間寸法\nFS-310-40 | 4.1 kg | 180 mm\nFS-310-50 | 5.0 kg | 200 mm"
ROOMS = "会議室 | 階 | 定員\n第1会議室 | 5 | 24\n第2会議室 | 4 | 12"
ALLOWANCES = "手当 | 額\n呼出し手当 | 3,500円\n元日 | 12,000円"


@pytest.mark.parametrize(
    ("question", "text", "words", "named"),
    [
        ("産業医の内線は", PHONES, "5119", True),
        ("産業医の内線は", PHONES, "5210", False),  # another row
        (
            "産業医の内線は",
            PHONES,
            "03-0000-5119",
            None,
        ),  # the row speaks for it, the column against
        ("動粘度の上限、KP2200C", SPECS, "20 mm", True),
        ("動粘度の上限、KP2200C", SPECS, "30 mm", None),
        ("質量の上限、KP2200C", SPECS, "20 mm", False),
        ("FS310-50 面間", SPECS.replace("KP-2200", "FS"), "24.5 kg", None),
        ("FS310-50 面間", SIZES, "200 mm", True),
        ("FS310-50 面間", SIZES, "180 mm", False),
        ("第2会議室は何人入れる", ROOMS, "12", True),
        ("第2会議室は何人入れる", ROOMS, "24", False),
        ("元日の手当", ALLOWANCES, "3,500円", False),
        ("元日の手当", ALLOWANCES, "12,000円", True),
        ("質量は", "質量は 24.5 kg。", "24.5 kg", None),
    ],
)
def test_what_the_names_of_row_and_column_tell(
    question: str, text: str, words: str, named: bool | None
) -> None:
    told = cells.told(question, passage(text), 100 + text.index(words))
    assert (told is None) is (named is False)
    assert ((told or 0) > 0) is bool(named)


def passage(text: str, title: str = "一覧") -> Passage:
    return Passage(1, "d", "s", "u", title, "", text, 100, 100 + len(text))


@pytest.mark.parametrize(
    ("question", "text", "title", "cell"),
    [
        ("環境安全課 内線", PHONES, "内線番号表", "5210"),
        ("環境安全課の内線は何番？", PHONES, "内線番号表", "5210"),
        ("FS310-50 面間", SIZES, "製品仕様書", "200 mm"),
        ("FS310-50 面間", SIZES.replace("200 mm", "-"), "製品仕様書", ""),
        ("諏訪 2月の稼働日数", DAYS, "諏訪工場カレンダー", "18"),
        ("大阪 2月の稼働日数", DAYS, "諏訪工場カレンダー", ""),  # of somewhere else
        ("動粘度 KP-2200-C", SPECS, "仕様書", "20 mm²/s 以下"),
        ("産業医の外線がつながらないのはなぜ？", PHONES, "内線番号表", ""),
        ("産業医の内線はどこで変える？", PHONES, "内線番号表", ""),
        ("総務部 内線", f"{PHONES}\n総務部 | 庶務 | 2111 | 03-0000-2111", "内線番号表", ""),  # two
        ("内線", PHONES, "内線番号表", ""),  # no row
        ("環境安全課", PHONES, "内線番号表", ""),  # no column
        ("環境安全課の内線は誰", PHONES, "内線番号表", ""),  # of another form than is asked for
    ],
)
def test_a_cell_that_row_and_column_tell(question: str, text: str, title: str, cell: str) -> None:
    found = cells.looked_up(question, passage(text, title))
    assert (text[found.start - 100 : found.end - 100] if found else "") == cell
