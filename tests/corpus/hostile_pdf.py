"""PDFs that loop, swell, hide or call."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from tests.corpus.attack import ORDER, SHOWN, Attack

_FONT = (
    b"<</Type/Font/Subtype/Type0/BaseFont/HeiseiMin-W3/Encoding/UniJIS-UCS2-H/DescendantFonts"
    b"[<</Type/Font/Subtype/CIDFontType0/BaseFont/HeiseiMin-W3/CIDSystemInfo<</Registry(Adobe)"
    b"/Ordering(Japan1)/Supplement 2>>/DW 1000>>]>>"
)
_CATALOG, _PAGES, _PAGE, _CONTENT = range(1, 5)


def pdf(*objects: bytes, trailer: bytes = b"") -> bytes:
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    at = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        trailer,
        at,
    )
    return bytes(out)


def stream(data: bytes, more: bytes = b"", *, times: int = 1) -> bytes:
    for _ in range(times):
        data = zlib.compress(data, 9)
    filters = b"[" + b"/FlateDecode " * times + b"]"
    return b"<</Length %d/Filter%s%s>>\nstream\n%s\nendstream" % (len(data), filters, more, data)


def said(text: str, at: tuple[int, int] = (60, 760), size: float = 12, before: str = "") -> bytes:
    return f"BT {before} /F {size} Tf {at[0]} {at[1]} Td <{text.encode('utf-16-be').hex()}> Tj ET\n".encode()


def simple(
    content: bytes | None = None, *more: bytes, catalog: bytes = b"", page: bytes = b"",
    box: bytes = b"0 0 595 842", resources: bytes = b"", trailer: bytes = b"",
) -> bytes:  # fmt: skip
    """One page that shows SHOWN; `more` are the objects from number 5."""
    shown = stream(said(SHOWN) + (content or b""))
    return pdf(
        b"<</Type/Catalog/Pages 2 0 R%s>>" % catalog,
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[%s]/Contents 4 0 R/Resources<</Font<</F %s>>%s>>%s>>"
        % (box, _FONT, resources, page),
        shown, *more, trailer=trailer,
    )  # fmt: skip


def attacks() -> Iterator[Attack]:
    for name, tries, data in _made():
        yield Attack(f"pdf/{name}.pdf", tries, data, SHOWN)
    for name, tries, data in _hiding():
        yield Attack(f"pdf/{name}.pdf", tries, data, SHOWN, ORDER)


def _made() -> Iterator[tuple[str, str, bytes]]:
    loop = b"<</Title(a)/Parent 5 0 R/Next 6 0 R/Prev 6 0 R/First 5 0 R/Dest[3 0 R/Fit]>>"
    yield (
        "しおり循環",
        "an outline that leads to itself",
        simple(
            None,
            b"<</Type/Outlines/First 6 0 R/Last 6 0 R/Count 9999999>>",
            loop,
            catalog=b"/Outlines 5 0 R",
        ),
    )
    good = simple()
    at = good.rindex(b"startxref")
    place = int(good[at:].split()[1])
    yield (
        "xref循環",
        "a cross-reference table whose predecessor is itself",
        good.replace(b"/Root 1 0 R", b"/Root 1 0 R/Prev %d" % place),
    )
    yield (
        "頁木循環",
        "a tree of pages that holds itself",
        pdf(
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[3 0 R 2 0 R]/Count 1000>>",
            *_page_of(good),
        ),
    )
    levels: Sequence[bytes] = [
        b"<</Type/Pages/Kids[%d 0 R %d 0 R]/Count %d/Parent %d 0 R>>"
        % (n + 6, n + 6, 2 ** (22 - n), n + 4)
        for n in range(22)
    ]
    yield "四百万頁", "four million pages in a tree of twenty-two pairs", pdf(
        b"<</Type/Catalog/Pages 5 0 R>>", b"null", *_page_of(good), *levels,
        b"<</Type/Page/Parent 26 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F %s>>>>>>" % _FONT,
    )  # fmt: skip
    yield "巨大用紙", "a page as large as a country", simple(box=b"0 0 1000000000 1000000000")
    yield (
        "圧縮爆弾",
        "two layers of Flate around 400 MB of spaces",
        simple(None, stream(b" " * 400_000_000, times=3), page=b"/Contents[4 0 R 5 0 R]").replace(
            b"/Contents 4 0 R", b"", 1
        ),
    )
    nested = [
        stream(
            b"/X Do /X Do " * 5,
            b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X %d 0 R>>>>"
            % (n + 6),
        )
        for n in range(12)
    ]
    yield (
        "図形の入れ子",
        "forms that draw the next ten times, twelve deep",
        simple(b"/X Do\n", *nested, stream(said("笑")), resources=b"/XObject<</X 5 0 R>>"),
    )
    own = stream(
        b"/X Do\n", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>"
    )
    yield (
        "自分を描く図形",
        "a form that draws itself",
        simple(b"/X Do\n", own, resources=b"/XObject<</X 5 0 R>>"),
    )
    image = stream(
        b"\0" * 1000,
        b"/Type/XObject/Subtype/Image/Width 200000/Height 200000/ColorSpace/DeviceRGB/BitsPerComponent 8",
    )
    yield (
        "巨大画像",
        "an image that says it has forty thousand million pixels",
        simple(b"q 500 0 0 700 0 0 cm /X Do Q\n", image, resources=b"/XObject<</X 5 0 R>>"),
    )
    yield (
        "深い配列",
        "arrays in arrays, thirty thousand deep",
        simple(None, b"[" * 30_000 + b"]" * 30_000, catalog=b"/Names 5 0 R"),
    )
    act = b"/OpenAction<</S/JavaScript/JS(app.launchURL\\('http://192.0.2.1/'\\))>>/AA<</WC<</S/Launch/F(/bin/sh)>>>>"
    yield (
        "起動と通信",
        "JavaScript, a program to launch, an address to call",
        simple(None, catalog=act),
    )
    many = stream(b"".join(said("爆", (n % 500, n // 500)) for n in range(20_000)))
    yield (
        "一字ずつ二万字",
        "twenty thousand letters, each placed by itself",
        simple(None, many, page=b"/Contents[4 0 R 5 0 R]").replace(b"/Contents 4 0 R", b"", 1),
    )
    ranges = b"".join(b"<%04x><%04x><%s>\n" % (n, n, b"7206" * 400) for n in range(256))
    cmap = stream(
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap 1 begincodespacerange <0000><ffff> endcodespacerange 256 beginbfrange\n"
        + ranges
        + b"endbfrange endcmap end end"
    )
    swelling = _FONT.replace(b"/Encoding", b"/ToUnicode 5 0 R/Encoding")
    letters = stream(f"BT /G 9 Tf 50 50 Td <{'0041' * 20000}> Tj ET".encode())
    yield (
        "膨らむ文字",
        "each letter stands for four hundred",
        simple(None, cmap, letters, page=b"/Contents[4 0 R 6 0 R]", resources=b"/ColorSpace<<>>")
        .replace(b"/Contents 4 0 R", b"", 1)
        .replace(b"/F " + _FONT, b"/F " + _FONT + b"/G " + swelling),
    )
    yield "途中で終わる", "the second half is not there", good[: len(good) // 2]
    yield (
        "偽の暗号",
        "an encryption dictionary of nonsense",
        simple(
            trailer=b"/Encrypt<</Filter/Standard/V 99/R 99/O(x)/U(y)/P -1/Length 2147483647>>/ID[(a)(a)]"
        ),
    )


def _page_of(data: bytes) -> tuple[bytes, bytes]:
    """The objects 3 and 4 of a simple file."""
    third = data[data.index(b"3 0 obj\n") + 8 :].partition(b"\nendobj")[0]
    fourth = data[data.index(b"4 0 obj\n") + 8 :].partition(b"\nendobj")[0]
    return third, fourth


def _hiding() -> Iterator[tuple[str, str, bytes]]:
    yield (
        "見えない文字",
        "text that is neither filled nor stroked",
        simple(said(ORDER, (60, 400), before="3 Tr")),
    )
    yield (
        "白い文字",
        "white letters on white paper",
        simple(b"1 g\n" + said(ORDER, (60, 400)) + b"0 g\n"),
    )
    yield "極小の文字", "letters of a tenth of a point", simple(said(ORDER, (60, 400), 0.1))
    yield "紙の外", "text outside the page", simple(said(ORDER, (60, 4000)))
    yield (
        "覆われた文字",
        "text under a white box",
        simple(said(ORDER, (60, 400)) + b"1 g 50 380 500 40 re f 0 g\n"),
    )
