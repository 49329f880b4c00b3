"""Processor, memory, system and clock."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sqlite3
import sys

from installer.host.finding import GB, Finding, Host, Wanted, bad, ok, warning

FLAGS = ("avx2", "fma", "f16c")  # what every built wheel of the bundle may use
FASTER = ("avx512_bf16", "amx_bf16", "avx_vnni")
CORES = 2
KERNEL = (5, 10)  # Debian 11's; user namespaces, cgroup v2 and BPF filters are all there
GLIBC = (2, 28)  # of manylinux_2_28, for which the wheels are built
SQLITE = (3, 37)  # STRICT tables
UNSYNCHRONISED = 5  # adjtimex's TIME_ERROR


def processor(host: Host, wanted: Wanted) -> Finding:
    if platform.machine() == "aarch64":
        return warning(
            "aarch64", "x86-64", "aarch64 では試されていません。 / Not tried on aarch64."
        )
    flags = set(re.findall(r"^flags\s*:\s*(.*)$", host.text("/proc/cpuinfo"), re.M)[:1])
    has = set(" ".join(flags).split())
    needed = " ".join(FLAGS)
    if lacking := [f for f in FLAGS if f not in has]:
        return bad(
            f"{' '.join(lacking)} がありません / missing",
            needed,
            "仮想マシンなら CPU の種類を host (KVM: -cpu host) にしてください。"
            " / In a virtual machine, pass the host's CPU through.",
        )
    fast = [f for f in FASTER if f in has]
    return ok(" ".join([*FLAGS, *fast]), needed)


def cores(host: Host, wanted: Wanted) -> Finding:
    usable, needed = len(os.sched_getaffinity(0)), f"{CORES}"
    if usable < CORES:
        return bad(str(usable), needed, "仮想マシンに vCPU を足してください。 / Add vCPUs.")
    return ok(str(usable), needed)


def memory(host: Host, wanted: Wanted) -> Finding:
    found = re.search(r"^MemTotal:\s+(\d+) kB", host.text("/proc/meminfo"), re.M)
    total = int(found[1]) * 1024 / GB if found else 0.0
    needed, said = f"{wanted.memory_gb:g} GB", f"{total:.1f} GB"
    if total < 0.9 * wanted.memory_gb:  # a machine of 8 GB shows less
        return bad(
            said,
            needed,
            "メモリを足すか、小さいモデルを選んでください。 / Add memory, or choose smaller models.",
        )
    return ok(said, needed)


def kernel(host: Host, wanted: Wanted) -> Finding:
    release, needed = platform.release(), ".".join(map(str, KERNEL))
    if _version(release) < KERNEL:
        return bad(release, needed, "apt-get install -y linux-image-amd64 && reboot")
    return ok(release, needed)


def glibc(host: Host, wanted: Wanted) -> Finding:
    kind, version = platform.libc_ver()
    needed = f"glibc {'.'.join(map(str, GLIBC))}"
    if kind != "glibc" or _version(version) < GLIBC:
        return bad(
            f"{kind or '?'} {version}",
            needed,
            "Debian 12 か Ubuntu 22.04 以降をお使いください。 / Use Debian 12 or Ubuntu 22.04.",
        )
    return ok(f"glibc {version}", needed)


def python(host: Host, wanted: Wanted) -> Finding:
    found = platform.python_version()
    if sys.version_info[:2] != (3, 11):
        return bad(found, "3.11", "apt-get install -y python3.11 python3.11-venv")
    return ok(found, "3.11")


def sqlite(host: Host, wanted: Wanted) -> Finding:
    found, needed = sqlite3.sqlite_version, ".".join(map(str, SQLITE))
    if _version(found) < SQLITE:
        return bad(found, needed, "apt-get install -y libsqlite3-0")
    return ok(found, needed)


class _Timex(ctypes.Structure):
    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 252))


def clock(host: Host, wanted: Wanted) -> Finding:
    needed = "NTP と同期 / synchronised"
    mend = "timedatectl set-ntp true   # /etc/systemd/timesyncd.conf の NTP= に社内の時計を / name the company's NTP server"
    adjtimex = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if adjtimex is None:
        return warning("調べられません / unknown", needed, mend)
    state = adjtimex(ctypes.byref(_Timex()))  # modes 0: asks, sets nothing
    if state == UNSYNCHRONISED:
        return warning("同期していません / not synchronised", needed, mend)
    if state < 0:
        return warning("調べられません / unknown", needed, mend)
    return ok("同期 / synchronised", needed)


def service_manager(host: Host, wanted: Wanted) -> Finding:
    needed = "systemd 249 以降 / or newer"
    mend = (
        "コンテナで動かすときは compose.yaml をお使いください。 / In a container use compose.yaml."
    )
    if not host.has("/run/systemd/system"):
        return warning("systemd は動いていません / not running", needed, mend)
    said = host.says("systemctl", "--version") or ""
    found = re.search(r"systemd (\d+)", said)
    if not found or int(found[1]) < 249:
        return bad(said.splitlines()[0] if said else "?", needed, mend)
    return ok(f"systemd {found[1]}", needed)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", text)[:2])
