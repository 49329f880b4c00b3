"""CSV and TSV: each row names its columns, so that a row found alone can be read."""

from __future__ import annotations

import csv
import io
from typing import BinaryIO

from appliance.errors import Unreadable
from appliance.formats import charset
from appliance.formats.draft import Draft, labelled, needs_labels, one_line, pipes
from appliance.types import Document

_FIELD_CHARS = 1_000_000
_MARKED_ROWS = 10_000  # beyond, only every nth row is a place to open


def parse(stream: BinaryIO) -> Document:
    decoded = charset.decode(stream.read())
    csv.field_size_limit(_FIELD_CHARS)
    try:
        rows = list(csv.reader(io.StringIO(decoded.text), delimiter=_delimiter(decoded.text)))
    except csv.Error as error:
        raise Unreadable(f"CSV として読めません ({error})") from None
    draft = Draft(tabular=True)
    draft.problems += decoded.problems
    cells = [[one_line(c) for c in row] for row in rows]
    filled = [row for row in cells if any(row)]
    header = next((n for n, row in enumerate(cells) if any(row)), 0)
    head = cells[header] if needs_labels(filled) else None
    step = 1 + len(rows) // _MARKED_ROWS
    for n, row in enumerate(cells):
        if not any(row):
            continue
        if n % step == 0:
            draft.mark(f"行 {n + 1}", "cell")
        draft.line(labelled(head, row) if head and n > header else pipes(row))
    return draft.document()


def _delimiter(text: str) -> str:
    first = text[:4096].splitlines()[:5]
    return max(",\t;", key=lambda mark: sum(line.count(mark) for line in first))
