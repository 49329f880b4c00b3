"""Archives of LHA: read as others are, and what they say of themselves is not believed."""

from __future__ import annotations

import base64
import struct
from datetime import date
from pathlib import Path

import pytest

from appliance.errors import Unreadable
from appliance.formats.attached import JAPAN
from tests.corpus.build import records
from tests.formats.test_archive import problems, texts

# by jLHA 0.1.6
LZH = {
    "lh5, level 0": (
        "KrItbGg1LUYAAAAoAgAAAACBXCAAFI6Rl79cjuiI+IKrXJVcjqYudHh0oygALUtStS/3C1SXgI8AXZ8EuzlXfchP"
        "AZFQkN4AoFqBqFg7nDBTgAAkvCoMvRHZqlmgmcp8jLOKVLv0Y6hp1xgWG6z/2/WgIcUtbGgwLRYAAAAWAAAAAACB"
        "XCAAC4NcXJP6k5YuY3N2wgaL5pWqLJP6k5YKiduStyyOT5DniX4KIUMtbGgwLQAAAAAAAAAAAACBXCAAC46Rl79c"
        "i/MudHh0AAAA"
    ),
    "lh5, level 1": (
        "IbotbGg1LVoAAAAoAgAAAACBXCABCJVcjqYudHh0oyhKBQAAd5sPAAKOkZe//47oiPiCq/8AAAAtS1K1L/cLVJeA"
        "jwBdnwS7OVd9yE8BkVCQ3gCgWoGoWDucMFOAACS8Kgy9EdmqWaCZynyMs4pUu/RjqGnXGBYbrP/b9aAh4i1saDAt"
        "IQAAABYAAAAAAIFcIAEIk/qTli5jc3bCBkoFAAD/4AYAAoNc/wAAi+aVqiyT+pOWConbkrcsjk+Q54l+Ch/KLWxo"
        "MC0NAAAAAAAAAAAAgVwgAQaL8y50eHQAAEoFAAD6dggAAo6Rl7//AAAA"
    ),
    "lh6, level 2": (
        "OQAtbGg2LUYAAAAoAgAAAGDMaSACoyhKBQAABi0LAAGVXI6mLnR4dA8AAo6Rl7//juiI+IKr/wAAAC1LUrUv9wtU"
        "l4CPAF2fBLs5V33ITwGRUJDeAKBagahYO5wwUcAAEl4VBl6I7NUs0EzlPkZZxSpd+jHUNOuMCw3Wf+360DAALWxo"
        "MC0WAAAAFgAAAABgzGkgAsIGSgUAAAqnCwABk/qTli5jc3YGAAKDXP8AAIvmlaosk/qTlgqJ25K3LI5PkOeJfgow"
        "AC1saDAtAAAAAAAAAAAAYMxpIAIAAEoFAAC9eAkAAYvzLnR4dAgAAo6Rl7//AAAA"
    ),
    "lh7, level 1": (
        "IbwtbGg3LVoAAAAoAgAAAACBXCABCJVcjqYudHh0oyhKBQAAcV8PAAKOkZe//47oiPiCq/8AAAAtS1K1L/cLVJeA"
        "jwBdnwS7OVd9yE8BkVCQ3gCgWoGoWDucMFHAABJeFQZeiOzVLNBM5T5GWcUqXfox1DTrjAsN1n/t+tAh4i1saDAt"
        "IQAAABYAAAAAAIFcIAEIk/qTli5jc3bCBkoFAAD/4AYAAoNc/wAAi+aVqiyT+pOWConbkrcsjk+Q54l+Ch/KLWxo"
        "MC0NAAAAAAAAAAAAgVwgAQaL8y50eHQAAEoFAAD6dggAAo6Rl7//AAAA"
    ),
    "lh1, level 1": (
        "Ia4tbGgxLVIAAAAoAgAAAACBXCABCJVcjqYudHh0oyhKBQAAbkcPAAKOkZe//47oiPiCq/8AAB+GxSIOWRrtjjmK"
        "hQbzRv6EA7bPeFgijthlFV9jQnTfLhvGEyspTIc7rdc4fFs8LZItoC2MWyC2YWzi24i0IeItbGgwLSEAAAAWAAAA"
        "AACBXCABCJP6k5YuY3N2wgZKBQAA/+AGAAKDXP8AAIvmlaosk/qTlgqJ25K3LI5PkOeJfgofyi1saDAtDQAAAAAA"
        "AAAAAIFcIAEGi/MudHh0AABKBQAA+nYIAAKOkZe//wAAAA=="
    ),
}


def lzh(name: bytes, data: bytes, size: int | None = None, method: bytes = b"-lh0-") -> bytes:
    """A file in an archive, with a header of level 0 that may lie about its size."""
    length = len(data) if size is None else size
    body = method + struct.pack("<IIIBB", len(data), length, 0x5C810000, 0x20, 0)
    body += bytes([len(name)]) + name + struct.pack("<H", crc16(data))
    return bytes([len(body), sum(body) & 0xFF]) + body + data


def crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


@pytest.mark.parametrize("kind", [kind for kind in LZH if "lh1" not in kind])
def test_an_archive_of_lha(parse, kind: str) -> None:
    document = parse(base64.b64decode(LZH[kind]), "資料.lzh")
    assert texts(document) == {
        "資料/手引き/表示.txt": "日当は三千円、宿泊費は一万二千円を上限とする。" * 12,
        "ソ/日当.csv": "区分 | 日当\n課長 | 三千円",
    }
    assert problems(document) == {"資料/空.txt": "中身が空です"}
    dates = {c.modified_at.astimezone(JAPAN).date() for c in document.children if c.modified_at}
    assert dates == {date(2026, 4, 1)}


def test_a_long_file_in_an_archive_of_lha(parse, corpus: Path) -> None:
    read = texts(parse((corpus / "記録.lzh").read_bytes(), "記録.lzh"))
    assert read == {f"記録/lh{n}.txt": records().strip() for n in (5, 6, 7)}


def test_a_name_in_utf_16_comes_before_the_one_of_the_code_page(parse) -> None:
    parts = [
        b"\x01?.txt", b"\x44" + "髙.txt".encode("utf-16-le"),
        b"\x45" + "𠮷\uffff".encode("utf-16-le"),
    ]  # fmt: skip
    data = "日当".encode("cp932")
    size = struct.pack("<I", len(data))
    head = b"-lh0-" + size + size + struct.pack("<I", 0) + b"\x20\x02"
    head += struct.pack("<HB", crc16(data), 0x77)
    for part in parts:
        head += struct.pack("<H", len(part) + 2) + part
    head += b"\0\0"
    document = parse(struct.pack("<H", len(head) + 2) + head + data + b"\0", "a.lzh")
    assert texts(document) == {"𠮷/髙.txt": "日当"}


def test_what_lha_packed_before_1991_is_refused_with_what_to_do(parse) -> None:
    document = parse(base64.b64decode(LZH["lh1, level 1"]), "a.lzh")
    told = problems(document)["資料/手引き/表示.txt"]
    assert "-lh1-" in told and "zip で圧縮し直して" in told
    assert list(texts(document)) == ["ソ/日当.csv"]


def test_a_torn_archive_of_lha(parse) -> None:
    whole = bytearray(base64.b64decode(LZH["lh5, level 1"]))
    whole[100] ^= 0xFF  # in the first text
    document = parse(bytes(whole), "a.lzh")
    assert "壊れ" in problems(document)["資料/手引き/表示.txt"]
    assert list(texts(document)) == ["ソ/日当.csv"]
    document = parse(bytes(base64.b64decode(LZH["lh5, level 1"])[:150]), "a.lzh")
    assert list(texts(document)) == ["資料/手引き/表示.txt"]
    assert any("途中で壊れています" in problem for problem in document.problems)
    for torn in (
        b"\x24\x9d-lh5-" + bytes(20),
        b"\x24\x9d-lh5-" + bytes([*bytes(13), 9, *bytes(9)]),
    ):
        with pytest.raises(Unreadable, match="壊れ"):
            parse(torn, "a.lzh")


def test_an_archive_of_lha_that_lies(parse) -> None:
    data = "日当は三千円".encode("cp932")
    lies = [
        lzh(b"1.txt", data, 0xFFFFFFFF, b"-lh5-"),  # four gigabytes
        lzh(b"2.txt", data, 90_000_000, b"-lh0-"),
        lzh(b"3.txt", bytes(200_000), 90_000_000, b"-lh5-"),
        lzh(b"4.txt", b"\xff" * 200_000, 90_000_000, b"-lh7-"),
        lzh(b"5.txt", data, 3),
    ]
    good = lzh(b"..\\..\\etc\\" + "表.txt".encode("cp932"), data)
    document = parse(b"".join(lies) + good + b"\0", "a.lzh")
    assert texts(document) == {"etc/表.txt": "日当は三千円"}
    told = problems(document)
    assert len(told) == 5 and "上限" in told["1.txt"] and "圧縮率" in told["2.txt"]
    assert all("壊れ" in told[f"{n}.txt"] for n in (3, 4, 5))


def test_parts_of_a_header_that_do_not_end(parse) -> None:
    endless = b"-lh0-" + struct.pack("<IIIBBHB", 9, 9, 0, 0x20, 2, 0, 0x77)
    endless += (struct.pack("<H", 60_000) + b"\x3f" + bytes(59_997)) * 40
    with pytest.raises(Unreadable, match="壊れ"):
        parse(b"\x40\x00" + endless, "a.lzh")
