"""Pages with ruled tables and forms, drawn; and how many of their cells are read in their place."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from appliance.ocr.engine import Picture

_POINT = 10.5
_ALIKE = 0.5  # of what a cell says: whether letters are right is measured elsewhere
_SHAPES = str.maketrans("○〇0o×x", "OOOOXX")  # which circle it is, is not a question of place


@dataclass(frozen=True)
class Drawn:
    """Cells by row and column, each with the rows and columns that it spans; and what is wanted."""

    name: str
    widths: Sequence[float]  # points
    heights: Sequence[float]
    cells: dict[tuple[int, int], str]
    wanted: Sequence[Sequence[str]]  # the cells of each line
    spans: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    dashed: bool = False
    open_sides: bool = False
    rule: float = 0.5  # points
    stamps: Sequence[tuple[int, int]] = ()
    frame: bool = False


def _plain(
    name: str, widths: Sequence[float], rows: Sequence[Sequence[str]], **more: object
) -> Drawn:
    cells = {(r, c): text for r, row in enumerate(rows) for c, text in enumerate(row)}
    wanted = [[text for text in row if text] for row in rows]
    return Drawn(name, widths, [22.0] * len(rows), cells, wanted, **more)  # type: ignore[arg-type]


PRICES = [
    ["型番", "品名", "数量", "単価", "金額"],
    ["KX-3200R", "無停電電源装置", "2", "148,000", "296,000"],
    ["SW-24G", "スイッチングハブ", "6", "32,500", "195,000"],
    ["HDD-8T", "交換用ディスク", "12", "21,800", "261,600"],
    ["CAB-5", "LANケーブル", "40", "650", "26,000"],
    ["", "合計", "", "", "778,600"],
]
DRAWN = (
    _plain("grid", [80, 120, 50, 80, 90], PRICES),
    _plain("hairline grid", [80, 120, 50, 80, 90], PRICES, rule=0.25),
    _plain("dashed", [80, 120, 50, 80, 90], PRICES, dashed=True),
    _plain("open sides", [80, 120, 50, 80, 90], PRICES, open_sides=True),
    _plain("heavy, framed page", [80, 120, 50, 80, 90], PRICES, rule=1.5, frame=True),
    _plain(
        "small cells",
        [60, 40, 40, 40, 40, 40],
        [
            ["氏名", "月", "火", "水", "木", "金"],
            ["伊藤", "○", "○", "×", "○", "×"],
            ["佐藤", "1", "2", "3", "4", "5"],
            ["高橋", "休", "○", "8", "○", "7"],
        ],
    ),
    Drawn(
        "merged heads",
        [90, 70, 70, 70, 70],
        [22.0] * 6,
        {
            (0, 0): "部門", (0, 1): "上期", (0, 3): "下期",
            (1, 1): "計画", (1, 2): "実績", (1, 3): "計画", (1, 4): "実績",
            (2, 0): "営業部", (2, 1): "1,200", (2, 2): "1,340", (2, 3): "1,500", (2, 4): "1,480",
            (3, 0): "製造部", (3, 1): "2,410", (3, 2): "2,395", (3, 3): "2,600", (3, 4): "2,715",
            (4, 0): "総務部", (4, 1): "310", (4, 2): "295", (4, 3): "320", (4, 4): "338",
            (5, 0): "見通し", (5, 1): "通期の計画を達成する見込み",
        },
        [
            ["部門", "上期", "下期"],
            ["部門", "計画", "実績", "計画", "実績"],
            ["営業部", "1,200", "1,340", "1,500", "1,480"],
            ["製造部", "2,410", "2,395", "2,600", "2,715"],
            ["総務部", "310", "295", "320", "338"],
            ["見通し", "通期の計画を達成する見込み"],
        ],
        {(0, 0): (2, 1), (0, 1): (1, 2), (0, 3): (1, 2), (5, 1): (1, 4)},
    ),
    Drawn(
        "lines in cells",
        [80, 200, 120],
        [22.0, 56.0, 40.0, 40.0],
        {
            (0, 0): "区分", (0, 1): "支給の条件", (0, 2): "上限",
            (1, 0): "日帰り出張",
            (1, 1): "往復百キロ以上の用務先へ日帰り\nで出張し、所属長の承認を得た場\n合に支給する。",
            (1, 2): "日当の半額",
            (2, 0): "宿泊出張", (2, 1): "業務のため宿泊を伴う出張をする\n場合に支給する。",
            (2, 2): "東京 12,000円\n他 9,800円",
            (3, 0): "海外出張", (3, 1): "別表第二に定める額とする。", (3, 2): "実費",
        },
        [
            ["区分", "支給の条件", "上限"],
            ["日帰り出張", "往復百キロ以上の用務先へ日帰りで出張し、所属長の承認を得た場合に支給する。", "日当の半額"],
            ["宿泊出張", "業務のため宿泊を伴う出張をする場合に支給する。", "東京 12,000円 他 9,800円"],
            ["海外出張", "別表第二に定める額とする。", "実費"],
        ],
    ),
    Drawn(
        "form",
        [80, 130, 80, 130],
        [24.0, 24.0, 24.0, 42.0, 24.0],
        {
            (0, 0): "申請日", (0, 1): "2026年11月2日", (0, 2): "申請番号", (0, 3): "R8-0417",
            (1, 0): "所属", (1, 1): "製造部第二課", (1, 2): "氏名", (1, 3): "渡辺 幸子",
            (2, 0): "出張期間", (2, 1): "11月9日から11日", (2, 2): "出張先", (2, 3): "福岡市",
            (3, 0): "目的", (3, 1): "新型検査装置の立ち会い試験に参加し、\n受け入れの可否を判断する。",
            (4, 0): "概算金額", (4, 1): "86,400円", (4, 2): "支払方法", (4, 3): "銀行振込",
        },
        [
            ["申請日: 2026年11月2日", "申請番号: R8-0417"],
            ["所属: 製造部第二課", "氏名: 渡辺 幸子"],
            ["出張期間: 11月9日から11日", "出張先: 福岡市"],
            ["目的: 新型検査装置の立ち会い試験に参加し、受け入れの可否を判断する。"],
            ["概算金額: 86,400円", "支払方法: 銀行振込"],
        ],
        {(3, 1): (1, 3)},
        stamps=[(1, 3)],
    ),
    Drawn(
        "stamped",
        [100, 100, 100, 100],
        [22.0, 50.0, 22.0, 22.0],
        {
            (0, 0): "件名", (0, 1): "部長", (0, 2): "課長", (0, 3): "担当",
            (1, 0): "備品購入",
            (2, 0): "納入先", (2, 1): "本社", (2, 2): "横浜工場", (2, 3): "福岡支店",
            (3, 0): "台数", (3, 1): "15", (3, 2): "28", (3, 3): "9",
        },
        [
            ["件名", "部長", "課長", "担当"],
            ["備品購入"],
            ["納入先", "本社", "横浜工場", "福岡支店"],
            ["台数", "15", "28", "9"],
        ],
        stamps=[(1, 1), (1, 2), (2, 2)],
    ),
)  # fmt: skip
ABOVE = "次の表のとおり取り扱うものとし、令和8年4月1日から適用する。"
BELOW = "不明な点は総務部まで問い合わせること。以上。"


def pages(dpi: int, font: Path) -> Iterator[tuple[Drawn, Picture]]:
    for drawn in DRAWN:
        yield drawn, page(drawn, dpi, font)


def page(drawn: Drawn, dpi: int, font: Path, size: tuple[float, float] = (8.27, 11.69)) -> Picture:
    """The table between two lines of text."""
    unit = dpi / 72
    image = Image.new("RGB", (int(size[0] * dpi), int(size[1] * dpi)), "white")
    draw = ImageDraw.Draw(image)
    face = ImageFont.truetype(str(font), int(_POINT * unit))
    left, top = 60.0, 100.0
    xs = [left + sum(drawn.widths[:n]) for n in range(len(drawn.widths) + 1)]
    ys = [top + sum(drawn.heights[:n]) for n in range(len(drawn.heights) + 1)]
    draw.text((left * unit, (top - 30) * unit), ABOVE, "black", face)
    draw.text((left * unit, (ys[-1] + 16) * unit), BELOW, "black", face)
    if drawn.frame:
        draw.rectangle(
            [30 * unit, 40 * unit, size[0] * dpi - 30 * unit, size[1] * dpi - 40 * unit],
            outline="black",
            width=max(1, round(unit)),
        )
    holder = _holders(drawn)
    for r in range(len(drawn.heights)):
        for c in range(len(drawn.widths)):
            here = holder.get((r, c), (r, c))
            for dr, dc, line in (
                (-1, 0, (xs[c], ys[r], xs[c + 1], ys[r])),
                (1, 0, (xs[c], ys[r + 1], xs[c + 1], ys[r + 1])),
                (0, -1, (xs[c], ys[r], xs[c], ys[r + 1])),
                (0, 1, (xs[c + 1], ys[r], xs[c + 1], ys[r + 1])),
            ):
                other = r + dr, c + dc
                outside = not (0 <= other[1] < len(drawn.widths))
                if holder.get(other, other) == here or (outside and drawn.open_sides):
                    continue
                _rule(draw, line, unit, drawn)
    for (r, c), text in drawn.cells.items():
        for n, part in enumerate(text.splitlines()):
            draw.text(((xs[c] + 5) * unit, (ys[r] + 5 + n * 15) * unit), part, "black", face)
    for n, (r, c) in enumerate(drawn.stamps):
        _stamp(draw, (xs[c] + 55) * unit, (ys[r] + 14) * unit, unit, font, square=n % 2 == 1)
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def placed(wanted: Sequence[Sequence[str]], lines: Sequence[str]) -> tuple[int, int]:
    """How many cells stand in the right row and, among its cells, at the right place; and of how many."""
    rows = [[_bare(c) for c in line.split(" | ")] for line in lines]
    right = after = 0
    for want in wanted:
        cells = [_bare(c) for c in want]
        scores = [_right(cells, row) for row in rows[after:]]
        best = max(scores, default=0)
        if best:
            right += best
            after += scores.index(best) + 1
    return right, sum(map(len, wanted))


def _right(wanted: Sequence[str], row: Sequence[str]) -> int:
    if len(wanted) != len(row):  # what follows a cell too many stands in the wrong column
        row = [*row, *[""] * len(wanted)]
    return sum(
        SequenceMatcher(None, a, b, autojunk=False).ratio() >= _ALIKE
        for a, b in zip(wanted, row, strict=False)
    )


def _holders(drawn: Drawn) -> dict[tuple[int, int], tuple[int, int]]:
    return {
        (r + i, c + k): (r, c)
        for (r, c), (down, across) in drawn.spans.items()
        for i in range(down)
        for k in range(across)
    }


def _rule(
    draw: ImageDraw.ImageDraw,
    line: tuple[float, float, float, float],
    unit: float,
    drawn: Drawn,
) -> None:
    x, y, right, bottom = line
    width = max(1, round(drawn.rule * unit))
    if not drawn.dashed:
        draw.line([x * unit, y * unit, right * unit, bottom * unit], "black", width)
        return
    step = 5.0
    for n in range(int(max(right - x, bottom - y) / step)):
        if right > x:
            ends = [x + n * step, y, x + n * step + 3, y]
        else:
            ends = [x, y + n * step, x, y + n * step + 3]
        draw.line([v * unit for v in ends], "black", width)


def _stamp(
    draw: ImageDraw.ImageDraw, x: float, y: float, unit: float, font: Path, square: bool
) -> None:
    """印影: vermilion, over whatever is there."""
    side = 26 * unit
    shape: Callable[..., None] = draw.rectangle if square else draw.ellipse
    shape([x, y, x + side, y + side], outline=(215, 45, 35), width=max(1, round(unit)))
    face = ImageFont.truetype(str(font), int(9 * unit))
    draw.text((x + 4 * unit, y + 7 * unit), "伊藤", (215, 45, 35), face)


def _bare(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split()).translate(_SHAPES)
