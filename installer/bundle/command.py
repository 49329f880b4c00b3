"""kura-installer bundle: makes the one file that is carried to a site; `bundle verify` checks one."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from installer.bundle import archive, keys
from installer.bundle.minisign import Refused

HELP = (
    "持ち込む一つのファイルを作る・確かめる / makes or verifies the file that is carried to a site"
)
ROOT = Path(__file__).resolve().parents[2]
PASSPHRASE = "KURA_KEY_PASSPHRASE"  # noqa: S105
OK, FAILED, STOPPED = 0, 1, 130


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret-key", type=Path, help="署名する秘密鍵 / key that signs (minisign)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(), help="置くフォルダー / folder to put it"
    )
    parser.add_argument(
        "--advisories", help="脆弱性情報 (OSV) のファイルか none / file of advisories, or none"
    )
    parser.add_argument(
        "--vex", type=Path, help="影響しない理由 (OpenVEX) / why some do not matter"
    )
    parser.add_argument("--base", type=Path, help="差分の元の束 / make a delta against this bundle")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="models.lock にあるモデルを入れる、何度でも / a model of models.lock, repeatable",
    )
    parser.add_argument("--models", type=Path, help="標準のモデルのフォルダー / default models")
    parser.add_argument(
        "--work",
        type=Path,
        help="取得したものを残すフォルダー / keeps what was fetched and compiled",
    )
    parser.add_argument(
        "--cuda", action="store_true", help="GPU 用に構築 (未検証) / for NVIDIA GPUs (unverified)"
    )
    parser.add_argument(
        "--image",
        action="store_true",
        help="コンテナも (podman、未検証) / with the container image",
    )
    parser.add_argument(
        "--no-debian", action="store_true", help="Debian パッケージを入れない / without them"
    )
    verbs = parser.add_subparsers(dest="what", required=False)
    verify = verbs.add_parser(
        "verify", help="署名と全ファイルを確かめる / checks signature and files"
    )
    verify.add_argument("file", type=Path)
    verify.add_argument(
        "--key", type=Path, action="append", default=[], help="公開鍵 / public key, repeatable"
    )
    verify.add_argument(
        "--fingerprint", help="束の名乗る鍵の指紋 / of the key that the bundle itself names"
    )


def run(given: argparse.Namespace) -> int:
    try:
        return _verify(given) if given.what == "verify" else _make(given)
    except Refused as why:
        print(why, file=sys.stderr)
        return FAILED
    except OSError as why:
        print(f"{why.filename or ''}: {why.strerror}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(
            "中断しました。作りかけは残りません。 / Stopped; nothing half done is left.",
            file=sys.stderr,
        )
        return STOPPED


def _verify(given: argparse.Namespace) -> int:
    if given.fingerprint:
        key = archive.offered(given.file)
        if key is None or not key.has(given.fingerprint):
            raise Refused(
                "束の名乗る鍵は、その指紋ではありません。渡した人に確かめてください。 / "
                "The bundle's key has another fingerprint; ask whoever gave it to you."
            )
        trusted = [key]
    else:
        trusted = keys.trusted(given.key)
    manifest = archive.read(given.file, trusted)
    archive.check(given.file, manifest)
    key = manifest.key or trusted[0]
    size = sum(f.size for f in manifest.files.values())
    delta = f"、{manifest.base} からの差分 / a delta from {manifest.base}" if manifest.base else ""
    print(
        f"Kura {manifest.version} ({manifest.arch}){delta}\n"
        f"ファイル / files: {len(manifest.files)}, {size / 1e6:.0f} MB\n"
        f"コミット / commit: {manifest.built_from}\n"
        f"署名の鍵 / key: {key.name}\n指紋 / fingerprint: {key.fingerprint}\n"
        "署名も、すべてのファイルも、届けられたとおりです。 / Signature and files are as they were sent."
    )
    return OK


def _make(given: argparse.Namespace) -> int:
    if given.secret_key is None or given.advisories is None:
        raise Refused(
            "--secret-key と --advisories (ファイル、または none) が要ります。鍵は "
            "kura-installer key create で作れます。 / --secret-key and --advisories (a file, or none) are needed."
        )
    from appliance import settings
    from appliance.errors import ApplianceError
    from installer.bundle import build
    from installer.bundle.signing import SecretKey

    secret = given.secret_key.read_text("utf-8")
    key = SecretKey.read(secret, passphrase(given.secret_key))
    begin = time.monotonic()

    def said(japanese: str, english: str) -> None:
        passed = f"{time.monotonic() - begin:6.0f} s"
        print(f"{passed}  {japanese} / {english}", file=sys.stderr, flush=True)

    try:
        order = build.Order(
            root=ROOT,
            work=given.work or ROOT / ".kura" / "bundle",
            models=given.models or settings.load().models,
            out=given.out,
            advisories=None if given.advisories == "none" else Path(given.advisories),
            vex=given.vex,
            build="cuda" if given.cuda else "cpu",
            brought=dict(_named(given.model)),
            debian=not given.no_debian,
            image=given.image,
            base=given.base,
        )
        path = build.make(order, key, said)
    except ApplianceError as why:
        raise Refused(str(why)) from None
    said("できました", "done")
    print(
        f"{path}  {path.stat().st_size / 1e6:.0f} MB\n指紋 / fingerprint: {key.public.fingerprint}"
    )
    if given.advisories == "none":
        print(
            "脆弱性情報との照合はしていません。 / Not compared with any advisories.",
            file=sys.stderr,
        )
    return OK


def passphrase(file: Path, *, new: bool = False) -> str:
    """From the environment for unattended use, else asked for; twice where it is new."""
    if (text := os.environ.get(PASSPHRASE)) is not None:
        return text
    try:
        text = getpass.getpass(f"{file} のパスフレーズ / passphrase: ")
        again = getpass.getpass("もう一度 / again: ") if new else text
    except EOFError:
        raise Refused(
            f"パスフレーズを聞けません。端末で実行するか、環境変数 {PASSPHRASE} に入れてください。"
            f" / No terminal to ask for the passphrase at: run this in one, or set {PASSPHRASE}."
        ) from None
    if again != text:
        raise Refused("二つが違います。もう一度実行してください。 / They differ; run this again.")
    return text


def _named(words: Sequence[str]) -> list[tuple[str, Path]]:
    found = [word.partition("=") for word in words]
    if any(not (name and file) for name, _, file in found):
        raise Refused("--model は 名前=ファイル の形です。 / --model takes NAME=FILE.")
    return [(name, Path(file)) for name, _, file in found]
