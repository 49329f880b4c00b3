"""The release: its Debian packages, its folder, its environment. Nothing is fetched from anywhere."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from installer import places
from installer.bundle import archive
from installer.bundle.debs import NEEDED
from installer.bundle.manifest import Manifest
from installer.deploy.site import Site
from installer.steps import Refused, program

READY = "release.json"  # the manifest, written last: with it a release is whole
UNPACKED = (
    "wheels/",
    "locks/",
    "models/",
    "docs/",
    "models.lock",
    "sbom.json",
    "vulnerabilities.json",
)
# of pip: what the locks name by its digest, of the bundle alone, and no source
EXACTLY = ("--no-deps", "--no-index", "--require-hashes", "--only-binary", ":all:")
_STAMP = ".complete"


def _bundle(site: Site) -> tuple[Path, Manifest]:
    assert site.bundle and site.manifest
    return site.bundle, site.manifest


# --- Debian's packages ---------------------------------------------------------------


def packages_wanted(site: Site) -> list[str]:
    """Names, of what the product itself needs; apt takes what those need from the bundle as well."""
    _, manifest = _bundle(site)
    if not site.whole or "debs/Packages" not in manifest.all:
        return []
    return list(NEEDED)


def packages_done(site: Site) -> bool:
    return all(_installed(name) for name in packages_wanted(site))


def packages_do(site: Site) -> None:
    """By apt from a folder, so that a newer one that is there stays and what is missing comes with it."""
    bundle, manifest = _bundle(site)
    folder = site.places.state / "debs"
    shutil.rmtree(folder, ignore_errors=True)
    archive.unpack(bundle, manifest, folder, ("debs/",))
    scratch = folder / "apt"
    for part in ("lists/partial", "archives/partial", "parts"):
        (scratch / part).mkdir(parents=True)
    # every byte of the folder is signed by the bundle's key; Debian's own signature is not there
    (scratch / "sources.list").write_text(f"deb [trusted=yes] file:{folder / 'debs'} ./\n", "utf-8")
    options = (
        f"Dir::Etc::sourcelist={scratch / 'sources.list'}",
        f"Dir::Etc::sourceparts={scratch / 'parts'}",
        f"Dir::State::lists={scratch / 'lists'}",
        f"Dir::Cache={scratch}",
        f"Dir::Cache::archives={scratch / 'archives'}",
        "APT::Sandbox::User=root",
        "APT::Install-Recommends=false",
        "Acquire::Languages=none",
        "DPkg::Lock::Timeout=120",  # of a run that was killed while dpkg worked
        "Dpkg::Options::=--force-confold",
    )
    asked = [word for option in options for word in ("-o", option)]
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    program(site, ["dpkg", "--configure", "-a", "--force-confold"], env=quiet, to_the_end=True)
    program(site, ["apt-get", *asked, "update"], env=quiet)
    missing = [name for name in packages_wanted(site) if not _installed(name)]
    program(site, ["apt-get", "-y", *asked, "install", *missing], env=quiet, to_the_end=True)
    shutil.rmtree(folder)


def _installed(name: str) -> bool:
    said = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Status}", name], capture_output=True, text=True, check=False
    )
    return said.stdout == "install ok installed"


# --- the folder of the version ------------------------------------------------------


def unpacked(site: Site) -> bool:
    return whole(site) or (site.release / "wheels").is_dir()


def unpack(site: Site) -> None:
    bundle, manifest = _bundle(site)
    if site.release.exists():  # one that was being taken away
        shutil.rmtree(site.release)
    base = None
    if manifest.base is not None:
        base = site.places.release(manifest.base)
    archive.unpack(bundle, manifest, site.release, UNPACKED, base)


def environment_done(site: Site) -> bool:
    if whole(site):
        return True
    stamp = site.release / "venv" / _STAMP
    return stamp.is_file() and stamp.read_text("utf-8") == _locked(site)


def environment(site: Site) -> None:
    """Exactly the files of the locks, by their digests; no source, so nothing is run to build them."""
    venv = site.release / "venv"
    python = venv / "bin" / "python"
    program(site, [_python(site), "-I", "-m", "venv", "--clear", venv])
    for lock in sorted((site.release / "locks").glob("*.lock")):
        program(
            site,
            [
                *(python, "-I", "-m", "pip", "install", "--isolated", "--no-input"),
                *("--disable-pip-version-check", "--no-cache-dir", *EXACTLY),
                *("--find-links", site.release / "wheels", "--root-user-action", "ignore"),
                *("-r", lock, "--no-compile"),
            ],
            env={"PIP_CONFIG_FILE": os.devnull, "TMPDIR": str(_scratch(site))},
        )
    _compile(site, python, venv)
    shutil.rmtree(_scratch(site))
    places.write(venv / _STAMP, _locked(site))


def _compile(site: Site, python: Path, venv: Path) -> None:
    """On all cores, where pip takes one; Kura's user may not write here, so none would come later."""
    # its status tells of templates and of examples in older Pythons, which are no programs
    code = "import compileall, sys; compileall.compile_dir(sys.argv[1], quiet=2, workers=0)"
    program(site, [python, "-I", "-c", code, venv / "lib"])


def whole(site: Site) -> bool:
    return (site.release / READY).is_file()


def finish(site: Site) -> None:
    """Others may read it, root alone may write it; the wheels have done their work."""
    _, manifest = _bundle(site)
    shutil.rmtree(site.release / "wheels", ignore_errors=True)
    for folder, names, files in os.walk(site.release):
        for name in (*names, *files):
            one = Path(folder) / name
            if not one.is_symlink():
                mode = one.stat().st_mode
                one.chmod(0o755 if one.is_dir() or mode & 0o100 else 0o644)
    site.release.chmod(0o755)
    for above in (site.places.releases, site.places.opt):
        above.chmod(0o755)
    os.sync()
    places.write(site.release / READY, manifest.raw)


def switched(site: Site) -> bool:
    return site.places.installed() == site.version


def switch(site: Site) -> None:
    places.point(site.places.current, site.release)


def _python(site: Site) -> str:
    """The Python that the bundle was made for; the one that runs this may be another."""
    _, manifest = _bundle(site)
    name = f"python{manifest.python}"
    if not re.fullmatch(r"python3\.\d+", name) or not (found := shutil.which(name)):
        raise Refused(
            f"{name} がありません。apt-get install -y {name} {name}-venv / {name} is missing."
        )
    return found


def _scratch(site: Site) -> Path:
    """On the disk of the release: /tmp may be small, or noexec."""
    folder = site.release / ".tmp"
    folder.mkdir(exist_ok=True)
    return folder


def _locked(site: Site) -> str:
    total = hashlib.sha256()
    for lock in sorted((site.release / "locks").glob("*.lock")):
        total.update(lock.read_bytes())
    return total.hexdigest()
