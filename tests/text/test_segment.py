from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from appliance.text.dates import western, with_western, years
from appliance.text.segment import bigrams, codes, words


def test_words_are_content_in_dictionary_form() -> None:
    assert words("髙﨑が宿泊費を支払った。") == ["高崎", "宿泊", "費", "支払う"]


def test_ways_to_write_a_word_are_one_word() -> None:
    assert words("サーバ") == words("サーバー")
    assert words("附則") == words("付則")


def test_codes_meet_with_and_without_hyphens() -> None:
    assert codes("「Ｅ－１９」が出た") == ["e19"]
    assert codes("KP-2200-A の OリングP-24") == ["kp2200", "kp2200a", "p24"]
    assert codes("ＫＰ２２００") == ["kp2200"]
    assert codes("2025-04-01 に VPN と -- で") == []


def test_bigrams_of_japanese_and_codes() -> None:
    assert bigrams("旅費規程") == ["旅費", "費規", "規程"]
    assert bigrams("税") == ["税"]
    assert bigrams("KP-2200") == ["kp", "22", "20", "00", "2200"]
    assert set(bigrams("2200")) <= set(bigrams("ＫＰ−２２００"))


def test_long_input_goes_in_pieces_and_loses_nothing() -> None:
    sentence = "旅費規程を改定した。"
    assert words(sentence * 10_000) == words(sentence) * 10_000
    assert len(words("旅費規程" * 30_000)) > 50_000


@pytest.mark.parametrize("text", ["", " 　\n", "。、！", "\x00", "\ud800", "😀"])
def test_odd_input_is_no_error(text: str) -> None:
    assert isinstance(words(text), list)
    assert isinstance(bigrams(text), list)


def test_threads_do_not_disturb_each_other() -> None:
    texts = [f"第{n}条の旅費規程を改定した。" for n in range(200)]
    alone = [words(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(words, texts)) == alone


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("令和6年4月1日", ["2024年4月1日"]),
        ("令和元年5月", ["2019年5月"]),
        ("平成三十一年度", ["2019年"]),
        ("昭和六十三年十二月", ["1988年12月"]),
        ("R6.4.1", ["2024年4月1日"]),
        ("2024/04/01と2024-04-01", ["2024年4月1日"]),
        ("令和６年４月１日", ["2024年4月1日"]),
        ("型番 R6.4.1-A ではなくH30", ["2024年4月1日"]),
        ("平成99年", []),
        ("IP 192.168.1.10 版 1.2.3", []),
        ("2024年4月1日", []),
    ],
)
def test_dates_in_one_form(text: str, forms: list[str]) -> None:
    assert western(text) == forms
    assert with_western(text).startswith(text)


@pytest.mark.parametrize(
    ("text", "named", "fiscal"),
    [
        ("令和７年度の予算と2024年の実績", {2025, 2024}, {2025}),
        ("大正十二年、R6.4.1、2023-05-01", {1923, 2024, 2023}, set()),
        ("12年前の第12年度、12025年", set(), set()),
    ],
)
def test_years_that_a_text_speaks_of(text: str, named: set[int], fiscal: set[int]) -> None:
    assert years(text) == (named, fiscal)
