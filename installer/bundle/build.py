"""A bundle, made of the commit that is checked out: never of what lies about in the folder."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from installer import sbom
from installer.bundle import advisories, archive, debs, tools, wheels, zipped
from installer.bundle.archive import File, Manifest, Refused
from installer.bundle.manifest import INSTALLER
from installer.bundle.minisign import PublicKey
from installer.bundle.signing import SecretKey
from installer.bundle.wheels import Workshop

LOCKS = {"cpu": "torch-cpu", "cuda": "torch-cuda"}
RELEASE_KEY = "installer/release.pub"
SHEBANG = b"#!/usr/bin/env python3\n"
ENTRY = b"from installer.__main__ import main\n\nmain()\n"
STAGED = (
    "appliance",
    "connectors",
    "installer",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "NOTICE",
)
CONTAINERS = (
    "Containerfile",
    "compose.yaml",
    "compose.postgres.yaml",
)  # beside what the image is made of
IMAGE = "image/kura.oci.tar"
_NOT_IN_INSTALLER = re.compile(r"installer/(sample|locks|monitoring)/|\.(sh|md)$")

Contents = dict[str, Path | bytes]
Said = Callable[[str, str], None]


@dataclass(frozen=True)
class Order:
    """What was asked for."""

    root: Path  # the checkout
    work: Path
    models: Path  # the default models, unpacked
    out: Path
    advisories: Path | None
    vex: Path | None = None
    build: str = "cpu"
    brought: dict[str, Path] = field(default_factory=dict)  # of models.lock: name -> GGUF file
    debian: bool = True
    image: bool = False
    base: Path | None = None


def make(order: Order, key: SecretKey, said: Said) -> Path:
    """The bundle's path. Raises Refused, DigestMismatch, OSError; what was there before stays."""
    if changed := _git(order.root, "status", "--porcelain", "--untracked-files=no").splitlines():
        raise Refused(
            f"コミットしていない変更があります ({changed[0][3:]} など)。コミットしてから実行してください。 / "
            "Commit what was changed first: a bundle is made of a commit."
        )
    if order.image and not order.debian:
        raise Refused(
            "コンテナのイメージは束の Debian パッケージから作ります。--no-debian を外してください。 / "
            "The image is made of the bundle's Debian packages: leave --no-debian out."
        )
    commit = _git(order.root, "rev-parse", "HEAD").strip()
    date = int(os.environ.get("SOURCE_DATE_EPOCH") or _git(order.root, "log", "-1", "--format=%ct"))
    shop = Workshop(order.root, order.work, date, order.build)
    order.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=order.work) as scratch:
        staged = Path(scratch)
        contents: Contents = {}
        said("コミットの取り出しと画面の構築", "the commit, and its user interface")
        stage(order.root, commit, staged)
        version = _version(staged)
        said("インストーラー", "the installer")
        contents[INSTALLER] = _zipapp(staged, Path(scratch) / INSTALLER, key.public, date)
        contents |= _documents(order.root, commit)
        said("パッケージ (wheel)", "wheels")
        files = _wheels(shop, staged)
        contents |= {f"wheels/{p.name}": p for p in files}
        contents["locks/product.lock"] = wheels.locked(files).encode()
        said("モデル", "models")
        contents |= _models(order)
        system: dict[str, Path] = {}
        if order.debian:
            said("Debian パッケージ", "packages of Debian")
            system = debs.fetched(shop.path("debs"))
            contents |= {f"debs/{name}": path for name, path in system.items()}
            contents["debs/Packages"] = debs.index(system).encode()
        said("部品表と脆弱性の照合", "bill of materials, vulnerabilities")
        contents |= _papers(order, files, system)
        if order.image:
            said("コンテナのイメージ", "container image")
            contents[IMAGE] = _image(shop, contents, version)
        return _written(order, key, contents, version, commit, date, said)


def _written(
    order: Order,
    key: SecretKey,
    contents: Contents,
    version: str,
    commit: str,
    date: int,
    said: Said,
) -> Path:
    arch = tools.run(["dpkg", "--print-architecture"], "dpkg").strip()
    said("ダイジェストと署名", "digests, signature")
    files: dict[str, File] = {name: archive.described(c) for name, c in contents.items()}
    manifest = Manifest(version, arch, commit, date, files)
    name = f"kura-{version}-{arch}"
    if order.base:
        manifest = manifest.against(archive.read(order.base, [key.public]))
        name += f"-from-{manifest.base}"
    path = order.out / f"{name}.kura.tar"
    order.out.mkdir(parents=True, exist_ok=True)
    comment = f"kura {version} {arch} {commit} timestamp:{date}"
    archive.write(path, manifest, contents, lambda body: key.sign(body, comment))
    archive.check(path, archive.read(path, [key.public]))
    return path


def stage(root: Path, commit: str, into: Path) -> None:
    """The commit's own files, its user interface built, both where the wheel wants them."""
    _export(root, commit, (*STAGED, "ui"), into)
    ui = into / "ui"
    shutil.copyfile(ui / "package-lock.json", into / "installer" / "package-lock.json")
    lock = (ui / "package-lock.json").read_bytes()
    ready = root / "ui" / "node_modules"
    known = root / "ui" / "package-lock.json"
    if (ready / ".package-lock.json").is_file() and known.read_bytes() == lock:
        (ui / "node_modules").symlink_to(ready)
    else:
        tools.run(["npm", "ci", "--no-audit", "--no-fund"], "npm ci", cwd=ui)
    tools.run(["npm", "run", "build"], "画面 (UI) の構築", cwd=ui)
    shutil.copytree(ui / "dist", into / "appliance" / "web")
    (into / "appliance" / "web" / ".made").unlink(missing_ok=True)


def _zipapp(staged: Path, path: Path, key: PublicKey, date: int) -> Path:
    files = {"__main__.py": (ENTRY, 0o644), RELEASE_KEY: (key.text.encode(), 0o644)}
    for file in sorted((staged / "installer").rglob("*")):
        name = file.relative_to(staged).as_posix()
        if file.is_file() and not _NOT_IN_INSTALLER.search(name):
            files[name] = (file.read_bytes(), 0o644)
    zipped.write(path, files, date, SHEBANG)
    return path


def _documents(root: Path, commit: str) -> Contents:
    raw = tools.output(["git", "archive", "--format=tar", commit, "docs", "LICENSE", "NOTICE", "README.md",
                       "README.ja.md", "SECURITY.md", *CONTAINERS], "git archive", root)  # fmt: skip
    found: Contents = {}
    with tarfile.open(fileobj=io.BytesIO(raw)) as opened:
        for member in opened:
            if member.isfile() and (stream := opened.extractfile(member)):
                folder = "image/" if member.name in CONTAINERS else "docs/"
                found[folder + member.name.removeprefix("docs/")] = stream.read()
    return found


def _wheels(shop: Workshop, staged: Path) -> list[Path]:
    locks = staged / "installer" / "locks"
    wanted = wheels.entries(locks / "product.lock")
    source = wanted.pop(wheels.COMPILED)
    wanted = {n: e for n, e in wanted.items() if not wheels.CARRIERS.fullmatch(n)}
    torch = wheels.entries(locks / f"{LOCKS[shop.build]}.lock")
    found = [*wheels.fetched(shop, wanted), *wheels.fetched(shop, torch)]
    return [*found, wheels.compiled(shop, source), wheels.own(shop, staged)]


def _models(order: Order) -> Contents:
    from appliance.inference import models
    from installer import model_lock

    found: Contents = {}
    for row in models.catalogue():
        folder = models.verified(row, order.models)
        found |= {f"models/{row.name}/{file}": folder / file for file in row.files}
    lock = model_lock.read(model_lock.OWN.read_text("utf-8"))
    for name, path in order.brought.items():
        lock = model_lock.filled(lock, name, path)
        found[f"models/{name}/{path.name}"] = path
    found["models.lock"] = model_lock.written(lock).encode()
    return found


def _papers(order: Order, files: list[Path], system: dict[str, Path]) -> Contents:
    from appliance.inference import models

    parts = [
        *sbom.wheels(files),
        *sbom.browser(),
        *sbom.listed(models.catalogue()),
        *sbom.brought(order.brought),
        *sbom.system(system),
    ]
    bill = sbom.bill(parts)
    own = next(p for p in files if p.name.startswith("kura-"))
    digest = archive.described(own).sha256
    bill["metadata"]["component"]["hashes"] = [{"alg": "SHA-256", "content": digest}]
    report = advisories.report(bill["components"], order.advisories, order.vex)
    if left := advisories.grave(report):
        raise Refused(
            f"深刻な脆弱性 {len(left)} 件に説明がありません。部品を更新するか、影響しない理由を OpenVEX に書いて "
            "--vex で渡してください。 / Settle these, by an update or a VEX statement:\n"
            + "\n".join(left)
        )
    return {
        "sbom.json": _json(bill),
        "vulnerabilities.json": _json(report),
    }


def _image(shop: Workshop, contents: Contents, version: str) -> Path:
    """Of what the bundle has, as whoever unpacks it would make it; the base image has to be there."""
    out = shop.path("image", "kura.oci.tar")
    out.unlink(missing_ok=True)
    name = f"localhost/kura:{version}"
    with tempfile.TemporaryDirectory(dir=shop.work) as scratch:
        for member, content in contents.items():
            path = Path(scratch, member)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, path)
            else:
                path.write_bytes(content)
        stamp = ("--timestamp", str(shop.date))
        tools.run(
            ["podman", "build", "--network=none", *stamp, "-t", name,
             "-f", Path(scratch, "image", "Containerfile"), scratch], "podman build"
        )  # fmt: skip
    tools.run(["podman", "save", "--format", "oci-archive", "-o", out, name], "podman save")
    return out


def _version(staged: Path) -> str:
    text = (staged / "appliance" / "__init__.py").read_text("utf-8")
    if not (found := re.search(r'__version__ = "([^"]+)"', text)):
        raise Refused("版の番号がありません / appliance/__init__.py names no version")
    return found[1]


def _export(root: Path, commit: str, paths: tuple[str, ...], into: Path) -> None:
    raw = tools.output(["git", "archive", "--format=tar", commit, *paths], "git archive", root)
    with tarfile.open(fileobj=io.BytesIO(raw)) as opened:
        tools.extract(opened, into)


def _git(root: Path, *words: str) -> str:
    return tools.run(["git", *words], "git", cwd=root)


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
