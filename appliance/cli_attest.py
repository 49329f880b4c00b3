"""`kura attest`, `kura walls`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli_common import no_site
from appliance.errors import BadRequest

if TYPE_CHECKING:
    from appliance.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="JSON で出力する。")]


def attest(
    out: Annotated[
        Path | None, typer.Option(help="報告 (PDF と JSON) と公開鍵を置くフォルダー。")
    ] = None,
    verify: Annotated[
        Path | None, typer.Option(help="確かめる報告 (.json か .pdf)。変えられた所を言う。")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="確かめるときの公開鍵。空なら、このマシンのもの。")
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="このマシンの監査記録が、報告の続きかも確かめる。")
    ] = False,
    firewall: Annotated[
        Path | None,
        typer.Option(help="root で `nft -j list table inet kura` を書き出したファイル。"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """主権証明: 何が動き、データがどこにあり、何が止められたかの、署名付きの報告を作る・確かめる。"""
    if (out is None) == (verify is None):
        raise BadRequest("--out フォルダー か --verify ファイル のどちらかを指定してください。")
    settings = _settings()
    if verify is not None:
        _verify(settings, verify, key, here, as_json)
    elif out is not None:
        _make(settings, out, firewall, as_json)


def walls(
    trying: Annotated[
        bool, typer.Option("--try", help="このコマンドから今、外へ出られないかを試す。")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """封鎖モードの壁: 各プロセスが起動時に確かめた結果。"""
    from dataclasses import asdict

    from appliance import settings
    from appliance.sovereignty import walls

    now = settings.load()  # without the guard, which would answer in the kernel's place
    if trying:
        tried = [asdict(one) for one in walls.probe(now.resolvers)]
        found: Sequence[dict[str, Any]] = [
            {"process": "kura walls", "held": all(t["held"] for t in tried), "tried": tried}
        ]
    else:
        found = walls.kept(now.data)
    if as_json:
        _print(json.dumps({"sealed": now.sealed, "processes": found}, ensure_ascii=False, indent=2))
    else:
        _print(f"封鎖モード: {'有効' if now.sealed else '無効'}")
        if not found:
            _print("確かめた記録はありません。設定 sealed = true で起動すると残ります。")
        for one in found:
            _print(f"{one['process']} {one.get('at', '')}")
            for t in one["tried"]:
                _print(f"  {'✓' if t['held'] else '✗'} {t['what']}: {t['answer']}")
    if not all(one["held"] for one in found):
        raise typer.Exit(1)


def _make(settings: Settings, out: Path, rules: Path | None, as_json: bool) -> None:
    import getpass

    from rich.console import Console

    from appliance import build, up
    from appliance.attest import report, shelf
    from appliance.store import audit

    if not settings.begun:
        raise no_site(settings)
    console = Console(stderr=True, quiet=as_json, highlight=False)
    with up.held(settings.data, "attest"):
        engine = build.store(settings)
        try:
            kept = shelf.Shelf(settings.data)
            kept.check(out)
            with console.status("調べています…") as status:
                found = report.sections(
                    settings, engine, kept.last(), rules, lambda t: status.update(f"{t}…")
                )
                made = kept.add(found, out)
            noted = {"number": made.number, "digest": made.digest}
            audit.record(engine, f"console:{getpass.getuser()}", "attest", noted)
        finally:
            engine.dispose()
    if as_json:
        files = [str(path) for path in made.files]
        _print(json.dumps(noted | {"files": files, "fingerprint": made.fingerprint}, indent=2))
        return
    _print(f"第 {made.number} 号を作りました: " + "、".join(str(path) for path in made.files))
    _print(f"報告のダイジェスト: {made.digest}\n鍵の指紋: {made.fingerprint}")
    _print("この二つを、このマシンの外に書き留めてください。")
    if made.plain_font:
        _print(
            "日本語フォントを PDF に入れられませんでした。"
            "`apt-get install fonts-ipaexfont` の後にもう一度作ると、どこでも同じに読めます。"
        )


def _verify(settings: Settings, path: Path, key: Path | None, here: bool, as_json: bool) -> None:
    from appliance.attest import report, shelf, sign
    from appliance.store import signing

    at = path.with_suffix(".json") if path.suffix == ".pdf" else path
    found = sign.read(at)
    own = signing.public_key(key) if key else signing.own(settings.data)
    trusted = [own] if own else []
    beside = at.with_suffix(".pdf")
    page = beside.read_bytes() if beside.is_file() else None
    wrong = sign.changed(found, trusted, page, report.TITLES)
    if broken := shelf.before(found, at.parent):
        wrong.append(broken)
    if here and not wrong:
        from appliance import build

        if not settings.begun:
            raise no_site(settings)
        engine = build.store(settings)
        try:
            if otherwise := report.against(engine, found):
                wrong.append(otherwise)
        finally:
            engine.dispose()
    notes = []
    if page is None:
        notes.append("PDF は隣にないので、確かめていません。")
    if not trusted:
        signer = sign.signer(found)
        shown = signing.fingerprint(signer) if signer else "読めません"
        notes.append(f"報告の中の鍵で確かめました。書き留めた指紋と比べてください: {shown}")
    if as_json:
        _print(json.dumps({"ok": not wrong, "wrong": wrong, "notes": notes}, ensure_ascii=False))
    else:
        number = found["head"].get("number")
        _print("\n".join(f"✗ {one}" for one in wrong) or f"✓ 第 {number} 号は署名のとおりです。")
        for note in notes:
            _print(note)
    if wrong:
        raise typer.Exit(1)


def _settings() -> Settings:
    from appliance import settings
    from appliance.sovereignty import egress

    found = settings.load()
    egress.guard(found)
    return found


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
