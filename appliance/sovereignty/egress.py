"""Nothing leaves: every connection that Python opens is judged before it is made.

`guard` installs an audit hook, which cannot be taken out again: from then on
this process reaches loopback, Unix sockets, and the hosts that its settings
name (database, generator). Everything else raises EgressBlocked and is logged.
It is the inner wall; the outer one is the network namespace of the service.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys
import threading
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from appliance.settings import Settings

log = logging.getLogger("kura.egress")

# Libraries that would call home unless told not to. Set before they are imported.
SWITCHES = {
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LANGCHAIN_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LANGSMITH_TRACING_V2": "false",
    "LM_COMPAT_LEVEL": "5",  # a file server is never answered with NTLMv1
    "OTEL_SDK_DISABLED": "true",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
}
# Keys that would make a library believe it has somewhere to report to.
FORBIDDEN = (
    "HF_ENDPOINT",
    "LANGCHAIN_API_KEY",
    "LANGCHAIN_ENDPOINT",
    "LANGSMITH_API_KEY",
    "LANGSMITH_ENDPOINT",
)

_CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_RESOLVING = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_REVERSING = frozenset({"socket.gethostbyaddr", "socket.getnameinfo"})  # asks about an address
_guarded: _Guard | None = None


class EgressBlocked(PermissionError):
    """This process may not reach that address. To libraries it looks like a dead network."""


def switch_off(environment: dict[str, str] | os._Environ[str] | None = None) -> None:
    """Tell every library to stay at home. Call it before importing any."""
    env = os.environ if environment is None else environment
    env.update(SWITCHES)
    for name in FORBIDDEN:
        env.pop(name, None)


def guard(settings: Settings, *, listens: bool = False) -> None:
    """From now on nothing leaves. `listens`: this process may bind `web_host`."""
    global _guarded
    switch_off()
    hosts = allowed_hosts(settings)
    binds = frozenset({settings.web_host}) if listens else frozenset[str]()
    if _guarded is not None:
        _guarded.hosts, _guarded.binds = hosts, binds
        return
    _guarded = _Guard(hosts, binds)
    sys.addaudithook(_guarded)
    for verb in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, verb, _judged_first(verb, _guarded))


def reach(host: str) -> None:
    """From now on this process may reach that host as well: a source lies there."""
    if _guarded is not None:
        _guarded.hosts |= {host.lower()}


def blocked() -> int:
    """How many connections were refused in this process."""
    return _guarded.blocked if _guarded else 0


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Hosts the settings name: the database and the generator, where they are not this machine."""
    urls = (settings.database_url, settings.generator_url)
    return frozenset(
        name.lower() for url in urls if url and (name := urlsplit(url).hostname) is not None
    )


class _Guard:
    def __init__(self, hosts: frozenset[str], binds: Collection[str]) -> None:
        self.hosts = hosts
        self.binds = binds
        self.blocked = 0
        self._inside = threading.local()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not event.startswith("socket.") or getattr(self._inside, "judging", False):
            return
        if event in _CONNECTING:
            family, address = args[0].family, args[1]
            ours = address is None or family == socket.AF_UNIX or self._may_reach(address)
        elif event == "socket.bind":
            family, address = args[0].family, args[1]
            ours = family == socket.AF_UNIX or self._may_bind(address)
        elif event in _RESOLVING:
            address = args[0]
            ours = self._may_resolve(address)
        elif event in _REVERSING:
            address = args[0]
            ours = _loopback(_name(address))
        else:
            return
        if not ours:
            self.blocked += 1
            where = _shown(address)
            log.error("blocked", extra={"fields": {"what": event, "where": where}})
            raise EgressBlocked(f"{event} to {where} is outside this appliance")

    def _may_reach(self, address: Any) -> bool:
        name = _name(address)
        return _loopback(name) or name in self.hosts or name in self._resolved()

    def _may_bind(self, address: Any) -> bool:
        name = _name(address)
        return _loopback(name) or name in self.binds

    def _may_resolve(self, address: Any) -> bool:
        name = _name(address)
        # An address needs no resolver; whether it may be reached is asked when it is.
        return name == "" or _loopback(name) or name in self.hosts or _ip(name) is not None

    def _resolved(self) -> set[str]:
        """What the allowed names mean now. Asked only when something else was about to be refused."""
        self._inside.judging = True
        try:
            found = set()
            for host in self.hosts:
                try:
                    found |= {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
                except OSError:
                    continue
            return found
        finally:
            self._inside.judging = False


def _judged_first(verb: str, guard: _Guard) -> Any:
    """The socket's own method, which would look a name up before the hook hears of it."""
    real = getattr(socket.socket, verb)

    def judged(self: socket.socket, *args: Any) -> Any:
        if args and isinstance(args[-1], tuple):
            guard(f"socket.{'sendto' if verb == 'sendto' else 'connect'}", (self, args[-1]))
        return real(self, *args)

    return judged


def _name(address: Any) -> str:
    """The host of an address as Python has it: a name, or (name, port, …)."""
    if isinstance(address, tuple):
        address = address[0] if address else ""
    if isinstance(address, (bytes, bytearray)):
        address = address.decode("utf-8", "replace")
    return str(address).lower() if address is not None else ""


def _ip(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(ip, "ipv4_mapped", None)
    return mapped if mapped is not None else ip


def _loopback(name: str) -> bool:
    ip = _ip(name)
    return name == "localhost" or (ip is not None and ip.is_loopback)


def _shown(address: Any) -> str:
    return ascii(_name(address))[:200]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """An environment for a child, with everything switched off."""
    env = dict(base)
    switch_off(env)
    return env
