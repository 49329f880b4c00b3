"""The bill of materials (CycloneDX 1.6, ECMA-424): every package, model and library of the browser's part.

    kura-installer sbom --out FILE          writes it
    kura-installer sbom --compare FILE      says what this machine has otherwise

A Python package's digest is that of its RECORD, which holds the digests of its files; all of these
are looked at, too. So what a bill says can be compared with what lies on the disk.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import appliance
from appliance.inference import models

ROOT = Path(__file__).resolve().parent.parent
Component = dict[str, Any]
KURA = "kura"


def made() -> dict[str, Any]:
    """The same machine gives the same bill, to the byte."""
    parts = sorted([*python(), *browser(), *learned()], key=lambda c: str(c["bom-ref"]))
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
        name = found.metadata["Name"]
        if name.lower() == KURA:
            continue
        record = found.read_text("RECORD")
        digest = hashlib.sha256(record.encode()).hexdigest() if record else ""
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{found.version}"
        one = _component("library", purl, name, found.version, _licence(found), digest)
        if expression := _said(found, "License-Expression"):
            one["licenses"] = [{"expression": expression}]
        yield one


def browser() -> Iterator[Component]:
    """What runs in the browser: not what builds it."""
    lock = json.loads((ROOT / "ui" / "package-lock.json").read_text("utf-8"))
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
    for model in models.catalogue():
        for file, digest in sorted(model.files.items()):
            ref = f"{model.name}/{file}"
            one = _component(
                "machine-learning-model", "", ref, appliance.__version__, model.licence, digest
            )
            origin = {"name": "kura:origin", "value": model.source}
            yield one | {"bom-ref": f"model:{ref}", "properties": [origin]}


def differs(bill: dict[str, Any], *, files: bool = True) -> list[str]:
    """What is here and not in the bill, or otherwise; and each installed file that was changed."""
    said = {c["bom-ref"]: c for c in bill["components"]}
    here = {c["bom-ref"]: c for c in made()["components"]}
    found = [f"無い / missing: {ref}" for ref in sorted(said.keys() - here.keys())]
    found += [f"余分 / not in the bill: {ref}" for ref in sorted(here.keys() - said.keys())]
    found += [
        f"違う / differs: {ref}"
        for ref in sorted(said.keys() & here.keys())
        if said[ref] != here[ref]
    ]
    return [*found, *(changed() if files else ())]


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


def _licence(found: metadata.Distribution) -> str:
    if licence := _said(found, "License").strip():
        return licence.splitlines()[0][:200]
    kinds = found.metadata.get_all("Classifier") or []
    return " / ".join(k for k in kinds if k.startswith("License ::"))


def _said(found: metadata.Distribution, field: str) -> str:
    return str((found.metadata.get_all(field) or [""])[0])


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
