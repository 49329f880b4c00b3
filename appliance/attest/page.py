"""The report on paper: A4, Japanese, every page numbered and bearing the report's number."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from appliance.attest import report

# with outlines that can be put into a PDF; the collections of Noto CJK have others
_FONTS = (
    "ipaexg.ttf",
    "ipag.ttf",
    "TakaoGothic.ttf",
    "TakaoPGothic.ttf",
    "VL-Gothic-Regular.ttf",
    "NotoSansJP-Regular.ttf",
)
_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts")
_NAMED_ONLY = "HeiseiKakuGo-W5"  # a reader's own font, not put into the file
_WIDE = A4[0] - 36 * mm - 12  # less what a frame leaves free, so that tables begin where lines do
_LINE = colors.HexColor("#9aa5b1")
_HEAD = colors.HexColor("#e8edf2")


@dataclass(frozen=True, slots=True)
class About:
    number: int
    made_at: str
    previous: str
    digests: Mapping[str, str]
    fingerprint: str


class _Style:
    def __init__(self, font: str) -> None:
        common = {"fontName": font, "wordWrap": "CJK"}
        self.font = font
        self.title = ParagraphStyle("title", fontSize=18, leading=26, spaceAfter=6, **common)
        self.head = ParagraphStyle(
            "head",
            fontSize=12.5,
            leading=18,
            spaceBefore=10,
            spaceAfter=4,
            keepWithNext=1,
            **common,
        )
        self.sub = ParagraphStyle("sub", fontSize=10, leading=15, keepWithNext=1, **common)
        self.note = ParagraphStyle("note", fontSize=8, leading=12, keepWithNext=1, **common)
        self.text = ParagraphStyle("text", fontSize=9, leading=13.5, spaceAfter=3, **common)
        self.cell = ParagraphStyle("cell", fontSize=8, leading=11, **common)
        self.small = ParagraphStyle("small", fontSize=6.5, leading=8.5, **common)


def pdf(about: About, sections: Mapping[str, Any]) -> tuple[bytes, bool]:
    """The page, and whether no font could be put into it (a reader then takes its own)."""
    font, plain = _font()
    style = _Style(font)
    story: list[Flowable] = [*_cover(style, about)]
    for name, value in sections.items():
        story.append(Paragraph(escape(report.TITLES[name]), style.head))
        story += _SECTIONS[name](style, value)
    into = BytesIO()

    def foot(canvas: Any, document: Any) -> None:
        canvas.setFont(font, 7)
        canvas.drawString(18 * mm, 9 * mm, f"主権証明 第 {about.number} 号　{about.made_at}")
        canvas.drawRightString(A4[0] - 18 * mm, 9 * mm, f"{document.page} ページ")

    SimpleDocTemplate(
        into,
        pagesize=A4,
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=16 * mm,
        bottomMargin=16 * mm,
        title=f"主権証明 第 {about.number} 号",
        author="Kura",
        lang="ja",
    ).build(story, onFirstPage=foot, onLaterPages=foot)
    return into.getvalue(), plain


def _cover(style: _Style, about: About) -> Iterable[Flowable]:
    yield Paragraph("主権証明（ソブリンティ報告）", style.title)
    yield Paragraph(
        "このマシンで動く蔵 (Kura) について、作成の時にマシン自身が調べたことを述べます。"
        "同じ内容の JSON に署名があり、`kura attest --verify` で確かめられます。",
        style.text,
    )
    yield _pairs(
        style,
        [
            ("番号", f"第 {about.number} 号"),
            ("作成", about.made_at),
            ("前の報告", about.previous or "ありません（最初の報告）"),
            ("署名の鍵の指紋", about.fingerprint),
        ],
    )
    rows = [(report.TITLES[name], value) for name, value in about.digests.items()]
    yield Spacer(1, 4 * mm)
    yield _table(style, ("章", "JSON のその章の SHA-256"), rows, (0.32, 0.68), small=True)


def _product(style: _Style, value: Mapping[str, Any]) -> list[Flowable]:
    names = {
        "kura": "Kura",
        "python": "Python",
        "sqlite": "SQLite",
        "system": "OS",
        "kernel": "カーネル",
        "libc": "C ライブラリー",
        "origin": "利用者が開く場所",
        "host": "ホスト名",
        "release_manifest_sha256": "リリースの目録の SHA-256",
    }
    return [_pairs(style, [(names[k], v) for k, v in value.items()])]


def _models(style: _Style, value: Mapping[str, Any]) -> list[Flowable]:
    rows = []
    for one in value["catalogue"]:
        files = "<br/>".join(f"{escape(n)}<br/>{d}" for n, d in one["files"].items())
        state = "○ 一致" if one["as_known"] else "× " + escape(" ".join(one["problems"]))
        brought = "このサイトが登録" if one.get("brought") else ""
        told = (one["name"], one["origin"], one["licence"], brought)
        about = "<br/>".join(escape(text) for text in told if text)
        rows.append((_Raw(about), one["use"] or "使っていません", _Raw(files), _Raw(state)))
    return [
        Paragraph("回答を書くもの: " + escape(value["generator"]), style.text),
        *(
            Paragraph(escape(f"サイトの並べ替えモデル {name}: {digest}"), style.text)
            for name, digest in value.get("own_reranker", {}).items()
        ),
        _table(
            style,
            ("名前・出所・ライセンス", "用途", "ファイルと SHA-256", "照合"),
            rows,
            (0.26, 0.12, 0.52, 0.1),
            small=True,
        ),
    ]


def _materials(style: _Style, value: Mapping[str, Any]) -> list[Flowable]:
    if "why" in value:
        return [Paragraph(escape(value["why"]), style.text)]
    changed = value["changed_files"]
    said = (
        f"{len(changed)} 個のファイルが、部品の記録と違います: " + "、".join(changed[:20])
        if changed
        else "入っている部品のファイルは、すべて部品の記録のとおりです。"
    )
    rows = [
        (
            f"{one['name']} {one['version']}",
            one["licence"] or "記載なし",
            one["sha256"][:32] or "記載なし",
        )
        for one in value["components"]
    ]
    return [
        Paragraph(f"部品表 ({value['format']}) の SHA-256: {value['sbom_sha256']}", style.text),
        Paragraph(escape(said), style.text),
        _table(
            style,
            ("部品", "ライセンス", "SHA-256（先頭 32 桁）"),
            rows,
            (0.34, 0.34, 0.32),
            small=True,
        ),
    ]


def _data(style: _Style, value: Sequence[Mapping[str, Any]]) -> list[Flowable]:
    rows = []
    for one in value:
        facts = (
            "まだありません"
            if "absent" in one
            else " ".join(
                [
                    *([f"権限 {one['mode']} {one['owner']}"] if "mode" in one else []),
                    *([f"{one['bytes'] / 1e6:,.1f} MB"] if "bytes" in one else []),
                    str(one.get("file_system", "")),
                ]
            )
        )
        kept = [
            f"ディスク: {one.get('disk_encryption', '—')}",
            f"Kura: {one.get('kura_encryption', '—')}",
        ]
        rows.append((one["what"], one["where"], facts, _Raw("<br/>".join(map(escape, kept)))))
    return [
        _table(style, ("何が", "どこに", "権限・大きさ", "暗号化"), rows, (0.22, 0.28, 0.2, 0.3))
    ]


def _network(style: _Style, value: Mapping[str, Any]) -> list[Flowable]:
    found: list[Flowable] = [
        Paragraph(
            "封鎖モード: "
            + (
                "有効。各プロセスは、壁を確かめてから起動しました。"
                if value["sealed"]
                else "<b>無効</b>。外への通信を OS が拒むかどうかは、起動時に確かめていません。"
            ),
            style.text,
        ),
        Paragraph(
            "データベース、モデルのサーバー、DNS として許す相手: "
            + escape("、".join([*value["may_reach"], *value["resolvers"]]) or "ありません"),
            style.text,
        ),
        Paragraph("登録されている取り込み元、ディレクトリ、通知の送り先", style.text),
        _table(
            style,
            ("何に", "名前", "種類", "相手のホスト"),
            [
                (one["what"], one["name"] or "—", one["kind"], "、".join(one["hosts"]) or "—")
                for one in value["peers"]
            ]
            or [("ありません", "—", "—", "—")],
            (0.16, 0.28, 0.3, 0.26),
        ),
        Paragraph(
            "相手のホストが「—」のものは、このマシンの中か、種類で相手の決まっているサービスです。",
            style.note,
        ),
    ]
    for one in value["walls"]:
        rows = [(t["what"], t["answer"], "拒否" if t["held"] else "通った") for t in one["tried"]]
        state = "すべて拒まれました" if one["held"] else "壁が足りません"
        found.append(
            Paragraph(escape(f"{one['process']}（{one['at']} の起動時）: {state}"), style.text)
        )
        found.append(_table(style, ("試みたこと", "OS の答え", "結果"), rows, (0.42, 0.43, 0.15)))
    rows = [
        (name, str(n), str(value["blocked_since"][name])) for name, n in value["blocked"].items()
    ]
    found.append(Paragraph("プロセスの中で止めた接続（Python から見えた分）", style.text))
    found.append(
        _table(style, ("プロセス", "これまで", "前の報告から"), rows, (0.4, 0.3, 0.3))
        if rows
        else Paragraph("数えていません（まだ何も動いていません）。", style.text)
    )
    return [*found, *_firewall(style, value["firewall"])]


def _firewall(style: _Style, value: Mapping[str, Any]) -> list[Flowable]:
    if not value["read"]:
        return [
            Paragraph(
                escape(
                    f"nftables の規則と計数: この報告には入っていません。{value['why']}。"
                    "入れるには、root で書き出したものを --firewall で渡します。"
                ),
                style.text,
            )
        ]
    rows = [
        (name, f"{now['packets']:,}", f"{value['since'][name]['packets']:,}")
        for name, now in value["counters"].items()
    ]
    changed = "前の報告から変わりました。" if value["changed"] else ""
    return [
        Paragraph(
            f"nftables の表 inet kura: {value['rules']} 個の規則。{changed}<br/>規則の SHA-256: {value['sha256']}",
            style.text,
        ),
        _table(style, ("計数", "これまで（パケット）", "前の報告から"), rows, (0.4, 0.3, 0.3)),
    ]


def _self_test(style: _Style, value: Sequence[Mapping[str, Any]]) -> list[Flowable]:
    rows = [(one["name"], "○" if one["ok"] else "×", one["said"]) for one in value]
    return [_table(style, ("点検", "", "結果"), rows, (0.25, 0.06, 0.69))]


def _audit(style: _Style, value: Mapping[str, Any]) -> list[Flowable]:
    bad = value["first_bad"]
    known = value["holds_checkpoint"]
    rows = [
        ("最後の番号", str(value["sequence"])),
        ("その行のダイジェスト", value["digest"]),
        ("つながり", "切れ目はありません" if bad is None else f"{bad} 番から違います"),
        (
            "前の報告の検査点",
            "ありません" if known is None else f"{known} 番{'を含みます' if bad is None else ''}",
        ),
    ]
    return [_pairs(style, rows)]


def _checklists(style: _Style, value: Sequence[Mapping[str, Any]]) -> list[Flowable]:
    found: list[Flowable] = []
    for one in value:
        found.append(Paragraph(escape(one["title"]), style.sub))
        found.append(Paragraph(escape(one["edition"]), style.note))
        rows = [
            (
                row["item"],
                row["kura"],
                "、".join(report.TITLES[name] for name in row["evidence"]) or "—",
                row["not_covered"],
            )
            for row in one["rows"]
        ]
        heads = ("項目", "Kura がすること", "この報告の根拠", "含まれないこと（貴社で）")
        found.append(_table(style, heads, rows, (0.17, 0.34, 0.17, 0.32)))
        found.append(Spacer(1, 3 * mm))
    return found


def _not_covered(style: _Style, value: Sequence[str]) -> list[Flowable]:
    return [Paragraph("・" + escape(one), style.text) for one in value]


_SECTIONS: Mapping[str, Any] = {
    "product": _product,
    "models": _models,
    "materials": _materials,
    "data": _data,
    "network": _network,
    "self_test": _self_test,
    "audit": _audit,
    "checklists": _checklists,
    "not_covered": _not_covered,
}


class _Raw(str):
    """Marked up already."""

    __slots__ = ()


def _pairs(style: _Style, rows: Sequence[tuple[str, str]]) -> Flowable:
    return _table(style, (), rows, (0.28, 0.72))


def _table(
    style: _Style,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    shares: Sequence[float],
    *,
    small: bool = False,
) -> Flowable:
    kind = style.small if small else style.cell

    def cell(text: str) -> Paragraph:
        return Paragraph(text if isinstance(text, _Raw) else escape(str(text)), kind)

    cells = [[cell(text) for text in row] for row in ([heads, *rows] if heads else rows)]
    made = Table(
        cells,
        colWidths=[_WIDE * share for share in shares],
        repeatRows=1 if heads else 0,
        splitInRow=1,
    )
    look = [
        ("GRID", (0, 0), (-1, -1), 0.4, _LINE),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ]
    look.append(("BACKGROUND", (0, 0), (-1, 0) if heads else (0, -1), _HEAD))
    made.setStyle(TableStyle(look))
    return made


def _font() -> tuple[str, bool]:
    there: dict[str, Path] = {}
    for folder in _FOLDERS:
        for place, _, files in os.walk(folder):
            there |= {name: Path(place) / name for name in files if name in _FONTS}
    for name in _FONTS:
        if name in there:
            try:
                pdfmetrics.registerFont(TTFont("kura", str(there[name])))
            except (TTFError, OSError):
                continue
            pdfmetrics.registerFontFamily("kura", "kura", "kura", "kura", "kura")
            return "kura", False
    pdfmetrics.registerFont(UnicodeCIDFont(_NAMED_ONLY))
    return _NAMED_ONLY, True
