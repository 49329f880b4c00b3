"""Forms on 方眼紙: sheets of small squares on which every field is merged cells.

What stands beside its label is said with it (「申請者: 山田 太郎」), a table in the form is rows that
name their columns. Which is which follows from places and widths, and from what labels are called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

Place = tuple[int, int]  # row and column, from 0
Spans = Mapping[Place, tuple[int, int]]  # of merged cells their first: rows and columns

_ROWS = 5_000  # beyond, it is no form
_LEAST = 4  # merged fields with text
_LABEL_CHARS = 20
_MOSTLY = 0.7  # of labels are called as labels are
_VALUE = re.compile(r"[-+¥￥$,.\d/:%\s円]+|.*(\d+[年月/.-]\d+|。|、).*", re.DOTALL)
# how labels of Japanese forms end
_LABEL = re.compile(
    r".*(日|年月|日時|時刻|時間|期限|期間|納期|名|名称|者|先|人|番号|No\.?|№|部署|部門|所属|役職|住所|電話|連絡先|メール|"
    r"件名|題名|目的|用途|理由|事由|内容|詳細|概要|原因|対策|処置|効果|条件|備考|摘要|所見|金額|単価|合計|小計|税|費|"
    r"数量|単位|場所|方法|区分|種別|形態|型番|型式|欄|印|承認|確認|担当|カナ|経路|科目|予算|概算|計|残)[:：]?"
)


@dataclass(frozen=True, slots=True)
class Field:
    at: int  # its first column
    width: int
    height: int
    text: str

    @property
    def end(self) -> int:
        return self.at + self.width

    @property
    def may_label(self) -> bool:
        return len(self.text) <= _LABEL_CHARS and not _VALUE.fullmatch(self.text)


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    fields: tuple[Field, ...]

    @property
    def last(self) -> int:
        """The last row that its fields reach."""
        return self.number + max(f.height for f in self.fields) - 1

    @property
    def shape(self) -> dict[int, int]:
        return {f.at: f.width for f in self.fields}


Line = tuple[int, int, str]  # row and column of its beginning, from 0, and what it says


def is_form(rows: Sequence[tuple[int, list[str]]], spans: Spans) -> bool:
    """True if most of what is written stands in merged cells."""
    if len(rows) > _ROWS or len(spans) < _LEAST:
        return False
    places = [(n, c) for n, cells in rows for c, text in enumerate(cells) if text]
    merged = sum(spans.get(place, (1, 1))[1] > 1 for place in places)
    return merged >= _LEAST and 2 * merged >= len(places)


def pairs(rows: Sequence[tuple[int, list[str]]], spans: Spans) -> list[tuple[int, str]] | None:
    """Rows of labels and values in turn, as they are said; None where they are not such rows."""
    found = [
        Row(n, tuple(_field(n, c, text, spans) for c, text in enumerate(cells) if text))
        for n, cells in rows
        if any(cells)
    ]
    labels, values = [], []
    for row in found:
        rest = list(row.fields)
        while rest:
            labels.append(rest.pop(0))
            if rest and rest[0].at == labels[-1].end:  # else its value is not filled in
                values.append(rest.pop(0))
    if not values or len({f.text for f in labels}) < len(labels):
        return None
    if not all(f.may_label for f in labels) or _named(labels) < _MOSTLY:
        return None
    if 2 * sum(f.may_label and bool(_LABEL.fullmatch(f.text)) for f in values) >= len(values):
        return None
    return [(row.number, _pairs(row.fields)) for row in found]


def blocks(rows: Sequence[tuple[int, list[str]]], spans: Spans) -> Iterator[list[Line]]:
    """The form's lines, in runs without an empty row between."""
    found = [
        Row(n, tuple(_field(n, c, text, spans) for c, text in enumerate(cells) if text))
        for n, cells in rows
    ]
    block: list[Row] = []
    last = -1
    for row in found:
        if block and row.number > last + 1:
            yield list(_lines(block))
            block = []
        block.append(row)
        last = max(last, row.last)
    if block:
        yield list(_lines(block))


def _field(row: int, column: int, text: str, spans: Spans) -> Field:
    height, width = spans.get((row, column), (1, 1))
    return Field(column, width, height, text)


def _lines(rows: list[Row]) -> Iterator[Line]:
    at = 0
    while at < len(rows):
        row, side = _side(rows[at])
        if side:
            yield row.number, side.at, side.text
        below = _below(row, rows[at + 1 :])
        if below and not _paired(row, below):
            yield from _table(row, below)
        else:
            below = []
            yield row.number, row.fields[0].at, _pairs(row.fields)
        at += 1 + len(below)


def _side(row: Row) -> tuple[Row, Field | None]:
    """A label that stands beside several rows is told by itself."""
    first, rest = row.fields[0], row.fields[1:]
    if rest and first.may_label and first.height > max(f.height for f in rest):
        return replace(row, fields=rest), first
    return row, None


def _below(head: Row, rows: Sequence[Row]) -> list[Row]:
    """The rows that keep to the columns of a row that may name them."""
    texts = [f.text for f in head.fields]
    beside = all(one.end == other.at for one, other in pairwise(head.fields))
    if len(texts) < 2 or len(set(texts)) < len(texts) or not beside:
        return []
    if not all(f.may_label for f in head.fields):
        return []
    found: list[Row] = []
    last = head.last
    for row in rows:
        if row.number > last + 1 or not row.shape.items() <= head.shape.items():
            break
        found.append(row)
        last = row.last
    return found


def _paired(head: Row, below: Sequence[Row]) -> bool:
    """True for rows of labels and values under one another, which have the shape of a table too."""
    rows = [head, *below]
    widths = [f.width for f in head.fields]
    labels, values = widths[::2], widths[1::2]
    if len(widths) % 2 or len(set(labels)) > 1 or labels[0] >= min(values):
        return False
    places = {f.at for f in head.fields[::2]}
    named = [f for row in rows for f in row.fields if f.at in places]
    if len({f.text for f in named}) < len(named) or not all(f.may_label for f in named):
        return False
    under = [f for row in below for f in row.fields if f.at in places]
    ours, theirs = _named(under), _named(head.fields[1::2])
    return ours > theirs or (ours == theirs and len(below) == 1)


def _named(fields: Sequence[Field]) -> float:
    """The share that is called as labels are."""
    return sum(bool(_LABEL.fullmatch(f.text)) for f in fields) / max(len(fields), 1)


def _table(head: Row, below: Sequence[Row]) -> Iterator[Line]:
    if len(below) > 1:
        yield head.number, head.fields[0].at, " | ".join(f.text for f in head.fields)
    for row in below:
        values = {f.at: f.text for f in row.fields}
        said = [
            f"{f.text}: {values[f.at]}" if f.at in values else f.text if len(below) == 1 else ""
            for f in head.fields
        ]
        yield row.number, row.fields[0].at, " | ".join(s for s in said if s)


def _pairs(fields: Sequence[Field]) -> str:
    said: list[str] = []
    rest = list(fields)
    while rest:
        field = rest.pop(0)
        named = field.text.rstrip(":： ")
        beside = bool(rest) and field.end == rest[0].at
        asked = field.text != named and bool(rest)
        if named and field.may_label and (asked or (beside and _labels(field, rest[0]))):
            said.append(f"{named}: {rest.pop(0).text}")
        else:
            said.append(field.text)
    return " | ".join(said)


def _labels(field: Field, value: Field) -> bool:
    return field.width <= value.width or bool(_LABEL.fullmatch(field.text))
