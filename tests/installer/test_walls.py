"""The walls around each process: what systemd says of its unit, and what the firewall lets through, for real."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from installer.deploy import answers, firewall, units
from installer.deploy.answers import PRIVATE
from installer.places import Places

USER, GROUPS = 64001, {"infer": 64002, "web": 64003, "work": 64004}
REACH = {"web": ["10.9.0.2:5432"], "work": ["10.9.0.2:445"]}


@pytest.mark.parametrize("port", [443, 8443])
@pytest.mark.parametrize("gpu", [False, True])
def test_systemd_finds_each_unit_closed(tmp_path: Path, port: int, gpu: bool) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    site = units.Site(Places(), port, PRIVATE, {"web": (), "work": ("10.1.2.3:445",)}, gpu)
    units.write_into(tmp_path, site)
    exposed = {}
    for name in (*(f"kura-{p}.service" for p in units.PROCESSES), units.FIREWALL):
        said = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"exposure level for \S+: ([0-9.]+)", said.stdout)
        assert found, said.stderr
        exposed[name] = float(found[1])
        assert "Unknown" not in said.stderr, said.stderr
    assert len(exposed) == 4 and all(level <= 2.0 for level in exposed.values()), exposed


def test_infer_has_no_network_and_work_keeps_what_its_parsers_need(tmp_path: Path) -> None:
    found = units.texts(units.Site(Places()))
    assert "PrivateNetwork=yes" in found["kura-infer.service"]
    assert "RestrictAddressFamilies=AF_UNIX\n" in found["kura-infer.service"]
    assert "RestrictNamespaces=user net ipc\n" in found["kura-work.service"]
    assert "landlock_restrict_self" in found["kura-work.service"]
    for name in units.PROCESSES:
        text = found[f"kura-{name}.service"]
        assert f"Group=kura-{name}\n" in text and "IPAddressDeny=any\n" in text
        assert "Requires=kura-firewall.service" in text, "no process without the firewall"
        after = re.findall(r"^After=(.*)$", text, re.MULTILINE)[0].split()
        assert "kura.target" in after, "`systemctl stop kura.target` is over when they have stopped"


# One machine of the site in a network of its own, beside the host with the rules.
SCRIPT = r"""
set -e
ip link set lo up
unshare -n sleep 60 & there=$!
sleep 0.5
ip link add v0 type veth peer name v1
ip link set v1 netns $there
ip addr add 10.9.0.1/24 dev v0; ip link set v0 up
in_site="nsenter -t $there -n"
$in_site ip link set lo up
$in_site ip addr add 10.9.0.2/24 dev v1; $in_site ip addr add 192.0.2.9/24 dev v1
$in_site ip link set v1 up
ip route add default via 10.9.0.2
$in_site ip route add default via 10.9.0.1
nft -f "$1"; nft -f "$1"
$in_site "$2" "$3" listen 10.9.0.2 445 5432 80 53 & listening=$!
"$2" "$3" listen 0.0.0.0 443 22 8400 & ours=$!
sleep 1.5
as() { setpriv --reuid "$1" --regid "$2" --clear-groups "$PYTHON" "$PROBE" connect "${@:3}"; }
PYTHON=$2 PROBE=$3
as "$4" "$5" infer 10.9.0.2:445 10.9.0.2:53 127.0.0.1:443
as "$4" "$6" web 10.9.0.2:445 10.9.0.2:5432 10.9.0.2:80 10.9.0.2:53 127.0.0.1:443
as "$4" "$7" work 10.9.0.2:445 10.9.0.2:5432 10.9.0.2:80 10.9.0.2:53 127.0.0.1:443
as "$4" "$4" other 10.9.0.2:445 10.9.0.2:80 127.0.0.1:443
as 65534 65534 stranger 10.9.0.2:445 10.9.0.2:80 127.0.0.1:443
nsenter -t $there -n "$2" "$3" connect visitor 10.9.0.1:443 10.9.0.1:22
nsenter -t $there -n "$2" "$3" connect foreigner@192.0.2.9 10.9.0.1:443 10.9.0.1:22
nft -j list counters table inet kura
kill $there $listening $ours
"""
PROBE = """
import json, socket, sys, time
if sys.argv[1] == "listen":
    open_ = [socket.create_server((sys.argv[2], int(port))) for port in sys.argv[3:]]
    time.sleep(60)
name, _, source = sys.argv[2].partition("@")
said = {}
for where in sys.argv[3:]:
    host, port = where.split(":")
    wire = socket.socket()
    wire.settimeout(1)
    if source:
        wire.bind((source, 0))
    try:
        wire.connect((host, int(port)))
        said[where] = "ok"
    except OSError as error:
        said[where] = "refused" if error.errno else "dropped"
print(json.dumps([name, said]), flush=True)
"""


def _open(folder: Path) -> None:
    """Others may come to it: the processes of the test have users of their own."""
    while folder != Path(tempfile.gettempdir()):
        folder.chmod(0o755)
        folder = folder.parent


def test_the_firewall_lets_each_process_reach_what_the_site_named_and_counts_the_rest(
    tmp_path: Path,
) -> None:
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"):
        pytest.skip("needs root, nft and ip")
    rules, probe = tmp_path / "nftables.conf", tmp_path / "probe.py"
    rules.write_text(firewall.text(443, ["10.9.0.0/24", "fd00::/8"], REACH, USER, GROUPS), "utf-8")
    probe.write_text(PROBE, "utf-8")
    _open(tmp_path)
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    done = subprocess.run(
        ["unshare", "-n", "bash", "-c", SCRIPT, "bash", str(rules), python, str(probe), str(USER), *map(str, GROUPS.values())],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    said = dict(json.loads(line) for line in lines if line.startswith("["))
    assert said == {
        "infer": {"10.9.0.2:445": "refused", "10.9.0.2:53": "refused", "127.0.0.1:443": "refused"},
        "web": {
            "10.9.0.2:445": "refused",
            "10.9.0.2:5432": "ok",
            "10.9.0.2:80": "refused",
            "10.9.0.2:53": "refused",
            "127.0.0.1:443": "ok",
        },
        "work": {
            "10.9.0.2:445": "ok",
            "10.9.0.2:5432": "refused",
            "10.9.0.2:80": "refused",
            "10.9.0.2:53": "refused",
            "127.0.0.1:443": "ok",
        },
        "other": {"10.9.0.2:445": "refused", "10.9.0.2:80": "refused", "127.0.0.1:443": "ok"},
        "stranger": {"10.9.0.2:445": "ok", "10.9.0.2:80": "ok", "127.0.0.1:443": "ok"},
        "visitor": {"10.9.0.1:443": "ok", "10.9.0.1:22": "ok"},
        "foreigner": {"10.9.0.1:443": "dropped", "10.9.0.1:22": "ok"},
    }
    counters = json.loads(next(line for line in lines if line.startswith("{")))["nftables"]
    counted = {c["counter"]["name"]: c["counter"]["packets"] for c in counters if "counter" in c}
    assert counted["infer_refused"] == 3 and counted["web_refused"] == 3
    assert counted["work_refused"] == 3 and counted["other_refused"] == 2
    assert counted["visitors_refused"] >= 1


RESOLVER = r"""
set -e
ip link set lo up
nft -f "$1"
"$2" "$3" listen 127.0.0.53 53 & resolver=$!
"$2" "$3" listen 127.0.0.1 443 & own=$!
sleep 1.5
setpriv --reuid "$4" --regid "$5" --clear-groups "$2" "$3" connect web 127.0.0.53:53 127.0.0.1:443
kill $resolver $own
"""


@pytest.mark.parametrize(("sealed", "answer"), [(False, "ok"), (True, "refused")])
def test_sealed_nobody_asks_a_resolver_on_this_machine(
    tmp_path: Path, sealed: bool, answer: str
) -> None:
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"):
        pytest.skip("needs root, nft and ip")
    rules, probe = tmp_path / "nftables.conf", tmp_path / "probe.py"
    rules.write_text(firewall.text(443, [], {}, USER, GROUPS, sealed=sealed), "utf-8")
    probe.write_text(PROBE, "utf-8")
    _open(tmp_path)
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    done = subprocess.run(
        ["unshare", "-n", "bash", "-c", RESOLVER, "bash", rules, python, probe, str(USER), str(GROUPS["web"])],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    assert said == {"web": {"127.0.0.53:53": answer, "127.0.0.1:443": "ok"}}


def test_sealed_units_see_no_resolver_of_this_machine() -> None:
    told = answers.of({"name": "kura.example.co.jp", "settings": {"sealed": True}})
    assert told.sealed and not answers.of({"name": "kura.example.co.jp"}).sealed
    closed = units.texts(units.Site(Places(), sealed=True))
    for name in ("web", "work"):
        assert "InaccessiblePaths=-/run/systemd/resolve" in closed[f"kura-{name}.service"]
    assert "InaccessiblePaths" not in units.texts(units.Site(Places()))["kura-web.service"]
