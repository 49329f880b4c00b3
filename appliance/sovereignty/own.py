"""Walls that a process of Kura raises around itself at its start, whoever started it.

`families`: sockets of no other kind than it needs, for good and for its children.
`leave_network`: a network of its own with nothing in it. Both need no rights. They stand
beside the outer ones (systemd, nftables, a container), not in their place.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import socket
import struct
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF: LD W ABS, JEQ K, JGE K, RET K
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_EAFNOSUPPORT, _ENOSYS = 97, 38
_X32 = 0x40000000  # the other numbers that an x86-64 kernel may know
# audit's number of the machine; socket, io_uring_setup (which would open sockets past the filter)
_MACHINES = {"x86_64": (0xC000003E, 41, 425), "aarch64": (0xC00000B7, 198, 425)}

LOCAL = (socket.AF_UNIX,)
# netlink: how the C library asks which addresses this machine has
NETWORKED = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)

_libc = ctypes.CDLL(None, use_errno=True)


def raise_walls(process: str) -> list[str]:
    """What this process can do for itself. Returns what could not be raised, and why."""
    missing = []
    if process == "infer" and (why := leave_network()):
        missing.append(f"namespace: {why}")
    if why := families(LOCAL if process == "infer" else NETWORKED):
        missing.append(f"seccomp: {why}")
    return missing


def families(wanted: tuple[int, ...]) -> str:
    """Sockets of these families alone, from now on. Returns why not; empty where it stands."""
    if (machine := _MACHINES.get(platform.machine())) is None:
        return f"not on {platform.machine()}"
    program = _filter(machine, wanted)
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0) != 0:
        return os.strerror(ctypes.get_errno())
    if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(head), 0, 0) != 0:
        return os.strerror(ctypes.get_errno())
    return ""


def leave_network() -> str:
    """A network without anything in it. While there is one thread only. Returns why not."""
    if _libc.unshare(_CLONE_NEWNET) == 0 or alone():
        return ""
    ids = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return os.strerror(ctypes.get_errno())
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{ids[0]} {ids[0]} 1"),
        ("gid_map", f"{ids[1]} {ids[1]} 1"),
    ):
        with contextlib.suppress(OSError):  # unmapped, it is nobody by name and the same by rights
            Path(f"/proc/self/{name}").write_text(text)
    return ""


def alone() -> bool:
    """Whether this process's network has no other interface than lo."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines} <= {"lo"}


def _filter(machine: tuple[int, int, int], wanted: tuple[int, ...]) -> bytes:
    arch, opening, ring = machine
    one = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
        (_EQUAL, 0, 1, ring),
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
        (_EQUAL, 1, 0, opening),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
    ]
    for family in wanted:
        one += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    one.append((_RETURN, 0, 0, _ERRNO | _EAFNOSUPPORT))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in one)
