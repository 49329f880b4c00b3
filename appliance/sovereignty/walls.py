"""Whether the walls really hold: it tries what must fail, and believes what the kernel answers.

Only addresses of the documentation ranges (RFC 5737, RFC 3849) are tried, which lead nowhere.
A wall holds where this machine itself refused; an answer that stays away does not count, since
the packet may have left. A machine without a route has no wall, only no cable.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import logging
import os
import socket
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.errors import SettingsError
from appliance.sovereignty import own

log = logging.getLogger("kura.walls")

PATIENCE_S = 0.5
OUTSIDE_4 = ("192.0.2.1", "198.51.100.1", "203.0.113.1")
OUTSIDE_6 = ("2001:db8::1",)
RESOLVERS = Path("/etc/resolv.conf")
# sockets behind which somebody asks the DNS for us
ASKED_FOR_US = ("/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket")
FOLDER = "walls"  # of the data folder: what each process found at its start
_RIGHTS = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW", 19: "CAP_SYS_PTRACE", 21: "CAP_SYS_ADMIN"}
_REFUSED = {errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}
_NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN}
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h
_ICMP = 2  # SO_EE_ORIGIN_ICMP; 3 for IPv6
# Codes of "unreachable" that a rule answers with. The others this machine also sends itself when
# no neighbour answers, which is no wall.
_RULED: dict[int, set[int]] = {socket.AF_INET: {2, 3, 9, 10, 13}, socket.AF_INET6: {1, 4, 5, 6}}
_HOST_CID = 2  # the machine that runs this virtual one


@dataclass(frozen=True, slots=True)
class Tried:
    wall: str  # a key of MENDED
    what: str
    answer: str
    held: bool


def probe(resolvers: frozenset[str] = frozenset()) -> list[Tried]:
    """Every attempt, in order. `resolvers`: addresses of DNS servers that may be asked.

    Before `egress.guard`, which would answer in the kernel's place.
    """
    return [
        *(_over("tcp", socket.AF_INET, a) for a in OUTSIDE_4),
        *(_over("tcp", socket.AF_INET6, a) for a in OUTSIDE_6),
        *(_over("udp", socket.AF_INET, a) for a in OUTSIDE_4),
        *(_over("udp", socket.AF_INET6, a) for a in OUTSIDE_6),
        _icmp(OUTSIDE_4[0]),
        *_dns(resolvers),
        _packet(),
        _vsock(),
        _netlink(),
    ]


def require(process: str, data: Path, resolvers: frozenset[str]) -> None:
    """Raises SettingsError, naming the first wall that is missing and how to put it."""
    found = probe(resolvers)
    keep(data, process, found)
    missing = [one for one in found if not one.held]
    if not missing:
        log.info("every wall holds", extra={"fields": {"tried": len(found)}})
        return
    first = missing[0]
    others = sorted({one.wall for one in missing} - {first.wall})
    more = f"（ほかに {'、'.join(others)}）" if others else ""
    raise SettingsError(
        f"封鎖モード (sealed) では起動しません: {process} の {first.what} が OS に止められていません"
        f"［{first.answer}］{more}。{mended(first.wall)}"
    )


def keep(data: Path, process: str, found: Sequence[Tried]) -> None:
    """Write down what was found, whole or not at all."""
    folder = data / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = {
        "process": process,
        "at": now,
        "held": all(one.held for one in found),
        "tried": [asdict(one) for one in found],
    }
    handle, name = tempfile.mkstemp(prefix=".new-", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(record, file, ensure_ascii=False, indent=1)
        Path(name).replace(folder / f"{process}.json")
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def kept(data: Path) -> list[dict[str, object]]:
    """What each process found when it last started sealed."""
    found = []
    for file in sorted((data / FOLDER).glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(file.read_text("utf-8")))
    return found


def mended(wall: str) -> str:
    """How this wall is put, on a machine such as this one."""
    if wall == "packet" or wall == "rights":
        return (
            "root でない利用者で、権限（capability）なしに動かしてください"
            "（systemd では User=kura と CapabilityBoundingSet= 、コンテナでは cap_drop: [ALL]）。"
        )
    if wall == "vsock":
        return "systemd のユニットに RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK を書いてください。"
    if wall == "dns":
        return (
            "53 番への送信を nftables で拒み、InaccessiblePaths=-/run/systemd/resolve -/run/nscd を"
            "ユニットに書いてください。社内の DNS を使うなら、そのアドレスを設定 sealed_resolvers に書きます。"
        )
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "コンテナは compose.yaml のとおり、internal: true のネットワークだけにつないでください。"
    if "user@" in Path("/proc/self/cgroup").read_text():
        return (
            "systemd のユーザーユニットでは IPAddressDeny も PrivateNetwork も効きません。"
            "kura-installer が置くシステムのユニットで動かしてください。"
        )
    return (
        "nftables の規則を入れてください: nft -f /etc/kura/nftables.conf"
        "（黙って捨てる drop ではなく reject にします。捨てると、止まったことを確かめられません）。"
    )


def _over(kind: str, family: int, address: str) -> Tried:
    sort = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    version = "IPv4" if family == socket.AF_INET else "IPv6"
    return _judged(kind, f"{version} の {kind.upper()} ({address})", family, sort, (address, 443))


def _icmp(address: str) -> Tried:
    echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1)
    what = f"ICMP ({address})"
    kind = socket.IPPROTO_ICMP
    found = _judged(
        "icmp", what, socket.AF_INET, socket.SOCK_DGRAM, (address, 0), kind=kind, data=echo
    )
    if found.held and found.answer == os.strerror(errno.EACCES):  # not by this kind of socket
        return _judged(
            "icmp", what, socket.AF_INET, socket.SOCK_RAW, (address, 0), kind=kind, data=echo
        )
    return found


def _dns(resolvers: frozenset[str]) -> Iterator[Tried]:
    """Also to a resolver on loopback: it would ask others for us."""
    question = b"\x4b\x75\x01\x00\x00\x01\0\0\0\0\0\0\x04kura\x07invalid\0\0\x01\0\x01"
    for server in _servers():
        if server in resolvers:
            continue
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        what = f"DNS の問い合わせ ({server})"
        yield _judged(
            "dns", what, family, socket.SOCK_DGRAM, (server, 53), data=question, answers=True
        )
    for path in ASKED_FOR_US:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(PATIENCE_S)
            wire.connect(path)
            yield Tried("dns", f"名前解決のソケット ({path})", "つながりました", False)


def _servers() -> list[str]:
    try:
        lines = RESOLVERS.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = [line.split()[1] for line in lines if line.split()[:1] == ["nameserver"] and line[10:]]
    return named or ["127.0.0.1"]  # what the C library takes where none is named


def _packet() -> Tried:
    """Frames go past nftables' output hook."""
    what = "生のパケット (AF_PACKET)"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except OSError as error:
        return Tried("packet", what, _said(error), True)
    if own.alone():
        return Tried("packet", what, "作れますが、lo のほかに出口がありません", True)
    return Tried("packet", what, "作れました", False)


def _vsock() -> Tried:
    """Past every network namespace, to whoever runs this machine."""
    what = "ハイパーバイザーへの AF_VSOCK"
    try:
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as wire:
            wire.settimeout(PATIENCE_S)
            wire.connect((_HOST_CID, 1))
    except OSError as error:
        if error.errno in _REFUSED | {errno.ENODEV, errno.ESOCKTNOSUPPORT}:
            return Tried("vsock", what, _said(error), True)
        return Tried("vsock", what, f"届きました（{_said(error)}）", False)
    return Tried("vsock", what, "つながりました", False)


def _netlink() -> Tried:
    """Netlink carries nothing away; with these rights it takes the other walls down."""
    what = "壁を外す権限（netlink ほか）"
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    rights = [name for bit, name in _RIGHTS.items() if effective >> bit & 1]
    if not rights:
        return Tried("rights", what, "ありません", True)
    inner = Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]
    if inner and own.alone():
        return Tried("rights", what, f"{'、'.join(rights)}（空の名前空間の中だけ）", True)
    return Tried("rights", what, "、".join(rights), False)


def _judged(
    wall: str,
    what: str,
    family: int,
    sort: int,
    address: tuple[str, int],
    *,
    kind: int = 0,
    data: bytes = b"kura",
    answers: bool = False,
) -> Tried:
    """One attempt. `answers`: somebody on loopback who hears it counts as outside."""
    try:
        with socket.socket(family, sort, kind) as wire:
            _hear_errors(wire, family)
            wire.settimeout(PATIENCE_S)
            try:
                wire.connect(address)
                if sort != socket.SOCK_STREAM:
                    wire.send(data)
                    wire.recv(512)
            except TimeoutError:
                return Tried(wall, what, "応答がなく、出て行ったかもしれません", False)
            except OSError as error:
                return Tried(wall, what, _said(error), _ours(error, wire, family, answers))
    except OSError as error:  # no such socket
        return Tried(wall, what, _said(error), error.errno in _REFUSED)
    return Tried(wall, what, "届きました", False)


def _hear_errors(wire: socket.socket, family: int) -> None:
    """Ask to be told who refuses: this machine, or a router on the way."""
    level, option = (
        (socket.IPPROTO_IP, _IP_RECVERR)
        if family == socket.AF_INET
        else (socket.IPPROTO_IPV6, _IPV6_RECVERR)
    )
    wire.setsockopt(level, option, 1)


def _ours(error: OSError, wire: socket.socket, family: int, answers: bool) -> bool:
    """Whether this machine refused by itself."""
    if (told := _told(wire, family)) is not None:
        teller, code = told
        return code in _RULED[family] and _is_here(teller, family)
    if answers and error.errno == errno.ECONNREFUSED:
        return True  # nobody listens on loopback; from elsewhere it would have had a teller
    return error.errno in _REFUSED or (error.errno in _NO_WAY and own.alone())


def _told(wire: socket.socket, family: int) -> tuple[str, int] | None:
    """The address an ICMP error came from, and its code; None where the kernel needed none."""
    try:
        _, found, _, _ = wire.recvmsg(512, 512, socket.MSG_ERRQUEUE)
    except OSError:
        return None
    for _, _, data in found:
        # struct sock_extended_err (16 bytes), then the address of whoever told
        if len(data) >= 32 and data[4] in (_ICMP, _ICMP + 1):
            at = data[20:24] if family == socket.AF_INET else data[24:40]
            return str(ipaddress.ip_address(at)), data[6]
    return None


def _is_here(address: str, family: int) -> bool:
    """An address is this machine's where it can be bound to."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as wire:
            wire.bind((address, 0))
    except OSError:
        return False
    return True


def _said(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
