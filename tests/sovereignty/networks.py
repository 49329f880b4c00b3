"""Networks of its own for a test's process, as an ordinary user may have them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LO = "ip link set lo up"
# a way out on which everything goes, to nobody: the other end is in the same empty space
OUT = f"""{LO}
ip link add out0 type veth peer name out1
ip addr add 10.9.9.1/24 dev out0
ip -6 addr add 2001:db8:9::1/64 dev out0 nodad
ip link set out0 up; ip link set out1 up
ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:01 dev out0
ip -6 neigh add 2001:db8:9::2 lladdr 02:00:00:00:00:01 dev out0"""
OPEN = f"""{OUT}
ip route add default via 10.9.9.2
ip -6 route add default via 2001:db8:9::2 dev out0"""


def ruled(verdict: str = "reject with icmpx type admin-prohibited") -> str:
    """A way out, and rules as the installer writes them: all but loopback refused and counted."""
    return f"""{OPEN}
nft -f - <<'RULES'
table inet kura {{
  counter web_refused {{}}
  counter work_refused {{}}
  chain output {{
    type filter hook output priority 0; policy accept;
    oifname "lo" accept
    counter name web_refused {verdict}
  }}
}}
RULES"""


def needs(*programs: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for program in programs:
        assert shutil.which(program, path=path), f"{program} is missing; `make test` installs it"


def command(
    network: str, argv: Sequence[str], *, rights: bool = False, mount: str = ""
) -> list[str]:
    """`rights`: root of that network. `mount`: what is done first, with mounts of its own."""
    needs("unshare", "setpriv", "ip", "nft")
    drop = "" if rights else "setpriv --bounding-set=-all --inh-caps=-all -- "
    script = (
        f"set -e\nPATH=$PATH:/usr/sbin:/sbin\n{mount}\n{network}\nexec {drop}{shlex.join(argv)}"
    )
    return ["unshare", "-rnm" if mount else "-rn", "sh", "-c", script]


def python(
    network: str,
    code: str,
    *arguments: str,
    rights: bool = False,
    mount: str = "",
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    return subprocess.run(
        command(network, argv, rights=rights, mount=mount),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
    )
