"""Sealed mode, in networks that have the walls and in networks that lack one (threats E3, E4)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from appliance import doctor
from appliance.errors import SettingsError
from appliance.settings import Settings
from appliance.sovereignty import firewall, walls
from appliance.store import audit, database
from tests.sovereignty.networks import LO, OPEN, OUT, ROOT, command, python, ruled

PROBE = """
import json, sys
from dataclasses import asdict
from appliance.sovereignty import own, walls
assert own.families(own.NETWORKED) == ""
print(json.dumps([asdict(one) for one in walls.probe(frozenset(sys.argv[1:]))]))
"""
NO_DNS = "printf 'nameserver 127.0.0.77\\n' > /tmp/kura-resolv.$$; mount --bind /tmp/kura-resolv.$$ /etc/resolv.conf; rm -f /tmp/kura-resolv.$$"
STUB = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.77", 53))
"""


def missing(network: str, *resolvers: str, **more: Any) -> set[str]:
    done = python(network, PROBE, *resolvers, **({"mount": NO_DNS} | more))
    assert done.returncode == 0, done.stderr
    tried = json.loads(done.stdout)
    assert {one["wall"] for one in tried} >= {"tcp", "udp", "icmp", "packet", "vsock", "rights"}
    return {one["wall"] for one in tried if not one["held"]}


def test_an_empty_network_is_a_wall() -> None:
    assert missing(LO) == set()
    assert missing(LO, rights=True) == set()  # there is nothing that these rights could open


def test_rules_that_refuse_are_a_wall() -> None:
    assert missing(ruled()) == set()
    assert missing(ruled("reject")) == set()


def test_a_way_out_is_none() -> None:
    assert missing(OPEN) == {"tcp", "udp"}  # ICMP needs a right that nobody here has


def test_rules_that_drop_in_silence_cannot_be_told_from_a_way_out() -> None:
    assert missing(ruled("drop")) == {"tcp"}


def test_rules_that_forget_one_protocol_are_none() -> None:
    assert missing(
        ruled().replace("counter name web_refused", "meta nfproto ipv4 counter name web_refused")
    ) == {
        "tcp",
        "udp",
    }
    assert missing(ruled().replace("counter name", "tcp dport 0-65535 counter name")) == {
        "udp",
    }


def test_a_cable_that_is_out_is_none() -> None:
    assert missing(OUT) == {"tcp", "udp"}


def test_whoever_may_take_the_walls_down_has_none() -> None:
    assert missing(ruled(), rights=True) == {"rights"}


def test_a_resolver_on_this_machine_would_ask_others_for_us() -> None:
    # bound by a process that stays, and heard by nobody: it need not even answer
    stub = f"{LO}\n{sys.executable} -c '{STUB}import time; print(flush=True); time.sleep(30)' >/dev/null 2>&1 & sleep 1"
    assert missing(stub) == {"dns"}
    assert missing(stub, "127.0.0.77") == set()


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    data = tmp_path / "データ"
    data.mkdir(mode=0o700)
    return {"KURA_DATA": str(data), "KURA_SEALED": "true", "KURA_BACKUP_CRON": ""}


KURA = "import sys; from appliance.cli import main; sys.argv[0] = 'kura'; main()"


@pytest.mark.parametrize("process", ["web", "work"])
def test_a_process_without_its_walls_does_not_start_and_says_why(
    home: dict[str, str], process: str
) -> None:
    done = python(OPEN, KURA, process, environment=home, mount=NO_DNS)
    assert done.returncode == 78  # starting it again changes nothing
    (line,) = [li for li in done.stderr.splitlines() if li.startswith("kura:")]
    assert "封鎖モード (sealed) では起動しません" in line
    assert f"{process} の IPv4 の TCP (192.0.2.1)" in line
    assert "nftables" in line or "internal: true" in line  # the tests may run in a container
    found = json.loads((Path(home["KURA_DATA"]) / "walls" / f"{process}.json").read_text("utf-8"))
    assert found["held"] is False and found["process"] == process
    assert not (Path(home["KURA_DATA"]) / "kura.db").exists()  # it came to nothing else


def test_in_a_container_the_sentence_speaks_of_containers(home: dict[str, str]) -> None:
    mount = f"{NO_DNS}; mount -t tmpfs none /run; touch /run/.containerenv"
    done = python(OPEN, KURA, "web", environment=home, mount=mount)
    assert done.returncode == 78 and "internal: true" in done.stderr


def test_infer_needs_no_wall_but_its_own(home: dict[str, str]) -> None:
    """It leaves the network by itself; what it lacks here is its models."""
    done = python(OPEN, KURA, "infer", environment=home | {"KURA_MODELS": home["KURA_DATA"]})
    found = json.loads((Path(home["KURA_DATA"]) / "walls" / "infer.json").read_text("utf-8"))
    assert found["held"] is True, found
    assert "封鎖モード" not in done.stderr and done.returncode == 78
    answers = {one["answer"] for one in found["tried"] if one["wall"] in ("tcp", "udp", "vsock")}
    assert answers == {"Address family not supported by protocol"}


def test_web_starts_where_every_wall_holds_and_it_is_in_the_chain(home: dict[str, str]) -> None:
    data = Path(home["KURA_DATA"])
    argv = command(LO, [sys.executable, "-c", KURA, "web"], mount=NO_DNS)
    web = subprocess.Popen(argv, env=os.environ | {"PYTHONPATH": str(ROOT)} | home)
    try:
        engine = database.connect(f"sqlite:///{data / 'kura.db'}")
        deadline = time.monotonic() + 60
        while not noted(engine, data):
            assert web.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        web.send_signal(signal.SIGTERM)
        web.wait(30)
    engine.dispose()
    assert json.loads((data / "walls" / "web.json").read_text("utf-8"))["held"] is True


def noted(engine: Any, data: Path) -> bool:
    from sqlalchemy.exc import OperationalError

    try:
        return [e.action for e in audit.entries(engine, actor="process:web")] == ["sealed.start"]
    except OperationalError:
        return False


def test_what_the_rules_counted_is_read(tmp_path: Path) -> None:
    saved = tmp_path / "規則.json"
    code = f"""
import json, subprocess
from appliance.sovereignty import firewall, walls
before = firewall.read()
walls.probe()
after = firewall.read()
assert after.digest == before.digest and after.rules == 2
then = {{n: {{"packets": c.packets, "bytes": c.bytes}} for n, c in before.counters.items()}}
assert after.since(then)["web_refused"]["packets"] >= 8
counted = after.since({{}})
with open({str(saved)!r}, "w") as file:
    subprocess.run({firewall.LISTING.split()!r}, stdout=file, check=True)
print(json.dumps(counted))
"""
    done = python(ruled(), code, rights=True, mount=NO_DNS)
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    assert counted["web_refused"]["packets"] >= 8 and counted["work_refused"]["packets"] == 0
    read = firewall.read(saved)
    assert read.counters["web_refused"].packets >= counted["web_refused"]["packets"]
    again = read.since({"web_refused": {"packets": 3, "bytes": 10}})
    assert again["web_refused"]["packets"] == counted["web_refused"]["packets"] - 3
    anew = read.since(
        {"web_refused": {"packets": 10**9, "bytes": 0}}
    )  # the machine was started anew
    assert anew["web_refused"] == counted["web_refused"]


def test_who_may_not_read_the_rules_is_told_how() -> None:
    code = "from appliance.sovereignty import firewall; print(firewall.read().why)"
    done = python(ruled(), code)
    assert done.returncode == 0 and done.stdout.startswith("読めませんでした（")


@pytest.mark.parametrize("text", ["", "{}", '{"nftables": []}', '{"nftables": [{"a": 1}]}', "[1]"])
def test_a_file_that_is_no_listing_is_refused(tmp_path: Path, text: str) -> None:
    from appliance.errors import BadRequest

    (tmp_path / "x").write_text(text)
    with pytest.raises(BadRequest, match="nft -j list table inet kura"):
        firewall.read(tmp_path / "x")


def test_resolvers_are_addresses() -> None:
    assert Settings(sealed_resolvers="10.0.0.53, 2001:DB8::35").resolvers == {
        "10.0.0.53",
        "2001:db8::35",
    }
    with pytest.raises(SettingsError, match="sealed_resolvers"):
        Settings(sealed_resolvers="dns.example.co.jp")


def test_a_record_is_whole_or_not_there(tmp_path: Path) -> None:
    walls.keep(tmp_path, "web", [walls.Tried("tcp", "x", "y", True)])
    walls.keep(tmp_path, "web", [walls.Tried("tcp", "x", "y", False)])
    (tmp_path / "walls" / "work.json").write_text('{"half')
    assert [(one["process"], one["held"]) for one in walls.kept(tmp_path)] == [("web", False)]
    assert {p.name for p in (tmp_path / "walls").iterdir()} == {"web.json", "work.json"}


def test_doctor_says_what_the_processes_found(tmp_path: Path) -> None:
    sealed = Settings(data=tmp_path, sealed=True)
    assert "封鎖モードではありません" in doctor.walls(Settings(data=tmp_path))
    with pytest.raises(doctor.Bad, match="まだ確かめていません"):
        doctor.walls(sealed)
    walls.keep(tmp_path, "infer", [walls.Tried("tcp", "x", "y", True)])
    assert doctor.walls(sealed) == "infer で、すべて立っています"
    walls.keep(tmp_path, "web", [walls.Tried("tcp", "x", "y", False)])
    with pytest.raises(doctor.Bad, match="web の壁が足りません"):
        doctor.walls(sealed)
