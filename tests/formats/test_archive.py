"""Archives: every file in them is read, and none of them is a bomb, a way out or a lost document."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from pathlib import Path

import pytest
from PIL import Image

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from appliance.formats import archive, kinds, package
from appliance.formats.sandbox import Sandbox
from appliance.types import Document, RawFile
from tests.formats.test_office import packed

Raw = Callable[..., RawFile]


def paths(document: Document) -> list[str]:
    return [child.path for child in document.children]


def texts(document: Document) -> dict[str, str]:
    return {c.path: c.document.text for c in document.children if c.document}


def problems(document: Document) -> dict[str, str]:
    return {c.path: c.problem for c in document.children if c.problem}


def tar(mode: str, **members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def picture(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (40, 30), shade).save(out, "PNG")
    return out.getvalue()


def in_code_page(name: str, text: str) -> bytes:
    """As Windows packs it: the name in CP932, without a word about it."""
    data = packed(**{"x" * len(name.encode("cp932")): text})
    return data.replace(b"x" * len(name.encode("cp932")), name.encode("cp932"))


def test_every_file_is_a_document_in_its_own_format(parse, corpus: Path) -> None:
    data = packed(
        **{
            "規程/規程.docx": (corpus / "規程.docx").read_bytes(),
            "メモ.txt": "日当は三千円".encode("cp932"),
            "__MACOSX/._メモ.txt": b"x",
            "図.png": b"\x89PNG\r\n\x1a\n",
        }
    )
    document = parse(data, "資料.zip")
    assert paths(document) == ["規程/規程.docx", "メモ.txt", "図.png"]
    docx, memo, picture = document.children
    assert docx.document and "終日 | 300円 | 通信費を含む" in docx.document.text
    assert docx.media_type == kinds.DOCX and docx.document.marks
    assert docx.size_bytes == (corpus / "規程.docx").stat().st_size
    assert memo.document and memo.document.text == "日当は三千円" and memo.problem is None
    assert picture.problem == "画像です (文字の読み取り (OCR) が使われない設定です)"
    assert picture.media_type == "image/png" and picture.document is None
    assert (document.text, document.marks, document.problems) == ("", (), ())


def test_a_file_inside_has_the_date_that_its_archive_says(parse) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.txt", (2025, 4, 1, 9, 0, 0)), "x")
        archive.writestr(zipfile.ZipInfo("b.txt"), "x")
    dates = [c.modified_at for c in parse(out.getvalue(), "a.zip").children]
    assert dates == [datetime(2025, 4, 1, tzinfo=UTC), None]  # nine o'clock in Japan


def test_two_of_one_name_are_told_apart(parse) -> None:
    files = {"a.txt": "一", "a.txt (2)": "二", "./a.txt": "三", "/a.txt": "四"}
    found = texts(parse(tar("w", **{n: t.encode() for n, t in files.items()}), "a.tar"))
    assert found == {"a.txt": "一", "a.txt (2)": "二", "a.txt (3)": "三", "a.txt (4)": "四"}


@pytest.mark.parametrize("name", ["表示一覧.txt", "ソフト能力.txt", "ｱｲｳ①.txt"])
def test_names_in_the_code_page_of_windows(parse, name: str) -> None:
    assert paths(parse(in_code_page(name, "内容"), "a.zip")) == [name]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_however_it_is_packed(parse, mode: str) -> None:
    data = tar(mode, **{"手順/一.txt": b"first", "二.txt": "二つ目".encode()})
    assert texts(parse(data, "a.tar")) == {"手順/一.txt": "first", "二.txt": "二つ目"}


def test_a_tar_that_says_a_number_of_a_hundred_digits_is_broken_and_no_more(parse) -> None:
    said = b"9" * 100 + b" comment=x\n"
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(said)
    data = info.tobuf(tarfile.USTAR_FORMAT) + said.ljust(512, b"\0") + bytes(10240)
    with pytest.raises(Unreadable, match="壊れて") as told:
        parse(data, "過大.tar")
    assert "OverflowError" not in str(told.value)


def test_one_file_in_gzip(parse) -> None:
    found = parse(gzip.compress("議事録の本文".encode()), "議事録.txt.gz")
    assert texts(found) == {"議事録.txt": "議事録の本文"}
    data = gzip.compress("品名,数量\n万年筆,3".encode())
    named = data[:3] + b"\x08" + data[4:10] + "元の名前.csv\0".encode("cp932") + data[10:]
    (child,) = parse(packed(**{"内.gz": named}), "外.zip").children[1:]
    assert child.path == "内.gz › 元の名前.csv" and child.media_type == "text/csv"


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
    assert paths(parse(tar("w", **{name: b"text"}), "a.tar")) == [shown]


def test_a_locked_archive_asks_for_its_password(parse) -> None:
    data = bytearray(packed(**{"a.txt": "x", "b.txt": "y"}))
    for at in (data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8):
        data[at] |= 1
    document = parse(bytes(data), "a.zip")
    assert texts(document) == {"b.txt": "y"}
    assert problems(document) == {"a.txt": "パスワードが必要です"}
    for at in (data.rindex(b"PK\x03\x04") + 6, data.rindex(b"PK\x01\x02") + 8):
        data[at] |= 1
    with pytest.raises(PasswordNeeded):
        parse(bytes(data), "a.zip")
    document = parse(packed(**{"内.zip": bytes(data)}), "外.zip")
    assert problems(document) == {"内.zip": "パスワードが必要です"}


def test_an_empty_archive_says_so(parse) -> None:
    with pytest.raises(Unreadable, match="ファイルがありません"):
        parse(packed(), "a.zip")


def test_bombs_are_refused_or_cut(parse) -> None:
    for data, name, why in (
        (packed(**{"a.txt": b"\0" * 60_000_000, "b.txt": b"kept"}), "a.zip", "圧縮率"),
        (tar("w:gz", **{"a.txt": b"\0" * 110_000_000, "b.txt": b"kept"}), "a.tgz", "上限"),
    ):
        document = parse(data, name)
        assert texts(document) == {"b.txt": "kept"} and list(problems(document)) == ["a.txt"]
        assert why in problems(document)["a.txt"]
    assert "上限" in problems(parse(gzip.compress(b"\0" * 110_000_000), "a.gz"))["a"]


def test_many_files_of_which_none_is_large_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they come, and as they are declared before the first is unpacked."""
    data = packed(**{f"{n}.txt": "x" * 400 for n in range(5)})
    monkeypatch.setattr(archive, "_TOTAL_BYTES", 1_000)
    document = archive.parse_zip(io.BytesIO(data))
    assert list(texts(document)) == ["0.txt", "1.txt"]
    assert "上限" in problems(document)["2.txt"]
    assert "「3.txt」から後を読んでいません" in document.problems[0]
    monkeypatch.setattr(package, "_TOTAL_BYTES", 1_000)
    with pytest.raises(TooLarge, match="展開後"):
        archive.parse_zip(io.BytesIO(data))


def test_archives_inside_archives_end(parse) -> None:
    data = packed(**{"底.txt": "底"})
    for n in range(4):
        data = packed(**{f"{n}.zip": data})
    last = parse(data, "a.zip").children[-1]
    assert last.path == "3.zip › 2.zip › 1.zip › 0.zip › 底.txt"
    assert last.document and last.document.text == "底"
    for n in range(4, 20):
        data = packed(**{f"{n}.zip": data})
    document = parse(data, "a.zip")
    assert not any(texts(document).values()) and len(document.children) == 6
    assert "入れ子" in problems(document)["19.zip › 18.zip › 17.zip › 16.zip › 15.zip › 14.zip"]


def test_many_files_are_cut_with_a_word(parse) -> None:
    document = parse(packed(**{f"{n:04}.txt": "x" for n in range(2_100)}), "a.zip")
    assert len(texts(document)) == 2000 and "1999.txt" in texts(document)
    assert "2000.txt" in document.problems[0] and "2,000" in document.problems[0]


def test_a_torn_file_does_not_lose_the_others(parse) -> None:
    whole = packed(**{"一.txt": "first" * 50, "二.txt": "second" * 50, "三.txt": "third" * 50})
    at = whole.index("二.txt".encode()) + len("二.txt".encode())
    torn = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
    document = parse(torn, "a.zip")
    assert list(texts(document)) == ["一.txt", "三.txt"]
    assert "壊れ" in problems(document)["二.txt"]


def test_gzip_inside_gzip_ends(parse) -> None:
    data = b"text"
    for _ in range(30):
        data = gzip.compress(data)
    document = parse(data, "a.gz")
    assert len(document.children) == 6 and "入れ子" in [*problems(document).values()][-1]


def test_a_torn_archive_keeps_what_came_before(parse) -> None:
    whole = tar("w", **{f"{n}.txt": bytes([65 + n]) * 20_000 for n in range(5)})
    document = parse(whole[: len(whole) // 2], "a.tar")
    assert texts(document)["0.txt"] == "A" * 20_000
    assert any("壊れ" in p for p in (*document.problems, *problems(document).values()))
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
    assert paths(parse(out.getvalue(), "a.tar")) == ["本物.txt"]


# made by 7-Zip's format of two texts and an empty file
SEVEN = {
    "lzma2": (
        "N3q8ryccAARgAchD7AAAAAAAAAAWAAAAAAAAAF6f+OMBAE3jg5/jgrrjg5vlj7fjga7pjbXjga/lrojooZvlrqTj"
        "gaflj5fjgZHlj5bjgovjgILljLrliIYs5pel5b2TCuiqsumVtyzkuInljYPlhoYA4ADYAJJdAACBMweuD9LbPn1A"
        "u5RkHH7rYmP2uZeSKtu/54NmmEsjWIbikC3sbFlBQ33IahdEBMBhlaK7zHgfqk78CYmeFsvxFLvv7kbDTFguDZS/"
        "ybSXQorwKjD1BJTkcDC4gz21weBphPhXOrauN/ccCXctXxtdjPa6jigESPlAe/iAYTbWq8O3FdsFGqvaeWJpFXPg"
        "AAAAABcGUgEJgJoABwsBAAEhIQEYDIDZAAA="
    ),
    "bcj": (
        "N3q8ryccAARgAchD7AAAAAAAAAAWAAAAAAAAAF6f+OMBAE3jg5/jgrrjg5vlj7fjga7pjbXjga/lrojooZvlrqTj"
        "gaflj5fjgZHlj5bjgovjgILljLrliIYs5pel5b2TCuiqsumVtyzkuInljYPlhoYA4ADYAJJdAACBMweuD9LbPn1A"
        "u5RkHH7rYmP2uZeSKtu/54NmmEsjWIbikC3sbFlBQ33IahdEBMBhlaK7zHgfqk78CYmeFsvxFLvv7kbDTFguDZS/"
        "ybSXQorwKjD1BJTkcDC4gz21weBphPhXOrauN/ccCXctXxtdjPa6jigESPlAe/iAYTbWq8O3FdsFGqvaeWJpFXPg"
        "AAAAABcGUgEJgJoABwsBAAEhIQEYDIDZAAA="
    ),
    "bzip2": (
        "N3q8ryccAASvjrykAwEAAAAAAAAWAAAAAAAAAGhMrStCWmg5MUFZJlNZ/zKU6wAAHtB5ABAABHluq4imkZLSD2Ag"
        "AFRSDTQDIDTCNlD0EFNBpkaAA9INNHqO4XARnIHNjMT+61AhC6KsfiveSNOlTAkCFpsSw1m0OiiMmx4qyAf/ioK4"
        "S7lMXckU4UJD/MpTrOAA0ACKXQAAgTMHrg/Uaz+VQhX2ryvLdvZHrUQ4zdIsUTzJ8aF+5X3W8XOokfqTSBj5vN6c"
        "hXx25taSbsUTXuukEVhiyUgx1C12jK8yEFHOoGy5C6Mh3iw0GqolEDCTyjHuFyCJteo0tH+UrpQPF69jXdRTU7Iy"
        "3Fcj5vq2wwkWRJuafBbitTXJEByUno3gAAAAFwZxAQmAkgAHCwEAASEhARgMgNEAAA=="
    ),
    "ppmd": (
        "N3q8ryccAASLxW0u4AAAAAAAAAAWAAAAAAAAACaxi9MA4p56WWGOc5Uk4b189sJQhHwGnfw1CQP5qayEwYa1AuDd"
        "79IG60BqaN7weojlo2KcMlp52Qhr6Ai+47DA2FqPD12vChq75wDgANgAkF0AAIEzB64P0lo1/UDAkNNDxSotA6NX"
        "NEhwWJEW3ptby2ypldu/PmnE3lrc6P73uroRdkKGHsXCC32oir0fH4jOg0wXDxP0JKe365g1Jqmyn7d/JKKTSTqj"
        "wBlgZr+iG9pwsFHMX7264yzhtSglt8WPL3AQXOyi/NN6aZ4pEa15yga3S2xCTqHG3eGtrpFhoAAAABcGSAEJgJgA"
        "BwsBAAEhIQEYDIDZAAA="
    ),
    "locked": (
        "N3q8ryccAAT7m2yqEgEAAAAAAAAWAAAAAAAAAIK7QpQuXJJ7RDunwAsbSAlp2eTHfKZkj2ezmQ5NFXVk8OVvLX4S"
        "kZ/E1gW2oZnT1xGwjiAZumAzAa65bqAWgSQEoGwCWWqWYUsURhEcdAK/s5HxTtq83OZheJ9EoMDnKC8drG3gAOwA"
        "ql0AAIEzB64P05AmW2yvyAbEfoDVOj8mlCGh9pCp+C2l5+LdAd7zUpNc01KXfWlCZMTLadVu7VyMIabAQA2ia6Up"
        "KxjYoReTbMykufstIsKfWFo+ARnQ+mu3nu4CCb1gnE5MrIrfiIIoVK9Pyg5sURBRsiro/zQqWCHzLeECDdt7HjXv"
        "hCl6gNTD4OKqvZ+GFbMkbXo1moGNzczjGI7YspNAQ54W/DmF1UAAAAAAFwZgAQmAsgAHCwEAASEhARgMgO0AAA=="
    ),
    "locked names": (
        "N3q8ryccAAQ2k1RcUAEAAAAAAAAqAAAAAAAAAI/8vV/Uolr2HhEMNQsuEXK02OotEHPm2qpl+5fdqTuwx33WL4fp"
        "thx+tZ04/PzGpLfOUBHYYu5qO/0or1jLTbAF0SeSUVn+dhgn972zlfdAAmXzKayj1iR4BPTChWsjECQxOTTkr4t4"
        "9p5Z6aKkZek2maF4xSgYo5nTJw6ql5qSwu01LtVilngeaWjNDsHmaIJo0GSrbjk8J7q5kYyt6oNqE11Kg/XUdGGH"
        "9aZMFCqG9ZPLb7hRJPoI1eXT2L3GnIWH2ge3T7crnfUMr4ho11TjNNBDe73Ljbti3qYOHk9EhrsH1MOHAAoZQdAw"
        "eIIx6KhQA/zsV8rn/OlEyf9wJ38HTS4fHQGx2kYRK86IV1d/6A2bIwM9UBk1yfKmJcGHomII2RmUUzstmL/oAIUu"
        "1WUrloWv9VQvUCyC7vz6xYRCb/wc854Me/s+DEWiJGm3Rlu8TuUXBmABCYDwAAcLAQABJAbxBwESUw/CoCtX7Bds"
        "A4TQLRbfbnBKDIDtAAA="
    ),
}


@pytest.mark.parametrize("kind", ["lzma2", "bcj", "bzip2"])
def test_an_archive_of_7_zip(parse, kind: str) -> None:
    document = parse(base64.b64decode(SEVEN[kind]), "資料.7z")
    assert texts(document) == {
        "資料/手引き/鍵.txt": "ミズホ号の鍵は守衛室で受け取る。",
        "資料/日当.csv": "区分 | 日当\n課長 | 三千円",
    }
    assert problems(document) == {"資料/空.txt": "中身が空です"}
    assert {c.modified_at.date() for c in document.children if c.modified_at} == {
        date(2026, 11, 26)
    }


def test_what_7_zip_can_and_we_cannot(parse) -> None:
    for kind in ("locked", "locked names"):
        with pytest.raises(PasswordNeeded):
            parse(base64.b64decode(SEVEN[kind]), "a.7z")
    told = problems(parse(base64.b64decode(SEVEN["ppmd"]), "a.7z"))
    assert "zip で圧縮し直して" in told["資料/日当.csv"]


def test_a_torn_archive_of_7_zip(parse) -> None:
    whole = bytearray(base64.b64decode(SEVEN["lzma2"]))
    torn = bytes([*whole[:40], whole[40] ^ 0xFF, *whole[41:]])  # in the first text
    document = parse(torn, "a.7z")
    assert "壊れ" in problems(document)["資料/手引き/鍵.txt"]
    for torn in (whole[:100], whole[:31], bytes([*whole[:-3], 0, 0, 0])):
        with pytest.raises(Unreadable, match="壊れ"):
            parse(bytes(torn), "a.7z")


def test_another_archive_is_refused_with_what_to_do(parse) -> None:
    with pytest.raises(Unreadable, match="zip で圧縮し直して"):
        parse(b"Rar!\x1a\x07\x01\x00", "資料.rar")


def test_a_file_without_a_name_does_not_lose_the_others(parse) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), "名無し")
        archive.writestr("規程.txt", "日当は三千円")
    document = parse(out.getvalue(), "a.zip")
    assert list(texts(document).values()) == ["名無し", "日当は三千円"]


def test_a_file_inside_is_cut_out_again(sandbox: Sandbox, raw: Raw, corpus: Path) -> None:
    rules, memo = (corpus / "規程.pdf").read_bytes(), "日当は三千円".encode("cp932")
    mail = MIMEMultipart()
    mail["Subject"] = "規程"
    part = MIMEApplication(rules)
    part.add_header("Content-Disposition", "attachment", filename="a.pdf")
    mail.attach(part)
    inner = tar("w:gz", **{"x.txt": b"x", "規程.pdf": rules, "便り.eml": mail.as_bytes()})
    file = raw(packed(**{"空.txt": b"", "内.tgz": inner, "メモ.txt": memo}), "a.zip")
    there = {c.path: c.at for c in sandbox.parse(file)[0].children}
    cut = sandbox.cut(file, [*there.values(), (9, 9)])
    assert {path: cut.get(at) for path, at in there.items()} == {
        "空.txt": b"",
        "内.tgz": inner,
        "内.tgz › x.txt": b"x",
        "内.tgz › 規程.pdf": rules,
        "内.tgz › 便り.eml": mail.as_bytes(),
        "内.tgz › 便り.eml › a.pdf": rules,
        "メモ.txt": memo,
    }
    assert len(cut) == len(there)
    seven = raw(base64.b64decode(SEVEN["lzma2"]), "a.7z")
    document = sandbox.parse(seven)[0]
    (at, text) = next((c.at, c.document.text) for c in document.children if c.document)
    assert text in sandbox.cut(seven, [at])[at].decode()


def test_a_mail_of_a_folder_is_no_file_that_could_be_cut_out(sandbox: Sandbox, raw: Raw) -> None:
    box = b"From a Thu Jan  1 00:00:00 2026\nFrom: a\nTo: b\nSubject: c\n\nx\n"
    (mail,) = sandbox.parse(raw(box, "a.mbox"))[0].children
    assert mail.at == () and sandbox.cut(raw(box, "a.mbox"), [(1,)]) == {}


def test_pictures_inside_are_handed_out_together(
    sandbox: Sandbox, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.formats.sandbox._CUT_FILES", 3)
    shades = [picture(n) for n in range(7)]
    file = raw(packed(**{f"{n}.png": data for n, data in enumerate(shades)}), "a.zip")
    asked: list[int] = []
    honest = sandbox.cut
    monkeypatch.setattr(sandbox, "cut", lambda f, w: (asked.append(len(w)), honest(f, w))[1])
    children = sandbox.parse(replace(file, read={}))[0].children
    assert [c.read() for c in children if c.read] == shades and asked == [3, 3, 1]
