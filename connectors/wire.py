"""How a connector reaches a host: the name is looked up once, and what it means is judged.

An address of this machine or of its link is reached only where the administrator of the machine
named that host and port (`Site.near`), whatever the name says.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from appliance.errors import SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.types import Site

C = TypeVar("C", bound="Connection")
T = TypeVar("T")
IP = ipaddress.IPv4Address | ipaddress.IPv6Address

_SYSTEM = "/etc/ssl/certs/ca-certificates.crt"
# a machine that went away says nothing: it is asked, and given up after a minute
_ASKED = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_TLS = {
    9: "証明書がまだ有効ではありません。時計を確かめてください",
    10: "証明書の期限が切れています。更新してください",
    18: "証明書が自己署名です。社内認証局の証明書を設定 ca_file に加えてください",
    19: "証明書が自己署名です。社内認証局の証明書を設定 ca_file に加えてください",
    20: "証明書の発行元が分かりません。社内認証局の証明書を設定 ca_file に加えてください",
    62: "証明書の名前が接続先と違います。接続先の名前を証明書に合わせてください",
    64: "証明書の名前が接続先と違います。接続先の名前を証明書に合わせてください",
}


class Special(SourceDenied):
    """This machine, or its link, and nobody said that it may be asked."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"{host}:{port} は、このマシン自身か、隣のマシンだけを指す番号です。本当につなぐ場合は、"
            "設定 near_hosts に加えてください。"
        )


def addresses(host: str, port: int, near: Collection[str]) -> list[str]:
    """What the name means now. Raises Special, OSError or UnicodeError where it means nothing."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    numbers = list(dict.fromkeys(str(info[4][0]) for info in found))
    if not is_near(host, port, near) and any(map(special, numbers)):
        raise Special(host, port)
    return numbers


def is_near(host: str, port: int, near: Collection[str]) -> bool:
    return f"{host}:{port}".lower() in {name.lower() for name in near}


def dial(host: str, port: int, site: Site, timeout_s: float) -> socket.socket:
    """A connection. Raises SourceUnreachable, SourceDenied."""
    site.reach(host)
    try:
        numbers = addresses(host, port, site.near)
    except (OSError, UnicodeError):
        raise SourceUnreachable(f"名前 {host} が見つかりません。綴りを確かめてください。") from None
    for address in numbers:
        try:
            made = socket.create_connection((address, port), timeout_s)
        except OSError:
            continue
        for level, option, value in _ASKED:
            made.setsockopt(level, option, value)
        return made
    raise SourceUnreachable(
        f"{host}:{port} につながりません。名前、ポート、相手の稼働を確かめてください。"
    )


class Connection(Protocol):
    @property
    def alive(self) -> bool: ...

    def close(self) -> None: ...


class Line(Generic[C]):
    """One connection for all that ask within the outermost `open`, made anew where it broke.

    For one thread.
    """

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._held: C | None = None
        self._users = 0

    @contextmanager
    def open(self) -> Iterator[C]:
        self._users += 1
        try:
            if self._held is None or not self._held.alive:
                self._hang_up()
                self._held = self._connect()
            yield self._held
        finally:
            self._users -= 1
            if not self._users:
                self._hang_up()

    def ask(self, question: Callable[[C], T]) -> T:
        """Asked once more where a server had hung up meanwhile: taking a document in takes its time."""
        held = self._held
        with self.open() as one:
            try:
                return question(one)
            except SourceUnreachable:
                if one is not held or one.alive:
                    raise
        with self.open() as one:
            return question(one)

    def _hang_up(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()


def special(address: str) -> bool:
    """Whether an address is this machine, its link, or no machine at all."""
    ip: IP = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if inner is None and isinstance(ip, ipaddress.IPv6Address) and int(ip) >> 32 == 0x64FF9B << 64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)  # NAT64
    ip = inner or ip
    return (
        ip.is_loopback
        or ip.is_link_local
        or ip.is_unspecified
        or ip.is_multicast
        or (ip.is_reserved and not ip.is_private)
    )


def trust(site: Site) -> ssl.SSLContext:
    """The system's authorities and the site's, TLS 1.2 or newer. Raises SourceMisconfigured."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if site.ca_file:
        try:
            context.load_verify_locations(cafile=site.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SourceMisconfigured(
                f"設定 ca_file ({site.ca_file}) を読めません: {error}"
            ) from None
    return context


def authorities(site: Site) -> str:
    """What `trust` trusts, for a program that wants one file, PEM. Raises SourceMisconfigured."""
    trust(site)  # its setting may be wrong
    places = (ssl.get_default_verify_paths().cafile, _SYSTEM)
    system = next((path for path in places if path and Path(path).is_file()), None)
    return "\n".join(Path(p).read_text("utf-8", "replace") for p in (system, site.ca_file) if p)


def untrusted(error: ssl.SSLError) -> str:
    """What is wrong with a TLS connection, for a person."""
    return _TLS.get(
        getattr(error, "verify_code", 0),
        "安全な接続を作れません。証明書と TLS の版 (1.2 以上) を確かめてください",
    )


class Pulse:
    """How a transfer goes on. However long it takes, it is none where only a trickle comes.

    Silence is the business of the socket's timeout, which ends it much sooner.
    """

    LEAST_BYTES, WINDOW_S = 600_000, 600.0  # 1 kB/s: slower lines than that are not laid any more

    def __init__(self) -> None:
        self._bytes, self._waited_s = 0, 0.0
        self.wait()

    def wait(self) -> None:
        """From here on it is the other side's turn."""
        self._since = time.monotonic()

    def came(self, size: int) -> bool:
        """False where too little came in all the time that was waited for it."""
        now = time.monotonic()
        self._bytes, self._waited_s = self._bytes + size, self._waited_s + now - self._since
        self._since = now
        if self._waited_s < self.WINDOW_S:
            return True
        enough = self._bytes * self.WINDOW_S >= self.LEAST_BYTES * self._waited_s
        self._bytes, self._waited_s = 0, 0.0
        return enough
