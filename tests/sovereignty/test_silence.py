"""The whole product under strace, with nothing but lo: not one packet is tried to the outside (E1, E2).

Once as it is. Once with every switch of a library off, the guard out, and bait laid: what is silent
then is silent by itself. (The parsers' process keeps its guard: it takes nothing from outside.)
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import settings
from appliance.sovereignty import egress
from tests.sovereignty.networks import LO, OPEN, ROOT, needs

TRACED = "connect,sendto,sendmsg,sendmmsg"
_ADDRESS = re.compile(r'inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"')
_CALL = re.compile(r"\b(connect|sendto|sendmsg|sendmmsg)\(")
UNSWITCHED = """
import appliance.sovereignty.egress as egress
egress.SWITCHES.clear()
egress.FORBIDDEN = egress.EFFECTS = ()
egress._install = lambda *given: None
"""
BAIT = {
    "HF_ENDPOINT": "http://192.0.2.9",
    "HF_HUB_OFFLINE": "0",
    "TRANSFORMERS_OFFLINE": "0",
    "ANONYMIZED_TELEMETRY": "true",
    "LANGCHAIN_TRACING_V2": "true",
    "LANGSMITH_TRACING": "true",
    "LANGSMITH_API_KEY": "bait",
    "LANGSMITH_ENDPOINT": "http://192.0.2.9",
    "OTEL_SDK_DISABLED": "false",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.9:4318",
    "OTEL_TRACES_EXPORTER": "otlp",
}


def outside(trace: Path) -> Iterator[str]:
    """Every call to somewhere that is not this machine, and every question to a resolver."""
    for line in trace.read_text("utf-8", "replace").splitlines():
        if not _CALL.search(line):
            continue
        addresses = _ADDRESS.findall(line)
        asked = "htons(53)" in line or "io.systemd.Resolve" in line
        far = [
            a
            for a in addresses
            if not a.startswith("127.") and a not in ("::1", "::ffff:127.0.0.1")
        ]
        if far or asked or "AF_PACKET" in line or "AF_VSOCK" in line:
            yield line


def traced(
    network: str, trace: Path, argv: list[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    needs("unshare", "strace", "ip")
    script = f'set -e\nPATH=$PATH:/usr/sbin:/sbin\n{network}\nexec strace -f --seccomp-bpf -qq -e trace={TRACED} -o "$@"'
    return subprocess.run(
        ["unshare", "-rn", "sh", "-c", script, "sh", str(trace), *argv],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=1200,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


@pytest.mark.models
@pytest.mark.slow
@pytest.mark.parametrize("switches", ["on", pytest.param("off", marks=pytest.mark.long)])
def test_not_one_packet_is_tried_to_the_outside(tmp_path: Path, switches: str) -> None:
    more = {"KURA_MODELS": str(settings.load({**os.environ}).models)}
    if switches == "off":
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(UNSWITCHED)
        more |= BAIT | {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"}
    argv = [sys.executable, "-m", "tests.sovereignty.whole", str(tmp_path)]
    trace = tmp_path / "trace"
    done = traced(LO, trace, argv, **more)
    assert done.returncode == 0, (tmp_path / "データ" / "kura.log").read_text("utf-8")[-3000:]
    saw = json.loads(done.stdout.splitlines()[-1])
    assert saw["cited"] >= 1 and "一万円" in saw["answer"]
    assert saw["verified"]["ok"] and saw["backups"] > 3
    assert list(outside(trace)) == []
    assert "AF_UNIX" in trace.read_text("utf-8", "replace")  # it did listen
    assert sum(egress.counts(tmp_path / "データ").values()) == 0  # and nothing was tried within
    apart(saw["spaces"])


def apart(spaces: list[dict[str, object]]) -> None:
    """Models and parsers: a network of their own with nothing in it, and no socket to leave by (E2)."""
    kinds = {
        "cli infer": "infer",
        "inference.child": "infer-child",
        "formats.child": "parser",
        "cli web": "web",
        "cli work": "work",
    }
    seen = {
        name: space
        for space in spaces
        for part, name in kinds.items()
        if part in str(space["what"])
    }
    assert seen.keys() == set(kinds.values()), spaces
    for name in ("infer", "infer-child", "parser"):
        assert seen[name]["apart"] and seen[name]["devices"] == ["lo"], seen[name]
    assert all(seen[name]["seccomp"] == 2 for name in ("infer", "infer-child", "web", "work"))


def test_a_packet_that_is_tried_is_seen(tmp_path: Path) -> None:
    """Or the silence would prove nothing."""
    code = """
import socket
for family, kind, address in (
    (2, 1, ("192.0.2.1", 80)), (10, 1, ("2001:db8::1", 80)), (2, 2, ("127.0.0.1", 53)), (2, 1, ("127.0.0.1", 9)),
):
    try:
        s = socket.socket(family, kind); s.settimeout(0.1); s.connect(address)
    except OSError: pass
s = socket.socket(2, 2)
s.sendto(b"x", ("198.51.100.7", 123))
s.sendmsg([b"x"], [], 0, ("203.0.113.9", 123))
"""
    done = traced(OPEN, tmp_path / "trace", [sys.executable, "-c", code])
    assert done.returncode == 0
    found = "\n".join(outside(tmp_path / "trace"))
    for seen in ("192.0.2.1", "2001:db8::1", "htons(53)", "198.51.100.7", "203.0.113.9"):
        assert seen in found
    assert "htons(9)" not in found
