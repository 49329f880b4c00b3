"""A bundle that installs in seconds: the real layout, signed, with a product of a page that needs nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from installer.deploy import certificate
from tests.installer.bundles import KEY, bundle

PRODUCT = """
import fcntl, json, os, signal, sys, time
from pathlib import Path

def main():
    data = Path(os.environ["KURA_DATA"])
    verb = sys.argv[1]
    if verb == "up":
        lock = open(data / "up.lock", "a+")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        if (data / "broken").exists():
            print("kura: モデルがありません", flush=True)
            sys.exit(78)
        (data / "answers").touch()
        try:
            time.sleep(600)
        finally:
            (data / "answers").unlink(missing_ok=True)
    elif verb == "status":
        up = "ready" if (data / "answers").exists() else "stopped"
        print(json.dumps({"web": up, "infer": up}))
    elif verb == "setup-code":
        print("ABCD-EFGH-JKMN-PQRS")
"""
CERTIFICATE = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "cert.pem").write_text(CERT)
(folder / "key.pem").write_text(KEY)
"""


def wheel(version: str, more: Mapping[str, str] = {}) -> bytes:
    cert, key = (pem.decode() for pem in _pair())
    maker = CERTIFICATE.replace("CERT)", f"{cert!r})").replace("KEY)", f"{key!r})")
    about = f"kura-{version}.dist-info"
    files = {
        "tiny_kura.py": PRODUCT,
        "installer/__init__.py": "",
        "installer/deploy/__init__.py": "",
        "installer/deploy/certificate.py": maker,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: kura\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\nkura = tiny_kura:main\nkura-installer = tiny_kura:main\n",
        **more,
    }
    record = "".join(f"{n},sha256={_digest(t)},{len(t.encode())}\n" for n, t in files.items())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, text in (files | {f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}).items():
            zipped.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)
    return out.getvalue()


def tiny(path: Path, version: str = "0.2.0", more: Mapping[str, bytes] = {}) -> Path:
    made = wheel(version)
    lock = f"kura=={version} --hash=sha256:{hashlib.sha256(made).hexdigest()}\n"
    return bundle(
        path,
        {
            "kura-installer.pyz": b"PK",
            f"wheels/kura-{version}-py3-none-any.whl": made,
            "locks/product.lock": lock.encode(),
            "models/kura-270m/kura-270m.gguf": b"GGUF" + bytes(100),
            "models.lock": b"",
            "docs/ja/導入手順書.md": "手順".encode(),
            "sbom.json": b"{}",
            "vulnerabilities.json": b"{}",
            **more,
        },
        KEY,
        version,
    )


@cache
def _pair() -> tuple[bytes, bytes]:
    return certificate.made(["kura.test"])


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
