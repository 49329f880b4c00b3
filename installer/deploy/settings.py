"""`kura.env`, which systemd, the wrappers and `kura up` read alike, and the secrets of the host."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from installer import places
from installer.deploy.site import Site
from installer.steps import Refused

KEY_BYTES = 32


def read(path: Path) -> dict[str, str]:
    found = {}
    for line in path.read_text("utf-8").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            found[name.strip()] = "".join(shlex.split(value)) if value.strip() else ""
    return found


def wanted(site: Site) -> dict[str, str]:
    """What the answers make of the settings; all else in the file is the site's."""
    at, answers = site.places, site.answers
    found = {
        "KURA_DATA": str(at.data),
        "KURA_MODELS": str(at.current / "models"),
        "KURA_WEB_HOST": answers.listen,
        "KURA_WEB_PORT": str(answers.port),
        "KURA_PUBLIC_ORIGIN": answers.origin,
        "KURA_TLS_CERTIFICATE": str(at.tls / "cert.pem"),
        "KURA_TLS_KEY": str(at.tls / "key.pem"),
    }
    if answers.database_url:
        found["KURA_DATABASE_URL"] = answers.database_url
    return found | {f"KURA_{name}": value for name, value in answers.settings.items()}


def done(site: Site) -> bool:
    path = site.places.settings
    if not path.is_file():
        return False
    refuse_open(path, 0o007)
    return path.read_text("utf-8") == merged(site)


def do(site: Site) -> None:
    places.write(
        site.places.settings, merged(site), 0o640, (0, site.owner[1]) if site.whole else None
    )


def merged(site: Site) -> str:
    """The file as it is, with what the answers say in its place; the rest behind it."""
    path, rest = site.places.settings, wanted(site)
    lines = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else _HEAD:
        name = line.partition("=")[0].strip()
        lines.append(_line(name, rest.pop(name)) if name in rest else line)
    return "\n".join([*lines, *(_line(name, value) for name, value in rest.items())]) + "\n"


_HEAD = [
    "# Kura の設定 (KURA_*)。変えたら systemctl restart kura.target / settings; then restart",
    "# install.toml から書かれる行は kura-installer configure が書き直します / lines of install.toml are written anew",
]


def _line(name: str, value: str) -> str:
    return f"{name}='{value}'"  # systemd and the shell read this alike


# --- the key of the sources' passwords ---------------------------------------------


def secrets_done(site: Site) -> bool:
    path = _key(site)
    if not path.exists():
        return False
    refuse_open(path, 0o077)
    key = path.read_bytes()
    if len(key) != KEY_BYTES or len(set(key)) < 8:
        raise Refused(
            f"{path} は推測できる鍵、または鍵ではありません。控えから戻すか、移してからもう一度実行してください。"
            " / is no key, or one that can be guessed: restore it, or move it away."
        )
    return True


def secrets_do(site: Site) -> None:
    places.write(_key(site), os.urandom(KEY_BYTES), 0o600, site.owner if site.whole else None)


def _key(site: Site) -> Path:
    return site.places.data / "secrets.key"


def refuse_open(path: Path, bits: int) -> None:
    """Raises Refused where others may read what is secret."""
    if (mode := stat.S_IMODE(path.stat().st_mode)) & bits:
        mend = f"chmod {mode & ~bits:o} {path}"
        raise Refused(
            f"{path} をほかの利用者も読めます。{mend} を実行し、中の秘密を替えてください。"
            " / Others can read it: do that, and change the secrets in it."
        )
