"""Threat M14: a known vulnerability keeps a bundle from being made until somebody says why it does not matter."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from installer.bundle import advisories
from installer.bundle.minisign import Refused

LIBRARY = {"name": "Kaka_Shi", "version": "1.5.0", "purl": "pkg:pypi/kaka-shi@1.5.0"}
BUILD = {"name": "torch", "version": "2.13.0+cpu", "purl": "pkg:pypi/torch@2.13.0+cpu"}
BROWSER = {"name": "@x/y", "version": "1.10.0", "purl": "pkg:npm/%40x/y@1.10.0"}
SYSTEM = {"name": "libgit", "version": "1:2.39.5-0+deb12u2", "purl": "pkg:deb/debian/libgit@1?arch=amd64",
          "properties": [{"name": "kura:source", "value": "git"}]}  # fmt: skip
PARTS = [LIBRARY, BUILD, BROWSER, SYSTEM, {"name": "model", "version": ""}]
HIGH = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


def advisory(name: str, ecosystem: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    kind = "SEMVER" if ecosystem == "npm" else "ECOSYSTEM"
    affected = {
        "package": {"ecosystem": ecosystem, "name": name},
        "ranges": [{"type": kind, "events": list(events)}],
    }
    return {"id": "TEST-1", "aliases": ["CVE-2026-1"], "modified": "2026-11-01T00:00:00Z", "affected": [affected], **more}  # fmt: skip


def found(tmp_path: Path, *said: dict[str, Any], vex: Path | None = None) -> dict[str, Any]:
    (tmp_path / "osv.json").write_text(json.dumps(said))
    return advisories.report(PARTS, tmp_path / "osv.json", vex)


START = {"introduced": "0"}
CASES = [
    ("kaka.shi", "PyPI", (START, {"fixed": "1.5.1"}), "pkg:pypi/kaka-shi@1.5.0"),
    ("kaka-shi", "PyPI", ({"fixed": "1.5.1"}, START), "pkg:pypi/kaka-shi@1.5.0"),
    ("kaka-shi", "PyPI", (START, {"fixed": "1.5.0"}), None),
    ("kaka-shi", "PyPI", (START, {"last_affected": "1.5.0"}), "pkg:pypi/kaka-shi@1.5.0"),
    ("kaka-shi", "PyPI", ({"introduced": "1.6"},), None),
    ("kaka-shi", "PyPI", (START, {"fixed": "1.0"}, {"introduced": "1.4"}), "pkg:pypi/kaka-shi@1.5.0"),
    ("kaka-shi", "npm", (START,), None),
    ("torch", "PyPI", (START, {"fixed": "2.13.0"}), None),
    ("torch", "PyPI", (START, {"fixed": "2.13.1"}), "pkg:pypi/torch@2.13.0+cpu"),
    ("@x/y", "npm", (START, {"fixed": "1.9.9"}), None),
    ("@x/y", "npm", (START, {"fixed": "1.10.0-rc.1"}), None),
    ("@x/y", "npm", ({"introduced": "1.10.0-rc.1"},), "pkg:npm/%40x/y@1.10.0"),
    ("git", "Debian:12", (START, {"fixed": "1:2.39.5-0+deb12u3"}), "pkg:deb/debian/libgit@1?arch=amd64"),
    ("git", "Debian:12", (START, {"fixed": "1:2.39.5-0+deb12u2"}), None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "ecosystem", "events", "hit"), CASES)
def test_versions_are_compared_as_each_ecosystem_does(
    name: str, ecosystem: str, events: tuple[dict[str, str], ...], hit: str | None, tmp_path: Path
) -> None:
    report = found(tmp_path, advisory(name, ecosystem, *events))
    assert [f["component"] for f in report["found"]] == ([hit] if hit else [])


@pytest.mark.parametrize(
    ("more", "severity"),
    [
        ({"database_specific": {"severity": "MODERATE"}}, "MEDIUM"),
        ({"database_specific": {"severity": "CRITICAL"}}, "CRITICAL"),
        ({"severity": [{"type": "CVSS_V3", "score": HIGH}]}, "CRITICAL"),
        ({"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/nonsense"}]}, "UNKNOWN"),
        ({}, "UNKNOWN"),
    ],
)
def test_what_is_grave(more: dict[str, Any], severity: str, tmp_path: Path) -> None:
    report = found(tmp_path, advisory("kaka-shi", "PyPI", START, **more))
    assert report["found"][0]["severity"] == severity
    assert bool(advisories.grave(report)) == (severity != "MEDIUM")  # what is not told counts


@pytest.mark.parametrize(
    ("vector", "score"),
    [  # examples that FIRST publishes with its definition
        (HIGH, 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:L/I:N/A:N", 3.7),
        ("CVSS:3.0/AV:N/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H", 9.9),
        ("CVSS:3.1/AV:P/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:4.0/AV:N", None),
    ],
)
def test_cvss_scores(vector: str, score: float | None) -> None:
    assert advisories.cvss3(vector) == score


def test_a_statement_settles_one_finding(tmp_path: Path) -> None:
    one = advisory("kaka-shi", "PyPI", START)
    statement = {
        "vulnerability": {"name": "CVE-2026-1"},
        "products": [{"@id": "pkg:pypi/kaka-shi@1.5.0"}],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
    }
    vex = tmp_path / "vex.json"

    def said(**change: Any) -> list[str]:
        vex.write_text(json.dumps({"statements": [{**statement, **change}]}))
        return advisories.grave(found(tmp_path, one, vex=vex))

    assert said() == []
    assert said(products=[]) == []
    assert len(said(products=[{"@id": "pkg:pypi/kaka-shi@1.4.0"}])) == 1
    assert len(said(status="under_investigation")) == 1
    assert len(said(vulnerability={"name": "CVE-2026-2"})) == 1
    with pytest.raises(Refused, match="justification"):
        said(justification="")


def test_forms_of_the_file_and_what_it_does_not_cover(tmp_path: Path) -> None:
    one = advisory("kaka-shi", "PyPI", START)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.json").write_text(json.dumps(one))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as out:
        out.writestr("a.json", json.dumps(one))
    for given in ("d", "all.zip"):
        report = advisories.report(PARTS, tmp_path / given)
        assert report["compared"] and len(report["found"]) == 1
        assert report["not_covered"] == ["Debian", "npm"]
        assert report["advisories"]["count"] == 1
    assert found(tmp_path, {**one, "withdrawn": "2026-01-01T00:00:00Z"})["found"] == []
    assert advisories.report(PARTS, None)["compared"] is False
    for text in ("{", "\x00"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(Refused, match="脆弱性情報"):
            advisories.report(PARTS, tmp_path / "bad.json")
    with pytest.raises(Refused):
        advisories.report(PARTS, tmp_path / "nowhere.json")
