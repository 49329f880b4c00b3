"""Whether a host can carry Kura: the command as IT runs it, and what it makes of hosts that cannot."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from installer.host import checks, disk, gpu, machine, network, walls
from installer.host.finding import Finding, Host, Wanted
from tests.connectors.samba import Samba, missing

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*options: str, **more: str) -> subprocess.CompletedProcess[str]:
    """With the standard library alone, as on a machine where nothing is yet."""
    return subprocess.run(
        [sys.executable, "-S", "-E", "-m", "installer", "preflight", *options],
        cwd=ROOT,
        env=os.environ | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class Table(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows = 0
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.rows += tag == "tr"
        self.fetched += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_command_says_of_each_line_what_is_found_needed_and_mends_it(tmp_path: Path) -> None:
    page = tmp_path / "点検.html"
    done = run("--json", "--html", str(page), "--data", str(tmp_path), "--disk-gb", "0.001")
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["ok"] else 1)
    names = [c["name"] for c in told["checks"]]
    assert names == [n for n in checks.CHECKS if n in names] and len(names) >= 19
    assert {"LDAP", "SMB", "DNS"}.isdisjoint(names), "nobody asked for them"
    for check in told["checks"]:
        assert check["found"] and check["needed"]
        assert bool(check["mend"]) == (check["level"] != "ok")
    table = Table()
    table.feed(page.read_text("utf-8"))
    assert (table.rows, table.fetched) == (len(names) + 1, [])


def test_what_is_bad_is_told_with_its_remedy_and_ends_with_1(tmp_path: Path) -> None:
    done = run("--data", str(tmp_path / "まだ" / "無い"), "--disk-gb", "9999999")
    assert done.returncode == 1
    (line,) = (one for one in done.stdout.splitlines() if one.startswith("✗ ディスクの空き"))
    after = done.stdout[done.stdout.index(line) :].splitlines()
    assert "9.99" in after[1] or "9999999" in after[1] or "1e+07" in after[1]
    assert after[2].strip().startswith("df -h")
    assert not (tmp_path / "まだ").exists(), "it looks, and makes nothing"
    assert list(tmp_path.iterdir()) == []


# --- hosts that cannot ------------------------------------------------------------


def host(root: Path, **files: str) -> Host:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return Host(root)


def test_an_old_processor_is_named_by_what_it_lacks(tmp_path: Path) -> None:
    old = host(tmp_path, proc__cpuinfo="processor : 0\nflags\t\t: fpu sse2 f16c\n")
    found = machine.processor(old, Wanted())
    assert found.level == "bad" and found.found.startswith("avx2 fma ")


@pytest.mark.parametrize(("kb", "level"), [(7_900_000, "ok"), (3_900_000, "bad")])
def test_memory_counts_with_what_the_machine_keeps(tmp_path: Path, kb: int, level: str) -> None:
    small = host(tmp_path, proc__meminfo=f"MemTotal:       {kb} kB\n")
    assert machine.memory(small, Wanted(memory_gb=8)).level == level


MOUNTS = """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
40 21 0:52 / /srv/kura\\040data rw - nfs4 filer:/vol rw
41 40 8:2 / /srv/kura\\040data/ssd rw - xfs /dev/sdb1 rw
"""


def test_sqlite_is_not_put_on_a_file_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mounted deepest counts."""
    here = host(tmp_path, proc__self__mountinfo=MOUNTS)
    monkeypatch.setattr(disk, "_there", lambda path: path)
    levels = {
        place: disk.kind(here, Wanted(data=Path(place)))
        for place in ("/srv/kura data/db", "/srv/kura data/ssd/db", "/srv/kura", "/var/lib/kura")
    }
    assert [f.level for f in levels.values()] == ["bad", "ok", "ok", "ok"]
    assert "nfs4" in levels["/srv/kura data/db"].found
    assert "xfs" in levels["/srv/kura data/ssd/db"].found


def test_switched_off_namespaces_are_mended_by_the_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walls, "_refused", lambda: "Operation not permitted")
    off = host(tmp_path, proc__sys__user__max_user_namespaces="0\n")
    assert "user.max_user_namespaces=15000" in walls.namespaces(off, Wanted()).mend
    monkeypatch.setattr(walls, "_refused", lambda: "")
    assert walls.namespaces(off, Wanted()).level == "ok"


def test_a_kernel_without_filters_is_not_trusted(tmp_path: Path) -> None:
    release = os.uname().release
    assert walls.filters(Host(tmp_path), Wanted()).level == "warning"
    here = host(
        tmp_path, **{f"boot__config-{release}": "CONFIG_BPF=y\n# CONFIG_CGROUP_BPF is not set\n"}
    )
    assert walls.filters(here, Wanted()).level == "bad"
    here = host(tmp_path, **{f"boot__config-{release}": "CONFIG_CGROUP_BPF=y\n"})
    assert walls.filters(here, Wanted()).level == "ok"


def smi(folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{line}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("line", "vram_gb", "level"),
    [
        ("NVIDIA L4, 550.54, 23034, 22500, 8.9", 16, "ok"),
        ("NVIDIA L4, 550.54, 23034, 4000, 8.9", 16, "bad"),
        ("NVIDIA L4, 470.10, 23034, 22500, 8.9", 16, "bad"),
        ("Tesla P4, 550.54, 7680, 7600, 6.1", 4, "warning"),
    ],
)
def test_a_card_is_measured_against_driver_and_models(
    line: str, vram_gb: float, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(tmp_path, line, monkeypatch)
    assert gpu.card(Host(tmp_path), Wanted(vram_gb=vram_gb)).level == level


def test_a_card_without_a_driver_is_told_from_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.card(Host(tmp_path), Wanted()).level == "ok"
    at = "sys__bus__pci__devices__0000:01:00.0__"
    there = host(tmp_path, **{f"{at}vendor": "0x10de\n", f"{at}class": "0x030200\n"})
    assert "nvidia-driver" in gpu.card(there, Wanted()).mend


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(host: Host, wanted: Wanted) -> Finding:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(checks, "CHECKS", {"壊れた": broken})
    (line,) = checks.lines(Host(), Wanted())
    assert line.finding.level == "bad" and "unforeseen" in line.finding.found


# --- the company's network -------------------------------------------------------


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        found = network.port(Host(), Wanted(address="127.0.0.1", port=number))
    assert found.level == "bad" and str(number) in found.mend
    assert network.port(Host(), Wanted(address="127.0.0.1", port=number)).level == "ok"


def test_a_name_must_lead_here() -> None:
    asked = Wanted(name="localhost", port=443)
    found = network.name(Host(), asked)
    assert found and found.level == "ok"
    found = network.name(Host(), Wanted(name="192.0.2.7"))
    assert found and (found.level, found.found) == ("warning", "192.0.2.7")
    found = network.name(Host(), Wanted(name="無い.invalid"))
    assert found and found.level == "bad"


def signed(folder: Path, name: str, days: int) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}-{days}.pem", folder / f"{name}-{days}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", str(days), "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def test_a_certificate_is_looked_at_as_a_browser_would(tmp_path: Path) -> None:
    name = "kura.example.co.jp"
    certificate, key = signed(tmp_path, name, 300)
    _, other = signed(tmp_path, name, 301)
    late, late_key = signed(tmp_path, name, 9)

    def level(certificate: Path, key: Path, name: str, authority: Path | None) -> str:
        asked = Wanted(certificate=certificate, key=key, name=name, authority=authority)
        found = network.certificate(Host(), asked)
        assert found
        return found.level

    assert level(certificate, key, name, certificate) == "ok"
    assert level(late, late_key, name, late) == "warning"
    assert level(certificate, key, "other.example.co.jp", certificate) == "bad"
    assert level(certificate, key, name, None) == "bad", "nobody knows who issued it"
    assert level(certificate, other, name, certificate) == "bad", "the key of another"
    assert level(tmp_path / "無い.pem", key, name, certificate) == "bad"


@contextlib.contextmanager
def speaking(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Somebody who takes one message and says this."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                one, _ = server.accept()
                with one:
                    heard.append(one.recv(65_536))
                    one.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        thread.join(10)


def bound(code: int) -> bytes:
    """A BindResponse (RFC 4511, 4.2.2) as OpenLDAP writes it; the other form of a length too."""
    result = bytes([0x0A, 1, code, 4, 0, 4, 0])
    message = b"\x02\x01\x01" + bytes([0x61, 0x81, len(result)]) + result
    return bytes([0x30, len(message)]) + message


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [
        (bound(0), "ok", "cn=kura"),
        (bound(49), "bad", "パスワード"),
        (bound(80), "bad", "LDAP 80"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "bad", "LDAP を話しません"),
        (b"", "bad", "切れました"),
    ],
)
def test_the_directory_is_bound_to(answer: bytes, level: str, said: str) -> None:
    with speaking(answer) as (port, heard):
        wanted = Wanted(
            ldap=f"ldap://127.0.0.1:{port}", ldap_user="cn=kura,dc=例", ldap_password="秘" * 60
        )
        found = network.directory(Host(), wanted)
    assert found and found.level == level and said in found.found
    assert heard and "秘".encode() * 60 in heard[0], "the long form of a length"
    assert "秘" not in f"{found}"


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize(("least", "said"), [("SMB2_02", "3.0.2"), ("SMB3_11", "3.1.1")])
def test_a_file_server_is_heard(least: str, said: str) -> None:
    server = Samba(f"server min protocol = {least}").start()
    try:
        found = network.file_servers(Host(), Wanted(smb=(f"127.0.0.1:{server.port}",)))
    finally:
        server.close()
    assert found and found.level == "ok" and found.found.endswith(f"SMB {said}")


def test_who_is_no_file_server_is_told_apart_from_nobody() -> None:
    with speaking(b"SSH-2.0-OpenSSH_9.2\r\n") as (port, _):
        found = network.file_servers(Host(), Wanted(smb=(f"127.0.0.1:{port}",)))
    assert found and found.level == "bad" and "話しません" in found.found
    began = time.monotonic()
    found = network.file_servers(Host(), Wanted(smb=(f"127.0.0.1:{port}",)))
    assert found and found.level == "bad" and time.monotonic() - began < network.WAIT_S + 5
