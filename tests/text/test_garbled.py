"""What no language looks like is told from what one does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.formats import charset
from appliance.text.garbled import doubt, is_garbled

READ = (".md", ".csv", ".txt", ".py", ".html")
SAMPLE = Path(__file__).parents[2] / "installer" / "sample"
TEXT = (
    "第1条（目的） この規程は、従業員が業務のため出張するときの旅費の取扱いを定める。"
    "第2条（宿泊費） 宿泊費は1泊12,000円を上限とし、領収書の提出により実費を精算する。"
)
KANA = (
    "はじめにこのしょるいをよみ、わからないところがあればかかりのひとにきいてください。"
    "かぎはかならずもとのところにもどし、もどしたひとのなまえをちょうめんにかくこと。"
)


def moved(by: int) -> str:
    return "".join(chr(ord(c) + by) if ord(c) > 0x3000 else c for c in TEXT)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.encode().decode("cp932", "replace"), id="UTF-8 as Shift_JIS"),
        pytest.param(TEXT.encode().decode("latin-1"), id="UTF-8 as Latin-1"),
        pytest.param(TEXT.encode("cp932").decode("cp1252", "replace"), id="Shift_JIS as Latin-1"),
        pytest.param(TEXT.encode("euc_jp").decode("cp932", "replace"), id="EUC as Shift_JIS"),
        pytest.param(moved(0x100), id="another row of the table"),
        pytest.param(moved(0x1500), id="other letters altogether"),
        pytest.param(moved(7), id="a few places on"),
        pytest.param(TEXT.replace("の", "䛾").replace("は", "䛿"), id="letters that look alike"),
        pytest.param(
            "".join(chr(ord(c) + 20) if "ぁ" < c < "も" else c for c in KANA), id="other kana"
        ),
        pytest.param(TEXT.translate({ord("の"): 1, ord("を"): 2, ord("、"): 5}), id="controls"),
        pytest.param("(cid:1234)(cid:22)" * 20, id="numbers of glyphs"),
        pytest.param("!\"#$%&'()*+,-./:;<=>?@" * 3, id="signs alone"),
        pytest.param("\ue000\ue001\ue002" * 10, id="private letters"),
    ],
)
def test_what_nobody_wrote(text: str) -> None:
    assert is_garbled(text)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT[:15],
        KANA,
        "髙橋 﨑山 渡邊 齋藤 澤田 濱田 瀨戸 德永 廣瀬 國府 髙島屋 𠮷野家 薔薇園 檸檬 林檎",
        "ランカスター家が赤薔薇、ヨーク家が白薔薇をバッジとしていたので薔薇戦争と呼ばれている。",
        "The quick brown fox jumps over the lazy dog, and nothing is wrong with that.",
        "C'est à l'été où l'élève a été reçu à l'école, près de la forêt.",
        "Tôi là người Việt Nam, đã được sinh ra ở Hà Nội. Tôi rất thích ăn phở.",
        "Привет, как дела? Всё хорошо, спасибо большое.",
        "안녕하세요 저는 한국에서 왔습니다 반갑습니다 여러분",
        "北京市人民政府关于加强城市管理的通知各区县人民政府",
        "臺灣臺北市政府關於加強城市管理的通知各機關學校",
        "1,200 3,400 5,600 7,800 9,000 12% 34% 56% 合計 △1,234",
        "α β γ δ ε ζ η θ Ω μ σ = 3.14 × 10^-3 m/s² (式1) を用いる",
        "=" * 60 + "\n議事録\n" + "-" * 60,
        "ｶﾌﾞｼｷｶﾞｲｼｬ ｸﾗﾏｴｾｲｷ ﾌﾘｺﾐ ｹﾞﾝｷﾝ 12,000",
        "",
    ],
)
def test_what_somebody_did(text: str) -> None:
    assert not is_garbled(text)


def test_doubt_grows_with_what_is_odd() -> None:
    doubts = [doubt(TEXT.replace("、", "\ue000" * n)) for n in (1, 2, 6)]
    assert 0 < doubts[0] < doubts[1] < doubts[2] < 1


def test_no_false_alarm_in_a_company() -> None:
    texts = [charset.decode(p.read_bytes()).text for p in SAMPLE.rglob("*") if p.suffix in READ]
    pages = [part for text in texts for part in re.split(r"\n\s*\n", text)]
    assert len(pages) > 500
    assert [page for page in pages if is_garbled(page)] == []
