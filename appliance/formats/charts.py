"""The numbers behind a chart of Office, as a table: a row for each category, a column for each series."""

from __future__ import annotations

from typing import Any

from appliance.formats.draft import Draft, one_line
from appliance.formats.package import Package, child, children, name, whole

_POINTS = 5_000


def write(draft: Draft, package: Package, part: str) -> None:
    """What the chart at `part` shows; nothing if it kept no numbers."""
    chart = child(package.xml(part), "chart")
    plot = child(chart, "plotArea") if chart is not None else None
    series = [s for s in plot.iter() if name(s) == "ser"] if plot is not None else []
    if chart is None or not series:
        return
    title = child(chart, "title")
    said = (
        one_line("".join(t.text or "" for t in title.iter() if name(t) == "t"))
        if title is not None
        else ""
    )
    draft.line(f"グラフ: {said}" if said else "グラフ")
    columns = [(_name(s), _points(s, ("val", "yVal"))) for s in series]
    rows = _points(series[0], ("cat", "xVal"))
    places = sorted({place for _, points in columns for place in points} | set(rows))[:_POINTS]
    draft.table(
        [["", *(title for title, _ in columns)]]
        + [[rows.get(n, ""), *(points.get(n, "") for _, points in columns)] for n in places]
    )
    draft.blank()


def _name(series: Any) -> str:
    text = child(series, "tx")
    return (
        one_line(" ".join(v.text or "" for v in text.iter() if name(v) == "v"))
        if text is not None
        else ""
    )


def _points(series: Any, kinds: tuple[str, ...]) -> dict[int, str]:
    """The values that were kept with the chart, by their place."""
    for kind in kinds:
        held = child(series, kind)
        if held is None:
            continue
        points: dict[int, str] = {}
        for cache in (c for c in held.iter() if name(c) in ("strCache", "numCache", "lvl")):
            for point in children(cache, "pt"):
                place, shown = whole(point, "idx"), child(point, "v")
                if shown is not None and shown.text:
                    before = points.get(place)
                    points[place] = f"{shown.text} {before}" if before else shown.text
        return points
    return {}
