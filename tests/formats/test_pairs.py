"""Questions with their answers: a section each, in every format, and one chunk for both."""

from __future__ import annotations

import io

import docx
import openpyxl
import pytest
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont

from appliance.text import places
from appliance.text.split import split
from appliance.types import Document
from tests.corpus.pdfs import FONT, begun, ended

FAQ = """社内システム よくある質問

■ アカウント
Q1. パスワードを忘れたときはどうしますか。
A1. 情報システム部の窓口 (内線 5120) に申し出てください。

1. 社員証を見せる
2. 仮のパスワードを受け取る
3. 翌日までに変える

Q2. 休職中も使えますか？
A2. 使えません。

2. 端末
Q3. 私物の端末をつないでもよいですか
A3. いけません。貸出機を申し込んでください。

【問い合わせ先】
情報システム部
"""


def held(document: Document) -> list[tuple[str, str]]:
    """The place of each chunk, and its text."""
    chunks = split(document)
    labels = places.of_chunks(document.marks, chunks)
    return [(at, document.text[c.start : c.end]) for at, c in zip(labels, chunks, strict=True)]


def pairs(document: Document) -> dict[str, str]:
    return {at.rsplit(" · ", 1)[-1]: text for at, text in held(document)}


@pytest.mark.parametrize("name", ["faq.txt", "faq.md"])
def test_a_question_keeps_its_answer(parse, name: str) -> None:
    found = pairs(parse(FAQ.encode(), name))
    first = found["Q1. パスワードを忘れたときはどうしますか。"]
    assert "内線 5120" in first and "3. 翌日までに変える" in first
    assert "Q2" not in first
    assert found["Q2. 休職中も使えますか？"].endswith("A2. 使えません。")
    third = found["Q3. 私物の端末をつないでもよいですか"]
    assert "貸出機" in third and "情報システム部" not in third  # the heading ends it
    assert found["問い合わせ先"].endswith("情報システム部")


def test_headings_of_categories_stay_headings(parse) -> None:
    document = parse(FAQ.encode(), "faq.txt")
    assert [m.label for m in document.marks if m.level < 10] == [
        "アカウント",
        "2. 端末",
        "問い合わせ先",
    ]
    paths = [c.heading for c in split(document)]
    assert "アカウント › Q2. 休職中も使えますか？" in paths


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("質問：駐車場は使えますか\n回答：使えます\n", ["質問：駐車場は使えますか"]),
        ("【質問】社章を失くした\n【回答】総務へ\n", ["【質問】社章を失くした"]),
        (
            "問１　届出の期限\n答　五日以内\n問２　届出先\n答　人事部\n",
            ["問１ 届出の期限", "問２ 届出先"],
        ),
        ("Ｑ：\n休日はいつか\nＡ：\n土日です\n", ["Ｑ： 休日はいつか"]),
        ("Q1-2 定時は何時ですか\n9時から18時です\n", ["Q1-2 定時は何時ですか"]),
        ("Q1 2026年の売上は前年を上回った\nQ2 は下回った\n", []),
        ("A社の回答は以下のとおり\nB社は辞退\nQC工程表\n質問状を送る\n", []),
        ("A. 案の一\nB. 案の二\n", []),
    ],
)
def test_what_is_a_question(parse, text: str, labels: list[str]) -> None:
    assert [m.label for m in parse(text.encode(), "a.txt").marks] == labels


def test_headings_of_markdown_and_html(parse) -> None:
    document = parse(
        "# FAQ\n## Q1. 休日は？\n### A1.\n土日です。\n## Q2. 祝日は？\nA. 休みです。\n".encode(),
        "a.md",
    )
    assert [m.label for m in document.marks] == ["FAQ", "Q1. 休日は？", "Q2. 祝日は？"]
    assert pairs(document)["Q1. 休日は？"].endswith("土日です。")
    page = (
        "<h1>FAQ</h1><dl><dt>Q. 休日は？</dt><dd>A. 土日です。</dd>"
        "<dt>Q. 祝日は？</dt><dd>A. 休みです。</dd></dl>"
    )
    found = pairs(parse(page.encode(), "a.html"))
    assert found["Q. 休日は？"].endswith("A. 土日です。")
    assert found["Q. 祝日は？"] == "Q. 祝日は？\nA. 休みです。"


def test_word_and_its_tables(parse) -> None:
    paper = docx.Document()
    for line in ("Q1. 休日は？", "A1. 土日です。", "Q2. 祝日は？", "A2. 休みです。"):
        paper.add_paragraph(line)
    table = paper.add_table(rows=3, cols=2)
    rows = [("質問", "回答"), ("食堂はありますか", "三階にあります"), ("駐輪場は", "ありません")]
    for row, said in zip(table.rows, rows, strict=True):
        row.cells[0].text, row.cells[1].text = said
    out = io.BytesIO()
    paper.save(out)
    found = pairs(parse(out.getvalue(), "a.docx"))
    assert found["Q1. 休日は？"] == "Q1. 休日は？\nA1. 土日です。"
    assert found["食堂はありますか"] == "食堂はありますか | 三階にあります"
    assert found["駐輪場は"].endswith("ありません")


def workbook(*rows: tuple[object, ...]) -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "FAQ"
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def test_rows_of_a_sheet(parse) -> None:
    data = workbook(("質問", "回答"), ("食堂は？", "三階です"), ("駐輪場は？", "ありません"))
    document = parse(data, "a.xlsx")
    assert held(document) == [
        ("食堂は？", "FAQ\n質問 | 回答\n食堂は？ | 三階です"),
        ("FAQ!A3 · 駐輪場は？", "駐輪場は？ | ありません"),
    ]


def test_rows_of_a_long_table_that_name_their_columns(parse) -> None:
    head = ("No.", "分類", "質問内容", "回答")
    rows = [
        (n, "総務", f"{n} 番の窓口はどこですか", f"{n} 階の総務部です。" * 4) for n in range(1, 30)
    ]
    found = pairs(parse(workbook(head, *rows), "a.xlsx"))
    assert found["17 番の窓口はどこですか"].endswith("17 階の総務部です。" * 4)
    assert "No.: 17 | 分類: 総務 | 質問内容: 17 番" in found["17 番の窓口はどこですか"]
    lines = "\n".join(",".join(map(str, row)) for row in (head, *rows))
    assert "17 番の窓口はどこですか" in pairs(parse(lines.encode(), "a.csv"))


def test_a_table_of_other_things_has_no_pairs(parse) -> None:
    document = parse(workbook(("品名", "単価"), ("鉛筆", 100), ("消しゴム", 80)), "a.xlsx")
    assert [m.label for m in document.marks if m.kind == "section"] == ["FAQ"]


def test_a_pdf(parse) -> None:
    pdfmetrics.registerFont(UnicodeCIDFont(FONT))
    out, canvas = begun()
    canvas.setFont(FONT, 10)
    for n, line in enumerate(FAQ.splitlines()):
        canvas.drawString(72, 760 - 20 * n, line)
    found = pairs(parse(ended(out, canvas), "a.pdf"))
    assert "内線 5120" in found["Q1. パスワードを忘れたときはどうしますか。"]
    assert "\nA2. 使えません。" in found["Q2. 休職中も使えますか？"]
