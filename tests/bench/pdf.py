"""Pages of PDFs read in a second of one core: `python -m tests.bench.pdf [FILE …] [--page PAGE]`.

Without files: plain pages made here, the sample company's PDFs, and the corpus; `--page
docs/en/documents.md` keeps what each of these came to. Processor time, not
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
from tests import pages as written
from tests.quality.documents import HEAD

ROOT = Path(__file__).parents[2]
FOLDERS = {"sample company": ROOT / "installer" / "sample", "corpus": ROOT / "tests" / "corpus"}
PAGES = 100
LATIN = (
    "The quick brown fox jumps over the lazy dog, and nothing is wrong with that at all, he said."
)
JAPANESE = "従業員が業務のため出張するときは、この規程の定めるところにより、交通費、宿泊費および日当を支給する。"


def main() -> None:
    parser = argparse.ArgumentParser(description="How many pages of a PDF are read in a second.")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    totals: dict[str, tuple[int, int, float]] = {}  # files, pages, seconds
    for group, name, data in chosen(options.files):
        best_s = min(seconds(data) for _ in range(options.rounds))
        try:
            count = len(pypdfium2.PdfDocument(data))
        except pypdfium2.PdfiumError:
            continue
        files, pages, spent_s = totals.get(group, (0, 0, 0.0))
        totals[group] = files + 1, pages + count, spent_s + best_s
        print(f"{count / best_s:7.0f} pages/s  {count:4} pages  {name}")
    lines = ["| what | files | pages | pages/s |", "| --- | --- | --- | --- |"]
    for group, (files, pages, spent_s) in totals.items():
        print(f"{pages / spent_s:7.0f} pages/s  {pages:4} pages  {group}, {files} files")
        lines.append(f"| {group} | {files} | {pages} | {pages / spent_s:.0f} |")
    if options.page:
        text = f"Pages in a second of one core, the best of {options.rounds} times; wanted are 300 of plain ones."
        table = "\n".join(lines)
        command = "python -m tests.bench.pdf"
        written.section(options.page, HEAD, "6 Pages of PDFs", command, f"{text}\n\n{table}\n")


def chosen(files: Sequence[Path]) -> Iterator[tuple[str, str, bytes]]:
    """Of what kind it is, its name, and its bytes."""
    for file in files:
        yield "files", file.name, file.read_bytes()
    if files:
        return
    pdfmetrics.registerFont(UnicodeCIDFont("HeiseiMin-W3"))
    for name, font, text, lines in (
        ("Latin", "Helvetica", LATIN, 45),
        ("Japanese", "HeiseiMin-W3", JAPANESE, 38),
    ):
        size = f"{lines} lines of {len(text)} letters"
        yield f"plain, {name}, {size}", f"plain, {name}", plain(font, text, lines)
    for group, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.pdf")):
            if "hostile" not in file.parts:  # a page that comes a thousand times is none
                yield group, file.name, file.read_bytes()


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
