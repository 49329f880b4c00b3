"""Whatever tries to get out is refused by the operating system; the guard hears of what it can (E5).

uvloop, whose sockets the guard would not see, is not among what Kura installs.
"""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from tests.sovereignty.networks import LO, OPEN, needs, python, ruled

CANARY = """
import asyncio, ctypes, json, os, socket, struct, subprocess, sys, urllib.request
from pathlib import Path
import httpx2
from appliance import logs
from appliance.settings import Settings
from appliance.sovereignty import egress, own
process, guarded = sys.argv[1], sys.argv[2] == "guarded"
lacking = own.raise_walls(process)
assert not lacking, lacking
logs.to(sys.stderr)
if guarded:
    egress.guard(Settings(data=Path("/nonexistent")), process)
libc = ctypes.CDLL(None, use_errno=True)
T = float(sys.argv[3])

def native(family, address):
    fd = libc.socket(family, 1 | 0o4000, 0)
    if fd < 0: raise OSError(ctypes.get_errno(), "socket")
    if libc.connect(fd, address, len(address)) < 0 and ctypes.get_errno() != 115:
        raise OSError(ctypes.get_errno(), "connect")
    import select  # in progress: whose answer comes?
    ready = select.select([], [fd], [], T)[1]
    if not ready: return  # the packet is gone
    error = ctypes.c_int(); size = ctypes.c_uint(4)
    libc.getsockopt(fd, 1, 4, ctypes.byref(error), ctypes.byref(size))
    if error.value: raise OSError(error.value, "connect")

def tcp(family, host):
    with socket.socket(family) as s:
        s.settimeout(T); s.connect((host, 443))

def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", ("192.0.2.53", 53))

def icmp():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        s.sendto(struct.pack("!BBHHH", 8, 0, 0, 1, 1), ("192.0.2.1", 0))

def frames():
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind((socket.if_nameindex()[-1][1], 0)); s.send(bytes(60))

def vsock():
    with socket.socket(socket.AF_VSOCK) as s:
        s.settimeout(T); s.connect((2, 1))

def netlink():  # a new interface: RTM_NEWLINK, created, with an answer wanted
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        info = struct.pack("=HH", 4 + 12, 18) + struct.pack("=HH", 10, 1) + b"dummy\\0" + b"\\0\\0"
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + info
        s.sendto(struct.pack("=IHHII", 16 + len(body), 16, 0x605, 1, 0) + body, (0, 0))
        answer = s.recv(4096)
        error = struct.unpack("=i", answer[16:20])[0]
        if error: raise OSError(-error, os.strerror(-error))

def curl():
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "-m", "2", "http://192.0.2.1/"], capture_output=True, text=True)
    if done.returncode == 7 and "onnect" in done.stderr and "timed out" not in done.stderr.lower():
        raise OSError(done.stderr.strip())

async def opened():
    await asyncio.wait_for(asyncio.open_connection("192.0.2.1", 443), T)

ATTEMPTS = {
    "urllib": lambda: urllib.request.build_opener(urllib.request.ProxyHandler({})).open("http://192.0.2.1/", timeout=T),
    "httpx": lambda: httpx2.Client(trust_env=False, timeout=T).get("http://192.0.2.1/"),
    "asyncio": lambda: asyncio.run(opened()),
    "tcp": lambda: tcp(socket.AF_INET, "192.0.2.1"),
    "tcp6": lambda: tcp(socket.AF_INET6, "2001:db8::1"),
    "udp": udp,
    "icmp": icmp,
    "frames": frames,
    "vsock": vsock,
    "netlink": netlink,
    "ctypes": lambda: native(2, struct.pack("=H", 2) + struct.pack("!H", 443) + bytes([192, 0, 2, 1]) + bytes(8)),
    "ctypes6": lambda: native(10, struct.pack("=H", 10) + struct.pack("!HI", 443, 0) + socket.inet_pton(10, "2001:db8::1") + bytes(4)),
    "curl": curl,
}
found = {}
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
        found[name] = "went"
    except TimeoutError as error:
        found[name] = "went"
    except httpx2.TimeoutException:
        found[name] = "went"
    except Exception as error:
        found[name] = f"refused {type(error).__name__} {error}"
        if isinstance(getattr(error, "reason", None), TimeoutError):
            found[name] = "went"
print(json.dumps([found, egress.blocked()]))
"""
PYTHONS = {"urllib", "httpx", "asyncio", "tcp", "tcp6", "udp"}  # what the guard can hear of
WALLS = {"infer": LO, "web": ruled()}


def tried(
    network: str, process: str, how: str, patience_s: float = 0.4
) -> tuple[dict[str, str], int, list[str]]:
    needs("curl")
    done = python(network, CANARY, process, how, str(patience_s))
    assert done.returncode == 0, done.stderr
    found, count = json.loads(done.stdout)
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return found, count, [line["where"] for line in lines if line["event"] == "blocked"]


@pytest.mark.parametrize("process", WALLS)
def test_the_operating_system_alone_refuses_everything(process: str) -> None:
    # a refused SYN of IPv6 may be heard of only with its second try, a second later
    found, count, _ = tried(WALLS[process], process, "bare", 2.5)
    assert {name for name, said in found.items() if not said.startswith("refused")} == set(), found
    assert count == 0  # no guard was there


def test_the_guard_names_what_it_hears_of_and_native_code_goes_around_it() -> None:
    found, count, logged = tried(OPEN, "web", "guarded")
    went = {name for name, said in found.items() if said == "went"}
    assert went == {"ctypes", "ctypes6", "curl"}  # why it proves nothing
    for name in PYTHONS - {"asyncio", "httpx", "urllib"}:
        assert "EgressBlocked" in found[name]
    assert count == len(logged) >= len(PYTHONS)
    named = {"'192.0.2.1'", "'2001:db8::1'", "'192.0.2.53'"}
    assert set(logged) == named | {"'0'"}  # the kernel's own address, of netlink


def test_without_walls_and_guard_the_canary_gets_out() -> None:
    """Or it would prove nothing."""
    found, _, _ = tried(OPEN, "web", "bare")
    assert {name for name, said in found.items() if said == "went"} >= PYTHONS | {"ctypes", "curl"}


def test_uvloop_is_not_here() -> None:
    assert "uvloop" not in {one.metadata["Name"].lower() for one in metadata.distributions()}
