"""`kura-installer install BUNDLE` and `kura-installer configure`: one table of steps each."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from installer import places, steps
from installer.bundle import archive, keys
from installer.bundle.manifest import Manifest
from installer.bundle.minisign import PublicKey
from installer.bundle.minisign import Refused as BundleRefused
from installer.deploy import answers, host, release, services, settings
from installer.deploy.answers import Answers
from installer.deploy.site import Site
from installer.places import Places
from installer.steps import Refused, Step

OK, NOT_YET, INTERRUPTED = 0, 1, 130

_PREPARED: tuple[Step[Site], ...] = (
    Step("preflight", "導入前の点検", "preflight", host.passed, host.preflight),
    Step("user", "利用者 kura とグループ", "user and groups", host.user_there, host.user),
    Step(
        "packages",
        "Debian パッケージ",
        "packages of Debian",
        release.packages_done,
        release.packages_do,
        plan=lambda site: " ".join(release.packages_wanted(site)),
    ),
    Step(
        "unpack",
        "束の展開と照合",
        "unpack and compare digests",
        release.unpacked,
        release.unpack,
        plan=lambda site: str(site.release),
    ),
    Step(
        "environment",
        "Python 環境（ネットワーク無し、ダイジェスト固定）",
        "environment, by digests",
        release.environment_done,
        release.environment,
    ),
    Step("release", "リリースの仕上げ", "complete the release", release.whole, release.finish),
)
_CONFIGURED: tuple[Step[Site], ...] = (
    Step("folders", "フォルダーと権限", "folders", host.folders_done, host.folders),
    Step("answers", "回答の保存", "keep the answers", host.ANSWERS.done, host.ANSWERS.do),
    Step(
        "secrets",
        "この機械だけの鍵",
        "secrets of this host",
        settings.secrets_done,
        settings.secrets_do,
    ),
    Step("tls", "TLS 証明書", "certificate", host.certificate_done, host.certificate),
    Step("settings", "設定", "settings", settings.done, settings.do),
    Step("firewall", "ファイアウォール", "firewall", host.FIREWALL.done, host.FIREWALL.do),
    Step("units", "systemd ユニット", "systemd units", host.UNITS.done, host.UNITS.do),
    Step("rotation", "ログの世代管理", "log rotation", host.ROTATION.done, host.ROTATION.do),
    Step("commands", "コマンド kura", "commands", host.COMMANDS.done, host.COMMANDS.do),
)
_SWITCHED: tuple[Step[Site], ...] = (
    Step("switch", "このリリースに切り替え", "switch", release.switched, release.switch),
)
_STARTED: tuple[Step[Site], ...] = (
    Step("start", "起動と確認", "start", services.started, services.start),
)
INSTALL = (*_PREPARED, *_CONFIGURED, *_SWITCHED, *_STARTED)
CONFIGURE = (*_CONFIGURED, *_STARTED)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="kura-….kura.tar")
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--key", type=Path, help="発行元の公開鍵 (.pub) / the publisher's key")
    trust.add_argument("--fingerprint", help="電話などで確かめた鍵の指紋 / its fingerprint")
    parser.add_argument("--skip-preflight", action="store_true")
    _common(parser)


def configure_options(parser: argparse.ArgumentParser) -> None:
    _common(parser)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--answers", type=Path, help="回答ファイル (TOML)。無ければ尋ねます / else you are asked"
    )
    parser.add_argument("--dry-run", action="store_true", help="何をするかだけ示す / only say it")
    parser.add_argument(
        "--no-systemd", action="store_true", help="systemd が無い所で kura up を使う"
    )
    parser.add_argument("--no-start", action="store_true", help="起動しない / do not start")
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)


def run(given: argparse.Namespace) -> int:
    return _told(lambda: _install(given))


def configure(given: argparse.Namespace) -> int:
    return _told(lambda: _configure(given))


def _install(given: argparse.Namespace) -> int:
    at = Places(given.root.absolute())
    _root_only(at, given)
    manifest = archive.read(given.bundle, trusted(at, given))
    print(f"Kura {manifest.version} ({manifest.arch}) 署名を確認しました / signature verified")
    _refuse_other(at, manifest)
    site = _site(at, given, _answers(at, given), manifest)
    plan = INSTALL if not given.no_start else INSTALL[: -len(_STARTED)]
    if given.dry_run:
        steps.run(plan, site, dry=True)
        return OK
    with steps.alone(at):
        host.sweep(site)
        steps.run(plan, site)
        _trust(at, manifest)
    return _farewell(site, given)


def _configure(given: argparse.Namespace) -> int:
    at = Places(given.root.absolute())
    _root_only(at, given)
    if not at.installed():
        raise Refused("まだ導入されていません: kura-installer install / Nothing is installed yet.")
    site = _site(at, given, _answers(at, given), None)
    plan = CONFIGURE if not given.no_start else CONFIGURE[: -len(_STARTED)]
    if given.dry_run:
        steps.run(plan, site, dry=True)
        return OK
    with steps.alone(at):
        host.sweep(site)
        steps.run(plan, site)
    return _farewell(site, given)


def trusted(at: Places, given: argparse.Namespace) -> Sequence[PublicKey]:
    """Keys of this host, the one that this installer was built with, and what the person names."""
    found = keys.known(at.keys)
    if given.key:
        found.append(keys.read(given.key))
    if given.fingerprint:
        key = archive.offered(given.bundle)
        if key is None or not key.has(given.fingerprint):
            raise Refused(
                "束の鍵の指紋が違います。使わずに、渡した人に確かめてください。"
                " / The bundle's key has another fingerprint: do not use it."
            )
        found.append(key)
    if not found:
        raise Refused(
            "束の発行元を確かめる鍵がありません。--key か --fingerprint で指定してください。"
            " / Name the publisher's key by --key or --fingerprint."
        )
    return found


def _trust(at: Places, manifest: Manifest) -> None:
    """Who was believed once is known on this host from now on."""
    key = manifest.key
    if key and not (path := at.keys / f"{key.name}.pub").exists():
        places.write(path, key.text)


def _refuse_other(at: Places, manifest: Manifest) -> None:
    if installed := at.installed():
        manifest.refuse_older_than(installed)
        if installed != manifest.version:
            raise Refused(
                f"{installed} が導入されています。kura-installer upgrade で更新してください。"
                f" / {installed} is installed: use kura-installer upgrade."
            )


def _answers(at: Places, given: argparse.Namespace) -> Answers:
    """Of the file, of the last time, or of the person; the first that there is."""
    kept = at.etc / "install.toml"
    if given.answers:
        return answers.read(given.answers)
    if kept.is_file():
        return answers.read(kept)
    if given.dry_run:
        return answers.checked(Answers())
    if not sys.stdin.isatty():
        raise Refused(
            "端末ではないので尋ねられません。--answers で回答ファイルを渡してください。"
            " / No terminal to ask at: give a file by --answers."
        )
    return answers.asked()


def _site(at: Places, given: argparse.Namespace, said: Answers, manifest: Manifest | None) -> Site:
    return Site(
        at,
        "install" if manifest else "configure",
        manifest.version if manifest else at.installed(),
        answers=said,
        bundle=getattr(given, "bundle", None),
        manifest=manifest,
        systemd=not given.no_systemd,
        preflight=manifest is not None and not given.skip_preflight,
    )


def _root_only(at: Places, given: argparse.Namespace) -> None:
    if at.root == Path("/") and os.geteuid() != 0 and not given.dry_run:
        raise Refused("root で実行してください (sudo)。 / Run it as root.")
    if not given.no_systemd and not given.no_start and not Path("/run/systemd/system").is_dir():
        raise Refused(
            "systemd が動いていません。コンテナなどでは --no-systemd を付けてください。"
            " / systemd does not run here: --no-systemd."
        )


def _farewell(site: Site, given: argparse.Namespace) -> int:
    print(f"\nKura {site.version} を導入しました / installed: {site.answers.origin}")
    if not site.systemd:
        print("systemd 無し: ファイアウォールは読み込んでいません / the firewall is not loaded")
    if not given.no_start and (code := services.code(site)):
        print(f"最初の管理者の登録コード / code for the first administrator: {code}")
        print("新しいコードは kura setup-code で作れます / another: kura setup-code")
    return OK


def _told(do: object) -> int:
    assert callable(do)
    try:
        return int(do())
    except (Refused, BundleRefused) as refused:
        print(f"kura-installer: {refused}", file=sys.stderr)
        return NOT_YET
    except OSError as error:
        print(
            f"kura-installer: {error.filename or ''} {error.strerror or error}。"
            "直してから、もう一度実行すると続きから始まります。 / Mend it and run this again.",
            file=sys.stderr,
        )
        return NOT_YET
    except KeyboardInterrupt:
        print(
            "\n中断しました。もう一度実行すると続きから始まります。 / Stopped; run it again to go on.",
            file=sys.stderr,
        )
        return INTERRUPTED
