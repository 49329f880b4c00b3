"""The findings for a terminal, for a program, and for a file of the records."""

from __future__ import annotations

import html
import json
import socket
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from installer.host.checks import Line

SIGNS = {"ok": "✓", "warning": "!", "bad": "✗"}
WORDS = {"ok": "良 / ok", "warning": "注意 / warning", "bad": "不可 / bad"}
_STYLE = (
    "body{font-family:sans-serif;margin:2em;line-height:1.5}table{border-collapse:collapse;width:100%}"
    "th,td{border:1px solid #999;padding:.4em .6em;text-align:left;vertical-align:top}"
    ".bad{background:#fdd}.warning{background:#ffd}code{white-space:pre-wrap}"
    "@media print{body{margin:0}tr{break-inside:avoid}}"
)


def passed(lines: Sequence[Line]) -> bool:
    return all(line.finding.level != "bad" for line in lines)


def as_text(lines: Sequence[Line]) -> str:
    out = []
    for line in lines:
        f = line.finding
        out.append(f"{SIGNS[f.level]} {line.name}: {f.found}")
        if f.level != "ok":
            out += [f"    必要 / needed: {f.needed}", f"    {f.mend}"]
    return "\n".join([*out, "", _sum(lines)])


def as_json(lines: Sequence[Line]) -> str:
    checks = [{"name": line.name, **asdict(line.finding)} for line in lines]
    return json.dumps({"ok": passed(lines), "checks": checks}, ensure_ascii=False, indent=1)


def as_html(lines: Sequence[Line], now: datetime) -> str:
    """One page that prints; nothing is fetched for it."""
    rows = "\n".join(
        f'<tr class="{line.finding.level}">'
        + "".join(
            f"<td>{html.escape(text)}</td>"
            for text in (
                WORDS[line.finding.level],
                line.name,
                line.finding.found,
                line.finding.needed,
            )
        )
        + f"<td><code>{html.escape(line.finding.mend)}</code></td></tr>"
        for line in lines
    )
    head = "".join(
        f"<th>{h}</th>"
        for h in ("判定", "項目 / what", "実際 / found", "必要 / needed", "直し方 / to mend")
    )
    title = f"Kura 導入前の点検 / preflight — {socket.gethostname()}, {now:%Y-%m-%d %H:%M}"
    return (
        f'<!doctype html><html lang="ja"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(_sum(lines))}</p>"
        f"<table><tr>{head}</tr>\n{rows}</table></html>\n"
    )


def _sum(lines: Sequence[Line]) -> str:
    wrong = sum(line.finding.level == "bad" for line in lines)
    if wrong:
        return f"{wrong} 件を直してから、もう一度実行してください。 / Mend these {wrong}, then run this again."
    return "導入できます。 / Kura can be installed here."
