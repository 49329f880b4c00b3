"""kura-installer: what IT runs. Until Kura is installed nothing but the standard library is there."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from installer import model_command as model
from installer.bundle import command as bundle
from installer.bundle import key_command as key
from installer.deploy import verb as deploy
from installer.host import checks, report
from installer.host.finding import Host, Wanted
from installer.upgrade import applied, recover, rollback, uninstall, upgrade

OK, NOT_YET = 0, 1


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="kura-installer", description="Kura を導入し、守る / installs Kura and looks after it"
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, (summary, options, _) in VERBS.items():
        options(verbs.add_parser(name, help=summary))
    given = parser.parse_args(arguments)
    sys.exit(VERBS[given.verb][2](given))


def _sbom_options(verb: argparse.ArgumentParser) -> None:
    which = verb.add_mutually_exclusive_group(required=True)
    which.add_argument("--out", type=Path, help="書くファイル / write it there")
    which.add_argument(
        "--compare", type=Path, help="この機械と比べる部品表 / one to compare this machine with"
    )


def _preflight_options(verb: argparse.ArgumentParser) -> None:
    default = Wanted()
    verb.add_argument("--json", action="store_true", help="プログラム向け / for programs")
    verb.add_argument(
        "--html", type=Path, help="印刷できる記録を書くファイル / write a page to print"
    )
    verb.add_argument(
        "--data",
        type=Path,
        default=default.data,
        help="データを置くフォルダー / folder of the data",
    )
    verb.add_argument(
        "--address", default=default.address, help="待ち受けるアドレス / to listen on"
    )
    verb.add_argument("--port", type=int, default=default.port)
    verb.add_argument("--name", default="", help="ブラウザーで開く名前 / name in people's browsers")
    verb.add_argument("--certificate", type=Path, help="TLS 証明書 (PEM)")
    verb.add_argument("--key", type=Path, help="その鍵 / its key (PEM)")
    verb.add_argument("--authority", type=Path, help="社内認証局 / the company's CA (PEM)")
    verb.add_argument("--memory-gb", type=float, default=default.memory_gb)
    verb.add_argument("--disk-gb", type=float, default=default.disk_gb)
    verb.add_argument(
        "--vram-gb",
        type=float,
        default=default.vram_gb,
        help="GPU に載せるモデル / models on the GPU",
    )
    verb.add_argument("--ldap", default="", help="ldaps://サーバー[:ポート]")
    verb.add_argument(
        "--ldap-user",
        default="",
        help="パスワードは環境変数 KURA_LDAP_PASSWORD / password by the environment",
    )
    verb.add_argument(
        "--smb",
        action="append",
        default=[],
        help="ファイルサーバー、何度でも / a file server, repeatable",
    )


def preflight(given: argparse.Namespace) -> int:
    password = os.environ.get("KURA_LDAP_PASSWORD", "")
    options = {k: v for k, v in vars(given).items() if k not in {"verb", "json", "html", "smb"}}
    wanted = Wanted(**options, smb=tuple(given.smb), ldap_password=password)
    lines = list(checks.lines(Host(), wanted))
    print(report.as_json(lines) if given.json else report.as_text(lines))
    if given.html:
        given.html.write_text(report.as_html(lines, datetime.now().astimezone()), "utf-8")
    return OK if report.passed(lines) else NOT_YET


def sbom(given: argparse.Namespace) -> int:
    from installer import sbom  # needs what is installed

    if given.out:
        given.out.write_text(json.dumps(sbom.made(), ensure_ascii=False, indent=1) + "\n", "utf-8")
        return OK
    try:
        bill = json.loads(given.compare.read_text("utf-8"))
        found = sbom.differs(bill)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(
            f"{given.compare} を部品表として読めません / is no bill of materials: {error}",
            file=sys.stderr,
        )
        return NOT_YET
    print("\n".join(found) or "部品表のとおりです。 / As the bill says.")
    return NOT_YET if found else OK


Options = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]
VERBS: dict[str, tuple[str, Options, Run]] = {  # what it is for, its options, what it does
    "preflight": (
        "導入前の点検 / whether this machine can carry Kura",
        _preflight_options,
        preflight,
    ),
    "sbom": ("部品表 (CycloneDX) / the bill of materials", _sbom_options, sbom),
    "bundle": (bundle.HELP, bundle.options, bundle.run),
    "key": (key.HELP, key.options, key.run),
    "model": (model.HELP, model.options, model.run),
    "install": ("導入 / install a bundle", deploy.options, deploy.run),
    "configure": (
        "回答を変えて設定し直す / apply changed answers",
        deploy.configure_options,
        deploy.configure,
    ),
    "upgrade": ("新しい版にする / to a newer release", upgrade.options, upgrade.run),
    "rollback": ("前の版に戻す / back to an earlier release", rollback.options, rollback.run),
    "recover": (
        "途中で止まった入れ替えを終える / end a switch that was cut off",
        recover.options,
        recover.run,
    ),
    "apply-host": (
        "ユニットなどをこの版のものにする（upgrade が使う） / units and the like of this release",
        applied.options,
        applied.run,
    ),
    "uninstall": ("Kura を取り除く / take Kura away", uninstall.options, uninstall.run),
}

if __name__ == "__main__":
    main()
