"""What of the host is Kura's: its user, folders, certificate, firewall, units, commands."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from installer import places
from installer.deploy import answers, firewall, units
from installer.deploy.settings import refuse_open
from installer.deploy.site import GROUPS, Site
from installer.host import checks, report
from installer.host.finding import Host, Wanted
from installer.places import USER
from installer.steps import Refused, program

RENEW_DAYS = 30  # a certificate of our own is made anew when so many are left
# found by preflight, but brought by the bundle, or meant only for systemd
_BROUGHT = ("ファイアウォール / firewall", "Python")
_OF_SYSTEMD = ("systemd", "cgroup", "BPF")


# --- preflight ----------------------------------------------------------------------


def passed(site: Site) -> bool:
    """Once, before anything is there: afterwards the port is taken, by Kura itself."""
    return not site.preflight or bool(site.places.installed())


def preflight(site: Site) -> None:
    a = site.answers
    wanted = Wanted(
        data=site.places.data,
        address=a.listen,
        port=a.port,
        name=a.name if a.certificate else "",
        certificate=Path(a.certificate) if a.certificate else None,
        key=Path(a.key) if a.key else None,
    )
    skipped = (*_BROUGHT, *(() if site.systemd else _OF_SYSTEMD))
    lines = [one for one in checks.lines(Host(), wanted) if one.name not in skipped]
    site.say(report.as_text(lines))
    if not report.passed(lines):
        raise Refused(
            "この機械ではまだ動きません。✗ の行を直して、もう一度実行してください（--skip-preflight で飛ばせます）。"
            " / Mend the lines with ✗ and run this again (--skip-preflight passes them over)."
        )
    site.preflight = False


# --- user and folders ----------------------------------------------------------------


def user_there(site: Site) -> bool:
    if not site.whole:
        return True
    try:
        site.owner  # noqa: B018
        for name in GROUPS:
            site.group(name)
    except (Refused, KeyError):
        return False
    return True


def user(site: Site) -> None:
    for name in (USER, *GROUPS):
        program(site, ["groupadd", "--system", "--force", name])
    try:
        site.owner  # noqa: B018
    except Refused:
        login = ("--no-create-home", "--home-dir", site.places.data, "--shell", "/usr/sbin/nologin")
        program(site, ["useradd", "--system", "--gid", USER, *login, USER])


@dataclass(frozen=True)
class _Folder:
    at: Path
    mode: int
    ours: bool = False  # Kura's user's, else root's


def _folders(site: Site) -> list[_Folder]:
    at = site.places
    return [
        _Folder(at.etc, 0o755),
        _Folder(at.tls, 0o755),
        _Folder(at.keys, 0o755),
        _Folder(at.units, 0o755),
        _Folder(at.commands, 0o755),
        _Folder(site.places.root / "etc/logrotate.d", 0o755),
        _Folder(at.data, 0o700, ours=True),
    ]


def folders_done(site: Site) -> bool:
    for folder in _folders(site):
        if not folder.at.is_dir() or folder.at.is_symlink():
            return False
        about = folder.at.stat()
        if folder.ours and stat.S_IMODE(about.st_mode) & 0o007:
            refuse_open(folder.at, 0o077)
        if folder.ours and site.whole and about.st_uid != site.owner[0]:
            return False
    return True


def folders(site: Site) -> None:
    for folder in _folders(site):
        if not folder.at.is_dir():
            folder.at.mkdir(parents=True, mode=folder.mode)
            folder.at.chmod(folder.mode)  # whatever the umask says
        if folder.ours and site.whole:
            os.chown(folder.at, *site.owner, follow_symlinks=False)


def sweep(site: Site) -> None:
    """Take away what a killed run had not yet put in its place."""
    at = site.places
    more = [at.state, at.opt, site.release, site.release / "venv"]
    for folder in (*(f.at for f in _folders(site)), *more):
        if folder.is_dir():
            places.sweep(folder)


# --- files with a content that the answers say ----------------------------------------


@dataclass(frozen=True)
class Written:
    """Files that are what they should be, or are written. `after` runs when any of them changed."""

    files: Callable[[Site], dict[Path, str]]
    mode: int = 0o644

    def done(self, site: Site) -> bool:
        if not user_there(site):  # a dry run on a fresh host
            return False
        return all(p.is_file() and p.read_text("utf-8") == t for p, t in self.files(site).items())

    def do(self, site: Site) -> None:
        for path, text in self.files(site).items():
            places.write(path, text, self.mode)

    def undo(self, site: Site) -> None:
        for path in self.files(site):
            path.unlink(missing_ok=True)


def _answers(site: Site) -> dict[Path, str]:
    head = (
        "# 導入の回答。変えたら kura-installer configure / answers; change them, then configure\n"
    )
    return {site.places.etc / "install.toml": head + answers.text_of(site.answers)}


def _firewall(site: Site) -> dict[Path, str]:
    a = site.answers
    groups = {name: site.group(f"kura-{name}") for name in units.PROCESSES}
    text = firewall.text(a.port, a.clients, a.reach, site.owner[0], groups, sealed=a.sealed)
    return {site.places.firewall: text}


def _units(site: Site) -> dict[Path, str]:
    return {site.places.units / name: text for name, text in units.texts(site.units).items()}


def _rotation(site: Site) -> dict[Path, str]:
    """The processes' own log is the journal's, or turned by `kura up`; the installer's is turned here."""
    logs = f"{site.places.log} {site.places.state / 'up.log'}"
    text = (
        f"# written by kura-installer\n{logs} {{\n    su root root\n    size 10M\n    rotate 5\n"
        "    compress\n    missingok\n    notifempty\n    copytruncate\n}\n"
    )
    return {site.places.root / "etc/logrotate.d/kura": text}


def _commands(site: Site) -> dict[Path, str]:
    at = site.places
    kura = f"""#!/bin/sh
# written by kura-installer: kura as Kura's own user, with the settings of this host
set -eu
program={at.current}/venv/bin/kura
[ -r {at.settings} ] || {{ echo "kura: root で実行してください (sudo kura …) / run it as root" >&2; exit 1; }}
set -a
. {at.settings}
set +a
[ "$(id -u)" = 0 ] && [ "{at.root}" = / ] || exec "$program" "$@"
cd /
exec setpriv --reuid {USER} --regid {USER} --clear-groups -- "$program" "$@"
"""
    installer = f"""#!/bin/sh
# written by kura-installer: that of the release in use
exec {at.current}/venv/bin/kura-installer "$@"
"""
    return {at.commands / "kura": kura, at.commands / "kura-installer": installer}


ANSWERS = Written(_answers, 0o600)
FIREWALL = Written(_firewall)
UNITS = Written(_units)
ROTATION = Written(_rotation)
COMMANDS = Written(_commands, 0o755)


# --- certificate ----------------------------------------------------------------------


def certificate_done(site: Site) -> bool:
    tls, a = site.places.tls, site.answers
    ours = (tls / "cert.pem", tls / "key.pem")
    if not all(path.is_file() for path in ours):
        return False
    refuse_open(ours[1], 0o077)
    if _apart(*ours):  # it was stopped between the two
        return False
    if a.certificate:
        given = (_bytes(a.certificate), _bytes(a.key))
        return given == tuple(path.read_bytes() for path in ours)
    made_for = tls / "made-for"
    if not made_for.is_file():
        return True  # brought by an earlier answer: stays until another is brought
    return made_for.read_text("utf-8") == _names(site) and _days_left(ours[0]) > RENEW_DAYS


def certificate(site: Site) -> None:
    tls, a = site.places.tls, site.answers
    scratch = site.places.state / "tls"
    shutil.rmtree(scratch, ignore_errors=True)
    if a.certificate:
        refuse_open(Path(a.key), 0o007)
        if why := _apart(Path(a.certificate), Path(a.key)):
            raise Refused(
                f"証明書 {a.certificate} と鍵 {a.key} は組になりません / do not belong together: {why}"
            )
        chain, key = _bytes(a.certificate), _bytes(a.key)
        (tls / "made-for").unlink(missing_ok=True)
    else:
        scratch.mkdir(mode=0o700)
        maker = ("-I", "-m", "installer.deploy.certificate")
        program(
            site, [site.release / "venv/bin/python", *maker, scratch, *_names(site).splitlines()]
        )
        chain, key = (scratch / "cert.pem").read_bytes(), (scratch / "key.pem").read_bytes()
        # the certificate counts as ours from here on, even if the next line is never reached
        places.write(tls / "made-for", _names(site))
    places.write(tls / "key.pem", key, 0o600, site.owner if site.whole else None)
    places.write(tls / "cert.pem", chain, 0o644)
    shutil.rmtree(scratch, ignore_errors=True)


def _apart(certificate: Path, key: Path) -> str:
    """Why they cannot be served; "" where they can."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:  # SSLError is one
        return str(error)
    return ""


def _names(site: Site) -> str:
    return f"{site.answers.name}\nlocalhost\n127.0.0.1\n"


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Refused(f"{path} を読めません / cannot be read: {error.strerror}") from None


def _days_left(path: Path) -> float:
    # the standard library has no other reader of a certificate that is in a file
    read = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]
    return (ssl.cert_time_to_seconds(str(read["notAfter"])) - time.time()) / 86400
