"""Known vulnerabilities of what is in a bundle, by a file of advisories that somebody brings (OSV's format).

Nothing is asked of anybody while a bundle is made: which packages a product has is itself a fact to
keep. A finding of high or critical severity keeps a bundle from being made until a VEX statement
says why it does not matter; a severity that is not told counts as high.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from installer.bundle.minisign import Refused

ECOSYSTEMS = {"pypi": "PyPI", "npm": "npm", "deb": "Debian"}
GRAVE = {"HIGH", "CRITICAL", "UNKNOWN"}
SETTLED = {"not_affected", "fixed"}
_NONE = "脆弱性情報との照合はしていません。 / Not compared with any advisories."

Component = dict[str, Any]


def report(
    components: Iterable[Component], given: Path | None, vex: Path | None = None
) -> dict[str, Any]:
    """`vulnerabilities.json`. Raises Refused when a file cannot be read."""
    if given is None:
        return {"compared": False, "note": _NONE, "found": []}
    by_package: dict[tuple[str, str], list[dict[str, Any]]] = {}
    count, newest, covered = 0, "", set()
    for one in _advisories(given):
        count, newest = count + 1, max(newest, str(one.get("modified", "")))
        for affected in one.get("affected", ()):
            package = affected.get("package", {})
            ecosystem = str(package.get("ecosystem", "")).partition(":")[0]
            covered.add(ecosystem)
            name = _name(ecosystem, str(package.get("name", "")))
            by_package.setdefault((ecosystem, name), []).append(
                {"advisory": one, "affected": affected}
            )
    statements = _statements(vex)
    found = []
    kinds = set()
    for component in components:
        if not (
            match := re.fullmatch(
                r"pkg:(pypi|npm|deb)/(.+)@([^?]+)(\?.*)?", component.get("purl", "")
            )
        ):
            continue
        ecosystem = ECOSYSTEMS[match[1]]
        kinds.add(ecosystem)
        version = str(component["version"])
        known = {p["name"]: p["value"] for p in component.get("properties", ())}
        name = _name(ecosystem, str(known.get("kura:source") or component["name"]))
        seen = set()
        for row in by_package.get((ecosystem, name), ()):
            one = row["advisory"]
            if (
                one.get("withdrawn")
                or one["id"] in seen
                or not _hits(ecosystem, version, row["affected"])
            ):
                continue
            seen.add(one["id"])
            names = [one["id"], *one.get("aliases", ())]
            settled = next((statements[n, purl] for n in names
                            for purl in (component["purl"], "") if (n, purl) in statements), None)  # fmt: skip
            found.append(
                {
                    "id": one["id"],
                    "aliases": sorted(one.get("aliases", ())),
                    "component": component["purl"],
                    "severity": _severity(one, row["affected"]),
                    "summary": str(one.get("summary") or one.get("details", ""))[:300],
                    "vex": settled,
                }
            )
    return {
        "compared": True,
        "advisories": {
            "file": given.name,
            "sha256": _digest(given),
            "count": count,
            "newest": newest,
        },
        "not_covered": sorted(kinds - covered),
        "found": sorted(found, key=lambda f: (f["component"], f["id"])),
    }


def grave(report: dict[str, Any]) -> list[str]:
    """What must be settled before this may be delivered, one line each."""
    return [
        f"{f['component']}: {f['id']} ({f['severity']}) {f['summary'][:100]}"
        for f in report["found"]
        if f["severity"] in GRAVE and f["vex"] is None
    ]


def _advisories(given: Path) -> Iterator[dict[str, Any]]:
    """OSV's JSON: one file, a list in one, lines, a zip or a folder of them."""
    try:
        if given.is_dir():
            texts: Iterable[str] = (p.read_text("utf-8") for p in sorted(given.rglob("*.json")))
            yield from (json.loads(text) for text in texts)
        elif zipfile.is_zipfile(given):
            with zipfile.ZipFile(given) as opened:
                for name in sorted(opened.namelist()):
                    if name.endswith(".json"):
                        yield json.loads(opened.read(name))
        else:
            said = json.loads(given.read_text("utf-8"))
            yield from said if isinstance(said, list) else [said]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Refused(
            f"{given} を脆弱性情報 (OSV 形式の JSON、zip、フォルダー) として読めません。 / "
            f"Cannot be read as advisories: {error}"
        ) from None


def _statements(vex: Path | None) -> dict[tuple[str, str], dict[str, str]]:
    """OpenVEX: (vulnerability, purl or "" for all) -> status and why."""
    if vex is None:
        return {}
    found = {}
    try:
        for one in json.loads(vex.read_text("utf-8"))["statements"]:
            if one["status"] not in SETTLED:
                continue
            why = str(one.get("justification") or one.get("impact_statement") or "")
            if one["status"] == "not_affected" and not why:
                raise ValueError("not_affected without a justification")
            said = {"status": one["status"], "why": why}
            vulnerability = one["vulnerability"]
            name = vulnerability["name"] if isinstance(vulnerability, dict) else vulnerability
            for product in one.get("products") or [{"@id": ""}]:
                purl = product["@id"] if isinstance(product, dict) else product
                found[str(name), str(purl)] = said
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{vex} を OpenVEX として読めません / is no OpenVEX: {error}") from None
    return found


def _hits(ecosystem: str, version: str, affected: dict[str, Any]) -> bool:
    if version in affected.get("versions", ()):
        return True
    return any(
        _between(ecosystem, version, part.get("events", ()))
        for part in affected.get("ranges", ())
        if part.get("type") in {"ECOSYSTEM", "SEMVER"}
    )


def _between(ecosystem: str, version: str, events: Iterable[dict[str, str]]) -> bool:
    """Whether the last event at or before this version brought the fault in."""
    inside = False

    def earlier(one: dict[str, str], other: dict[str, str]) -> int:
        return _first(ecosystem, one, other)

    for event in sorted(events, key=functools.cmp_to_key(earlier)):
        if (begin := event.get("introduced")) is not None:
            inside = inside or begin == "0" or _order(ecosystem, begin, version) <= 0
        elif (fixed := event.get("fixed")) is not None:
            inside = inside and _order(ecosystem, fixed, version) > 0
        elif (last := event.get("last_affected")) is not None:
            inside = inside and _order(ecosystem, last, version) >= 0
    return inside


def _first(ecosystem: str, one: dict[str, str], other: dict[str, str]) -> int:
    begins = [event.get("introduced") == "0" for event in (one, other)]
    if any(begins):
        return begins[1] - begins[0]
    left, right = (next(iter(event.values())) for event in (one, other))
    return _order(ecosystem, left, right)


def _order(ecosystem: str, one: str, other: str) -> int:
    if ecosystem == "Debian":
        for sign, word in ((-1, "lt"), (0, "eq")):
            done = subprocess.run(["dpkg", "--compare-versions", one, word, other], check=False)
            if done.returncode == 0:
                return sign
        return 1
    if ecosystem == "npm":
        left, right = _semver(one), _semver(other)
        return (left > right) - (left < right)
    try:
        first, second = Version(one), Version(other)
    except InvalidVersion:
        return 0  # nobody can say: it counts as affected
    # the build a wheel names (2.13.0+cpu) is not a later release
    first, second = Version(first.public), Version(second.public)
    return (first > second) - (first < second)


def _semver(text: str) -> tuple[Any, ...]:
    release, _, stage = text.partition("+")[0].partition("-")
    numbers = tuple(int(n) if n.isdigit() else 0 for n in release.split("."))
    parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in stage.split("."))
    return numbers, not stage, parts


def _severity(one: dict[str, Any], affected: dict[str, Any]) -> str:
    said = (
        one.get("database_specific", {}).get("severity")
        or affected.get("ecosystem_specific", {}).get("urgency")
        or affected.get("database_specific", {}).get("severity")
        or ""
    )
    word = {"MODERATE": "MEDIUM", "UNIMPORTANT": "LOW"}.get(str(said).upper(), str(said).upper())
    if word in {"LOW", "MEDIUM", "HIGH", "CRITICAL"}:
        return word
    for row in [*one.get("severity", ()), *affected.get("severity", ())]:
        if row.get("type") == "CVSS_V3" and (score := cvss3(str(row.get("score", "")))) is not None:
            return next(w for w, most in (("LOW", 3.9), ("MEDIUM", 6.9), ("HIGH", 8.9), ("CRITICAL", 10.0)) if score <= most)  # fmt: skip
    return "UNKNOWN"


_LOSS = {"H": 0.56, "L": 0.22, "N": 0.0}
_WEIGHTS = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": _LOSS,
    "I": _LOSS,
    "A": _LOSS,
}


def cvss3(vector: str) -> float | None:
    """The base score of a CVSS 3.x vector, as FIRST defines it; None for what is no such vector."""
    said = dict(part.split(":", 1) for part in vector.split("/") if ":" in part)
    try:
        weight = {name: table[said[name]] for name, table in _WEIGHTS.items()}
        wide = {"C": True, "U": False}[said["S"]]
        rights = {"N": 0.85, "L": 0.68 if wide else 0.62, "H": 0.5 if wide else 0.27}[said["PR"]]
    except KeyError:
        return None
    lost = 1 - (1 - weight["C"]) * (1 - weight["I"]) * (1 - weight["A"])
    impact = 7.52 * (lost - 0.029) - 3.25 * (lost - 0.02) ** 15 if wide else 6.42 * lost
    if impact <= 0:
        return 0.0
    score = impact + 8.22 * weight["AV"] * weight["AC"] * rights * weight["UI"]
    whole = round(min(score * (1.08 if wide else 1), 10) * 100_000)
    return whole / 100_000 if whole % 10_000 == 0 else (math.floor(whole / 10_000) + 1) / 10


def _name(ecosystem: str, name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower() if ecosystem == "PyPI" else name


def _digest(path: Path) -> str:
    if path.is_dir():
        total = hashlib.sha256()
        for file in sorted(path.rglob("*.json")):
            total.update(hashlib.sha256(file.read_bytes()).digest())
        return total.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
