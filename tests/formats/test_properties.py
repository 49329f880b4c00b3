"""What a file says beside its text: who made it and when, and what stands at its pages' edges."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from appliance.text import personal
from appliance.types import Properties
from tests.formats.test_office import RELS, excel, packed, word

CORE = (
    '<cp:coreProperties xmlns:cp="c" xmlns:dc="d" xmlns:dcterms="t"><dc:creator>{}</dc:creator>'
    "<dcterms:created>{}</dcterms:created></cp:coreProperties>"
)
PACKAGE = (
    f'<Relationships><Relationship Id="r" Type="{RELS}/officeDocument" Target="word/document.xml"/>'
    f'<Relationship Id="p" Type="x/core-properties" Target="docProps/core.xml"/></Relationships>'
)
BODY = "<document><body><p><r><t>本文です。</t></r></p></body></document>"


def test_word_says_who_and_when_and_has_a_header(parse) -> None:
    head = "<hdr><p><r><t>株式会社蔵製作所</t></r></p><p><r><t>社外秘</t></r></p></hdr>"
    data = word(
        BODY,
        **{
            "_rels/.rels": PACKAGE,
            "docProps/core.xml": CORE.format("伊藤 花子", "2024-04-01T09:00:00Z"),
            "word/header1.xml": head,
            "word/header2.xml": head,
            "word/_rels/document.xml.rels": "<Relationships>"
            + "".join(
                f'<Relationship Id="h{n}" Type="{RELS}/header" Target="header{n}.xml"/>'
                for n in (1, 2, 3)
            )
            + "</Relationships>",
        },
    )
    document = parse(data, "a.docx")
    assert document.properties == Properties(
        "伊藤 花子", date(2024, 4, 1), ("株式会社蔵製作所", "社外秘")
    )
    assert document.text == "本文です。"


@pytest.mark.parametrize("created", ["", "soon", "2024-02-31T00:00:00Z", "0000-00-00"])
def test_a_day_that_is_none_is_none(parse, created: str) -> None:
    data = word(BODY, **{"_rels/.rels": PACKAGE, "docProps/core.xml": CORE.format(" ", created)})
    assert parse(data, "a.docx").properties == Properties()


def test_opendocument_says_so_too(parse) -> None:
    data = packed(
        mimetype="application/vnd.oasis.opendocument.text",
        **{
            "content.xml": "<document-content><body><text><p>本文です。</p></text></body></document-content>",
            "meta.xml": "<document-meta><meta><initial-creator>佐藤</initial-creator>"
            "<creation-date>2023-10-02T10:00:00</creation-date></meta></document-meta>",
            "styles.xml": "<document-styles><master-styles><master-page><header><p>取扱注意</p>"
            "</header></master-page></master-styles></document-styles>",
        },
    )
    found = parse(data, "a.odt").properties
    assert found == Properties("佐藤", date(2023, 10, 2), ("取扱注意",))


@pytest.mark.parametrize("rows", [2, 40])
def test_numbers_in_a_column_are_what_its_head_calls_them(parse, rows: int) -> None:
    """A few rows stay a table, many name their columns; a 0 in front is lost to Excel."""
    text = '<c r="{}" t="inlineStr"><is><t>{}</t></is></c>'
    sheet = "".join(
        [
            '<row r="1">',
            *(
                text.format(f"{c}1", w)
                for c, w in zip("ABC", ("氏名", "個人番号", "注文番号"), strict=True)
            ),
            "</row>",
            *(
                f'<row r="{n}">{text.format(f"A{n}", "伊藤")}<c r="B{n}"><v>12345678903</v></c>'
                f'<c r="C{n}"><v>123456789018</v></c></row>'
                for n in range(2, rows + 2)
            ),
        ]
    )
    document = parse(excel(f"<worksheet><sheetData>{sheet}</sheetData></worksheet>"), "a.xlsx")
    assert ("個人番号: 1" in document.text) == (rows == 40)
    assert personal.counted(document.text) == {"my_number": rows}
    assert "12345678903" not in personal.without(document).text
    assert document.text.count("123456789018") == rows


def test_the_running_heads_of_a_pdf_are_kept_beside_its_text(parse, corpus: Path) -> None:
    document = parse((corpus / "規程.pdf").read_bytes(), "規程.pdf")
    assert any("蔵前精機" in line for line in document.properties.edges)
    assert "蔵前精機" not in document.text
    assert len(set(document.properties.edges)) == len(document.properties.edges)
