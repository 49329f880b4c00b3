"""Forms on 方眼紙: what stands beside its label is said with it, tables in them are rows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import openpyxl
import pytest

from appliance.formats import form
from tests.corpus.paper import manifest

Cell = tuple[str, int, int]  # text, first column from 1, columns


def paper(*rows: Sequence[Cell], gaps: Sequence[int] = ()) -> bytes:
    """Rows of merged cells; after the rows in `gaps` one stays empty."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "紙"
    at = 1
    for n, row in enumerate(rows):
        for text, left, width in row:
            sheet.cell(at, left).value = text or None
            if width > 1:
                sheet.merge_cells(
                    start_row=at, start_column=left, end_row=at, end_column=left + width - 1
                )
        at += 2 if n in gaps else 1
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def pair(*texts: str, label: int = 4, value: int = 12) -> list[Cell]:
    cells, left = [], 1
    for n, text in enumerate(texts):
        width = value if n % 2 else label
        cells.append((text, left, width))
        left += width
    return cells


def lines(parse, data: bytes) -> list[str]:
    return parse(data, "a.xlsx").text.split("\n")[1:]


def test_labels_and_values_under_one_another_are_no_table(parse) -> None:
    data = paper(
        pair("所属", "営業二課", "申請者", "山田 太郎"),
        pair("目的", "立会検査", "出張先", "松本工場"),
        pair("期間", "二日", "同行者", "なし"),
    )
    assert lines(parse, data) == [
        "所属: 営業二課 | 申請者: 山田 太郎",
        "目的: 立会検査 | 出張先: 松本工場",
        "期間: 二日 | 同行者: なし",
    ]


def test_a_table_of_the_same_shape_is_one(parse) -> None:
    data = paper(
        pair("区分", "経路", "金額", "備考"),
        pair("交通費", "上諏訪から松本", "2,320", "往復"),
        pair("宿泊費", "駅前ホテル", "9,800", ""),
    )
    assert lines(parse, data) == [
        "区分 | 経路 | 金額 | 備考",
        "区分: 交通費 | 経路: 上諏訪から松本 | 金額: 2,320 | 備考: 往復",
        "区分: 宿泊費 | 経路: 駅前ホテル | 金額: 9,800",
    ]


def test_what_is_not_filled_in_takes_no_neighbour(parse) -> None:
    data = paper(
        pair("所属", "", "申請者", "山田 太郎"),
        pair("電話", "", "住所", ""),
        pair("理由", "検査のため", "期限", "10月9日"),
    )
    assert lines(parse, data) == [
        "所属 | 申請者: 山田 太郎",
        "電話 | 住所",
        "理由: 検査のため | 期限: 10月9日",
    ]


def test_seals_stand_under_their_offices(parse) -> None:
    seals = [("社長", 20, 4), ("部長", 24, 4), ("課長", 28, 4)]
    data = paper(seals, [("濱", 24, 4), ("原", 28, 4)], pair("件名", "出展について"), gaps=[1])
    assert lines(parse, data) == ["社長 | 部長: 濱 | 課長: 原", "", "件名: 出展について"]


def test_an_ordinary_sheet_is_no_form(parse) -> None:
    data = paper(
        [("備品台帳", 1, 3)], [("番号", 1, 1), ("品名", 2, 1)], [("1", 1, 1), ("机", 2, 1)]
    )
    assert lines(parse, data) == ["備品台帳", "番号 | 品名", "1 | 机"]


def test_places_are_those_of_the_cells(parse) -> None:
    document = parse(paper(pair("件名", "出展"), pair("理由", "商談"), gaps=[0]), "a.xlsx")
    assert not [m for m in document.marks if m.label == "紙!A2"]
    mark = next(m for m in document.marks if m.label == "紙!A3")
    assert document.text[mark.start :].startswith("理由: 商談")


def test_a_long_sheet_is_not_searched_for_forms() -> None:
    rows = [(n, ["a"]) for n in range(form._ROWS + 1)]
    assert not form.is_form(rows, {(n, 0): (1, 9) for n in range(len(rows))})


@pytest.mark.parametrize("path", [p for p in manifest() if p.startswith("grid/")])
def test_every_field_of_the_corpus_is_said_with_its_label(parse, corpus: Path, path: str) -> None:
    text = parse((corpus / path).read_bytes(), path).text
    for label, value in manifest()[path]["pairs"]:
        assert f"{label}: {value}" in text.replace("\n", " ")


def test_labels_and_values_in_turn_are_pairs_and_a_tables_rows_are_not() -> None:
    rows = [
        (0, ["申請日", "2026年11月2日", "部署", "営業一課"]),
        (1, ["氏名", "伊藤 幸子", "電話", ""]),
        (2, ["理由", "", "備考", "なし"]),
    ]
    assert form.pairs(rows, {}) == [
        (0, "申請日: 2026年11月2日 | 部署: 営業一課"),
        (1, "氏名: 伊藤 幸子 | 電話"),
        (2, "理由 | 備考: なし"),
    ]
    assert form.pairs([(0, ["品名", "数量"]), (1, ["机", "2"]), (2, ["椅子", "8"])], {}) is None
