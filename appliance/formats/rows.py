"""The rows of a sheet as text, each a place to open.

In a table the rows name their columns; on 方眼紙 fields are said with their labels (`form.py`);
elsewhere a row is its cells with bars between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType

from appliance.formats import form
from appliance.formats.draft import Draft, filled, labelled, needs_labels, pipes

_MARKED_ROWS = 10_000  # beyond, only every nth row is a place to open

NO_SPANS: form.Spans = MappingProxyType({})

Row = tuple[int, list[str]]  # its number from 0, and its cells


def write_rows(draft: Draft, sheet: str, rows: Sequence[Row], spans: form.Spans = NO_SPANS) -> None:
    """Those rows of a sheet that have something in them; `spans` are its merged cells."""
    if not rows:
        return
    step, written = 1 + len(rows) // _MARKED_ROWS, 0
    draft.heading(sheet, 1)
    if form.is_form(rows, spans):
        for lines in form.blocks(rows, spans):
            for row, first, text in lines:
                draft.mark(f"{sheet}!{_column(first)}{row + 1}", "cell")
                draft.line(text)
            draft.blank()
        return
    for block in _blocks(rows):
        head_at = _header(block)
        head = block[head_at][1] if head_at is not None else None
        for n, (row, cells) in enumerate(block):
            written += 1
            if written % step == 0:
                first = next(i for i, c in enumerate(cells) if c)
                draft.mark(f"{sheet}!{_column(first)}{row + 1}", "cell")
            under = head is not None and head_at is not None and n > head_at
            draft.line(labelled(head or (), cells) if under else pipes(cells))
        draft.blank()


def _blocks(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Runs of rows without a gap."""
    block: list[Row] = []
    for row in rows:
        if block and row[0] != block[-1][0] + 1:
            yield block
            block = []
        block.append(row)
    yield block


def _header(block: Sequence[Row]) -> int | None:
    """The row that names the columns: the first of the widest ones, if it reads like names."""
    if len(block) < 2:
        return None
    rows = [cells for _, cells in block]
    wide = max(map(filled, rows))
    at = next(n for n, row in enumerate(rows) if 3 * filled(row) > 2 * wide)
    return at if needs_labels(rows[at:]) else None


def _column(index: int) -> str:
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("A") + rest) + name
    return name
