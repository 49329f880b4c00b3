"""What documents say of themselves: how much is found, and how much of it is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from datetime import date

import pytest

from appliance.text import metadata
from appliance.text.normalize import width
from appliance.types import Document, Mark, Metadata, Properties, Said
from tests.text.heads import HEADS

EXPECTED = {  # field: right, found, there to find
    "title": (31, 31, 34),
    "author": (12, 12, 13),
    "department": (19, 19, 21),
    "number": (10, 10, 10),
    "version": (8, 8, 8),
    "confidentiality": (12, 12, 12),
    "created": (16, 16, 18),
    "revised": (8, 8, 9),
    "in_force": (3, 3, 3),
}
DAYS = ("created", "revised", "in_force")
FIELDS = [field.name for field in fields(Metadata)]


def said(name: str, text: str) -> dict[str, str]:
    found = metadata.read(name, Document(text))
    return {
        field: " ".join(width(one.text).split())
        for field in FIELDS
        if (one := getattr(found, field)) is not None
    }


def judge() -> tuple[dict[str, tuple[int, int, int]], list[str]]:
    """Field → right, found, there to find; and what was missed or wrong."""
    right, found, there = Counter[str](), Counter[str](), Counter[str]()
    wrong = []
    for name, text, expected in HEADS:
        got = said(name, text)
        for field in FIELDS:
            right[field] += field in got and got[field] == expected.get(field)
            found[field] += field in got
            there[field] += field in expected
            if got.get(field) != expected.get(field):
                wrong.append(f"{name} {field}: {got.get(field)!r}, not {expected.get(field)!r}")
    return {f: (right[f], found[f], there[f]) for f in FIELDS}, wrong


def test_as_much_is_found_as_was_measured_and_as_much_of_it_is_right() -> None:
    """(right, found, there to find) of each field: whoever makes it better writes it down here."""
    figures, wrong = judge()
    assert figures == EXPECTED, "\n".join(wrong)


def test_each_is_found_where_it_stands() -> None:
    for name, text, _ in HEADS:
        found = metadata.read(name, Document(text))
        for field in FIELDS:
            one = getattr(found, field)
            if one is not None and one.span is not None and field not in DAYS:
                stands = text[one.span.start : one.span.end]
                loose = [width("".join(t.split())).casefold() for t in (one.text, stands)]
                assert loose[0] == loose[1] or field == "confidentiality"
            if one is not None and one.span is not None and field in DAYS:
                assert any(c.isdecimal() or c == "元" for c in text[one.span.start : one.span.end])


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("社外秘\n規程", "社外秘"),
        ("規程\n\n本文\n\n【社外秘】", "社外秘"),
        ("規程（秘）\n本文", "秘"),
        ("Classification: Confidential\nPlan", "CONFIDENTIAL"),
        ("社外秘 / CONFIDENTIAL\nPlan", "社外秘"),
        ("社外秘\nCONFIDENTIAL\nPlan", "社外秘"),
        ("本書は社外秘です。\n規程", None),
        ("社外秘の取扱いについて", None),
        ("・社外秘\n・極秘", None),
        ("規程\n社外秘とは、次のものをいう。", None),
        ("情報区分\n極秘\n社外秘\n", None),
        ("取扱：社外秘・部外秘のいずれか", None),
        ("\n".join(["本文です。"] * 20 + ["社外秘"] + ["本文です。"] * 20), None),
        ("秘密保持契約書\n本文", None),
        ("", None),
    ],
)
def test_a_stamp_is_one_and_a_word_is_not(text: str, level: str | None) -> None:
    found = metadata.read("a.txt", Document(text)).confidentiality
    assert (found.text if found else None) == level


def test_a_stamp_at_the_edge_of_a_page_counts() -> None:
    page = "本文です。\n" * 40
    text = f"{page}社外秘\n{page}"
    marks = (Mark(0, "p. 1", "page", 1), Mark(len(page), "p. 2", "page", 2))
    found = metadata.read("a.pdf", Document(text, marks)).confidentiality
    assert found is not None and found.span is not None
    assert text[found.span.start : found.span.end] == "社外秘"


def test_what_the_file_says_beside_its_text() -> None:
    own = Properties("伊藤 花子", date(2024, 4, 1), ("蔵製作所　社外秘", "社外秘", "1 / 3"))
    found = metadata.read("a.docx", Document("本文です。", properties=own))
    assert found.author == Said("伊藤 花子")
    assert found.created == Said("2024-04-01")
    assert found.confidentiality == Said("社外秘")
    generic = Properties("Microsoft Office ユーザー")
    assert metadata.read("a.docx", Document("本文", properties=generic)).author is None


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("【社外秘】旅費規程.docx", "社外秘"),
        ("旅費規程_社外秘.docx", "社外秘"),
        ("規程/社外秘_旅費規程.docx", "社外秘"),
        ("社外秘の扱い.docx", None),
        ("社外秘.docx", None),
    ],
)
def test_a_name_may_carry_the_stamp(name: str, level: str | None) -> None:
    found = metadata.read(name, Document("本文")).confidentiality
    assert (found and found.text) == level


if __name__ == "__main__":
    figures, wrong = judge()
    for field, (right, found, there) in figures.items():
        print(f"{field:16} precision {right}/{found}  recall {right}/{there}")
    print("\n".join(wrong))
