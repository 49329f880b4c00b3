from __future__ import annotations

import io
from pathlib import Path

import pypdfium2
import pytest
from reportlab.pdfgen.canvas import Canvas

from appliance.errors import PasswordNeeded, Unreadable


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
    part = next(m for m in document.marks if m.kind == "part")
    assert document.text[part.start :].startswith("添付: 規程.docx\n")
    assert "終日 | 300円" in document.text
