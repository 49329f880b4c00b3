from __future__ import annotations

import random

import pytest

from appliance.text.normalize import fold, normalize


@pytest.mark.parametrize(
    ("written", "looked_for"),
    [
        ("髙﨑", "高崎"),
        ("渡邊・渡邉", "渡辺・渡辺"),
        ("齋藤 齊藤 斉藤", "斎藤 斎藤 斎藤"),
        ("𠮷田", "吉田"),
        ("葛\U000e0100城", "葛城"),
        ("ＫＰ−２２００", "kp-2200"),
        ("KP‐2200", "kp-2200"),
        ("１０〜２０", "10~20"),
        ("１０～２０", "10~20"),
        ("ｶﾞｲﾄﾞ", "ガイド"),
        ("か\u3099", "が"),
        ("コンピュ−タ", "コンピュータ"),
        ("Aー1", "a-1"),
        ("サーバー", "サーバー"),
        ("zero\u200bwidth", "zerowidth"),
        ("Straße", "strasse"),
    ],
)
def test_each_way_to_write_it_is_found(written: str, looked_for: str) -> None:
    assert fold(written) == looked_for


ALPHABET = "髙﨑邊あかがｶﾞﾊﾟーｰ−－~〜～①⑩㈱½ABcａＢ１２ 　\n。、-‐ß㌔Å\u3099\u0301\U000e0100\ufe0f𠮷"


@pytest.mark.parametrize("seed", range(200))
def test_the_way_back_leads_to_the_original(seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choices(ALPHABET, k=60))
    normalized = normalize(text)
    assert len(normalized.offsets) == len(normalized.text) + 1
    assert normalized.offsets[-1] == len(text)
    assert list(normalized.offsets) == sorted(normalized.offsets)
    assert normalized.text == fold(text)
    assert not set(normalized.text) & set("髙﨑邊①")
    for at in range(len(normalized.text)):
        start, end = normalized.span(at, at + 1)
        assert 0 <= start <= end <= len(text)


def test_a_hit_is_shown_in_the_original() -> None:
    text = "担当は髙﨑（ｶﾞｽ課）です"
    normalized = normalize(text)
    at = normalized.text.index("高崎(ガス課)")
    start, end = normalized.span(at, at + len("高崎(ガス課)"))
    assert text[start:end] == "髙﨑（ｶﾞｽ課）"
