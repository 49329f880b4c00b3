"""Archives: every file in them is read, and none of them is a bomb, a way out or a lost document."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from tests.formats.test_office import packed


def tar(mode: str, **members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def in_code_page(name: str, text: str) -> bytes:
    """As Windows packs it: the name in CP932, without a word about it."""
    data = packed(**{"x" * len(name.encode("cp932")): text})
    return data.replace(b"x" * len(name.encode("cp932")), name.encode("cp932"))


def test_every_file_is_a_part_in_its_own_format(parse, corpus: Path) -> None:
    data = packed(
        **{
            "規程/規程.docx": (corpus / "規程.docx").read_bytes(),
            "メモ.txt": "日当は三千円".encode("cp932"),
            "__MACOSX/._メモ.txt": b"x",
            "図.png": b"\x89PNG\r\n\x1a\n",
        }
    )
    document = parse(data, "資料.zip")
    parts = [m.label for m in document.marks if m.kind == "part"]
    assert parts == ["規程/規程.docx", "メモ.txt", "図.png"]
    assert "終日 | 300円 | 通信費を含む" in document.text and "日当は三千円" in document.text
    (problem,) = document.problems
    assert problem.startswith("「図.png」: 画像です")


@pytest.mark.parametrize("name", ["表示一覧.txt", "ソフト能力.txt", "ｱｲｳ①.txt"])
def test_names_in_the_code_page_of_windows(parse, name: str) -> None:
    document = parse(in_code_page(name, "内容"), "a.zip")
    assert [m.label for m in document.marks] == [name]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_however_it_is_packed(parse, mode: str) -> None:
    data = tar(mode, **{"手順/一.txt": b"first", "二.txt": "二つ目".encode()})
    document = parse(data, "a.tar")
    assert [m.label for m in document.marks] == ["手順/一.txt", "二.txt"]
    assert document.text == "手順/一.txt\nfirst\n\n二.txt\n二つ目"


def test_one_file_in_gzip(parse) -> None:
    assert parse(gzip.compress("議事録の本文".encode()), "a.txt.gz").text == "議事録の本文"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("C:\\社内\\鍵.txt", "社内/鍵.txt"),
        ("/abs/\u202egpj.exe", "abs/gpj.exe"),
        ("..", "名前のないファイル"),
        ("長" * 300, "長" * 120),
    ],
)
def test_a_name_leads_nowhere(parse, name: str, shown: str) -> None:
    (mark,) = parse(tar("w", **{name: b"text"}), "a.tar").marks
    assert mark.label == shown[:80]


def test_a_locked_archive_asks_for_its_password(parse) -> None:
    data = bytearray(packed(**{"a.txt": "x"}))
    for at in (data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8):
        data[at] |= 1
    with pytest.raises(PasswordNeeded):
        parse(bytes(data), "a.zip")


def test_bombs_are_refused_or_cut(parse) -> None:
    with pytest.raises(TooLarge):
        parse(packed(**{"a.txt": b"\0" * 200_000_000}), "a.zip")
    with pytest.raises(TooLarge):
        parse(gzip.compress(b"\0" * 150_000_000), "a.gz")
    document = parse(tar("w:gz", **{"a.txt": b"\0" * 150_000_000, "b.txt": b"kept"}), "a.tgz")
    assert "b.txt\nkept" in document.text and "大きすぎる" in document.problems[0]


def test_archives_inside_archives_end(parse) -> None:
    data = packed(**{"底.txt": "底"})
    for n in range(20):
        data = packed(**{f"{n}.zip": data})
    document = parse(data, "a.zip")
    assert "底" not in document.text
    assert any("入れ子" in p for p in document.problems)


def test_many_files_are_cut_with_a_word(parse) -> None:
    document = parse(packed(**{f"{n:04}.txt": "x" for n in range(2_100)}), "a.zip")
    assert "1999.txt" in document.text and "2000.txt" not in document.text
    assert any("2,000 個より後" in p for p in document.problems)


def test_a_torn_file_does_not_lose_the_others(parse) -> None:
    whole = packed(**{"一.txt": "first" * 50, "二.txt": "second" * 50, "三.txt": "third" * 50})
    at = whole.index("二.txt".encode()) + len("二.txt".encode())
    torn = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
    document = parse(torn, "a.zip")
    assert "firstfirst" in document.text and "thirdthird" in document.text
    assert "二.txt" in document.problems[0]


def test_gzip_inside_gzip_ends(parse) -> None:
    data = b"text"
    for _ in range(30):
        data = gzip.compress(data)
    with pytest.raises(TooLarge, match="入れ子"):
        parse(data, "a.gz")


def test_many_files_that_cannot_be_read_are_counted(parse) -> None:
    document = parse(packed(**{f"{n}.png": b"\x89PNG\r\n\x1a\n" for n in range(50)}), "a.zip")
    assert len(document.problems) == 21 and "30 件" in document.problems[-1]
    assert "49.png" in document.text  # its name can be found


def test_a_torn_archive_keeps_what_came_before(parse) -> None:
    whole = tar("w", **{f"{n}.txt": bytes([65 + n]) * 20_000 for n in range(5)})
    document = parse(whole[: len(whole) // 2], "a.tar")
    assert "0.txt\nAAAA" in document.text and any("壊れ" in p for p in document.problems)
    with pytest.raises(Unreadable):
        parse(b"BZh9 nothing", "a.bz2")


def test_links_and_devices_are_not_followed(parse) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("s", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("f", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/hostname"
            archive.addfile(info)
        info = tarfile.TarInfo("本物.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"text"))
    assert [m.label for m in parse(out.getvalue(), "a.tar").marks] == ["本物.txt"]


def test_a_file_without_a_name_does_not_lose_the_others(parse) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), "名無し")
        archive.writestr("規程.txt", "日当は三千円")
    document = parse(out.getvalue(), "a.zip")
    assert "名無し" in document.text and "日当は三千円" in document.text
