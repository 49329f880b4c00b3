"""The facts of a report, gathered on this machine. What cannot be found out says so."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

import appliance
from appliance import doctor
from appliance.attest import checklists, peers, places, sign
from appliance.errors import ApplianceError
from appliance.inference import models, registered
from appliance.ocr import engine as ocr
from appliance.settings import Settings
from appliance.sovereignty import egress, firewall, walls
from appliance.store import audit

TITLES = {
    "product": "製品とこのマシン",
    "models": "モデル",
    "materials": "部品表",
    "data": "データの所在と暗号化",
    "network": "ネットワーク",
    "self_test": "自己診断",
    "audit": "監査記録",
    "checklists": "チェックリスト",
    "not_covered": "この報告が述べないこと",
}
Say = Callable[[str], None]


def sections(
    settings: Settings,
    engine: Engine,
    last: sign.Report | None,
    saved_rules: Path | None = None,
    say: Say = lambda title: None,
) -> dict[str, Any]:
    """Every section, in order. `last`: what counts are compared with. Raises BadRequest."""
    rules = firewall.read(saved_rules)  # first: a wrong file is said before minutes pass
    before = last["sections"] if last else {}
    lists, left = checklists.sections()
    made: dict[str, Callable[[], Any]] = {
        "product": lambda: product(settings),
        "models": lambda: learned(settings),
        "materials": materials,
        "data": lambda: places.all(settings),
        "network": lambda: network(settings, engine, rules, before.get("network", {})),
        "self_test": lambda: [asdict(check) for check in doctor.examine(settings)],
        "audit": lambda: chain(engine, before.get("audit", {})),
        "checklists": lambda: lists,
        "not_covered": lambda: left,
    }
    found = {}
    for name, make in made.items():
        say(TITLES[name])
        found[name] = make()
    return found


def product(settings: Settings) -> dict[str, Any]:
    release = Path(sys.prefix).parent / "release.json"
    found: dict[str, Any] = {
        "kura": appliance.__version__,
        "python": platform.python_version(),
        "sqlite": _sqlite(),
        "system": _system(),
        "kernel": f"{platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "origin": settings.origin,
        "host": platform.node(),
    }
    if release.is_file():
        found["release_manifest_sha256"] = hashlib.sha256(release.read_bytes()).hexdigest()
    return found


def learned(settings: Settings) -> dict[str, Any]:
    """Every model there is, and what each is used for; those that the site brought are among them."""
    uses = _uses(settings)
    rows = [_model(model, settings.models, uses) for model in models.catalogue()]
    for name in registered.names(settings):
        try:
            row = _model(registered.named(name, settings), settings.site_models, uses)
        except ApplianceError as error:
            row = {"name": name, "kind": "llm", "origin": "", "licence": "", "files": {}}
            row |= {"use": uses.get(name, ""), "as_known": False, "problems": [str(error)]}
        rows.append(row | {"brought": True})
    rows.append(_reading(settings))
    found: dict[str, Any] = {"catalogue": rows, "generator": _answering(settings)}
    if settings.generator_url:
        found["generator"] = "別のサーバー（中身はこの報告の外）: " + ", ".join(
            sorted(egress.allowed_hosts(settings))
        )
    if folder := settings.own_reranker:
        found["own_reranker"] = {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        }
    return found


def _model(model: models.Model, root: Path, uses: Mapping[str, str]) -> dict[str, Any]:
    problems = models.problems(model, root)
    made_of = model.base or model.adapter
    return {
        "name": model.name,
        "kind": model.kind,
        "use": uses.get(model.name, ""),
        "origin": model.source + (f" + {made_of}" if made_of else ""),
        "licence": model.licence,
        "files": dict(sorted(model.files.items())),
        "as_known": not problems,
        "problems": problems,
    }


def _uses(settings: Settings) -> dict[str, str]:
    """What is loaded here, by name, and what for; what another server does is not here."""
    found: dict[str, str] = {}
    if not settings.generator_url:
        found[_answering(settings)] = "回答"
    if not settings.reranker:
        found[models.DEFAULT_READER] = "並べ替えと読解"
    found[settings.embedder or models.DEFAULT_EMBEDDER] = "検索（埋め込み）"
    for model in models.catalogue():
        if model.name in found:
            for below in filter(None, (model.base, model.adapter)):
                role = f"{model.name} の{'土台' if model.base else '一部'}"
                found[below] = "、".join(filter(None, (found.get(below), role)))
    return found


def _answering(settings: Settings) -> str:
    return settings.llm or models.DEFAULT_LLM


def _reading(settings: Settings) -> dict[str, Any]:
    """The models that read pages come inside a package, whose licence is theirs."""
    why = ocr.problem() if settings.ocr else None
    return {
        "name": "PP-OCRv6",
        "kind": "ocr",
        "use": "文字の読み取り (OCR)" if settings.ocr else "",
        "origin": "package rapidocr",
        "licence": "Apache-2.0",
        "files": dict(sorted(ocr.FILES.items())),
        "as_known": why is None,
        "problems": [why] if why else [],
    }


def materials() -> dict[str, Any]:
    """As `kura-installer sbom --out` writes it, and whether the files are those of their packages."""
    from installer import sbom  # beside Kura in the same environment

    try:
        bill = sbom.made()
    except (OSError, ValueError, KeyError) as error:
        return {"why": f"部品表を作れません（{type(error).__name__}）"}
    text = json.dumps(bill, ensure_ascii=False, indent=1) + "\n"
    return {
        "sbom_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "format": f"{bill['bomFormat']} {bill['specVersion']}",
        "components": [
            {
                "name": one["name"],
                "version": one["version"],
                "licence": " / ".join(_licence(said) for said in one.get("licenses", ())),
                "sha256": next(
                    (h["content"] for h in one.get("hashes", ()) if h["alg"] == "SHA-256"), ""
                ),
            }
            for one in bill["components"]
            if one["type"] == "library"
        ],
        "changed_files": list(sbom.changed()),
    }


def network(
    settings: Settings, engine: Engine, rules: firewall.Firewall, before: Mapping[str, Any]
) -> dict[str, Any]:
    blocked = egress.counts(settings.data)
    then = before.get("blocked", {})
    old = before.get("firewall", {}).get("counters", {})
    return {
        "sealed": settings.sealed,
        "walls": walls.kept(settings.data),
        "switches": egress.SWITCHES,
        "may_reach": sorted(egress.allowed_hosts(settings)),
        "resolvers": sorted(settings.resolvers),
        "peers": peers.all(settings, engine),
        "blocked": blocked,
        # a count that is lower began anew
        "blocked_since": {
            name: count - (then.get(name, 0) if count >= then.get(name, 0) else 0)
            for name, count in blocked.items()
        },
        "firewall": {
            "read": not rules.why,
            "why": rules.why,
            "rules": rules.rules,
            "sha256": rules.digest,
            "changed": bool(rules.digest and old)
            and rules.digest != before.get("firewall", {}).get("sha256"),
            "counters": {name: asdict(count) for name, count in rules.counters.items()},
            "since": rules.since(old),
        },
    }


def chain(engine: Engine, before: Mapping[str, Any]) -> dict[str, Any]:
    """The head of the chain: whoever keeps this report can tell whether rows were cut off since."""
    known = (int(before["sequence"]), str(before["digest"])) if before.get("sequence") else None
    sequence, digest = audit.head(engine)
    return {
        "sequence": sequence,
        "digest": digest,
        "first_bad": audit.verify(engine, known),
        "holds_checkpoint": known[0] if known else None,
    }


def against(engine: Engine, report: sign.Report) -> str:
    """What this machine's chain has otherwise than the report says; empty where it goes on from it."""
    noted = report["sections"]["audit"]
    bad = audit.verify(
        engine, (int(noted["sequence"]), str(noted["digest"])) if noted["sequence"] else None
    )
    if bad is None:
        return ""
    return (
        f"このマシンの監査記録は、報告にある {noted['sequence']} 番の続きではありません"
        f"（{bad} 番から違います）。書き換え・切り取り・古い控えからの復元を疑ってください。"
    )


def _licence(said: Mapping[str, Any]) -> str:
    inner = said.get("license", {})
    return str(said.get("expression") or inner.get("id") or inner.get("name") or "")


def _sqlite() -> str:
    import pysqlite3.dbapi2 as sqlite

    return str(sqlite.sqlite_version)


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return os.uname().sysname
