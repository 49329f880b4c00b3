"""What the kernel must offer for Kura's walls to hold: it looks, and tries."""

from __future__ import annotations

import ctypes
import os
import re

from installer.host.finding import Finding, Host, Wanted, bad, ok, warning

_NEWUSER, _NEWNET = 0x10000000, 0x40000000


def namespaces(host: Host, wanted: Wanted) -> Finding:
    """A parser without a network, tried in a child as an ordinary user has it."""
    needed = "利用者名前空間とネットワーク名前空間 / user and network namespaces"
    if why := _refused():
        return bad(f"作れません / refused: {why}", needed, _mend(host))
    return ok("作れます / work", needed)


def cgroups(host: Host, wanted: Wanted) -> Finding:
    needed = "cgroup v2"
    if host.has("/sys/fs/cgroup/cgroup.controllers"):
        return ok("cgroup v2", needed)
    return bad(
        "cgroup v1, または無し / or none",
        needed,
        "GRUB_CMDLINE_LINUX に systemd.unified_cgroup_hierarchy=1 を足し、update-grub && reboot",
    )


def filters(host: Host, wanted: Wanted) -> Finding:
    """systemd's IPAddressDeny needs BPF programs on cgroups; without them it is silently off."""
    needed = "CONFIG_CGROUP_BPF=y"
    mend = "BPF を含むカーネルをお使いください: apt-get install -y linux-image-amd64 && reboot"
    release = os.uname().release
    config = host.text(f"/boot/config-{release}") or _unpacked(host)
    if not config:
        return warning("カーネルの構成が読めません / no kernel configuration here", needed, mend)
    if not re.search(r"^CONFIG_CGROUP_BPF=y", config, re.M):
        return bad("ありません / off", needed, mend)
    return ok("あり / on", needed)


def firewall(host: Host, wanted: Wanted) -> Finding:
    needed = "nftables"
    if host.says("nft", "--version") is None:
        return bad("nft がありません / is missing", needed, "apt-get install -y nftables")
    return ok("あり / there", needed)


def _unpacked(host: Host) -> str:
    import gzip

    try:
        return gzip.decompress((host.root / "proc/config.gz").read_bytes()).decode()
    except (OSError, ValueError, EOFError):
        return ""


def _refused() -> str:
    """Why a process may not have namespaces of its own; empty where it may."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)  # as root it would tell nothing
            failed = libc.unshare(_NEWUSER | _NEWNET) != 0
            os.write(write, os.strerror(ctypes.get_errno()).encode() if failed else b"")
        except OSError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    said = b""
    while part := os.read(read, 4096):
        said += part
    os.close(read)
    os.waitpid(child, 0)
    return said.decode()


def _mend(host: Host) -> str:
    switches = {
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "kernel.unprivileged_userns_clone=1"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        "/proc/sys/user/max_user_namespaces": ("0", "user.max_user_namespaces=15000"),
    }
    wrong = [fix for path, (value, fix) in switches.items() if host.text(path).strip() == value]
    if not wrong:
        return "コンテナなら --security-opt seccomp=unconfined が要ります。 / In a container: --security-opt seccomp=unconfined."
    return f"printf '%s\\n' {' '.join(wrong)} > /etc/sysctl.d/60-kura.conf && sysctl --system"
