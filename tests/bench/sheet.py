"""A large table of Excel through the sandbox: `python -m tests.bench.sheet [--page docs/en/documents.md]`.

50,000 rows of 8 cells, as openpyxl writes them. Processor time of the parser's child and of whoever
asked it, not the clock's, so that neighbours on the machine disturb little; run it on two checkouts
in turn to compare them.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell

from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from appliance.types import NOBODY, RawFile
from tests import pages
from tests.quality.documents import HEAD
from tests.quality.footprint import Footprint

ROWS = 50_000
HEADER = ("伝票番号", "日付", "得意先", "品名", "数量", "単価", "金額", "備考")
PLAIN = ("",) * 8
DATES_AND_SUMS = ("", 'yyyy"年"m"月"d"日"', "", "", "", "", "#,##0", "")
ALL_NUMBERS = ("", '[$-411]ggge"年"m"月"d"日"', "", "", "#,##0", "#,##0.00", '"¥"#,##0', "")
BOOKS = {
    "no number formats": PLAIN,
    "dates and sums": DATES_AND_SUMS,
    "all dates and numbers": ALL_NUMBERS,
}
_TICK_S = 0.01  # in which a system counts processor time


class Spent(NamedTuple):
    """Seconds of a core, and the child's memory."""

    child_s: float
    asker_s: float
    peak_bytes: int


def book(formats: tuple[str, ...]) -> bytes:
    """Sales of a year, each column shown in its number format."""
    rng = random.Random(1)
    written = Workbook(write_only=True)
    sheet = written.create_sheet("売上")
    sheet.append(HEADER)
    for n in range(1, ROWS):
        count, price = rng.randrange(1, 500), rng.randrange(10, 90_000)
        row = (
            f"D{n:06}",
            date(2025, 4, 1) + timedelta(n % 365),
            rng.choice(("東京商事株式会社", "大阪物産", "名古屋電機工業", "福岡製作所")),
            rng.choice(("六角ボルト M8", "ワッシャー", "電源ケーブル 3m", "作業手袋")),
            count,
            price,
            count * price,
            "納品済み" if n % 3 else "請求書は翌月末に発送",
        )
        cells = [WriteOnlyCell(sheet, value) for value in row]
        for cell, code in zip(cells, formats, strict=True):
            if code:
                cell.number_format = code
        sheet.append(cells)
    out = io.BytesIO()
    written.save(out)
    return out.getvalue()


def spent(sandbox: Sandbox, data: bytes) -> Spent:
    opened: Callable[[], io.BytesIO] = partial(io.BytesIO, data)
    when = datetime(2026, 4, 1, tzinfo=UTC)
    before, began = _children_s(sandbox.pid), time.process_time()
    with Footprint(sandbox.pid) as foot:
        document, _ = sandbox.parse(RawFile("a.xlsx", "1", opened, NOBODY, "売上.xlsx", when))
    asker_s = time.process_time() - began
    if document.text.count("\n") < ROWS:
        raise AssertionError("not every row was read")
    while (after := _children_s(sandbox.pid)) < before + _TICK_S:  # until it has been counted
        time.sleep(_TICK_S)
    return Spent(after - before, asker_s, foot.peak_bytes)


def _children_s(zygote: int | None) -> float:
    """Of a core, by all children that ended."""
    said = Path(f"/proc/{zygote}/stat").read_text().rpartition(")")[2].split()
    return (int(said[13]) + int(said[14])) * _TICK_S


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a large table of Excel takes.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    lines = [
        f"A table of {ROWS:,} rows and {len(HEADER)} columns (.xlsx), the best of {options.rounds} times; wanted are 2 s of a core in the parser's child.",
        "",
        "| number formats | file | the child's core | the worker's core | most memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    with Sandbox(Settings(data=Path("bench"))) as sandbox:
        for name, formats in BOOKS.items():
            data = book(formats)
            best = min(spent(sandbox, data) for _ in range(options.rounds))
            lines.append(
                f"| {name} | {len(data) / 1e6:.1f} MB | {best.child_s:.2f} s | {best.asker_s:.2f} s | {best.peak_bytes / 2**20:.0f} MiB |"
            )
            print(lines[-1], flush=True)
    if options.page:
        command = "python -m tests.bench.sheet"
        text = "\n".join(lines) + "\n"
        pages.section(options.page, HEAD, "5 Large tables", command, text)


if __name__ == "__main__":
    main()
