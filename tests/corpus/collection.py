"""Writes the classes of the corpus and what is in them: `python -m tests.corpus.collection [CLASS …]`.

Each class is a folder beside this file; `expected.json` says of each file who wrote it and what a
reader should find, taken from the source (`writings.py`, `forms.py`), never from a parser. Files by
Python's libraries come out the same every time, those by LibreOffice, Chromium and Ghostscript
nearly. `build.py` writes the older files, which the tests name one by one.
"""

from __future__ import annotations

import json
import shutil
import sys

from tests.corpus import garbled, grid, hostile, plain, scans, tables, upright
from tests.corpus.paper import HERE, MANIFEST, Shelf, manifest

CLASSES = {
    "plain": plain.papers, "upright": upright.papers, "grid": grid.papers, "scans": scans.papers,
    "garbled": garbled.papers, "tables": tables.papers, "hostile": hostile.papers,
}  # fmt: skip


def main(names: list[str]) -> None:
    held = manifest() if MANIFEST.exists() else {}
    for name in names or CLASSES:
        shelf = Shelf()
        CLASSES[name](shelf)
        shutil.rmtree(HERE / name, ignore_errors=True)
        held = {path: said for path, said in held.items() if not path.startswith(f"{name}/")}
        for paper in shelf.papers:
            (HERE / paper.path).parent.mkdir(parents=True, exist_ok=True)
            (HERE / paper.path).write_bytes(paper.data)
            held[paper.path] = paper.expected
        size = sum(len(p.data) for p in shelf.papers)
        print(f"{name}: {len(shelf.papers)} files, {size:,} bytes", flush=True)
    text = json.dumps(held, ensure_ascii=False, indent=1, sort_keys=True)
    MANIFEST.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
