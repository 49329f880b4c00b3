"""Files made to hurt."""

from __future__ import annotations

import io


def pattern_pdf(depth: int = 9, wide: int = 12) -> bytes:
    """One page whose text is read at once, and whose pattern takes 12⁹ strokes, and gigabytes, to draw."""
    cell = b"/BBox [0 0 50 50] /Resources << /XObject << /X %d 0 R >> >>"
    form = b"/Type /XObject /Subtype /Form "
    again = b"/X Do " * wide
    words = b"BT /F 12 Tf 10 10 Td (Travel rules of the company) Tj ET "
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R /Resources << "
        b"/Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> "
        b"/Pattern << /P 5 0 R >> >> >>",
        _stream(b"", words + b"/Pattern cs /P scn 0 0 200 200 re f"),
        _stream(
            b"/Type /Pattern /PatternType 1 /PaintType 1 /TilingType 1 /XStep 50 /YStep 50 "
            + cell % 6,
            again,
        ),
        *(_stream(form + cell % (n + 1), again) for n in range(6, 6 + depth)),
        _stream(form + b"/BBox [0 0 50 50]", b"0 0 1 1 re f"),
    ]
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer << /Root 1 0 R /Size %d >>\n" % (len(objects) + 1))
    out.write(b"startxref\n%d\n%%%%EOF" % table)
    return out.getvalue()


def _stream(head: bytes, data: bytes) -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (head, len(data), data)
