from __future__ import annotations

import io
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from appliance.formats import pdf_maps, pdf_order
from appliance.formats.draft import UNSEEN
from appliance.formats.pdf_pieces import Piece
from appliance.formats.sandbox import Sandbox
from tests.corpus.attack import SHOWN
from tests.corpus.hostile_pdf import pdf as made_of
from tests.corpus.hostile_pdf import said, simple, stream
from tests.quality.footprint import Footprint

pdfmetrics.registerFont(UnicodeCIDFont("HeiseiMin-W3"))


def test_text_comes_in_pages_and_articles(parse, corpus: Path) -> None:
    document = parse((corpus / "規程.pdf").read_bytes(), "規程.pdf")
    pages = {m.page: m for m in document.marks if m.kind == "page"}
    assert [pages[n].label for n in (1, 2, 4)] == ["p. 1", "p. 2", "p. 4"]
    assert document.text[pages[4].start :].startswith("第2章")
    sections = {m.label: m for m in document.marks if m.kind == "section"}
    assert set(sections) == {
        "第1章 総則", "第1条 目的", "第2条 定義", "第2章 宿泊費", "第12条 宿泊費", "附則",
    }  # fmt: skip
    assert document.text[sections["第12条 宿泊費"].start :].startswith("第12条（宿泊費）")
    assert document.title == "出張旅費規程"


def test_running_heads_and_page_numbers_are_not_text(parse, corpus: Path) -> None:
    text = parse((corpus / "規程.pdf").read_bytes(), "規程.pdf").text
    assert "蔵前精機" not in text
    assert "- 4 -" not in text


def test_lines_broken_by_the_margin_are_whole_again(parse, corpus: Path) -> None:
    text = parse((corpus / "規程.pdf").read_bytes(), "規程.pdf").text
    assert "交通費、宿泊費および日当を支給する。" in text
    assert (
        "所属長が特に必要と認めた場合に限り、実費の全額を支給することができるものとする。" in text
    )
    assert "第1条（目的）\n従業員が" in text


def test_a_page_that_is_a_picture_is_a_problem_not_a_silence(parse, corpus: Path) -> None:
    document = parse((corpus / "規程.pdf").read_bytes(), "規程.pdf")
    assert document.problems == ("p. 3 にテキストがありません (画像のみ)",)


def test_a_scan_says_that_it_needs_ocr(parse, corpus: Path) -> None:
    with pytest.raises(Unreadable, match="画像のみ"):
        parse((corpus / "画像のみ.pdf").read_bytes(), "画像のみ.pdf")


def test_a_locked_file_asks_for_its_password(parse, corpus: Path) -> None:
    with pytest.raises(PasswordNeeded, match="パスワード"):
        parse((corpus / "要パスワード.pdf").read_bytes(), "x.pdf")


@pytest.mark.parametrize("cut", [40, 700, 3000])
def test_a_torn_file_is_text_or_a_reason(parse, corpus: Path, cut: int) -> None:
    data = (corpus / "規程.pdf").read_bytes()[:cut]
    with pytest.raises(Unreadable):
        parse(data, "規程.pdf")


def test_pages_without_a_map_of_their_letters_are_left_out(parse, corpus: Path) -> None:
    document = parse((corpus / "一部文字化け.pdf").read_bytes(), "一部文字化け.pdf")
    assert document.text.replace("\n", "") == (
        "宿泊費の上限宿泊費は1泊12,000円を上限とする。上限をこえる宿泊費は、上限とする。"
    )
    assert document.problems == ("p. 2 の文字が化けているため読んでいません",)
    assert [(p.state, p.read) for p in document.pages[:2]] == [
        ("fine", "text"),
        ("garbled", "none"),
    ]
    with pytest.raises(Unreadable, match="化けて"):
        parse((corpus / "文字化け.pdf").read_bytes(), "文字化け.pdf")


def test_a_letter_by_itself_is_read_though_its_font_is_not_in_the_file(parse) -> None:
    out = io.BytesIO()
    canvas = Canvas(out)
    canvas.setFont("HeiseiMin-W3", 12)
    for n, sign in enumerate("月火水木金"):
        canvas.rect(50, 700 - 30 * n, 40, 30)
        canvas.rect(90, 700 - 30 * n, 80, 30)
        canvas.drawString(60, 710 - 30 * n, sign)
        canvas.drawString(100, 710 - 30 * n, "第三会議室")
    canvas.save()
    rows = [f"{sign} | 第三会議室" for sign in "月火水木金"]
    assert parse(out.getvalue(), "当番.pdf").text.split("\n") == rows


def test_two_columns_are_read_one_after_the_other(parse, corpus: Path) -> None:
    text = parse((corpus / "段組み.pdf").read_bytes(), "段組み.pdf").text
    assert text.startswith(
        "二段組みの報告\n左の段は、従業員が業務のため出張するときの旅費の取扱いを"
    )
    assert (
        "実費の全額を支給することができるものとする。\n右の段は、在宅勤務の取扱いを定める。" in text
    )
    assert (
        "申請は前日までに行うものとし、緊急の場合はこの限りでない。通信費は一日三百円とする。"
        in text
    )
    below = text.split("通信費は一日三百円とする。\n")[1].split("\n")
    assert below == [
        "この文は、二つの段の下に、紙の幅いっぱいに書かれている。段のどちらにも属さない。",
        *(line for n in "甲乙丙" for line in (f"{n}の箱", f"{n}の一行目の文", f"{n}の二行目の文")),
    ]


def test_what_stands_above_and_between_columns_keeps_its_place(parse) -> None:
    words = [
        (400, 780, "令和6年4月1日"), (60, 740, "背景のこと"), (310, 740, "提案のこと"),
        (60, 720, "市場は年5%で伸びている"), (310, 720, "型番を統一して売る"),
        (60, 700, "競合は三社である"), (310, 700, "価格は据え置く"),
        (60, 660, "結論は次のとおり"),
        (60, 620, "東京本社"), (230, 620, "諏訪工場"), (400, 620, "大阪支社"),
        (60, 602, "東京都台東区蔵前"), (230, 602, "長野県諏訪市四賀"), (400, 602, "大阪府大阪市中央区"),
        (60, 584, "電話は一番である"), (230, 584, "電話は二番である"), (400, 584, "電話は三番である"),
    ]  # fmt: skip
    columns = [words[i] for i in (0, 1, 3, 5, 2, 4, 6, 7, 8, 11, 14, 9, 12, 15, 10, 13, 16)]
    text = parse(written([*columns[8:], *columns[:8]]), "x.pdf").text
    assert text.split("\n") == [word for _, _, word in columns]


def test_columns_whose_lines_stand_half_a_line_apart_are_read(parse) -> None:
    """None of those at the right stands beside one at the left, or begins where others do below."""
    left = [
        "市場は毎年五分ずつ伸びている", "競合は三社でありいずれも大きい", "結論は次の頁のとおりである",
        "以上のことを報告して終わる", "左の段の五行目を書いておく",
    ]  # fmt: skip
    right = [
        "型番を統一して売ることにする", "価格は据え置くことにしている", "在庫は半分に減らすつもりだ",
        "広告は地方の新聞にも載せる",
    ]  # fmt: skip
    across = "この文は、二つの段の下に、紙の幅いっぱいに書かれている。段のどちらにも属さない。"
    below = [f"紙の右に書いた{n}番目の文" for n in range(5)]
    words = [
        *((60, 740 - 24 * n, line) for n, line in enumerate(left)),
        *((330, 728 - 24 * n, line) for n, line in enumerate(right)),
        (60, 560, across),
        *((300, 520 - 20 * n, line) for n, line in enumerate(below)),
    ]
    text = parse(written(words), "x.pdf").text
    assert "".join(text.split()) == "".join([*left, *right, across, *below])


def test_tables_are_rows_with_their_cells(parse, corpus: Path) -> None:
    text = parse((corpus / "表.pdf").read_bytes(), "表.pdf").text
    assert text.split("\n") == [
        "宿泊費の上限は次の表による。",
        "区分 | 役職 | 上限 | 備考",
        "国内 | 部長 | 12,000円 | 領収書を翌月五日までに必ず提出すること",  # two lines of a cell
        "国内 | 一般 | 9,000円",  # 国内 spans two rows
        "海外 | 全員 | 実費",
        "支払いの予定",
        "支払日 | 毎月25日",  # open at its sides
        "締め日 | 毎月末日",
        "品名 | 数量 | 単価 | 金額",  # without rules
        "ねじ | 120 | 5 | 600",
        "座金 | 80 | 3 | 240",
        "合計 | 200 | 840",
        "以上のとおり支払う。",
    ]


def test_names_beside_their_values_stay_with_them(parse) -> None:
    rows = [
        ("申請者の氏名", "蔵前一郎"),
        ("所属する部署", "総務部総務課"),
        ("出張先の名前", "諏訪工場第二棟"),
    ]
    words = [
        (60 + 240 * k, 700 - 20 * n, w) for n, row in enumerate(rows) for k, w in enumerate(row)
    ]
    text = parse(written(words), "x.pdf").text
    assert text.split("\n") == [f"{name} {value}" for name, value in rows]


def test_lines_that_run_down_are_read_from_the_right(parse, corpus: Path) -> None:
    document = parse((corpus / "縦書き.pdf").read_bytes(), "縦書き.pdf")
    assert document.text.replace("\u3000", " ").split("\n") == [
        "文書の保管",
        "第一条（保管） 文書は蔵に保管し、鍵は総務部が管理する。"  # くら is ruby
        "ただし、所属長が特に必要と認めた場合に限り、部の書架に保管することができる。",
        "第二条（期間） 保管の期間は10年とし、「永年」とされたものは、この限りでない。",
    ]
    assert document.pages[0].state == "fine"


def test_turned_pages_are_read_upright_and_say_so(parse, corpus: Path) -> None:
    document = parse((corpus / "回転.pdf").read_bytes(), "回転.pdf")
    assert [p.state for p in document.pages] == ["rotated"] * 4 + ["fine"]
    assert " ".join(document.text.split()).startswith(
        " ".join(
            f"This page was turned by {how}. Below {how} is a second line, and below that, {how} again."
            for how in ("the key of the page", "a quarter", "a half", "three quarters")
        )
    )


def test_each_page_is_judged(parse, corpus: Path) -> None:
    document = parse((corpus / "頁の状態.pdf").read_bytes(), "頁の状態.pdf")
    assert [(p.number, p.state, p.read) for p in document.pages] == [
        (1, "fine", "text"),
        (2, "empty", "none"),
        (3, "scanned", "none"),
        (4, "scanned", "text"),  # a stamp over a picture
        (5, "fine", "text"),  # somebody's OCR wrote invisible letters over the picture
        (6, "scanned", "none"),  # a drawing
    ]
    sure = [p.sure for p in document.pages]
    assert sure[0] > sure[4] > 0.5  # letters alone are surer than letters over a picture
    assert sure[2] > sure[3] > 0.5
    assert "通信費は一日三百円とする。" in document.text
    assert document.problems == (
        "p. 3、6 にテキストがありません (画像のみ)",
        "p. 4 はほとんど画像です (文字はわずかです)",
    )


def test_a_scan_with_page_numbers_alone_needs_ocr(parse) -> None:
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    for n in (1, 2):
        canvas.drawInlineImage(Image.new("L", (60, 84), 200), 0, 0, 595, 842)
        canvas.drawString(290, 30, str(n))
        canvas.showPage()
    canvas.save()
    with pytest.raises(Unreadable, match="OCR"):
        parse(out.getvalue(), "x.pdf")


def test_white_paper_is_told_from_a_scan(parse) -> None:
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    canvas.showPage()
    canvas.save()
    with pytest.raises(Unreadable, match="白紙"):
        parse(out.getvalue(), "x.pdf")


def test_what_nobody_sees_is_kept_apart(parse, corpus: Path) -> None:
    document = parse((corpus / "見えない文字.pdf").read_bytes(), "見えない文字.pdf")
    assert document.text == "見える文はこのとおりである。\n紺地に白の見出しは読める"
    assert document.problems == (UNSEEN,)


def test_a_stamp_across_the_page_comes_after_its_text(parse) -> None:
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    canvas.rotate(45)
    canvas.drawString(300, 100, "CONFIDENTIAL")
    canvas.rotate(-45)
    canvas.drawString(60, 700, "The first line of a short letter.")
    canvas.drawString(60, 680, "The second line.")
    canvas.save()
    document = parse(out.getvalue(), "x.pdf")
    assert document.text == "The first line of a short letter.\nThe second line.\nCONFIDENTIAL"
    assert document.pages[0].state == "fine"
    assert document.pages[0].sure < 1


def written(words: list[tuple[int, int, str]]) -> bytes:
    """Each at its place, from the lower left corner."""
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    canvas.setFont("HeiseiMin-W3", 12)
    for x, y, word in words:
        canvas.drawString(x, y, word)
    canvas.save()
    return out.getvalue()


def test_comments_forms_and_attached_files(parse, corpus: Path) -> None:
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    canvas.drawString(60, 760, "Travel request of the day, to be filled in and sent.")
    canvas.textAnnotation("部長の承認を得ること", Rect=[100, 100, 120, 120], addtopage=1)
    canvas.acroForm.textfield(name="Destination", value="Suwa plant", x=60, y=600)
    canvas.save()
    pdf = pypdfium2.PdfDocument(out.getvalue())
    pdf.new_attachment("規程.docx").set_data((corpus / "規程.docx").read_bytes())
    saved = io.BytesIO()
    pdf.save(saved)
    document = parse(saved.getvalue(), "申請.pdf")
    assert document.text.startswith("Travel request of the day, to be filled in and sent.\n")
    assert "（コメント: 部長の承認を得ること）" in document.text
    assert "Destination: Suwa plant" in document.text
    (child,) = document.children
    assert child.path == "規程.docx" and child.document
    assert "終日 | 300円" in child.document.text and "300円" not in document.text


def test_half_a_letter_in_the_title_does_not_lose_the_document(parse) -> None:
    data = simple(None, b"<</Title<FEFF898F7A0BD800>>>", trailer=b"/Info 5 0 R")
    document = parse(data, "a.pdf")
    assert document.text == SHOWN and document.title is None


def forms(last: bytes, times: int, deep: int, drawn: bytes | None = None) -> bytes:
    """A page with a form that draws the next so often, and so on; `last` says what the last may draw."""
    again = b"/X Do " * times
    head = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]"
    names = b"/Resources<</XObject<</X %d 0 R>>>>"
    above = (stream(again, head + names % (n + 6)) for n in range(deep))
    end = stream(again if drawn is None else drawn, head + last)
    return simple(b"/X Do\n", *above, end, resources=b"/XObject<</X 5 0 R>>")


@pytest.mark.parametrize(
    "data",
    [
        forms(b"/Resources<</XObject<</X 99 0 R/Y 5 0 R>>>>", 10, 12),
        forms(b"/Resources<</XObject<</X 7 0 R>>>>", 10, 2),  # itself
        forms(b"", 10, 2),  # what is above it may draw: itself too
        forms(b"/ResourceS<</XObject<</X 4 0 R>>>>", 10, 2),  # the same: that is another word
        forms(b"/Resources<<>>", 10, 2),  # what the page may draw: the first
        forms(b"/Resources 8 0 R", 10, 2) + b"8 0 obj\n<</XObject 9 0 R>>\nendobj\n9 0 obj\n<</X 5 0 R>>\nendobj\n",
    ],
)  # fmt: skip
def test_forms_in_forms_without_end_are_refused(parse, data: bytes) -> None:
    with pytest.raises(TooLarge, match="図形の入れ子で 200,000 個を超える"):
        parse(data, "a.pdf")


def test_forms_in_forms_are_read(parse) -> None:
    assert parse(forms(b"", 40, 2, b"0 0 1 1 re f"), "a.pdf").text == SHOWN


@pytest.mark.parametrize("broken", [False, True])
def test_a_letter_that_stands_for_a_book_is_refused(parse, broken: bool) -> None:
    with pytest.raises(TooLarge, match="1 文字が 100 文字を超えて"):
        parse(letters(b"7206" * 400, broken), "a.pdf")


def test_a_page_packed_again_and_again_is_refused_before_it_is_unpacked(
    sandbox: Sandbox, raw, corpus: Path
) -> None:
    bomb = (corpus / "hostile" / "pdf" / "圧縮爆弾.pdf").read_bytes()
    with Footprint(sandbox.pid) as foot, pytest.raises(TooLarge, match="展開後 100 MB を超え"):
        sandbox.parse(raw(bomb, "圧縮爆弾.pdf"))
    assert foot.peak_bytes < 150_000_000


def test_a_form_packed_twice_is_reckoned_too(parse) -> None:
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X %d 0 R>>>>"
    nested = [stream(b"/X Do /X Do " * 5, form % (n + 6), times=2) for n in range(12)]
    data = simple(b"/X Do\n", *nested, stream(b"BT ET"), resources=b"/XObject<</X 5 0 R>>")
    with pytest.raises(TooLarge, match="図形の入れ子"):
        parse(data, "入れ子.pdf")


def test_a_letter_that_stands_for_a_word_is_read(parse) -> None:
    assert (
        "株式会社" * 3
        in parse(letters("株式会社".encode("utf-16-be").hex().encode()), "a.pdf").text
    )


def test_a_thousand_letters_without_a_sign_cost_no_page(parse) -> None:
    assert parse(letters(b"fffe", times=3000), "a.pdf").text == SHOWN


def letters(stands_for: bytes, broken: bool = False, times: int = 20) -> bytes:
    """A page that also shows letters of a font in which each stands for something else."""
    table = stream(
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap 1 begincodespacerange <0000><ffff> "
        b"endcodespacerange 1 beginbfchar\n<0041> <%s>\nendbfchar endcmap end end" % stands_for
    )
    if broken:
        table = table.replace(b"\nendstream", b"", 1)[:-4] + b"\nendstream"
    shown = stream(f"BT /G 9 Tf 50 50 Td <{'0041' * times}> Tj ET".encode())
    data = simple(None, table, shown, page=b"/Contents[4 0 R 6 0 R]")
    font = data[data.index(b"/F <<") + 3 : data.index(b">>>>", data.index(b"/F <<")) + 2]
    second = font.replace(b"/Encoding", b"/ToUnicode 5 0 R/Encoding")
    return data.replace(b"/Contents 4 0 R", b"", 1).replace(
        b"/F " + font, b"/F " + font + b"/G " + second
    )


def test_letters_beyond_all_numbers_stand_on_no_page() -> None:
    """A broken matrix puts them there (found by the fuzz of seed 6)."""
    near = Piece("規程", 60.0, 80.0, 84.0, 92.0, 12.0)
    far = Piece("遠く", float("inf"), float("nan"), float("inf"), 92.0, 12.0)
    assert [line.text for line in pdf_order.lines([far, near])] == ["規程"]


def test_letters_whose_direction_is_no_number_are_read(parse) -> None:
    """Two matrices beyond all numbers, and one of zeros (found by the fuzz of seed 13)."""
    shown = said("縦", before="0 1 -1 0 50 700 Tm")
    far = b"q " + 2 * (b"%s 0 0 %s 0 0 cm " % (2 * (b"9" * 30 + b".0",))) + shown + b"Q"
    assert SHOWN in parse(simple(far), "規程.pdf").text


def test_latin_letters_of_ghostscript_stay_what_they_are() -> None:
    head = b"begincmap 1 begincodespacerange <00><ff> endcodespacerange "
    latin = head + b"<4f><4f><004f> <50><50><0050> <51><51><0051> endcmap"
    both = head + b"<39><39><004f> <3a><3a><0050> <ab><ab><4e5d> endcmap"
    upright = head + b"<59><59><00ff> <5a><5a><0100> endcmap"
    for told, lost in (
        (latin, {}),
        (both, {0x4F: 0x4E, 0x50: 0x4E}),
        (upright, {0xFF: 0xFE, 0x100: 0xFE}),
    ):
        made = b"/Producer(GPL Ghostscript 10.00.0)"
        assert pdf_maps.lost(simple(None, stream(told)) + made) == lost
        assert pdf_maps.lost(simple(None, stream(told))) == {}


def test_more_pages_than_a_file_has_bytes_are_refused_before_one_is_read(parse) -> None:
    levels = [
        b"<</Type/Pages/Kids[%d 0 R %d 0 R]/Count %d>>" % (n + 3, n + 3, 2 ** (16 - n))
        for n in range(16)
    ]
    page = b"<</Type/Page/MediaBox[0 0 595 842]/Parent 17 0 R>>"
    data = made_of(b"<</Type/Catalog/Pages 2 0 R>>", *levels, page)
    assert len(pypdfium2.PdfDocument(data)) == 65_536
    with pytest.raises(TooLarge, match="65,536 ページ"):
        parse(data, "a.pdf")
