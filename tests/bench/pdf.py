"""Pages of PDFs read in a second of one core, file by file: `python -m tests.bench.pdf [FILE …]`.

Without files: plain pages made here, the sample company's PDFs, and the corpus. Processor time, not
the clock's, so that neighbours on the machine disturb little; run it on two checkouts in turn to
compare them.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pypdfium2
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from appliance.errors import Permanent
from appliance.formats import pdf

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "installer" / "sample", ROOT / "tests" / "corpus")
PAGES = 100
LATIN = (
    "The quick brown fox jumps over the lazy dog, and nothing is wrong with that at all, he said."
)
JAPANESE = "従業員が業務のため出張するときは、この規程の定めるところにより、交通費、宿泊費および日当を支給する。"


def main() -> None:
    parser = argparse.ArgumentParser(description="How many pages of a PDF are read in a second.")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pages, spent_s = 0, 0.0
    for name, data in chosen(options.files):
        best_s = min(seconds(data) for _ in range(options.rounds))
        try:
            count = len(pypdfium2.PdfDocument(data))
        except pypdfium2.PdfiumError:
            continue
        pages, spent_s = pages + count, spent_s + best_s
        print(f"{count / best_s:7.0f} pages/s  {count:4} pages  {name}")
    print(f"{pages / spent_s:7.0f} pages/s  {pages:4} pages  in all")


def chosen(files: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    if not files:
        yield "plain, Latin", plain("Helvetica", LATIN, 45)
        pdfmetrics.registerFont(UnicodeCIDFont("HeiseiMin-W3"))
        yield "plain, Japanese", plain("HeiseiMin-W3", JAPANESE, 38)
    for file in files or sorted(f for folder in FOLDERS for f in folder.rglob("*.pdf")):
        yield file.name, file.read_bytes()


def plain(font: str, text: str, lines: int) -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    for page in range(PAGES):
        canvas.setFont(font, 10)
        for n in range(lines):
            canvas.drawString(60, 780 - 16 * n, f"{page}.{n} {text}")
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def seconds(data: bytes) -> float:
    """Of this core's time."""
    began = time.process_time()
    with suppress(Permanent):  # a scan is told quickly too
        pdf.parse(io.BytesIO(data))
    return time.process_time() - began


if __name__ == "__main__":
    main()
