"""Pages of PDFs read in a second of one core, file by file: `python -m tests.bench.pdf [FILE …]`.

Without files: the sample company's, and what the corpus has. Processor time, not the clock's, so
that neighbours on the machine disturb little; run it on two checkouts in turn to compare them.
"""

from __future__ import annotations

import argparse
import io
import time
from contextlib import suppress
from pathlib import Path

import pypdfium2

from appliance.errors import Permanent
from appliance.formats import pdf

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "installer" / "sample", ROOT / "tests" / "corpus")


def main() -> None:
    parser = argparse.ArgumentParser(description="How many pages of a PDF are read in a second.")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = options.files or sorted(f for folder in FOLDERS for f in folder.rglob("*.pdf"))
    pages, spent_s = 0, 0.0
    for file in files:
        data = file.read_bytes()
        best_s = min(seconds(data) for _ in range(options.rounds))
        try:
            count = len(pypdfium2.PdfDocument(data))
        except pypdfium2.PdfiumError:
            continue
        pages, spent_s = pages + count, spent_s + best_s
        print(f"{count / best_s:7.0f} pages/s  {count:4} pages  {file.name}")
    print(f"{pages / spent_s:7.0f} pages/s  {pages:4} pages  in all")


def seconds(data: bytes) -> float:
    """Of this core's time."""
    began = time.process_time()
    with suppress(Permanent):  # a scan is told quickly too
        pdf.parse(io.BytesIO(data))
    return time.process_time() - began


if __name__ == "__main__":
    main()
