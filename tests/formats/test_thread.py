"""Mails that quote others: each of them is a part, with who wrote it and when."""

from __future__ import annotations

from email.message import EmailMessage

import pytest

from appliance.text.split import split
from appliance.types import Document
from tests.formats.compounds import compound
from tests.formats.test_outlook import message

OWN = "山田 太郎 2026年3月2日 10:00"
SATO = "引用: 佐藤 花子 2026年2月27日 18:05"


def mail(body: str, subtype: str = "plain") -> bytes:
    made = EmailMessage()
    made["From"] = "山田 太郎 <yamada@example.co.jp>"
    made["Subject"], made["Date"] = "Re: 見積", "Mon, 02 Mar 2026 10:00:00 +0900"
    made.set_content(body, subtype=subtype)
    return made.as_bytes()


def said(document: Document) -> dict[str, str]:
    """What stands in each part."""
    parts = [m for m in document.marks if m.kind == "part"]
    ends = [*(m.start for m in parts), len(document.text)][1:]
    return {m.label: document.text[m.start : end] for m, end in zip(parts, ends, strict=True)}


@pytest.mark.parametrize(
    "introduced",
    [
        "2026年2月27日(金) 18:05 佐藤 花子 <sato@example.co.jp>:",
        "2026/02/27 18:05、佐藤 花子 <sato@example.co.jp>のメール:",
        "On 2026/02/27 18:05, 佐藤 花子 wrote:",
        "On Fri, Feb 27, 2026 at 6:05 PM 佐藤 花子\n<sato@example.co.jp> wrote:",
        "2026年2月27日 18:05 佐藤 花子さんは書きました:",
    ],
)
def test_a_quote_that_is_introduced(parse, introduced: str) -> None:
    body = f"承知しました。\n\n{introduced}\n\n> 単価は850円です。\n> 納期は3月末です。\n"
    found = said(parse(mail(body), "a.eml"))
    assert next(iter(found)) == OWN and "850円" not in found[OWN] and "承知しました。" in found[OWN]
    label = list(found)[1].replace("さん", "")
    assert label == SATO
    assert found[list(found)[1]].rstrip().endswith("\n単価は850円です。\n納期は3月末です。")


@pytest.mark.parametrize(
    "head",
    [
        "-----Original Message-----\nFrom: 佐藤 花子 <sato@example.co.jp>\n"
        "Sent: Friday, February 27, 2026 6:05 PM\nTo: 山田 太郎\nSubject: 見積",
        "-----元のメッセージ-----\n差出人: 佐藤 花子\n送信日時: 2026年2月27日金曜日 18:05\n宛先: 山田\n件名: 見積",
        "________________________________\n差出人: 佐藤 花子 <sato@example.co.jp>\n"
        "送信日時: 2026年2月27日 18:05\n宛先: 山田\n件名: 見積",
        "---------- Forwarded message ---------\nFrom: 佐藤 花子 <sato@example.co.jp>\n"
        "Date: 2026年2月27日(金) 18:05\nSubject: 見積\nTo: <yamada@example.co.jp>",
    ],
)
def test_headers_that_are_repeated(parse, head: str) -> None:
    found = said(parse(mail(f"了解です。\n\n{head}\n\n単価は850円です。\n"), "a.eml"))
    assert list(found) == [OWN, SATO]
    assert "850円" not in found[OWN] and found[SATO].startswith(head[:10])
    assert found[SATO].endswith("単価は850円です。")


def test_a_thread_of_three(parse) -> None:
    body = (
        "800円でお願いします。\n\n2026年2月27日(金) 18:05 佐藤 花子 <sato@example.co.jp>:\n\n"
        "> 850円でいかがですか。\n>\n> 2026年2月26日(木) 9:30 鈴木 一郎 <suzuki@example.jp>:\n>\n"
        ">> 上限は900円です。\n>> 数量は1,000個です。\n"
    )
    document = parse(mail(body), "a.eml")
    found = said(document)
    third = "引用: 鈴木 一郎 2026年2月26日 09:30"
    assert list(found) == [OWN, SATO, third]
    assert "900円" in found[third] and "900円" not in found[SATO] and "850円" in found[SATO]
    chunks = split(document)
    # no passage holds the words of two people
    parents = {document.text[c.parent_start : c.parent_end] for c in chunks}
    assert len(parents) == 3
    assert [c.heading for c in chunks] == [OWN, SATO, third]


def test_what_is_answered_line_by_line_stays_together(parse) -> None:
    body = "> 納期はいつですか。\n3月末です。\n\n> 単価はいくらですか。\n800円です。\n"
    document = parse(mail(body), "a.eml")
    assert document.text.endswith(body.strip()) and not document.marks


def test_a_quote_nobody_introduced_says_that_it_is_one(parse) -> None:
    lines = "".join(f"> 前の文面の{n}行目です。\n" for n in range(8))
    found = said(parse(mail(f"{lines}\nありがとうございました。\n"), "a.eml"))
    assert "（引用）\n前の文面の0行目です。" in found["引用"]
    assert "ありがとう" in found[OWN] and "前の文面" not in found[OWN]


@pytest.mark.parametrize(
    "body",
    [
        "来週の会議です。\n日時: 3月2日 10:00\n場所: 本社\n-----\n山田",
        "宛先: 総務部\n件名: 届出\nの二点を記入してください:\n氏名\n",
        "手順は次のとおりです:\n 1. 開く\n 2. 閉じる\n",
    ],
)
def test_what_is_no_quote(parse, body: str) -> None:
    assert not said(parse(mail(body), "a.eml"))


def test_quotes_of_html(parse) -> None:
    page = (
        "<div>承知しました。</div><div class='gmail_quote'><div>2026年2月27日(金) 18:05 佐藤 花子 "
        "&lt;<a href='mailto:s@example.jp'>s@example.jp</a>&gt;:<br></div>"
        "<blockquote><p>単価は850円です。</p><blockquote>上限は？</blockquote></blockquote></div>"
    )
    found = said(parse(mail(page, "html"), "a.eml"))
    assert list(found)[:2] == [OWN, SATO]
    assert "承知しました。" in found[OWN] and "850円" not in found[OWN]
    assert "850円" in found[SATO] and "上限は？" in found["引用"]


def test_outlook_itself(parse) -> None:
    body = (
        "了解です。\r\n\r\n差出人: 佐藤 花子\r\n送信日時: 2026年2月27日 18:05\r\n"
        "宛先: 山田\r\n件名: 見積\r\n\r\n単価は850円です。\r\n"
    )
    files = message(
        x0037001F="Re: 見積",
        x0C1A001F="山田 太郎",
        x1000001F=body,
        x007D001F="Date: Mon, 02 Mar 2026 10:00:00 +0900\r\n",
    )
    found = said(parse(compound(files), "a.msg"))
    assert list(found) == [OWN, SATO] and "850円" not in found[OWN]


def test_a_mail_of_thousands_of_quotes_is_told_apart_to_a_limit(parse) -> None:
    lines = "".join(f"{'> ' * (n % 40)}On 2026/02/27 18:05 x wrote:\n" for n in range(3_000))
    document = parse(mail(lines), "a.eml")
    assert document.text.count("wrote:") == 3_000
    assert len([m for m in document.marks if m.label.startswith("引用: x")]) < 1_000
