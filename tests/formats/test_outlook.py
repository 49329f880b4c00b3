"""Outlook's mails, made here after Microsoft's description: no program that writes them is at hand."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from appliance.errors import Unreadable
from appliance.formats import outlook
from tests.formats.compounds import compound

# [MS-OXRTFCP] 4.1.1: the example of the description
PACKED = bytes.fromhex(
    "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
)
PLAIN = b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"


def properties(sent: int = 0, inner: bool = False) -> bytes:
    head = bytes(24 if inner else 32)
    return head + struct.pack("<HHIQ", 0x0040, 0x0039, 6, sent) if sent else head


def message(at: str = "", **streams: str | bytes) -> dict[str, bytes]:
    """Streams by the number and type of their property (`x0037001F`); text becomes UTF-16."""
    files = {f"{at}__properties_version1.0": properties(inner=bool(at))}
    for name, said in streams.items():
        data = said.encode("utf-16-le") if isinstance(said, str) else said
        files[f"{at}__substg1.0_{name.removeprefix('x')}"] = data
    return files


def attachment(n: int) -> str:
    return f"__attach_version1.0_#{n:08X}/"


def test_a_mail_with_what_is_attached(parse, corpus: Path) -> None:
    inner = f"{attachment(2)}__substg1.0_3701000D/"
    files = (
        message(
            x0037001F="見積りの件",
            x0C1A001F="伊藤",
            x5D01001F="ito@example.jp",
            x0E04001F="佐藤; 田中",
            x1000001F="お世話になります。\r\n見積りは48,000円です。\r\n",
            x007D001F="From: x\r\nDate: Thu, 2 Apr 2026 09:30:00 +0900\r\n",
        )
        | message(
            attachment(0), x3707001F="規程.docx", x37010102=(corpus / "規程.docx").read_bytes()
        )
        | message(attachment(1), x37010102=b"\x89PNG\r\n\x1a\n")
        | message(inner, x0037001F="元のメール", x1000001F="よろしく")
    )
    document = parse(compound(files), "見積り.msg")
    assert document.title == "見積りの件"
    assert document.text.startswith(
        "差出人: 伊藤 <ito@example.jp>\n宛先: 佐藤; 田中\n日付: 2026年4月2日 09:30\n件名: 見積りの件\n\n"
        "お世話になります。\n見積りは48,000円です。"
    )
    assert document.text.endswith("48,000円です。") and document.problems == ()
    docx, forwarded = document.children
    assert docx.path == "規程.docx" and docx.document
    assert "終日 | 300円 | 通信費を含む" in docx.document.text
    assert forwarded.path == "元のメール" and forwarded.media_type == "application/vnd.ms-outlook"
    assert forwarded.document and forwarded.document.text.endswith("よろしく")


def test_a_mail_in_the_code_page_of_old(parse) -> None:
    files = {
        f"__substg1.0_{n}": t.encode("cp932")
        for n, t in (("0037001E", "件名"), ("1000001E", "本文です"))
    }
    document = parse(
        compound(files | {"__properties_version1.0": properties(134_195_616_000_000_000)}), "a.msg"
    )
    assert document.text == "日付: 2026年4月2日 09:00\n件名: 件名\n\n本文です"


def test_a_body_in_html_or_compressed_rtf(parse) -> None:
    html = "<html><meta charset=utf-8><body><p>本文</p><script>x</script></body></html>".encode()
    assert parse(compound(message(x10130102=html)), "a.msg").text == "本文"
    assert outlook.unpacked(PACKED) == PLAIN
    assert parse(compound(message(x10090102=PACKED)), "a.msg").text == "hello world"
    with pytest.raises(Unreadable):
        parse(compound(message(x10090102=b"x" * 40)), "a.msg")


def test_a_broken_attachment_does_not_lose_the_mail(parse) -> None:
    files = message(x1000001F="本文") | message(
        attachment(0), x3707001F="壊れ.docx", x37010102=b"PK\x03\x04torn"
    )
    document = parse(compound(files), "a.msg")
    (child,) = document.children
    assert document.text == "本文" and child.path == "壊れ.docx" and child.problem


def test_mails_inside_mails_end(parse) -> None:
    files, at = message(x1000001F="0"), ""
    for n in range(1, 9):
        at += f"{attachment(0)}__substg1.0_3701000D/"
        files |= message(at, x1000001F=str(n))
    document = parse(compound(files), "a.msg")
    texts = [c.document.text for c in document.children if c.document]
    assert document.text == "0" and texts == ["1", "2", "3", "4", "5"]
    assert "入れ子" in str(document.children[-1].problem)
