"""Where data lies: the disk below it, who may read it, and whether that disk is encrypted."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from appliance.settings import Settings

_FILES = 1_000_000  # looked at for a folder's size
_UNKNOWN = "分かりません（このホストからは見えません）"


def all(settings: Settings) -> list[dict[str, Any]]:
    named = {
        "データフォルダー": settings.data,
        "索引": settings.data / "index",
        "アップロード": settings.data / "uploads",
        "ログ": settings.log,
        "取り込み元のパスワードを封じる鍵": settings.secrets_key,
        "報告に署名する鍵": settings.data / "attest" / "site.key",
        "モデル": settings.models,
        "控え": settings.backup_folder,
    }
    return [
        _database(settings),
        *(_place(what, path) for what, path in named.items() if path != Path()),
    ]


def _database(settings: Settings) -> dict[str, Any]:
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        return _place("データベース（文書の本文・質問・監査記録）", Path(str(url.database)))
    shown = url.render_as_string(hide_password=True)
    return {
        "what": "データベース（文書の本文・質問・監査記録）",
        "where": re.sub(r"//[^@/]*@", "//", shown),
        "disk_encryption": "データベースサーバーの側で確かめてください",
        "kura_encryption": _kura("データベース"),
    }


def _place(what: str, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"what": what, "where": str(path)}
    try:
        facts = path.stat()
    except OSError as error:
        return found | {"absent": error.strerror}
    kind, device = _mount(path)
    return found | {
        "mode": f"{facts.st_mode & 0o777:o}",
        "owner": _owner(facts.st_uid),
        "bytes": _size(path),
        "file_system": kind,
        "disk_encryption": _encryption(device),
        "kura_encryption": _kura(what),
    }


def _kura(what: str) -> str:
    if what == "控え":
        return "age（公開鍵 backup_recipient 宛て。--plain で取ったものを除く）"
    if what.startswith("データベース"):
        return "取り込み元のパスワードは AES-256-GCM、ほかは平文"
    return "なし（平文）"


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    total = seen = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(Path(folder) / name).st_size
            except OSError:
                continue  # gone meanwhile
            seen += 1
        if seen > _FILES:
            break
    return total


def _mount(path: Path) -> tuple[str, str]:
    """The kind of file system and its device (major:minor); "" where it has none of its own."""
    real, best, found = str(path.resolve()), "", ("", "")
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        number, point = left.split()[2], left.split()[4].encode().decode("unicode_escape")
        kind, source = right.split()[:2]
        inside = point == "/" or real == point or real.startswith(point + "/")
        if not inside or len(point) < len(best):
            continue
        if number.startswith("0:"):  # of btrfs, overlay: of no device, or of several
            number = ""
            if source.startswith("/dev/") and Path(source).exists():
                rdev = Path(source).stat().st_rdev
                number = f"{os.major(rdev)}:{os.minor(rdev)}"
        best, found = point, (kind, number)
    return found


def _encryption(device: str) -> str:
    block = Path("/sys/dev/block") / device
    if not device or not block.exists():
        return _UNKNOWN
    kinds = set(_kinds(block.resolve()))
    if found := sorted(kind for kind in kinds if kind.startswith("CRYPT-")):
        return "dm-crypt（" + "、".join(kind.split("-")[1] for kind in found) + "）"
    return "なし（このホストから見えるかぎり）"


def _kinds(block: Path) -> Iterator[str]:
    """What the device mapper says of a device and of those below it."""
    uuid = block / "dm" / "uuid"
    if uuid.exists():
        yield uuid.read_text().strip()
    below = block / "slaves"
    if below.is_dir():
        for one in below.iterdir():
            yield from _kinds(one.resolve())
