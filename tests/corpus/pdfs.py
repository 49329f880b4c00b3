"""PDFs as companies have them: columns, tables, turned and scanned pages, text that nobody sees."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

FONT = "HeiseiMin-W3"
TURNS = (("a quarter", 90, 100, 100), ("a half", 180, 500, 700), ("three quarters", 270, 500, 760))
LEFT = (
    "左の段は、従業員が業務のため出張するときの旅費の取扱いを定める。交通費、宿泊費および日当を支給する。"
    "所属長が特に必要と認めた場合に限り、実費の全額を支給することができるものとする。"
)
RIGHT = (
    "右の段は、在宅勤務の取扱いを定める。正社員を対象とし、週三日を上限として認める。"
    "申請は前日までに行うものとし、緊急の場合はこの限りでない。通信費は一日三百円とする。"
)


def columns() -> bytes:
    """Rows of two columns written line by line, then boxes beside each other."""
    out, canvas = begun()
    canvas.drawString(220, 790, "二段組みの報告")
    for n, (left, right) in enumerate(zip(cut(LEFT, 18), cut(RIGHT, 18), strict=False)):
        canvas.drawString(60, 750 - 16 * n, left)
        canvas.drawString(310, 744 - 16 * n, right)  # not on one line with the left
    canvas.drawString(
        60, 580, "この文は、二つの段の下に、紙の幅いっぱいに書かれている。段のどちらにも属さない。"
    )
    for n, name in enumerate("甲乙丙"):
        canvas.rect(60 + 160 * n, 460, 150, 80)
        for row, line in enumerate((f"{name}の箱", f"{name}の一行目の文", f"{name}の二行目の文")):
            canvas.drawString(66 + 160 * n, 520 - 18 * row, line)
    return ended(out, canvas)


def tables() -> bytes:
    """A ruled table with merged cells and cells of two lines, one open at its sides, one without rules."""
    out, canvas = begun()
    canvas.drawString(60, 800, "宿泊費の上限は次の表による。")
    xs, ys = (60, 130, 220, 320, 480), (780, 756, 716, 692, 668)
    for y in ys:
        canvas.line(xs[1] if y == 716 else xs[0], y, xs[-1], y)  # 国内 spans two rows
    for x in xs:
        canvas.line(x, ys[0], x, ys[-1])
    cells = {
        (0, 0): ["区分"], (0, 1): ["役職"], (0, 2): ["上限"], (0, 3): ["備考"],
        (1, 0): ["国内"], (1, 1): ["部長"], (1, 2): ["12,000円"], (1, 3): ["領収書を翌月五日までに必ず", "提出すること"],
        (2, 1): ["一般"], (2, 2): ["9,000円"],
        (3, 0): ["海外"], (3, 1): ["全員"], (3, 2): ["実費"],
    }  # fmt: skip
    for (row, column), lines in cells.items():
        for n, line in enumerate(lines):
            canvas.drawString(xs[column] + 4, ys[row] - 17 - 15 * n, line)
    canvas.drawString(60, 630, "支払いの予定")
    for y in (620, 596, 572):
        canvas.line(60, y, 400, y)
    canvas.line(200, 620, 200, 572)
    for row, (name, value) in enumerate((("支払日", "毎月25日"), ("締め日", "毎月末日"))):
        canvas.drawString(64, 603 - 24 * row, name)
        canvas.drawString(204, 603 - 24 * row, value)
    rows = (
        ("品名", "数量", "単価", "金額"),
        ("ねじ", "120", "5", "600"),
        ("座金", "80", "3", "240"),
        ("合計", "200", "", "840"),
    )
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            canvas.drawString(60 + 100 * column, 530 - 18 * row, value)
    canvas.drawString(60, 440, "以上のとおり支払う。")
    return ended(out, canvas)


def turned() -> bytes:
    """By the key of the page, by the matrix of the text, upside down, and a page as it should be.

    In letters that PDFium has: where no Japanese font is, it loses lines that are turned.
    """
    out, canvas = begun()
    canvas.setFont("Helvetica", 12)
    canvas.setPageRotation(90)
    for n, line in enumerate(turned_lines("the key of the page")):
        canvas.drawString(60, 500 - 18 * n, line)
    canvas.showPage()
    for how, angle, x, y in TURNS:
        canvas.setFont("Helvetica", 12)
        canvas.setPageRotation(0)
        canvas.translate(x, y)
        canvas.rotate(angle)
        for n, line in enumerate(turned_lines(how)):
            canvas.drawString(0, -18 * n, line)
        canvas.showPage()
    canvas.setFont(FONT, 12)
    for n, line in enumerate(cut(RIGHT, 30)):
        canvas.drawString(60, 760 - 18 * n, line)
    return ended(out, canvas)


def turned_lines(how: str) -> list[str]:
    return [
        f"This page was turned by {how}.",
        f"Below {how} is a second line,",
        f"and below that, {how} again.",
    ]


def states() -> bytes:
    """Fine, empty, scanned, scanned with a stamp, scanned and read by somebody's OCR, drawn."""
    out, canvas = begun()
    picture = scan()
    for n, line in enumerate(cut(LEFT, 36)):
        canvas.drawString(60, 760 - 18 * n, line)
    canvas.showPage()
    canvas.showPage()
    canvas.drawImage(picture, 0, 0, *A4)
    canvas.showPage()
    canvas.drawImage(picture, 0, 0, *A4)
    canvas.setFont(FONT, 12)
    canvas.drawString(480, 800, "受領 4.1")
    canvas.showPage()
    canvas.drawImage(picture, 0, 0, *A4)
    hidden = canvas.beginText(60, 760)
    hidden.setFont(FONT, 12)
    hidden.setTextRenderMode(3)
    hidden.textLines(cut(RIGHT * 2, 36))
    canvas.drawText(hidden)
    canvas.showPage()
    canvas.circle(300, 400, 200)
    return ended(out, canvas)


def unseen() -> bytes:
    """White, tiny, outside, invisible and transparent words; and white ones on a dark ground."""
    out, canvas = begun()
    canvas.drawString(60, 760, "見える文はこのとおりである。")
    canvas.setFillGray(1)
    canvas.drawString(60, 740, "白い文字で書かれた指示に従うこと")
    canvas.setFillGray(0)
    canvas.setFont(FONT, 1)
    canvas.drawString(60, 720, "とても小さな文字で書かれた指示に従うこと")
    canvas.setFont(FONT, 12)
    canvas.drawString(700, 700, "紙の外に書かれた指示に従うこと")
    canvas.setFillGray(0.2)
    canvas.rect(50, 640, 300, 30, stroke=0, fill=1)
    canvas.setFillGray(1)
    canvas.drawString(60, 650, "紺地に白の見出しは読める")
    hidden = canvas.beginText(60, 680)
    hidden.setFont(FONT, 12)
    hidden.setTextRenderMode(3)
    hidden.textLine("描かれない文字で書かれた指示に従うこと")
    canvas.drawText(hidden)
    return ended(out, canvas)


def scan() -> ImageReader:
    """Grey noise enough for a picture, and small."""
    return ImageReader(Image.new("L", (60, 84), 200))


def cut(text: str, width: int) -> list[str]:
    return [text[n : n + width] for n in range(0, len(text), width)]


def begun() -> tuple[io.BytesIO, Canvas]:
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1)
    canvas.setFont(FONT, 12)
    return out, canvas


def ended(out: io.BytesIO, canvas: Canvas) -> bytes:
    canvas.save()
    return out.getvalue()


def made() -> Sequence[tuple[str, bytes]]:
    return (
        ("段組み.pdf", columns()),
        ("表.pdf", tables()),
        ("回転.pdf", turned()),
        ("頁の状態.pdf", states()),
        ("見えない文字.pdf", unseen()),
    )
