"""What is found by its form, and what only looks like it."""

from __future__ import annotations

import pytest

from appliance.text import personal
from appliance.types import Document, Mark, Properties

FOUND = [
    ("my_number", "個人番号：123456789018"),
    ("my_number", "マイナンバー　１２３４－５６７８－９０１８"),
    ("my_number", "従業員の個人番号は 1234 5678 9018 です。"),
    ("my_number", "番号 1234\u200b56789018（特定個人情報）"),
    ("my_number", "氏名 | 個人番号\n山田 | 123456789018"),
    ("my_number", "氏名: 山田 | 個人番号: 123456789018 | 備考: 無"),
    ("my_number", "山田太郎 123456789018"),
    ("my_number", "氏名: 伊藤 | 個人番号: 12345678903 | 備考: 無"),  # 0 in front was lost
    ("bank_account", "氏名: 伊藤 | 口座番号: 12345 | 備考: 無"),
    ("credit_card", "会員番号 12 カード番号 4111111111111111"),
    ("phone", "社員番号 12 内線 電話 03-1234-5678"),
    ("bank_account", "振込先 みずほ銀行 丸の内支店 普通 1234567"),
    ("bank_account", "当座預金　№ ７６５４３２１"),
    ("bank_account", "口座番号：普通 123-4567"),
    ("bank_account", "ゆうちょ銀行 記号 10120 番号 12345671"),
    ("bank_account", "氏名 | 口座番号\n山田 | 7654321"),
    ("credit_card", "カード番号 4111 1111 1111 1111（有効期限 12/28）"),
    ("credit_card", "３５３０１１１３３３３０００００"),
    ("credit_card", "Amex 3782-822463-10005"),
    ("passport", "旅券番号：ＴＫ１２３４５６７"),
    ("passport", "Passport No. TR7654321"),
    ("driving_licence", "運転免許証番号 301234567890"),
    ("phone", "電話（０３）１２３４－５６７８"),
    ("phone", "携帯 090-1234-5678"),
    ("phone", "08012345678"),
    ("phone", "TEL: 0312345678"),
    ("phone", "+81-3-1234-5678"),
    ("email", "連絡先 hanako.ito＠example.co.jp まで"),
    ("address", "〒100-0001 東京都千代田区千代田1-1"),
    ("address", "神奈川県横浜市西区みなとみらい二丁目３番５号"),
    ("address", "住所：さいたま市大宮区桜木町1-7-5 ソニックシティビル 5F"),
    ("address", "北海道札幌市中央区北1条西2丁目"),
]

LOOKALIKES = [
    "注文番号 123456789018",  # its check digit is right by chance
    "お問い合わせ番号：1234-5678-9018",
    "伝票番号 | 品名\n123456789018 | ねじ",
    "更新 202604011230",  # a moment
    "法人番号 1234567890123",
    "登録番号 T1234567890123",
    "法人番号 1-2345-6789-0123",
    "123456789012",  # a wrong check digit
    "品番 4111111111111111",
    "JAN 4901234567894",
    "9784101010014",
    "受注 20260401-0001、型番 KP-03-1234-5678",
    "管理番号：03-1234-5678",
    "コード 0012-3456-7890",
    "0120-123-456（フリーダイヤル）",
    "2024-04-01 から 2025-03-31 まで",
    "金額 1,234,567 円、普通車 1234567",
    "普通郵便 100-0001",
    "AB1234567",  # nothing speaks of a passport
    "第12条第3項、1-2-3 に定める",
    "当社は市場区分 1-2-3 を採る。",
    "東京都港区の条例第12条",
    "東京都は2024年4月1日に改定した",
    "@total = a@b",
    "IP 192.168.100.101、版 1.2.3",
    "4111 1111 1111 1112",  # a wrong check digit
    "1111 1111 1111 1111 2222",
]


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_it_is_found(kind: str, text: str) -> None:
    assert kind in {one.kind for one in personal.find(text)}


@pytest.mark.parametrize("text", LOOKALIKES)
def test_what_looks_alike_is_not(text: str) -> None:
    assert personal.find(text) == []


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_a_mask_leaves_every_other_sign_where_it_was(kind: str, text: str) -> None:
    masked = personal.masked(text)
    assert len(masked) == len(text)
    spans = [(one.start, one.end) for one in personal.find(text)]
    for at, (old, new) in enumerate(zip(text, masked, strict=True)):
        inside = any(start <= at < end for start, end in spans)
        assert new == (personal.MASK if inside and not old.isspace() else old)
    assert personal.find(masked) == []


def test_many_numbers_of_which_some_are_right_by_chance_are_no_citizens() -> None:
    numbers = [f"{n:012}" for n in range(500_000_000_000, 500_000_000_200)]
    assert personal.find("\n".join(numbers)) == []
    assert personal.find("個人番号\n" + "\n".join(numbers)) != []


def test_kinds_are_counted_and_told_without_values() -> None:
    text = "個人番号 123456789018、電話 03-1234-5678、携帯 090-1234-5678"
    counts = personal.counted(text, "03-1234-5678 名簿.txt")
    assert counts == {"my_number": 1, "phone": 2}
    assert personal.told(counts) == "マイナンバー 1 件、電話番号 2 件"
    assert personal.counted("なし", "03-1234-5678 名簿.txt") == {"phone": 1}


def test_what_was_copied_from_the_text_is_masked_with_it() -> None:
    heading = "あ" * 70 + " 個人番号 123456789018 の届出"
    cut = heading[:80]  # ends within the number
    document = Document(
        f"{heading}\n本文",
        (Mark(0, cut), Mark(0, "TEL 03-1234-5678!A1", "cell")),
        title="伊藤 090-1234-5678",
        problems=("添付「090-1234-5678.txt」を読めません",),
        properties=Properties("ito@example.co.jp", edges=("TEL 03-1234-5678",)),
    )
    left = repr(personal.without(document))
    assert not {"12345", "5678", "ito@"} & {p for p in ("12345", "5678", "ito@") if p in left}
    assert left.count(personal.MASK) > 50


def test_a_text_that_is_all_numbers_comes_to_an_end() -> None:
    for unit in ("1", "1234 5678 ", "市区町村", "a@", "0123-", "東京都港区一二三", "〒100-0001 あ"):
        assert isinstance(personal.find(unit * (100_000 // len(unit))), list)
