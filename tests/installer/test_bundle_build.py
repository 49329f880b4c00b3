"""A bundle is made of a small checkout with real git, npm, pip and compiler: twice the same (M13), then a delta."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.inference import models
from installer import sbom
from installer.bundle import archive, build, debs, wheels, zipped
from installer.bundle.build import Order
from installer.bundle.minisign import Refused
from installer.deploy import release
from tests.installer.bundles import KEY, WEAK

ROOT = Path(__file__).resolve().parents[2]
SOURCE = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    '[project]\nname = "llama_cpp_python"\nversion = "0.0.1"\n'
    '[tool.setuptools]\next-modules = [{name = "llama_cpp", sources = ["llama.c"]}]\n',
    "llama.c": "#include <Python.h>\n#include <assert.h>\n"
    'static struct PyModuleDef about = {PyModuleDef_HEAD_INIT, "llama_cpp", __FILE__, -1};\n'
    "PyMODINIT_FUNC PyInit_llama_cpp(void) { return PyModule_Create(&about); }\n",
}


def wheel(folder: Path, name: str, version: str, text: str = "") -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n"
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    folder_ = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": text or f"VERSION = '{version}'\n",
        f"{folder_}/METADATA": about,
        f"{folder_}/WHEEL": kind,
    }
    record = (
        "".join(f"{n},{_recorded(t)},{len(t)}\n" for n, t in files.items())
        + f"{folder_}/RECORD,,\n"
    )
    files[f"{folder_}/RECORD"] = record
    zipped.write(path, {n: (t.encode(), 0o644) for n, t in files.items()}, 0)
    return path


def _recorded(text: str) -> str:
    import base64

    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def sdist(folder: Path) -> Path:
    path = folder / "llama_cpp_python-0.0.1.tar.gz"
    files = {
        **SOURCE,
        "PKG-INFO": "Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 0.0.1\n",
    }
    with tarfile.open(path, "w:gz") as out:
        for name, text in files.items():
            info = tarfile.TarInfo(f"llama_cpp_python-0.0.1/{name}")
            info.size = len(text.encode())
            out.addfile(info, io.BytesIO(text.encode()))
    return path


def pinned(file: Path, name: str, version: str) -> str:
    return (
        f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"
    )


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """A checkout of its own, whose registry is a folder."""
    registry = tmp_path / "registry"
    registry.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    root = tmp_path / "checkout"
    files = {
        "pyproject.toml": (ROOT / "pyproject.toml").read_text("utf-8"),
        "appliance/__init__.py": '__version__ = "0.1.0"\n',
        "appliance/cards/重み.json": "{}",
        "connectors/__init__.py": "",
        "installer/__init__.py": "",
        "installer/sample/secret.py": "",
        "installer/__main__.py": "def main():\n    print('installer')\n",
        "installer/locks/product.lock": pinned(wheel(registry, "kakashi", "1.0"), "kakashi", "1.0")
        + pinned(sdist(registry), "llama-cpp-python", "0.0.1"),
        "installer/locks/torch-cpu.lock": pinned(wheel(registry, "torch", "2.0"), "torch", "2.0"),
        "ui/package.json": '{"name":"ui","version":"1.0.0","scripts":{"build":"mkdir -p dist && echo 蔵 > dist/index.html"}}',
        "ui/package-lock.json": '{"name":"ui","version":"1.0.0","lockfileVersion":3,"packages":{"":{"name":"ui","version":"1.0.0"}}}',
        "docs/ja/管理者ガイド.md": "# 手順\n",
        **dict.fromkeys(("README.md", "README.ja.md", "LICENSE", "NOTICE", "SECURITY.md"), "x\n"),
        **dict.fromkeys(("Containerfile", "compose.yaml", "compose.postgres.yaml"), "x\n"),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    git(root, "init", "-q")
    commit(root)
    own = tmp_path / "models" / "small"
    own.mkdir(parents=True)
    (own / "small.gguf").write_bytes(b"GGUF small")
    row = models.Model("small", "llm", {"small.gguf": models.digest(own / "small.gguf")},
                       lambda folder, progress: None, "MIT", "the test")  # fmt: skip
    monkeypatch.setattr(models, "catalogue", lambda: (row,))
    return Order(root, tmp_path / "work", tmp_path / "models", tmp_path / "out", None, debian=False)


def git(root: Path, *words: str, date: str = "2026-01-02T03:04:05Z") -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.jp")
    when = {"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date}
    subprocess.run(["git", *who, *words], cwd=root, check=True, env=os.environ | when)


def commit(root: Path, date: str = "2026-01-02T03:04:05Z") -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "x", date=date)


def made(order: Order) -> Path:
    return build.make(order, KEY, lambda japanese, english: None)


@pytest.mark.slow
def test_made_twice_in_two_places_it_is_the_same_and_a_delta_has_the_change_alone(
    order: Order, tmp_path: Path
) -> None:
    path = made(order)
    whole = path.read_bytes()
    # another checkout, another cache, compiled and built anew
    subprocess.run(["git", "clone", "-q", order.root, tmp_path / "もう一つ"], check=True)
    again = replace(order, root=tmp_path / "もう一つ", work=tmp_path / "w2", out=tmp_path / "o2")
    assert made(again).read_bytes() == whole
    assert made(order).read_bytes() == whole  # nor does what was kept change anything

    manifest = archive.read(path, [KEY.public])
    assert manifest.version == "0.1.0" and len(manifest.built_from) == 40
    assert manifest.date == 1767323045
    names = list(manifest.files)
    llama = next(n for n in names if "llama_cpp" in n)
    assert set(names) == {
        "kura-installer.pyz", "docs/LICENSE", "docs/NOTICE", "docs/README.ja.md", "docs/README.md",
        "docs/SECURITY.md", "docs/ja/管理者ガイド.md", "locks/product.lock", "models.lock",
        "image/Containerfile", "image/compose.yaml", "image/compose.postgres.yaml",
        "models/small/small.gguf", "sbom.json", "vulnerabilities.json",
        "wheels/kakashi-1.0-py3-none-any.whl", "wheels/kura-0.1.0-py3-none-any.whl", llama,
        "wheels/torch-2.0-py3-none-any.whl",
    }  # fmt: skip
    archive.unpack(path, manifest, tmp_path / "x")
    with zipfile.ZipFile(tmp_path / "x" / "wheels" / "kura-0.1.0-py3-none-any.whl") as own:
        inside = own.namelist()
        assert {
            "appliance/web/index.html",
            "appliance/cards/重み.json",
            "installer/package-lock.json",
        } <= {*inside}
        assert not [n for n in inside if "sample" in n or "node_modules" in n]
    assert str(tmp_path).encode() not in (tmp_path / "x" / llama).read_bytes()
    said = subprocess.run([sys.executable, "-I", tmp_path / "x" / "kura-installer.pyz"], capture_output=True, text=True, check=True)  # fmt: skip
    assert said.stdout == "installer\n"
    assert json.loads((tmp_path / "x" / "vulnerabilities.json").read_text())["compared"] is False

    (order.root / "docs" / "ja" / "管理者ガイド.md").write_text("# 新しい手順\n", "utf-8")
    (order.root / "appliance" / "__init__.py").write_text('__version__ = "0.2.0"\n')
    with pytest.raises(Refused, match="コミットしていない変更"):
        made(order)
    text = (order.root / "pyproject.toml").read_text("utf-8")
    (order.root / "pyproject.toml").write_text(
        text.replace('version = "0.1.0"', 'version = "0.2.0"'), "utf-8"
    )
    commit(order.root, "2026-02-03T04:05:06Z")
    delta = made(replace(order, base=path))
    assert delta.name == f"kura-0.2.0-{manifest.arch}-from-0.1.0.kura.tar"
    change = archive.read(delta, [KEY.public])
    assert {"docs/ja/管理者ガイド.md", "wheels/kura-0.2.0-py3-none-any.whl"} <= change.files.keys()
    assert {
        "models/small/small.gguf",
        "wheels/torch-2.0-py3-none-any.whl",
        llama,
    } <= change.kept.keys()
    archive.unpack(delta, change, tmp_path / "y", base=tmp_path / "x")


def test_the_bill_of_a_bundle_is_that_of_what_is_installed_from_it(
    order: Order, tmp_path: Path
) -> None:
    """M14: each wheel's entry equals the one made of the installed package, script and all."""
    path = made(order)
    archive.unpack(path, archive.read(path, [KEY.public]), tmp_path / "x")
    files = sorted((tmp_path / "x" / "wheels").glob("*.whl"))
    bill = {
        c["bom-ref"]: c
        for c in json.loads((tmp_path / "x" / "sbom.json").read_text("utf-8"))["components"]
    }
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "--only-binary", ":all:",
         "--no-warn-script-location", "--find-links", tmp_path / "x" / "wheels", "--target", site, "-r", tmp_path / "x" / "locks" / "product.lock"],
        check=True,
    )  # fmt: skip
    from importlib import metadata

    installed = {
        sbom.package(d.metadata, d.read_text("RECORD") or "")["bom-ref"]: sbom.package(d.metadata, d.read_text("RECORD") or "")
        for d in metadata.distributions(path=[str(site)])
    }  # fmt: skip
    own = {ref for ref in installed if ref.startswith("pkg:pypi/kura@")}
    assert len(own) == 1 and len(installed) == len(files)
    for ref in installed.keys() - own:
        assert bill[ref] == installed[ref] and installed[ref]["hashes"]


def pip(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check",
         *release.EXACTLY, *words],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull},
    )  # fmt: skip


def test_impostors_in_the_folder_of_wheels(tmp_path: Path) -> None:
    """M8, with the options that the installer gives pip and a lock that a bundle has."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    good = wheel(folder, "kakashi", "1.0")
    lock = tmp_path / "product.lock"
    lock.write_text(wheels.locked([good]))
    asked = ("--find-links", folder, "-r", lock)
    assert pip(*asked, "-d", tmp_path / "1").returncode == 0
    wheel(folder, "kakashi", "9.9")  # a higher version is not looked at
    assert pip(*asked, "-d", tmp_path / "2").returncode == 0
    assert [p.name for p in (tmp_path / "2").iterdir()] == [good.name]
    wheel(folder, "kakashi", "1.0", "import os  # another file of that name\n")
    done = pip(*asked, "-d", tmp_path / "3")
    assert done.returncode != 0 and not list(tmp_path.glob("3/*.whl")), done.stderr
    good.unlink()
    sdist(folder).rename(folder / "kakashi-1.0.tar.gz")  # a source would be run to be built
    assert pip(*asked, "-d", tmp_path / "4").returncode != 0
    lock.write_text("kakashi\n")  # nor does a line without digest
    assert pip(*asked, "-d", tmp_path / "5").returncode != 0


@pytest.mark.parametrize("text", ["kakashi\n", "kakashi>=1\n", "kakashi==1.0\n", "-r other.lock\n"])
def test_a_lock_without_digests_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_text(text)
    with pytest.raises(Refused, match="ダイジェスト"):
        wheels.entries(tmp_path / "x.lock")


def test_the_real_locks_are_read() -> None:
    found = wheels.entries(ROOT / "installer" / "locks" / "product.lock")
    assert wheels.COMPILED in found and "fastapi" in found
    carriers = [n for n in found if wheels.CARRIERS.fullmatch(n)]
    assert len(carriers) == 6


def installer(*words: str | Path, passphrase: str = "") -> subprocess.CompletedProcess[str]:
    given = {"KURA_KEY_PASSPHRASE": passphrase} if passphrase else {}
    return subprocess.run(
        [sys.executable, "-m", "installer", *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)} | given,
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        start_new_session=True,  # no terminal to ask at
    )  # fmt: skip


def test_the_command_that_verifies_needs_only_the_system_s_python(tmp_path: Path) -> None:
    from tests.installer.bundles import OTHER, bundle

    path = bundle(tmp_path / "束.kura.tar")
    (tmp_path / "kura.pub").write_text(KEY.public.text)
    (tmp_path / "other.pub").write_text(OTHER.public.text)
    pyz = build._zipapp(ROOT, tmp_path / "kura-installer.pyz", KEY.public, 0)

    def verify(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-S", pyz, "bundle", "verify", path, *words],
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip

    good = verify("--key", tmp_path / "kura.pub")
    assert good.returncode == 0, good.stderr
    assert "Kura 0.2.0" in good.stdout and KEY.public.fingerprint in good.stdout
    assert verify().returncode == 0  # by the key it was built with
    assert verify("--fingerprint", KEY.public.fingerprint).returncode == 0
    assert verify("--fingerprint", OTHER.public.fingerprint).returncode == 1
    bad = verify("--key", tmp_path / "other.pub")
    assert (
        bad.returncode == 1 and "信頼していない鍵" in bad.stderr and "Traceback" not in bad.stderr
    )
    data = bytearray(path.read_bytes())
    data[-12000] ^= 1
    path.write_bytes(data)
    bad = verify()
    assert bad.returncode == 1 and "署名されたとおりではありません" in bad.stderr
    path.unlink()
    assert "開けません" in verify().stderr


def test_the_command_says_what_it_lacks(tmp_path: Path) -> None:
    assert "--advisories" in installer("bundle").stderr
    from installer.bundle import signing

    signing.create(tmp_path / "k", tmp_path / "k.pub", "correct horse battery", WEAK)
    words = ("bundle", "--secret-key", tmp_path / "k", "--advisories", "none")
    wrong = installer(*words, passphrase="wrong horse battery")
    assert wrong.returncode == 1 and "パスフレーズが違います" in wrong.stderr
    lost = installer("bundle", "--secret-key", tmp_path / "no", "--advisories", "none")
    assert lost.returncode == 1 and "Traceback" not in lost.stderr
    words = ("key", "create", "--secret-key", tmp_path / "n", "--public-key", tmp_path / "n.pub")
    alone = installer(*words)
    assert alone.returncode == 1 and "KURA_KEY_PASSPHRASE" in alone.stderr
    assert "Traceback" not in alone.stderr and not (tmp_path / "n").exists()
    shown = installer("key", "show", tmp_path / "k.pub")
    assert "fingerprint" in shown.stdout


def test_packages_of_debian_are_a_repository_and_part_of_the_bill(tmp_path: Path) -> None:
    about = tmp_path / "tree" / "DEBIAN" / "control"
    about.parent.mkdir(parents=True)
    about.write_text(
        "Package: kura-kakashi\nSource: tanbo\nVersion: 1:2.0\nArchitecture: all\n"
        "Maintainer: t <t@example.jp>\nDepends: libc6 (>= 2.36)\nDescription: a scarecrow\n of straw\n"
    )
    file = tmp_path / "kura-kakashi_2.0_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tmp_path / "tree", file], check=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    index = debs.index({file.name: file})
    assert f"Filename: ./{file.name}\n" in index and f"SHA256: {digest}\n" in index
    assert "Depends: libc6 (>= 2.36)\n" in index
    (part,) = sbom.system({file.name: file})
    assert part["purl"] == "pkg:deb/debian/kura-kakashi@1:2.0?arch=all"
    assert part["hashes"][0]["content"] == digest
    assert {"name": "kura:source", "value": "tanbo"} in part["properties"]
    here = sbom.made()
    old = {**part, "bom-ref": "pkg:deb/debian/dpkg@0", "name": "dpkg", "version": "0"}
    new = {**old, "bom-ref": "pkg:deb/debian/dpkg@999", "version": "999"}
    found = sbom.differs(sbom.bill([*here["components"], part, old, new]), files=False)
    assert sorted(line.split(" / ")[0] for line in found) == ["古い", "無い"]
