"""Writes the binary files beside it, the same bytes every time: `python -m tests.corpus.build`.

Small files with what goes wrong in real ones; the tests say what each is for. LibreOffice 7.4 made
some more, and no two of its runs give the same bytes: 手引き.odt and 一覧.ods from `sources/`, 一覧.xlsx from
the latter, 手引き.rtf, .doc and .docx from
the former, 提案.odp, 提案.ppt, 規程.doc and 規程.epub from the files written here, 縦書き.pdf from its source (`soffice --headless --convert-to …`).
jLHA packed `records` by -lh5-, -lh6- and -lh7- into 記録.lzh (`producers.lha`, the three one behind the other).
Chromium printed 化け.html; in 文字化け.pdf `/ToUnicode` became `/NoUnicode`, 一部文字化け.pdf has the page both ways.
"""

from __future__ import annotations

import io
import random
import re
import zipfile
from datetime import date, datetime
from pathlib import Path

import docx
import openpyxl
import pptx
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls, qn
from pptx.util import Inches
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from tests.corpus import pdfs

HERE = Path(__file__).parent
THEN = datetime(2026, 4, 1)  # noqa: DTZ001  Office files know no zones
FONT = "HeiseiMin-W3"
LONG = (
    "従業員が業務のため出張するときは、この規程の定めるところにより、交通費、宿泊費および日当を支給する。"
    "ただし、所属長が特に必要と認めた場合に限り、実費の全額を支給することができるものとする。"
)


def main() -> None:
    pdfmetrics.registerFont(UnicodeCIDFont(FONT))
    write("規程.pdf", rules_pdf())
    write("要パスワード.pdf", rules_pdf(StandardEncryption("himitsu", canPrint=0)))
    write("画像のみ.pdf", scanned_pdf())
    for name, data in pdfs.made():
        write(name, data)
    write("規程.docx", settle(rules_docx()))
    write("台帳.xlsx", settle(ledger_xlsx()))
    write("提案.pptx", settle(proposal_pptx()))


def rules_pdf(encrypt: StandardEncryption | None = None) -> bytes:
    """Four pages: running heads, lines broken by the margin, the third page a picture."""
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1, encrypt=encrypt)
    canvas.setTitle("出張旅費規程")
    articles = [
        ["第1章　総則", "第1条（目的）", *wrapped(LONG, 38)],
        ["第2条（定義）", *wrapped("前条の規定により" + LONG, 38)[:-1]],
        [],
        [
            "第2章　宿泊費",
            "第12条（宿泊費）",
            "宿泊費は1泊12,000円を上限とする。",
            "附　則",
            "この規程は令和6年4月1日から施行する。",
        ],
    ]
    for number, lines in enumerate(articles, 1):
        canvas.setFont(FONT, 9)
        canvas.drawString(60, 800, "蔵前精機株式会社　出張旅費規程")
        canvas.drawCentredString(300, 30, f"- {number} -")
        if not lines:
            canvas.rect(60, 300, 450, 400, fill=1)
            canvas.showPage()
            continue
        canvas.setFont(FONT, 12)
        for n, line in enumerate(lines):
            canvas.drawString(60, 760 - 20 * n, line)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def records() -> str:
    """A log long enough for many blocks and for the widest window."""
    rng = random.Random(1)
    return "".join(
        f"2026-04-{rng.randrange(1, 31):02} {rng.randrange(24):02}時 {rng.choice(('受入', '検査', '出荷'))} "
        f"品番KB-{rng.randrange(10_000):04} 数量{rng.randrange(1, 500)}個\n"
        for _ in range(3000)
    )


def wrapped(text: str, width: int) -> list[str]:
    return [text[n : n + width] for n in range(0, len(text), width)]


def scanned_pdf() -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1)
    for _ in range(2):
        canvas.rect(100, 100, 300, 300, fill=1)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def rules_docx() -> bytes:
    """Numbers that only Word shows (第N条), a table, deleted and hidden words, a page header."""
    document = docx.Document()
    document.core_properties.title = "在宅勤務規程"
    document.core_properties.created = document.core_properties.modified = THEN
    document.sections[0].header.paragraphs[0].text = "社外秘ヘッダー"
    number = article_numbering(document)
    document.add_heading("第1章 総則", level=1)
    for title, body in (("目的", "在宅勤務の取扱いを定める。"), ("対象者", "正社員を対象とする。")):
        paragraph = document.add_paragraph(f"（{title}）")
        paragraph._p.get_or_add_pPr().append(
            parse_xml(
                f'<w:numPr {nsdecls("w")}><w:ilvl w:val="0"/><w:numId w:val="{number}"/></w:numPr>'
            )
        )
        document.add_paragraph(body)
    document.add_heading("手当", level=2)
    table = document.add_table(rows=3, cols=3)
    cells = [["区分", "日額", "備考"], ["終日", "300円", "通信費を含む"], ["半日", "150円", ""]]
    for row, values in zip(table.rows, cells, strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = value
    document.add_paragraph("申請書を出す", style="List Bullet")
    hidden = document.add_paragraph("見える文").add_run("隠した指示")
    hidden.font.hidden = True
    deleted = OxmlElement("w:del")
    run = OxmlElement("w:r")
    text = OxmlElement("w:delText")
    text.text = "消した文"
    run.append(text)
    deleted.append(run)
    document.paragraphs[-1]._p.append(deleted)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def article_numbering(document: docx.document.Document) -> int:
    root = document.part.numbering_part.element
    root.insert(
        0,
        parse_xml(
            f'<w:abstractNum {nsdecls("w")} w:abstractNumId="90"><w:lvl w:ilvl="0"><w:start w:val="1"/>'
            '<w:numFmt w:val="decimal"/><w:lvlText w:val="第%1条"/></w:lvl></w:abstractNum>'
        ),
    )
    return int(root.add_num(90).get(qn("w:numId")))


def ledger_xlsx() -> bytes:
    book = openpyxl.Workbook()
    book.properties.created = book.properties.modified = THEN
    sheet = book.active
    sheet.title = "台帳"
    sheet.append(["備品台帳"])
    sheet.append([])
    sheet.append(["管理番号", "品名", "購入日", "金額", "検査時刻"])
    for n in range(1, 31):
        sheet.append(
            [
                f"KB-{n:03}",
                f"ノートPC {n}号",
                date(2026, 4, n),
                98_000.5 if n == 1 else 120_000,
                THEN.replace(day=n, hour=9, minute=30),
            ]
        )
    sheet["G3"] = "=SUM(D4:D33)"
    second = book.create_sheet("注意")
    second["B2"] = "持ち出しは総務部に届け出る。"
    second.merge_cells("B2:D2")
    book.create_sheet("空")
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def proposal_pptx() -> bytes:
    show = pptx.Presentation()
    show.core_properties.title = "新製品提案"
    show.core_properties.created = show.core_properties.modified = THEN
    first = show.slides.add_slide(show.slide_layouts[1])
    first.shapes.title.text = "背景"
    first.placeholders[1].text = "市場は年5%で伸びている。\n競合は3社。"
    first.notes_slide.notes_text_frame.text = "ここで質問を受ける"
    second = show.slides.add_slide(show.slide_layouts[5])
    second.shapes.title.text = "価格"
    table = second.shapes.add_table(2, 2, Inches(1), Inches(2), Inches(4), Inches(1)).table
    for at, value in {
        (0, 0): "型番",
        (0, 1): "価格",
        (1, 0): "KP-2200",
        (1, 1): "48,000円",
    }.items():
        table.cell(*at).text = value
    show.slides.add_slide(show.slide_layouts[6])
    out = io.BytesIO()
    show.save(out)
    return out.getvalue()


def settle(data: bytes) -> bytes:
    """The same zip without the time it was made at."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            entry = zipfile.ZipInfo(info.filename, (2026, 4, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            # openpyxl notes the moment it saves
            stamp = rb"\g<1>2026-04-01T00:00:00Z"
            new.writestr(entry, re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", stamp, old.read(info)))
    return out.getvalue()


def write(name: str, data: bytes) -> None:
    (HERE / name).write_bytes(data)


if __name__ == "__main__":
    main()
