"""Word and PowerPoint as they were saved until 2007, and what nobody can read of them."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from pathlib import Path

import olefile
import pytest

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from appliance.formats import PARSERS, kinds
from tests.formats.compounds import compound

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def test_word_in_order_with_its_numbers_notes_and_comments(parse, corpus: Path) -> None:
    document = parse((corpus / "手引き.doc").read_bytes(), "手引き.doc")
    assert document.text == (
        "蔵の手引き\n\nはじめに\n鍵は蔵番が持つ（注1）。\n合鍵は三本ある。（コメント: 本数を確かめること）\n\n"
        "手順\n(1) 戸を開ける。\nア 表の戸\nイ 裏の戸\n(2) 帳面に書く。\n・ 灯りを消す。\n"
        "品名と置き場所の一覧です | 棚 | 数\n味噌 | 12樽\n\n終わりに\t問合せは　内線  204\nまで。\n\n"
        "枠の中の注意書き\n\n（注1）夜間は守衛が持つ。"
    )
    assert document.title == "蔵の手引き"
    assert [(m.label, m.level) for m in document.marks] == [("はじめに", 1), ("手順", 2)]


def test_word_says_what_the_new_file_says(parse, corpus: Path) -> None:
    new, old = (parse((corpus / f"規程.{e}").read_bytes(), f"規程.{e}") for e in ("docx", "doc"))
    assert (old.text, old.title) == (new.text, new.title)
    assert [(m.label, m.level) for m in old.marks] == [(m.label, m.level) for m in new.marks]


def test_slides_in_order_with_their_notes(parse, corpus: Path) -> None:
    document = parse((corpus / "提案.ppt").read_bytes(), "提案.ppt")
    assert document.title == "新製品提案"
    assert [m.label for m in document.marks] == ["スライド 1", "背景", "スライド 2", "価格"]
    assert document.text == (
        "背景\n市場は年5%で伸びている。\n競合は3社。\nノート: ここで質問を受ける\n\n"
        "価格\n型番\n価格\nKP-2200\n48,000円"
    )
    assert document.problems == ("スライド 3 にテキストがありません (画像のみ)",)


def test_a_locked_file_asks_for_its_password(parse, corpus: Path) -> None:
    data = (corpus / "規程.doc").read_bytes()
    at = data.index(b"\xec\xa5") + 0x0B  # the second byte of the flags
    locked = data[:at] + bytes([data[at] | 1]) + data[at + 1 :]
    with pytest.raises(PasswordNeeded):
        parse(locked, "規程.doc")
    user = (corpus / "提案.ppt").read_bytes().replace(b"\x5f\xc0\x91\xe3", b"\xdf\xc4\xd1\xf3")
    with pytest.raises(PasswordNeeded):
        parse(user, "提案.ppt")


def test_a_list_in_the_summary_without_end_costs_a_title_and_no_time(parse, corpus: Path) -> None:
    data = bytearray((corpus / "plain" / "営業月報.doc").read_bytes())
    with olefile.OleFileIO(io.BytesIO(data)) as file:
        summary = file.openstream("\x05SummaryInformation").read()
    start = struct.unpack_from("<I", summary, 44)[0]
    (count,) = struct.unpack_from("<I", summary, start + 4)
    places = dict(struct.unpack_from("<II", summary, start + 8 + 8 * n) for n in range(count))
    at = data.index(summary[:64]) + start + places[max(places)]
    data[at : at + 8] = struct.pack("<II", 0x1000, 0x7FFFFFFF)
    title = parse(bytes(data), "営業月報.doc").title
    assert title and title.startswith("営業二課 月報")


def test_a_folder_that_lies_in_itself(parse) -> None:
    data = bytearray(compound({"a": b"x"}))
    data[512 + 66] = 1  # the root is a folder as others are, and its own first child
    data[512 + 76 : 512 + 80] = struct.pack("<I", 0)
    with pytest.raises(Unreadable, match="読めない種類の OLE"):
        parse(bytes(data), "輪.xls")


def test_what_is_neither_says_what_to_do(parse) -> None:
    with pytest.raises(Unreadable, match="保存し直して"):
        parse(OLE + bytes(504) + "WordDocument".encode("utf-16-le"), "a.doc")


def test_ichitaro_gives_its_letters_and_a_word_of_warning(parse) -> None:
    text = "稟議書\r\x1c\x05\x00設備の更新について、\x1f\x02承認をお願いします。\r金額は480,000円です。"
    document = parse(compound({"DocumentText": text.encode("utf-16-be")}), "稟議.jtd")
    assert (
        "稟議書\n設備の更新について、 承認をお願いします。\n金額は480,000円です。" in document.text
    )
    assert "元の文書で確かめて" in document.problems[0]
    with pytest.raises(Unreadable, match="一太郎"):
        parse(compound({"DocumentText": bytes(range(256)) * 20}), "稟議.jtd")


@pytest.mark.parametrize("at", [30, 32])
@pytest.mark.parametrize("power", [0, 30, 63, 0xFFFF])
def test_blocks_of_a_size_that_none_has_are_broken(parse, at: int, power: int) -> None:
    """Of 2^63 bytes none can be asked for, and of 2^30 too many."""
    data = bytearray(compound({"DocumentText": "稟議書です。".encode("utf-16-be") * 30}))
    data[at : at + 2] = power.to_bytes(2, "little")
    with pytest.raises(Unreadable, match="読めない種類の OLE"):
        parse(bytes(data), "稟議.jtd")
    with pytest.raises(Unreadable, match="ブロックの大きさ"):
        PARSERS[kinds.JTD](io.BytesIO(data))


def test_short_streams_are_no_larger_than_their_file(parse) -> None:
    """The blocks that hold them go round, and are said to be a thousand million bytes."""
    text = "稟議書です。設備の更新について、承認をお願いします。"
    whole = bytearray(compound({"DocumentText": (text * 10).encode("utf-16-be")}))
    end, second = struct.pack("<I", 0xFFFFFFFE), struct.pack("<I", 2)
    fat = whole.rindex(struct.pack("<I", 0xFFFFFFFD)) // 512 * 512
    (start,) = struct.unpack_from("<I", whole, 512 + 0x74)  # of the root
    chain = fat + 4 * start
    assert whole[chain : chain + 4] == second and whole[chain + 4 : chain + 8] == end
    struct.pack_into("<I", whole, chain + 4, start)
    struct.pack_into("<I", whole, 512 + 0x78, 1_073_741_952)
    assert parse(bytes(whole), "稟議.jtd").text.startswith(text)


def test_the_list_of_short_blocks_is_no_larger_than_its_file(parse) -> None:
    """It goes round, and is said to have 400,000 blocks (found by the fuzz of seed 14)."""
    text = "稟議書です。設備の更新について、承認をお願いします。"
    whole = bytearray(compound({"DocumentText": (text * 10).encode("utf-16-be")}))
    fat = whole.rindex(struct.pack("<I", 0xFFFFFFFD)) // 512 * 512
    (start,) = struct.unpack_from("<I", whole, 0x3C)
    struct.pack_into("<I", whole, fat + 4 * start, start)
    struct.pack_into("<I", whole, 0x40, 400_000)
    tracemalloc.start()
    try:
        assert PARSERS[kinds.JTD](io.BytesIO(whole)).text.startswith(text)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_docuworks_says_what_to_do(parse) -> None:
    with pytest.raises(Unreadable, match="PDF に変換"):
        parse(b"\x60\x0e\x82\x03" + bytes(200), "図面.xdw")


@pytest.mark.parametrize(
    "name",
    ["規程.doc", "手引き.doc", "提案.ppt", "手引き.rtf", "手引き.odt", "一覧.ods", "規程.epub"],
)
def test_a_damaged_file_is_text_or_a_reason(corpus: Path, name: str) -> None:
    whole = (corpus / name).read_bytes()
    dice = random.Random(7)
    for n in range(60):
        data = bytearray(whole[: dice.randrange(len(whole))] if n % 4 == 0 else whole)
        for _ in range(dice.choice((1, 5, 50))):
            if data:
                data[dice.randrange(len(data))] = dice.choice(
                    (0, 1, 0x7F, 0xFF, dice.randrange(256))
                )
        try:
            kind = kinds.identify(io.BytesIO(bytes(data)), name)
            if kind in PARSERS:
                PARSERS[kind](io.BytesIO(bytes(data)))
        except (Unreadable, TooLarge, PasswordNeeded):
            continue


def test_a_torn_sheet_that_throws_its_reader_over_is_said_to_be_broken(parse, corpus: Path) -> None:
    data = (corpus / "tables/内線名簿.xls").read_bytes()
    with pytest.raises(Unreadable, match="表計算ファイルとして読めません"):
        parse(data[:5952], "内線名簿.xls")
