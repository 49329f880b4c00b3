"""kura-installer model: a model that the site brings is inspected, compared, signed and written down."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from installer import model_lock
from installer.bundle.command import FAILED, OK, STOPPED, passphrase
from installer.bundle.minisign import Refused
from installer.model_lock import Row

HELP = "持ち込むモデル / models that the site brings"
# formats of which loading is running what stands in them
PICKLES = {
    ".pkl",
    ".pickle",
    ".pt",
    ".pth",
    ".bin",
    ".ckpt",
    ".npy",
    ".npz",
    ".joblib",
    ".h5",
    ".mar",
}


def options(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", required=True)
    catalogue = verbs.add_parser("list", help="推奨モデルの一覧 / the models that are recommended")
    catalogue.add_argument(
        "--tier", choices=model_lock.TIERS, help="CPU、または GPU の GB / GB of a GPU"
    )
    add = verbs.add_parser("add", help="検査して登録する / inspects one and registers it")
    add.add_argument("file", type=Path, help="GGUF ファイル")
    add.add_argument(
        "--site-key", type=Path, required=True, help="拠点の秘密鍵 / the site's secret key"
    )
    add.add_argument("--name", default="", help="登録する名前 / name to register")
    add.add_argument(
        "--import",
        dest="sha256",
        default="",
        metavar="SHA256",
        help="署名された一覧に無いモデル: 公開元で確かめたダイジェスト / one that no signed list has: "
        "its digest, as its publisher states it",
    )
    add.add_argument("--prompt-format", choices=model_lock.FORMATS)
    add.add_argument("--licence", default="")
    add.add_argument("--origin", default="", help="誰のモデルか / whose model it is")
    for verb in (catalogue, add):
        verb.add_argument("--root", type=Path, default=Path("/"), help="導入先 / the host's root")
    add.add_argument("--to", type=Path, help="登録先 (既定 KURA_SITE_MODELS) / where to")


def run(given: argparse.Namespace) -> int:
    from appliance.errors import ApplianceError

    try:
        return _list(given) if given.what == "list" else _add(given)
    except (Refused, ApplianceError) as why:
        print(why, file=sys.stderr)
        return FAILED
    except (OSError, UnicodeDecodeError) as why:
        print(f"読み書きできません / cannot be read or written: {why}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(
            "中断しました。何も登録していません。 / Stopped; nothing was registered.",
            file=sys.stderr,
        )
        return STOPPED


def _list(given: argparse.Namespace) -> int:
    for row in _rows(given.root):
        if given.tier in {None, *row.tiers}:
            digest = row.sha256[:12] or "ダイジェスト未記入 / no digest"
            tried = "確認済み / tried" if row.tried else "未確認 / not tried"
            print(
                f"{row.name}  [{', '.join(row.tiers)}]  {row.memory_gb} GB  {row.prompt_format}  "
                f"{row.licence}  {digest}  {tried}"
            )
    return OK


def _rows(root: Path) -> tuple[Row, ...]:
    """Those of the release that is installed; a checkout has its own."""
    current = root / "opt" / "kura" / "current"
    if not (current / "models.lock").is_file():
        return model_lock.read(model_lock.OWN.read_text("utf-8"))
    text = (current / "models.lock").read_bytes()
    manifest = json.loads((current / "release.json").read_text("utf-8"))
    from installer.bundle.archive import described

    if manifest["files"].get("models.lock", {}).get("sha256") != described(text).sha256:
        raise Refused(
            f"{current}/models.lock が導入時から変わっています。 / has changed since it was installed."
        )
    return model_lock.read(text.decode())


def _add(given: argparse.Namespace) -> int:
    from appliance import settings
    from appliance.errors import ModelFileInvalid
    from appliance.inference import gguf, registered
    from installer.bundle.signing import SecretKey

    if given.file.suffix.lower() in PICKLES:
        raise Refused(
            f"{given.file.name}: この形式は読み込むだけで中のプログラムが動き得るので、受け付けません。"
            "GGUF を持ち込んでください。 / Loading this format can run what is in it: bring a GGUF."
        )
    folder = (given.to or settings.load().site_models).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{os.getpid()}.new"
    try:
        scratch.mkdir(mode=0o755)
        copy = scratch / "model.gguf"  # what is inspected is what will be loaded
        shutil.copyfile(given.file, copy)
        try:
            header = gguf.read(copy)
        except ModelFileInvalid as why:
            raise Refused(
                f"{given.file} は壊れているか、読める GGUF ではありません。受け取り直してください。 / "
                f"{str(why).partition(';')[0].replace(str(copy), given.file.name)}."
            ) from None
        if header.kind != "model":
            raise Refused(
                "アダプターではなくモデルの GGUF を指定してください。 / This is an adapter."
            )
        digest = model_lock.digest(copy)
        paper = _paper(given, digest, header.size)
        name = str(paper["name"])
        if not registered.NAME.fullmatch(name):
            raise Refused(
                "名前は英小文字と数字、. _ - です。--name で付けてください。 / Give it a --name."
            )
        if (folder / name).exists():
            raise Refused(f"{name} は登録済みです。--name で別の名前を。 / is registered already.")
        body = (json.dumps(paper, ensure_ascii=False, indent=1) + "\n").encode()
        registered.described(body, name)
        key = SecretKey.read(given.site_key.read_text("utf-8"), passphrase(given.site_key))
        copy.rename(scratch / str(paper["file"]))
        (scratch / registered.PAPER).write_bytes(body)
        signature = key.sign(body, f"model {name} {digest}")
        (scratch / registered.SIGNATURE).write_text(signature, "utf-8")
        for file in scratch.iterdir():
            file.chmod(0o644)
            _settled(file)
        _log(given.root, {**paper, "key": key.public.name})  # first the record, then what it is of
        scratch.rename(folder / name)
        _settled(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(
        f"{name} を登録しました ({paper['basis']})。KURA_LLM={name} とし、"
        f"拠点の公開鍵を {settings.load().site_keys} に置いて、kura infer を起動し直してください。 / "
        f"Registered. Set KURA_LLM={name} and start `kura infer` again."
    )
    return OK


def _paper(given: argparse.Namespace, digest: str, size: int) -> dict[str, Any]:
    row = next((row for row in _rows(given.root) if row.sha256 == digest), None)
    said: dict[str, Any]
    if row is not None:
        said = {
            "basis": "release",
            "name": given.name or row.name,
            "prompt_format": row.prompt_format,
            "licence": row.licence,
            "origin": row.origin,
        }
    else:
        said = dict(_imported(given, digest))
    return {
        "format": 1,
        "kind": "llm",
        **said,
        "file": f"{said['name']}.gguf",
        "sha256": digest,
        "size": size,
        "by": os.environ.get("SUDO_USER") or getpass.getuser(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _imported(given: argparse.Namespace, digest: str) -> Mapping[str, str]:
    """Nobody has vouched for this file but the administrator, who therefore names its digest and origin."""
    if not given.sha256:
        raise Refused(
            f"署名された models.lock に、このファイル (SHA-256 {digest}) はありません。公開元のダイジェストを確かめ、"
            "--import SHA256 --licence … --origin … --prompt-format … を付けて取り込んでください。 / "
            "No signed list has this file: compare its digest with the publisher's, then name it by --import."
        )
    if not re.fullmatch(r"[0-9a-f]{64}", given.sha256.lower()) or given.sha256.lower() != digest:
        raise Refused(
            f"ファイルの SHA-256 は {digest} で、--import の値と違います。受け取り直してください。 / "
            "The file has another digest than --import names."
        )
    if not (given.licence and given.origin and given.prompt_format):
        raise Refused(
            "--licence、--origin、--prompt-format も付けてください。 / These three are needed, too."
        )
    return {
        "basis": "import",
        "name": given.name or re.sub(r"[^a-z0-9._-]+", "-", given.file.stem.lower()).strip("-._"),
        "prompt_format": given.prompt_format,
        "licence": given.licence,
        "origin": given.origin,
    }


def _log(root: Path, said: Mapping[str, Any]) -> None:
    folder = root / "var" / "lib" / "kura-installer"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / "models.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(json.dumps({"action": "model.add", **said}, ensure_ascii=False) + "\n")
        out.flush()
        os.fsync(out.fileno())


def _settled(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
