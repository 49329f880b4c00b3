"""kura-installer key: the pair of keys that bundles, or a site's own models, are signed with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from installer.bundle.command import FAILED, OK, STOPPED, passphrase
from installer.bundle.minisign import PublicKey, Refused

HELP = "署名の鍵 / keys for signing"


def options(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", required=True)
    create = verbs.add_parser(
        "create", help="鍵の組を作る (minisign 互換) / makes a pair, as minisign does"
    )
    create.add_argument("--secret-key", type=Path, required=True, help="書くファイル / to write")
    create.add_argument("--public-key", type=Path, required=True, help="書くファイル / to write")
    show = verbs.add_parser("show", help="公開鍵の指紋 / fingerprint of a public key")
    show.add_argument("file", type=Path)


def run(given: argparse.Namespace) -> int:
    try:
        if given.what == "show":
            key = PublicKey.read(given.file.read_text("utf-8"))
        else:
            from installer.bundle import signing

            words = passphrase(given.secret_key, new=True)
            key = signing.create(given.secret_key, given.public_key, words)
    except Refused as why:
        print(why, file=sys.stderr)
        return FAILED
    except (OSError, UnicodeDecodeError) as why:
        print(f"鍵を読み書きできません / cannot read or write the key: {why}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return STOPPED
    print(f"鍵 / key: {key.name}\n指紋 / fingerprint: {key.fingerprint}")
    return OK
