"""The walls around a parser, raised by the process itself and never lowered again.

`isolate` once in the zygote: an empty network, no capabilities. `confine` in each
child, just before it reads the file: no new file, socket, process or program; only
what is already open can be read and written. Linux on x86-64 and aarch64.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import socket
import struct

_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446  # the same number on both machines
_EPERM = 1
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: LD W ABS, JMP JEQ K, RET K

# what reading bytes and counting needs, and no more: (x86-64, aarch64), None where it is not
_SYSCALLS: dict[str, tuple[int | None, int | None]] = {
    "brk": (12, 214), "clock_getres": (229, 114), "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115), "close": (3, 57), "exit": (60, 93), "exit_group": (231, 94),
    "fstat": (5, 80), "futex": (202, 98), "getcpu": (309, 168), "getpid": (39, 172),
    "getppid": (110, 173), "getrandom": (318, 278), "getrusage": (98, 165), "gettid": (186, 178),
    "gettimeofday": (96, 169), "lseek": (8, 62), "madvise": (28, 233), "membarrier": (324, 283),
    "mmap": (9, 222), "mprotect": (10, 226), "mremap": (25, 216), "munmap": (11, 215),
    "nanosleep": (35, 101), "newfstatat": (262, 79), "poll": (7, None), "ppoll": (271, 73),
    "pread64": (17, 67), "read": (0, 63), "readv": (19, 65), "restart_syscall": (219, 128),
    "rseq": (334, 293), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "sched_getaffinity": (204, 123), "sched_yield": (24, 124),
    "set_robust_list": (273, 99), "sigaltstack": (131, 132), "sysinfo": (99, 179),
    "time": (201, None), "times": (100, 153), "uname": (63, 160), "write": (1, 64),
    "writev": (20, 66),
}  # fmt: skip
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Unconfined(Exception):
    """This machine cannot raise a wall; nothing may be parsed."""


def isolate() -> None:
    """No network but an empty one, where the kernel lets us; no capabilities in any case."""
    for spaces in (
        _CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC,
        _CLONE_NEWNET | _CLONE_NEWIPC,
    ):
        if _libc.unshare(spaces) == 0:
            break
    number = {"x86_64": 126, "aarch64": 91}.get(platform.machine())
    if number is None:
        raise Unconfined(f"parsers cannot be confined on {platform.machine()}")
    header = struct.pack("=Ii", 0x20080522, 0)
    if _libc.syscall(number, ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))) != 0:
        raise Unconfined(f"capabilities cannot be dropped: {os.strerror(ctypes.get_errno())}")


def confine(memory_bytes: int, cpu_s: int) -> None:
    """All walls, for this process, for good. Raises Unconfined if one that must stand does not."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_DUMPABLE, 0)  # nobody of the same account may look in or attach
    _limits(memory_bytes, cpu_s)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    landlock()
    _seccomp()
    _knock()


def landlock() -> bool:
    """Deny every path of every file system and TCP. False where the kernel has no Landlock."""
    abi = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return False
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    attributes = struct.pack("=QQQ", files, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _libc.syscall(
        _LANDLOCK_CREATE, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        raise Unconfined(f"Landlock refused: {os.strerror(ctypes.get_errno())}")
    done = _libc.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)
    if done != 0:
        raise Unconfined(f"Landlock refused: {os.strerror(ctypes.get_errno())}")
    return True


def _limits(memory_bytes: int, cpu_s: int) -> None:
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    for limit, value in (
        (resource.RLIMIT_AS, mapped + memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))


def _seccomp() -> None:
    program = _filter()
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: length in instructions, padding, pointer
    head = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(head), 0, 0) != 0:
        raise Unconfined(f"seccomp refused: {os.strerror(ctypes.get_errno())}")


def _knock() -> None:
    """Try what must not work: a wall is believed when it has been touched."""
    for what, attempt in (("a file", _open_a_file), ("a socket", _open_a_socket)):
        try:
            attempt()
        except OSError:
            continue
        raise Unconfined(f"{what} could still be opened inside the sandbox")


def _open_a_file() -> None:
    os.close(os.open("/", os.O_RDONLY))


def _open_a_socket() -> None:
    socket.socket().close()


def _filter() -> bytes:
    """BPF: another machine's calls kill, those of the table pass, all others get EPERM."""
    try:
        column, machine = _MACHINES[platform.machine()]
    except KeyError:
        raise Unconfined(f"parsers cannot be confined on {platform.machine()}") from None
    instructions = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _KILL)]
    instructions.append((_LOAD, 0, 0, 0))
    for numbers in _SYSCALLS.values():
        number = numbers[column]
        if number is not None:
            instructions += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    instructions.append((_RETURN, 0, 0, _ERRNO | _EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise Unconfined(f"prctl {option} refused: {os.strerror(ctypes.get_errno())}")
