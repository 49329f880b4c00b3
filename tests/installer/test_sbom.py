"""The bill of materials says what lies on this machine, and notices what was changed since."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from appliance.inference import models

ROOT = Path(__file__).resolve().parent.parent.parent


def lay(folder: Path, name: str) -> None:
    """A package more on Python's path, installed as pip would."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / f"{name}.py").write_text("BIRDS = 0\n")
    said = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nLicense-Expression: MIT\n"
    (about / "METADATA").write_text(said)
    digest = hashlib.sha256(b"BIRDS = 0\n").digest()
    value = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    record = f"{name}.py,sha256={value},10\n{about.name}/RECORD,,\n"
    (about / "RECORD").write_text(record)


def run(*words: str, beside: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = f"{ROOT}{os.pathsep}{beside}" if beside else str(ROOT)
    return subprocess.run(
        [sys.executable, "-m", "installer", "sbom", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def bill(out: Path, beside: Path | None = None) -> dict[str, Any]:
    done = run("--out", str(out), beside=beside)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return found


def test_every_package_model_and_library_is_in_it_once(tmp_path: Path) -> None:
    found = bill(tmp_path / "a.json")
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    refs = [c["bom-ref"] for c in found["components"]]
    assert len(refs) == len(set(refs))
    python = {(c["name"], c["version"]) for c in found["components"] if "pypi" in c["bom-ref"]}
    here = {(d.metadata["Name"], d.version) for d in metadata.distributions()}
    assert python == {one for one in here if one[0] not in {"kura", "pip"}}  # pip is the machine's
    digests = {h["content"] for c in found["components"] for h in c.get("hashes", ())}
    assert {d for m in models.catalogue() for d in m.files.values()} <= digests
    browser = {c["name"] for c in found["components"] if "npm" in c["bom-ref"]}
    assert {"react", "react-dom", "openapi-fetch"} <= browser and "vite" not in browser
    bill(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.long  # thrice all that is installed is read
def test_a_machine_is_compared_with_its_bill(tmp_path: Path) -> None:
    out, beside = tmp_path / "部品表.json", tmp_path / "site"
    for name in ("kakashi", "karasu", "mejiro"):
        lay(beside, name)
    bill(out, beside)
    assert run("--compare", str(out), beside=beside).returncode == 0

    (beside / "kakashi.py").write_text("BIRDS = 9\n")
    record = beside / "karasu-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("sha256=", "sha256=x"))
    shutil.rmtree(beside / "mejiro-1.0.dist-info")
    lay(beside, "suzume")
    done = run("--compare", str(out), beside=beside)
    told = set(done.stdout.splitlines())
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "変えられた / changed: kakashi.py" in told
    assert "違う / differs: pkg:pypi/karasu@1.0" in told
    assert "無い / missing: pkg:pypi/mejiro@1.0" in told
    assert any("not in the bill: pkg:pypi/suzume@1.0" in one for one in told)
    assert not any("kakashi@" in one or "pillow" in one.lower() for one in told), told


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"components": [{}]}'])
def test_what_is_no_bill_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    done = run("--compare", str(tmp_path / "x.json"))
    assert done.returncode == 1 and "Traceback" not in done.stderr and "x.json" in done.stderr
