"""The bill of materials (CycloneDX 1.6, ECMA-424): every package, model and library of the browser's part.

    kura-installer sbom --out FILE          writes it
    kura-installer sbom --compare FILE      says what this machine has otherwise

A Python package's digest is that of the lines of its RECORD that are the same on every machine: the
digests of the files of its wheel, not the scripts that pip writes. All files are looked at, too. So
what a bill says, also one that was made from wheels for a bundle, can be compared with what lies on the disk.
"""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import json
import re
import subprocess
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import appliance
from appliance.inference import models
from installer import model_lock
from installer.bundle import debs

ROOT = Path(__file__).resolve().parent.parent
Component = dict[str, Any]
KURA = "kura"
OURS = {KURA, "pip"}  # pip is the machine's
DEBIAN, BROUGHT = "pkg:deb/", "brought:"
_BROWSER = (ROOT / "ui" / "package-lock.json", ROOT / "installer" / "package-lock.json")
# what pip writes beside the files of a wheel, and what lies elsewhere once it is installed
_PASSING = re.compile(r"\.dist-info/(INSTALLER|REQUESTED|direct_url\.json|RECORD)$|\.pyc$|\.data/")


def made() -> dict[str, Any]:
    """The same machine gives the same bill, to the byte."""
    return bill([*python(), *browser(), *learned()])


def bill(parts: Iterable[Component]) -> dict[str, Any]:
    parts = sorted(parts, key=lambda c: str(c["bom-ref"]))
    content = json.dumps(parts, sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": KURA,
                "name": KURA,
                "version": appliance.__version__,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": parts,
        "dependencies": [{"ref": KURA, "dependsOn": [c["bom-ref"] for c in parts]}],
    }


def python() -> Iterator[Component]:
    """What is installed beside Kura, by its own metadata."""
    for found in metadata.distributions():
        if found.metadata["Name"].lower() not in OURS:
            yield package(found.metadata, found.read_text("RECORD") or "")


def wheels(files: Iterable[Path]) -> Iterator[Component]:
    """The same components, before anything is installed."""
    for file in files:
        with zipfile.ZipFile(file) as opened:
            folder = next(n for n in opened.namelist() if n.endswith(".dist-info/RECORD"))[:-6]
            about = email.message_from_bytes(opened.read(folder + "METADATA"))
            if about["Name"].lower() not in OURS:
                yield package(about, opened.read(folder + "RECORD").decode())


def package(about: Any, record: str) -> Component:
    name, version = about["Name"], about["Version"]
    purl = f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{version}"
    lasting = sorted(
        f"{path},{digest}"
        for path, digest, *_ in csv.reader(record.splitlines())
        if digest and not path.startswith("..") and not _PASSING.search(path)
    )
    digest = hashlib.sha256("\n".join(lasting).encode()).hexdigest() if lasting else ""
    one = _component("library", purl, name, version, _licence(about), digest)
    if expression := _said(about, "License-Expression"):
        one["licenses"] = [{"expression": expression}]
    return one


def system(files: Mapping[str, Path]) -> Iterator[Component]:
    """Packages of Debian that a bundle brings."""
    for name, file in sorted(files.items()):
        about = debs.about(file)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        package, version, arch = about["Package"], about["Version"], about["Architecture"]
        purl = f"pkg:deb/debian/{package}@{version}?arch={arch}"
        source = about.get("Source", package).split()[0]
        listed = [{"name": "kura:file", "value": name}, {"name": "kura:source", "value": source}]
        yield _component("library", purl, package, version, "", digest) | {"properties": listed}


def browser() -> Iterator[Component]:
    """What runs in the browser: not what builds it."""
    lock = json.loads(next(p for p in _BROWSER if p.is_file()).read_text("utf-8"))
    for path, found in lock["packages"].items():
        if not path or found.get("dev"):
            continue
        name = path.rpartition("node_modules/")[2]
        algorithm, _, value = found["integrity"].partition("-")
        digest = base64.b64decode(value).hex()
        purl = f"pkg:npm/{name.replace('@', '%40')}@{found['version']}"
        one = _component("library", purl, name, found["version"], found.get("license", ""), "")
        content = {"alg": algorithm.upper().replace("SHA", "SHA-"), "content": digest}
        yield one | {"hashes": [content]}


def learned() -> Iterator[Component]:
    yield from listed(models.catalogue())


def listed(rows: Iterable[models.Model]) -> Iterator[Component]:
    for model in rows:
        for file, digest in sorted(model.files.items()):
            ref = f"{model.name}/{file}"
            one = _component(
                "machine-learning-model", "", ref, appliance.__version__, model.licence, digest
            )
            origin = {"name": "kura:origin", "value": model.source}
            yield one | {"bom-ref": f"model:{ref}", "properties": [origin]}


def brought(files: Mapping[str, Path]) -> Iterator[Component]:
    """Models that whoever makes a bundle adds: name in models.lock -> file."""
    rows = {row.name: row for row in model_lock.read(model_lock.OWN.read_text("utf-8"))}
    for name, file in sorted(files.items()):
        ref = f"{name}/{file.name}"
        row = rows[name]
        one = _component(
            "machine-learning-model", "", ref, "", row.licence, model_lock.digest(file)
        )
        origin = {"name": "kura:origin", "value": row.origin}
        yield one | {"bom-ref": f"{BROUGHT}{ref}", "properties": [origin]}


def differs(bill: dict[str, Any], *, files: bool = True) -> list[str]:
    """What is here and not in the bill, or otherwise; and each installed file that was changed."""
    said = {c["bom-ref"]: c for c in bill["components"] if not c["bom-ref"].startswith(BROUGHT)}
    brought = {ref: said.pop(ref) for ref in list(said) if ref.startswith(DEBIAN)}
    here = {c["bom-ref"]: c for c in made()["components"]}
    found = [f"無い / missing: {ref}" for ref in sorted(said.keys() - here.keys())]
    found += [f"余分 / not in the bill: {ref}" for ref in sorted(here.keys() - said.keys())]
    found += [
        f"違う / differs: {ref}"
        for ref in sorted(said.keys() & here.keys())
        if said[ref] != here[ref]
    ]
    return [*found, *_lacking(brought), *(changed() if files else ())]


def _lacking(brought: Mapping[str, Component]) -> Iterator[str]:
    """Debian's packages may be newer than the bill: their security fixes are the site's own."""
    if not brought:
        return
    form = "${Package}\t${Version}\t${db:Status-Status}\n"
    said = subprocess.run(
        ["dpkg-query", "-W", f"-f={form}"], capture_output=True, text=True, check=False
    )
    here = dict(
        row[:2] for row in map(str.split, said.stdout.splitlines()) if row[2:] == ["installed"]
    )
    for ref, one in sorted(brought.items()):
        if (version := here.get(one["name"])) is None:
            yield f"無い / missing: {ref}"
        elif (
            subprocess.run(
                ["dpkg", "--compare-versions", version, "lt", one["version"]], check=False
            ).returncode
            == 0
        ):
            yield f"古い / older: {ref} ({version})"


def changed() -> Iterator[str]:
    """Files of installed packages that are not what their RECORD says."""
    for one in metadata.distributions():
        for file in one.files or ():
            if file.hash is None:
                continue  # RECORD itself, and what Python compiles
            path = Path(str(file.locate()))
            try:
                digest = hashlib.new(file.hash.mode, path.read_bytes()).digest()
            except OSError:
                yield f"読めない / unreadable: {file}"
                continue
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                yield f"変えられた / changed: {file}"


def _licence(found: Any) -> str:
    if licence := _said(found, "License").strip():
        return licence.splitlines()[0][:200]
    kinds = found.get_all("Classifier") or []
    return " / ".join(k for k in kinds if k.startswith("License ::"))


def _said(found: Any, field: str) -> str:
    return str((found.get_all(field) or [""])[0])


def _component(
    kind: str, purl: str, name: str, version: str, licence: str, digest: str
) -> Component:
    one: Component = {"type": kind, "bom-ref": purl or name, "name": name, "version": version}
    if purl:
        one["purl"] = purl
    if licence:
        one["licenses"] = [{"license": {"name": licence}}]
    if digest:
        one["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return one
