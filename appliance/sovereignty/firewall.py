"""What the machine's firewall counts for Kura: the table `inet kura`, its rules and named counters.

The rules come from the installer (/etc/kura/nftables.conf). To read them is root's right, so a
report made by Kura's own user is given what root saved: `nft -j list table inet kura > FILE`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.errors import BadRequest

TABLE = ("inet", "kura")
LISTING = "nft -j list table inet kura"
REFUSED = "refused"  # the end of a counter's name that counts what was not let out
TIMEOUT_S = 10
_LONGEST = 4_000_000  # characters of a listing


@dataclass(frozen=True, slots=True)
class Counter:
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Firewall:
    """`digest`: of the rules without what they counted. `why`: it could not be read."""

    digest: str = ""
    rules: int = 0
    counters: Mapping[str, Counter] = field(default_factory=dict)
    why: str = ""

    def since(self, before: Mapping[str, Any]) -> dict[str, dict[str, int]]:
        """What was counted since; from nothing where the counters began anew."""
        found = {}
        for name, now in self.counters.items():
            old = before.get(name, {})
            packets, size = int(old.get("packets", 0)), int(old.get("bytes", 0))
            if now.packets < packets or now.bytes < size:
                packets = size = 0
            found[name] = {"packets": now.packets - packets, "bytes": now.bytes - size}
        return found


def read(saved: Path | None = None) -> Firewall:
    """From a file that root saved, else from nft itself. Raises BadRequest for a file that is none."""
    if saved is not None:
        try:
            text = saved.read_text("utf-8")[:_LONGEST]
            return _parsed(json.loads(text))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise BadRequest(
                f"{saved} は規則の一覧として読めません。root で `{LISTING} > {saved}` を実行してください。"
            ) from None
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    if program is None:
        return Firewall(why="nft がありません")
    argv = [program, *LISTING.split()[1:]]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Firewall(why=f"nft が答えません（{type(error).__name__}）")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[0]
        if "No such file" in last:
            return Firewall(why="表 inet kura が、この環境にはありません")
        return Firewall(why=f"読めませんでした（{last[:200]}）")
    return _parsed(json.loads(done.stdout))


def _parsed(listing: Mapping[str, Any]) -> Firewall:
    counters, kept, rules = {}, [], 0
    for one in listing["nftables"]:
        ((kind, body),) = one.items()
        if kind == "metainfo":
            continue
        if (body["family"], body["name" if kind == "table" else "table"]) != TABLE:
            continue
        if kind == "counter":
            counters[str(body["name"])] = Counter(int(body["packets"]), int(body["bytes"]))
        rules += kind == "rule"
        kept.append({kind: _still(body)})
    if not kept:
        raise KeyError("no such table")
    canonical = json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return Firewall(hashlib.sha256(canonical.encode()).hexdigest(), rules, counters)


def _still(value: Any) -> Any:
    """Without numbers that change while the rules do not."""
    if isinstance(value, dict):
        return {k: _still(v) for k, v in value.items() if k not in {"handle", "packets", "bytes"}}
    return [_still(v) for v in value] if isinstance(value, list) else value
